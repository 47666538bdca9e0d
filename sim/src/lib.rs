//! Simulated worlds: tasks in which demonstrations are recorded and policies are proved, and pictures of them.
//!
//! This is the only room that knows rapier. It must never know a policy, the network behind it, or the runtime: a task
//! takes actions and gives observations, and whoever makes the actions lives elsewhere. Time and seeds are arguments.

mod draw;
mod numpy;
pub mod push_t;

use nudge_control::Task;
use serde::{Deserialize, Serialize};

pub use draw::{Picture, draw};
use push_t::{PushT, PushTConfig};

/// What this room can refuse.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SimError {
    #[error("{worlds} worlds were given {actions} actions: give one action for each world")]
    ActionCount { worlds: usize, actions: usize },
    #[error("a scene of {size:?} cannot be drawn {width} x {height} px: both sides need at least 1 px")]
    PictureSize { size: [f64; 2], width: u32, height: u32 },
}

/// A task by name, with what can be chosen about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum TaskConfig {
    PushT(PushTConfig),
}

impl TaskConfig {
    pub fn build(&self) -> Box<dyn Task> {
        match self {
            Self::PushT(config) => Box::new(PushT::new(*config)),
        }
    }
}
