//! When each rule began and ceased to act: the last of it, in memory that is set aside once.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::rules::Rule;

/// Lines that are kept.
pub const LOG_LINES: usize = 64;

/// A rule begins or ceases to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// On the guard's clock.
    pub at: Duration,
    pub rule: Rule,
    pub begins: bool,
}

/// The last lines, and which rules act now.
#[derive(Clone, Debug)]
pub(super) struct Log {
    lines: VecDeque<LogLine>,
    counters: [u64; Rule::ALL.len()],
    /// A bit for each rule.
    acting: u32,
    acted: u32,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            lines: VecDeque::with_capacity(LOG_LINES),
            counters: [0; Rule::ALL.len()],
            acting: 0,
            acted: 0,
        }
    }

    /// A rule acts, in this tick or on a message since the last one; counted once a call.
    pub(super) fn act(&mut self, rule: Rule) {
        self.counters[rule as usize] += 1;
        self.acted |= 1 << rule as u32;
    }

    /// A tick ends.
    pub(super) fn end_tick(&mut self, at: Duration) {
        let changed = self.acting ^ self.acted;
        self.acting = std::mem::take(&mut self.acted);
        if changed == 0 {
            return;
        }
        for rule in Rule::ALL {
            if changed >> rule as u32 & 1 == 1 {
                let begins = self.acting >> rule as u32 & 1 == 1;
                if self.lines.len() == LOG_LINES {
                    self.lines.pop_front();
                }
                self.lines.push_back(LogLine { at, rule, begins });
            }
        }
    }

    pub(super) fn count(&self, rule: Rule) -> u64 {
        self.counters[rule as usize]
    }

    pub(super) fn lines(&self) -> impl DoubleEndedIterator<Item = &LogLine> {
        self.lines.iter()
    }
}
