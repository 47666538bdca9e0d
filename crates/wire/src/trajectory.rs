//! `trajectory_msgs/msg/JointTrajectory`.

use crate::cdr::{CdrError, Fields, MAX_ELEMENTS, Reader, Writer};
use crate::{Header, Time};

/// Where joints are to be, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JointTrajectory {
    /// Its stamp is when the trajectory begins; 0 for at once.
    pub header: Header,
    pub joint_names: Vec<String>,
    pub points: Vec<TrajectoryPoint>,
}

/// One point: each of the four fields has one number a joint, or is empty where it is left to the controller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrajectoryPoint {
    pub positions: Vec<f64>,
    pub velocities: Vec<f64>,
    pub accelerations: Vec<f64>,
    pub effort: Vec<f64>,
    pub time_from_start: Time,
}

impl Fields for TrajectoryPoint {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        Ok(Self {
            positions: reader.f64s("points.positions")?,
            velocities: reader.f64s("points.velocities")?,
            accelerations: reader.f64s("points.accelerations")?,
            effort: reader.f64s("points.effort")?,
            time_from_start: Time::read(reader)?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        for numbers in [&self.positions, &self.velocities, &self.accelerations, &self.effort] {
            writer.f64s(numbers);
        }
        self.time_from_start.write(writer);
    }
}

impl Fields for JointTrajectory {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        Ok(Self {
            header: Header::read(reader)?,
            joint_names: reader.strings("joint_names")?,
            points: reader.sequence("points", MAX_ELEMENTS, TrajectoryPoint::read)?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        self.header.write(writer);
        writer.strings(&self.joint_names);
        writer.sequence(&self.points, |writer, point| point.write(writer));
    }
}
