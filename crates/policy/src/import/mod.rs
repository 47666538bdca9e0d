//! Policies that were trained elsewhere, as checkpoints of ours: diffusion_policy's low-dimensional U-Net and LeRobot's
//! diffusion policy, from safetensors. Nothing is unpickled, and a network that is not exactly ours is refused.
//!
//! ```text
//! file -> names -> shapes -> architecture, and its list of parameters   (whose is it, is it ours)
//!      -> configuration, interface, normaliser                          (diffusion_policy: a TOML; LeRobot: its JSON)
//!      -> numbers -> checkpoint folder, planned with once and loaded again
//! ```

mod architecture;
mod diffusion_policy;
pub(crate) mod lerobot;
mod names;
mod ranges;
mod settings;
mod tensors;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nudge_control::{Horizon, Interface};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, FORMAT, Manifest, Trained};
use crate::config::PolicyConfig;
use crate::{DeviceChoice, DiffusionPolicy, Normalizer, PolicyFailure, SamplerConfig, UnetConfig};

use architecture::Shapes;
use settings::Settings;
use tensors::TensorFile;

pub(crate) use architecture::GROUPS;
pub use names::Scheme;

/// What a person adds to what the files say.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions<'a> {
    /// A TOML text in the form that training takes: task, interface and, for a state dict, the policy.
    pub config: Option<&'a str>,
    /// For a LeRobot policy without a configuration: the rate at which it is to act.
    pub control_hz: Option<f64>,
    /// For a LeRobot policy without a configuration: what it was trained to do, `imported` if not given.
    pub task: Option<&'a str>,
}

/// What was recognised and written.
#[derive(Clone, Debug, Serialize)]
pub struct ImportReport {
    pub scheme: Scheme,
    /// The file of weights.
    pub weights: PathBuf,
    pub parameters: usize,
    pub network: UnetConfig,
    pub horizon: Horizon,
    pub sampler: SamplerConfig,
    pub task: String,
    pub interface: Interface,
    /// Where the normaliser was found.
    pub normaliser: String,
    /// What is worth knowing before the policy is run.
    pub notes: Vec<String>,
    pub out: PathBuf,
}

/// Where a checkpoint came from that was not trained here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    pub scheme: Scheme,
    /// Name of the file of weights.
    pub weights: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// Where a normaliser was found.
#[derive(Clone, Debug)]
enum Origin {
    Weights,
    Settings,
    /// A file beside the weights, and how each feature is normalised.
    Beside(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Weights => f.write_str("in the file of weights"),
            Self::Settings => f.write_str("the configuration's ranges"),
            Self::Beside(text) => f.write_str(text),
        }
    }
}

/// All of a policy but its weights.
struct Parts {
    task: String,
    interface: Interface,
    policy: PolicyConfig,
    observation: Normalizer,
    action: Normalizer,
    clip_range: f64,
    origin: Origin,
    notes: Vec<String>,
}

/// Makes the checkpoint folder `out` of what was trained elsewhere, whole or not at all.
///
/// `source` is a state dict of diffusion_policy as a safetensors file, or a folder that LeRobot wrote (`config.json`,
/// `model.safetensors`), or one that holds it as `pretrained_model`.
///
/// # Errors
/// When a file cannot be read, is damaged or a pickle, the network is not one that we have, or what files and options say
/// does not fit together. The text says which, and what to do.
pub fn import(source: &Path, out: &Path, options: &ImportOptions) -> Result<ImportReport, PolicyFailure> {
    if out.exists() {
        let problem = format!("{} exists already: choose another folder", out.display());
        return Err(PolicyFailure::Import { path: source.to_owned(), problem });
    }
    let settings = options.config.map(Settings::from_toml).transpose().map_err(PolicyFailure::Config)?;
    let folder = lerobot::Folder::find(source)?;
    let weights = folder.as_ref().map_or(source.to_owned(), |folder| folder.path.join(lerobot::WEIGHTS));
    let file = TensorFile::open(&weights)?;
    let read = read(&file, folder.as_ref(), settings.as_ref(), options)
        .map_err(|problem| PolicyFailure::Import { path: weights.clone(), problem })?;
    drop(file);
    checkpoint::write(out, &read.manifest, &read.list, read.values, &[])?;
    // Weights that are finite may plan what is not: such a folder is no checkpoint.
    if let Err(failure) = DiffusionPolicy::load(out, DeviceChoice::Cpu) {
        fs::remove_dir_all(out).map_err(PolicyFailure::io(out))?;
        return Err(PolicyFailure::Import { path: weights, problem: failure.to_string() });
    }
    let Manifest { task, interface, policy, trained, .. } = read.manifest;
    let crate::NetworkConfig::ConditionalUnet1d(network) = policy.network;
    Ok(ImportReport {
        scheme: read.scheme,
        weights,
        parameters: trained.parameters,
        network,
        horizon: policy.horizon,
        sampler: policy.sampler,
        task,
        interface,
        normaliser: read.normaliser,
        notes: read.notes,
        out: out.to_owned(),
    })
}

/// A whole checkpoint, in memory.
struct Read {
    scheme: Scheme,
    manifest: Manifest,
    list: crate::parameters::ParameterList,
    values: Vec<Vec<f32>>,
    normaliser: String,
    notes: Vec<String>,
}

fn read(
    file: &TensorFile,
    folder: Option<&lerobot::Folder>,
    settings: Option<&Settings>,
    options: &ImportOptions,
) -> Result<Read, String> {
    let found = names::recognise(file.names())?;
    let mut shapes = Shapes::new();
    let mut called = std::collections::BTreeMap::new();
    for name in file.names() {
        let Some(tail) = name.strip_prefix(&found.prefix) else {
            let known = match found.scheme {
                Scheme::DiffusionPolicy => diffusion_policy::is_beside_the_network(name),
                Scheme::LeRobot => lerobot::is_beside_the_network(name),
            };
            if known || found.others.iter().any(|other| name.starts_with(other)) {
                continue;
            }
            return Err(format!("it holds `{name}`, which is no part of a policy that we have"));
        };
        // A bare state dict has no prefix that tells the network's parameters from what stands beside it.
        if found.prefix.is_empty() && diffusion_policy::is_beside_the_network(name) {
            continue;
        }
        let ours = found.scheme.ours(tail);
        let shape = file.shape(name).unwrap_or_default().to_vec();
        if shapes.insert(ours.clone(), shape).is_some() {
            return Err(format!("it holds two tensors that are our `{ours}`, one of them `{name}`"));
        }
        called.insert(ours, name);
    }
    let (architecture, list) = architecture::infer(&shapes)?;
    let remembered = remembered(file)?;
    let mut parts = match (found.scheme, folder) {
        (Scheme::DiffusionPolicy, None) => {
            diffusion_policy::read(file, &architecture, settings, remembered.as_ref())?
        }
        (Scheme::LeRobot, Some(folder)) => {
            lerobot::read(file, folder, &architecture, settings, remembered.as_ref(), options)?
        }
        (Scheme::DiffusionPolicy, Some(_)) => {
            return Err(
                "its names are diffusion_policy's, in a folder as LeRobot writes it: import the file alone"
                    .into(),
            );
        }
        (Scheme::LeRobot, None) => {
            return Err(format!(
                "its names are LeRobot's, and beside it there is no `{}`, which says what it was trained for",
                lerobot::CONFIG
            ));
        }
    };
    crate::config::check_interface(&parts.interface)?;
    let values =
        list.iter().map(|parameter| file.numbers(called[&parameter.name])).collect::<Result<Vec<_>, _>>()?;
    let halves = called.values().filter(|name| file.is_half(name)).count();
    if halves > 0 {
        parts.notes.push(format!("{halves} tensors of 16 bits were widened to 32, exactly"));
    }
    if !found.others.is_empty() {
        parts.notes.push(format!("of several networks in the file, that under `{}` was taken", found.prefix));
    }
    let imported = Imported {
        scheme: found.scheme,
        weights: file.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: file.sha256(),
    };
    let trained =
        Trained { parameters: list.count(), imported: Some(imported), ..trained(remembered.as_ref()) };
    let (observation, action) = exact(&parts, remembered.as_ref());
    let manifest = Manifest {
        format: FORMAT,
        task: parts.task,
        interface: parts.interface,
        policy: parts.policy,
        observation,
        action,
        clip_range: parts.clip_range,
        trained,
    };
    let normaliser = parts.origin.to_string();
    Ok(Read { scheme: found.scheme, manifest, list, values, normaliser, notes: parts.notes })
}

/// What the file says of itself if it was exported from a checkpoint of ours.
///
/// # Errors
/// When text or tensors are not those that were exported.
fn remembered(file: &TensorFile) -> Result<Option<Manifest>, String> {
    let Some(text) = &file.remembered else { return Ok(None) };
    let (checksum, manifest) = text.split_once('\n').unwrap_or_default();
    if checksum != file.checksum(manifest) {
        return Err(format!(
            "it was exported from a checkpoint, and does not hold what was written then: it is damaged. If it was \
             changed on purpose, leave the text `{}` out of its metadata",
            crate::export::REMEMBERED
        ));
    }
    // Another version's manifest may be another: the tensors are what they are.
    Ok(serde_json::from_str(manifest).ok())
}

/// How a network was trained: nothing is known of one that is not from here.
fn trained(remembered: Option<&Manifest>) -> Trained {
    remembered.map_or_else(|| Trained::nothing(0), |manifest| manifest.trained.clone())
}

/// The normalisers to the last bit, where the file was exported here and these are what f32 has left of them.
fn exact(parts: &Parts, remembered: Option<&Manifest>) -> (Normalizer, Normalizer) {
    let same = |is: &Normalizer, was: &Normalizer| {
        is.dim() == was.dim()
            && (0..is.dim()).all(|number| {
                let ((is, center), (was, other)) = (is.scale(number), was.scale(number));
                let rounding = 1e-6 * (other * was).abs().max(1.0);
                (is / was - 1.0).abs() <= rounding && ((center - other) * was).abs() <= rounding
            })
    };
    match remembered {
        Some(was) if same(&parts.observation, &was.observation) && same(&parts.action, &was.action) => {
            (was.observation.clone(), was.action.clone())
        }
        _ => (parts.observation.clone(), parts.action.clone()),
    }
}
