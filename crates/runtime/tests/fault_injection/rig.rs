//! A robot that follows its commands and is observed, and a watch on whether it moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nudge_runtime::RobotFile;
use serde_json::json;

use crate::common::{Heard, LONG, RawRobot, array};

pub const CONTROL_HZ: f64 = 100.0;
pub const PERIOD: Duration = Duration::from_millis(10);
/// A robot whose commands stay the same for so long stands still.
pub const STILL: Duration = Duration::from_millis(120);
/// Nothing that this machine does to a healthy loop takes so long.
pub const HELD_WITHIN: Duration = Duration::from_millis(600);

/// How the robot publishes; faults change it.
#[derive(Default)]
pub struct Publishing {
    pub silent: AtomicBool,
    pub not_finite: AtomicBool,
    /// Added to the stamps.
    pub clock_offset_ms: AtomicI64,
}

/// The robot's end: 100 observations a second, of the place that it was last sent to.
pub struct Robot {
    pub raw: Arc<RawRobot>,
    pub publishing: Arc<Publishing>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Robot {
    pub fn open(robot: &RobotFile) -> Self {
        let raw = Arc::new(RawRobot::open(robot));
        let publishing = Arc::<Publishing>::default();
        let end = Arc::<AtomicBool>::default();
        let (own, how, over) = (raw.clone(), publishing.clone(), end.clone());
        let publish = move || {
            let (mut sequence, mut due) = (0, Instant::now());
            while !over.load(Ordering::Relaxed) {
                due += PERIOD;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if how.silent.load(Ordering::Relaxed) {
                    continue;
                }
                sequence += 1;
                let mut place =
                    own.last_command().map_or([0.0; 2], |heard| [heard.values[0], heard.values[1]]);
                if how.not_finite.load(Ordering::Relaxed) {
                    place[sequence as usize % 2] = [f64::NAN, f64::INFINITY][sequence as usize / 2 % 2];
                }
                let attachment = stamped(&own, sequence, how.clock_offset_ms.load(Ordering::Relaxed));
                own.put("obs/place", array(&place), Some(attachment.clone()));
                own.put("obs/time", array(&[sequence as f64]), Some(attachment));
            }
        };
        Self { raw, publishing, end, thread: Some(std::thread::spawn(publish)) }
    }

    /// Begins an episode, and waits until the robot moves.
    pub fn begin(&self) {
        self.raw.reset(&json!({ "seed": 1, "episode": 0 }));
        let from = self.raw.commands_heard();
        crate::common::until("the robot to move", || moving_since(&self.commands(), from).is_some());
    }

    pub fn commands(&self) -> Vec<Heard> {
        self.raw.commands.lock().unwrap().clone()
    }

    /// When the robot came to stand still after `fault`: the last command that differed from the one before. `None` when
    /// it moves on for as long as `patience`.
    pub fn wait_until_still(&self, fault: Instant, patience: Duration) -> Option<Duration> {
        loop {
            let commands = self.commands();
            let moved = commands.windows(2).rev().find(|pair| pair[0].values != pair[1].values);
            let last = moved.map_or(fault, |pair| pair[1].at.max(fault));
            if last.elapsed() >= STILL && fault.elapsed() >= STILL {
                return Some(last - fault);
            }
            if fault.elapsed() > patience + STILL {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the robot moves again after `from`, and says how long that took.
    pub fn wait_until_moving(&self, from: Instant) -> Option<Duration> {
        while from.elapsed() < LONG {
            let commands = self.commands();
            let first = commands.partition_point(|heard| heard.at < from);
            if let Some(at) = moving_since(&commands, first) {
                return Some(at.saturating_duration_since(from));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// The commands from `from` to `to`, as milliseconds after `from` and the first value.
    pub fn story(&self, from: Instant, to: Instant) -> String {
        let commands = self.commands();
        let within = commands.iter().filter(|heard| (from..to).contains(&heard.at));
        within.map(|heard| format!("{}:{:.3} ", (heard.at - from).as_millis(), heard.values[0])).collect()
    }

    /// What no command may ever be: not finite, or older than the one before.
    pub fn check_commands(&self) -> Result<(), String> {
        let commands = self.commands();
        if let Some(bad) = commands.iter().find(|heard| heard.values.iter().any(|value| !value.is_finite())) {
            return Err(format!("a command is not finite: {bad:?}"));
        }
        Ok(())
    }
}

impl Drop for Robot {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// When the first three commands in a row came, from index `from` on, that each differ from the one before.
fn moving_since(commands: &[Heard], from: usize) -> Option<Instant> {
    let fresh = commands.get(from..)?;
    let run = fresh.windows(4).find(|run| run.windows(2).all(|pair| pair[0].values != pair[1].values))?;
    Some(run[1].at)
}

fn stamped(raw: &RawRobot, sequence: i64, offset_ms: i64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
    let mut bytes = raw.attachment(sequence);
    bytes[8..16].copy_from_slice(&(now + offset_ms * 1_000_000).to_le_bytes());
    bytes
}

/// Numbers that no two injections share.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    u64::from(std::process::id()) << 32 | NEXT.fetch_add(1, Ordering::Relaxed)
}
