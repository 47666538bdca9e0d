//! The one gate that every command leaves through.
//!
//! Pure: time is an argument, nothing is sent, nothing is allocated in a tick; the same [inputs](GuardInput) give the
//! same commands, bit for bit. The invariants of the house and who keeps them: 1 to 7, 9, 13 and 17 are rules here;
//! 8 (order of observations) `assembly`; 10 and 11 (malformed or contradicting messages) the decoders and `inbox`; 12 and
//! 15 (other interface, second controller) `handshake`; 14 (nobody slow delays the tick) the bounded channels of
//! `control_loop`; 16 (who may put) zenoh, as `configs/zenoh` tells it; 18 (files cut short) their readers in
//! `nudge-dataset`.
//!
//! Why 3 holds whatever comes: a command only leaves with a way to rest behind it that stays within all limits ([`axes`],
//! and [`tool`] for what the joints do together). When nothing wished, or missing, has such a way, the one behind the last
//! command is followed one tick further, and what is left of it is such a way again.

mod axes;
mod config;
mod four;
mod input;
mod log;
mod numbers;
mod rules;
mod stop;
mod stream;
mod tool;
mod tool_search;

use std::time::Duration;

pub use config::{AxisConfig, GuardConfig};
pub use input::{GuardInput, Proposal};
pub use log::{LOG_LINES, LogLine};
pub use rules::{Missing, NotFresh, Rule, State, Verdict};
pub(crate) use tool::MOST_JOINTS;
pub use tool::{Frame, JointFrame, ToolConfig, ToolLimits};

use log::Log;
use stream::{Stream, Wish};

use crate::robot_file::RobotFile;

/// After so long without a heartbeat or an observation, one who sent heartbeats is lost.
pub const HEARTBEAT_LOST: Duration = Duration::from_millis(250);

/// The rules of one robot and where they stand.
#[derive(Clone, Debug)]
pub struct Guard {
    config: GuardConfig,
    staleness: Option<Duration>,
    stream: Stream,
    log: Log,

    stopped: bool,
    alarm: bool,
    seen_at: Option<Duration>,
    heartbeat_at: Option<Duration>,
    /// Whether the newest observation is finite, and whether its stamp was too far off.
    finite: bool,
    skewed: bool,
    /// Good observations in a row, and how many are needed.
    fresh: u32,
    needed: u32,
    /// `[Da]`, of the newest finite observation.
    measured: Vec<f64>,
    is_measured: bool,
    /// Whether a hold that is asked for now is a new one: none lasts, or it began with an observation that is not to be
    /// trusted.
    holds_anew: bool,
    #[cfg(test)]
    off: Option<Rule>,
}

impl Guard {
    /// The guard of `robot`; [`GuardConfig::new`] says what `position_of` tells.
    pub fn new(robot: &RobotFile, position_of: impl Fn(&str) -> Option<usize>) -> Self {
        Self::with(GuardConfig::new(robot, position_of))
    }

    pub fn with(config: GuardConfig) -> Self {
        Self {
            staleness: config.staleness_secs.map(Duration::from_secs_f64),
            stream: Stream::new(&config),
            log: Log::new(),
            stopped: false,
            alarm: false,
            seen_at: None,
            heartbeat_at: None,
            finite: false,
            skewed: false,
            fresh: 0,
            needed: 1,
            measured: vec![0.0; config.axes.len()],
            is_measured: false,
            holds_anew: true,
            config,
            #[cfg(test)]
            off: None,
        }
    }

    /// What it was built from.
    pub fn config(&self) -> &GuardConfig {
        &self.config
    }

    /// Takes the next event; a verdict for each tick. [`release`](Self::release) says why a stop stays latched, and
    /// [`observe`](Self::observe) whether an observation may be planned from.
    pub fn apply(&mut self, input: &GuardInput<'_>) -> Option<Verdict<'_>> {
        match input {
            GuardInput::Observe { now, skew_secs, values } => {
                // Whoever drives is told by `observe_stamped`; here it is one who replays what came.
                let _refused = self.observe_stamped(*now, *skew_secs, values);
            }
            GuardInput::Heartbeat { now } => self.heartbeat(*now),
            GuardInput::PublisherChanged => self.publisher_changed(),
            GuardInput::Alarm { raised } => self.alarm(*raised),
            GuardInput::Stop => self.stop(),
            // The asker is told by `release`; here it is one who replays what was asked.
            GuardInput::Release { now } => {
                let _latched = self.release(*now);
            }
            GuardInput::Reset => self.reset(),
            GuardInput::Tick { now, proposed: Proposal::Action(action) } => {
                return Some(self.tick(*now, Ok(action)));
            }
            GuardInput::Tick { now, proposed: Proposal::None(missing) } => {
                return Some(self.tick(*now, Err(*missing)));
            }
        }
        None
    }

    /// A new episode: what was observed before counts no longer. A latched stop stays.
    pub fn reset(&mut self) {
        self.seen_at = None;
        self.is_measured = false;
        self.stream.end();
        self.fresh = 0;
        self.needed = if self.stopped { self.config.resume_after } else { 1 };
    }

    /// Takes an observation as it was received at `now`, whose stamp is not judged; whether it may be planned from.
    pub fn observe(&mut self, now: Duration, observation: &[f64]) -> bool {
        self.observe_stamped(now, 0.0, observation).is_ok()
    }

    /// Takes an observation as it was received at `now`, stamped `skew_secs` ahead of the wall clock then.
    ///
    /// # Errors
    /// The rule by which it must not be planned from: one that is not finite is never held at either, and one whose stamp
    /// is too far off is as if it had not come.
    pub fn observe_stamped(
        &mut self,
        now: Duration,
        skew_secs: f64,
        observation: &[f64],
    ) -> Result<(), Rule> {
        let refused = self.config.refuses(skew_secs, observation);
        self.skewed = refused == Some(Rule::StampSkew) && self.on(Rule::StampSkew);
        if self.skewed {
            self.log.act(Rule::StampSkew);
            return Err(Rule::StampSkew);
        }
        self.seen_at = Some(now);
        self.finite = refused.is_none();
        if !self.finite && self.on(Rule::ObservationNotFinite) {
            self.demand_fresh();
            return Err(Rule::ObservationNotFinite);
        }
        self.fresh = self.fresh.saturating_add(1);
        for (value, axis) in self.measured.iter_mut().zip(&self.config.axes) {
            if let Some(&seen) = axis.measured_by.and_then(|index| observation.get(index)) {
                *value = seen;
            }
        }
        self.is_measured = true;
        Ok(())
    }

    /// The robot process was replaced: commands start from what the new one measures, and only `resume_after`
    /// observations of it end the hold.
    pub fn publisher_changed(&mut self) {
        self.heartbeat_at = None;
        self.stream.end();
        self.demand_fresh();
    }

    /// Takes a heartbeat of the robot, received at `now`.
    pub fn heartbeat(&mut self, now: Duration) {
        self.heartbeat_at = Some(now);
    }

    /// The policy's alarm is raised, or ends.
    pub fn alarm(&mut self, raised: bool) {
        self.alarm = raised;
    }

    /// Latches the emergency stop.
    pub fn stop(&mut self) {
        if !self.stopped {
            self.stopped = true;
            self.demand_fresh();
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Releases the emergency stop.
    ///
    /// # Errors
    /// When too few fresh observations have come since it was latched.
    pub fn release(&mut self, now: Duration) -> Result<(), NotFresh> {
        let stale = self.is_stale(now);
        if self.stopped && (stale || self.fresh < self.needed) {
            return Err(NotFresh { have: if stale { 0 } else { self.fresh }, need: self.needed });
        }
        self.stopped = false;
        Ok(())
    }

    /// Ticks, or messages, in which each rule acted.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Rule::ALL.into_iter().map(|rule| (rule.name(), self.log.count(rule)))
    }

    /// When rules began and ceased to act, the last [`LOG_LINES`] of it, oldest first.
    pub fn log(&self) -> impl DoubleEndedIterator<Item = &LogLine> {
        self.log.lines()
    }

    /// Decides the command of one tick.
    pub fn tick(&mut self, now: Duration, proposed: Result<&[f64], Missing>) -> Verdict<'_> {
        let (state, reason) = self.judge(now, proposed);
        if let Some(rule) = reason {
            self.log.act(rule);
        }
        let wish = match (state, proposed) {
            (State::Init | State::Stopped, _) => None,
            (State::Run, Ok(action)) => Some(Wish::Follow(action)),
            _ => Some(Wish::Hold { anew: self.holds_anew }),
        };
        self.holds_anew = !matches!(wish, Some(Wish::Hold { .. })) || reason.is_some_and(Rule::blinds);
        let measured = self.is_measured.then_some(self.measured.as_slice());
        let sends = wish.is_some_and(|wish| self.stream.step(now, wish, measured, |rule| self.log.act(rule)));
        if !sends {
            self.stream.end();
        }
        self.log.end_tick(now);
        Verdict { state, reason, command: sends.then_some(self.stream.command()) }
    }

    fn judge(&mut self, now: Duration, proposed: Result<&[f64], Missing>) -> (State, Option<Rule>) {
        let hold = |rule| (State::Hold, Some(rule));
        if self.stopped && self.on(Rule::EmergencyStop) {
            return (State::Stopped, Some(Rule::EmergencyStop));
        }
        if self.seen_at.is_none() {
            return (State::Init, None);
        }
        if !self.finite && self.on(Rule::ObservationNotFinite) {
            return hold(Rule::ObservationNotFinite);
        }
        // Where nothing becomes stale, what was dropped must not be answered with a motion.
        if self.skewed && self.staleness.is_none() {
            return hold(Rule::StampSkew);
        }
        if self.is_stale(now) && self.on(Rule::ObservationStale) {
            self.demand_fresh();
            return hold(Rule::ObservationStale);
        }
        if self.is_heartbeat_lost(now) && self.on(Rule::HeartbeatLost) {
            self.demand_fresh();
            return hold(Rule::HeartbeatLost);
        }
        if self.fresh < self.needed && self.on(Rule::AwaitingFresh) {
            return hold(Rule::AwaitingFresh);
        }
        if self.alarm && self.config.hold_on_alarm && self.on(Rule::PolicyAlarm) {
            return hold(Rule::PolicyAlarm);
        }
        let fits = |action: &[f64]| {
            action.len() == self.config.axes.len() && action.iter().all(|value| value.is_finite())
        };
        match proposed {
            Err(Missing::UsedUp) if self.on(Rule::PlanUsedUp) => hold(Rule::PlanUsedUp),
            Err(Missing::Failed) if self.on(Rule::PlannerFailed) => hold(Rule::PlannerFailed),
            Err(_) => (State::Ready, None),
            Ok(action) if fits(action) || !self.on(Rule::ProposalNotFinite) => (State::Run, None),
            Ok(_) => hold(Rule::ProposalNotFinite),
        }
    }

    fn is_stale(&self, now: Duration) -> bool {
        match (self.staleness, self.seen_at) {
            (Some(limit), Some(seen_at)) => now.saturating_sub(seen_at) > limit,
            (_, seen_at) => seen_at.is_none(),
        }
    }

    fn is_heartbeat_lost(&self, now: Duration) -> bool {
        let alive_at = self.heartbeat_at.max(self.seen_at).unwrap_or(now);
        self.staleness.is_some()
            && self.heartbeat_at.is_some()
            && now.saturating_sub(alive_at) > HEARTBEAT_LOST
    }

    fn demand_fresh(&mut self) {
        self.fresh = 0;
        self.needed = self.config.resume_after;
    }

    /// Every rule is; but a test may take one out, to see that something fails without it.
    #[cfg(not(test))]
    fn on(&self, _: Rule) -> bool {
        true
    }

    #[cfg(test)]
    fn on(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    #[cfg(test)]
    fn take_out(&mut self, rule: Rule) {
        self.off = Some(rule);
        self.stream.take_out(rule);
    }
}

#[cfg(test)]
mod tests;
