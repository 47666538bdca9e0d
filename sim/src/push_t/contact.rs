//! One step of rapier when nothing but the agent touches the block, without the engine around it.
//!
//! Rapier keeps trees, graphs, islands and colours for worlds of thousands of bodies; here they hold one pair. Its own
//! collision detection finds the contacts, and what is left of its step is written out operation for operation, in its
//! order and precision (`narrow_phase/pair_update.rs`, `contact_constraint/contact_with_twist_friction.rs` and
//! `staged_island_solver/worker.rs` of rapier3d 0.36.1): the block ends where the engine puts it, to the bit.

use std::f64::consts::FRAC_PI_4;
use std::sync::LazyLock;

use rapier3d::glamx::Vec2;
use rapier3d::math::{Pose, Rotation, Vector};
use rapier3d::parry::bounding_volume::{Aabb, BoundingVolume};
use rapier3d::parry::query::ContactManifold;
use rapier3d::parry::query::details::contact_manifold_convex_ball;
use rapier3d::parry::shape::Shape;
use rapier3d::prelude::{Ball, Cuboid, MassProperties};

use super::engine::{BLOCK_HALF_DEPTH, DT, RIGID, block_mass, chipmunk_distance};
use super::geometry::{AGENT_RADIUS, BOXES};

/// The block's boxes and mass, and how stiff contacts are; the same in every world.
static BLOCK: LazyLock<Block> = LazyLock::new(Block::new);

struct Block {
    parts: [Part; 2],
    mass: MassProperties,
    erp_inv_dt: f32,
    cfm_factor: f32,
}

struct Part {
    pose: Pose,
    shape: Cuboid,
    bounds: Aabb,
}

impl Block {
    fn new() -> Self {
        let parts = BOXES.map(|(center, half)| {
            let pose = Pose::translation(center[0] as f32, center[1] as f32, 0.0);
            let shape = Cuboid::new(Vector::new(half[0] as f32, half[1] as f32, BLOCK_HALF_DEPTH));
            Part { pose, shape, bounds: shape.compute_aabb(&pose) }
        });
        let dt = DT as f32;
        Self { parts, mass: block_mass(), erp_inv_dt: RIGID.erp_inv_dt(dt), cfm_factor: RIGID.cfm_factor(dt) }
    }
}

/// The agent's touch.
#[derive(Default)]
pub(super) struct Touching {
    /// Kept for its memory only.
    manifold: ContactManifold<(), ()>,
}

impl Touching {
    /// Where one physics step and `rounds` rounds of the contact solver take `block`, with the agent at `agent` (px) and
    /// moving at `velocity` (px/s).
    pub(super) fn pushed(&mut self, block: &Pose, agent: Vector, velocity: Vector, rounds: usize) -> Pose {
        let mass = &BLOCK.mass;
        let centre = block.prepend_translation(mass.local_com);
        let inverse_inertia = mass.world_inv_inertia(&block.rotation).m33;
        let mut contacts = self.contacts(block, agent, velocity).map(|contact| {
            contact.map(|contact| Constraint::new(&contact, &centre, agent, velocity, inverse_inertia))
        });
        let (mut linear, mut angular) = (Vec2::ZERO, 0.0);
        for _ in 0..rounds {
            for contact in contacts.iter_mut().flatten() {
                contact.solve(mass.inv_mass, &mut linear, &mut angular);
            }
        }
        moved(&centre, linear, angular).prepend_translation(-mass.local_com)
    }

    /// The contact of each part, as rapier's narrow phase hands them to its solver.
    fn contacts(&mut self, block: &Pose, agent: Vector, velocity: Vector) -> [Option<Contact>; 2] {
        let ball = Ball::new(AGENT_RADIUS as f32);
        let block_from_agent = block.inv_mul(&Pose::from_translation(agent));
        let ball_bounds = ball.aabb(&block_from_agent);
        BLOCK.parts.each_ref().map(|part| {
            if !part.bounds.intersects(&ball_bounds) {
                return None;
            }
            contact_manifold_convex_ball(
                &part.pose.inv_mul(&block_from_agent),
                &part.shape,
                &ball,
                None,
                None,
                0.0,
                &mut self.manifold,
                false,
            );
            let point = self.manifold.points.first()?;
            let world_from_part = *block * part.pose;
            let normal = world_from_part.rotation * self.manifold.local_n1;
            if point.dist >= 0.0 && point.dist + velocity.dot(normal) * DT as f32 >= 0.0 {
                return None;
            }
            let dist = chipmunk_distance(point.dist, velocity.dot(normal).max(0.0));
            let on_agent = agent + point.local_p2;
            let on_block = world_from_part * point.local_p1;
            let on_block = on_block + normal * ((on_agent - on_block).dot(normal) - dist);
            Some(Contact { normal, on_block, on_agent })
        })
    }
}

/// A contact: the points of block and agent that are to meet, and the direction from block to agent, in the world.
struct Contact {
    normal: Vector,
    on_block: Vector,
    on_agent: Vector,
}

/// What the contact solver makes of a contact. Its impulse, px/s, pushes the block along `direction`.
struct Constraint {
    direction: Vec2,
    /// Lever arm of the impulse about the centre of gravity, px, and the turn that it gives, rad/px.
    torque: f32,
    turn: f32,
    effective_mass: f32,
    agent_speed: f32,
    rhs: f32,
    cfm_factor: f32,
    impulse: f32,
}

impl Constraint {
    /// Points go to and fro between frames as in rapier: some of what cancels on paper is rounded on the way.
    fn new(contact: &Contact, centre: &Pose, agent: Vector, velocity: Vector, inverse_inertia: f32) -> Self {
        let middle = (contact.on_block + contact.on_agent) * 0.5;
        let (block_arm, agent_arm) = (flat(middle - centre.translation), flat(middle - agent));
        let block_anchor = flat(centre.inverse_transform_point(contact.on_block));
        let agent_anchor = flat(contact.on_agent - agent);

        let (centre_at, agent) = (flat(centre.translation), flat(agent));
        let direction = -flat(contact.normal);
        let (sin, cos) = (centre.rotation.z, centre.rotation.w);
        let anchored = (turned(block_anchor, sin, cos) + centre_at) - (agent_anchor + agent);
        let (block_point, agent_point) = (centre_at + block_arm, agent + agent_arm);
        let rest = anchored.dot(direction) - (block_point - agent_point).dot(direction);
        let block_point = turned(turned(block_point - centre_at, -sin, cos), sin, cos) + centre_at;
        let agent_point = (agent_point - agent) + agent;
        let dist = rest + (block_point - agent_point).dot(direction);

        let torque = block_arm.perp_dot(direction);
        let turn = inverse_inertia * torque;
        let inverse_mass = BLOCK.mass.inv_mass;
        Self {
            direction,
            torque,
            turn,
            effective_mass: 1.0 / (direction.dot(direction * inverse_mass) + turn * torque),
            agent_speed: direction.dot(flat(velocity)),
            rhs: dist.max(0.0) * (1.0 / DT as f32) + (dist * BLOCK.erp_inv_dt).min(0.0),
            cfm_factor: if dist <= 0.0 { BLOCK.cfm_factor } else { 1.0 },
            impulse: 0.0,
        }
    }

    fn solve(&mut self, inverse_mass: f32, linear: &mut Vec2, angular: &mut f32) {
        let approach = self.direction.dot(*linear) + self.torque * *angular - self.agent_speed + self.rhs;
        let impulse = self.cfm_factor * (self.impulse - self.effective_mass * approach).max(0.0);
        let change = impulse - self.impulse;
        self.impulse = impulse;
        *linear += self.direction * inverse_mass * change;
        *angular += self.turn * change;
    }
}

fn flat(vector: Vector) -> Vec2 {
    Vec2::new(vector.x, vector.y)
}

/// A vector turned by the quaternion with this real and third imaginary part, as the solver does it.
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
    use crate::push_t::engine::Engine;

    #[test]
    fn the_block_ends_where_the_engine_puts_it_to_the_bit() {
        let mut random = crate::numpy::Pcg64::new(0);
        let mut between = |low, high| random.uniform(low, high) as f32;
        let mut touching = Touching::default();
        let mut moves = 0;
        for _ in 0..2000 {
            let rotation = Rotation::from_scaled_axis(Vector::new(0.0, 0.0, between(-10.0, 10.0)));
            let block =
                Pose::from_parts(Vector::new(between(200.0, 300.0), between(200.0, 300.0), 0.0), rotation);
            let agent = block * Vector::new(between(-76.0, 76.0), between(-16.0, 136.0), 0.0);
            let speed = between(0.0, 1.0).powi(3) * 2000.0;
            let velocity =
                Vector::new(between(-speed as f64, speed as f64), between(-speed as f64, speed as f64), 0.0);
            for rounds in [1, 20] {
                let expected = Engine::new(block, agent).step(block, agent, velocity, rounds);
                let pose = touching.pushed(&block, agent, velocity, rounds);
                assert_eq!(pose, expected, "{block:?}, agent {agent:?} at {velocity:?}, {rounds} rounds");
                moves += usize::from(pose != block);
            }
        }
        assert!(moves > 1000, "only {moves} moved");
    }
}
