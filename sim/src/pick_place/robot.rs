//! The arm as an articulated body of rapier, and the servos that drive it.

use nalgebra::Isometry3;
use nudge_control::Chain;
use rapier3d::prelude::*;

use super::physics::{ARM_GROUP, GRAVITY, material, pose, vector};
use crate::arm::{ARM7_URDF, ArmDescription, Collision, CollisionShape, Joint, JointKind, Link};

/// Joints of the arm, and of the gripper.
pub(crate) const ARM_JOINTS: usize = 7;
pub(crate) const FINGERS: usize = 2;
const MOTORS: usize = ARM_JOINTS + FINGERS;

/// Stiffness of each servo, Nm/rad, those of MuJoCo Menagerie's model of this arm; then N/m for the fingers.
const STIFFNESS: [f64; MOTORS] = [4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0, 3000.0, 3000.0];
/// Damping over stiffness: how far a servo lags behind a steady motion, s.
const LAG_SECS: f64 = 0.04;
/// Share of a joint's speed limit at which its servo stops pushing.
pub(crate) const SPEED_SHARE: f64 = 0.9;
/// Reflected inertia of the motors, kg m^2, and kg for the fingers.
const ARMATURE: [f64; MOTORS] = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1];
/// Force with which a finger closes at most, N; the arm's data sheet allows 70.
const GRASP_FORCE_N: f64 = 30.0;
/// Links that never come near the table or what lies on it: they touch nothing.
const OUT_OF_REACH: [&str; 5] = ["link0", "link1", "link2", "link3", "link4"];
/// The two links that grasp.
const FINGER_LINKS: [&str; FINGERS] = ["left_finger", "right_finger"];

/// What does not change about the arm.
#[derive(Clone, Debug)]
pub(crate) struct ArmModel {
    description: ArmDescription,
    /// From the base to the tool.
    pub(crate) chain: Chain,
    /// The joints with a motor: seven turn, then two slide.
    pub(crate) motors: Vec<Joint>,
}

impl ArmModel {
    /// The arm of this room.
    pub(crate) fn new() -> Self {
        let description = ArmDescription::from_urdf(ARM7_URDF).expect("the URDF compiled in here is valid");
        let chain = description.chain("tool").expect("the URDF compiled in here has a tool");
        let of = |kind| description.joints.iter().filter(move |joint| joint.kind == kind).cloned();
        let motors: Vec<Joint> = of(JointKind::Revolute).chain(of(JointKind::Prismatic)).collect();
        assert_eq!((chain.joints.len(), motors.len()), (ARM_JOINTS, MOTORS), "of the URDF compiled in here");
        Self { description, chain, motors }
    }

    pub(crate) fn description(&self) -> &ArmDescription {
        &self.description
    }
}

/// Greatest share of each limit that was used since the episode began; beyond 1 the limit was broken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LimitUse {
    /// Distance from the middle of a joint's range, over half the range.
    pub position: f64,
    pub velocity: f64,
    /// Torque or force of a motor, with what it spends on carrying the arm.
    pub effort: f64,
}

/// The arm in a world.
pub(crate) struct Robot {
    joints: Vec<MultibodyJointHandle>,
    links: Vec<(RigidBodyHandle, f64)>,
    /// Colliders of the two fingers.
    pub(crate) fingers: [Vec<ColliderHandle>; FINGERS],
    pub(crate) limit_use: LimitUse,
}

impl Robot {
    /// Puts the arm into a world, at rest at joint positions `q` (rad) with its fingers `opening_m` apart.
    pub(crate) fn insert(physics: &mut PhysicsWorld, model: &ArmModel, q: &[f64; 7], opening_m: f64) -> Self {
        let description = &model.description;
        let mut robot = Self {
            joints: Vec::new(),
            links: Vec::new(),
            fingers: [Vec::new(), Vec::new()],
            limit_use: LimitUse::default(),
        };
        // Where each link has gone: its body, and the link in that body's frame.
        let mut bodies: Vec<(&str, RigidBodyHandle, Isometry3<f64>)> = Vec::new();
        if let Some(base) = description.links.first() {
            let body = physics.insert_body(RigidBodyBuilder::fixed());
            bodies.push((&base.name, body, Isometry3::identity()));
            robot.attach(physics, base, body, &Isometry3::identity());
        }
        for joint in &description.joints {
            let place = bodies.iter().find(|(name, ..)| *name == joint.parent).copied();
            let link = description.links.iter().find(|link| link.name == joint.child);
            let (Some((_, parent, body_from_parent)), Some(link)) = (place, link) else { continue };
            let parent_from_child = body_from_parent * joint.parent_from_joint;
            if joint.kind == JointKind::Fixed {
                bodies.push((&link.name, parent, parent_from_child));
                robot.attach(physics, link, parent, &parent_from_child);
                continue;
            }
            let body = physics.insert_body(RigidBodyBuilder::dynamic().gravity_scale(0.0).can_sleep(false));
            bodies.push((&link.name, body, Isometry3::identity()));
            robot.attach(physics, link, body, &Isometry3::identity());
            let handle =
                physics.multibody_joints.insert(parent, body, servo(joint, &parent_from_child), true);
            robot.joints.extend(handle);
        }
        robot.settle(physics, q, opening_m);
        robot
    }

    /// Adds a link's mass and shapes to a body.
    fn attach(
        &mut self,
        physics: &mut PhysicsWorld,
        link: &Link,
        body: RigidBodyHandle,
        body_from_link: &Isometry3<f64>,
    ) {
        let mut mass = mass_properties(link).transform_by(&pose(body_from_link));
        if let Some((_, total)) = self.links.iter_mut().find(|(handle, _)| *handle == body) {
            *total += link.mass_kg;
            mass += physics.bodies[body].mass_properties().local_mprops;
        } else {
            self.links.push((body, link.mass_kg));
        }
        physics.bodies[body].set_additional_mass_properties(mass, true);
        let colliders = &physics.colliders;
        physics.bodies[body].recompute_mass_properties_from_colliders(colliders);
        if OUT_OF_REACH.contains(&link.name.as_str()) {
            return;
        }
        for shape in &link.collisions {
            let collider = physics.insert_collider(collider(shape, body_from_link), Some(body));
            if let Some(finger) = FINGER_LINKS.iter().position(|name| *name == link.name) {
                self.fingers[finger].push(collider);
            }
        }
    }

    /// Brings the joints to their first positions and couples the fingers.
    fn settle(&mut self, physics: &mut PhysicsWorld, q: &[f64; 7], opening_m: f64) {
        let Some(&first) = self.joints.first() else { return };
        let links: Vec<usize> = self
            .joints
            .iter()
            .filter_map(|joint| physics.multibody_joints.get(*joint).map(|(_, id)| id))
            .collect();
        let Some((body, _)) = physics.multibody_joints.get_mut(first) else { return };
        body.set_self_contacts_enabled(false);
        body.forward_kinematics(&physics.bodies, true);
        let finger = opening_m / 2.0;
        let positions: Vec<f32> = q.iter().chain([&finger, &finger]).map(|value| *value as f32).collect();
        body.apply_displacements(&positions);
        for (inertia, value) in body.armature_mut().iter_mut().zip(ARMATURE) {
            *inertia = value as f32;
        }
        if let [.., left, right] = links[..] {
            // The fingers share one spindle.
            let along = MultibodyDofCoupling {
                link1: left,
                dof1: 0,
                axis1: 0,
                link2: right,
                dof2: 0,
                axis2: 0,
                coeff: 1.0,
                offset: 0.0,
            };
            body.add_dof_coupling(along);
        }
        body.forward_kinematics(&physics.bodies, false);
        body.update_rigid_bodies(&mut physics.bodies, true);
    }

    /// Positions and velocities of the motors' joints: rad and rad/s, and m and m/s for the fingers.
    pub(crate) fn state(&self, physics: &PhysicsWorld) -> ([f64; MOTORS], [f64; MOTORS]) {
        let (mut positions, mut velocities) = ([0.0; MOTORS], [0.0; MOTORS]);
        for (index, handle) in self.joints.iter().enumerate() {
            if let Some((body, id)) = physics.multibody_joints.get(*handle)
                && let Some(link) = body.link(id)
            {
                positions[index] = f64::from(link.joint.coords()[axis(index) as usize]);
                velocities[index] = f64::from(body.generalized_velocity()[link.assembly_id()]);
            }
        }
        (positions, velocities)
    }

    /// Sends the motors to `targets` (rad; m for each finger), and gives where they were sent. A target leads its joint by
    /// no more than a motion at [`SPEED_SHARE`] of the speed limit would, so that a joint that was held up does not make
    /// up for it too fast. What a motor spends on carrying the arm itself, which is free of gravity here, it cannot spend
    /// on moving it.
    pub(crate) fn drive(
        &mut self,
        physics: &mut PhysicsWorld,
        model: &ArmModel,
        targets: &[f64; MOTORS],
    ) -> [f64; MOTORS] {
        let (positions, _) = self.state(physics);
        let carrying = self.carrying(physics);
        let targets = std::array::from_fn(|index| {
            // A finger that is held up by an object is meant to squeeze it.
            let lead = if index < ARM_JOINTS {
                SPEED_SHARE * model.motors[index].velocity * LAG_SECS
            } else {
                f64::INFINITY
            };
            targets[index].clamp(positions[index] - lead, positions[index] + lead)
        });
        for (index, handle) in self.joints.iter().enumerate() {
            let Some((body, id)) = physics.multibody_joints.get_mut(*handle) else { continue };
            let Some(link) = body.link_mut(id) else { continue };
            let free = (effort(model, index) - carrying[index].abs()).max(0.0);
            let (stiffness, damping) = (STIFFNESS[index], STIFFNESS[index] * LAG_SECS);
            let axis = axis(index);
            let motor = &mut link.joint.data;
            motor.set_motor(axis, targets[index] as f32, 0.0, stiffness as f32, damping as f32);
            motor.set_motor_max_force(axis, free as f32);
        }
        targets
    }

    /// Takes note of how far the last step went towards the limits.
    pub(crate) fn note_limits(&mut self, physics: &PhysicsWorld, model: &ArmModel, targets: &[f64; MOTORS]) {
        let (positions, velocities) = self.state(physics);
        let carrying = self.carrying(physics);
        for (index, joint) in model.motors.iter().enumerate() {
            let (middle, half) = ((joint.upper + joint.lower) / 2.0, (joint.upper - joint.lower) / 2.0);
            let free = (effort(model, index) - carrying[index].abs()).max(0.0);
            // The servo's law at the end of the step, as rapier's implicit motors have it.
            let wanted =
                STIFFNESS[index] * (targets[index] - positions[index] - LAG_SECS * velocities[index]);
            let spent = wanted.clamp(-free, free) + carrying[index];
            let used = &mut self.limit_use;
            used.position = used.position.max((positions[index] - middle).abs() / half);
            used.velocity = used.velocity.max(velocities[index].abs() / joint.velocity);
            used.effort = used.effort.max(spent.abs() / joint.effort);
        }
    }

    /// Torques that hold the arm up against gravity, Nm, and N for the fingers.
    fn carrying(&self, physics: &PhysicsWorld) -> [f64; MOTORS] {
        let mut torques = [0.0; MOTORS];
        let Some(body) = physics.multibody_joints.multibodies().next() else { return torques };
        for (id, link) in body.links().enumerate() {
            let mass = self.links.iter().find(|(handle, _)| *handle == link.rigid_body_handle());
            let weight = mass.map_or(0.0, |(_, mass_kg)| mass_kg * GRAVITY);
            let jacobian = body.body_jacobian(id);
            for (index, torque) in torques.iter_mut().enumerate().take(jacobian.ncols()) {
                *torque += weight * f64::from(jacobian[(2, index)]);
            }
        }
        torques
    }
}

/// Greatest torque (Nm) or force (N) of a motor.
fn effort(model: &ArmModel, index: usize) -> f64 {
    let limit = model.motors[index].effort;
    if index < ARM_JOINTS { limit } else { limit.min(GRASP_FORCE_N) }
}

/// The free axis of a motor's joint: joints turn about or slide along the x axis of their rapier frame.
fn axis(index: usize) -> JointAxis {
    if index < ARM_JOINTS { JointAxis::AngX } else { JointAxis::LinX }
}

/// A joint with a motor and hard stops.
fn servo(joint: &Joint, parent_from_joint: &Isometry3<f64>) -> GenericJoint {
    let (locked, axis) = match joint.kind {
        JointKind::Prismatic => (JointAxesMask::LOCKED_PRISMATIC_AXES, JointAxis::LinX),
        _ => (JointAxesMask::LOCKED_REVOLUTE_AXES, JointAxis::AngX),
    };
    let turn = Rotation::from_rotation_arc(Vector::X, vector(&joint.axis));
    GenericJointBuilder::new(locked)
        .local_frame1(pose(parent_from_joint) * Pose::from_rotation(turn))
        .local_frame2(Pose::from_rotation(turn))
        .limits(axis, [joint.lower as f32, joint.upper as f32])
        .motor_model(axis, MotorModel::ForceBased)
        .contacts_enabled(false)
        .build()
}

fn mass_properties(link: &Link) -> MassProperties {
    let inertia = link.inertia.cast::<f32>();
    let columns = Matrix::from_cols_array(&std::array::from_fn(|index| inertia[index]));
    MassProperties::with_inertia_matrix(vector(&link.center_of_mass.coords), link.mass_kg as f32, columns)
}

fn collider(collision: &Collision, body_from_link: &Isometry3<f64>) -> ColliderBuilder {
    let body_from_shape = pose(&(body_from_link * collision.link_from_shape));
    let (shape, turn) = match collision.shape {
        CollisionShape::Box { half_extents } => {
            let half = vector(&half_extents);
            (SharedShape::cuboid(half.x, half.y, half.z), Rotation::IDENTITY)
        }
        // rapier's cylinders stand along y.
        CollisionShape::Cylinder { radius, half_length } => (
            SharedShape::cylinder(half_length as f32, radius as f32),
            Rotation::from_rotation_arc(Vector::Y, Vector::Z),
        ),
    };
    let builder = ColliderBuilder::new(shape).position(body_from_shape * Pose::from_rotation(turn));
    material(builder, 1.0, ARM_GROUP, Group::ALL & !ARM_GROUP)
}
