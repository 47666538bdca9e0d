//! The messages that are spoken here: their names, the hashes of their types, and their definitions as text.

use crate::cdr::{self, CdrError, Fields};
use crate::{Bool, Float64MultiArray, JointState, JointTrajectory, PoseStamped, Text, TwistStamped};

/// A message that is spoken here.
pub trait Message: Fields {
    const TYPE: MessageType;

    /// Reads a whole payload: CDR, little endian. Memory is bounded by what the payload shows.
    ///
    /// # Errors
    /// When the payload is anything else, at whatever byte that shows.
    fn decode(payload: &[u8]) -> Result<Self, CdrError> {
        cdr::decode(payload)
    }

    /// Writes a whole payload: CDR, little endian.
    fn encode(&self) -> Vec<u8> {
        cdr::encode(self)
    }
}

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageType {
    Bool,
    Float64MultiArray,
    JointState,
    JointTrajectory,
    PoseStamped,
    String,
    TwistStamped,
}

impl MessageType {
    pub const ALL: [Self; 7] = [
        Self::Bool,
        Self::Float64MultiArray,
        Self::JointState,
        Self::JointTrajectory,
        Self::PoseStamped,
        Self::String,
        Self::TwistStamped,
    ];

    /// As ROS 2 names it, for example `std_msgs/msg/Bool`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The type of that name, if it is spoken here.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|message| message.name() == name)
    }

    /// As DDS names it, for example `std_msgs::msg::dds_::Bool_`.
    pub fn dds_name(self) -> &'static str {
        self.row().1
    }

    /// The hash of the type's description (REP 2011), `RIHS01_` and 64 hexadecimal digits; of Jazzy and Kilted.
    pub fn hash(self) -> &'static str {
        self.row().2
    }

    /// The definition as text, with those of every type in it behind it, each headed by a line of `=` and its name: what
    /// MCAP calls the schema encoding `ros2msg`.
    pub fn definition(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Bool => (
                "std_msgs/msg/Bool",
                "std_msgs::msg::dds_::Bool_",
                "RIHS01_feb91e995ff9ebd09c0cb3d2aed18b11077585839fb5db80193b62d74528f6c9",
                include_str!("definitions/Bool.msg"),
            ),
            Self::Float64MultiArray => (
                "std_msgs/msg/Float64MultiArray",
                "std_msgs::msg::dds_::Float64MultiArray_",
                "RIHS01_1025ddc6b9552d191f89ef1a8d2f60f3d373e28b283d8891ddcc974e8c55397f",
                include_str!("definitions/Float64MultiArray.msg"),
            ),
            Self::JointState => (
                "sensor_msgs/msg/JointState",
                "sensor_msgs::msg::dds_::JointState_",
                "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e",
                include_str!("definitions/JointState.msg"),
            ),
            Self::JointTrajectory => (
                "trajectory_msgs/msg/JointTrajectory",
                "trajectory_msgs::msg::dds_::JointTrajectory_",
                "RIHS01_179b33eba59d676f6d967ac71fe35e7ca2f64b2f3928f4a018cec115e213796e",
                include_str!("definitions/JointTrajectory.msg"),
            ),
            Self::PoseStamped => (
                "geometry_msgs/msg/PoseStamped",
                "geometry_msgs::msg::dds_::PoseStamped_",
                "RIHS01_10f3786d7d40fd2b54367835614bff85d4ad3b5dab62bf8bca0cc232d73b4cd8",
                include_str!("definitions/PoseStamped.msg"),
            ),
            Self::String => (
                "std_msgs/msg/String",
                "std_msgs::msg::dds_::String_",
                "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18",
                include_str!("definitions/String.msg"),
            ),
            Self::TwistStamped => (
                "geometry_msgs/msg/TwistStamped",
                "geometry_msgs::msg::dds_::TwistStamped_",
                "RIHS01_5f0fcd4f81d5d06ad9b4c4c63e3ea51b82d6ae4d0558f1d475229b1121db6f64",
                include_str!("definitions/TwistStamped.msg"),
            ),
        }
    }
}

impl Message for Bool {
    const TYPE: MessageType = MessageType::Bool;
}

impl Message for Float64MultiArray {
    const TYPE: MessageType = MessageType::Float64MultiArray;
}

impl Message for JointState {
    const TYPE: MessageType = MessageType::JointState;
}

impl Message for JointTrajectory {
    const TYPE: MessageType = MessageType::JointTrajectory;
}

impl Message for PoseStamped {
    const TYPE: MessageType = MessageType::PoseStamped;
}

impl Message for Text {
    const TYPE: MessageType = MessageType::String;
}

impl Message for TwistStamped {
    const TYPE: MessageType = MessageType::TwistStamped;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_type_belong_together() {
        for message in MessageType::ALL {
            let (package, name) = message.name().split_once("/msg/").unwrap();
            assert_eq!(message.dds_name(), format!("{package}::msg::dds_::{name}_"));
            assert_eq!(MessageType::named(message.name()), Some(message));
            let digits = message.hash().strip_prefix("RIHS01_").unwrap();
            assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        }
        assert_eq!(MessageType::named("std_msgs/Bool"), None);
    }
}
