//! What a person says of a network, because its file does not: an experiment's TOML, or a part of one.

use nudge_control::Interface;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::angles::AngleMap;
use crate::config::{PolicyConfig, check_interface};
use crate::{NetworkConfig, Normalizer};

use super::architecture::{Architecture, GROUPS};

/// Of a configuration that has what the policy brings with it.
pub(crate) const TWO_NORMALISERS: &str =
    "there are two normalisers, the policy's own and the configuration's `[normaliser]`: leave that one out";

/// Steps of a prediction beyond which its length is a mistake: minutes of control in one plan.
const LONGEST: usize = 4096;

/// A file as `nudge train` takes it, without what only training needs; that may be there too.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub task: String,
    pub policy: Option<PolicyConfig>,
    pub interface: Interface,
    /// Where the weights come without one.
    pub normaliser: Option<Normalisers>,
    #[serde(rename = "seed")]
    _seed: Option<IgnoredAny>,
    #[serde(rename = "data")]
    _data: Option<IgnoredAny>,
    #[serde(rename = "training")]
    _training: Option<IgnoredAny>,
}

/// Ranges that go to -1..=1, of every number in the order of the interface.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Normalisers {
    pub observation: Normalizer,
    pub action: Normalizer,
}

impl Settings {
    /// Parses and checks a TOML text.
    ///
    /// # Errors
    /// The first field that is unknown, missing or out of range.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        check_interface(&settings.interface)?;
        Ok(settings)
    }
}

/// Numbers of an observation and of an action as the network has them: an angle is two.
pub(crate) fn dims(policy: &PolicyConfig, interface: &Interface) -> (usize, usize) {
    let (observed, acted) =
        (AngleMap::observed(&policy.angles, interface), AngleMap::acted(&policy.angles, interface));
    (observed.dim(), acted.dim())
}

/// Whether what a network is said to be is what its tensors are.
///
/// # Errors
/// The first thing that differs, with both sides of it.
pub(crate) fn agree(
    policy: &PolicyConfig,
    interface: &Interface,
    found: &Architecture,
) -> Result<(), String> {
    let NetworkConfig::ConditionalUnet1d(network) = &policy.network;
    policy.check(interface)?;
    let (said, is) = (network, &found.network);
    let differ = |name: &str, said: &dyn std::fmt::Debug, is: &dyn std::fmt::Debug| {
        Err(format!("`{name}` is said to be {said:?}, and the tensors are those of {is:?}"))
    };
    if said.down_dims != is.down_dims {
        return differ("down_dims", &said.down_dims, &is.down_dims);
    }
    if said.kernel_size != is.kernel_size {
        return differ("kernel_size", &said.kernel_size, &is.kernel_size);
    }
    if said.diffusion_step_embed_dim != is.diffusion_step_embed_dim {
        let (said, is) = (said.diffusion_step_embed_dim, is.diffusion_step_embed_dim);
        return differ("diffusion_step_embed_dim", &said, &is);
    }
    if said.cond_predict_scale != is.cond_predict_scale {
        return differ("cond_predict_scale", &said.cond_predict_scale, &is.cond_predict_scale);
    }
    if said.n_groups != GROUPS {
        return Err(format!(
            "`n_groups` is {}: both reference implementations have {GROUPS} groups in the network's last norm \
             whatever it says, and ours has one number for all, so only {GROUPS} is the same network",
            said.n_groups
        ));
    }
    let (seen, acted) = dims(policy, interface);
    if acted != found.action_dim {
        return Err(format!(
            "the network plans {} numbers a step, and the interface's actions add up to {acted}",
            found.action_dim
        ));
    }
    if policy.horizon.predicted > LONGEST {
        return Err(format!(
            "the prediction is said to be {} steps long, and at most {LONGEST} are planned at once",
            policy.horizon.predicted
        ));
    }
    let observed = policy.horizon.observed;
    if observed.checked_mul(seen) != Some(found.condition_dim) {
        return Err(format!(
            "the network's condition has {} numbers, and {observed} observations of {seen} have {}",
            found.condition_dim,
            observed.saturating_mul(seen)
        ));
    }
    Ok(())
}
