//! The rapier3d world of pick-place: base of the arm at the origin, z up, x forward over the table, whose top is z = 0.

use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion, Vector3};
use rapier3d::prelude::*;

use super::config::Variant;
use super::objects::ObjectKind;
use super::robot::{ARM_JOINTS, ArmModel, Robot};
use super::start::{BIN_HALF_M, BIN_HEIGHT_M, BIN_WALL_HALF_M, Placed, Start};

/// Length of a physics step and of a servo's tick, s.
pub(crate) const DT_SECS: f64 = 0.002;
pub(crate) const GRAVITY: f64 = 9.81;

pub(crate) const ARM_GROUP: Group = Group::GROUP_1;
const TABLE_GROUP: Group = Group::GROUP_2;
const OBJECT_GROUP: Group = Group::GROUP_3;

/// Half extents of the table and its middle, m.
const TABLE_HALF_M: [f32; 3] = [0.5, 0.6, 0.1];
const TABLE_M: [f32; 3] = [0.4, 0.0, -0.1];

/// Deepest overlaps since the episode began, m.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Penetration {
    /// Of a finger and the object.
    pub finger_m: f64,
    /// Of the object and whatever it lies on or bumps into.
    pub object_m: f64,
}

/// Bodies that move by themselves: the object, two distractors, and the lower cube of a stack.
pub(crate) struct World {
    physics: PhysicsWorld,
    pub(crate) robot: Robot,
    bodies: Vec<(RigidBodyHandle, ColliderHandle)>,
    pub(crate) penetration: Penetration,
}

impl World {
    pub(crate) fn new(
        model: &ArmModel,
        variant: Variant,
        start: &Start,
        q: &[f64; 7],
        opening_m: f64,
    ) -> Self {
        let mut physics = PhysicsWorld::new();
        physics.gravity = Vector::new(0.0, 0.0, -GRAVITY as f32);
        physics.integration_parameters = integration_parameters();
        let robot = Robot::insert(&mut physics, model, q, opening_m);
        let [half_x, half_y, half_z] = TABLE_HALF_M;
        let table = ColliderBuilder::cuboid(half_x, half_y, half_z).translation(Vector::from(TABLE_M));
        physics.insert_collider(material(table, 1.0, TABLE_GROUP, Group::ALL), None);
        if variant == Variant::Bin {
            for wall in bin_walls(start.target) {
                physics.insert_collider(material(wall, 1.0, TABLE_GROUP, Group::ALL), None);
            }
        }
        let bodies = std::iter::once(&start.object)
            .chain(&start.distractors)
            .chain(&start.support)
            .map(|placed| insert(&mut physics, placed))
            .collect();
        Self { physics, robot, bodies, penetration: Penetration::default() }
    }

    /// One physics step with the motors sent to `targets` (rad; m for each finger).
    pub(crate) fn step(&mut self, model: &ArmModel, targets: &[f64; ARM_JOINTS + 2]) {
        let sent = self.robot.drive(&mut self.physics, model, targets);
        self.physics.step();
        self.robot.note_limits(&self.physics, model, &sent);
        self.note_penetration();
    }

    /// Positions and velocities of the arm's joints, then of the fingers: rad, m, and those per second.
    pub(crate) fn joints(&self) -> ([f64; 9], [f64; 9]) {
        self.robot.state(&self.physics)
    }

    /// Pose of a body: 0 is the object, 1 and 2 are the distractors, 3 is the lower cube.
    pub(crate) fn pose(&self, index: usize) -> Isometry3<f64> {
        isometry(self.physics.bodies[self.bodies[index].0].position())
    }

    /// Speed of a body, m/s and rad/s.
    pub(crate) fn speed(&self, index: usize) -> (f64, f64) {
        let body = &self.physics.bodies[self.bodies[index].0];
        (f64::from(body.linvel().length()), f64::from(body.angvel().length()))
    }

    /// Puts a body elsewhere, at rest.
    pub(crate) fn place(&mut self, index: usize, world_from_object: &Isometry3<f64>) {
        let body = &mut self.physics.bodies[self.bodies[index].0];
        body.set_position(pose(world_from_object), true);
        body.set_linvel(Vector::ZERO, true);
        body.set_angvel(AngVector::ZERO, true);
    }

    /// Which of the two fingers push the object.
    pub(crate) fn fingers_touch(&self) -> [bool; 2] {
        let object = self.bodies[0].1;
        [0, 1].map(|finger| self.robot.fingers[finger].iter().any(|pad| self.touch(*pad, object)))
    }

    /// Whether the object lies on, or leans against, the lower cube.
    pub(crate) fn touches_support(&self) -> bool {
        self.bodies.get(3).is_some_and(|(_, support)| self.touch(self.bodies[0].1, *support))
    }

    fn touch(&self, one: ColliderHandle, other: ColliderHandle) -> bool {
        self.physics.contact_pair(one, other).is_some_and(|pair| pair.total_impulse_magnitude() > 0.0)
    }

    fn note_penetration(&mut self) {
        let object = self.bodies[0].1;
        for pair in self.physics.contact_pairs_with(object) {
            let Some((_, contact)) = pair.find_deepest_contact() else { continue };
            let depth = -f64::from(contact.dist);
            let other = if pair.collider1 == object { pair.collider2 } else { pair.collider1 };
            let worst = if self.robot.fingers.iter().any(|finger| finger.contains(&other)) {
                &mut self.penetration.finger_m
            } else {
                &mut self.penetration.object_m
            };
            *worst = worst.max(depth);
        }
    }
}

/// Contacts far stiffer than rapier's default, which lets a grasp sink in by millimetres.
fn integration_parameters() -> IntegrationParameters {
    let stiff = SpringCoefficients { natural_frequency: 300.0, damping_ratio: 5.0 };
    IntegrationParameters {
        dt: DT_SECS as Real,
        contact_softness: stiff,
        static_contact_softness: stiff,
        num_solver_iterations: 1,
        num_internal_pgs_iterations: 8,
        num_internal_stabilization_iterations: 2,
        // A step's motion at 0.5 m/s. Further, the sides of a prism beside the one that is held, not yet touching, would
        // count as contacts too: more than the solver gets right, so that a light cylinder sinks in and is kicked.
        normalized_prediction_distance: 0.001,
        normalized_max_corrective_velocity: 0.5,
        // Its threshold, as a length, is larger than our objects.
        contact_recycling: false,
        friction_model: FrictionModel::Coulomb,
        max_ccd_substeps: 0,
        ..IntegrationParameters::default()
    }
}

fn insert(physics: &mut PhysicsWorld, placed: &Placed) -> (RigidBodyHandle, ColliderHandle) {
    let Placed { object, at: [x, y, yaw] } = placed;
    let [half_x, half_y, half_z] = object.size_m.map(|extent| extent as f32 / 2.0);
    let mass = object.mass_kg as f32;
    let (shape, inertia) = match object.kind {
        ObjectKind::Cylinder => {
            let tilt = mass * (3.0 * half_x * half_x + 4.0 * half_z * half_z) / 12.0;
            (prism(half_x, half_z), AngVector::new(tilt, tilt, mass * half_x * half_x / 2.0))
        }
        _ => {
            let [xx, yy, zz] = [half_x, half_y, half_z].map(|half| half * half);
            let inertia = AngVector::new(yy + zz, zz + xx, xx + yy) * (mass / 3.0);
            (ColliderBuilder::cuboid(half_x, half_y, half_z), inertia)
        }
    };
    let body = RigidBodyBuilder::dynamic()
        .translation(Vector::new(*x as f32, *y as f32, half_z))
        .rotation(AngVector::new(0.0, 0.0, *yaw as f32));
    let collider = material(shape, object.friction, OBJECT_GROUP, Group::ALL)
        .mass_properties(MassProperties::new(Vector::ZERO, mass, inertia));
    let (body, collider) = physics.insert(body, collider);
    let activation = physics.bodies[body].activation_mut();
    activation.normalized_linear_threshold = 0.005;
    activation.angular_threshold = 0.05;
    activation.time_until_sleep = 0.2;
    (body, collider)
}

/// An upright cylinder as a prism of 16 sides, put together from boxes that reach from each side to the opposite one.
///
/// rapier finds where boxes touch by separating axes. Where curved shapes touch it finds by an iteration that now and
/// then goes astray at this size, and the object is kicked out of the hand.
fn prism(radius: f32, half_height: f32) -> ColliderBuilder {
    const BOXES: usize = 8;
    let turn = std::f32::consts::PI / BOXES as f32;
    let half_side = radius * (turn / 2.0).tan();
    let part = |index: usize| {
        let pose = Pose::from_rotation(Rotation::from_rotation_z(turn * index as f32));
        (pose, SharedShape::cuboid(radius, half_side, half_height))
    };
    ColliderBuilder::compound((0..BOXES).map(part).collect())
}

/// The bin's four walls; its floor is the table.
fn bin_walls([x, y, yaw]: [f64; 3]) -> [ColliderBuilder; 4] {
    let turn = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), yaw);
    let world_from_bin = Isometry3::from_parts(Translation3::new(x, y, BIN_HEIGHT_M / 2.0), turn);
    let out = BIN_HALF_M + BIN_WALL_HALF_M;
    let long = BIN_HALF_M + 2.0 * BIN_WALL_HALF_M;
    [(out, 0.0), (-out, 0.0), (0.0, out), (0.0, -out)].map(|(x, y)| {
        let (half_x, half_y) = if y == 0.0 { (BIN_WALL_HALF_M, long) } else { (long, BIN_WALL_HALF_M) };
        ColliderBuilder::cuboid(half_x as f32, half_y as f32, BIN_HEIGHT_M as f32 / 2.0)
            .position(pose(&(world_from_bin * Translation3::new(x, y, 0.0))))
    })
}

/// A collider without bounce. The friction of a contact is that of its slipperier side.
pub(crate) fn material(
    collider: ColliderBuilder,
    friction: f64,
    membership: Group,
    filter: Group,
) -> ColliderBuilder {
    collider
        .density(0.0)
        .friction(friction as f32)
        .friction_combine_rule(CoefficientCombineRule::Min)
        .restitution(0.0)
        .collision_groups(InteractionGroups::new(membership, filter, InteractionTestMode::And))
}

pub(crate) fn vector(vector: &Vector3<f64>) -> Vector {
    Vector::new(vector.x as f32, vector.y as f32, vector.z as f32)
}

pub(crate) fn pose(isometry: &Isometry3<f64>) -> Pose {
    let [x, y, z, w] = isometry.rotation.coords.map(|value| value as f32).into();
    Pose::from_parts(vector(&isometry.translation.vector), Rotation::from_xyzw(x, y, z, w))
}

pub(crate) fn isometry(pose: &Pose) -> Isometry3<f64> {
    let [x, y, z] = pose.translation.to_array().map(f64::from);
    let [i, j, k, w] = pose.rotation.to_array().map(f64::from);
    let rotation = UnitQuaternion::from_quaternion(Quaternion::new(w, i, j, k));
    Isometry3::from_parts(Translation3::new(x, y, z), rotation)
}
