//! Where a policy is proved, and who demonstrates.

use crate::{Action, Interface, Observation, Scene};

/// What one control step led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub observation: Observation,
    /// In 0..=1; an episode's score is the largest reward it reached.
    pub reward: f64,
    /// Whether the task is achieved in this state.
    pub success: bool,
    /// Whether the episode is over: achieved, or out of steps.
    pub done: bool,
}

/// A simulated world with a goal in it. The same seed and actions give the same episode, bit for bit.
pub trait Task: Send {
    /// For example `push_t`.
    fn name(&self) -> &str;

    fn interface(&self) -> &Interface;

    /// Begins the episode of this seed.
    fn reset(&mut self, seed: u64) -> Observation;

    /// Executes one action for one control period.
    fn step(&mut self, action: &Action) -> Step;

    /// The action that keeps the robot where it is now.
    fn hold_action(&self) -> Action;

    /// Control steps after which an episode is over.
    fn max_steps(&self) -> usize;

    /// What there is to see now.
    fn scene(&self) -> Scene;
}

/// A demonstrator with privileged access to its world.
pub trait Expert<T: Task + ?Sized> {
    /// The action to take in the task's present state.
    fn act(&mut self, task: &T) -> Action;
}
