//! The stream of commands: every number of it under its own limits, and the tool under all of them.
//!
//! A stream is what a robot sees: one position every period. Its velocity, acceleration and jerk are the differences of
//! its commands by the nominal period. A tick that is a little early or late makes the same step; one that comes sooner
//! than the rate allows repeats the last command; after a gap of several periods, in which the robot has come to a stop
//! at the last command, the stream begins again there, at rest.

use std::time::Duration;

use nudge_control::ActionMode;

use super::axis::{Acted, Axis, Step};
use super::config::{AxisConfig, GuardConfig};
use super::rules::Rule;
use super::stop::{Motion, Reach, StopPlan};
use super::tool::{Breaks, Tool};

/// After so many periods without a command the robot stands still.
const STILL_AFTER: u32 = 4;
/// Halvings between what is wished and the way to rest, for the tool's sake.
const HALVINGS: usize = 6;

/// The commands of one guard.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    numbers: Vec<Number>,
    tool: Option<Tool>,
    period: Duration,
    /// Until when the next step of the stream is not due, but for a quarter of a period.
    due: Duration,
    /// Of the last command of this stream; none after a silence.
    last_at: Option<Duration>,
    ever_sent: bool,
    command: Vec<f64>,
    /// The steps of this tick, those tried for the tool's joints, and what was wished of these.
    steps: Vec<Step>,
    tried: Vec<Step>,
    wished: Vec<f64>,
    tool_q: Vec<f64>,
    #[cfg(test)]
    off: Option<Rule>,
}

/// One number of a command.
#[derive(Clone, Debug)]
struct Number {
    config: AxisConfig,
    /// With a limit on acceleration, it is brought to rest ahead of its limits.
    axis: Option<Axis>,
}

/// What to do with the robot in a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wish<'a> {
    Follow(&'a [f64]),
    Hold,
}

impl Stream {
    pub(super) fn new(config: &GuardConfig) -> Self {
        let number = |axis: &AxisConfig| Number {
            config: *axis,
            axis: axis.tick_limits(config.period_secs).map(Axis::new),
        };
        let dim = config.axes.len();
        let rest = Step {
            motion: Motion::default(),
            stop: StopPlan::default(),
            reach: Reach { p: [0.0; 2], d: [0.0; 2], end: 0.0 },
        };
        let tool_axes = config.tool.as_ref().map_or(0, |tool| tool.limits.axes());
        Self {
            numbers: config.axes.iter().map(number).collect(),
            tool: config.tool.as_ref().map(|tool| Tool::new(tool, config.period_secs)),
            period: config.period(),
            due: Duration::ZERO,
            last_at: None,
            ever_sent: false,
            command: vec![0.0; dim],
            steps: vec![rest; dim],
            tried: vec![rest; tool_axes],
            wished: vec![0.0; tool_axes],
            tool_q: vec![0.0; tool_axes],
            #[cfg(test)]
            off: None,
        }
    }

    /// Takes a rule out, for a test to see that something fails without it.
    #[cfg(test)]
    pub(super) fn take_out(&mut self, rule: Rule) {
        self.off = Some(rule);
        for number in &mut self.numbers {
            let mut limits = number.axis.as_mut().map(|axis| &mut axis.limits);
            match (rule, &mut limits) {
                (Rule::PositionLimit, Some(limits)) => (limits.low, limits.high) = (-1e3, 1e3),
                (Rule::VelocityLimit, Some(limits)) => limits.d *= 1e3,
                (Rule::AccelerationLimit, Some(limits)) => limits.dd *= 1e3,
                (Rule::JerkLimit, Some(limits)) => limits.ddd = 2.0 * limits.dd,
                (Rule::PositionLimit, None) => (number.config.low, number.config.high) = (-1e3, 1e3),
                (Rule::VelocityLimit, None) => number.config.velocity = None,
                _ => {}
            }
        }
        match (rule, &mut self.tool) {
            (Rule::ToolSpeed, Some(tool)) => tool.step_m = f64::INFINITY,
            (Rule::ToolWorkspace, Some(tool)) => {
                (tool.low, tool.high) = ([f64::NEG_INFINITY; 3], [f64::INFINITY; 3])
            }
            _ => {}
        }
    }

    /// Whether a tick at `now` comes sooner than the rate allows.
    fn is_early(&self, now: Duration) -> bool {
        #[cfg(test)]
        if self.off == Some(Rule::CommandRate) {
            return false;
        }
        now + self.period / 4 < self.due
    }

    /// The stream ends: the next one begins where the robot is measured.
    pub(super) fn end(&mut self) {
        self.last_at = None;
    }

    pub(super) fn command(&self) -> &[f64] {
        &self.command
    }

    /// The next command, at `now`, into [`command`](Self::command); false when nothing is known to command. `measured`
    /// is `[Da]`; every rule that acts is told, once.
    pub(super) fn step(
        &mut self,
        now: Duration,
        wish: Wish<'_>,
        measured: Option<&[f64]>,
        mut acts: impl FnMut(Rule),
    ) -> bool {
        let starts = self.last_at.is_none();
        for index in 0..self.numbers.len() {
            let number = &mut self.numbers[index];
            let last = self.ever_sent.then_some(self.command[index]);
            let Some(from) = number.beginning(index, wish, measured, last) else { return false };
            if starts && let Some(axis) = &mut number.axis {
                axis.start(from);
            }
        }
        let still = self.last_at.is_some_and(|last| now.saturating_sub(last) > self.period * STILL_AFTER);
        let early = !starts && !still && self.is_early(now);
        let mut acted = self.plain(now, wish, measured, starts);
        if early {
            let stands = self.numbers.iter_mut().zip(&mut self.command).filter_map(|(number, command)| {
                number.axis.as_ref()?;
                if number.config.mode == ActionMode::Delta {
                    *command = 0.0;
                }
                Some(())
            });
            if stands.count() > 0 {
                acts(Rule::CommandRate);
            }
        } else {
            if still {
                self.stand_still();
            }
            acted = acted.or(self.shaped(wish, starts, &mut acts));
            self.due = if starts || still {
                now + self.period
            } else {
                (self.due + self.period).max(now + self.period * 3 / 4)
            };
        }
        for (acted, rule) in [
            (acted.position, Rule::PositionLimit),
            (acted.velocity, Rule::VelocityLimit),
            (acted.acceleration, Rule::AccelerationLimit),
            (acted.jerk, Rule::JerkLimit),
        ] {
            if acted {
                acts(rule);
            }
        }
        self.last_at = Some(now);
        self.ever_sent = true;
        true
    }

    fn stand_still(&mut self) {
        for number in &mut self.numbers {
            if let Some(axis) = &mut number.axis {
                let stands = number.config.mode == ActionMode::Absolute;
                axis.start(if stands { axis.motion().p } else { 0.0 });
            }
        }
    }

    /// The numbers without a limit on acceleration.
    fn plain(&mut self, now: Duration, wish: Wish<'_>, measured: Option<&[f64]>, starts: bool) -> Acted {
        let elapsed = self.last_at.map_or(self.period, |last| now.saturating_sub(last).min(self.period));
        let mut acted = Acted::default();
        for (index, number) in self.numbers.iter().enumerate().filter(|(_, number)| number.axis.is_none()) {
            let measured = measured.and_then(|measured| number.config.measured_by.map(|_| measured[index]));
            let last = (!starts).then_some(self.command[index]);
            let (wanted, from) = match (wish, number.config.mode) {
                (Wish::Follow(action), ActionMode::Delta) => (action[index], Some(0.0)),
                (Wish::Hold, ActionMode::Delta) => (0.0, Some(0.0)),
                (Wish::Follow(action), ActionMode::Absolute) => (action[index], last.or(measured)),
                (Wish::Hold, ActionMode::Absolute) => {
                    (measured.unwrap_or(self.command[index]), last.or(measured))
                }
            };
            let (command, limited) = number.config.limit(wanted, from, elapsed);
            self.command[index] = command;
            acted = acted.or(limited);
        }
        acted
    }

    /// The numbers that are brought to rest ahead of their limits.
    fn shaped(&mut self, wish: Wish<'_>, starts: bool, acts: &mut impl FnMut(Rule)) -> Acted {
        let mut acted = Acted::default();
        for (index, number) in self.numbers.iter_mut().enumerate() {
            let Some(axis) = &mut number.axis else { continue };
            let target = match (wish, number.config.mode) {
                (Wish::Follow(action), _) => Some(action[index]),
                (Wish::Hold, ActionMode::Delta) => Some(0.0),
                (Wish::Hold, ActionMode::Absolute) => None,
            };
            self.steps[index] = match target {
                Some(target) => {
                    let (step, limited) = axis.follow(target);
                    acted = acted.or(limited);
                    step
                }
                None => axis.brake(),
            };
        }
        self.hold_tool(wish, starts, acts);
        for (index, number) in self.numbers.iter_mut().enumerate() {
            if let Some(axis) = &mut number.axis {
                axis.take(&self.steps[index]);
                self.command[index] = axis.motion().p;
            }
        }
        if let Some(tool) = &mut self.tool {
            tool.stand(&self.command[tool.first_axis..][..tool.axes]);
        }
        acted
    }

    /// Takes of the tool's steps as much as its own limits allow.
    fn hold_tool(&mut self, wish: Wish<'_>, starts: bool, acts: &mut impl FnMut(Rule)) {
        let Some(tool) = &mut self.tool else { return };
        let joints = tool.first_axis..tool.first_axis + tool.axes;
        if starts {
            for (q, number) in self.tool_q.iter_mut().zip(&self.numbers[joints.clone()]) {
                *q = number.axis.as_ref().map_or(0.0, |axis| axis.motion().p);
            }
            tool.stand(&self.tool_q);
        }
        if wish == Wish::Hold {
            return;
        }
        let mut judge = |steps: &[Step]| {
            for (q, step) in self.tool_q.iter_mut().zip(steps) {
                *q = step.motion.p;
            }
            tool.judge(&self.tool_q, steps)
        };
        let Err(broken) = judge(&self.steps[joints.clone()]) else { return };
        acts(if broken == Breaks::Speed { Rule::ToolSpeed } else { Rule::ToolWorkspace });
        // The way to rest that lies behind the last command keeps the tool's limits; from it towards what is wished.
        let axes = &self.numbers[joints.clone()];
        for ((step, wished), number) in self.steps[joints.clone()].iter_mut().zip(&mut self.wished).zip(axes)
        {
            *wished = step.motion.dd;
            if let Some(axis) = &number.axis {
                *step = axis.braked();
            }
        }
        let (mut lower, mut upper) = (0.0, 1.0);
        for _ in 0..HALVINGS {
            let share = (lower + upper) / 2.0;
            for ((step, wished), number) in self.tried.iter_mut().zip(&self.wished).zip(axes) {
                if let Some(axis) = &number.axis {
                    *step = axis.share_of(*wished, share);
                }
            }
            if judge(&self.tried).is_ok() {
                lower = share;
                self.steps[joints.clone()].copy_from_slice(&self.tried);
            } else {
                upper = share;
            }
        }
    }
}

impl Number {
    /// Where a stream begins, as far as it matters; `None` when nothing is known to command.
    fn beginning(
        &self,
        index: usize,
        wish: Wish<'_>,
        measured: Option<&[f64]>,
        last: Option<f64>,
    ) -> Option<f64> {
        if self.config.mode == ActionMode::Delta {
            return Some(0.0);
        }
        let measured = self.config.measured_by.and(measured).map(|measured| measured[index]);
        let known = if self.config.measured_by.is_some() { measured } else { last };
        match (known, wish) {
            (Some(from), _) => Some(from),
            (None, Wish::Follow(action)) => {
                Some(self.axis.as_ref().map_or(action[index], |axis| axis.limits.nearest(action[index])))
            }
            (None, Wish::Hold) => None,
        }
    }
}

impl AxisConfig {
    /// A command within position and velocity limits, counted from `from` if that is known.
    fn limit(&self, wanted: f64, from: Option<f64>, elapsed: Duration) -> (f64, Acted) {
        let allowed = wanted.clamp(self.low, self.high);
        let reached = match (from, self.velocity) {
            (Some(from), Some(velocity)) => {
                let (from, reach) = (from.clamp(self.low, self.high), velocity * elapsed.as_secs_f64());
                allowed.clamp(from - reach, from + reach)
            }
            _ => allowed,
        };
        let acted = Acted { position: allowed != wanted, velocity: reached != allowed, ..Acted::default() };
        (reached, acted)
    }
}
