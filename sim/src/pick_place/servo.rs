//! From an action to what the motors are told, 500 times a second.

use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector3};
use nudge_control::IkOptions;

use super::config::{ActionKind, MAX_OPENING_M, POSE_HIGH, POSE_LOW};
use super::physics::DT_SECS;
use super::robot::{ARM_JOINTS, ArmModel, SPEED_SHARE};

/// Posture that the arm's spare freedom is spent on, rad.
pub(crate) const NEUTRAL_RAD: [f64; ARM_JOINTS] = [
    0.0,
    -std::f64::consts::FRAC_PI_4,
    0.0,
    -3.0 * std::f64::consts::FRAC_PI_4,
    0.0,
    std::f64::consts::FRAC_PI_2,
    std::f64::consts::FRAC_PI_4,
];
/// How far from a joint's stops targets stay, rad, and from a finger's, m.
const STOP_MARGIN_RAD: f64 = 0.01;
const FINGER_MARGIN_M: f64 = 1e-4;
/// Physics steps in a control period.
pub(crate) const TICKS: usize = 50;

/// The moving targets of the motors: seven angles (rad), and the opening of the gripper (m).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Servo {
    pub(crate) joints: [f64; ARM_JOINTS],
    pub(crate) opening_m: f64,
    joint_steps: [f64; ARM_JOINTS],
    opening_step_m: f64,
}

impl Servo {
    /// At rest.
    pub(crate) fn new(joints: [f64; ARM_JOINTS], opening_m: f64) -> Self {
        Self { joints, opening_m, joint_steps: [0.0; ARM_JOINTS], opening_step_m: 0.0 }
    }

    /// Takes an action. Its targets are approached along a straight line of joint positions: within one control period,
    /// or as fast as the slowest joint may. Numbers that are missing or not finite hold; others are kept within limits.
    pub(crate) fn take(&mut self, model: &ArmModel, kind: ActionKind, action: &[f64]) {
        let hold = self.hold(model, kind);
        let given = |index: usize| action.get(index).copied().filter(|value| value.is_finite());
        let wanted: Vec<f64> =
            hold.iter().enumerate().map(|(index, held)| given(index).unwrap_or(*held)).collect();
        let (arm, opening) = wanted.split_at(wanted.len() - 1);
        let joints = match kind {
            ActionKind::Joint => arm.to_vec(),
            ActionKind::Pose => {
                let inside = |index: usize| arm[index].clamp(POSE_LOW[index], POSE_HIGH[index]);
                let tool = pointing_down([inside(0), inside(1), inside(2)], inside(3));
                joints_for(model, &tool, &self.joints)
            }
        };
        let period_secs = TICKS as f64 * DT_SECS;
        let mut duration_secs = period_secs;
        let mut ways = [0.0; ARM_JOINTS];
        for (index, (way, target)) in ways.iter_mut().zip(joints).enumerate() {
            let joint = &model.motors[index];
            let target = target.clamp(joint.lower + STOP_MARGIN_RAD, joint.upper - STOP_MARGIN_RAD);
            *way = target - self.joints[index];
            duration_secs = duration_secs.max(way.abs() / (SPEED_SHARE * joint.velocity));
        }
        self.joint_steps = ways.map(|way| way * DT_SECS / duration_secs);
        let way = opening[0].clamp(0.0, MAX_OPENING_M) - self.opening_m;
        // Both fingers move.
        let fastest = 2.0 * SPEED_SHARE * model.motors[ARM_JOINTS].velocity;
        self.opening_step_m = (way / period_secs).clamp(-fastest, fastest) * DT_SECS;
    }

    /// Targets of the motors for the next physics step: seven angles (rad), two fingers (m).
    pub(crate) fn tick(&mut self) -> [f64; ARM_JOINTS + 2] {
        for (position, step) in self.joints.iter_mut().zip(self.joint_steps) {
            *position += step;
        }
        self.opening_m = (self.opening_m + self.opening_step_m).clamp(0.0, MAX_OPENING_M);
        let [a, b, c, d, e, f, g] = self.joints;
        let finger = (self.opening_m / 2.0).clamp(FINGER_MARGIN_M, MAX_OPENING_M / 2.0 - FINGER_MARGIN_M);
        [a, b, c, d, e, f, g, finger, finger]
    }

    /// The action that leaves the targets where they are.
    pub(crate) fn hold(&self, model: &ArmModel, kind: ActionKind) -> Vec<f64> {
        match kind {
            ActionKind::Joint => self.joints.iter().copied().chain([self.opening_m]).collect(),
            ActionKind::Pose => {
                let tool = model.chain.forward(&self.joints);
                let [x, y, z]: [f64; 3] = tool.translation.vector.into();
                vec![x, y, z, super::objects::yaw(&tool), self.opening_m]
            }
        }
    }
}

/// `world_from_tool` at a position (m), its fingers down, closing along world y turned by `yaw` (rad).
pub fn pointing_down(position_m: [f64; 3], yaw: f64) -> Isometry3<f64> {
    let down = UnitQuaternion::from_axis_angle(&Vector3::x_axis(), std::f64::consts::PI);
    let turned = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), yaw);
    Isometry3::from_parts(Translation3::from(position_m), turned * down)
}

/// Joint positions that bring the tool to a pose, or as near to it as they were found to, rad.
pub(crate) fn joints_for(model: &ArmModel, world_from_tool: &Isometry3<f64>, start: &[f64]) -> Vec<f64> {
    let options = IkOptions {
        position_tolerance_m: 1e-5,
        rotation_tolerance_rad: 1e-5,
        max_iterations: 60,
        rest: Some(NEUTRAL_RAD.to_vec()),
        rest_gain: 0.05,
    };
    model.chain.inverse(world_from_tool, start, &options).unwrap_or_else(|failure| failure.closest)
}
