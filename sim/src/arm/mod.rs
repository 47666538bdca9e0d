//! What an arm consists of, as its URDF says: links with mass and shapes, joints with limits.

use nalgebra::{Isometry3, Matrix3, Point3, Translation3, Unit, UnitQuaternion, Vector3};
use nudge_control::{Chain, RevoluteJoint};

use crate::SimError;

/// The arm that this room simulates: 7 axes and a parallel gripper.
pub const ARM7_URDF: &str = include_str!("../../robots/arm7.urdf");

/// A robot arm. Links and joints are in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmDescription {
    pub name: String,
    pub links: Vec<Link>,
    pub joints: Vec<Joint>,
}

/// One rigid part. Frames are those of the URDF: a link's frame is that of the joint that carries it.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub name: String,
    /// 0 for a link that only names a frame.
    pub mass_kg: f64,
    /// In the link's frame, m.
    pub center_of_mass: Point3<f64>,
    /// About the centre of mass, along the axes of the link's frame, kg m^2.
    pub inertia: Matrix3<f64>,
    pub collisions: Vec<Collision>,
}

/// A shape that touches things.
#[derive(Clone, Debug, PartialEq)]
pub struct Collision {
    pub link_from_shape: Isometry3<f64>,
    pub shape: CollisionShape,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CollisionShape {
    /// Half of its size along x, y and z, m.
    Box { half_extents: Vector3<f64> },
    /// About the z axis of its frame, m.
    Cylinder { radius: f64, half_length: f64 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Joint {
    pub name: String,
    pub kind: JointKind,
    /// Names of links.
    pub parent: String,
    pub child: String,
    pub parent_from_joint: Isometry3<f64>,
    /// In the joint's frame.
    pub axis: Unit<Vector3<f64>>,
    /// Lowest and highest position, rad or m; both 0 for a fixed joint.
    pub lower: f64,
    pub upper: f64,
    /// Greatest speed, rad/s or m/s.
    pub velocity: f64,
    /// Greatest torque, Nm, or force, N.
    pub effort: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JointKind {
    Revolute,
    Prismatic,
    Fixed,
}

impl ArmDescription {
    /// Reads the text of a URDF. Boxes and cylinders are its shapes; revolute, prismatic and fixed its joints.
    ///
    /// # Errors
    /// When the text is not a URDF, or asks for something else than the above: the message names the link or joint.
    pub fn from_urdf(text: &str) -> Result<Self, SimError> {
        let robot =
            urdf_rs::read_from_string(text).map_err(|error| refused(format!("not a URDF: {error}")))?;
        let links = robot.links.iter().map(link).collect::<Result<Vec<_>, _>>()?;
        let joints = robot.joints.iter().map(joint).collect::<Result<Vec<_>, _>>()?;
        for joint in &joints {
            for name in [&joint.parent, &joint.child] {
                if !links.iter().any(|link| &link.name == name) {
                    return Err(refused(format!("joint {}: there is no link {name}; add it", joint.name)));
                }
            }
        }
        Ok(Self { name: robot.name, links, joints })
    }

    /// The revolute joints that carry the link `tool`, from the base, with that link's frame as the tool.
    ///
    /// # Errors
    /// When there is no such link, or a joint on the way to it slides.
    pub fn chain(&self, tool: &str) -> Result<Chain, SimError> {
        if !self.links.iter().any(|link| link.name == tool) {
            return Err(refused(format!("there is no link {tool} to be the tool; add it, or name another")));
        }
        let mut from_base = Vec::new();
        let mut carried = tool;
        // A loop of joints would lead on for ever.
        while let Some(joint) = self.joints.iter().find(|joint| joint.child == carried) {
            if from_base.len() == self.joints.len() {
                return Err(refused(format!("the joints that carry link {tool} form a loop; remove one")));
            }
            from_base.push(joint);
            carried = &joint.parent;
        }
        let mut joints = Vec::new();
        let mut last_from_tool = Isometry3::identity();
        for joint in from_base.into_iter().rev() {
            last_from_tool *= joint.parent_from_joint;
            match joint.kind {
                JointKind::Fixed => {}
                JointKind::Revolute => joints.push(RevoluteJoint {
                    parent_from_joint: std::mem::replace(&mut last_from_tool, Isometry3::identity()),
                    axis: joint.axis,
                    lower: joint.lower,
                    upper: joint.upper,
                    velocity: joint.velocity,
                }),
                JointKind::Prismatic => {
                    let name = &joint.name;
                    return Err(refused(format!(
                        "joint {name} slides, but carries link {tool}: an arm turns"
                    )));
                }
            }
        }
        Ok(Chain { joints, last_from_tool })
    }
}

fn refused(reason: String) -> SimError {
    SimError::ArmDescription(reason)
}

fn link(link: &urdf_rs::Link) -> Result<Link, SimError> {
    let inertial = &link.inertial;
    let frame = isometry(&inertial.origin);
    let i = &inertial.inertia;
    let inertia = Matrix3::new(i.ixx, i.ixy, i.ixz, i.ixy, i.iyy, i.iyz, i.ixz, i.iyz, i.izz);
    let rotation = frame.rotation.to_rotation_matrix();
    let collisions = link.collision.iter().map(|collision| {
        let shape = match collision.geometry {
            urdf_rs::Geometry::Box { size } => {
                CollisionShape::Box { half_extents: Vector3::from(*size) / 2.0 }
            }
            urdf_rs::Geometry::Cylinder { radius, length } => {
                CollisionShape::Cylinder { radius, half_length: length / 2.0 }
            }
            _ => {
                let name = &link.name;
                return Err(refused(format!(
                    "link {name}: only boxes and cylinders collide here; use those"
                )));
            }
        };
        Ok(Collision { link_from_shape: isometry(&collision.origin), shape })
    });
    Ok(Link {
        name: link.name.clone(),
        mass_kg: inertial.mass.value,
        center_of_mass: frame.translation.vector.into(),
        inertia: rotation.matrix() * inertia * rotation.matrix().transpose(),
        collisions: collisions.collect::<Result<_, _>>()?,
    })
}

fn joint(joint: &urdf_rs::Joint) -> Result<Joint, SimError> {
    let name = &joint.name;
    let kind = match joint.joint_type {
        urdf_rs::JointType::Revolute => JointKind::Revolute,
        urdf_rs::JointType::Prismatic => JointKind::Prismatic,
        urdf_rs::JointType::Fixed => JointKind::Fixed,
        _ => {
            let known = "revolute, prismatic or fixed";
            return Err(refused(format!("joint {name} is {:?}: make it {known}", joint.joint_type)));
        }
    };
    let axis = Vector3::from(*joint.axis.xyz);
    let Some(axis) = Unit::try_new(axis, 1e-9) else {
        return Err(refused(format!("joint {name}: its axis is 0 0 0; give it a direction")));
    };
    let limit = &joint.limit;
    if kind != JointKind::Fixed && !(limit.lower < limit.upper) {
        let (lower, upper) = (limit.lower, limit.upper);
        return Err(refused(format!("joint {name} goes from {lower} to {upper}: lower must be below upper")));
    }
    Ok(Joint {
        name: name.clone(),
        kind,
        parent: joint.parent.link.clone(),
        child: joint.child.link.clone(),
        parent_from_joint: isometry(&joint.origin),
        axis,
        lower: limit.lower,
        upper: limit.upper,
        velocity: limit.velocity,
        effort: limit.effort,
    })
}

fn isometry(pose: &urdf_rs::Pose) -> Isometry3<f64> {
    let [roll, pitch, yaw] = *pose.rpy;
    let rotation = UnitQuaternion::from_euler_angles(roll, pitch, yaw);
    Isometry3::from_parts(Translation3::from(Vector3::from(*pose.xyz)), rotation)
}

#[cfg(test)]
mod tests;
