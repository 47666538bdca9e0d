//! What a policy sees.

use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector3};

use super::PickPlaceState;
use super::objects::{Object, ObjectKind, yaw};
use super::robot::ArmModel;
use crate::numpy::Pcg64;

/// Standard deviations of what is measured: m, rad, and rad/s.
const POSITION_NOISE_M: f64 = 5e-4;
const ROTATION_NOISE_RAD: f64 = 0.2 / 180.0 * std::f64::consts::PI;
const JOINT_NOISE_RAD: f64 = 1e-4;
const JOINT_SPEED_NOISE: f64 = 1e-3;
const OPENING_NOISE_M: f64 = 1e-4;

/// The numbers of one observation, in the order of the interface, as sensors with a little noise see the state.
pub(crate) fn observation(state: &PickPlaceState, model: &ArmModel, stream: &mut Pcg64) -> Vec<f64> {
    let joints = state.joints.map(|angle| angle + JOINT_NOISE_RAD * normal(stream));
    let speeds = state.joint_velocity.map(|speed| speed + JOINT_SPEED_NOISE * normal(stream));
    let opening_m = state.opening_m + OPENING_NOISE_M * normal(stream);
    let tool = model.chain.forward(&joints);
    let object = seen(&state.world_from_object, stream);
    let target = seen(&state.world_from_target, stream);
    let distractors = state.distractors.map(|(_, pose)| position(&seen(&pose, stream)));

    let mut values = Vec::with_capacity(65);
    values.extend(joints);
    values.extend(speeds);
    values.push(opening_m);
    values.extend(nine(&tool));
    values.extend(nine(&object));
    values.extend(state.object.size_m);
    values.extend(nine(&target));
    values.extend(difference(&tool, &object));
    values.extend(difference(&object, &target));
    values.extend(grasp_yaw(&state.object, &tool, &object));
    values.extend(place_yaw(&state.object, &object, &target));
    values.extend(distractors.as_flattened());
    // As the action has it.
    values.push(yaw(&tool));
    values
}

/// Cosine and sine of twice the angle from the tool's closing axis to the nearest axis along which the object can be
/// grasped: 1, 0 when they are aligned.
fn grasp_yaw(object: &Object, tool: &Isometry3<f64>, world_from_object: &Isometry3<f64>) -> [f64; 2] {
    let closing = tool.rotation * Vector3::y();
    let turn = object.kind.nearest_turn(yaw(world_from_object) - closing.y.atan2(closing.x));
    [(2.0 * turn).cos(), (2.0 * turn).sin()]
}

/// Cosine and sine of the turn from object to target, times the object's symmetry (4 for a cube, 2 for a box), so that
/// equal looks are equal numbers: 1, 0 when they are aligned, and always for a cylinder.
fn place_yaw(object: &Object, from: &Isometry3<f64>, to: &Isometry3<f64>) -> [f64; 2] {
    let fold = match object.kind {
        ObjectKind::Cube => 4.0,
        ObjectKind::Box => 2.0,
        ObjectKind::Cylinder => 0.0,
    };
    let turn = fold * (yaw(to) - yaw(from));
    [turn.cos(), turn.sin()]
}

/// Position (m), then the first two columns of the rotation matrix (Zhou et al. 2019).
fn nine(pose: &Isometry3<f64>) -> [f64; 9] {
    let [x, y, z] = position(pose);
    let rotation = pose.rotation.to_rotation_matrix();
    let [a, b, c, d, e, f] = std::array::from_fn(|index| rotation.matrix()[index]);
    [x, y, z, a, b, c, d, e, f]
}

fn position(pose: &Isometry3<f64>) -> [f64; 3] {
    pose.translation.vector.into()
}

fn difference(from: &Isometry3<f64>, to: &Isometry3<f64>) -> [f64; 3] {
    (to.translation.vector - from.translation.vector).into()
}

/// A pose as a camera measures it.
fn seen(pose: &Isometry3<f64>, stream: &mut Pcg64) -> Isometry3<f64> {
    let mut three = |sigma: f64| Vector3::from([(); 3].map(|()| sigma * normal(stream)));
    let shift = three(POSITION_NOISE_M);
    let turn = UnitQuaternion::from_scaled_axis(three(ROTATION_NOISE_RAD));
    Isometry3::from_parts(Translation3::from(pose.translation.vector + shift), turn * pose.rotation)
}

/// A standard normal number (Box and Muller 1958).
fn normal(stream: &mut Pcg64) -> f64 {
    let radius = (-2.0 * (1.0 - stream.uniform(0.0, 1.0)).ln()).sqrt();
    radius * stream.uniform(0.0, std::f64::consts::TAU).cos()
}
