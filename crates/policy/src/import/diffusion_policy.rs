//! A low-dimensional policy of real-stanford/diffusion_policy: its state dict, as safetensors.

use crate::{Manifest, Normalizer};

use super::architecture::Architecture;
use super::ranges::from_scale_and_offset;
use super::settings::{Normalisers, Settings, TWO_NORMALISERS, agree, dims};
use super::tensors::TensorFile;
use super::{Origin, Parts};

/// What a configuration has to say, where there is none.
const NEEDED: &str = "a state dict does not say for what it was trained: give a configuration with --config, in the \
                      form that `nudge train` takes (`task`, `policy` with horizon, schedule, objective, sampler and \
                      network, and `interface`; configs/push_t.toml is one)";
const NO_NORMALISER: &str = "it holds no normaliser (`normalizer.params_dict.obs.scale` and so on): export the whole policy's state dict, \
     or add to the configuration\n\n    [normaliser]\n    observation = { low = [..], high = [..] }\n    \
     action = { low = [..], high = [..] }\n\nwith the ranges that went to -1..=1 (-1 and 1 where the network took \
     numbers as they are)";

/// Tensors of a whole policy that are no parameters of its network.
pub(crate) fn is_beside_the_network(name: &str) -> bool {
    name.contains("normalizer.params_dict.") || name.ends_with("_dummy_variable")
}

/// What the file and the settings say of the policy.
///
/// # Errors
/// What neither says, or what they say differently.
pub(crate) fn read(
    file: &TensorFile,
    found: &Architecture,
    settings: Option<&Settings>,
    remembered: Option<&Manifest>,
) -> Result<Parts, String> {
    let (task, interface, policy) = match (settings, remembered) {
        (Some(Settings { task, interface, policy: Some(policy), .. }), _) => (task, interface, policy),
        (Some(_), _) => {
            return Err("the configuration has no `policy`, which a state dict does not say".into());
        }
        (None, Some(manifest)) => (&manifest.task, &manifest.interface, &manifest.policy),
        (None, None) => return Err(NEEDED.into()),
    };
    agree(policy, interface, found)?;
    let (seen, acted) = dims(policy, interface);
    let stated = settings.and_then(|settings| settings.normaliser.clone());
    let (observation, action, origin) = match (in_file(file, seen, acted)?, stated) {
        (Some(_), Some(_)) => return Err(TWO_NORMALISERS.into()),
        (Some((observation, action)), None) => (observation, action, Origin::Weights),
        (None, stated) => {
            let Normalisers { observation, action } = stated.ok_or(NO_NORMALISER)?;
            observation.check(seen).map_err(|problem| format!("`normaliser.observation`: {problem}"))?;
            action.check(acted).map_err(|problem| format!("`normaliser.action`: {problem}"))?;
            (observation, action, Origin::Settings)
        }
    };
    let mut policy = policy.clone();
    let mut notes = Vec::new();
    if settings.is_some() && !std::mem::take(&mut policy.normalization).is_empty() {
        notes.push(
            "the configuration's `policy.normalization` was left aside: the normaliser is made already"
                .into(),
        );
    }
    Ok(Parts {
        task: task.clone(),
        interface: interface.clone(),
        policy,
        observation,
        action,
        // The reference's schedulers clip to this, unless they are told otherwise, which its configurations are not.
        clip_range: remembered.map_or(1.0, |manifest| manifest.clip_range),
        origin,
        notes,
    })
}

fn in_file(file: &TensorFile, seen: usize, acted: usize) -> Result<Option<(Normalizer, Normalizer)>, String> {
    const SCALE: &str = "params_dict.obs.scale";
    let mut found = file.names().filter_map(|name| name.strip_suffix(SCALE));
    let Some(prefix) = found.clone().find(|prefix| prefix.contains("ema")).or(found.next()) else {
        return match file.names().find(|name| name.contains("normalizer.params_dict.")) {
            Some(name) => Err(format!(
                "its normaliser holds `{name}`, and not `{SCALE}`: a low-dimensional policy normalises `obs` and \
                 `action`"
            )),
            None => Ok(None),
        };
    };
    let normalizer = |field: &str, dim: usize| {
        let numbers = |part: &str| file.numbers(&format!("{prefix}params_dict.{field}.{part}"));
        from_scale_and_offset(field, dim, &numbers("scale")?, &numbers("offset")?)
    };
    Ok(Some((normalizer("obs", seen)?, normalizer("action", acted)?)))
}
