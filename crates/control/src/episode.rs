//! The only recorded thing: a demonstration, an evaluation rollout and a robot log are one type.

use serde::{Deserialize, Serialize};

use crate::{Action, Interface, Observation};

/// One control step: what was seen, what was then done, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Seconds since the episode began.
    pub time_secs: f64,
    pub observation: Observation,
    pub action: Action,
    /// The reward of the state that the action led to.
    pub reward: f64,
    /// Whether that state achieves the task.
    pub success: bool,
    pub done: bool,
}

/// A recorded episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Name of the task, for example `push_t`.
    pub task: String,
    pub interface: Interface,
    /// The seed of the reset, where there was one; a policy's noise derives from it too.
    pub seed: Option<u64>,
    pub frames: Vec<Frame>,
}

impl Episode {
    /// The largest reward reached; 0 for an empty episode.
    pub fn score(&self) -> f64 {
        self.frames.iter().map(|frame| frame.reward).fold(0.0, f64::max)
    }

    /// Whether the task was ever achieved.
    pub fn success(&self) -> bool {
        self.frames.iter().any(|frame| frame.success)
    }
}
