//! Plans that go on from what is being executed: how they take up actions that are committed already.

use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::PolicyConfig;
use crate::engine::Kept;

/// What a policy does with committed actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    /// Plans as if there were none.
    Ignore,
    /// Overwrites them in every step of the sampler, as noisy as the step has it (RePaint, Lugmayr et al. 2022; for plans,
    /// Diffuser, Janner et al. 2022). Any policy can; what follows does not always fit.
    Inpaint,
    /// Gives them clean in every step, for which the policy must have been trained
    /// ([`PrefixConfig`](crate::PrefixConfig)).
    Prefix,
}

impl Continuation {
    /// The best that a policy was trained for.
    pub(crate) fn of(policy: &PolicyConfig) -> Self {
        if policy.prefix.is_some() { Self::Prefix } else { Self::Ignore }
    }

    /// # Errors
    /// When the policy was not trained for it.
    pub(crate) fn check(self, policy: &PolicyConfig) -> Result<(), String> {
        if self == Self::Prefix && policy.prefix.is_none() {
            return Err(
                "this checkpoint was trained without `policy.prefix`, so it cannot continue a prefix: \
                        choose inpaint, or train with it"
                    .into(),
            );
        }
        Ok(())
    }

    /// How many actions are continued at most; one at least is left to plan.
    pub(crate) fn max_committed(self, policy: &PolicyConfig) -> usize {
        match self {
            Self::Ignore => 0,
            Self::Inpaint => policy.horizon.predicted - policy.horizon.observed,
            Self::Prefix => policy.prefix.map_or(0, |prefix| prefix.max_steps),
        }
    }
}

impl FromStr for Continuation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "ignore" => Ok(Self::Ignore),
            "inpaint" => Ok(Self::Inpaint),
            "prefix" => Ok(Self::Prefix),
            _ => Err(format!("`{name}` is no way to continue actions: choose ignore, inpaint or prefix")),
        }
    }
}

/// What [`Kept`] points to.
#[derive(Default)]
pub(crate) struct KeptRows {
    pub rows: Vec<Range<usize>>,
    pub clean: Vec<f32>,
}

impl KeptRows {
    pub fn kept(&self) -> Kept<'_> {
        Kept { rows: &self.rows, clean: &self.clean }
    }
}
