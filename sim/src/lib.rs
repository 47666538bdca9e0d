//! Simulated worlds: tasks in which demonstrations are recorded and policies are proved, and pictures of them.
//!
//! This is the only room that knows rapier. It must never know a policy, the network behind it, or the runtime: a task
//! takes actions and gives observations, and whoever makes the actions lives elsewhere. Time and seeds are arguments.

pub mod arm;
mod demonstration;
mod draw;
mod numpy;
pub mod pick_place;
pub mod push_t;

use nudge_control::{Episode, Task};
use serde::{Deserialize, Serialize};

use demonstration::{demonstrate, demonstrate_beyond_success};
pub use draw::{Picture, draw};
use pick_place::{PickPlace, PickPlaceConfig, PickPlaceExpert};
use push_t::{PushT, PushTConfig, PushTExpert};

/// What this room can refuse.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SimError {
    #[error("{worlds} worlds were given {actions} actions: give one action for each world")]
    ActionCount { worlds: usize, actions: usize },
    #[error(
        "a scene of {size:?} cannot be drawn {width} x {height} px: both sides need 1 to {} px",
        draw::LONGEST_SIDE
    )]
    PictureSize { size: [f64; 2], width: u32, height: u32 },
    #[error("description of an arm: {0}")]
    ArmDescription(String),
}

/// A task by name, with what can be chosen about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum TaskConfig {
    PushT(PushTConfig),
    PickPlace(PickPlaceConfig),
}

impl TaskConfig {
    /// A world ready for its first reset.
    pub fn build(&self) -> Box<dyn Task> {
        match self {
            Self::PushT(config) => Box::new(PushT::new(*config)),
            Self::PickPlace(config) => Box::new(PickPlace::new(*config)),
        }
    }

    /// The episode of this seed, demonstrated by the task's expert, which may fail: ask `Episode::success`.
    pub fn demonstrate(&self, seed: u64) -> Episode {
        match self {
            Self::PushT(config) => {
                let (mut task, mut expert) = (PushT::new(*config), PushTExpert::default());
                demonstrate_beyond_success(&mut task, &mut expert, seed, PushTExpert::goes_on)
            }
            Self::PickPlace(config) => {
                demonstrate(&mut PickPlace::new(*config), &mut PickPlaceExpert::default(), seed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use push_t::ResetRule;

    fn parse(text: &str) -> Result<TaskConfig, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn configurations_name_their_task() {
        let config = parse(r#"{"name": "push_t", "reset_rule": "gym", "max_steps": 200}"#).unwrap();
        let TaskConfig::PushT(push_t) = config else { panic!("not push_t: {config:?}") };
        assert_eq!(push_t, PushTConfig { reset_rule: ResetRule::Gym, max_steps: 200 });
        assert_eq!((config.build().name(), config.build().max_steps()), ("push_t", 200));
        assert_eq!(parse(r#"{"name": "push_t"}"#).unwrap(), TaskConfig::PushT(PushTConfig::default()));
        let written = serde_json::to_string(&TaskConfig::PushT(PushTConfig::default())).unwrap();
        assert_eq!(written, r#"{"name":"push_t","reset_rule":"dp-legacy","max_steps":300}"#);
    }

    #[test]
    fn wrong_configurations_say_what_is_wrong() {
        for (text, word) in [
            (r#"{"name": "push_x"}"#, "push_t"),
            (r#"{"name": "push_t", "max_step": 3}"#, "max_steps"),
            (r#"{"name": "push_t", "reset_rule": "dp_legacy"}"#, "dp-legacy"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
