//! Whatever can be sent to a guard, millions of ticks of it, judged by an observer of its commands.

use super::checker::{Checker, Law, ToolLaw};
use super::*;

/// Uniform numbers and choices from a seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn bits(&mut self) -> u64 {
        self.0 = nudge_control::split_mix_64(self.0);
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Between two powers of ten.
    pub fn scale(&mut self, low: f64, high: f64) -> f64 {
        10_f64.powf(self.between(low, high))
    }

    fn nasty(&mut self) -> f64 {
        let bits = self.bits();
        match bits % 10 {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            3 => f64::MAX,
            4 => f64::MIN,
            5 => f64::from_bits(bits),
            6 => -0.0,
            7 => f64::MIN_POSITIVE,
            _ => self.between(-3.0, 3.0),
        }
    }
}

/// Limits from wide to very tight, some without acceleration or jerk; a robot of one to five numbers.
pub fn random_config(dice: &mut Dice) -> GuardConfig {
    let period_secs = [0.001, 0.002, 0.005, 0.02, 0.1][dice.below(5) as usize];
    let arm = dice.below(4);
    let dim = if arm < 2 { 3 } else { 1 + dice.below(4) as usize };
    let mut axis = |index: usize| {
        let tooled = arm < 2 && index < 3;
        let delta = !tooled && dice.one_in(5);
        let velocity = dice.scale(-2.0, 1.0);
        let acceleration = (tooled || !dice.one_in(6)).then(|| velocity * dice.scale(-0.5, 3.0));
        let jerk = acceleration.filter(|_| !dice.one_in(5)).map(|most| most * dice.scale(-0.5, 3.5));
        let (low, size) = if tooled {
            (dice.between(-2.0, -0.5), 3.0)
        } else {
            (dice.between(-2.0, 1.0), dice.scale(-3.0, 1.0))
        };
        AxisConfig {
            mode: if delta { ActionMode::Delta } else { ActionMode::Absolute },
            low: if delta { -dice.scale(-3.0, 0.0) } else { low },
            high: if delta { dice.scale(-3.0, 0.0) } else { low + size },
            velocity: acceleration.map(|_| velocity).or((!dice.one_in(3)).then_some(velocity)),
            acceleration,
            jerk,
            measured_by: (!delta && (tooled || !dice.one_in(4))).then_some(index),
        }
    };
    let mut axes: Vec<AxisConfig> = (0..dim).map(&mut axis).collect();
    if dice.one_in(20) {
        axes[0].high = axes[0].low.max(0.0);
        axes[0].low = axes[0].high.min(0.0);
    }
    let mut place = |size: f64| -> [f64; 3] { std::array::from_fn(|_| dice.between(-size, size)) };
    let joint = |xyz, axis| JointFrame { xyz, rpy: [0.0; 3], axis };
    let joints: Vec<_> = (0..3).map(|_| joint(place(0.4), place(1.0))).collect();
    let tip = Frame { xyz: place(0.2), rpy: [0.0; 3] };
    let tool = (arm < 2).then(|| ToolConfig {
        first_axis: 0,
        limits: ToolLimits {
            action: "joints".into(),
            speed: (!dice.one_in(4)).then(|| dice.scale(-2.0, 0.5)),
            low: Some([-0.5, -0.4, -0.6]),
            high: Some([0.5, 0.6, 0.7]),
            joints: if arm == 0 { joints } else { Vec::new() },
            tip,
        },
    });
    GuardConfig {
        axes,
        period_secs,
        staleness_secs: (!dice.one_in(5)).then(|| f64::max(0.1, 2.5 * period_secs)),
        resume_after: 1 + dice.below(4) as u32,
        stamp_skew_secs: dice.one_in(3).then_some(0.5),
        hold_on_alarm: dice.one_in(2),
        tool,
    }
}

/// The same limits, for the observer.
pub fn checker(config: &GuardConfig) -> Checker {
    let law = |axis: &AxisConfig| Law {
        delta: axis.mode == ActionMode::Delta,
        low: axis.low,
        high: axis.high,
        velocity: axis.velocity.unwrap_or(f64::INFINITY),
        acceleration: axis.acceleration,
        jerk: axis.jerk.unwrap_or(f64::INFINITY),
        measured: axis.measured_by.is_some(),
    };
    let tool = config.tool.as_ref().map(|tool| ToolLaw {
        speed: tool.limits.speed.unwrap_or(f64::INFINITY),
        low: tool.limits.low.unwrap_or([f64::NEG_INFINITY; 3]),
        high: tool.limits.high.unwrap_or([f64::INFINITY; 3]),
        joints: tool.limits.joints.iter().map(|joint| (joint.xyz, joint.axis)).collect(),
        tip: tool.limits.tip.xyz,
    });
    Checker::new(config.axes.iter().map(law).collect(), tool, Duration::from_secs_f64(config.period_secs))
}

/// One robot, and somebody who wishes it ill.
pub struct Story {
    pub guard: Guard,
    pub checker: Checker,
    dice: Dice,
    now: Duration,
    measured: Vec<f64>,
    proposed: Vec<f64>,
    /// How proposals move: a way each tick, or jumps.
    habit: u64,
    way: Vec<f64>,
    phase: f64,
}

impl Story {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let config = random_config(&mut dice);
        let dim = config.axes.len();
        let checker = checker(&config);
        let mut story = Self {
            guard: Guard::with(config),
            checker,
            dice,
            now: Duration::ZERO,
            measured: vec![0.0; dim],
            proposed: vec![0.0; dim],
            habit: 0,
            way: vec![0.0; dim],
            phase: 0.0,
        };
        story.found_somewhere();
        story
    }

    /// The robot is found anywhere, one in four times perhaps outside of its limits.
    fn found_somewhere(&mut self) {
        let beyond = if self.dice.one_in(4) { 0.4 } else { 0.0 };
        for (place, axis) in self.measured.iter_mut().zip(&self.guard.config().axes) {
            let room = beyond * (axis.high - axis.low);
            *place = self.dice.between(axis.low - room, axis.high + room);
        }
    }

    fn observe(&mut self) {
        let skew = if self.dice.one_in(50) { self.dice.nasty() } else { 0.0 };
        if self.dice.one_in(100) {
            let mut bad = self.measured.clone();
            bad[0] = f64::NAN;
            let _refused = self.guard.observe_stamped(self.now, skew, &bad);
        } else if self.guard.observe_stamped(self.now, skew, &self.measured).is_err() {
            // What was refused was not measured.
            self.measured.clone_from(&self.guard.measured);
        }
    }

    fn propose(&mut self) {
        if self.dice.one_in(60) {
            self.habit = self.dice.below(8);
            for way in &mut self.way {
                *way = self.dice.between(-1.0, 1.0);
            }
        }
        self.phase += 0.01;
        let period = self.guard.config().period_secs;
        for (index, axis) in self.guard.config().axes.iter().enumerate() {
            let (middle, size) = ((axis.low + axis.high) / 2.0, axis.high - axis.low);
            let fast = axis.velocity.unwrap_or(1.0) * period;
            let value = &mut self.proposed[index];
            match self.habit {
                0 => *value = middle + self.dice.between(-1.0, 1.0) * size,
                1 => *value = middle + size * self.way[index],
                2 => *value = (*value + fast * self.way[index]).clamp(axis.low, axis.high),
                3 => *value += 1.5 * fast * self.way[index],
                4 => *value = middle + 0.6 * size * (self.phase + index as f64).sin(),
                5 => *value = if self.way[index] > 0.0 { axis.high } else { axis.low },
                6 if self.dice.one_in(30) => *value = middle + self.dice.between(-0.6, 0.6) * size,
                7 => *value = self.dice.nasty(),
                _ => {}
            }
            if self.habit != 7 && !value.is_finite() {
                *value = middle;
            }
        }
    }

    fn pass_time(&mut self) {
        let period = self.guard.config().period_secs;
        let periods = match self.dice.below(400) {
            0 => self.dice.between(0.0, 12.0),
            1 => self.dice.between(0.0, 0.5),
            2 => 200.0,
            3 => 0.0,
            _ => self.dice.between(0.9, 1.1),
        };
        self.now += Duration::from_secs_f64(period * periods);
    }

    /// One tick, and what comes before it.
    pub fn tick(&mut self) -> Result<(), String> {
        self.pass_time();
        match self.dice.below(2000) {
            0 => self.guard.stop(),
            1..=20 => {
                let _latched = self.guard.release(self.now);
            }
            21 | 22 => {
                self.guard.reset();
                self.checker.silence();
                self.found_somewhere();
            }
            23 => {
                self.guard.publisher_changed();
                self.checker.silence();
                self.found_somewhere();
            }
            24..=60 => self.guard.heartbeat(self.now),
            61 => self.guard.alarm(true),
            62..=80 => self.guard.alarm(false),
            _ => {}
        }
        if !self.dice.one_in(10) {
            self.observe();
        }
        self.propose();
        let proposed = match self.dice.below(100) {
            0 => Err(Missing::UsedUp),
            1 => Err(Missing::Failed),
            2 => Err(Missing::FirstPlan),
            3 => Ok(&self.proposed[1..]),
            _ if self.habit == 6 && self.way[0] > 0.7 => Err(Missing::UsedUp),
            _ => Ok(&self.proposed[..]),
        };
        // Where a stream would begin.
        let measured = self.guard.measured.clone();
        let verdict = self.guard.tick(self.now, proposed);
        let runs = verdict.state == State::Run;
        let told = self.checker.take(self.now, verdict.command, &measured, runs);
        told.map_err(|problem| format!("{problem}, in {:?}", verdict.state))
    }
}

/// `ticks` of adversity in stories of 20,000 ticks.
fn adversity(first_seed: u64, ticks: u64) {
    let (mut sent, mut moved) = (0, 0);
    for seed in first_seed..first_seed + ticks.div_ceil(STORY_TICKS) {
        let mut story = Story::new(seed);
        for tick in 0..STORY_TICKS {
            if let Err(problem) = story.tick() {
                panic!("story {seed}, tick {tick}: {problem}\n{:?}", story.guard.config());
            }
        }
        sent += story.checker.sent;
        moved += story.checker.moved;
    }
    println!("{ticks} ticks: {sent} commands, {moved} steps of limited numbers that moved");
    assert!(sent > ticks / 2 && moved > ticks / 2, "{sent} commands, {moved} steps that moved");
}

const STORY_TICKS: u64 = 20_000;

#[test]
fn a_million_ticks_of_adversity_get_no_command_out_of_its_limits() {
    adversity(1, 1_000_000);
}

#[test]
#[ignore = "takes a minute; its first tenth is the test above"]
fn ten_million_ticks_of_adversity_get_no_command_out_of_its_limits() {
    adversity(1, 10_000_000);
}
