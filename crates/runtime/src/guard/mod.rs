//! The one gate that every command leaves through.
//!
//! Pure: time is an argument, nothing is sent, nothing is allocated in a tick. The invariants of the house and who keeps
//! them: 1 to 7 and 13 are rules here; 8 (order of observations) `assembly`; 10 and 11 (malformed or contradicting
//! messages) `cdr`, `attachment` and `inbox`; 12 and 15 (other interface, second controller) `handshake`; 14 (nobody slow
//! delays the tick) the bounded channels of `control_loop`. 9 (stamp skew), and acceleration and jerk of 3, become rules
//! here when robot files state limits for them.

use std::time::Duration;

use nudge_control::ActionMode;
use serde::{Deserialize, Serialize};

use crate::robot_file::{Pace, RobotFile};

/// After so long without a heartbeat or an observation, one who sent heartbeats is lost.
pub const HEARTBEAT_LOST: Duration = Duration::from_millis(250);

/// What the controller is doing with the robot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing was observed yet: silent.
    Init,
    /// Observing; the first plan is being made: the robot is held.
    Ready,
    /// A plan is being executed.
    Run,
    /// Something is wrong: the robot is held where it is.
    Hold,
    /// The emergency stop is latched: silent.
    Stopped,
}

/// The rules that can hold, stop or change a command, each with a counter of the ticks in which it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Invariant 1.
    ObservationStale,
    /// Invariant 2, at the entrance.
    ObservationNotFinite,
    /// Invariant 2, at the exit.
    ProposalNotFinite,
    /// Invariant 3.
    PositionLimit,
    /// Invariants 3 and 4: counted from the last command, and the first from what is measured.
    VelocityLimit,
    /// Invariant 5.
    PlanUsedUp,
    /// Invariant 5: the policy failed or panicked.
    PlannerFailed,
    /// Invariant 6.
    EmergencyStop,
    /// Invariant 7.
    HeartbeatLost,
    /// Invariant 13.
    AwaitingFresh,
}

impl Rule {
    pub const ALL: [Self; 10] = [
        Self::ObservationStale,
        Self::ObservationNotFinite,
        Self::ProposalNotFinite,
        Self::PositionLimit,
        Self::VelocityLimit,
        Self::PlanUsedUp,
        Self::PlannerFailed,
        Self::EmergencyStop,
        Self::HeartbeatLost,
        Self::AwaitingFresh,
    ];

    /// Its name in reasons and counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::ObservationStale => "observation_stale",
            Self::ObservationNotFinite => "observation_not_finite",
            Self::ProposalNotFinite => "proposal_not_finite",
            Self::PositionLimit => "position_limit",
            Self::VelocityLimit => "velocity_limit",
            Self::PlanUsedUp => "plan_used_up",
            Self::PlannerFailed => "planner_failed",
            Self::EmergencyStop => "emergency_stop",
            Self::HeartbeatLost => "heartbeat_lost",
            Self::AwaitingFresh => "awaiting_fresh_observations",
        }
    }

    /// Whether observations before and after it do not belong together, so that history and plan must go.
    pub fn breaks_history(self) -> bool {
        use Rule::{EmergencyStop, HeartbeatLost, ObservationNotFinite, ObservationStale};
        matches!(self, EmergencyStop | HeartbeatLost | ObservationNotFinite | ObservationStale)
    }
}

/// Why there is no action to propose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The first plan of the episode is not there yet.
    FirstPlan,
    /// The plan is used up and the next one is late.
    UsedUp,
    /// The policy failed.
    Failed,
}

/// What one tick comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict<'a> {
    pub state: State,
    pub reason: Option<Rule>,
    /// `[Da]`, finite and within the limits; `None` when the controller must be silent.
    pub command: Option<&'a [f64]>,
}

/// Why the emergency stop stays latched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stop stays latched: {have} of {need} fresh observations have come since")]
pub struct NotFresh {
    pub have: u32,
    pub need: u32,
}

/// How one number of a command is held and limited.
#[derive(Clone, Copy, Debug)]
struct Axis {
    mode: ActionMode,
    low: f64,
    high: f64,
    /// Per second; infinite where none is stated.
    velocity: f64,
    /// Which number of the observation measures it.
    measured_by: Option<usize>,
}

/// The rules of one robot and where they stand.
#[derive(Clone, Debug)]
pub struct Guard {
    axes: Vec<Axis>,
    period: Duration,
    /// `None` in lockstep, where nothing becomes stale.
    staleness: Option<Duration>,
    resume_after: u32,

    stopped: bool,
    seen_at: Option<Duration>,
    heartbeat_at: Option<Duration>,
    /// Whether the newest observation is finite.
    finite: bool,
    /// Good observations in a row, and how many are needed.
    fresh: u32,
    needed: u32,
    /// `[Da]`, of the newest finite observation.
    measured: Option<Vec<f64>>,
    /// `[Da]`, and whether it was sent in the present run of commands and not before a silence.
    last: Vec<f64>,
    last_at: Option<Duration>,
    ever_sent: bool,
    command: Vec<f64>,
    counters: [u64; Rule::ALL.len()],
}

impl Guard {
    /// `position_of(feature)` tells where a feature's numbers begin in the observations that will come; it knows every
    /// feature that measures an action.
    pub fn new(robot: &RobotFile, position_of: impl Fn(&str) -> Option<usize>) -> Self {
        let mut axes = Vec::new();
        for feature in &robot.action {
            let first = feature.measured_by.as_deref().and_then(&position_of);
            for index in 0..feature.limits.low.len() {
                axes.push(Axis {
                    mode: feature.mode,
                    low: feature.limits.low[index],
                    high: feature.limits.high[index],
                    velocity: feature.velocity.as_ref().map_or(f64::INFINITY, |limits| limits[index]),
                    measured_by: first.map(|first| first + index),
                });
            }
        }
        let clock = robot.pace == Pace::Clock;
        let dim = axes.len();
        Self {
            axes,
            period: Duration::from_secs_f64(1.0 / robot.control_hz),
            staleness: clock.then(|| Duration::from_secs_f64(robot.staleness_secs())),
            resume_after: if clock { robot.resume_after } else { 1 },
            stopped: false,
            seen_at: None,
            heartbeat_at: None,
            finite: false,
            fresh: 0,
            needed: 1,
            measured: None,
            last: vec![0.0; dim],
            last_at: None,
            ever_sent: false,
            command: vec![0.0; dim],
            counters: [0; Rule::ALL.len()],
        }
    }

    /// Tightens the position limits of the robot file to those that the robot itself states.
    pub fn tighten(&mut self, low: &[f64], high: &[f64]) {
        for ((axis, low), high) in self.axes.iter_mut().zip(low).zip(high) {
            axis.low = axis.low.max(*low);
            axis.high = axis.high.min(*high).max(axis.low);
        }
    }

    /// A new episode: what was observed before counts no longer. A latched stop stays.
    pub fn reset(&mut self) {
        self.seen_at = None;
        self.measured = None;
        self.last_at = None;
        self.fresh = 0;
        self.needed = if self.stopped { self.resume_after } else { 1 };
    }

    /// Takes an observation as it was received at `now`. One that is not finite is never planned from or held at;
    /// the answer is whether it is finite.
    pub fn observe(&mut self, now: Duration, observation: &[f64]) -> bool {
        self.seen_at = Some(now);
        self.finite = observation.iter().all(|value| value.is_finite());
        if !self.finite {
            self.demand_fresh();
            return false;
        }
        self.fresh = self.fresh.saturating_add(1);
        let measured = self.measured.get_or_insert_with(|| vec![0.0; self.axes.len()]);
        for (value, axis) in measured.iter_mut().zip(&self.axes) {
            if let Some(&seen) = axis.measured_by.and_then(|index| observation.get(index)) {
                *value = seen;
            }
        }
        true
    }

    /// The robot process was replaced: commands start from what the new one measures, and only `resume_after`
    /// observations of it end the hold.
    pub fn publisher_changed(&mut self) {
        self.heartbeat_at = None;
        self.last_at = None;
        self.demand_fresh();
    }

    /// Takes a heartbeat of the robot, received at `now`.
    pub fn heartbeat(&mut self, now: Duration) {
        self.heartbeat_at = Some(now);
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

    /// Ticks in which each rule acted.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Rule::ALL.into_iter().map(|rule| (rule.name(), self.counters[rule as usize]))
    }

    /// Decides the command of one tick.
    pub fn tick(&mut self, now: Duration, proposed: Result<&[f64], Missing>) -> Verdict<'_> {
        let (state, reason) = self.judge(now, proposed);
        if let Some(rule) = reason {
            self.counters[rule as usize] += 1;
        }
        let sends = match (state, proposed) {
            (State::Init | State::Stopped, _) => false,
            (State::Run, Ok(action)) => {
                self.command.copy_from_slice(action);
                true
            }
            _ => self.hold(),
        };
        if !sends {
            self.last_at = None;
            return Verdict { state, reason, command: None };
        }
        self.limit(now);
        self.last.copy_from_slice(&self.command);
        self.last_at = Some(now);
        self.ever_sent = true;
        Verdict { state, reason, command: Some(&self.command) }
    }

    fn judge(&mut self, now: Duration, proposed: Result<&[f64], Missing>) -> (State, Option<Rule>) {
        let hold = |rule| (State::Hold, Some(rule));
        if self.stopped {
            return (State::Stopped, Some(Rule::EmergencyStop));
        }
        if self.seen_at.is_none() {
            return (State::Init, None);
        }
        if !self.finite {
            return hold(Rule::ObservationNotFinite);
        }
        if self.is_stale(now) {
            self.demand_fresh();
            return hold(Rule::ObservationStale);
        }
        if self.is_heartbeat_lost(now) {
            self.demand_fresh();
            return hold(Rule::HeartbeatLost);
        }
        if self.fresh < self.needed {
            return hold(Rule::AwaitingFresh);
        }
        match proposed {
            Err(Missing::FirstPlan) => (State::Ready, None),
            Err(Missing::UsedUp) => hold(Rule::PlanUsedUp),
            Err(Missing::Failed) => hold(Rule::PlannerFailed),
            Ok(action) if action.len() == self.axes.len() && action.iter().all(|x| x.is_finite()) => {
                (State::Run, None)
            }
            Ok(_) => hold(Rule::ProposalNotFinite),
        }
    }

    /// Writes the command that keeps the robot where it is; false when nothing is known to hold at.
    fn hold(&mut self) -> bool {
        for (index, axis) in self.axes.iter().enumerate() {
            let held = match (axis.mode, axis.measured_by, &self.measured) {
                (ActionMode::Delta, _, _) => 0.0,
                (ActionMode::Absolute, Some(_), Some(measured)) => measured[index],
                (ActionMode::Absolute, None, _) if self.ever_sent => self.last[index],
                _ => return false,
            };
            self.command[index] = held;
        }
        true
    }

    /// Brings the command within position and velocity limits, counting each rule once.
    fn limit(&mut self, now: Duration) {
        let elapsed = self.last_at.map_or(self.period, |last| now.saturating_sub(last).min(self.period));
        let (mut moved, mut slowed) = (false, false);
        for (index, axis) in self.axes.iter().enumerate() {
            let wanted = self.command[index];
            let allowed = wanted.clamp(axis.low, axis.high);
            let from = match (axis.mode, self.last_at, axis.measured_by, &self.measured) {
                (ActionMode::Delta, _, _, _) => Some(0.0),
                (ActionMode::Absolute, Some(_), _, _) => Some(self.last[index]),
                (ActionMode::Absolute, None, Some(_), Some(measured)) => Some(measured[index]),
                _ => None,
            };
            let reach = axis.velocity * elapsed.as_secs_f64();
            let reached = match from {
                Some(from) if axis.velocity.is_finite() => {
                    let from = from.clamp(axis.low, axis.high);
                    allowed.clamp(from - reach, from + reach)
                }
                _ => allowed,
            };
            moved |= allowed != wanted;
            slowed |= reached != allowed;
            self.command[index] = reached;
        }
        self.counters[Rule::PositionLimit as usize] += u64::from(moved);
        self.counters[Rule::VelocityLimit as usize] += u64::from(slowed);
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
        self.needed = self.resume_after;
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
