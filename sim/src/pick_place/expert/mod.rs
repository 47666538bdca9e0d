//! Demonstrates pick-place, seeing the whole world.
//!
//! What to do follows from the present state alone ([`stages`]), so that a policy can read it from an observation; how
//! fast to do it keeps limits of speed and acceleration ([`motion`]). Small mistakes on the way down show how to recover
//! ([`slip`]).

mod motion;
mod slip;
mod stages;

use nalgebra::Vector2;
use nudge_control::{Action, Expert, split_mix_64};

use super::config::{ActionKind, CONTROL_HZ, MAX_OPENING_M, POSE_HIGH, POSE_LOW, Variant};
use super::objects::yaw;
use super::progress::Stage;
use super::servo::{joints_for, pointing_down};
use super::start::BIN_HEIGHT_M;
use super::{PickPlace, PickPlaceState};
use motion::Motion;
use slip::Slip;
use stages::Situation;

/// Demonstrates pick-place in every variant and with either kind of action.
#[derive(Clone, Debug, Default)]
pub struct PickPlaceExpert {
    motion: Motion,
    /// Of the way down to the object and of that to the target; drawn when the expert first sees an episode.
    slips: Option<[Option<Slip>; 2]>,
}

impl Expert<PickPlace> for PickPlaceExpert {
    fn act(&mut self, task: &PickPlace) -> Action {
        let state = task.state();
        if state.steps == 0 {
            *self = Self::default();
        }
        let now = situation(task, &state);
        self.motion.resume(now.commanded);
        let mut goal = stages::goal(&now);
        let slips = self.slips.get_or_insert_with(|| slips(&state));
        if let Some((way, height_m)) = stages::way_down(&now)
            && let Some(slip) = &mut slips[way]
            && let Some(astray) = slip.astray(&goal, height_m, now.commanded)
        {
            goal = astray;
        }
        for (axis, pose) in goal.pose.iter_mut().enumerate() {
            *pose = pose.clamp(POSE_LOW[axis], POSE_HIGH[axis]);
        }
        self.motion.advance(&goal, 1.0 / CONTROL_HZ);
        let [x, y, z, yaw] = self.motion.pose;
        match task.config.action {
            ActionKind::Pose => Action(vec![x, y, z, yaw, goal.opening_m]),
            ActionKind::Joint => {
                let mut joints = joints_for(&task.model, &pointing_down([x, y, z], yaw), &state.servo_joints);
                joints.push(goal.opening_m);
                Action(joints)
            }
        }
    }
}

/// They follow from where the object lies, so that an episode is always demonstrated alike.
fn slips(state: &PickPlaceState) -> [Option<Slip>; 2] {
    let place = state.world_from_object.translation.vector;
    let bits = place.iter().fold(0, |bits, value| split_mix_64(bits ^ value.to_bits()));
    [0, 1].map(|way| Slip::of(split_mix_64(bits ^ way)))
}

fn situation(task: &PickPlace, state: &PickPlaceState) -> Situation {
    let sent = task.model.chain.forward(&state.servo_joints);
    let [x, y, z] = sent.translation.vector.into();
    Situation {
        world_from_tool: state.world_from_tool,
        commanded: [x, y, z, yaw(&sent)],
        opening_m: state.opening_m,
        both_fingers_touch: state.fingers_touch == [true, true],
        object: state.object,
        world_from_object: state.world_from_object,
        world_from_target: state.world_from_target,
        in_zone: in_zone(task.config.variant, state),
        max_opening_m: MAX_OPENING_M,
        obstacles: obstacles(task.config.variant, state),
    }
}

/// Middle (x, y) and top of all that the hand could bump into, m.
fn obstacles(variant: Variant, state: &PickPlaceState) -> Vec<(Vector2<f64>, f64)> {
    let standing = state.distractors.iter().chain(&state.support);
    let bin =
        (variant == Variant::Bin).then(|| (state.world_from_target.translation.vector.xy(), BIN_HEIGHT_M));
    standing.map(|(object, pose)| (pose.translation.vector.xy(), object.top_m(pose))).chain(bin).collect()
}

/// Whether the object is where it can be left: down, and as near to the target's middle as the variant asks, with a
/// margin.
fn in_zone(variant: Variant, state: &PickPlaceState) -> bool {
    let (from, to) = (&state.world_from_object, &state.world_from_target);
    let down = state.object.bottom_m(from) < to.translation.z + 0.004;
    let error_m = (to.translation.vector.xy() - from.translation.vector.xy()).norm();
    let turn = state.object.kind.nearest_turn(yaw(to) - yaw(from)).abs();
    let near = match variant {
        Variant::Standard | Variant::MovedTarget | Variant::Bin => error_m < 0.02,
        Variant::Tight => error_m < 0.009 && turn < 0.16,
        Variant::Stack => error_m < 0.012,
    };
    state.stage >= Stage::Lifted && down && near
}

#[cfg(test)]
mod tests;
