//! The receding horizon: observe, plan, execute the first part, observe again.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::seam::ensemble;
use crate::{Action, ActionChunk, Observation, ObservationWindow, PlanRequest, Seam, noise_seed};

/// How far a policy looks back and ahead, in control steps.
///
/// Prediction `0..Tp` is aligned with the oldest observed step, so the executed part starts at index `To - 1`, the step
/// of the newest observation (Chi et al. 2023, section 3.1, and the reference implementation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Horizon {
    /// `To`
    pub observed: usize,
    /// `Tp`
    pub predicted: usize,
    /// `Ta`
    pub executed: usize,
}

impl Horizon {
    /// # Errors
    /// When a length is 0, or the executed part does not fit behind the observed part. The text names the field.
    pub fn check(&self) -> Result<(), String> {
        if self.observed == 0 || self.predicted == 0 || self.executed == 0 {
            return Err("`horizon`: observed, predicted and executed must each be at least 1".into());
        }
        let room = self.planned();
        if self.executed > room {
            return Err(format!(
                "`horizon.executed` is {}, but a prediction of {} steps with {} observed leaves room for {room}",
                self.executed, self.predicted, self.observed
            ));
        }
        Ok(())
    }

    /// Actions in a plan, from the newest observation on: `Tp - To + 1`.
    pub fn planned(&self) -> usize {
        (self.predicted + 1).saturating_sub(self.observed)
    }
}

/// Why a chunk was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    #[error("the plan begins at step {first_step}, which is not the step it was asked for")]
    NotAsked { first_step: u64 },
    #[error("all {length} actions of the plan made from step {first_step} had passed by step {step}")]
    AllPassed { first_step: u64, length: usize, step: u64 },
}

/// How a plan came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its delay: the control steps that were consumed while it was made, and the actions that it lost.
    pub passed: usize,
    /// It was to continue what was committed, and more than that was executed before it came.
    pub commit_too_short: bool,
}

/// The state machine between observations, plans and actions; simulation and robot drive the same one.
///
/// Each control step: [`observe`](Self::observe), [`accept`](Self::accept) a chunk that has arrived, then if
/// [`wants_plan`](Self::wants_plan) a [`request`](Self::request), whose chunk may be accepted at once or in a later
/// step, then [`next_action`](Self::next_action), which ends the step. It owns the history and the plan, counts the
/// steps, and drops the part of a late plan whose steps have passed.
///
/// The next plan is due when [`Horizon::executed`] actions of the present one were executed, not counting those that were
/// foreseen to pass while it was made (Black et al. 2025, arXiv 2506.07339, section 3: `d` actions are lost, `s` executed); what it has
/// beyond them is executed when the next one is late. With `L` actions in a plan, plans made back to back leave no hole up
/// to a delay of `L / 2` steps.
#[derive(Clone, Debug)]
pub struct RecedingHorizon {
    horizon: Horizon,
    latency_steps: usize,
    seam: Seam,
    /// Of the policy; 0 unless plans are to continue.
    max_committed: usize,
    episode_seed: u64,
    step: u64,
    history: VecDeque<Observation>,
    /// The actions still to be executed, the first of them at `step`.
    plan: VecDeque<Action>,
    /// The plans that they are the mean of, oldest first, where plans are ensembled.
    ensembled: Vec<ActionChunk>,
    /// The step at which the newest plan has executed its part, or all that it has.
    due: u64,
    planned: bool,
    asked: Option<Asked>,
}

/// A plan under way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    step: u64,
    committed: usize,
    /// Actions executed since.
    executed: usize,
}

impl RecedingHorizon {
    /// `latency_steps` is how many steps a plan is expected to take, and so how many steps before it is due the next one is
    /// asked for; `episode_seed` seeds the noise of every plan, through [`noise_seed`]. New plans take over as by
    /// [`Seam::Switch`].
    ///
    /// # Errors
    /// When the horizon does not hold together, or plans that late would be over before they came.
    pub fn new(horizon: Horizon, latency_steps: usize, episode_seed: u64) -> Result<Self, String> {
        horizon.check()?;
        let length = horizon.planned();
        if latency_steps >= length {
            return Err(format!(
                "a latency of {latency_steps} steps leaves nothing of plans of {length} steps: it must be below that"
            ));
        }
        Ok(Self {
            horizon,
            latency_steps,
            seam: Seam::Switch,
            max_committed: 0,
            episode_seed,
            step: 0,
            history: VecDeque::with_capacity(horizon.observed),
            plan: VecDeque::with_capacity(length),
            ensembled: Vec::new(),
            due: 0,
            planned: false,
            asked: None,
        })
    }

    /// Lets new plans take over by `seam`. `max_committed` is the policy's
    /// ([`Policy::max_committed`](crate::Policy::max_committed)); with 0, [`Seam::Continue`] is a switch.
    pub fn with_seam(mut self, seam: Seam, max_committed: usize) -> Self {
        self.max_committed = if seam == Seam::Continue { max_committed } else { 0 };
        self.seam = seam;
        self
    }

    /// Begins a new episode: history, plans and any plan still being made are dropped.
    pub fn reset(&mut self, episode_seed: u64) {
        self.episode_seed = episode_seed;
        self.step = 0;
        self.forget();
    }

    /// Drops history, plans and any plan still being made, as when observations before and after do not belong
    /// together; the episode and its steps go on.
    pub fn forget(&mut self) {
        self.history.clear();
        self.plan.clear();
        self.ensembled.clear();
        self.planned = false;
        self.asked = None;
    }

    /// Changes how many steps a plan is expected to take.
    pub fn set_latency_steps(&mut self, latency_steps: usize) {
        self.latency_steps = latency_steps;
    }

    /// The control step that is now being decided.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Whether a plan has come since the history began.
    pub fn has_planned(&self) -> bool {
        self.planned
    }

    /// Steps from this one on for which there is an action.
    pub fn remaining(&self) -> usize {
        self.plan.len()
    }

    /// What will be done from this step on, until another plan takes over.
    pub fn upcoming(&self) -> impl ExactSizeIterator<Item = &Action> {
        self.plan.iter()
    }

    /// Takes this step's observation.
    pub fn observe(&mut self, observation: Observation) {
        while self.history.len() >= self.horizon.observed {
            self.history.pop_front();
        }
        self.history.push_back(observation);
    }

    /// Whether a plan should be asked for now: something was seen, none is under way, and the next is due no later than a
    /// plan takes.
    pub fn wants_plan(&self) -> bool {
        let due = self.plan.is_empty() || self.due <= self.step + self.latency_steps as u64;
        due && !self.history.is_empty() && self.asked.is_none()
    }

    /// The request for a plan from this step, and a note that it is under way. `None` before the first observation.
    pub fn request(&mut self) -> Option<PlanRequest> {
        let first = self.history.front()?;
        let missing = self.horizon.observed - self.history.len();
        let mut window = vec![first.clone(); missing];
        window.extend(self.history.iter().cloned());
        let committed = self.latency_steps.min(self.max_committed);
        let committed: Vec<Action> = self.plan.iter().take(committed).cloned().collect();
        self.asked = Some(Asked { step: self.step, committed: committed.len(), executed: 0 });
        Some(PlanRequest {
            step: self.step,
            window: ObservationWindow(window),
            committed,
            // Before the first plan the robot stands still and nothing is late.
            hurried: self.planned && self.remaining() < self.latency_steps,
            noise_seed: noise_seed(self.episode_seed, self.step),
        })
    }

    /// Takes the plan that was asked for; it replaces what is left of the present one, or joins it where plans are
    /// ensembled. A plan from step k that arrives at step k + d loses its first d actions.
    ///
    /// # Errors
    /// When another plan was asked for, or every step of this one has passed. The present plan then stays; in the
    /// second case a new plan may be asked for.
    pub fn accept(&mut self, chunk: ActionChunk) -> Result<Accepted, ReceiveError> {
        let Some(asked) = self.asked.take_if(|asked| asked.step == chunk.first_step) else {
            return Err(ReceiveError::NotAsked { first_step: chunk.first_step });
        };
        let passed = (self.step - chunk.first_step) as usize;
        let length = chunk.actions.len();
        if passed >= length {
            return Err(ReceiveError::AllPassed { first_step: chunk.first_step, length, step: self.step });
        }
        let first_step = chunk.first_step;
        self.plan.clear();
        if let Seam::Ensemble { weight } = self.seam {
            self.ensembled.retain(|plan| plan.first_step + plan.actions.len() as u64 > self.step);
            self.ensembled.push(chunk);
            self.plan.extend(ensemble(&self.ensembled, self.step, weight));
        } else {
            self.plan.extend(chunk.actions.into_iter().skip(passed));
        }
        // One that is later than foreseen executes less: the next is not to be late as well.
        let lost = passed.min(self.latency_steps);
        self.due = first_step + length.min(lost + self.horizon.executed) as u64;
        self.planned = true;
        let commit_too_short = self.max_committed > 0 && asked.executed > asked.committed;
        Ok(Accepted { passed, commit_too_short })
    }

    /// Gives up the plan under way (it failed, or its answer is no longer wanted), so that another may be asked for.
    pub fn abandon(&mut self) {
        self.asked = None;
    }

    /// This step's action, and the end of the step. `None` when the plan is used up: the robot must hold.
    pub fn next_action(&mut self) -> Option<Action> {
        self.step += 1;
        let action = self.plan.pop_front();
        if let Some(asked) = &mut self.asked {
            asked.executed += usize::from(action.is_some());
        }
        action
    }
}

#[cfg(test)]
#[path = "horizon_tests.rs"]
mod tests;
