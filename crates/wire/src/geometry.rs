//! `geometry_msgs`: where something is, and how it moves.

use crate::Header;
use crate::cdr::{CdrError, Fields, Reader, Writer};

/// `geometry_msgs/msg/Point`, in m.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub z: f64,
}

/// `geometry_msgs/msg/Vector3`, in m/s or rad/s.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vector3 {
    pub x: f64,
    pub y: f64,
    pub z: f64,
}

/// `geometry_msgs/msg/Quaternion`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quaternion {
    pub x: f64,
    pub y: f64,
    pub z: f64,
    pub w: f64,
}

impl Default for Quaternion {
    /// No rotation.
    fn default() -> Self {
        Self { x: 0.0, y: 0.0, z: 0.0, w: 1.0 }
    }
}

/// `geometry_msgs/msg/Pose`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pose {
    pub position: Point,
    pub orientation: Quaternion,
}

/// `geometry_msgs/msg/PoseStamped`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoseStamped {
    pub header: Header,
    pub pose: Pose,
}

/// `geometry_msgs/msg/Twist`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Twist {
    /// m/s.
    pub linear: Vector3,
    /// rad/s.
    pub angular: Vector3,
}

/// `geometry_msgs/msg/TwistStamped`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TwistStamped {
    pub header: Header,
    pub twist: Twist,
}

impl Fields for PoseStamped {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        let header = Header::read(reader)?;
        let position = Point { x: reader.f64()?, y: reader.f64()?, z: reader.f64()? };
        let orientation =
            Quaternion { x: reader.f64()?, y: reader.f64()?, z: reader.f64()?, w: reader.f64()? };
        Ok(Self { header, pose: Pose { position, orientation } })
    }

    fn write(&self, writer: &mut Writer) {
        self.header.write(writer);
        let Pose { position, orientation } = self.pose;
        for number in [position.x, position.y, position.z] {
            writer.f64(number);
        }
        for number in [orientation.x, orientation.y, orientation.z, orientation.w] {
            writer.f64(number);
        }
    }
}

impl Fields for Vector3 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        Ok(Self { x: reader.f64()?, y: reader.f64()?, z: reader.f64()? })
    }

    fn write(&self, writer: &mut Writer) {
        for number in [self.x, self.y, self.z] {
            writer.f64(number);
        }
    }
}

impl Fields for TwistStamped {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        let header = Header::read(reader)?;
        let twist = Twist { linear: Vector3::read(reader)?, angular: Vector3::read(reader)? };
        Ok(Self { header, twist })
    }

    fn write(&self, writer: &mut Writer) {
        self.header.write(writer);
        self.twist.linear.write(writer);
        self.twist.angular.write(writer);
    }
}
