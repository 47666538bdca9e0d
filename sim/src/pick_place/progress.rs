//! How far an episode has come.

use nalgebra::Vector3;

use super::PickPlaceState;
use super::config::Variant;
use super::objects::{Object, yaw};
use super::start::{BIN_HALF_M, BIN_HEIGHT_M, PAD_HALF_M};

/// How high an object must be lifted, m.
const LIFTED_M: f64 = 0.03;
/// An object that is this low lies on the table, m.
const LYING_M: f64 = 0.005;
/// The tool has reached an object when its middle is this near the object's, m.
const REACHED_M: f64 = 0.03;
/// How far above the object's top the tool must have gone in the end, m.
const RETREAT_M: f64 = 0.05;
/// At rest: m/s and rad/s.
const REST_SPEED: f64 = 0.01;
const REST_TURN: f64 = 0.1;
/// Greatest lean of an object that stays, rad.
const UPRIGHT_RAD: f64 = 0.17;
/// Tolerances of the tight variant, m and rad.
const TIGHT_M: f64 = 0.01;
const TIGHT_RAD: f64 = 10.0 / 180.0 * std::f64::consts::PI;

/// The stages of an episode, in order; an episode's reward is the last one that it reached, over 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Begun,
    /// The tool is at the object.
    Reached,
    /// Both fingers push the object.
    Grasped,
    /// Held, its lowest point 3 cm above the table.
    Lifted,
    /// Held above the target.
    Above,
    /// The task is achieved.
    Placed,
}

/// What an episode has to remember.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    /// The object was lifted, and has not lain on the table outside the target since.
    carried: bool,
}

impl Progress {
    /// Takes note of a state; the stage never falls.
    pub(crate) fn note(&mut self, variant: Variant, state: &PickPlaceState) {
        let pose = &state.world_from_object;
        let held = state.fingers_touch == [true, true];
        let lifted = held && state.object.bottom_m(pose) >= LIFTED_M;
        let above = lifted && is_above(variant, state);
        if lifted {
            self.carried = true;
        } else if state.object.bottom_m(pose) < LYING_M && !is_within(variant, state) {
            self.carried = false;
        }
        let reached = (pose.translation.vector - state.world_from_tool.translation.vector).norm() < REACHED_M;
        let stage = match () {
            () if self.carried && is_placed(variant, state) => Stage::Placed,
            () if above => Stage::Above,
            () if lifted => Stage::Lifted,
            () if held => Stage::Grasped,
            () if reached => Stage::Reached,
            () => Stage::Begun,
        };
        self.stage = self.stage.max(stage);
    }
}

/// Whether the object has been let go where it belongs, and will stay.
fn is_placed(variant: Variant, state: &PickPlaceState) -> bool {
    let pose = &state.world_from_object;
    let upright = (pose.rotation * Vector3::z()).z > UPRIGHT_RAD.cos();
    let (speed, turn) = state.object_speed;
    let at_rest = speed < REST_SPEED && turn < REST_TURN;
    let released = state.fingers_touch == [false, false];
    let retreated = state.world_from_tool.translation.z >= state.object.top_m(pose) + RETREAT_M;
    let bottom_m = state.object.bottom_m(pose);
    let lies = match variant {
        Variant::Stack => {
            (bottom_m - state.world_from_target.translation.z).abs() < LYING_M && state.touches_support
        }
        _ => bottom_m < LYING_M,
    };
    let turned = state.object.kind.nearest_turn(yaw(&state.world_from_target) - yaw(pose)).abs();
    let precise = variant != Variant::Tight || (offset(state).norm() < TIGHT_M && turned < TIGHT_RAD);
    upright && at_rest && released && retreated && lies && precise && is_within(variant, state)
}

/// Whether the object's footprint is where it belongs, at any height.
fn is_within(variant: Variant, state: &PickPlaceState) -> bool {
    let half_side = match variant {
        Variant::Standard | Variant::MovedTarget => PAD_HALF_M,
        Variant::Bin => BIN_HALF_M,
        // As far as it may be set down while it is brought to its mark.
        Variant::Tight => return offset(state).norm() < 2.0 * TIGHT_M,
        // A cube whose middle is this far inside the lower one does not fall off.
        Variant::Stack => {
            let support = state.support.map_or(0.0, |(support, _): (Object, _)| support.size_m[0] / 2.0);
            return offset(state).amax() < 0.8 * support;
        }
    };
    let reach = |axis: Vector3<f64>| {
        let axis = state.world_from_target.rotation * axis;
        state.object.reach_m(&state.world_from_object, &axis)
    };
    let offset = offset(state);
    offset.x.abs() + reach(Vector3::x()) <= half_side && offset.y.abs() + reach(Vector3::y()) <= half_side
}

/// Whether the object, let go now, would fall where it belongs.
fn is_above(variant: Variant, state: &PickPlaceState) -> bool {
    let floor_m = match variant {
        Variant::Bin => BIN_HEIGHT_M,
        _ => state.world_from_target.translation.z,
    };
    let bottom_m = state.object.bottom_m(&state.world_from_object);
    bottom_m > floor_m && is_within(variant, state)
}

/// The object's middle in the target's frame, on the target's plane, m.
fn offset(state: &PickPlaceState) -> nalgebra::Vector2<f64> {
    let target_from_object = state.world_from_target.inverse() * state.world_from_object;
    target_from_object.translation.vector.xy()
}
