//! What pick-place looks like: a camera across the table from the arm, painted from far to near.

use nalgebra::{Isometry3, Point3, Translation3, UnitQuaternion, Vector3};
use nudge_control::{Scene, Shape};

use super::PickPlaceState;
use super::config::Variant;
use super::objects::{Object, ObjectKind};
use super::robot::ArmModel;
use super::start::{BIN_HALF_M, BIN_HEIGHT_M, BIN_WALL_HALF_M, PAD_HALF_M};
use crate::arm::{CollisionShape, JointKind};

/// Width and height of the picture.
const SIZE: [f64; 2] = [1.0, 0.75];
/// Where the camera is and what it looks at, m; width of the picture at a distance of 1 m.
const CAMERA_M: [f64; 3] = [1.4, -0.85, 0.9];
const LOOKS_AT_M: [f64; 3] = [0.42, 0.0, 0.15];
const FIELD: f64 = 0.66;
/// Where the light comes from.
const LIGHT: [f64; 3] = [0.5, -0.35, 0.8];
const FACETS: usize = 14;

const TABLE_COLOUR: [u8; 3] = [232, 224, 212];
const PAD_COLOUR: [u8; 3] = [126, 200, 130];
const BIN_COLOUR: [u8; 3] = [112, 172, 205];
const OBJECT_COLOUR: [u8; 3] = [222, 84, 62];
const SUPPORT_COLOUR: [u8; 3] = [84, 160, 96];
const DISTRACTOR_COLOUR: [u8; 3] = [158, 150, 170];
const ARM_COLOUR: [u8; 3] = [214, 218, 224];
const JOINT_COLOUR: [u8; 3] = [150, 158, 170];
const HAND_COLOUR: [u8; 3] = [92, 100, 114];
const FINGER_COLOUR: [u8; 3] = [50, 56, 66];
const SHADOW: [u8; 4] = [40, 36, 30, 46];

/// The picture of a state.
pub(crate) fn scene(model: &ArmModel, variant: Variant, state: &PickPlaceState) -> Scene {
    let camera = Camera::new();
    let solids = solids(model, variant, state);
    let mut shapes = vec![camera.flat("table", &rectangle(0.4, 0.0, 0.5, 0.6), opaque(TABLE_COLOUR))];
    shapes.extend(target(&camera, variant, state));
    for solid in solids.iter().filter(|solid| solid.casts_shadow) {
        let ground: Vec<[f64; 2]> = solid.corners().map(|corner| [corner.x, corner.y]).collect();
        shapes.push(camera.flat("shadow", &hull(ground), SHADOW));
    }
    shapes.push(plumb(&camera, state));
    let mut order: Vec<&Solid> = solids.iter().collect();
    let distance = |solid: &Solid| (solid.middle() - camera.position).norm();
    order.sort_by(|one, other| distance(other).total_cmp(&distance(one)));
    shapes.extend(order.into_iter().flat_map(|solid| solid.paint(&camera)));
    Scene { size: SIZE, shapes }
}

/// The place where the object has to go.
fn target(camera: &Camera, variant: Variant, state: &PickPlaceState) -> Vec<Shape> {
    let pose = &state.world_from_target;
    let on_table = |corners: &[[f64; 2]]| -> Vec<[f64; 2]> {
        let place = |[x, y]: &[f64; 2]| pose * Point3::new(*x, *y, 0.0);
        corners.iter().map(place).map(|point| [point.x, point.y]).collect()
    };
    let square = |half: f64| on_table(&rectangle(0.0, 0.0, half, half));
    let [half_x, half_y, _] = state.object.size_m.map(|extent| extent / 2.0);
    match variant {
        Variant::Standard | Variant::MovedTarget => vec![
            camera.flat("target", &square(PAD_HALF_M), opaque(PAD_COLOUR)),
            camera.flat("target", &square(0.85 * PAD_HALF_M), opaque(PAD_COLOUR.map(|value| value + 25))),
        ],
        Variant::Bin => {
            vec![camera.flat("target", &square(BIN_HALF_M), opaque(BIN_COLOUR.map(|value| value - 40)))]
        }
        Variant::Tight => {
            let outline: Vec<[f64; 2]> = match state.object.kind {
                ObjectKind::Cylinder => circle(half_x),
                _ => rectangle(0.0, 0.0, half_x, half_y),
            };
            let around: Vec<[f64; 2]> = outline.iter().map(|[x, y]| [x * 1.35, y * 1.35]).collect();
            vec![
                camera.flat("target", &on_table(&around), opaque(PAD_COLOUR)),
                camera.flat("target", &on_table(&outline), opaque(TABLE_COLOUR)),
            ]
        }
        Variant::Stack => Vec::new(),
    }
}

/// A line from the tool down to the table, by which the eye finds the tool's place in the plane.
fn plumb(camera: &Camera, state: &PickPlaceState) -> Shape {
    let tool = state.world_from_tool.translation.vector;
    let points = vec![camera.see(&tool.into()), camera.see(&Point3::new(tool.x, tool.y, 0.0))];
    Shape::Line { name: "plumb", points, width: 0.002, rgba: [60, 60, 60, 110] }
}

/// A convex thing: prisms along z, in a frame of their own.
struct Solid {
    name: &'static str,
    world_from_solid: Isometry3<f64>,
    /// Outline of the prism, anticlockwise seen from above, m; and half its height.
    outline: Vec<[f64; 2]>,
    half_height: f64,
    colour: [u8; 3],
    casts_shadow: bool,
}

/// All solid things of a state.
fn solids(model: &ArmModel, variant: Variant, state: &PickPlaceState) -> Vec<Solid> {
    let mut solids = arm(model, state);
    let target = &state.world_from_target;
    if variant == Variant::Bin {
        let out = BIN_HALF_M + BIN_WALL_HALF_M;
        let long = BIN_HALF_M + 2.0 * BIN_WALL_HALF_M;
        for (x, y) in [(out, 0.0), (-out, 0.0), (0.0, out), (0.0, -out)] {
            let (half_x, half_y) =
                if y == 0.0 { (BIN_WALL_HALF_M, BIN_HALF_M) } else { (long, BIN_WALL_HALF_M) };
            solids.push(Solid {
                name: "bin",
                world_from_solid: target * Translation3::new(x, y, BIN_HEIGHT_M / 2.0),
                outline: rectangle(0.0, 0.0, half_x, half_y),
                half_height: BIN_HEIGHT_M / 2.0,
                colour: BIN_COLOUR,
                casts_shadow: false,
            });
        }
    }
    let things = [("object", Some((state.object, state.world_from_object)), OBJECT_COLOUR)].into_iter();
    let others = state.distractors.map(|other| ("distractor", Some(other), DISTRACTOR_COLOUR));
    for (name, thing, colour) in things.chain(others).chain([("support", state.support, SUPPORT_COLOUR)]) {
        solids.extend(thing.map(|(object, pose)| of_object(name, &object, &pose, colour)));
    }
    solids
}

fn of_object(name: &'static str, object: &Object, pose: &Isometry3<f64>, colour: [u8; 3]) -> Solid {
    let [half_x, half_y, half_height] = object.size_m.map(|extent| extent / 2.0);
    let outline = match object.kind {
        ObjectKind::Cylinder => circle(half_x),
        _ => rectangle(0.0, 0.0, half_x, half_y),
    };
    Solid { name, world_from_solid: *pose, outline, half_height, colour, casts_shadow: true }
}

/// The arm's links, where its joints put them.
fn arm(model: &ArmModel, state: &PickPlaceState) -> Vec<Solid> {
    let description = model.description();
    let mut moved = state.joints.iter().copied().chain([state.opening_m / 2.0; 2]);
    let mut frames = vec![("link0", Isometry3::identity())];
    for joint in &description.joints {
        let Some((_, parent)) = frames.iter().find(|(name, _)| *name == joint.parent) else { continue };
        let motion = match joint.kind {
            JointKind::Fixed => Isometry3::identity(),
            JointKind::Revolute => {
                let turn = UnitQuaternion::from_axis_angle(&joint.axis, moved.next().unwrap_or(0.0));
                Isometry3::from_parts(Translation3::identity(), turn)
            }
            JointKind::Prismatic => {
                Translation3::from(joint.axis.into_inner() * moved.next().unwrap_or(0.0)).into()
            }
        };
        frames.push((&joint.child, parent * joint.parent_from_joint * motion));
    }
    let mut solids = Vec::new();
    for link in &description.links {
        let Some((_, frame)) = frames.iter().find(|(name, _)| *name == link.name) else { continue };
        let (name, colour, casts_shadow) = match link.name.as_str() {
            "left_finger" | "right_finger" => ("finger", FINGER_COLOUR, true),
            "hand" => ("hand", HAND_COLOUR, true),
            "link2" | "link4" | "link6" => ("arm", JOINT_COLOUR, false),
            _ => ("arm", ARM_COLOUR, false),
        };
        for shape in &link.collisions {
            let (outline, half_height) = match shape.shape {
                CollisionShape::Box { half_extents: half } => (rectangle(0.0, 0.0, half.x, half.y), half.z),
                CollisionShape::Cylinder { radius, half_length } => (circle(radius), half_length),
            };
            let world_from_solid = frame * shape.link_from_shape;
            solids.push(Solid { name, world_from_solid, outline, half_height, colour, casts_shadow });
        }
    }
    solids
}

impl Solid {
    fn middle(&self) -> Point3<f64> {
        self.world_from_solid.translation.vector.into()
    }

    fn corner(&self, index: usize, top: f64) -> Point3<f64> {
        let [x, y] = self.outline[index % self.outline.len()];
        self.world_from_solid * Point3::new(x, y, top * self.half_height)
    }

    fn corners(&self) -> impl Iterator<Item = Point3<f64>> {
        (0..self.outline.len()).flat_map(|index| [1.0, -1.0].map(|top| self.corner(index, top)))
    }

    /// The faces that the camera sees.
    fn paint(&self, camera: &Camera) -> Vec<Shape> {
        let count = self.outline.len();
        let end =
            |top: f64| -> Vec<Point3<f64>> { (0..count).map(|index| self.corner(index, top)).collect() };
        let side = |index: usize| {
            let [here, next] = [index, index + 1].map(|index| [1.0, -1.0].map(|top| self.corner(index, top)));
            vec![here[0], here[1], next[1], next[0]]
        };
        let mut faces: Vec<Vec<Point3<f64>>> = (0..count).map(side).collect();
        faces.push(end(1.0));
        faces.push(end(-1.0).into_iter().rev().collect());
        // Beneath the faces, so that nothing shines through where two of them meet.
        let silhouette = Shape::Polygon {
            name: self.name,
            corners: hull(self.corners().map(|corner| camera.see(&corner)).collect()),
            rgba: opaque(self.colour.map(|value| (0.8 * f64::from(value)) as u8)),
        };
        let faces = faces.iter().filter_map(|face| self.paint_face(camera, face));
        std::iter::once(silhouette).chain(faces).collect()
    }

    /// A face, its corners anticlockwise from outside; `None` when it looks away.
    fn paint_face(&self, camera: &Camera, face: &[Point3<f64>]) -> Option<Shape> {
        let [a, b, c, ..] = face else { return None };
        let normal = (b - a).cross(&(c - b)).try_normalize(1e-12)?;
        if normal.dot(&(camera.position - a)) <= 0.0 {
            return None;
        }
        let light = normal.dot(&Vector3::from(LIGHT).normalize()).max(0.0);
        let rgb = self.colour.map(|value| (f64::from(value) * (0.62 + 0.38 * light)).min(255.0) as u8);
        let corners = face.iter().map(|corner| camera.see(corner)).collect();
        Some(Shape::Polygon { name: self.name, corners, rgba: opaque(rgb) })
    }
}

struct Camera {
    position: Point3<f64>,
    camera_from_world: Isometry3<f64>,
}

impl Camera {
    fn new() -> Self {
        let position = Point3::from(CAMERA_M);
        let camera_from_world = Isometry3::look_at_rh(&position, &Point3::from(LOOKS_AT_M), &Vector3::z());
        Self { position, camera_from_world }
    }

    /// Where a point of the world is in the picture.
    fn see(&self, point: &Point3<f64>) -> [f64; 2] {
        let seen = self.camera_from_world * point;
        // The camera looks along -z; nothing of this world is behind it.
        let scale = SIZE[0] / (FIELD * -seen.z);
        [SIZE[0] / 2.0 + scale * seen.x, SIZE[1] / 2.0 - scale * seen.y]
    }

    /// A polygon on the table.
    fn flat(&self, name: &'static str, corners: &[[f64; 2]], rgba: [u8; 4]) -> Shape {
        let corners = corners.iter().map(|[x, y]| self.see(&Point3::new(*x, *y, 0.0))).collect();
        Shape::Polygon { name, corners, rgba }
    }
}

fn opaque([red, green, blue]: [u8; 3]) -> [u8; 4] {
    [red, green, blue, 255]
}

fn rectangle(x: f64, y: f64, half_x: f64, half_y: f64) -> Vec<[f64; 2]> {
    [(1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0)]
        .map(|(along_x, along_y)| [x + along_x * half_x, y + along_y * half_y])
        .to_vec()
}

fn circle(radius: f64) -> Vec<[f64; 2]> {
    let at = |index: usize| std::f64::consts::TAU * index as f64 / FACETS as f64;
    (0..FACETS).map(|index| [radius * at(index).cos(), radius * at(index).sin()]).collect()
}

/// Convex hull, anticlockwise (Andrew 1979).
fn hull(mut points: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    points.sort_by(|one, other| one[0].total_cmp(&other[0]).then(one[1].total_cmp(&other[1])));
    let half = |points: &mut dyn Iterator<Item = [f64; 2]>| {
        let mut kept: Vec<[f64; 2]> = Vec::new();
        for point in points {
            while let [.., a, b] = kept[..]
                && (b[0] - a[0]) * (point[1] - a[1]) <= (b[1] - a[1]) * (point[0] - a[0])
            {
                kept.pop();
            }
            kept.push(point);
        }
        kept.pop();
        kept
    };
    let lower = half(&mut points.iter().copied());
    let upper = half(&mut points.iter().rev().copied());
    [lower, upper].concat()
}
