//! The checkpoint folder: self-contained, self-checking, written whole or not at all.
//!
//! | file | what |
//! |---|---|
//! | `checkpoint.json` | format, task, interface, policy configuration, normalisers, and how it was trained |
//! | `weights.safetensors` | the averaged weights, under the reference implementation's names |
//! | `golden.safetensors` | one input and the plan it gave when the checkpoint was written |
//! | `SHA256SUMS` | of the three above, as `sha256sum -c` reads them |
//!
//! A folder from training also holds `resume.safetensors`, which serving never reads.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nudge_control::Interface;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::angles::AngleMap;
use crate::config::{NetworkConfig, PolicyConfig};
use crate::diffusion::DiffusionPolicy;
use crate::engine::{HostNetwork, PlanOptions, Precision};
use crate::import::Imported;
use crate::kernels::Kernels;
use crate::parameters::ParameterList;
use crate::unet::ConditionalUnet1d;
use crate::{DeviceChoice, Normalizer, PolicyFailure, TrainConfig};

pub(crate) const FORMAT: u32 = 1;
const MANIFEST: &str = "checkpoint.json";
const WEIGHTS: &str = "weights.safetensors";
const GOLDEN: &str = "golden.safetensors";
const SUMS: &str = "SHA256SUMS";
/// In the name of a folder that is still being written.
const TEMPORARY: &str = "tmp-";

/// What a checkpoint says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub task: String,
    pub interface: Interface,
    pub policy: PolicyConfig,
    pub observation: Normalizer,
    pub action: Normalizer,
    /// How far from 0 normalised actions of the training set reach, to which samplers that clip do so: 1 unless
    /// [`Normalization`](crate::Normalization) scales them otherwise.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub clip_range: f64,
    pub trained: Trained,
}

fn one() -> f64 {
    1.0
}

fn is_one(value: &f64) -> bool {
    *value == 1.0
}

/// How a checkpoint came to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// Version of the program.
    pub version: String,
    pub seed: u64,
    pub steps: u64,
    /// Windows shown, counting repetitions.
    pub samples: u64,
    pub episodes: usize,
    pub frames: usize,
    pub parameters: usize,
    /// Wall-clock seconds of training, over all resumptions.
    pub seconds: f64,
    /// Where it came from, if it was trained elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// What it began from, if not from random weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Initial>,
}

/// The checkpoint whose weights a training began from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initial {
    /// The folder, as it was given.
    pub checkpoint: String,
    /// The SHA-256 of its file of weights.
    pub sha256: String,
    /// Steps that it had been trained for.
    pub steps: u64,
    /// Whether its normalisers were taken too, because it observes and acts with the same features.
    pub normalizers: bool,
}

impl Trained {
    /// Before the first step, or where nothing is known of the training.
    pub(crate) fn nothing(seed: u64) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed,
            steps: 0,
            samples: 0,
            episodes: 0,
            frames: 0,
            parameters: 0,
            seconds: 0.0,
            imported: None,
            initial: None,
        }
    }
}

/// A golden input and output: normalised condition `[To * Do]`, seed, normalised prediction `[Tp * Da]`.
struct Golden {
    condition: Vec<f32>,
    seed: u64,
    prediction: Vec<f32>,
}

/// A tensor's shape and its numbers, row-major.
pub(crate) type Shaped = (Vec<usize>, Vec<f32>);

/// Named tensors with their shapes, as safetensors hold them.
pub(crate) type Named = Vec<(String, Vec<usize>, Vec<f32>)>;

impl DiffusionPolicy {
    /// Loads and checks a checkpoint folder: checksums, shapes, and that the golden input still gives the golden plan.
    ///
    /// `path` may also be a folder of checkpoints, as training makes it: the newest is then taken.
    ///
    /// # Errors
    /// What is missing, damaged or unknown, and in which file.
    pub fn load(path: &Path, options: impl Into<PlanOptions>) -> Result<Self, PolicyFailure> {
        let folder = resolve(path)?;
        let Stored { manifest, values, golden, .. } = Stored::read(&folder)?;
        let mut policy = Self::new(manifest, values, options.into())?;
        golden
            .check(&mut policy)
            .map_err(|problem| PolicyFailure::checkpoint(folder.join(GOLDEN), problem))?;
        Ok(policy)
    }
}

/// What a folder holds, its checksums and shapes checked.
pub(crate) struct Stored {
    pub manifest: Manifest,
    pub list: ParameterList,
    /// In the order of `list`.
    pub values: Vec<Vec<f32>>,
    /// The SHA-256 of the file of weights.
    pub sha256: String,
    golden: Golden,
}

impl Stored {
    /// Reads a checkpoint folder without planning.
    ///
    /// # Errors
    /// What is missing, damaged or unknown, and in which file.
    pub fn open(path: &Path) -> Result<Self, PolicyFailure> {
        Self::read(&resolve(path)?)
    }

    fn read(folder: &Path) -> Result<Self, PolicyFailure> {
        let files = read_checked(folder)?;
        let manifest = Manifest::parse(&files[0])
            .map_err(|problem| PolicyFailure::checkpoint(folder.join(MANIFEST), problem))?;
        let list = manifest.host_network(Vec::new()).list;
        let values = weights_from(&list, &files[1])
            .map_err(|problem| PolicyFailure::checkpoint(folder.join(WEIGHTS), problem))?;
        let golden = Golden::parse(&files[2])
            .map_err(|problem| PolicyFailure::checkpoint(folder.join(GOLDEN), problem))?;
        Ok(Self { manifest, list, values, sha256: hex(&Sha256::digest(&files[1])), golden })
    }
}

impl Manifest {
    /// What the checkpoint `folder` says about itself.
    ///
    /// # Errors
    /// When it cannot be read, or says what does not hold together.
    pub(crate) fn read(folder: &Path) -> Result<Self, PolicyFailure> {
        let path = folder.join(MANIFEST);
        let bytes = fs::read(&path).map_err(PolicyFailure::io(&path))?;
        Self::parse(&bytes).map_err(|problem| PolicyFailure::checkpoint(path, problem))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format {} is unknown: this program reads format {FORMAT}", self.format));
        }
        self.policy.check(&self.interface)?;
        self.observation.check(self.observation_dim())?;
        self.action.check(self.action_dim())?;
        if !(self.clip_range > 0.0 && self.clip_range.is_finite()) {
            return Err(format!("`clip_range` is {}, and must be positive and finite", self.clip_range));
        }
        Ok(())
    }

    pub(crate) fn network(&self, kernels: Kernels) -> (ConditionalUnet1d, ParameterList) {
        let NetworkConfig::ConditionalUnet1d(network) = &self.policy.network;
        network.build(kernels, self.action_dim(), self.condition_dim())
    }

    /// The network with its weights on the host.
    pub(crate) fn host_network(&self, values: Vec<Vec<f32>>) -> HostNetwork {
        let NetworkConfig::ConditionalUnet1d(config) = &self.policy.network;
        let (_, list) = self.network(Kernels::Stock);
        HostNetwork {
            config: config.clone(),
            predicted: self.policy.horizon.predicted,
            action_dim: self.action_dim(),
            condition_dim: self.condition_dim(),
            list,
            values,
        }
    }

    /// What training with `config` begins from, before it has seen any data.
    pub(crate) fn untrained(config: &TrainConfig) -> Self {
        let as_it_is = |dim: usize| Normalizer { low: vec![-1.0; dim], high: vec![1.0; dim] };
        let angles = &config.policy.angles;
        Self {
            format: FORMAT,
            task: config.task.clone(),
            interface: config.interface.clone(),
            policy: config.policy.clone(),
            observation: as_it_is(AngleMap::observed(angles, &config.interface).dim()),
            action: as_it_is(AngleMap::acted(angles, &config.interface).dim()),
            clip_range: 1.0,
            trained: Trained::nothing(config.seed),
        }
    }

    /// Numbers of an observation as the network sees it.
    fn observation_dim(&self) -> usize {
        AngleMap::observed(&self.policy.angles, &self.interface).dim()
    }

    /// Numbers of an action as the network has it, `Da`.
    pub(crate) fn action_dim(&self) -> usize {
        AngleMap::acted(&self.policy.angles, &self.interface).dim()
    }

    /// Numbers of a condition: `To * Do`.
    pub(crate) fn condition_dim(&self) -> usize {
        self.policy.horizon.observed * self.observation_dim()
    }

    /// Numbers of a sample: `Tp * Da`.
    pub(crate) fn sample_len(&self) -> usize {
        self.policy.horizon.predicted * self.action_dim()
    }
}

impl Golden {
    /// A made-up observation in the middle of the data, and what the policy plans for it: in f32 on the CPU, wherever it
    /// was trained, because any machine can load a checkpoint there.
    fn make(manifest: &Manifest, weights: Vec<Vec<f32>>) -> Result<Self, PolicyFailure> {
        let numbers = manifest.condition_dim();
        let condition: Vec<f32> = (0..numbers).map(|i| (i as f32 * 0.7).sin() * 0.5).collect();
        let seed = manifest.trained.seed;
        let options = PlanOptions { device: DeviceChoice::Cpu, precision: Some(Precision::F32) };
        let mut policy = DiffusionPolicy::new(manifest.clone(), weights, options)?;
        let prediction = policy.sample(&condition, &[seed])?;
        Ok(Self { condition, seed, prediction })
    }

    fn check(&self, policy: &mut DiffusionPolicy) -> Result<(), String> {
        let manifest = policy.manifest();
        let numbers = manifest.condition_dim();
        if self.condition.len() != numbers || self.prediction.len() != manifest.sample_len() {
            return Err("the golden input does not have the shape of the interface".into());
        }
        let prediction =
            policy.sample(&self.condition, &[self.seed]).map_err(|failure| failure.to_string())?;
        let error = |(is, was): (&f32, &f32)| (is - was).abs();
        let largest = prediction.iter().zip(&self.prediction).map(error).fold(0.0, f32::max);
        let tolerance = policy.precision().tolerance();
        if largest > tolerance || prediction.iter().any(|value| !value.is_finite()) {
            return Err(format!(
                "the golden input no longer gives the golden plan: {largest} apart, and at most {tolerance} is \
                 rounding. The checkpoint was written by an incompatible version"
            ));
        }
        Ok(())
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let named = parse_tensors(bytes)?;
        let take = |name: &str| {
            named.get(name).map(|(_, values)| values.clone()).ok_or(format!("it holds no `{name}`"))
        };
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let seed = metadata.metadata().as_ref().and_then(|metadata| metadata.get("seed")?.parse().ok());
        Ok(Self {
            condition: take("condition")?,
            seed: seed.ok_or("it states no seed")?,
            prediction: take("prediction")?,
        })
    }

    fn serialize(&self) -> Vec<u8> {
        let named = vec![
            ("condition".to_owned(), vec![self.condition.len()], self.condition.clone()),
            ("prediction".to_owned(), vec![self.prediction.len()], self.prediction.clone()),
        ];
        serialize_tensors(&named, HashMap::from([("seed".to_owned(), self.seed.to_string())]))
    }
}

/// Writes a checkpoint folder of averaged `weights` in the order of `list`, whole or not at all; an existing `folder` is an
/// error. `extra` are further files.
pub(crate) fn write(
    folder: &Path,
    manifest: &Manifest,
    list: &ParameterList,
    weights: Vec<Vec<f32>>,
    extra: &[(&str, Vec<u8>)],
) -> Result<(), PolicyFailure> {
    let named: Named = list
        .iter()
        .zip(&weights)
        .map(|(parameter, values)| (parameter.name.clone(), parameter.shape.clone(), values.clone()))
        .collect();
    let mut text = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
    text.push(b'\n');
    let files = [
        (MANIFEST, text),
        (WEIGHTS, serialize_tensors(&named, HashMap::new())),
        (GOLDEN, Golden::make(manifest, weights)?.serialize()),
    ];
    let sums: String =
        files.iter().map(|(name, bytes)| format!("{}  {name}\n", hex(&Sha256::digest(bytes)))).collect();
    let temporary = folder.with_extension(format!("{TEMPORARY}{}", std::process::id()));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(PolicyFailure::io(&temporary))?;
    }
    fs::create_dir_all(&temporary).map_err(PolicyFailure::io(&temporary))?;
    let sums = (SUMS, sums.into_bytes());
    for (name, bytes) in files.iter().chain([&sums]).chain(extra) {
        let path = temporary.join(name);
        let written = fs::File::create(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(PolicyFailure::io(&path))?;
    }
    fs::rename(&temporary, folder).map_err(PolicyFailure::io(folder))?;
    // The rename itself lasts only once the folder that names it is on disk.
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(PolicyFailure::io(parent))
}

/// The checkpoints `step_*` in a folder, oldest first.
pub(crate) fn checkpoints_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut steps: Vec<(u64, PathBuf)> = entries
        .filter_map(|path| {
            let step = path.file_name()?.to_str()?.strip_prefix("step_")?.parse().ok()?;
            Some((step, path))
        })
        .collect();
    steps.sort();
    steps.into_iter().map(|(_, path)| path).collect()
}

/// Removes what a training that was killed while it wrote a checkpoint has left in a folder.
pub(crate) fn remove_unfinished(folder: &Path) -> Result<(), PolicyFailure> {
    let entries = fs::read_dir(folder).map_err(PolicyFailure::io(folder))?.flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("step_") && name.contains(TEMPORARY) {
            fs::remove_dir_all(&path).map_err(PolicyFailure::io(&path))?;
        }
    }
    Ok(())
}

fn resolve(path: &Path) -> Result<PathBuf, PolicyFailure> {
    if path.join(MANIFEST).is_file() {
        return Ok(path.to_owned());
    }
    checkpoints_in(path).pop().ok_or_else(|| {
        let problem = format!("there is neither a `{MANIFEST}` nor a `step_*` folder: is this a checkpoint?");
        PolicyFailure::checkpoint(path, problem)
    })
}

/// Manifest, weights and golden plan, each as its checksum says.
fn read_checked(folder: &Path) -> Result<[Vec<u8>; 3], PolicyFailure> {
    let read = |name: &str| fs::read(folder.join(name)).map_err(PolicyFailure::io(folder.join(name)));
    let sums = String::from_utf8_lossy(&read(SUMS)?).into_owned();
    let checked = |name: &str| {
        let bytes = read(name)?;
        let line = format!("{}  {name}", hex(&Sha256::digest(&bytes)));
        if !sums.lines().any(|sum| sum == line) {
            let problem = format!("its checksum is not the one in {SUMS}: the file or the list is damaged");
            return Err(PolicyFailure::checkpoint(folder.join(name), problem));
        }
        Ok(bytes)
    };
    Ok([checked(MANIFEST)?, checked(WEIGHTS)?, checked(GOLDEN)?])
}

/// Values in the order of `list`, or the first name or shape that does not fit.
pub(crate) fn weights_from(list: &ParameterList, bytes: &[u8]) -> Result<Vec<Vec<f32>>, String> {
    let mut named = parse_tensors(bytes)?;
    let mut values = Vec::new();
    for parameter in list.iter() {
        let (shape, value) =
            named.remove(&parameter.name).ok_or_else(|| format!("it lacks `{}`", parameter.name))?;
        if shape != parameter.shape {
            return Err(format!("`{}` is {shape:?}, and must be {:?}", parameter.name, parameter.shape));
        }
        values.push(value);
    }
    match named.keys().min() {
        Some(name) => Err(format!("it holds `{name}`, which the network does not have")),
        None => Ok(values),
    }
}

pub(crate) fn parse_tensors(bytes: &[u8]) -> Result<HashMap<String, Shaped>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    tensors
        .iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(format!("`{name}` is {:?}, and must be F32", view.dtype()));
            }
            let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let values = view.data().chunks_exact(4).map(number).collect();
            Ok((name.to_owned(), (view.shape().to_vec(), values)))
        })
        .collect()
}

pub(crate) fn serialize_tensors(named: &Named, metadata: HashMap<String, String>) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = named
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = named.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.expect("every tensor has as many numbers as its shape says"))
    });
    let metadata = (!metadata.is_empty()).then_some(metadata);
    safetensors::serialize(views, metadata).expect("names and sizes are plain")
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
