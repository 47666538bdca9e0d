//! The choice of a simulated task, as every verb that runs one offers it.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use nudge_sim::TaskConfig;
use nudge_sim::push_t::{PushTConfig, ResetRule};

/// A simulated task
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum TaskName {
    /// Push a T-shaped block onto its goal with a round agent
    PushT,
}

/// What can be chosen about a task. Whatever is not given is as the task has it.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct TaskArgs {
    /// push_t: how starts are drawn from seeds [default: dp-legacy]
    #[arg(long, value_enum, value_name = "RULE")]
    reset_rule: Option<Rule>,

    /// Control steps after which an episode is over [default: push_t 300]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_steps: Option<u64>,
}

impl TaskArgs {
    /// The task as these options have it.
    ///
    /// # Errors
    /// When an option is given that belongs to another task.
    pub fn config(&self, task: TaskName) -> Result<TaskConfig> {
        match task {
            TaskName::PushT => {
                let default = PushTConfig::default();
                Ok(TaskConfig::PushT(PushTConfig {
                    reset_rule: self.reset_rule.map_or(default.reset_rule, Into::into),
                    max_steps: self.max_steps.map_or(default.max_steps, |steps| steps as usize),
                }))
            }
        }
    }

    /// The task that a checkpoint names.
    ///
    /// # Errors
    /// When there is no such task here, or as [`config`](Self::config).
    pub fn named(&self, task: &str) -> Result<TaskConfig> {
        match TaskName::from_str(task, false) {
            Ok(task) => self.config(task),
            Err(_) => bail!("the checkpoint is for the task `{task}`, which has no simulation here"),
        }
    }
}

/// What is to be done, in the words that LeRobot's own sets of the task use.
pub fn instruction(task: &TaskConfig) -> &'static str {
    match task {
        TaskConfig::PushT(_) => "Push the T-shaped block onto the T-shaped target.",
        TaskConfig::PickPlace(_) => "Pick up the object and place it on the target.",
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
