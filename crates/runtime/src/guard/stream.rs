//! The stream of commands: every number of it under its own limits, and the tool under all of them.
//!
//! A stream is what a robot sees: one position every period. Its velocity, acceleration and jerk are the differences of
//! its commands by the nominal period. A tick that is a little early or late makes the same step; one that comes sooner
//! than the rate allows repeats the last command; after a gap of several periods, in which the robot has come to a stop
//! at the last command, the stream begins again there, at rest.

use std::time::Duration;

use nudge_control::ActionMode;

use super::axes::Acted;
use super::config::{AxisConfig, GuardConfig};
use super::four::Four;
use super::numbers::{Number, Numbers};
use super::rules::Rule;
use super::tool::{Breaks, Tool};
use super::tool_search::ToolSearch;

/// After so many periods without a command the robot stands still.
const STILL_AFTER: u32 = 4;

/// The commands of one guard.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    numbers: Vec<Number>,
    /// Those without a limit on acceleration.
    plain: Vec<Plain>,
    /// The others; first those that move the tool.
    fours: Vec<Numbers>,
    tool: Option<Tool>,
    period: Duration,
    /// Until when the next step of the stream is not due, but for a quarter of a period.
    due: Duration,
    /// Of the last command of this stream; none after a silence.
    last_at: Option<Duration>,
    ever_sent: bool,
    command: Vec<f64>,
    /// Where each number of this stream began.
    began: Vec<f64>,
    tool_search: ToolSearch,
    #[cfg(test)]
    off: Option<Rule>,
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
        let number =
            |axis: &AxisConfig| Number { config: *axis, limits: axis.tick_limits(config.period_secs) };
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
        let numbers: Vec<Number> = config.axes.iter().map(number).collect();
        let tool = config.tool.as_ref().map(|tool| Tool::new(tool, config.period_secs));
        Self {
            fours: Numbers::four_by_four(&numbers, tool.as_ref()),
            numbers,
            plain: config.axes.iter().enumerate().filter_map(plain).collect(),
            tool,
            period: config.period(),
            due: Duration::ZERO,
            last_at: None,
            ever_sent: false,
            command: vec![0.0; dim],
            began: vec![0.0; dim],
            tool_search: ToolSearch::default(),
            #[cfg(test)]
            off: None,
        }
    }

    /// Takes a rule out, for a test to see that something fails without it.
    #[cfg(test)]
    pub(super) fn take_out(&mut self, rule: Rule) {
        self.off = Some(rule);
        for limits in self.numbers.iter_mut().filter_map(|number| number.limits.as_mut()) {
            match rule {
                Rule::PositionLimit => (limits.low, limits.high) = (-1e3, 1e3),
                Rule::VelocityLimit => limits.d *= 1e3,
                Rule::AccelerationLimit => limits.dd *= 1e3,
                Rule::JerkLimit => limits.ddd = 2.0 * limits.dd,
                _ => {}
            }
        }
        self.fours = Numbers::four_by_four(&self.numbers, self.tool.as_ref());
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
        if !self.fours.is_empty() {
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
        for (index, number) in self.numbers.iter().enumerate() {
            let last = self.ever_sent.then_some(self.command[index]);
            let Some(from) = number.beginning(index, wish, measured, last) else { return false };
            self.began[index] = from;
        }
        for four in &mut self.fours {
            four.axes.start(four.of(&self.began));
        }
        if let Some(tool) = &mut self.tool {
            tool.stand(&self.began[tool.first_axis..][..tool.axes]);
        }
        true
    }

    /// The numbers that are brought to rest ahead of their limits, in the stream's own time.
    fn shape(&mut self, now: Duration, wish: Wish<'_>, starts: bool, acts: &mut impl FnMut(Rule)) -> Acted {
        let still = self.last_at.is_some_and(|last| now.saturating_sub(last) > self.period * STILL_AFTER);
        if !starts && !still && self.is_early(now) {
            for four in &self.fours {
                let again = four.of(&self.command);
                four.put(!four.deltas & again, &mut self.command);
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
        self.shaped(wish, acts)
    }

    fn stand_still(&mut self) {
        for four in &mut self.fours {
            four.axes.start(!four.deltas & four.axes.motion().p);
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
    fn shaped(&mut self, wish: Wish<'_>, acts: &mut impl FnMut(Rule)) -> Acted {
        let mut acted = Acted::default();
        for four in &mut self.fours {
            let (step, limited) = match wish {
                Wish::Follow(action) => four.axes.follow(four.of(action), !Four::ZERO),
                Wish::Hold { .. } => four.axes.follow(Four::ZERO, four.deltas),
            };
            four.step = step;
            acted = acted.or(limited);
        }
        if let (Some(tool), Wish::Follow(_)) = (&self.tool, wish)
            && let Some(broken) = self.tool_search.hold(tool, &mut self.fours[..tool.fours()])
        {
            acts(if broken == Breaks::Speed { Rule::ToolSpeed } else { Rule::ToolWorkspace });
        }
        for four in &mut self.fours {
            four.axes.take(&four.step);
            four.put(four.axes.motion().p, &mut self.command);
        }
        if let Some(tool) = &mut self.tool {
            tool.stand(&self.command[tool.first_axis..][..tool.axes]);
        }
        acted
    }
}
