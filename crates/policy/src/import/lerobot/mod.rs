//! A folder that LeRobot's `save_pretrained` wrote: `config.json`, `model.safetensors`, and in today's form the pipelines
//! before and after the policy, whose files hold the normaliser that was once among the weights.

mod config;
mod statistics;

use std::fs;
use std::path::{Path, PathBuf};

use nudge_control::{ActionFeature, ActionMode, Feature, FeatureKind, Interface, Limits};

use crate::{Manifest, Normalizer, PolicyFailure};

use super::architecture::Architecture;
use super::ranges::Way;
use super::settings::{Settings, TWO_NORMALISERS, agree};
use super::tensors::TensorFile;
use super::{ImportOptions, Origin, Parts};

use config::{Features, LeRobotConfig};
use statistics::Statistics;

pub(crate) use config::{ACTION, ENVIRONMENT, FeatureSpec, STATE, kind_of};
pub(crate) use statistics::{AFTER, BEFORE, NORMALIZER, UNNORMALIZER};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
const CONTROL_HZ: &str = "a LeRobot policy does not say how often it acts: give --control-hz (the `fps` of the data set \
                          that it learned from), or a configuration with an `interface`";

/// A folder that LeRobot wrote, and what its configuration says.
pub(crate) struct Folder {
    pub path: PathBuf,
    pub config: LeRobotConfig,
}

impl Folder {
    /// The folder that `source` is, holds, or lies in; `None` when it is a file with no configuration beside it.
    ///
    /// # Errors
    /// When a folder holds no LeRobot policy, or one that is not a diffusion policy.
    pub fn find(source: &Path) -> Result<Option<Self>, PolicyFailure> {
        let refused = |path: &Path, problem: String| PolicyFailure::Import { path: path.to_owned(), problem };
        let path = if source.is_dir() {
            let inside =
                ["", "pretrained_model", "checkpoints/last/pretrained_model"].map(|name| source.join(name));
            match inside.into_iter().find(|folder| folder.join(CONFIG).is_file()) {
                Some(folder) => folder,
                None if source.join("checkpoint.json").is_file() => {
                    return Err(refused(source, "it is a checkpoint of Nudge already".into()));
                }
                None => {
                    let problem = format!(
                        "there is no `{CONFIG}` in it, as LeRobot writes beside `{WEIGHTS}`; a state dict of \
                         diffusion_policy is imported as a file"
                    );
                    return Err(refused(source, problem));
                }
            }
        } else {
            let parent = source.parent().unwrap_or(Path::new(""));
            if !parent.join(CONFIG).is_file() || source.file_name().is_none_or(|name| name != WEIGHTS) {
                return Ok(None);
            }
            parent.to_owned()
        };
        let file = path.join(CONFIG);
        let text = fs::read(&file).map_err(PolicyFailure::io(&file))?;
        let config = LeRobotConfig::parse(&text).map_err(|problem| refused(&file, problem))?;
        Ok(Some(Self { path, config }))
    }
}

/// Tensors of an older policy's file that are no parameters of its network.
pub(crate) fn is_beside_the_network(name: &str) -> bool {
    ["normalize_inputs.", "normalize_targets.", "unnormalize_outputs."]
        .iter()
        .any(|part| name.starts_with(part))
}

/// What the folder and the options say of the policy.
///
/// # Errors
/// What nobody says, what is said differently, and what we cannot do.
pub(in crate::import) fn read(
    file: &TensorFile,
    folder: &Folder,
    found: &Architecture,
    settings: Option<&Settings>,
    remembered: Option<&Manifest>,
    options: &ImportOptions,
) -> Result<Parts, String> {
    if settings.is_some_and(|settings| settings.normaliser.is_some()) {
        return Err(TWO_NORMALISERS.into());
    }
    let config = &folder.config;
    let Features { observed, action: action_dim, unseen } = config.features()?;
    let mut notes = Vec::new();
    if !unseen.is_empty() {
        notes.push(format!(
            "LeRobot's network does not see `{}`: the interface leaves it out",
            unseen.join("`, `")
        ));
    }
    let before = Statistics::find(&folder.path, Way::In, file, config)?;
    let after = Statistics::find(&folder.path, Way::Out, file, config)?;
    let observation = observed
        .iter()
        .map(|(feature, dim)| before.normalizer(feature, *dim))
        .collect::<Result<Vec<_>, _>>()?;
    let action = after.normalizer(ACTION, action_dim)?;
    let told: Vec<String> = observed
        .iter()
        .map(|(feature, _)| format!("{feature} {}", before.mode(feature)))
        .chain([format!("{ACTION} {}", after.mode(ACTION))])
        .collect();
    let stated = settings.map(|settings| (&settings.task, &settings.interface));
    let stated = stated.or(remembered.map(|manifest| (&manifest.task, &manifest.interface)));
    let (task, interface) = match stated {
        Some((task, interface)) if options.control_hz.is_none() => {
            (options.task.map_or_else(|| task.clone(), str::to_owned), interface.clone())
        }
        _ => {
            let control_hz = options.control_hz.ok_or(CONTROL_HZ)?;
            let (limits, from) = limits(&after, &action);
            notes.push(format!("the action's limits are {from}: a robot's own are in its configuration"));
            notes.push(
                "units are not known, and a robot that states its own refuses it: --config says them".into(),
            );
            let observation = observed.iter().map(|(name, dim)| Feature::vector(name, *dim, "")).collect();
            let action = ActionFeature {
                name: ACTION.into(),
                kind: FeatureKind::Vector,
                shape: vec![action_dim],
                unit: String::new(),
                mode: ActionMode::Absolute,
                limits,
            };
            let task = options.task.unwrap_or("imported").to_owned();
            (task, Interface { observation, action: vec![action], control_hz })
        }
    };
    let has: Vec<(&str, usize)> =
        interface.observation.iter().map(|feature| (feature.name.as_str(), feature.dim())).collect();
    if has != observed {
        return Err(format!("the interface observes {has:?}, and the policy {observed:?}, in this order"));
    }
    if settings.is_some_and(|settings| settings.policy.is_some()) {
        notes.push(format!("the configuration's `policy` was left aside: {CONFIG} says it all"));
    }
    let policy = config.policy()?;
    agree(&policy, &interface, found)?;
    Ok(Parts {
        task,
        interface,
        policy,
        observation: Normalizer {
            low: observation.iter().flat_map(|normalizer| normalizer.low.clone()).collect(),
            high: observation.iter().flat_map(|normalizer| normalizer.high.clone()).collect(),
        },
        action,
        clip_range: config.clip_range()?,
        origin: Origin::Beside(format!("{}: {}", before.place(), told.join(", "))),
        notes,
    })
}

/// How far the demonstrations went, or else the range that the normaliser has; and which of them it is.
fn limits(after: &Statistics, action: &Normalizer) -> (Limits, &'static str) {
    let extreme = |name: &str| -> Option<Vec<f64>> {
        let values = after.numbers(ACTION, name).ok()?;
        Some(values.into_iter().map(f64::from).collect())
    };
    let (low, high, from) = match (extreme("min"), extreme("max")) {
        (Some(low), Some(high)) if low.len() == action.dim() && high.len() == action.dim() => {
            (low, high, "the least and greatest in the demonstrations")
        }
        _ => (action.low.clone(), action.high.clone(), "the range that the normaliser maps to -1..=1"),
    };
    // Limits lie apart, also where the demonstrations never moved.
    let high = low.iter().zip(high).map(|(low, high)| if *low < high { high } else { low + 1e-4 });
    (Limits { high: high.collect(), low }, from)
}
