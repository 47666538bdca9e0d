//! What an arm consists of, as its URDF says: links with mass and shapes, joints with limits.

use nalgebra::{Isometry3, Matrix3, Point3, Translation3, Unit, UnitQuaternion, Vector3};
use nudge_control::{Chain, RevoluteJoint};
use roxmltree::{Document, Node};

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
        let document = Document::parse(text).map_err(|error| refused(format!("not a URDF: {error}")))?;
        let robot = document.root_element();
        if !robot.has_tag_name("robot") {
            let name = robot.tag_name().name();
            return Err(refused(format!("not a URDF: its root is <{name}>, and must be <robot>")));
        }
        let links = children(robot, "link").map(link).collect::<Result<Vec<_>, _>>()?;
        let joints = children(robot, "joint").map(joint).collect::<Result<Vec<_>, _>>()?;
        for joint in &joints {
            for name in [&joint.parent, &joint.child] {
                if !links.iter().any(|link| &link.name == name) {
                    return Err(refused(format!("joint {}: there is no link {name}; add it", joint.name)));
                }
            }
        }
        Ok(Self { name: attribute(robot, "name")?.to_owned(), links, joints })
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

fn link(link: Node) -> Result<Link, SimError> {
    let name = attribute(link, "name")?.to_owned();
    let collisions = children(link, "collision").map(|collision| {
        let geometry = child(collision, "geometry")?;
        let shape = if let Some(cuboid) = children(geometry, "box").next() {
            CollisionShape::Box { half_extents: vector(cuboid, "size")? / 2.0 }
        } else if let Some(cylinder) = children(geometry, "cylinder").next() {
            let half_length = number(cylinder, "length")? / 2.0;
            CollisionShape::Cylinder { radius: number(cylinder, "radius")?, half_length }
        } else {
            return Err(refused(format!("link {name}: only boxes and cylinders collide here; use those")));
        };
        Ok(Collision { link_from_shape: origin(collision)?, shape })
    });
    let collisions = collisions.collect::<Result<_, _>>()?;
    let Some(inertial) = children(link, "inertial").next() else {
        let (center_of_mass, inertia) = (Point3::origin(), Matrix3::zeros());
        return Ok(Link { name, mass_kg: 0.0, center_of_mass, inertia, collisions });
    };
    let link_from_inertial = origin(inertial)?;
    let moments = child(inertial, "inertia")?;
    let [xx, xy, xz, yy, yz, zz] =
        ["ixx", "ixy", "ixz", "iyy", "iyz", "izz"].map(|name| number(moments, name));
    let (xy, xz, yz) = (xy?, xz?, yz?);
    let inertia = Matrix3::new(xx?, xy, xz, xy, yy?, yz, xz, yz, zz?);
    let rotation = link_from_inertial.rotation.to_rotation_matrix();
    Ok(Link {
        name,
        mass_kg: number(child(inertial, "mass")?, "value")?,
        center_of_mass: link_from_inertial.translation.vector.into(),
        inertia: rotation.matrix() * inertia * rotation.matrix().transpose(),
        collisions,
    })
}

fn joint(joint: Node) -> Result<Joint, SimError> {
    let name = attribute(joint, "name")?;
    let kind = match attribute(joint, "type")? {
        "revolute" => JointKind::Revolute,
        "prismatic" => JointKind::Prismatic,
        "fixed" => JointKind::Fixed,
        other => {
            return Err(refused(format!("joint {name} is {other}: make it revolute, prismatic or fixed")));
        }
    };
    // URDF's own default.
    let axis = children(joint, "axis").next().map_or(Ok(Vector3::x()), |axis| vector(axis, "xyz"))?;
    let Some(axis) = Unit::try_new(axis, 1e-9) else {
        return Err(refused(format!("joint {name}: its axis is 0 0 0; give it a direction")));
    };
    let limit = |bound| match kind {
        JointKind::Fixed => Ok(0.0),
        _ => number(child(joint, "limit")?, bound),
    };
    let (lower, upper) = (limit("lower")?, limit("upper")?);
    if kind != JointKind::Fixed && lower >= upper {
        return Err(refused(format!("joint {name} goes from {lower} to {upper}: lower must be below upper")));
    }
    Ok(Joint {
        name: name.to_owned(),
        kind,
        parent: attribute(child(joint, "parent")?, "link")?.to_owned(),
        child: attribute(child(joint, "child")?, "link")?.to_owned(),
        parent_from_joint: origin(joint)?,
        axis,
        lower,
        upper,
        velocity: limit("velocity")?,
        effort: limit("effort")?,
    })
}

/// The pose that an element's `<origin>` gives it; URDF's default is none.
fn origin(node: Node) -> Result<Isometry3<f64>, SimError> {
    let Some(origin) = children(node, "origin").next() else {
        return Ok(Isometry3::identity());
    };
    let or_zero = |name| if origin.has_attribute(name) { vector(origin, name) } else { Ok(Vector3::zeros()) };
    let (xyz, rpy) = (or_zero("xyz")?, or_zero("rpy")?);
    let rotation = UnitQuaternion::from_euler_angles(rpy.x, rpy.y, rpy.z);
    Ok(Isometry3::from_parts(Translation3::from(xyz), rotation))
}

fn children<'a>(node: Node<'a, 'a>, tag: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    node.children().filter(move |child| child.has_tag_name(tag))
}

fn child<'a>(node: Node<'a, 'a>, tag: &'static str) -> Result<Node<'a, 'a>, SimError> {
    children(node, tag).next().ok_or_else(|| refused(format!("{}: there is no <{tag}>; add it", place(node))))
}

fn attribute<'a>(node: Node<'a, 'a>, name: &str) -> Result<&'a str, SimError> {
    node.attribute(name)
        .ok_or_else(|| refused(format!("{}: there is no attribute {name}; add it", place(node))))
}

fn number(node: Node, name: &str) -> Result<f64, SimError> {
    let text = attribute(node, name)?;
    finite(text).ok_or_else(|| refused(format!("{}: {name} is \"{text}\", not a number", place(node))))
}

fn vector(node: Node, name: &str) -> Result<Vector3<f64>, SimError> {
    let text = attribute(node, name)?;
    let numbers: Option<Vec<f64>> = text.split_ascii_whitespace().map(finite).collect();
    match numbers.as_deref() {
        Some([x, y, z]) => Ok(Vector3::new(*x, *y, *z)),
        _ => Err(refused(format!("{}: {name} is \"{text}\", not three numbers", place(node)))),
    }
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Where an element stands, for messages.
fn place(node: Node) -> String {
    let position = node.document().text_pos_at(node.range().start);
    format!("line {}, <{}>", position.row, node.tag_name().name())
}

#[cfg(test)]
mod tests;
