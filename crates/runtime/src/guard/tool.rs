//! The tool's own limits: how fast it goes, and the box that it stays in.
//!
//! Where the tool is follows from the joints. A step is only taken when the tool stays within its limits from there on,
//! through the whole way to rest of every joint. That is judged by upper bounds: to first order by the tool's Jacobian
//! at the last command, each joint anywhere in the span of the step and its way to rest; beyond it by what a chain of
//! revolute joints can bend, since the second derivative of the tool's place by joints i and j is at most the distance
//! from the later one of them to the tool, stretched out.

use nalgebra::{Isometry3, Translation3, Unit, UnitQuaternion, Vector3};
use nudge_control::{Chain, RevoluteJoint};
use serde::{Deserialize, Serialize};

use super::axes::Step;
use super::four::{Four, LANES, side_by_side};

/// `[tool]` of a robot file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolLimits {
    /// The action feature that moves the tool: the joints of the chain, or its place itself (x, y, z first).
    pub action: String,
    /// Greatest speed of the tool's tip, m/s.
    pub speed: Option<f64>,
    /// A box in the frame of the base that the tip stays in, m.
    pub low: Option<[f64; 3]>,
    pub high: Option<[f64; 3]>,
    /// The joints from the base on, as a URDF states them; none when the action is the tool's place.
    #[serde(default)]
    pub joints: Vec<JointFrame>,
    /// The tip in the frame of the last joint.
    #[serde(default)]
    pub tip: Frame,
}

/// Where one frame sits in the one before it, as in a URDF's `<origin>`: m and rad (roll, pitch, yaw).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    #[serde(default)]
    pub xyz: [f64; 3],
    #[serde(default)]
    pub rpy: [f64; 3],
}

/// A revolute joint: its frame, and its axis in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointFrame {
    #[serde(default)]
    pub xyz: [f64; 3],
    #[serde(default)]
    pub rpy: [f64; 3],
    #[serde(default = "vertical")]
    pub axis: [f64; 3],
}

fn vertical() -> [f64; 3] {
    [0.0, 0.0, 1.0]
}

/// The tool's limits, and where in a command its action begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolConfig {
    pub first_axis: usize,
    pub limits: ToolLimits,
}

impl ToolLimits {
    /// How many numbers of the action move the tool.
    pub fn axes(&self) -> usize {
        if self.joints.is_empty() { 3 } else { self.joints.len() }
    }

    /// # Errors
    /// The text names the field and its range.
    pub fn check(&self) -> Result<(), String> {
        if self.speed.is_some_and(|speed| !speed.is_finite() || speed <= 0.0) {
            return Err("`tool.speed` must be finite and above 0".into());
        }
        let (low, high) = self.workspace();
        if self.low.is_some() != self.high.is_some() || (0..3).any(|axis| low[axis] >= high[axis]) {
            return Err("`tool.low` and `tool.high` belong together, low below high".into());
        }
        if self.low.iter().chain(&self.high).flatten().any(|value| !value.is_finite()) {
            return Err("`tool.low` and `tool.high` must be finite".into());
        }
        let numbers = |frame: &JointFrame| [frame.xyz, frame.rpy, frame.axis].concat();
        if self.joints.iter().flat_map(numbers).any(|value| !value.is_finite()) {
            return Err("`tool.joints` must be finite".into());
        }
        if self.joints.iter().any(|joint| Vector3::from(joint.axis).norm() < 1e-6) {
            return Err("`tool.joints`: an `axis` has a length".into());
        }
        if [self.tip.xyz, self.tip.rpy].concat().iter().any(|value| !value.is_finite()) {
            return Err("`tool.tip` must be finite".into());
        }
        Ok(())
    }

    fn workspace(&self) -> ([f64; 3], [f64; 3]) {
        (self.low.unwrap_or([f64::NEG_INFINITY; 3]), self.high.unwrap_or([f64::INFINITY; 3]))
    }
}

/// Which limit of the tool a step would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breaks {
    Speed,
    Workspace,
}

/// What is known of a step's way to rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judged {
    pub breaks: Option<Breaks>,
    /// How far it is over the limit that it breaks most, m or m a tick; below 0 when it keeps all. It guides a search and
    /// decides nothing.
    pub excess: f64,
}

/// The tool as the guard follows it.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub first_axis: usize,
    pub axes: usize,
    /// Most that it moves a tick, m.
    pub step_m: f64,
    pub low: [f64; 3],
    pub high: [f64; 3],
    /// None when the action is its place.
    chain: Option<Chain>,
    joints: Vec<Joints>,
    /// Where it was commanded last.
    at: [f64; 3],
}

/// Four of the numbers that move the tool; those that are missing of the last four do not move it.
#[derive(Clone, Copy, Debug, Default)]
struct Joints {
    /// From each to the tip, stretched out, m.
    levers_m: [f64; LANES],
    /// Where they were commanded last; and what the tip moves by each there, along x, y and z: their columns of the Jacobian,
    /// parted by the sign.
    q: Four,
    rises: [Four; 3],
    falls: [Four; 3],
}

impl Joints {
    fn set_columns(&mut self, column: impl Fn(usize) -> Vector3<f64>) {
        for axis in 0..3 {
            let slopes = side_by_side(|lane| column(lane)[axis]);
            (self.rises[axis], self.falls[axis]) = (slopes.fast_max(Four::ZERO), slopes.fast_min(Four::ZERO));
        }
    }
}

impl Tool {
    pub(super) fn new(config: &ToolConfig, period_secs: f64) -> Self {
        let limits = &config.limits;
        let chain = (!limits.joints.is_empty()).then(|| chain(limits));
        let mut joints = vec![Joints::default(); limits.axes().div_ceil(LANES)];
        let mut reach_m = Vector3::from(limits.tip.xyz).norm();
        for (index, frame) in limits.joints.iter().enumerate().rev() {
            joints[index / LANES].levers_m[index % LANES] = reach_m;
            reach_m += Vector3::from(frame.xyz).norm();
        }
        if chain.is_none() {
            joints[0].set_columns(|lane| Vector3::from_fn(|axis, _| f64::from(u8::from(axis == lane))));
        }
        let (low, high) = limits.workspace();
        Self {
            first_axis: config.first_axis,
            axes: limits.axes(),
            step_m: limits.speed.map_or(f64::INFINITY, |speed| speed * period_secs),
            low,
            high,
            chain,
            joints,
            at: [0.0; 3],
        }
    }

    /// How many times four numbers move it.
    pub(super) fn fours(&self) -> usize {
        self.joints.len()
    }

    /// The stream stands at `q`, or goes on from there.
    pub(super) fn stand(&mut self, q: &[f64]) {
        for (joints, q) in self.joints.iter_mut().zip(q.chunks(LANES)) {
            joints.q = side_by_side(|lane| q[lane.min(q.len() - 1)]);
        }
        let Some(chain) = &self.chain else {
            self.at.copy_from_slice(&q[..3]);
            return;
        };
        let mut frames = [(Vector3::zeros(), Vector3::zeros()); MOST_JOINTS];
        let tip = chain.forward_with(q, |index, origin, axis| frames[index] = (origin, axis));
        let tip = tip.translation.vector;
        for (joints, frames) in self.joints.iter_mut().zip(frames.chunks(LANES)) {
            joints.set_columns(|lane| frames[lane].1.cross(&(tip - frames[lane].0)));
        }
        self.at = tip.into();
    }

    /// Whether all `steps` of its numbers, four by four, and the ways to rest behind them keep the tool's limits.
    pub(super) fn judge<'a>(&self, steps: impl Iterator<Item = &'a Step>) -> Judged {
        // Between what the tool comes by from here, and between what it moves a tick, along each axis.
        let [mut low, mut high, mut least, mut most] = [[Four::ZERO; 3]; 4];
        // What its place and its Jacobian can bend by, with each joint's greatest way from the last command and most that it
        // turns a tick: those of joints before another by its lever, those behind it by their own.
        let (mut bends_m, mut bends_a_tick_m) = (0.0, 0.0);
        let (mut ways, mut speeds) = (0.0, 0.0);
        for (step, joints) in steps.zip(&self.joints) {
            let d = step.reach.d;
            let p = step.reach.p.map(|p| p - joints.q);
            for axis in 0..3 {
                let (rises, falls) = (joints.rises[axis], joints.falls[axis]);
                low[axis] += rises * p[0] + falls * p[1];
                high[axis] += rises * p[1] + falls * p[0];
                least[axis] += rises * d[0] + falls * d[1];
                most[axis] += rises * d[1] + falls * d[0];
            }
            let (way, speed) = (p[1].fast_max(-p[0]).to_array(), d[1].fast_max(-d[0]).to_array());
            for (lever_m, (way, speed)) in joints.levers_m.into_iter().zip(way.into_iter().zip(speed)) {
                bends_m += lever_m * way * (way / 2.0 + ways);
                ways += way;
                bends_a_tick_m += lever_m * (speed * ways + speeds * way);
                speeds += speed;
            }
        }
        let (mut moves, mut is_within, mut excess) = (0.0, true, f64::NEG_INFINITY);
        for axis in 0..3 {
            let at = self.at[axis];
            let (low, high) = (at + low[axis].reduce_add() - bends_m, at + high[axis].reduce_add() + bends_m);
            // Outside, as a robot may be found, every way leads inwards.
            let (lowest, highest) = (self.low[axis].min(at), self.high[axis].max(at));
            is_within &= low >= lowest && high <= highest;
            excess = f64::max(excess, (high - highest).max(lowest - low));
            moves += most[axis].reduce_add().max(-least[axis].reduce_add()).powi(2);
        }
        let ahead = moves.sqrt() + bends_a_tick_m;
        let is_slow = self.step_m.is_infinite() || ahead <= self.step_m;
        let breaks = match (is_within, is_slow) {
            (false, _) => Some(Breaks::Workspace),
            (true, false) => Some(Breaks::Speed),
            (true, true) => None,
        };
        Judged { breaks, excess: excess.max(ahead - self.step_m) }
    }
}

/// Joints of a chain at most; a multiple of [`LANES`].
pub(crate) const MOST_JOINTS: usize = 16;

fn chain(limits: &ToolLimits) -> Chain {
    let joint = |joint: &JointFrame| RevoluteJoint {
        parent_from_joint: pose(joint.xyz, joint.rpy),
        axis: Unit::new_normalize(Vector3::from(joint.axis)),
        lower: f64::NEG_INFINITY,
        upper: f64::INFINITY,
        velocity: f64::INFINITY,
    };
    Chain {
        joints: limits.joints.iter().map(joint).collect(),
        last_from_tool: pose(limits.tip.xyz, limits.tip.rpy),
    }
}

fn pose(xyz: [f64; 3], rpy: [f64; 3]) -> Isometry3<f64> {
    let [roll, pitch, yaw] = rpy;
    Isometry3::from_parts(
        Translation3::from(Vector3::from(xyz)),
        UnitQuaternion::from_euler_angles(roll, pitch, yaw),
    )
}
