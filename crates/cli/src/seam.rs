//! The choice of how a new plan takes over, as every verb that plans while moving offers it.

use clap::ValueEnum;
use nudge_control::Seam;
use serde::Serialize;

/// How a new plan takes over from the present one
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SeamChoice {
    /// The new plan replaces the present one from one step to the next
    Switch,
    /// The mean of all plans that have an action for a step, weighted as in ACT
    Ensemble,
}

impl SeamChoice {
    /// What the control loop does.
    pub fn seam(self) -> Seam {
        match self {
            Self::Switch => Seam::Switch,
            Self::Ensemble => Seam::ENSEMBLE,
        }
    }
}
