//! The choice of how a new plan takes over, as every verb that plans while moving offers it.

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use nudge_control::Seam;
use nudge_policy::{Continuation, DiffusionPolicy};
use serde::{Deserialize, Serialize};

/// How a new plan takes over from the present one
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeamChoice {
    /// The new plan replaces the present one from one step to the next
    Switch,
    /// The mean of all plans that have an action for a step, weighted as in ACT
    Ensemble,
    /// The new plan continues what is executed while it is made; any policy can be made to
    Inpaint,
    /// As inpaint, but the policy was trained for it
    Prefix,
}

impl SeamChoice {
    pub const ALL: [Self; 4] = [Self::Switch, Self::Ensemble, Self::Inpaint, Self::Prefix];

    /// What the policy does by itself: continue, if it was trained for it.
    pub fn of(policy: &DiffusionPolicy) -> Self {
        match policy.continuation() {
            Continuation::Ignore => Self::Switch,
            Continuation::Inpaint => Self::Inpaint,
            Continuation::Prefix => Self::Prefix,
        }
    }

    /// What the control loop does.
    pub fn seam(self) -> Seam {
        match self {
            Self::Switch => Seam::Switch,
            Self::Ensemble => Seam::ENSEMBLE,
            Self::Inpaint | Self::Prefix => Seam::Continue,
        }
    }

    /// Whether without delay it is a switch, since nothing is committed.
    pub fn continues(self) -> bool {
        self.seam() == Seam::Continue
    }

    /// Lets the policy do its part.
    ///
    /// # Errors
    /// When it was not trained for it.
    pub fn prepare(self, policy: DiffusionPolicy) -> Result<DiffusionPolicy> {
        let continuation = match self {
            Self::Switch | Self::Ensemble => Continuation::Ignore,
            Self::Inpaint => Continuation::Inpaint,
            Self::Prefix => Continuation::Prefix,
        };
        policy.with_continuation(continuation).with_context(|| format!("--seam {}", self.name()))
    }

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Ensemble => "ensemble",
            Self::Inpaint => "inpaint",
            Self::Prefix => "prefix",
        }
    }
}
