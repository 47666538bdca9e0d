//! What the control loop, the guard's own thread and the sender hand each other, without a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::guard::{LogLine, Missing, NotFresh, Rule, State};
use crate::slot::{Ring, Slot};
use crate::timing::SharedHistogram;

/// Actions of a motion at most: what is left of a plan, or as much of it.
pub(crate) const MOST_ACTIONS: usize = 32;
/// Lines of the guard's log that are told.
const LINES_TOLD: usize = 16;
/// Commands that may wait to be sent.
const COMMANDS_WAITING: usize = 16;

/// Everything shared. Words of messages are the bits of numbers.
#[derive(Debug)]
pub(crate) struct Link {
    pub dim: usize,
    /// Epoch, received (ns), skew, values.
    observation: Slot,
    /// What is to be done, how many actions, actions.
    motion: Slot,
    /// State, reason, whether a command was sent, how many were, the command, counters, log.
    told: Slot,
    pub commands: Ring,
    /// How often a new episode began and another publisher took over; observations of another sum of both are old.
    pub resets: AtomicU64,
    pub changes: AtomicU64,
    pub releases_asked: AtomicU64,
    releases_answered: AtomicU64,
    not_fresh: AtomicU64,
    pub stop: AtomicBool,
    pub alarm: AtomicBool,
    pub end: AtomicBool,
    /// Whether the system lets the guard's thread run ahead of ordinary ones.
    pub runs_ahead: AtomicBool,
    pub tick_jitter: SharedHistogram,
    pub guard: SharedHistogram,
    pub publish: SharedHistogram,
}

/// What the control loop wants done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Motion<'a> {
    /// A plan: actions (`[n, Da]`) a control period apart, the first to be reached a control period from now.
    Plan(&'a [f64]),
    /// A command (`[Da]`) of a stream that comes at the rate of commands.
    Command(&'a [f64]),
    Nothing(Missing),
}

/// What the guard's thread tells of its last tick.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub state: State,
    pub reason: Option<Rule>,
    pub sends: bool,
    pub commands: u64,
    pub command: Vec<f64>,
    pub counters: [u64; Rule::ALL.len()],
    pub log: Vec<LogLine>,
}

pub(crate) const STATES: [State; 5] = [State::Init, State::Ready, State::Run, State::Hold, State::Stopped];
pub(crate) const MISSING: [Missing; 3] = [Missing::FirstPlan, Missing::UsedUp, Missing::Failed];
const PLAN: u64 = 3;
const COMMAND: u64 = 4;
const TOLD_WORDS: usize = 4 + Rule::ALL.len();

impl Link {
    pub(crate) fn new(dim: usize, observed_dim: usize) -> Self {
        Self {
            dim,
            observation: Slot::new(3 + observed_dim),
            motion: Slot::new(2 + MOST_ACTIONS * dim),
            told: Slot::new(TOLD_WORDS + dim + 2 * LINES_TOLD),
            commands: Ring::new(COMMANDS_WAITING, dim),
            resets: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            releases_asked: AtomicU64::new(0),
            releases_answered: AtomicU64::new(0),
            not_fresh: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            alarm: AtomicBool::new(false),
            end: AtomicBool::new(false),
            runs_ahead: AtomicBool::new(false),
            tick_jitter: SharedHistogram::default(),
            guard: SharedHistogram::default(),
            publish: SharedHistogram::default(),
        }
    }

    fn epoch(&self) -> u64 {
        self.resets.load(Ordering::Acquire) + self.changes.load(Ordering::Acquire)
    }

    /// The control loop's: the newest observation.
    pub(crate) fn observe(&self, received: Duration, skew_secs: f64, values: &[f64]) {
        let head = [self.epoch(), nanos(received), skew_secs.to_bits()];
        self.observation.write(head.into_iter().chain(values.iter().map(|value| value.to_bits())));
    }

    /// The guard's: the newest observation that it has not read, if it belongs to the present episode: when it was
    /// received, its skew, and its numbers from `words[3]` on.
    pub(crate) fn newest_observation(&self, known: &mut u64, words: &mut [u64]) -> Option<(Duration, f64)> {
        *known = self.observation.read(*known, words)?;
        (words[0] == self.epoch()).then(|| (Duration::from_nanos(words[1]), f64::from_bits(words[2])))
    }

    pub(crate) fn observation_words(&self, observed_dim: usize) -> Vec<u64> {
        vec![0; 3 + observed_dim]
    }

    /// The control loop's: what is to be done from now on.
    pub(crate) fn move_on(&self, motion: Motion<'_>) {
        let (kind, actions) = match motion {
            Motion::Plan(actions) => (PLAN, &actions[..actions.len().min(MOST_ACTIONS * self.dim)]),
            Motion::Command(action) => (COMMAND, action),
            Motion::Nothing(missing) => (missing as u64, &[][..]),
        };
        let head = [kind, (actions.len() / self.dim) as u64];
        self.motion.write(head.into_iter().chain(actions.iter().map(|value| value.to_bits())));
    }

    /// The guard's: the newest motion that it has not read; `actions` is room for it.
    pub(crate) fn newest_motion<'a>(
        &self,
        known: &mut u64,
        words: &mut [u64],
        actions: &'a mut [f64],
    ) -> Option<Motion<'a>> {
        *known = self.motion.read(*known, words)?;
        let numbers = words[1] as usize * self.dim;
        for (action, word) in actions.iter_mut().zip(&words[2..2 + numbers]) {
            *action = f64::from_bits(*word);
        }
        let actions = &actions[..numbers];
        Some(match words[0] {
            PLAN => Motion::Plan(actions),
            COMMAND => Motion::Command(actions),
            missing => Motion::Nothing(MISSING[missing as usize]),
        })
    }

    pub(crate) fn motion_words(&self) -> Vec<u64> {
        vec![0; 2 + MOST_ACTIONS * self.dim]
    }

    /// The guard's: what came of a tick.
    pub(crate) fn tell(
        &self,
        (state, reason, sends): (State, Option<Rule>, bool),
        commands: u64,
        command: &[f64],
        counters: impl Iterator<Item = u64>,
        log: impl DoubleEndedIterator<Item = LogLine>,
    ) {
        let reason = reason.map_or(0, |rule| rule as u64 + 1);
        let head = [state as u64, reason, u64::from(sends), commands];
        let command = command.iter().map(|value| value.to_bits());
        // Newest first: `at` and, above 0, twice the rule and whether it begins.
        let line = |line: LogLine| [nanos(line.at), 1 + 2 * line.rule as u64 + u64::from(line.begins)];
        let lines = log.rev().map(line).chain(std::iter::repeat([0; 2])).take(LINES_TOLD).flatten();
        self.told.write(head.into_iter().chain(counters).chain(command).chain(lines));
    }

    /// The control loop's: what came of the last tick; `None` before the first.
    pub(crate) fn told(&self) -> Option<Told> {
        let mut words = vec![0; TOLD_WORDS + self.dim + 2 * LINES_TOLD];
        self.told.read(u64::MAX, &mut words)?;
        let (head, rest) = words.split_at(4);
        let (counters, rest) = rest.split_at(Rule::ALL.len());
        let (command, lines) = rest.split_at(self.dim);
        let mut log: Vec<LogLine> = lines
            .chunks_exact(2)
            .filter(|line| line[1] > 0)
            .map(|line| LogLine {
                at: Duration::from_nanos(line[0]),
                rule: Rule::ALL[(line[1] - 1) as usize / 2],
                begins: (line[1] - 1) % 2 == 1,
            })
            .collect();
        log.reverse();
        Some(Told {
            state: STATES[head[0] as usize],
            reason: (head[1] as usize).checked_sub(1).map(|rule| Rule::ALL[rule]),
            sends: head[2] == 1,
            commands: head[3],
            command: command.iter().map(|word| f64::from_bits(*word)).collect(),
            counters: std::array::from_fn(|rule| counters[rule]),
            log,
        })
    }

    /// The guard's: answers all releases that were asked for.
    pub(crate) fn answer_release(&self, asked: u64, outcome: Result<(), NotFresh>) {
        let not_fresh = outcome.err().map_or(0, |why| u64::from(why.need) << 32 | u64::from(why.have));
        self.not_fresh.store(not_fresh, Ordering::Relaxed);
        self.releases_answered.store(asked, Ordering::Release);
    }

    /// The control loop's: the answer to the release numbered `asked`, once it is there.
    pub(crate) fn release_answer(&self, asked: u64) -> Option<Result<(), NotFresh>> {
        if self.releases_answered.load(Ordering::Acquire) < asked {
            return None;
        }
        let not_fresh = self.not_fresh.load(Ordering::Relaxed);
        let (need, have) = ((not_fresh >> 32) as u32, not_fresh as u32);
        Some(if need == 0 { Ok(()) } else { Err(NotFresh { have, need }) })
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
