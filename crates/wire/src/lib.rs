//! What ROS 2 puts on the wire, without a bus: messages in CDR, the attachment that goes with each, the names and hashes
//! of their types, and the keys and liveliness tokens of rmw_zenoh.
//!
//! Everything here is plain data in and out: no bus, no clock, no other room. Whatever comes from outside is bounded
//! before it is believed.

mod array;
mod attachment;
mod cdr;
mod geometry;
mod header;
mod joint_state;
mod keys;
mod message;
mod plain;
mod qos;
mod token;
mod trajectory;

pub use array::{Dimension, Float64MultiArray};
pub use attachment::{ATTACHMENT_LENGTH, Attachment, AttachmentError, Gid};
pub use cdr::{CdrError, MAX_ELEMENTS};
pub use geometry::{Point, Pose, PoseStamped, Quaternion, Twist, TwistStamped, Vector3};
pub use header::{Header, Time};
pub use joint_state::JointState;
pub use keys::{bridge_key, check_topic, data_key};
pub use message::{Message, MessageType};
pub use plain::{Bool, Text};
pub use qos::Qos;
pub use token::{Endpoint, EndpointKind, Node, parse_endpoint, tokens_of_domain};
pub use trajectory::{JointTrajectory, TrajectoryPoint};
