//! The rapier3d world of Push-T: quasi-static pushing in the plane, in pixels.
//!
//! The reference runs on pymunk; what is set here makes rapier follow it to a few thousandths of a pixel (measured by
//! `tests/reference_physics.rs`).

use rapier3d::prelude::*;

use super::geometry::{AGENT_RADIUS, BOXES, CENTRE_OF_GRAVITY, Pose, WALL_RADIUS, WALLS};

/// Length of a physics step, s.
pub(crate) const DT: f64 = 0.01;

/// Mass of the block, and its moment of inertia about its centre of gravity.
const BLOCK_MASS: f32 = 1.0;
const BLOCK_INERTIA: f32 = 3000.0;
/// Half of the extents out of the plane: anything that keeps the sides the nearest faces. The walls reach further than
/// the block, because contacts get lost where faces lie in one plane.
const BLOCK_HALF_DEPTH: f32 = 30.0;
const WALL_HALF_DEPTH: f32 = 60.0;

/// Penetration that Chipmunk leaves alone, px.
const SLOP: f32 = 0.1;
/// Share of the penetration that Chipmunk corrects in one step: `1 - 0.9^(60 dt)`.
const BIAS: f32 = 0.061_258_77;
/// Rigid contacts (damping so high that nothing is soft) that correct [`BIAS`] of the penetration in one step:
/// `natural_frequency = 2 damping_ratio BIAS / ((1 - BIAS) dt 2 pi)`.
const RIGID: SpringCoefficients<Real> =
    SpringCoefficients { natural_frequency: 2077.2024, damping_ratio: 1000.0 };

/// Distances beyond which nothing touches, with room for the rounding of f32 positions.
const AGENT_CLEARANCE: f64 = AGENT_RADIUS + 0.01;
const WALL_CLEARANCE: f64 = WALL_RADIUS + 0.01;

const BLOCK_GROUP: Group = Group::GROUP_1;
const AGENT_GROUP: Group = Group::GROUP_2;
const WALL_GROUP: Group = Group::GROUP_3;

/// The block among the walls. The agent is an input: nothing ever moves it.
pub(crate) struct World {
    physics: PhysicsWorld,
    block: RigidBodyHandle,
    agent: RigidBodyHandle,
    pose: Pose,
}

impl World {
    pub(crate) fn new(block: [f64; 3]) -> Self {
        let pose = Pose::new(block);
        let mut physics = PhysicsWorld::new();
        physics.gravity = Vector::ZERO;
        physics.integration_parameters = integration_parameters();
        let (block, _) = physics.insert(block_body(&pose), block_collider());
        let agent = RigidBodyBuilder::kinematic_velocity_based().can_sleep(false);
        let (agent, _) = physics.insert(agent, agent_collider());
        for wall in wall_colliders() {
            physics.insert_collider(wall, None);
        }
        Self { physics, block, agent, pose }
    }

    pub(crate) fn block(&self) -> &Pose {
        &self.pose
    }

    /// Moves the block by one physics step, with the agent at `position` (px) and moving at `velocity` (px/s).
    pub(crate) fn step(&mut self, position: [f64; 2], velocity: [f64; 2]) {
        self.physics.integration_parameters.num_internal_pgs_iterations = match touch(&self.pose, position) {
            // Quick, and free of the contact solver's rounding.
            Touch::Nothing => return,
            // One contact is solved at once, several in rounds: fewer than these show when the block is jammed.
            Touch::Once => 1,
            Touch::Often => 20,
        };
        let planar = |[x, y]: [f64; 2]| Vector::new(x as f32, y as f32, 0.0);
        let agent = &mut self.physics.bodies[self.agent];
        agent.set_translation(planar(position), true);
        agent.set_linvel(planar(velocity), true);
        // The reference space damps everything at once: the block never coasts.
        let block = &mut self.physics.bodies[self.block];
        block.set_linvel(Vector::ZERO, true);
        block.set_angvel(AngVector::ZERO, true);

        let contacts = ChipmunkContacts { agent: self.agent, velocity: planar(velocity) };
        self.physics.step_with_events(&contacts, &());

        let block = &self.physics.bodies[self.block];
        let (translation, rotation) = (block.translation(), block.rotation());
        let angle = 2.0 * f64::from(rotation.z).atan2(f64::from(rotation.w));
        self.pose = Pose::new([f64::from(translation.x), f64::from(translation.y), angle]);
    }
}

/// What may touch the block now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Touch {
    Nothing,
    /// The agent, in one place.
    Once,
    Often,
}

fn touch(block: &Pose, agent: [f64; 2]) -> Touch {
    let free = (WALLS[0] + WALL_CLEARANCE)..=(WALLS[1] - WALL_CLEARANCE);
    if !block.corners().as_flattened().iter().all(|coordinate| free.contains(coordinate)) {
        return Touch::Often;
    }
    let [x, y] = block.body_from_world(agent);
    let near = |(center, half): &([f64; 2], [f64; 2])| {
        let beyond_x = ((x - center[0]).abs() - half[0]).max(0.0);
        let beyond_y = ((y - center[1]).abs() - half[1]).max(0.0);
        beyond_x * beyond_x + beyond_y * beyond_y <= AGENT_CLEARANCE * AGENT_CLEARANCE
    };
    match BOXES.iter().filter(|part| near(part)).count() {
        0 => Touch::Nothing,
        1 => Touch::Once,
        _ => Touch::Often,
    }
}

fn integration_parameters() -> IntegrationParameters {
    IntegrationParameters {
        dt: DT as Real,
        length_unit: 100.0,
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

fn block_body(pose: &Pose) -> RigidBodyBuilder {
    let [x, y] = CENTRE_OF_GRAVITY;
    let center = Vector::new(x as f32, y as f32, 0.0);
    RigidBodyBuilder::dynamic()
        .translation(Vector::new(pose.x as f32, pose.y as f32, 0.0))
        .rotation(AngVector::new(0.0, 0.0, pose.angle as f32))
        .additional_mass_properties(MassProperties::new(center, BLOCK_MASS, AngVector::splat(BLOCK_INERTIA)))
        .enabled_translations(true, true, false)
        .enabled_rotations(false, false, true)
        .can_sleep(false)
}

/// One compound: with two colliders the world would depend on the order in which their contacts came about.
fn block_collider() -> ColliderBuilder {
    let parts = BOXES.map(|(center, half)| {
        let pose = rapier3d::math::Pose::translation(center[0] as f32, center[1] as f32, 0.0);
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
        for contact in contacts.solver_contacts.iter_mut().filter(|contact| contact.dist < 0.0) {
            contact.dist = (contact.dist + SLOP).min(0.0) - retreat * DT as f32 / BIAS;
        }
    }
}
