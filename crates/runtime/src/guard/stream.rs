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
use super::tool::{Breaks, Judged, Tool};

/// After so many periods without a command the robot stands still.
const STILL_AFTER: u32 = 4;
/// Steps of the search between the way to rest and what is wished, for the tool's sake, and what is near enough to the
/// limit: a share of how far apart the two lie.
const SEARCHES: usize = 4;
const NEAR_ENOUGH: f64 = 1.0 / 32.0;

/// The commands of one guard.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    numbers: Vec<Number>,
    /// Those without a limit on acceleration.
    plain: Vec<Plain>,
    tool: Option<Tool>,
    period: Duration,
    /// Until when the next step of the stream is not due, but for a quarter of a period.
    due: Duration,
    /// Of the last command of this stream; none after a silence.
    last_at: Option<Duration>,
    ever_sent: bool,
    command: Vec<f64>,
    /// The steps of this tick, those tried for the tool's joints, and for these the second
    /// differences of the way to rest and of what was wished.
    steps: Vec<Step>,
    tried: Vec<Step>,
    between: Vec<[f64; 2]>,
    tool_q: Vec<f64>,
    bend: Bend,
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

/// A number under limits of position and velocity alone.
#[derive(Clone, Copy, Debug)]
struct Plain {
    index: usize,
    low: f64,
    high: f64,
    /// Infinite where none is stated.
    velocity: f64,
    is_delta: bool,
    is_measured: bool,
    /// Where it is held.
    held: f64,
}

/// What to do with the robot in a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wish<'a> {
    Follow(&'a [f64]),
    /// Stand still: where the robot is measured now, when the hold is new, and there for as long as it lasts. A hold that
    /// went after the measured position would follow the echo of its own commands, or what a load does to the robot.
    Hold {
        anew: bool,
    },
}

impl Stream {
    pub(super) fn new(config: &GuardConfig) -> Self {
        let number = |axis: &AxisConfig| Number {
            config: *axis,
            axis: axis.tick_limits(config.period_secs).map(Axis::new),
        };
        let plain = |(index, axis): (usize, &AxisConfig)| {
            axis.tick_limits(config.period_secs).is_none().then(|| Plain {
                index,
                low: axis.low,
                high: axis.high,
                velocity: axis.velocity.unwrap_or(f64::INFINITY),
                is_delta: axis.mode == ActionMode::Delta,
                is_measured: axis.measured_by.is_some(),
                held: 0.0,
            })
        };
        let dim = config.axes.len();
        let tool_axes = config.tool.as_ref().map_or(0, |tool| tool.limits.axes());
        Self {
            numbers: config.axes.iter().map(number).collect(),
            plain: config.axes.iter().enumerate().filter_map(plain).collect(),
            tool: config.tool.as_ref().map(|tool| Tool::new(tool, config.period_secs)),
            period: config.period(),
            due: Duration::ZERO,
            last_at: None,
            ever_sent: false,
            command: vec![0.0; dim],
            steps: vec![Step::default(); dim],
            tried: vec![Step::default(); tool_axes],
            between: vec![[0.0; 2]; tool_axes],
            tool_q: vec![0.0; tool_axes],
            bend: Bend::default(),
            #[cfg(test)]
            off: None,
        }
    }

    /// Takes a rule out, for a test to see that something fails without it.
    #[cfg(test)]
    pub(super) fn take_out(&mut self, rule: Rule) {
        self.off = Some(rule);
        for number in &mut self.numbers {
            let Some(mut limits) = number.config.tick_limits(self.period.as_secs_f64()) else { continue };
            match rule {
                Rule::PositionLimit => (limits.low, limits.high) = (-1e3, 1e3),
                Rule::VelocityLimit => limits.d *= 1e3,
                Rule::AccelerationLimit => limits.dd *= 1e3,
                Rule::JerkLimit => limits.ddd = 2.0 * limits.dd,
                _ => {}
            }
            number.axis = Some(Axis::new(limits));
        }
        for plain in &mut self.plain {
            match rule {
                Rule::PositionLimit => (plain.low, plain.high) = (-1e3, 1e3),
                Rule::VelocityLimit => plain.velocity = f64::INFINITY,
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
        if starts && !self.start(wish, measured) {
            return false;
        }
        let mut acted = self.plain(now, wish, measured, starts);
        if self.plain.len() < self.numbers.len() {
            acted = acted.or(self.shape(now, wish, starts, &mut acts));
        }
        if acted != Acted::default() {
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
        }
        self.last_at = Some(now);
        self.ever_sent = true;
        true
    }

    /// Begins a stream where the robot is; false when nothing is known to command.
    fn start(&mut self, wish: Wish<'_>, measured: Option<&[f64]>) -> bool {
        for (index, number) in self.numbers.iter_mut().enumerate() {
            let last = self.ever_sent.then_some(self.command[index]);
            let Some(from) = number.beginning(index, wish, measured, last) else { return false };
            if let Some(axis) = &mut number.axis {
                axis.start(from);
            }
        }
        true
    }

    /// The numbers that are brought to rest ahead of their limits, in the stream's own time.
    fn shape(&mut self, now: Duration, wish: Wish<'_>, starts: bool, acts: &mut impl FnMut(Rule)) -> Acted {
        let still = self.last_at.is_some_and(|last| now.saturating_sub(last) > self.period * STILL_AFTER);
        if !starts && !still && self.is_early(now) {
            for (number, command) in self.numbers.iter().zip(&mut self.command) {
                if number.axis.is_some() && number.config.mode == ActionMode::Delta {
                    *command = 0.0;
                }
            }
            acts(Rule::CommandRate);
            return Acted::default();
        }
        if still {
            self.stand_still();
        }
        self.due = if starts || still {
            now + self.period
        } else {
            (self.due + self.period).max(now + self.period * 3 / 4)
        };
        self.shaped(wish, starts, acts)
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
        let elapsed_secs = elapsed.as_secs_f64();
        let (mut moved, mut slowed) = (false, false);
        for plain in &mut self.plain {
            let command = &mut self.command[plain.index];
            let seen = || measured.filter(|_| plain.is_measured).map(|measured| measured[plain.index]);
            let wanted = match wish {
                Wish::Follow(action) => action[plain.index],
                Wish::Hold { .. } if plain.is_delta => 0.0,
                Wish::Hold { anew } => {
                    if anew || starts {
                        plain.held = seen().unwrap_or(*command);
                    }
                    plain.held
                }
            };
            // Where it is counted from; what nobody measures begins anywhere.
            let from = match (plain.is_delta, starts) {
                (true, _) => 0.0,
                (false, false) => *command,
                (false, true) => seen().unwrap_or(wanted),
            };
            let allowed = wanted.clamp(plain.low, plain.high);
            let mut reached = allowed;
            if plain.velocity < f64::INFINITY {
                let reach = plain.velocity * elapsed_secs;
                let from = from.clamp(plain.low, plain.high);
                reached = allowed.clamp(from - reach, from + reach);
            }
            moved |= allowed != wanted;
            slowed |= reached != allowed;
            *command = reached;
        }
        Acted { position: moved, velocity: slowed, ..Acted::default() }
    }

    /// The numbers that are brought to rest ahead of their limits.
    fn shaped(&mut self, wish: Wish<'_>, starts: bool, acts: &mut impl FnMut(Rule)) -> Acted {
        let mut acted = Acted::default();
        for (index, number) in self.numbers.iter_mut().enumerate() {
            let Some(axis) = &mut number.axis else { continue };
            let target = match (wish, number.config.mode) {
                (Wish::Follow(action), _) => Some(action[index]),
                (Wish::Hold { .. }, ActionMode::Delta) => Some(0.0),
                (Wish::Hold { .. }, ActionMode::Absolute) => None,
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
        if starts {
            self.stand_tool();
        }
        self.hold_tool(wish, acts);
        for (index, number) in self.numbers.iter_mut().enumerate() {
            if let Some(axis) = &mut number.axis {
                axis.take(&self.steps[index]);
                self.command[index] = axis.motion().p;
            }
        }
        self.stand_tool();
        acted
    }

    /// The tool is where the joints were commanded to.
    fn stand_tool(&mut self) {
        let Some(tool) = &mut self.tool else { return };
        let joints = &self.numbers[tool.first_axis..][..tool.axes];
        for (q, joint) in self.tool_q.iter_mut().zip(joints) {
            *q = joint.axis.as_ref().map_or(0.0, |axis| axis.motion().p);
        }
        tool.stand(&self.tool_q);
    }

    /// Takes of the tool's steps as much as its own limits allow.
    fn hold_tool(&mut self, wish: Wish<'_>, acts: &mut impl FnMut(Rule)) {
        let Some(tool) = &self.tool else { return };
        if matches!(wish, Wish::Hold { .. }) {
            return;
        }
        let joints = tool.first_axis..tool.first_axis + tool.axes;
        let (steps, axes) = (&mut self.steps[joints.clone()], &self.numbers[joints]);
        let wish = tool.judge(steps);
        let Some(broken) = wish.breaks else { return };
        acts(if broken == Breaks::Speed { Rule::ToolSpeed } else { Rule::ToolWorkspace });
        // The way to rest that lies behind the last command keeps the tool's limits; from it towards what is wished.
        for ((step, [safe, wished]), number) in steps.iter_mut().zip(&mut self.between).zip(axes) {
            *wished = step.motion.dd;
            if let Some(axis) = &number.axis {
                *step = axis.braked();
            }
            *safe = step.motion.dd;
        }
        let rest = tool.judge(steps);
        let (below, above) = (rest.excess.min(0.0), wish.excess);
        let mut bracket = [0.0, 1.0];
        for _ in 0..SEARCHES {
            let share = self.bend.share((-below / (above - below) - NEAR_ENOUGH / 2.0).max(0.0), bracket);
            let mut each = self.tried.iter_mut().zip(&self.between).zip(axes);
            let proven = each.all(|((step, [safe, wished]), number)| {
                let found =
                    number.axis.as_ref().and_then(|axis| axis.step_of(safe + share * (wished - safe)));
                found.map(|found| *step = found).is_some()
            });
            let judged = proven.then(|| tool.judge(&self.tried));
            if let Some(Judged { excess, .. }) = judged {
                self.bend.fit(share, (excess - below) / (above - below));
            }
            match judged.filter(|judged| judged.breaks.is_none()) {
                Some(Judged { excess, .. }) => {
                    bracket[0] = share;
                    steps.copy_from_slice(&self.tried);
                    if -excess <= NEAR_ENOUGH * (above - below) {
                        return;
                    }
                }
                None => bracket[1] = share,
            }
        }
    }
}

/// How what the tool is over its limit bends on the way from a share 0 of what is wished to all of it: taken from 0 to 1 as
/// well, it is (1 - c) share + c share^2.
#[derive(Clone, Copy, Debug, Default)]
struct Bend {
    c: f64,
}

impl Bend {
    /// The share within `bracket` that comes to `height`; its middle where the bend says nothing.
    fn share(self, height: f64, [lower, upper]: [f64; 2]) -> f64 {
        let slope = 1.0 - self.c;
        let share = 2.0 * height / (slope + (slope * slope + 4.0 * self.c * height).max(0.0).sqrt());
        if lower < share && share < upper { share } else { (lower + upper) / 2.0 }
    }

    /// It came to `height` at `share`.
    fn fit(&mut self, share: f64, height: f64) {
        let c = (share - height) / (share - share * share);
        if c.is_finite() {
            self.c = c.clamp(-0.9, 0.9);
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
                Some(self.axis.as_ref().map_or(action[index], |axis| axis.nearest(action[index])))
            }
            (None, Wish::Hold { .. }) => None,
        }
    }
}
