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

use super::axis::Step;
use super::stop::{Reach, larger, lesser};

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
    joints: Vec<Joint>,
    /// Where it was commanded last; a fourth number, always 0, lets a processor take two at a time, here and below.
    at: [f64; 4],
}

/// A number that moves the tool.
#[derive(Clone, Copy, Debug, Default)]
struct Joint {
    /// From it to the tip, stretched out, m.
    lever_m: f64,
    /// Where it was commanded last; and what the tip moves by it there: its column of the Jacobian, parted by the sign.
    q: f64,
    rises: [f64; 4],
    falls: [f64; 4],
}

impl Tool {
    pub(super) fn new(config: &ToolConfig, period_secs: f64) -> Self {
        let limits = &config.limits;
        let chain = (!limits.joints.is_empty()).then(|| chain(limits));
        let mut joints = vec![Joint::default(); limits.axes()];
        let mut reach_m = Vector3::from(limits.tip.xyz).norm();
        for (joint, frame) in joints.iter_mut().zip(&limits.joints).rev() {
            joint.lever_m = reach_m;
            reach_m += Vector3::from(frame.xyz).norm();
        }
        if chain.is_none() {
            for (axis, joint) in joints.iter_mut().enumerate() {
                joint.rises[axis] = 1.0;
            }
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
            at: [0.0; 4],
        }
    }

    /// The stream stands at `q`, or goes on from there.
    pub(super) fn stand(&mut self, q: &[f64]) {
        for (joint, &q) in self.joints.iter_mut().zip(q) {
            joint.q = q;
        }
        let Some(chain) = &self.chain else {
            self.at[..3].copy_from_slice(&q[..3]);
            return;
        };
        let mut frames = [(Vector3::zeros(), Vector3::zeros()); MOST_JOINTS];
        let tip = chain.forward_with(q, |index, origin, axis| frames[index] = (origin, axis));
        let tip = tip.translation.vector;
        for (joint, (origin, axis)) in self.joints.iter_mut().zip(frames) {
            let column = axis.cross(&(tip - origin));
            for (slope, (rises, falls)) in column.iter().zip(joint.rises.iter_mut().zip(&mut joint.falls)) {
                (*rises, *falls) = (slope.max(0.0), slope.min(0.0));
            }
        }
        self.at[..3].copy_from_slice(tip.as_slice());
    }

    /// Whether all `steps` of its joints and the ways to rest behind them keep the tool's limits.
    pub(super) fn judge(&self, steps: &[Step]) -> Judged {
        // Between what the tool comes by, and between what it moves a tick, along each axis.
        let (mut low, mut high) = (self.at, self.at);
        let (mut least, mut most) = ([0.0; 4], [0.0; 4]);
        // What its place and its Jacobian can bend by, with each joint's greatest way from the last command and most that it
        // turns a tick: those of joints before another by its lever, those behind it by their own.
        let (mut bends_m, mut bends_a_tick_m) = (0.0, 0.0);
        let (mut ways, mut speeds) = (0.0, 0.0);
        for (step, joint) in steps.iter().zip(&self.joints) {
            let Reach { p, d, .. } = step.reach;
            let p = p.map(|p| p - joint.q);
            for axis in 0..4 {
                let (rises, falls) = (joint.rises[axis], joint.falls[axis]);
                low[axis] += rises * p[0] + falls * p[1];
                high[axis] += rises * p[1] + falls * p[0];
                least[axis] += rises * d[0] + falls * d[1];
                most[axis] += rises * d[1] + falls * d[0];
            }
            let (way, speed) = (greatest(p), greatest(d));
            bends_m += joint.lever_m * way * (way / 2.0 + ways);
            ways += way;
            bends_a_tick_m += joint.lever_m * (speed * ways + speeds * way);
            speeds += speed;
        }
        let (mut moves, mut is_within, mut excess) = (0.0, true, f64::NEG_INFINITY);
        for axis in 0..3 {
            let (low, high) = (low[axis] - bends_m, high[axis] + bends_m);
            // Outside, as a robot may be found, every way leads inwards.
            let (lowest, highest) =
                (lesser(self.low[axis], self.at[axis]), larger(self.high[axis], self.at[axis]));
            is_within &= low >= lowest && high <= highest;
            excess = larger(excess, larger(high - highest, lowest - low));
            moves += greatest([least[axis], most[axis]]).powi(2);
        }
        let ahead = moves.sqrt() + bends_a_tick_m;
        let is_slow = self.step_m.is_infinite() || ahead <= self.step_m;
        let breaks = match (is_within, is_slow) {
            (false, _) => Some(Breaks::Workspace),
            (true, false) => Some(Breaks::Speed),
            (true, true) => None,
        };
        Judged { breaks, excess: larger(excess, ahead - self.step_m) }
    }
}

/// The greatest size of what lies between the two.
fn greatest([least, most]: [f64; 2]) -> f64 {
    larger(most, -least)
}

/// Joints of a chain at most.
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
