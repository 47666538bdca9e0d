//! `sensor_msgs/msg/JointState`.

use crate::Header;
use crate::cdr::{CdrError, Fields, Reader, Writer};

/// What is measured of joints. Each of the three fields has one number a joint, or is empty where that is not measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JointState {
    pub header: Header,
    pub name: Vec<String>,
    /// rad or m.
    pub position: Vec<f64>,
    /// rad/s or m/s.
    pub velocity: Vec<f64>,
    /// N m or N.
    pub effort: Vec<f64>,
}

impl Fields for JointState {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        Ok(Self {
            header: Header::read(reader)?,
            name: reader.strings("name")?,
            position: reader.f64s("position")?,
            velocity: reader.f64s("velocity")?,
            effort: reader.f64s("effort")?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        self.header.write(writer);
        writer.strings(&self.name);
        for numbers in [&self.position, &self.velocity, &self.effort] {
            writer.f64s(numbers);
        }
    }
}
