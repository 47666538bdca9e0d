//! What an end of the bus says about itself.

use nudge_control::Confidence;
use serde::{Deserialize, Serialize};

use crate::guard::{LogLine, State};
use crate::timing::{Histogram, Quantiles};

/// How long the stages of control took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timings {
    /// From the receipt of an observation's last part to its being taken.
    pub observe: Histogram,
    /// From asking for a plan to having it.
    pub plan: Histogram,
    pub guard: Histogram,
    pub publish: Histogram,
    /// How far from its scheduled time a tick began.
    pub tick_jitter: Histogram,
}

/// How long the stages of control took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTimings {
    /// From the receipt of an observation's last part to its being taken.
    pub observe: Quantiles,
    /// From asking for a plan to having it.
    pub plan: Quantiles,
    pub guard: Quantiles,
    pub publish: Quantiles,
    /// How far from its scheduled time a tick began (pace `clock`).
    pub tick_jitter: Quantiles,
}

impl Timings {
    pub(crate) fn quantiles(&self) -> StageTimings {
        StageTimings {
            observe: self.observe.quantiles(),
            plan: self.plan.quantiles(),
            guard: self.guard.quantiles(),
            publish: self.publish.quantiles(),
            tick_jitter: self.tick_jitter.quantiles(),
        }
    }
}

/// How sure the policy seems of the plan that is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct PlanConfidence {
    #[serde(flatten)]
    pub figures: Confidence,
    /// Beyond what was calibrated.
    pub alarm: bool,
}

/// What the control loop tells of itself.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub state: State,
    pub reason: String,
    /// Of the loop's own rules.
    pub counters: Vec<(&'static str, u64)>,
    /// When rules began and ceased to act lately.
    pub log: Vec<LogLine>,
    pub timings: StageTimings,
    /// `None` where nothing is planned.
    pub confidence: Option<PlanConfidence>,
}

impl Snapshot {
    /// Before anything was observed.
    pub(crate) fn initial() -> Self {
        Self {
            state: State::Init,
            reason: "no_observation".into(),
            counters: Vec::new(),
            log: Vec::new(),
            timings: StageTimings::default(),
            confidence: None,
        }
    }
}
