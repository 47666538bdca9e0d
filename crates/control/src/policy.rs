//! Observations in, action chunks out: the one door through which every policy is asked.

use serde::{Deserialize, Serialize};

use crate::{Horizon, Interface, split_mix_64};

/// One time step's `Do` values, in the order of the interface, in physical units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Observation(pub Vec<f64>);

/// One control step's `Da` values, in the order of the interface, in physical units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Action(pub Vec<f64>);

/// The last `To` observations, oldest first; never shorter (the first observation is repeated at an episode's start).
#[derive(Clone, Debug, PartialEq)]
pub struct ObservationWindow(pub Vec<Observation>);

/// Actions `[.., Da]` in physical units, the first of them meant for control step `first_step`: all that were predicted
/// from the newest observation on, `Tp - To + 1`. How many of them are executed before the next plan is due is the
/// horizon's [`executed`](Horizon::executed); those behind are there for when it is late.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionChunk {
    pub first_step: u64,
    pub actions: Vec<Action>,
}

/// What a policy is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRequest {
    /// The control step of the newest observation, at which the chunk is to begin.
    pub step: u64,
    pub window: ObservationWindow,
    /// Actions that will be executed, from `step` on, while the plan is being made; at most
    /// [`Policy::max_committed`].
    pub committed: Vec<Action>,
    /// The plan is late already: a policy that has a cheaper sampler of proven quality may use it.
    pub hurried: bool,
    /// Seeds all noise of this plan, so that a plan does not depend on the batch it was made in.
    pub noise_seed: u64,
}

impl PlanRequest {
    /// The request itself and `samples - 1` more like it with other noise; at least itself.
    pub fn fan(self, samples: usize) -> Vec<Self> {
        let other = |index| Self { noise_seed: split_mix_64(self.noise_seed ^ index), ..self.clone() };
        let others: Vec<_> = (1..samples.max(1) as u64).map(other).collect();
        std::iter::once(self).chain(others).collect()
    }
}

/// Why a policy could not plan.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("request {request}: {problem}")]
    BadRequest { request: usize, problem: String },
    #[error("the plan of request {request} is not finite: the observation or the weights are broken")]
    NotFinite { request: usize },
    #[error("{0}")]
    Failed(String),
}

/// A policy keeps no queue, no history and no clock: the same requests give the same chunks.
pub trait Policy: Send {
    /// What it was trained for.
    fn interface(&self) -> &Interface;

    /// `To`, `Tp` and `Ta`.
    fn horizon(&self) -> Horizon;

    /// How many committed actions a plan continues at most: its first actions are then those. 0 for a policy that
    /// does not look at them.
    fn max_committed(&self) -> usize {
        0
    }

    /// Plans for every request at once; the answers are in the order of the requests.
    ///
    /// # Errors
    /// When a request does not fit the interface, or a plan is not finite.
    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError>;
}
