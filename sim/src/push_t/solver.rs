//! The contact solver of rapier for one block: what becomes of contacts in a physics step.
//!
//! Rapier's own solver keeps islands, graphs and colours for worlds of thousands of bodies. Here its arithmetic is
//! written out operation for operation, in its order and precision (`contact_constraint/contact_with_twist_friction.rs`
//! and `staged_island_solver/worker.rs` of rapier3d 0.36.1): the block ends where the engine puts it, to the bit.

use std::f64::consts::FRAC_PI_4;
use std::sync::LazyLock;

use rapier3d::glamx::Vec2;
use rapier3d::math::{Pose, Rotation, Vector};
use rapier3d::prelude::MassProperties;

use super::engine::{DT, RIGID, block_mass};

/// The block's mass, and how stiff contacts are; the same in every world.
static BLOCK: LazyLock<Block> = LazyLock::new(|| {
    let dt = DT as f32;
    Block { mass: block_mass(), erp_inv_dt: RIGID.erp_inv_dt(dt), cfm_factor: RIGID.cfm_factor(dt) }
});

struct Block {
    mass: MassProperties,
    erp_inv_dt: f32,
    cfm_factor: f32,
}

/// A contact of the block with something else: the points of both that are to meet, and their lever arms. Those of the
/// block are seen from its centre of gravity (its point in the body frame), those of the other from where it is.
pub(super) struct Contact {
    /// The direction from the block to the other, in the world.
    pub(super) normal: Vec2,
    pub(super) block_point: Vec2,
    pub(super) block_arm: Vec2,
    pub(super) other: Other,
    pub(super) other_point: Vec2,
    pub(super) other_arm: Vec2,
}

/// What nothing moves: px, px/s. Walls are at the origin.
#[derive(Clone, Copy, Default)]
pub(super) struct Other {
    pub(super) position: Vec2,
    pub(super) velocity: Vec2,
}

/// Where the block's centre of gravity is, turned as the block.
pub(super) fn centre_of_gravity(block: &Pose) -> Pose {
    block.prepend_translation(BLOCK.mass.local_com)
}

#[derive(Default)]
pub(super) struct Solver {
    /// Kept for their memory only.
    constraints: Vec<Constraint>,
}

impl Solver {
    /// Where one physics step takes `block`, after as many rounds in which each contact is solved by itself.
    pub(super) fn step(&mut self, block: &Pose, contacts: &[Contact], rounds: usize) -> Pose {
        let mass = &BLOCK.mass;
        let centre = centre_of_gravity(block);
        let inverse_inertia = mass.world_inv_inertia(&block.rotation).m33;
        self.constraints.clear();
        self.constraints
            .extend(contacts.iter().map(|contact| Constraint::new(contact, &centre, inverse_inertia)));
        let (mut linear, mut angular) = (Vec2::ZERO, 0.0);
        for _ in 0..rounds {
            for constraint in &mut self.constraints {
                constraint.solve(mass.inv_mass, &mut linear, &mut angular);
            }
        }
        moved(&centre, linear, angular).prepend_translation(-mass.local_com)
    }
}

/// What the solver makes of a contact. Its impulse, px/s, pushes the block along `direction`.
struct Constraint {
    direction: Vec2,
    /// Lever arm of the impulse about the centre of gravity, px, and the turn that it gives, rad/px.
    torque: f32,
    turn: f32,
    effective_mass: f32,
    other_speed: f32,
    rhs: f32,
    cfm_factor: f32,
    impulse: f32,
}

impl Constraint {
    /// Points go to and fro between frames as in rapier: some of what cancels on paper is rounded on the way.
    fn new(contact: &Contact, centre: &Pose, inverse_inertia: f32) -> Self {
        let Contact { block_arm, other_arm, other: Other { position: other, velocity }, .. } = *contact;
        let (sin, cos) = (centre.rotation.z, centre.rotation.w);
        let centre = flat(centre.translation);
        let direction = -contact.normal;
        let apart = (turned(contact.block_point, sin, cos) + centre) - (contact.other_point + other);
        let (block_point, other_point) = (centre + block_arm, other + other_arm);
        let rest = apart.dot(direction) - (block_point - other_point).dot(direction);
        let block_point = turned(turned(block_point - centre, -sin, cos), sin, cos) + centre;
        let other_point = (other_point - other) + other;
        let dist = rest + (block_point - other_point).dot(direction);

        let torque = block_arm.perp_dot(direction);
        let turn = inverse_inertia * torque;
        Self {
            direction,
            torque,
            turn,
            effective_mass: 1.0 / (direction.dot(direction * BLOCK.mass.inv_mass) + turn * torque),
            other_speed: direction.dot(velocity),
            rhs: dist.max(0.0) * (1.0 / DT as f32) + (dist * BLOCK.erp_inv_dt).min(0.0),
            cfm_factor: if dist <= 0.0 { BLOCK.cfm_factor } else { 1.0 },
            impulse: 0.0,
        }
    }

    fn solve(&mut self, inverse_mass: f32, linear: &mut Vec2, angular: &mut f32) {
        let approach = self.direction.dot(*linear) + self.torque * *angular - self.other_speed + self.rhs;
        let impulse = self.cfm_factor * (self.impulse - self.effective_mass * approach).max(0.0);
        let change = impulse - self.impulse;
        self.impulse = impulse;
        *linear += self.direction * inverse_mass * change;
        *angular += self.turn * change;
    }
}

pub(super) fn flat(vector: Vector) -> Vec2 {
    Vec2::new(vector.x, vector.y)
}

/// A vector turned by the quaternion with this third imaginary and this real part, as the solver does it.
fn turned(v: Vec2, z: f32, w: f32) -> Vec2 {
    let t = Vec2::new(-(z * v.y), z * v.x) * 2.0;
    t * w + Vec2::new(-(z * t.y), z * t.x) + v
}

/// A pose after one step at these velocities (px/s, rad/s). Rapier turns nothing by more than an eighth of a turn.
fn moved(centre: &Pose, linear: Vec2, angular: f32) -> Pose {
    let dt = DT as f32;
    let fastest = FRAC_PI_4 as f32 * (1.0 / dt);
    let speed = Vector::new(0.0, 0.0, angular).length();
    let angular = if speed > fastest { angular * (fastest / speed) } else { angular };
    let turn = Rotation::from_xyzw(0.0, 0.0, angular * (dt * 0.5), 1.0);
    let translation = centre.translation + Vector::new(linear.x, linear.y, 0.0) * dt;
    Pose::from_parts(translation, (turn * centre.rotation).normalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numpy::Pcg64;
    use crate::push_t::contact::Touch;
    use crate::push_t::engine::Engine;

    #[test]
    fn the_block_ends_where_the_engine_puts_it_to_the_bit() {
        let mut random = Pcg64::new(0);
        let mut between = |low, high| random.uniform(low, high) as f32;
        let (mut touch, mut solver) = (Touch::default(), Solver::default());
        let mut touched = [0; 3];
        for _ in 0..2000 {
            let rotation = Rotation::from_scaled_axis(Vector::new(0.0, 0.0, between(-10.0, 10.0)));
            let block =
                Pose::from_parts(Vector::new(between(200.0, 300.0), between(200.0, 300.0), 0.0), rotation);
            let agent = block * Vector::new(between(-76.0, 76.0), between(-16.0, 136.0), 0.0);
            let speed = between(0.0, 1.0).powi(3) * 2000.0;
            let velocity = Vector::new(between(-1.0, 1.0), between(-1.0, 1.0), 0.0) * speed;
            for rounds in [1, 20] {
                let on_agent = touch.contacts(&block, agent, velocity);
                let contacts: Vec<Contact> = on_agent.into_iter().flatten().collect();
                touched[contacts.len()] += 1;
                assert_eq!(
                    solver.step(&block, &contacts, rounds),
                    Engine::new(block, agent).step(block, agent, velocity, rounds),
                    "{block:?}, agent {agent:?} at {velocity:?}, {rounds} rounds"
                );
            }
        }
        assert!(touched.iter().all(|times| *times > 100), "none, one and two contacts: {touched:?} times");
    }
}
