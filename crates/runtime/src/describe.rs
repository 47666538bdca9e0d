//! What each end says of itself when it is asked.

use nudge_control::Interface;
use serde::{Deserialize, Serialize};

use crate::robot_file::Pace;

/// The version of the native protocol.
pub const PROTOCOL: u32 = 1;

/// The answer to `rpc/describe`; fields that others add are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// `robot` or `controller`.
    pub role: String,
    pub protocol: u32,
    /// The robot's name.
    pub robot: String,
    pub interface: Interface,
    pub pace: Pace,
    /// What a simulated robot's physics does with a command (pace `clock`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physics: Option<Physics>,
    #[serde(default)]
    pub versions: serde_json::Map<String, serde_json::Value>,
}

/// When a command begins to act in a simulated robot at its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Physics {
    /// A command on time counts for the whole tick.
    Tick,
    /// When it comes.
    Live,
}

impl Description {
    pub fn new(role: &str, robot: &str, interface: Interface, pace: Pace) -> Self {
        let version = serde_json::Value::from(env!("CARGO_PKG_VERSION"));
        let versions = [("nudge".to_owned(), version)].into_iter().collect();
        Self {
            role: role.into(),
            protocol: PROTOCOL,
            robot: robot.into(),
            interface,
            pace,
            physics: None,
            versions,
        }
    }
}
