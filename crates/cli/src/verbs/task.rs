//! The choice of a simulated task, as every verb that runs one offers it.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use nudge_control::Interface;
use nudge_sim::TaskConfig;
use nudge_sim::pick_place::{ActionKind, PickPlaceConfig, Variant};
use nudge_sim::push_t::{PushTConfig, ResetRule};

/// A simulated task
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum TaskName {
    /// Push a T-shaped block onto its goal with a round agent
    PushT,
    /// Pick an object from a table with an arm, and put it where it belongs
    PickPlace,
}

/// What can be chosen about a task. Whatever is not given is as the task has it.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct TaskArgs {
    /// push_t: how starts are drawn from seeds [default: dp-legacy]
    #[arg(long, value_enum, value_name = "RULE", help_heading = "Task")]
    reset_rule: Option<Rule>,

    /// pick_place: where the object is to be put [default: standard]
    #[arg(long, value_enum, help_heading = "Task")]
    variant: Option<Place>,

    /// pick_place: what an action says [default: pose, or what a checkpoint was trained for]
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Task")]
    actions: Option<Actions>,

    /// Control steps after which an episode is over [default: 300 in push_t, 200 in pick_place]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000), help_heading = "Task")]
    max_steps: Option<u64>,
}

impl TaskArgs {
    /// The task as these options have it.
    ///
    /// # Errors
    /// When an option is given that belongs to another task.
    pub fn config(&self, task: TaskName) -> Result<TaskConfig> {
        let steps = |default: usize| self.max_steps.map_or(default, |steps| steps as usize);
        let stray = match task {
            TaskName::PushT => [("variant", self.variant.is_some()), ("actions", self.actions.is_some())],
            TaskName::PickPlace => [("reset-rule", self.reset_rule.is_some()), ("", false)],
        };
        if let Some((option, _)) = stray.iter().find(|(_, given)| *given) {
            let (task, other) = match task {
                TaskName::PushT => ("push_t", "pick_place"),
                TaskName::PickPlace => ("pick_place", "push_t"),
            };
            bail!("--{option} is an option of {other}, and this is {task}: leave it out");
        }
        Ok(match task {
            TaskName::PushT => {
                let default = PushTConfig::default();
                TaskConfig::PushT(PushTConfig {
                    reset_rule: self.reset_rule.map_or(default.reset_rule, Into::into),
                    max_steps: steps(default.max_steps),
                })
            }
            TaskName::PickPlace => {
                let default = PickPlaceConfig::default();
                TaskConfig::PickPlace(PickPlaceConfig {
                    variant: self.variant.map_or(default.variant, Into::into),
                    action: self.actions.map_or(default.action, Into::into),
                    max_steps: steps(default.max_steps),
                })
            }
        })
    }

    /// The task that a checkpoint names, with the actions of its `interface` unless others are asked for.
    ///
    /// # Errors
    /// When there is no such task here, or as [`config`](Self::config).
    pub fn named(&self, task: &str, interface: &Interface) -> Result<TaskConfig> {
        let Ok(task) = TaskName::from_str(task, false) else {
            bail!("the checkpoint is for the task `{task}`, which has no simulation here");
        };
        let fits = |config: &TaskConfig| interface.accepts(config.build().interface()).is_ok();
        let joints = Self { actions: Some(Actions::Joint), ..*self };
        if task == TaskName::PickPlace && self.actions.is_none() {
            let config = joints.config(task)?;
            if fits(&config) {
                return Ok(config);
            }
        }
        self.config(task)
    }
}

/// What is to be done, in words; for Push-T those that LeRobot's own sets use.
pub fn instruction(task: &TaskConfig) -> &'static str {
    match task {
        TaskConfig::PushT(_) => "Push the T-shaped block onto the T-shaped target.",
        TaskConfig::PickPlace(config) => match config.variant {
            Variant::Standard | Variant::MovedTarget => "Pick up the object and place it on the pad.",
            Variant::Bin => "Pick up the object and place it in the bin.",
            Variant::Tight => "Pick up the object and place it exactly on the mark.",
            Variant::Stack => "Stack the cube on the other cube.",
        },
    }
}

/// Where to find what moves, of which speeds are told.
pub struct Position {
    /// The observation's feature, the first `dim` numbers of which are the place in `unit`.
    pub feature: &'static str,
    pub dim: usize,
    pub unit: &'static str,
}

/// What moves in a task: the agent, or the tool.
pub fn position(task: &TaskConfig) -> Position {
    match task {
        TaskConfig::PushT(_) => Position { feature: "observation.state", dim: 2, unit: "px" },
        TaskConfig::PickPlace(_) => Position { feature: "observation.tool_pose", dim: 3, unit: "m" },
    }
}

/// The stages of a task and the reward with which each is reached; none where the reward is no count of stages.
pub fn stages(task: &TaskConfig) -> &'static [(&'static str, f64)] {
    match task {
        TaskConfig::PushT(_) => &[],
        TaskConfig::PickPlace(_) => {
            &[("reached", 0.2), ("grasped", 0.4), ("lifted", 0.6), ("above the target", 0.8), ("placed", 1.0)]
        }
    }
}

/// How Push-T draws its starts
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// diffusion_policy's environment
    Dp,
    /// diffusion_policy's low-dimensional evaluation, and the human demonstrations
    #[default]
    DpLegacy,
    /// gym-pusht
    Gym,
}

impl From<Rule> for ResetRule {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Dp => Self::Dp,
            Rule::DpLegacy => Self::DpLegacy,
            Rule::Gym => Self::Gym,
        }
    }
}

/// Where pick-place puts its object
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Place {
    /// Anywhere on a pad
    Standard,
    /// In a bin with walls
    Bin,
    /// On a mark, to within 1 cm and 10 degrees
    Tight,
    /// On top of another cube
    Stack,
    /// On a pad that jumps elsewhere in mid-episode
    MovedTarget,
}

impl From<Place> for Variant {
    fn from(place: Place) -> Self {
        match place {
            Place::Standard => Self::Standard,
            Place::Bin => Self::Bin,
            Place::Tight => Self::Tight,
            Place::Stack => Self::Stack,
            Place::MovedTarget => Self::MovedTarget,
        }
    }
}

/// What an action of pick-place says
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Actions {
    /// Where the tool is to be, and how it is turned
    Pose,
    /// The angle of each joint
    Joint,
}

impl From<Actions> for ActionKind {
    fn from(actions: Actions) -> Self {
        match actions {
            Actions::Pose => Self::Pose,
            Actions::Joint => Self::Joint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_another_task_are_refused() {
        let push_t = TaskArgs { reset_rule: Some(Rule::Gym), ..TaskArgs::default() };
        let pick_place = TaskArgs { actions: Some(Actions::Joint), ..TaskArgs::default() };
        assert!(push_t.config(TaskName::PushT).is_ok() && pick_place.config(TaskName::PickPlace).is_ok());
        let error = push_t.config(TaskName::PickPlace).unwrap_err().to_string();
        assert!(error.contains("--reset-rule is an option of push_t"), "{error}");
        let error = pick_place.config(TaskName::PushT).unwrap_err().to_string();
        assert!(error.contains("--actions is an option of pick_place"), "{error}");
    }

    #[test]
    fn a_checkpoint_brings_its_kind_of_action() {
        for actions in [Actions::Pose, Actions::Joint] {
            let wanted = TaskArgs { actions: Some(actions), ..TaskArgs::default() };
            let wanted = wanted.config(TaskName::PickPlace).unwrap();
            let interface = wanted.build().interface().clone();
            assert_eq!(TaskArgs::default().named("pick_place", &interface).unwrap(), wanted);
        }
        let error = TaskArgs::default()
            .named("fold_towel", &TaskConfig::PushT(PushTConfig::default()).build().interface().clone());
        assert!(error.unwrap_err().to_string().contains("fold_towel"));
    }
}
