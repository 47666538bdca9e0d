//! Push-T as a world of rapier3d: quasi-static pushing in the plane, in pixels.
//!
//! The reference runs on pymunk; what is set here makes rapier follow it to a few thousandths of a pixel (measured by
//! `tests/reference_physics.rs`). Rapier finds the contacts; `solver.rs` does what it would do about them.

use rapier3d::prelude::*;

use super::geometry::{AGENT_RADIUS, BOXES, CENTRE_OF_GRAVITY, WALL_RADIUS, WALLS};
use super::solver::{Contact, Other, flat};

/// Length of a physics step, s.
pub(crate) const DT: f64 = 0.01;

/// Mass of the block, and its moment of inertia about its centre of gravity.
const BLOCK_MASS: f32 = 1.0;
const BLOCK_INERTIA: f32 = 3000.0;
/// Half of the extents out of the plane: anything that keeps the sides the nearest faces. The walls reach further than
/// the block, because contacts get lost where faces lie in one plane.
pub(super) const BLOCK_HALF_DEPTH: f32 = 30.0;
const WALL_HALF_DEPTH: f32 = 60.0;

/// Penetration that Chipmunk leaves alone, px.
const SLOP: f32 = 0.1;
/// Share of the penetration that Chipmunk corrects in one step: `1 - 0.9^(60 dt)`.
const BIAS: f32 = 0.061_258_77;
/// Rigid contacts (damping so high that nothing is soft) that correct [`BIAS`] of the penetration in one step:
/// `natural_frequency = 2 damping_ratio BIAS / ((1 - BIAS) dt 2 pi)`.
pub(super) const RIGID: SpringCoefficients<Real> =
    SpringCoefficients { natural_frequency: 2077.2024, damping_ratio: 1000.0 };

const BLOCK_GROUP: Group = Group::GROUP_1;
const AGENT_GROUP: Group = Group::GROUP_2;
const WALL_GROUP: Group = Group::GROUP_3;

/// Distance up to which rapier may hold a pair of block and wall, px: each side's bounds are widened by 0.04 of the
/// length unit, and the block's may lag behind by as much.
pub(super) const PAIRING_REACH: f64 = 3.0 * 0.04 * LENGTH_UNIT_PX as f64;
const LENGTH_UNIT_PX: f32 = 100.0;

/// The block among the walls. The agent is an input: nothing ever moves it.
pub(super) struct Engine {
    physics: PhysicsWorld,
    block: RigidBodyHandle,
    agent: RigidBodyHandle,
    agent_collider: ColliderHandle,
    /// The walls that touch; each keeps its place, and a new one takes the first that is free.
    touching: [Option<ColliderHandle>; 4],
}

impl Engine {
    /// A world in which the agent has been near the block for longer than any wall.
    pub(super) fn new(block: Pose, agent: Vector) -> Self {
        let mut physics = PhysicsWorld::new();
        physics.gravity = Vector::ZERO;
        physics.integration_parameters = integration_parameters();
        let (block, _) = physics.insert(block_body().pose(block), block_collider());
        let at_agent = RigidBodyBuilder::kinematic_velocity_based().translation(agent).can_sleep(false);
        let (agent, agent_collider) = physics.insert(at_agent, agent_collider());
        // Finds the pair.
        physics.step();
        for wall in wall_colliders() {
            physics.insert_collider(wall, None);
        }
        Self { physics, block, agent, agent_collider, touching: [None; 4] }
    }

    /// Adds what touches the block to `contacts`, in the order in which rapier solves it: the agent's `on_agent` among
    /// the contacts with walls, which rapier finds here.
    ///
    /// Each pair has a colour for its first manifold: the agent's are solved first, then the walls' from the last place
    /// to the first. What the pairs have beyond that follows, in the order in which pairs came near each other.
    pub(super) fn contacts(
        &mut self,
        block: Pose,
        agent: Vector,
        mut on_agent: [Option<Contact>; 2],
        contacts: &mut Vec<Contact>,
    ) {
        self.physics.bodies[self.agent].set_translation(agent, true);
        self.physics.bodies[self.block].set_position(block, true);
        let hooks = ChipmunkContacts { agent: self.agent, velocity: Vector::ZERO };
        self.physics.step_with_events(&hooks, &());

        let Self { physics, touching, agent_collider, .. } = self;
        let pairs = || physics.narrow_phase.contact_pairs();
        let of_wall = |wall| pairs().find(|pair| pair.collider2 == wall);
        for place in touching.iter_mut() {
            place.take_if(|wall| !of_wall(*wall).is_some_and(ContactPair::has_any_active_contact));
        }
        for pair in pairs().filter(|pair| pair.collider2 != *agent_collider && pair.has_any_active_contact())
        {
            let wall = Some(pair.collider2);
            if !touching.contains(&wall) {
                touching.iter_mut().find(|place| place.is_none()).into_iter().for_each(|place| *place = wall);
            }
        }

        contacts.extend(on_agent.iter_mut().find_map(Option::take));
        for pair in touching.iter().rev().flatten().filter_map(|wall| of_wall(*wall)) {
            contacts.extend(touching_manifolds(pair).take(1).flat_map(with_wall));
        }
        for pair in pairs() {
            if pair.collider2 == *agent_collider {
                contacts.extend(on_agent.iter_mut().find_map(Option::take));
            } else {
                contacts.extend(touching_manifolds(pair).skip(1).flat_map(with_wall));
            }
        }
    }

    /// Where rapier alone takes the block in one physics step and as many rounds of its contact solver, with the agent at
    /// `agent` (px) and moving at `velocity` (px/s).
    #[cfg(test)]
    pub(super) fn step(&mut self, block: Pose, agent: Vector, velocity: Vector, rounds: usize) -> Pose {
        self.physics.integration_parameters.dt = DT as Real;
        self.physics.integration_parameters.num_internal_pgs_iterations = rounds;
        let body = &mut self.physics.bodies[self.agent];
        body.set_translation(agent, true);
        body.set_linvel(velocity, true);
        let body = &mut self.physics.bodies[self.block];
        if *body.position() != block {
            body.set_position(block, true);
        }
        // The reference space damps everything at once: the block never coasts.
        body.set_linvel(Vector::ZERO, true);
        body.set_angvel(AngVector::ZERO, true);
        self.physics.step_with_events(&ChipmunkContacts { agent: self.agent, velocity }, &());
        *self.physics.bodies[self.block].position()
    }
}

fn touching_manifolds(pair: &ContactPair) -> impl Iterator<Item = &ContactManifold> {
    pair.manifolds().iter().filter(|manifold| !manifold.data.solver_contacts.is_empty())
}

/// The contacts of a manifold of the block with a wall, as rapier hands them to its solver.
fn with_wall(manifold: &ContactManifold) -> impl Iterator<Item = Contact> {
    let normal = flat(manifold.data.normal);
    manifold.data.solver_contacts.iter().map(move |contact| {
        // The highest bit says whether the contact is new.
        let point = &manifold.points[(contact.contact_id[0] & !(1 << 31)) as usize].data;
        Contact {
            normal,
            block_point: flat(contact.anchor1),
            block_arm: flat(point.solver_dp1),
            other: Other::default(),
            other_point: flat(contact.anchor2),
            other_arm: flat(point.solver_dp2),
        }
    })
}

fn integration_parameters() -> IntegrationParameters {
    IntegrationParameters {
        // Contacts are found, and no time passes: `solver.rs` moves the block.
        dt: 0.0,
        length_unit: LENGTH_UNIT_PX,
        contact_softness: RIGID,
        static_contact_softness: RIGID,
        num_solver_iterations: 1,
        num_internal_stabilization_iterations: 1,
        warmstart_coefficient: 0.0,
        normalized_prediction_distance: 0.0,
        normalized_max_corrective_velocity: Real::MAX,
        // Kinematic bodies are capped too, and the agent may be fast.
        normalized_max_linear_velocity: Real::MAX,
        // Recycled contacts lag behind the block: 5.7 px at the 90th percentile of whole episodes.
        contact_recycling: false,
        contact_clustering: false,
        max_ccd_substeps: 0,
        ..IntegrationParameters::default()
    }
}

/// All of the block's mass: its collider weighs nothing.
pub(super) fn block_mass() -> MassProperties {
    let [x, y] = CENTRE_OF_GRAVITY;
    let center = Vector::new(x as f32, y as f32, 0.0);
    MassProperties::new(center, BLOCK_MASS, AngVector::splat(BLOCK_INERTIA))
}

fn block_body() -> RigidBodyBuilder {
    RigidBodyBuilder::dynamic()
        .additional_mass_properties(block_mass())
        .enabled_translations(true, true, false)
        .enabled_rotations(false, false, true)
        .can_sleep(false)
}

/// One compound: with two colliders the world would depend on the order in which their contacts came about.
fn block_collider() -> ColliderBuilder {
    let parts = BOXES.map(|(center, half)| {
        let pose = Pose::translation(center[0] as f32, center[1] as f32, 0.0);
        (pose, SharedShape::cuboid(half[0] as f32, half[1] as f32, BLOCK_HALF_DEPTH))
    });
    smooth(ColliderBuilder::compound(parts.to_vec()), BLOCK_GROUP, AGENT_GROUP | WALL_GROUP)
}

fn agent_collider() -> ColliderBuilder {
    smooth(ColliderBuilder::ball(AGENT_RADIUS as f32), AGENT_GROUP, BLOCK_GROUP)
}

/// The four walls; they stop the block only.
fn wall_colliders() -> [ColliderBuilder; 4] {
    let [low, high] = WALLS.map(|coordinate| coordinate as f32);
    let (middle, thin) = ((low + high) / 2.0, WALL_RADIUS as f32);
    let long = (high - low) / 2.0 + thin;
    let wall = |[x, y]: [f32; 2], [half_x, half_y]: [f32; 2]| {
        let cuboid =
            ColliderBuilder::cuboid(half_x, half_y, WALL_HALF_DEPTH).translation(Vector::new(x, y, 0.0));
        smooth(cuboid, WALL_GROUP, BLOCK_GROUP)
    };
    [
        wall([middle, low], [long, thin]),
        wall([middle, high], [long, thin]),
        wall([low, middle], [thin, long]),
        wall([high, middle], [thin, long]),
    ]
}

/// A weightless collider without friction or bounce, whose contacts are those of [`ChipmunkContacts`].
fn smooth(collider: ColliderBuilder, membership: Group, filter: Group) -> ColliderBuilder {
    collider
        .density(0.0)
        .friction(0.0)
        .friction_combine_rule(CoefficientCombineRule::Min)
        .restitution(0.0)
        .collision_groups(InteractionGroups::new(membership, filter, InteractionTestMode::And))
        .active_hooks(ActiveHooks::MODIFY_SOLVER_CONTACTS)
}

/// Makes rapier's contacts push as Chipmunk's do.
///
/// Chipmunk leaves [`SLOP`] uncorrected. It also solves velocity and penetration apart, so that an agent that moves
/// away still pushes the block out of itself; rapier solves both in one equation, in which the agent's retreat at
/// speed `u` would cancel `u` of the correction: a penetration deeper by `u dt / BIAS` gives it back.
struct ChipmunkContacts {
    agent: RigidBodyHandle,
    velocity: Vector,
}

impl PhysicsHooks for ChipmunkContacts {
    fn modify_solver_contacts(&self, context: &mut ContactModificationContext) {
        let away = match (context.rigid_body1, context.rigid_body2) {
            (Some(first), _) if first == self.agent => -1.0,
            (_, Some(second)) if second == self.agent => 1.0,
            _ => 0.0,
        };
        let Some(contacts) = context.rigid_mut() else {
            return;
        };
        // The normal points from the first collider to the second.
        let retreat = (away * self.velocity.dot(*contacts.normal)).max(0.0);
        for contact in contacts.solver_contacts.iter_mut() {
            contact.dist = chipmunk_distance(contact.dist, retreat);
        }
    }
}

/// The distance, px, that makes rapier push as Chipmunk does at this one, with the agent moving away at `retreat` px/s.
pub(super) fn chipmunk_distance(dist: f32, retreat: f32) -> f32 {
    if dist < 0.0 { (dist + SLOP).min(0.0) - retreat * DT as f32 / BIAS } else { dist }
}
