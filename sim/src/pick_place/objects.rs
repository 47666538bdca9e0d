//! The things on the table.

use std::f64::consts::{FRAC_PI_2, PI};

use nalgebra::{Isometry3, Vector3};

/// Form of an object. Its own frame has its origin in the middle and z up when it stands as it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Graspable along x and along y.
    Cube,
    /// Upright; graspable from everywhere.
    Cylinder,
    /// Longer along y; graspable along x.
    Box,
}

/// What an object is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    pub kind: ObjectKind,
    /// Full extents in its own frame, m; a cylinder's are diameter, diameter, height.
    pub size_m: [f64; 3],
    pub mass_kg: f64,
    /// Coulomb's coefficient against fingers and table.
    pub friction: f64,
}

impl ObjectKind {
    /// The turn about z after which the object looks the same, rad; `None` when every turn does.
    pub fn symmetry(self) -> Option<f64> {
        match self {
            Self::Cube => Some(FRAC_PI_2),
            Self::Box => Some(PI),
            Self::Cylinder => None,
        }
    }

    /// The least turn that is as good as `yaw` (rad): 0 for a cylinder.
    pub fn nearest_turn(self, yaw: f64) -> f64 {
        self.symmetry().map_or(0.0, |period| yaw - period * (yaw / period).round())
    }
}

impl Object {
    /// Radius of the circle about its footprint, m.
    pub fn radius_m(&self) -> f64 {
        match self.kind {
            ObjectKind::Cylinder => self.size_m[0] / 2.0,
            _ => self.size_m[0].hypot(self.size_m[1]) / 2.0,
        }
    }

    /// How far the object reaches from its middle along `direction`, a unit vector of the world, m.
    pub fn reach_m(&self, world_from_object: &Isometry3<f64>, direction: &Vector3<f64>) -> f64 {
        let own = world_from_object.rotation.inverse_transform_vector(direction);
        let [x, y, z] = self.size_m.map(|extent| extent / 2.0);
        match self.kind {
            ObjectKind::Cylinder => x * own.x.hypot(own.y) + z * own.z.abs(),
            _ => x * own.x.abs() + y * own.y.abs() + z * own.z.abs(),
        }
    }

    /// Height of its lowest point, m.
    pub fn bottom_m(&self, world_from_object: &Isometry3<f64>) -> f64 {
        world_from_object.translation.z - self.reach_m(world_from_object, &Vector3::z())
    }

    /// Height of its highest point, m.
    pub fn top_m(&self, world_from_object: &Isometry3<f64>) -> f64 {
        world_from_object.translation.z + self.reach_m(world_from_object, &Vector3::z())
    }
}

/// Yaw of a frame about the world's z, rad: where its x axis points.
pub fn yaw(world_from_frame: &Isometry3<f64>) -> f64 {
    let x = world_from_frame.rotation * Vector3::x();
    x.y.atan2(x.x)
}
