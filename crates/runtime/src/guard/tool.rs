//! The tool's own limits: how fast it goes, and the box that it stays in.
//!
//! Where the tool is follows from the joints. A step is only taken when the tool stays within its limits from there on,
//! through the whole way to rest of every joint. That is judged by upper bounds: to first order by the tool's Jacobian
//! at the step, each joint anywhere in the span of its way to rest; beyond it by what a chain of revolute joints can
//! bend, since the second derivative of the tool's place by joints i and j is at most the distance from the later one of
//! them to the tool, stretched out.

use nalgebra::{Isometry3, Translation3, Unit, UnitQuaternion, Vector3};
use nudge_control::{Chain, RevoluteJoint};
use serde::{Deserialize, Serialize};

use super::axis::Step;

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
    /// From each joint to the tip, stretched out, m.
    levers_m: Vec<f64>,
    /// Where it was commanded last.
    at: Vector3<f64>,
    /// Where the steps lead that kept its limits when judged last.
    allowed: Option<Vector3<f64>>,
    /// Of joint turns to the tip, a column a joint; and their axes' places while it is computed.
    jacobian: Vec<Vector3<f64>>,
}

impl Tool {
    pub(super) fn new(config: &ToolConfig, period_secs: f64) -> Self {
        let limits = &config.limits;
        let chain = (!limits.joints.is_empty()).then(|| chain(limits));
        let mut levers_m = vec![0.0; limits.axes()];
        let mut reach_m = Vector3::from(limits.tip.xyz).norm();
        for (lever, joint) in levers_m.iter_mut().zip(&limits.joints).rev() {
            *lever = reach_m;
            reach_m += Vector3::from(joint.xyz).norm();
        }
        let (low, high) = limits.workspace();
        let axis = |index: usize| {
            let mut column = Vector3::zeros();
            if chain.is_none() {
                column[index] = 1.0;
            }
            column
        };
        Self {
            first_axis: config.first_axis,
            axes: limits.axes(),
            step_m: limits.speed.map_or(f64::INFINITY, |speed| speed * period_secs),
            low,
            high,
            jacobian: (0..limits.axes()).map(axis).collect(),
            chain,
            levers_m,
            at: Vector3::zeros(),
            allowed: None,
        }
    }

    /// Where the tool is with the joints at `q`; the Jacobian is then that of `q`.
    pub(super) fn place(&mut self, q: &[f64]) -> Vector3<f64> {
        let Some(chain) = &self.chain else { return Vector3::new(q[0], q[1], q[2]) };
        let jacobian = &mut self.jacobian;
        let mut origins = [Vector3::zeros(); MOST_JOINTS];
        let tip = chain.forward_with(q, |index, origin, axis| {
            jacobian[index] = axis;
            origins[index] = origin;
        });
        let tip = tip.translation.vector;
        for (column, origin) in jacobian.iter_mut().zip(origins) {
            *column = column.cross(&(tip - origin));
        }
        tip
    }

    /// The stream stands at `q`.
    pub(super) fn stand(&mut self, q: &[f64]) {
        self.at = self.place(q);
        self.allowed = None;
    }

    /// The stream takes the steps that were judged and allowed last, or where none were, to `q`.
    pub(super) fn take(&mut self, q: &[f64]) {
        match self.allowed.take() {
            Some(at) => self.at = at,
            None => self.stand(q),
        }
    }

    /// Whether all `steps` of its joints, to positions `q`, and the ways to rest behind them keep the tool's limits.
    pub(super) fn judge(&mut self, q: &[f64], steps: &[Step]) -> Judged {
        let at = self.place(q);
        // The greatest way of each joint from here on and most that it turns a tick, and what the tool's place and Jacobian
        // can bend by them: those of joints before another by its lever, those behind it by their own.
        let (mut bends_m, mut turned) = (0.0, 0.0);
        let (mut bends_a_tick_m, mut ticks_before, mut speed_before) = (0.0, 0.0, 0.0);
        for (step, lever) in steps.iter().zip(&self.levers_m) {
            let way = (step.reach.p[1] - step.motion.p).max(step.motion.p - step.reach.p[0]);
            let speed = step.reach.d[1].max(-step.reach.d[0]);
            bends_m += lever * way * (way / 2.0 + turned);
            turned += way;
            let ticks = way + speed;
            bends_a_tick_m += lever * (speed * (ticks_before + ticks) + speed_before * ticks);
            ticks_before += ticks;
            speed_before += speed;
        }
        let (mut moves, mut is_within, mut excess) = (Vector3::zeros(), true, f64::NEG_INFINITY);
        for axis in 0..3 {
            let (mut high, mut low) = (at[axis] + bends_m, at[axis] - bends_m);
            let (mut most, mut least) = (0.0_f64, 0.0_f64);
            for (index, step) in steps.iter().enumerate() {
                let slope = self.jacobian[index][axis];
                let ends = step.reach.p.map(|p| slope * (p - step.motion.p));
                high += ends[0].max(ends[1]).max(0.0);
                low += ends[0].min(ends[1]).min(0.0);
                let speeds = step.reach.d.map(|d| slope * d);
                most += speeds[0].max(speeds[1]).max(0.0);
                least += speeds[0].min(speeds[1]).min(0.0);
            }
            moves[axis] = most.max(-least);
            // Outside, as a robot may be found, every way leads inwards.
            let (highest, lowest) = (self.high[axis].max(self.at[axis]), self.low[axis].min(self.at[axis]));
            is_within &= high <= highest && low >= lowest;
            excess = excess.max(high - highest).max(lowest - low);
        }
        let (now, ahead) = ((at - self.at).norm(), moves.norm() + bends_a_tick_m);
        let is_slow = self.step_m.is_infinite() || (now <= self.step_m && ahead <= self.step_m);
        let breaks = match (is_within, is_slow) {
            (false, _) => Some(Breaks::Workspace),
            (true, false) => Some(Breaks::Speed),
            (true, true) => None,
        };
        if breaks.is_none() {
            self.allowed = Some(at);
        }
        Judged { breaks, excess: excess.max(now.max(ahead) - self.step_m) }
    }
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
