//! Drives the agent of a world along planned pushes, seeing where the block really is at every step.

use nudge_control::{Action, Task};

use super::push::{FACES, Free, Place, Push};
use super::slip::Slip;
use super::walk::{WALK_PX, way_around};
use crate::push_t::engine::DT;
use crate::push_t::geometry::{AGENT_RADIUS, WORLD_PX};
use crate::push_t::{PHYSICS_STEPS_PER_ACTION, POSITION_GAIN, PushT, VELOCITY_GAIN};

const WALK_PX_PER_SEC: f64 = 160.0;
const WALK_ACCELERATION: f64 = 400.0;
/// Speed at which contact is made.
const TOUCH_PX_PER_SEC: f64 = 50.0;
const PUSH_PX_PER_SEC: f64 = 75.0;
const PUSH_ACCELERATION: f64 = 150.0;
/// Speed to which a push slows down at its end.
const END_PX_PER_SEC: f64 = 12.0;
/// Half the width of the window over which a walk's corners are rounded, in physics steps.
const ROUNDING: usize = 13;
/// What is left of a push when it is over, and when steering is, px.
const OVER_PX: f64 = 0.4;
const STEERED_PX: f64 = 8.0;
const LONGEST_PUSH_STEPS: usize = 120;
/// A push has failed when the block has hardly moved for so many steps, or the agent has slipped off its face so far, px.
const STUCK_STEPS: usize = 4;
const STUCK_PX: f64 = 0.5;
const SLIPPED_PX: f64 = 6.0;

/// A world that is driven, and the actions that it took.
pub(super) struct Drive {
    pub(super) world: PushT,
    pub(super) actions: Vec<[f64; 2]>,
    /// No actions are taken beyond so many.
    pub(super) most_actions: usize,
    /// No action is taken any more.
    pub(super) stopped: bool,
    /// Whether the agent slips on some faces.
    pub(super) slips: bool,
}

impl Drive {
    fn act(&mut self, target: [f64; 2]) {
        if self.actions.len() >= self.most_actions {
            self.stopped = true;
            return;
        }
        // A demonstration's actions are numbers of 32 bits.
        let target = target.map(|coordinate| f64::from(coordinate.clamp(0.0, WORLD_PX) as f32));
        self.world.step(&Action(target.to_vec()));
        self.actions.push(target);
    }

    /// Walks to where the push begins and pushes the block to `target`. False when there is no way.
    pub(super) fn push(&mut self, push: &Push, target: &Place) -> bool {
        self.walk(push) && self.shove(push, target)
    }

    /// Walks around the block and up to its face.
    fn walk(&mut self, push: &Push) -> bool {
        let block = *self.world.world.block();
        let face = &FACES[push.face];
        let agent = self.world.agent;
        let contact = push.contacts[0];
        let Some(mut points) = way_around(&block, agent, face.agent(contact, WALK_PX - AGENT_RADIUS)) else {
            return false;
        };
        points.insert(0, agent);
        points.push(block.world_from_body(face.agent(contact, 0.0)));
        let path = timed(&points);
        // The last part, from where contact is less than a control step away, belongs to the push.
        let steps = (path.len() - 1) / PHYSICS_STEPS_PER_ACTION;
        for step in 0..steps {
            let begin = step * PHYSICS_STEPS_PER_ACTION;
            let at =
                |offset: isize| path[(begin as isize + offset).clamp(0, path.len() as isize - 1) as usize];
            self.act(action_along(at));
        }
        !self.stopped
    }

    /// Pushes until nothing is left to push.
    fn shove(&mut self, push: &Push, target: &Place) -> bool {
        let face = &FACES[push.face];
        let mut left = *push;
        let mut speed = TOUCH_PX_PER_SEC;
        let (mut last, mut still_steps) = (Place::of(self.world.world.block()), 0);
        let mut slip = if self.slips { Slip::of(&last) } else { None };
        for _ in 0..LONGEST_PUSH_STEPS {
            let block = *self.world.world.block();
            let from = Place::of(&block);
            let (contact, gap) = face.contact_and_gap(block.body_from_world(self.world.agent));
            still_steps = if from.distance(&last) < STUCK_PX { still_steps + 1 } else { 0 };
            last = from;
            if still_steps > STUCK_STEPS || (contact - face.clamp(contact)).abs() > SLIPPED_PX {
                return false;
            }
            left.contacts[0] = contact;
            let free = if left.length_px > STEERED_PX { Free::Rest } else { Free::Length };
            left = left.toward(&from, target, free, 6);
            if left.length_px < OVER_PX || self.stopped {
                return !self.stopped;
            }
            let travel = left.travel_px() + gap.max(0.0);
            let secs = DT * PHYSICS_STEPS_PER_ACTION as f64;
            let braked = (END_PX_PER_SEC.powi(2) + 2.0 * PUSH_ACCELERATION * travel).sqrt();
            let next = (speed + PUSH_ACCELERATION * secs).min(PUSH_PX_PER_SEC).min(braked);
            let acceleration = (next - speed) / secs;
            let done = 1.0 - left.length_px / push.length_px;
            let drift = slip.as_mut().map_or(0.0, |slip| slip.drift_px(done));
            let at = |offset: isize| {
                let time = offset as f64 * DT;
                let gone = (speed + 0.5 * acceleration * time) * time - gap.max(0.0);
                let rest = left.travel_px().max(1e-9);
                let share = (gone / rest).clamp(0.0, 1.0);
                let pose = left.part(&from, share).pose();
                pose.world_from_body(face.agent(left.contact(share) + drift * time / secs, (-gone).max(0.0)))
            };
            self.act(action_along(at));
            let length = left.length_px;
            left = rest_of(
                &left,
                ((speed + 0.5 * acceleration * secs) * secs - gap.max(0.0)) / left.travel_px(),
            );
            left.length_px = left.length_px.min(length);
            speed = next;
        }
        true
    }
}

/// What is left of a push when this share of it is done.
fn rest_of(push: &Push, share: f64) -> Push {
    let share = share.clamp(0.0, 1.0);
    Push {
        face: push.face,
        contacts: [share, 0.5 * (1.0 + share), 1.0].map(|share| push.contact(share)),
        length_px: push.length_px * (1.0 - share),
    }
}

/// The target that makes the agent follow these positions, one for each physics step from now on, through the coming
/// control step: the inverse of its drive, averaged over the step.
fn action_along(at: impl Fn(isize) -> [f64; 2]) -> [f64; 2] {
    let steps = PHYSICS_STEPS_PER_ACTION as isize;
    let mut action = [0.0; 2];
    for step in 0..steps {
        let [before, here, after] = [at(step - 1), at(step), at(step + 1)];
        for axis in 0..2 {
            let velocity = (after[axis] - before[axis]) / (2.0 * DT);
            let acceleration = (after[axis] - 2.0 * here[axis] + before[axis]) / (DT * DT);
            action[axis] +=
                (here[axis] + (VELOCITY_GAIN * velocity + acceleration) / POSITION_GAIN) / steps as f64;
        }
    }
    action
}

/// Positions at every physics step along a polyline, from rest up to [`TOUCH_PX_PER_SEC`], with rounded corners.
fn timed(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let lengths: Vec<f64> =
        points.windows(2).map(|pair| (pair[1][0] - pair[0][0]).hypot(pair[1][1] - pair[0][1])).collect();
    let total: f64 = lengths.iter().sum();
    let mut sharp = Vec::new();
    let (mut gone, mut speed) = (0.0, 0.0_f64);
    while gone < total {
        sharp.push(along(points, &lengths, gone));
        let braked = (TOUCH_PX_PER_SEC.powi(2) + 2.0 * WALK_ACCELERATION * (total - gone)).sqrt();
        speed = (speed + WALK_ACCELERATION * DT).min(WALK_PX_PER_SEC).min(braked);
        gone += speed * DT;
    }
    // A triangular window; beyond the ends the agent stands, or goes on.
    let count = sharp.len() as isize;
    let end = along(points, &lengths, total);
    let before_end = along(points, &lengths, (total - 1.0).max(0.0));
    let sample = |index: isize| {
        if index < count {
            return sharp[index.max(0) as usize];
        }
        let beyond = (index - count + 1) as f64 * TOUCH_PX_PER_SEC * DT;
        [0, 1].map(|axis| end[axis] + beyond * (end[axis] - before_end[axis]))
    };
    let rounding = ROUNDING as isize;
    let weight = |offset: isize| (rounding - offset.abs()) as f64 / (rounding * rounding) as f64;
    (0..count)
        .map(|index| {
            let mut mean = [0.0; 2];
            for offset in 1 - rounding..rounding {
                let point = sample(index + offset);
                (0..2).for_each(|axis| mean[axis] += weight(offset) * point[axis]);
            }
            mean
        })
        .collect()
}

/// The point of a polyline at this length.
fn along(points: &[[f64; 2]], lengths: &[f64], mut length: f64) -> [f64; 2] {
    for (pair, &segment) in points.windows(2).zip(lengths) {
        if length <= segment && segment > 0.0 {
            let share = length / segment;
            return [0, 1].map(|axis| pair[0][axis] + share * (pair[1][axis] - pair[0][axis]));
        }
        length -= segment;
    }
    points[points.len() - 1]
}
