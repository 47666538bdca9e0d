//! What can be chosen about pick-place, and what it offers to a policy.

use nudge_control::{ActionFeature, ActionMode, Feature, FeatureKind, Interface, Limits};
use serde::{Deserialize, Serialize};

pub(crate) const CONTROL_HZ: f64 = 10.0;

/// Bounds of a pose action: x, y, z (m), yaw (rad), opening (m). The lowest tool leaves the pads, which reach 1 cm below
/// it, clear of the table.
pub(crate) const POSE_LOW: [f64; 5] = [0.25, -0.4, 0.012, -2.0, 0.0];
pub(crate) const POSE_HIGH: [f64; 5] = [0.75, 0.4, 0.5, 2.0, MAX_OPENING_M];
/// Widest opening of the gripper, m.
pub(crate) const MAX_OPENING_M: f64 = 0.08;

/// Where the object is to be put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Whole on a pad of 15 cm.
    #[default]
    Standard,
    /// Into a bin with walls of 5 cm.
    Bin,
    /// On a mark, to within 1 cm and 10 degrees.
    Tight,
    /// A cube on top of another cube.
    Stack,
    /// On a pad that jumps elsewhere in mid-episode.
    MovedTarget,
}

/// What an action says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// Pose of the tool, which points straight down: x, y, z, yaw, and the gripper's opening.
    #[default]
    Pose,
    /// The seven joint angles, and the gripper's opening.
    Joint,
}

/// What can be chosen about pick-place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PickPlaceConfig {
    pub variant: Variant,
    pub action: ActionKind,
    /// Control steps after which an episode is over.
    pub max_steps: usize,
}

impl Default for PickPlaceConfig {
    fn default() -> Self {
        Self { variant: Variant::default(), action: ActionKind::default(), max_steps: 200 }
    }
}

/// The features of every variant; `joints` are the lower and upper limits of the arm's seven joints, rad.
pub(crate) fn interface(action: ActionKind, joints: &[[f64; 2]; 7]) -> Interface {
    const POSE: &str = "m,m,m,1,1,1,1,1,1";
    let (unit, low, high) = match action {
        ActionKind::Pose => ("m,m,m,rad,m", POSE_LOW.to_vec(), POSE_HIGH.to_vec()),
        ActionKind::Joint => {
            let side =
                |side: usize, opening| joints.iter().map(|limits| limits[side]).chain([opening]).collect();
            ("rad,rad,rad,rad,rad,rad,rad,m", side(0, 0.0), side(1, MAX_OPENING_M))
        }
    };
    Interface {
        observation: vec![
            Feature::vector("observation.joint_position", 7, "rad"),
            Feature::vector("observation.joint_velocity", 7, "rad/s"),
            Feature::vector("observation.gripper", 1, "m"),
            Feature::vector("observation.tool_pose", 9, POSE),
            Feature::vector("observation.object_pose", 9, POSE),
            Feature::vector("observation.object_size", 3, "m"),
            Feature::vector("observation.target_pose", 9, POSE),
            Feature::vector("observation.tool_to_object", 3, "m"),
            Feature::vector("observation.object_to_target", 3, "m"),
            Feature::vector("observation.grasp_yaw", 2, "1"),
            Feature::vector("observation.place_yaw", 2, "1"),
            Feature::vector("observation.distractors", 6, "m"),
            Feature::vector("observation.tool_yaw", 1, "rad"),
        ],
        action: vec![ActionFeature {
            name: "action".into(),
            kind: FeatureKind::Vector,
            shape: vec![low.len()],
            unit: unit.into(),
            mode: ActionMode::Absolute,
            limits: Limits { low, high },
        }],
        control_hz: CONTROL_HZ,
    }
}
