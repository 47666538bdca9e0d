//! What others call the parameters of the conditional U-Net.
//!
//! Ours are those of `ConditionalUnet1D` in diffusion_policy. LeRobot's differ in the two blocks of a residual block and in
//! the convolutions between resolutions, and stand behind a prefix.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Ends the name of a parameter that every one of these networks has, and no other.
const LANDMARK: &str = "diffusion_step_encoder.1.weight";
const LEROBOT: &str = "diffusion.unet.";

/// Whose names a file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// real-stanford/diffusion_policy.
    DiffusionPolicy,
    /// huggingface/lerobot.
    #[serde(rename = "lerobot")]
    LeRobot,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::DiffusionPolicy => "diffusion_policy",
            Self::LeRobot => "LeRobot",
        })
    }
}

impl Scheme {
    /// Our name for what the scheme calls `name`, its prefix taken off.
    pub(crate) fn ours(self, name: &str) -> String {
        if self == Self::DiffusionPolicy {
            return name.to_owned();
        }
        let name =
            name.replace(".conv1.block.", ".blocks.0.block.").replace(".conv2.block.", ".blocks.1.block.");
        match name.split('.').collect::<Vec<_>>()[..] {
            [modules @ ("down_modules" | "up_modules"), level, "2", last @ ("weight" | "bias")] => {
                format!("{modules}.{level}.2.conv.{last}")
            }
            _ => name,
        }
    }

    /// What the scheme calls our `name`, its prefix put on.
    pub(crate) fn theirs(self, name: &str) -> String {
        if self == Self::DiffusionPolicy {
            return format!("model.{name}");
        }
        let name =
            name.replace(".blocks.0.block.", ".conv1.block.").replace(".blocks.1.block.", ".conv2.block.");
        match name.split('.').collect::<Vec<_>>()[..] {
            [modules @ ("down_modules" | "up_modules"), level, "2", "conv", last] => {
                format!("{LEROBOT}{modules}.{level}.2.{last}")
            }
            _ => format!("{LEROBOT}{name}"),
        }
    }
}

/// A network found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub scheme: Scheme,
    /// What stands before each of its names.
    pub prefix: String,
    /// Other networks in the file, which are left aside.
    pub others: Vec<String>,
}

/// The one network among `names` that is ours; the averaged one where a file holds it beside another.
///
/// # Errors
/// What the file holds instead.
pub(crate) fn recognise<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<Found, String> {
    if let Some(reason) = names.clone().find_map(foreign) {
        return Err(reason);
    }
    let prefixes: Vec<&str> = names
        .clone()
        .filter_map(|name| name.strip_suffix(LANDMARK))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .collect();
    let averaged: Vec<&str> = prefixes.iter().copied().filter(|prefix| prefix.contains("ema")).collect();
    let prefix = match (prefixes.as_slice(), averaged.as_slice()) {
        ([only], _) | (_, [only]) => *only,
        ([], _) => {
            let some: Vec<String> = names.clone().take(3).map(|name| format!("`{name}`")).collect();
            let some = if some.is_empty() { "nothing".into() } else { some.join(", ") };
            return Err(format!(
                "it is not a network that we have: a conditional 1D U-Net has a `{LANDMARK}`, and this holds \
                 {some} and {} more",
                names.count().saturating_sub(3)
            ));
        }
        _ => {
            return Err(format!(
                "it holds {} networks, under `{}`: leave one in the file",
                prefixes.len(),
                prefixes.join("`, `")
            ));
        }
    };
    let scheme = if prefix.contains(LEROBOT) { Scheme::LeRobot } else { Scheme::DiffusionPolicy };
    let others = prefixes.iter().filter(|other| **other != prefix).map(|other| (*other).to_owned()).collect();
    Ok(Found { scheme, prefix: prefix.to_owned(), others })
}

/// Why a tensor of this name belongs to a policy that we cannot run.
fn foreign(name: &str) -> Option<String> {
    let has = |part: &str| name.starts_with(part) || name.contains(&format!(".{part}"));
    let reason = if has("rgb_encoder.") || has("obs_encoder.") {
        "the policy looks at images, for which there is no encoder here"
    } else if has("local_cond_encoder.") {
        "the network is conditioned locally (`obs_as_local_cond`), and ours takes the observation as a global \
         condition"
    } else if has("cond_pos_emb") || has("decoder.layers.") || has("encoder.layers.") {
        "the network is a transformer, and ours is a conditional 1D U-Net"
    } else {
        return None;
    };
    Some(format!("{reason}: it holds `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (ours, lerobot) in [
            ("diffusion_step_encoder.1.weight", "diffusion_step_encoder.1.weight"),
            ("down_modules.0.0.blocks.0.block.0.weight", "down_modules.0.0.conv1.block.0.weight"),
            ("mid_modules.1.blocks.1.block.1.bias", "mid_modules.1.conv2.block.1.bias"),
            ("down_modules.1.2.conv.weight", "down_modules.1.2.weight"),
            ("up_modules.0.2.conv.bias", "up_modules.0.2.bias"),
            ("up_modules.0.1.residual_conv.weight", "up_modules.0.1.residual_conv.weight"),
            ("final_conv.0.block.0.weight", "final_conv.0.block.0.weight"),
            ("final_conv.1.bias", "final_conv.1.bias"),
        ] {
            assert_eq!(Scheme::LeRobot.ours(lerobot), ours);
            assert_eq!(Scheme::LeRobot.theirs(ours), format!("diffusion.unet.{lerobot}"));
            assert_eq!(Scheme::DiffusionPolicy.ours(ours), ours);
        }
    }

    #[test]
    fn the_network_is_found_behind_any_prefix() {
        for (name, scheme, prefix) in [
            (LANDMARK, Scheme::DiffusionPolicy, ""),
            ("model.diffusion_step_encoder.1.weight", Scheme::DiffusionPolicy, "model."),
            ("ema_model.model.diffusion_step_encoder.1.weight", Scheme::DiffusionPolicy, "ema_model.model."),
            ("diffusion.unet.diffusion_step_encoder.1.weight", Scheme::LeRobot, "diffusion.unet."),
        ] {
            let found = recognise([name, "other"].into_iter()).unwrap();
            assert_eq!(found, Found { scheme, prefix: prefix.into(), others: Vec::new() });
        }
        let both = ["model.model.", "ema_model.model."].map(|prefix| format!("{prefix}{LANDMARK}"));
        let found = recognise(both.iter().map(String::as_str)).unwrap();
        assert_eq!((found.prefix.as_str(), found.others.len()), ("ema_model.model.", 1));
        let two = ["a.", "b."].map(|prefix| format!("{prefix}{LANDMARK}"));
        assert!(recognise(two.iter().map(String::as_str)).unwrap_err().contains("2 networks"));
    }

    #[test]
    fn other_networks_are_told_apart() {
        for (name, reason) in [
            ("diffusion.rgb_encoder.backbone.0.weight", "images"),
            ("obs_encoder.obs_nets.image.0.weight", "images"),
            ("model.local_cond_encoder.0.blocks.0.block.0.weight", "obs_as_local_cond"),
            ("model.decoder.layers.0.norm1.bias", "transformer"),
            ("model.cond_pos_emb", "transformer"),
            ("fc.weight", "conditional 1D U-Net"),
        ] {
            let error = recognise([name, LANDMARK].into_iter().take(1)).unwrap_err();
            assert!(error.contains(reason) && error.contains(name), "{error}");
        }
        assert!(recognise(std::iter::empty()).unwrap_err().contains("nothing"));
    }
}
