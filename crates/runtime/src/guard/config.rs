//! What a guard is built from: all that an incident log must hold to build the same one again.

use std::time::Duration;

use nudge_control::ActionMode;
use serde::{Deserialize, Serialize};

use super::axes::TickLimits;
use super::rules::Rule;
use super::tool::ToolConfig;
use crate::robot_file::{Pace, RobotFile};

/// The rules of one robot, one entry of `axes` for each number of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    pub axes: Vec<AxisConfig>,
    /// Between two commands.
    pub period_secs: f64,
    /// `None` in lockstep, where nothing becomes stale.
    pub staleness_secs: Option<f64>,
    pub resume_after: u32,
    pub stamp_skew_secs: Option<f64>,
    pub hold_on_alarm: bool,
    pub tool: Option<ToolConfig>,
}

/// How one number of a command is held and limited, in its unit and seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisConfig {
    pub mode: ActionMode,
    pub low: f64,
    pub high: f64,
    pub velocity: Option<f64>,
    pub acceleration: Option<f64>,
    pub jerk: Option<f64>,
    /// Which number of the observation measures it.
    pub measured_by: Option<usize>,
}

impl GuardConfig {
    /// `position_of(feature)` tells where a feature's numbers begin in the observations that will come; it knows every
    /// feature that measures an action.
    pub fn new(robot: &RobotFile, position_of: impl Fn(&str) -> Option<usize>) -> Self {
        let mut axes = Vec::new();
        let at = |limits: &Option<Vec<f64>>, index: usize| limits.as_ref().map(|limits| limits[index]);
        let mut tool = None;
        for feature in &robot.action {
            let measured_from = feature.measured_by.as_deref().and_then(&position_of);
            if let Some(limits) = robot.tool.as_ref().filter(|tool| tool.action == feature.name) {
                tool = Some(ToolConfig { first_axis: axes.len(), limits: limits.clone() });
            }
            for index in 0..feature.limits.low.len() {
                axes.push(AxisConfig {
                    mode: feature.mode,
                    low: feature.limits.low[index],
                    high: feature.limits.high[index],
                    velocity: at(&feature.velocity, index),
                    acceleration: at(&feature.acceleration, index),
                    jerk: at(&feature.jerk, index),
                    measured_by: measured_from.map(|first| first + index),
                });
            }
        }
        let clock = robot.pace == Pace::Clock;
        Self {
            axes,
            period_secs: 1.0 / robot.command_hz(),
            staleness_secs: clock.then(|| robot.staleness_secs()),
            resume_after: if clock { robot.resume_after } else { 1 },
            stamp_skew_secs: robot.stamp_skew_secs,
            hold_on_alarm: robot.hold_on_alarm,
            tool,
        }
    }

    /// Tightens the position limits to those that the robot itself states.
    pub fn tighten(&mut self, low: &[f64], high: &[f64]) {
        for ((axis, low), high) in self.axes.iter_mut().zip(low).zip(high) {
            axis.low = axis.low.max(*low);
            axis.high = axis.high.min(*high).max(axis.low);
        }
    }

    /// The rule by which an observation stamped `skew_secs` ahead of the wall clock must not be planned from, if one says so.
    pub(crate) fn refuses(&self, skew_secs: f64, observation: &[f64]) -> Option<Rule> {
        let limit = self.stamp_skew_secs.unwrap_or(f64::INFINITY);
        if skew_secs.is_nan() || skew_secs.abs() > limit {
            return Some(Rule::StampSkew);
        }
        let finite = observation.iter().all(|value| value.is_finite());
        (!finite).then_some(Rule::ObservationNotFinite)
    }

    pub(super) fn period(&self) -> Duration {
        Duration::from_secs_f64(self.period_secs)
    }
}

impl AxisConfig {
    /// Its limits a tick, when it is to be brought to rest ahead of them; `None` without a limit on acceleration.
    ///
    /// A delta is already the first difference of what it moves, so its limits are one difference lower. A limit on the
    /// third difference of twice that on the second one limits nothing: it stands for none.
    pub(super) fn tick_limits(&self, period_secs: f64) -> Option<TickLimits> {
        let (velocity, acceleration) = (self.velocity?, self.acceleration?);
        let d = velocity * period_secs;
        let dd = acceleration * period_secs.powi(2);
        let ddd = self.jerk.map_or(2.0 * dd, |jerk| (jerk * period_secs.powi(3)).min(2.0 * dd));
        Some(match self.mode {
            ActionMode::Absolute => TickLimits { low: self.low, high: self.high, d, dd, ddd },
            ActionMode::Delta => {
                TickLimits { low: self.low.max(-d), high: self.high.min(d), d: dd, dd: ddd, ddd: 2.0 * ddd }
            }
        })
    }
}
