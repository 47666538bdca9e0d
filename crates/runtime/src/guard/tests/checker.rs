//! An observer of a command stream that knows the limits and nothing of the guard: it takes differences of what was sent.

use std::time::Duration;

/// The limits of one number of a command, in its unit and seconds.
#[derive(Clone, Copy, Debug)]
pub struct Law {
    pub delta: bool,
    pub low: f64,
    pub high: f64,
    pub velocity: f64,
    /// Without one, only the velocity is limited, by the time that passed.
    pub acceleration: Option<f64>,
    pub jerk: f64,
    pub measured: bool,
}

/// The limits of the tool: revolute joints from the first number on, or none when the first three numbers are its place.
#[derive(Clone, Debug)]
pub struct ToolLaw {
    pub speed: f64,
    pub low: [f64; 3],
    pub high: [f64; 3],
    /// Each joint's place in the frame before it (m) and its axis there; and the tip in the last.
    pub joints: Vec<([f64; 3], [f64; 3])>,
    pub tip: [f64; 3],
}

impl ToolLaw {
    /// The tip: each joint in turn rotates all that hangs on it (Rodrigues).
    pub fn place(&self, q: &[f64]) -> [f64; 3] {
        if self.joints.is_empty() {
            return [q[0], q[1], q[2]];
        }
        let mut at = self.tip;
        for ((place, axis), angle) in self.joints.iter().zip(q).rev() {
            let length = axis.iter().map(|x| x * x).sum::<f64>().sqrt();
            let k = axis.map(|x| x / length);
            let (sin, cos) = angle.sin_cos();
            let along = (k[0] * at[0] + k[1] * at[1] + k[2] * at[2]) * (1.0 - cos);
            let across =
                [k[1] * at[2] - k[2] * at[1], k[2] * at[0] - k[0] * at[2], k[0] * at[1] - k[1] * at[0]];
            at = std::array::from_fn(|i| at[i] * cos + across[i] * sin + k[i] * along + place[i]);
        }
        at
    }
}

/// What was sent so far.
pub struct Checker {
    pub laws: Vec<Law>,
    pub tool: Option<ToolLaw>,
    period: Duration,
    /// Of each number: the last three commands of this stream, newest first, and where the stream began.
    last: Vec<[f64; 3]>,
    began: Vec<f64>,
    tool_at: [f64; 3],
    tool_began: [f64; 3],
    sent_at: Option<Duration>,
    due: Duration,
    /// Ticks in a row that were to slow down.
    holding: u32,
    pub sent: u64,
    pub moved: u64,
}

impl Checker {
    pub fn new(laws: Vec<Law>, tool: Option<ToolLaw>, period: Duration) -> Self {
        let dim = laws.len();
        Self {
            laws,
            tool,
            period,
            last: vec![[0.0; 3]; dim],
            began: vec![0.0; dim],
            tool_at: [0.0; 3],
            tool_began: [0.0; 3],
            sent_at: None,
            due: Duration::ZERO,
            holding: 0,
            sent: 0,
            moved: 0,
        }
    }

    /// The stream ends: the next command begins another.
    pub fn silence(&mut self) {
        self.sent_at = None;
    }

    /// A command sent at `now`, or none; `measured` is where the robot was last seen, and `runs` whether a proposal was
    /// to be followed.
    pub fn take(
        &mut self,
        now: Duration,
        command: Option<&[f64]>,
        measured: &[f64],
        runs: bool,
    ) -> Result<(), String> {
        let Some(command) = command else {
            self.silence();
            return Ok(());
        };
        self.sent += 1;
        if command.len() != self.laws.len() || command.iter().any(|value| !value.is_finite()) {
            return Err(format!("not a command: {command:?}"));
        }
        let period_secs = self.period.as_secs_f64();
        let elapsed = self.sent_at.map_or(self.period, |at| (now - at).min(self.period)).as_secs_f64();
        let begins = self.sent_at.is_none();
        let still = self.sent_at.is_some_and(|at| now - at > self.period * 4);
        let early = !begins && !still && now + self.period / 4 < self.due;
        if !early {
            self.due = if begins || still {
                now + self.period
            } else {
                (self.due + self.period).max(now + self.period * 3 / 4)
            };
        }
        self.holding = if runs || begins || still { 0 } else { self.holding + u32::from(!early) };
        for (index, law) in self.laws.iter().enumerate() {
            let value = command[index];
            let last = &mut self.last[index];
            if begins {
                // What nobody measures begins where it was sent last, or where it is sent first.
                let sent = if self.sent > 1 { last[0] } else { value };
                let from = if law.measured { measured[index] } else { sent };
                *last = [if law.delta { 0.0 } else { from }; 3];
                self.began[index] = last[0];
            }
            if still && law.acceleration.is_some() {
                *last = [if law.delta { 0.0 } else { last[0] }; 3];
            }
            let before = *last;
            let place =
                |what: &str| Err(format!("number {index}, {law:?}: {what}: {value} after {before:?}"));
            let Some(acceleration) = law.acceleration else {
                if value < law.low || value > law.high {
                    return place("position");
                }
                let from = if law.delta { 0.0 } else { last[0].clamp(law.low, law.high) };
                let known = law.delta || law.measured || !begins;
                if known && (value - from).abs() > law.velocity * elapsed + 1e-12 * (1.0 + value.abs()) {
                    return place("velocity");
                }
                *last = [value, last[0], last[1]];
                continue;
            };
            if early {
                if value != if law.delta { 0.0 } else { last[0] } {
                    return place("sooner than the rate allows, and moved");
                }
                continue;
            }
            // A robot that was found outside may only come back.
            let (low, high) = (law.low.min(last[0]), law.high.max(last[0]));
            let room = 1e-9 * (law.high.abs().max(law.low.abs()));
            if value < low - room
                || value > high + room
                || (value < law.low && value < self.began[index] - room)
                || (value > law.high && value > self.began[index] + room)
            {
                return place("position");
            }
            let [one, two, three] = *last;
            let first = value - one;
            let second = value - 2.0 * one + two;
            let third = value - 3.0 * one + 3.0 * two - three;
            let (h, h2, h3) = (period_secs, period_secs.powi(2), period_secs.powi(3));
            // Of a delta, the command is the first difference.
            let rates = if law.delta {
                [(value, law.velocity * h), (first, acceleration * h2), (second, law.jerk * h3)]
            } else {
                [(first, law.velocity * h), (second, acceleration * h2), (third, law.jerk * h3)]
            };
            // Commands are rounded to 2^-53 of their size, and a third difference takes eight such roundings.
            let rounding = 16.0 * f64::EPSILON * last.iter().fold(value.abs(), |most, x| most.max(x.abs()));
            for ((rate, limit), name) in rates.into_iter().zip(["velocity", "acceleration", "jerk"]) {
                if rate.abs() > limit * (1.0 + 1e-9) + rounding {
                    return place(&format!("{name} {rate:e} of {limit:e}"));
                }
            }
            self.moved += u64::from(first != 0.0);
            // From the greatest speed and acceleration, the quickest way to rest, and the ticks that rounding adds.
            let jerk = law.jerk.min(2.0 * acceleration / h);
            let slow_secs = law.velocity / acceleration + 3.0 * acceleration / jerk;
            if !law.delta && f64::from(self.holding) > slow_secs / h + 12.0 && value != one {
                return place("does not come to rest");
            }
            *last = [value, one, two];
        }
        self.check_tool(command, begins, early)?;
        self.sent_at = Some(now);
        Ok(())
    }

    fn check_tool(&mut self, command: &[f64], begins: bool, early: bool) -> Result<(), String> {
        let Some(tool) = &self.tool else { return Ok(()) };
        if begins {
            self.tool_began = tool.place(&self.began);
            self.tool_at = self.tool_began;
        }
        if early {
            return Ok(());
        }
        let at = tool.place(command);
        let moved = (0..3).map(|axis| (at[axis] - self.tool_at[axis]).powi(2)).sum::<f64>().sqrt();
        if moved > tool.speed * self.period.as_secs_f64() * (1.0 + 1e-9) + 1e-12 {
            return Err(format!("the tool moves {moved} m in a tick, with {tool:?}"));
        }
        for axis in 0..3 {
            let low = tool.low[axis].min(self.tool_began[axis]) - 1e-9;
            let high = tool.high[axis].max(self.tool_began[axis]) + 1e-9;
            if at[axis] < low || at[axis] > high {
                return Err(format!("the tool is at {at:?}, began at {:?}, with {tool:?}", self.tool_began));
            }
        }
        self.tool_at = at;
        Ok(())
    }
}
