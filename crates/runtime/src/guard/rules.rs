//! What the guard decides, and by which rules.

use serde::{Deserialize, Serialize};

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

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident => $name:literal,)*) => {
        /// The rules that can hold, stop or change a command, each with a counter of the ticks (or messages) in which
        /// it did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$rule),*];

            /// Its name in reasons, counters and the log.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)*
                }
            }
        }
    };
}

rules! {
    /// Invariant 1.
    ObservationStale => "observation_stale",
    /// Invariant 2, at the entrance.
    ObservationNotFinite => "observation_not_finite",
    /// Invariant 2, at the exit.
    ProposalNotFinite => "proposal_not_finite",
    /// Invariant 3: the proposal is outside, or there would be no room to stop.
    PositionLimit => "position_limit",
    /// Invariants 3 and 4: counted from the last command, and the first from what is measured.
    VelocityLimit => "velocity_limit",
    /// Invariant 3.
    AccelerationLimit => "acceleration_limit",
    /// Invariant 3.
    JerkLimit => "jerk_limit",
    /// Invariant 3, for the tool: now, or on the way to rest.
    ToolSpeed => "tool_speed",
    /// Invariant 3, for the tool: now, or on the way to rest.
    ToolWorkspace => "tool_workspace",
    /// A tick came sooner than the rate of commands allows: the last command stands.
    CommandRate => "command_rate",
    /// Invariant 5.
    PlanUsedUp => "plan_used_up",
    /// Invariant 5: the policy failed or panicked.
    PlannerFailed => "planner_failed",
    /// The policy says that it does not know this situation.
    PolicyAlarm => "policy_alarm",
    /// Invariant 6.
    EmergencyStop => "emergency_stop",
    /// Invariant 7.
    HeartbeatLost => "heartbeat_lost",
    /// Invariant 9: the observation is dropped.
    StampSkew => "stamp_skew",
    /// Invariant 13.
    AwaitingFresh => "awaiting_fresh_observations",
}

impl Rule {
    /// Whether what is measured while it acts is not to be trusted.
    pub fn blinds(self) -> bool {
        use Rule::{HeartbeatLost, ObservationNotFinite, ObservationStale, StampSkew};
        matches!(self, ObservationStale | ObservationNotFinite | StampSkew | HeartbeatLost)
    }

    /// Whether observations before and after it do not belong together, so that history and plan must go.
    pub fn breaks_history(self) -> bool {
        use Rule::{EmergencyStop, HeartbeatLost, ObservationNotFinite, ObservationStale};
        matches!(self, EmergencyStop | HeartbeatLost | ObservationNotFinite | ObservationStale)
    }
}

/// Why there is no action to propose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
