//! The formats that demonstrations come in.

use std::fmt;

use serde::Serialize;

/// What a data set is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Format {
    /// The only one that is also written.
    #[serde(rename = "lerobot_v3")]
    LeRobotV3,
    #[serde(rename = "lerobot_v21")]
    LeRobotV21,
    #[serde(rename = "lerobot_v20")]
    LeRobotV20,
    /// diffusion_policy's `ReplayBuffer` in a zarr folder.
    #[serde(rename = "replay_buffer_zarr")]
    ReplayBufferZarr,
    #[serde(rename = "robomimic_hdf5")]
    RobomimicHdf5,
}

impl Format {
    /// Whether it is a folder with `meta/info.json`, frame times and tasks.
    pub fn is_lerobot(self) -> bool {
        matches!(self, Self::LeRobotV3 | Self::LeRobotV21 | Self::LeRobotV20)
    }
}

/// For people, for example `LeRobot v2.1`.
impl fmt::Display for Format {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::LeRobotV3 => "LeRobot v3.0",
            Self::LeRobotV21 => "LeRobot v2.1",
            Self::LeRobotV20 => "LeRobot v2.0",
            Self::ReplayBufferZarr => "diffusion_policy ReplayBuffer, zarr",
            Self::RobomimicHdf5 => "robomimic, HDF5",
        })
    }
}
