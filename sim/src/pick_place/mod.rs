//! Pick-place: an arm with a parallel gripper takes an object from a table and puts it where it belongs.

mod config;
mod objects;
mod start;

pub use config::{ActionKind, PickPlaceConfig, Variant};
pub use objects::{Object, ObjectKind};
