//! The guard on its own thread, at the robot's rate: between two plans it follows a smooth path, and whatever becomes of
//! the control loop, the planner or the bus, it brings the robot to rest.
//!
//! In a tick nothing is allocated and no lock is taken. Commands go through a ring to a sender, which may wait for the
//! bus.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use nudge_control::{Interpolation, PathPoint};

use crate::RuntimeError;
use crate::counters::{Count, Counters};
use crate::driver::SendCommand;
use crate::events::Signals;
use crate::fast_link::{Link, MOST_ACTIONS, Motion};
use crate::guard::{Guard, Missing};
use crate::guard_ring::GuardShow;
use crate::guard_watch::{GuardTap, WatchedGuard};
use crate::realtime::{self, run_ahead};

/// Before a deadline the thread stays awake: a sleeping one is woken late by about as much.
const AWAKE: Duration = Duration::from_micros(80);
/// The sender looks for commands so often even when nobody wakes it.
const SENDER_IDLE: Duration = Duration::from_millis(20);
/// A stream of commands that has come at the rate goes on as it went for so many ticks without one.
const TICKS_BRIDGED: u32 = 2;

/// The guard, the path that it follows, and what it has last sent.
pub(crate) struct FastLoop {
    guard: WatchedGuard,
    link: Arc<Link>,
    signals: Arc<Signals>,
    period: Duration,
    path: Interpolation,
    task: Task,
    /// What was proposed last, and when.
    proposal: Vec<f64>,
    proposed_at: Duration,
    /// How far the stream of commands went last.
    way: Vec<f64>,
    /// Where the next path begins.
    seam: Vec<PathPoint>,
    /// The last three commands, newest first, as many as belong together.
    sent: [Vec<f64>; 3],
    streak: usize,
    commands: u64,
    resets: u64,
    changes: u64,
    releases: u64,
    observations: u64,
    motions: u64,
    observation_words: Vec<u64>,
    motion_words: Vec<u64>,
    observation: Vec<f64>,
    actions: Vec<f64>,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Task {
    Path,
    /// The newest command of a stream, taken so many ticks ago; whether there was one before it to tell its way.
    Stream {
        age: u32,
        steady: bool,
    },
    Nothing(Missing),
}

impl FastLoop {
    /// `control_period_secs` is that of plans.
    pub(crate) fn new(
        guard: Guard,
        link: Arc<Link>,
        signals: Arc<Signals>,
        (observed_dim, control_period_secs): (usize, f64),
    ) -> Self {
        let dim = link.dim;
        Self {
            period: Duration::from_secs_f64(guard.config().period_secs),
            guard: WatchedGuard::new(guard),
            signals,
            path: Interpolation::new(dim, MOST_ACTIONS, control_period_secs),
            task: Task::Nothing(Missing::FirstPlan),
            proposal: vec![0.0; dim],
            proposed_at: Duration::ZERO,
            way: vec![0.0; dim],
            seam: vec![PathPoint::default(); dim],
            sent: std::array::from_fn(|_| vec![0.0; dim]),
            streak: 0,
            commands: 0,
            resets: 0,
            changes: 0,
            releases: 0,
            observations: 0,
            motions: 0,
            observation_words: link.observation_words(observed_dim),
            motion_words: link.motion_words(),
            observation: vec![0.0; observed_dim],
            actions: vec![0.0; MOST_ACTIONS * dim],
            link,
        }
    }

    /// Shows `tap` what the guard is told and answers.
    pub(crate) fn shown_to(self, tap: Option<GuardTap>) -> Self {
        Self { guard: self.guard.shown_to(tap), ..self }
    }

    /// One tick at `now`: the command, if there is one, is in the ring.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.listen(now);
        self.look_for_motion(now);
        let proposed = self.propose(now);
        let begun = Instant::now();
        let verdict = self.guard.tick(now, proposed.map(|()| self.proposal.as_slice()));
        let (state, reason, sends) = (verdict.state, verdict.reason, verdict.command.is_some());
        if let Some(command) = verdict.command {
            self.link.commands.push(command.iter().map(|value| value.to_bits()));
            self.sent.rotate_right(1);
            self.sent[0].copy_from_slice(command);
            self.commands += 1;
            self.streak += 1;
        } else {
            self.streak = 0;
        }
        self.link.guard.record(begun.elapsed());
        let counters = self.guard.guard().counters().map(|(_, count)| count);
        let log = self.guard.guard().log().copied();
        self.link.tell((state, reason, sends), self.commands, &self.sent[0], counters, log);
    }

    /// What has happened since the last tick.
    fn listen(&mut self, now: Duration) {
        let resets = self.link.resets.load(Ordering::Acquire);
        if std::mem::replace(&mut self.resets, resets) != resets {
            self.guard.reset();
            self.task = Task::Nothing(Missing::FirstPlan);
        }
        let changes = self.link.changes.load(Ordering::Acquire);
        if std::mem::replace(&mut self.changes, changes) != changes {
            self.guard.publisher_changed();
        }
        let newest = self.link.newest_observation(&mut self.observations, &mut self.observation_words);
        if let Some((received, skew_secs)) = newest {
            for (value, word) in self.observation.iter_mut().zip(&self.observation_words[3..]) {
                *value = f64::from_bits(*word);
            }
            // What is refused is counted, and holds the robot in time.
            let _refused = self.guard.observe_stamped(received, skew_secs, &self.observation);
        }
        if let Some(heartbeat) = self.signals.heartbeat_at() {
            self.guard.heartbeat(heartbeat);
        }
        self.guard.alarm(self.link.alarm.load(Ordering::Acquire));
        // Before a release, which such a stop refuses.
        if self.link.stop.swap(false, Ordering::AcqRel) {
            self.guard.stop();
        }
        let asked = self.link.releases_asked.load(Ordering::Acquire);
        if std::mem::replace(&mut self.releases, asked) != asked {
            self.link.answer_release(asked, self.guard.release(now));
        }
    }

    fn look_for_motion(&mut self, now: Duration) {
        if let Task::Stream { age, .. } = &mut self.task {
            *age += 1;
        }
        let newest = self.link.newest_motion(&mut self.motions, &mut self.motion_words, &mut self.actions);
        let Some(motion) = newest else { return };
        self.task = match motion {
            Motion::Plan(actions) => {
                // The path goes on from the last command, which was given a tick ago.
                let begins = if self.streak > 0 { self.proposed_at } else { now };
                let period_secs = self.period.as_secs_f64();
                for (number, seam) in self.seam.iter_mut().enumerate() {
                    let followed = self.path.at(begins.as_secs_f64(), number);
                    *seam = match followed.filter(|point| point.position == self.sent[0][number]) {
                        Some(point) if self.streak > 0 => point,
                        _ => from_differences(&self.sent, self.streak, number, period_secs),
                    };
                    if self.streak == 0 {
                        seam.position = actions.get(number).copied().unwrap_or_default();
                    }
                }
                self.path.begin(begins.as_secs_f64(), |number| self.seam[number], actions);
                Task::Path
            }
            Motion::Command(action) => {
                let steady = matches!(self.task, Task::Stream { age, .. } if age <= TICKS_BRIDGED + 1);
                for (index, way) in self.way.iter_mut().enumerate() {
                    *way = action[index] - self.proposal[index];
                }
                self.proposal.copy_from_slice(action);
                Task::Stream { age: 0, steady }
            }
            Motion::Nothing(missing) => Task::Nothing(missing),
        };
        if self.task != Task::Path {
            self.path.clear();
        }
    }

    /// What is proposed for `now`, into `proposal`.
    fn propose(&mut self, now: Duration) -> Result<(), Missing> {
        self.proposed_at = now;
        match self.task {
            Task::Nothing(missing) => return Err(missing),
            Task::Path => {
                let at_secs = now.as_secs_f64();
                if self.path.ends_secs().is_none_or(|ends| at_secs > ends + self.period.as_secs_f64()) {
                    return Err(Missing::UsedUp);
                }
                for (number, value) in self.proposal.iter_mut().enumerate() {
                    *value = self.path.at(at_secs, number).map_or(*value, |point| point.position);
                }
            }
            Task::Stream { age: 0, .. } => {}
            Task::Stream { age, steady } if age <= TICKS_BRIDGED => {
                for (value, way) in self.proposal.iter_mut().zip(&self.way).filter(|_| steady) {
                    *value += way;
                }
            }
            Task::Stream { .. } => return Err(Missing::UsedUp),
        }
        Ok(())
    }
}

/// Where the commands sent stand and go, by their differences.
fn from_differences(sent: &[Vec<f64>; 3], streak: usize, number: usize, period_secs: f64) -> PathPoint {
    let [one, two, three] = [sent[0][number], sent[1][number], sent[2][number]];
    let acceleration = if streak > 2 { (one - 2.0 * two + three) / period_secs.powi(2) } else { 0.0 };
    // The difference is the velocity half a tick ago.
    let velocity = (one - two) / period_secs + acceleration * period_secs / 2.0;
    PathPoint { position: one, velocity: if streak > 1 { velocity } else { 0.0 }, acceleration }
}

/// The guard's thread and the sender's.
pub(crate) struct FastThreads {
    link: Arc<Link>,
    threads: Vec<JoinHandle<()>>,
    /// Ends behind the guard's thread, so that it has shown all.
    _show: Option<GuardShow>,
}

impl FastThreads {
    /// Starts both; `send` runs on the sender's thread, and what it does not take is counted. `show` is what the guard's
    /// tap fills.
    pub(crate) fn start(
        fast: FastLoop,
        mut send: SendCommand,
        counters: Arc<Counters>,
        show: Option<GuardShow>,
    ) -> Result<Self, RuntimeError> {
        let link = fast.link.clone();
        let sending = link.clone();
        let sender = move || {
            run_ahead(realtime::SENDER);
            let mut words = vec![0; sending.dim];
            let mut command = vec![0.0; sending.dim];
            while !sending.end.load(Ordering::Relaxed) {
                // Commands that are late already are not sent after each other in a burst.
                while sending.commands.waiting() > LATE && sending.commands.pop(&mut words) {
                    counters.add(Count::CommandDropped, 1);
                }
                if !sending.commands.pop(&mut words) {
                    std::thread::park_timeout(SENDER_IDLE);
                    continue;
                }
                command.iter_mut().zip(&words).for_each(|(value, word)| *value = f64::from_bits(*word));
                let begun = Instant::now();
                if !send(None, &command) {
                    counters.add(Count::SendFailed, 1);
                }
                sending.publish.record(begun.elapsed());
            }
        };
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
            spawned.map_err(|problem| RuntimeError::Start { what: "the guard's threads", problem })
        };
        let mut threads = Self { link, threads: Vec::new(), _show: show };
        threads.threads.push(start("sender", Box::new(sender))?);
        let wakes = threads.threads[0].thread().clone();
        threads.threads.push(start("guard", Box::new(move || run(fast, &wakes)))?);
        Ok(threads)
    }
}

impl Drop for FastThreads {
    fn drop(&mut self) {
        self.link.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            if thread.join().is_err() {
                eprintln!("a thread of the guard ended in a panic; this is a defect of Nudge");
            }
        }
    }
}

/// More commands than this in the ring are late.
const LATE: usize = 4;

/// Ticks at absolute deadlines until the end.
fn run(mut fast: FastLoop, sender: &Thread) {
    fast.link.runs_ahead.store(run_ahead(realtime::GUARD), Ordering::Relaxed);
    let mut deadline = fast.signals.now();
    while !fast.link.end.load(Ordering::Relaxed) {
        let ahead = deadline.saturating_sub(fast.signals.now());
        if ahead > AWAKE {
            std::thread::sleep(ahead - AWAKE);
        }
        while fast.signals.now() < deadline {
            std::hint::spin_loop();
        }
        let now = fast.signals.now();
        fast.link.tick_jitter.record(now - deadline);
        fast.tick(now);
        sender.unpark();
        deadline += fast.period;
        // Periods that were missed whole are left out.
        while deadline + fast.period < now {
            deadline += fast.period;
        }
    }
}

#[cfg(test)]
#[path = "fast_loop_tests.rs"]
mod tests;
