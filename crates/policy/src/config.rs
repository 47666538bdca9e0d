//! An experiment, whole: what a TOML file under `configs/` states.

use nudge_control::{Horizon, Interface};
use serde::{Deserialize, Serialize};

use crate::angles::Angles;
use crate::augmentation::Symmetry;
use crate::ranges::Normalization;
use crate::relative::{References, Relative};
use crate::{Objective, PolicyFailure, SamplerConfig, ScheduleConfig, UnetConfig};

/// Everything that decides what is trained, but for the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Name of the task, for example `push_t`.
    pub task: String,
    /// Seeds initial weights, shuffling, noise, and which episodes are held out.
    pub seed: u64,
    pub data: DataConfig,
    pub policy: PolicyConfig,
    pub training: TrainingConfig,
    pub interface: Interface,
}

/// Which recordings are learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Folder of a data set, relative to the working directory.
    pub path: String,
    /// Share of the episodes that is held out for validation, 0..=0.5.
    pub validation_share: f64,
    /// Learn from this many episodes, the first of the set; from all of them if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episodes: Option<usize>,
    /// How many frames beyond its end the last window of an episode reaches, where the last action is repeated, 0..Tp:
    /// `Ta - 1` if not given, as in the reference. With `Tp - To` every frame is seen as the newest, the last ones too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_after: Option<usize>,
    /// Features of the interface that go by another name in the data set, or are some of a feature's numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureSource>,
    /// Mebibytes of demonstrations that are kept in memory: [`DEFAULT_MEMORY_MIB`] if not given. A larger set is read again
    /// in every epoch, a part of it at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<f64>,
    /// A symmetry of the task: half of the training windows are replaced by their mirror images.
    #[serde(default)]
    pub symmetry: Option<Symmetry>,
}

/// See [`DataConfig::memory_mib`].
pub const DEFAULT_MEMORY_MIB: f64 = 1024.0;

/// Where a feature of the interface is found in a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSource {
    /// In the interface.
    pub name: String,
    /// In the data set.
    pub from: String,
    /// Which of its numbers, in this order; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Vec<usize>>,
}

/// What a checkpoint needs to plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    pub horizon: Horizon,
    pub network: NetworkConfig,
    pub schedule: ScheduleConfig,
    pub objective: Objective,
    pub sampler: SamplerConfig,
    /// Numbers of the action that are learned as differences from the newest observation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relative: Vec<Relative>,
    /// Numbers that are angles, and go through the network as sine and cosine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub angles: Vec<Angles>,
    /// How features are normalised, where not by their least and greatest value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub normalization: Vec<Normalization>,
    /// Plans are learned as what follows actions that are executed already. Not at all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<PrefixConfig>,
}

/// Training-time action conditioning for real-time chunking (Black et al. 2025, arXiv 2512.05964): of every training window
/// the first actions from the newest observation on, a number drawn uniformly from `0..=max_steps`, stay clean and are not
/// learned, so that a plan may begin with given ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixConfig {
    /// 1..=Tp - To: one action at least is left to plan.
    pub max_steps: usize,
}

impl PrefixConfig {
    fn check(self, horizon: Horizon) -> Result<(), String> {
        let room = horizon.predicted.saturating_sub(horizon.observed);
        if !(1..=room).contains(&self.max_steps) {
            return Err(format!(
                "`policy.prefix.max_steps` is {}, not in 1..={room}: of {} predicted steps with {} observed, one at least \
                 is left to plan",
                self.max_steps, horizon.predicted, horizon.observed
            ));
        }
        Ok(())
    }
}

/// The denoiser's architecture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NetworkConfig {
    #[serde(rename = "conditional_unet_1d")]
    ConditionalUnet1d(UnetConfig),
}

/// How long, how fast, and how it is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    pub steps: u64,
    pub batch_size: usize,
    /// Parts of a batch whose gradients are computed side by side, and added in order: the result depends on their
    /// number, not on that of the machine's cores.
    pub shards: usize,
    pub optimizer: OptimizerConfig,
    pub ema: EmaConfig,
    /// Steps between validations.
    pub validate_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept.
    pub keep: usize,
}

/// AdamW (Loshchilov and Hutter 2019), with a linear warm-up and a half cosine down to 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    pub learning_rate: f64,
    pub betas: [f32; 2],
    pub epsilon: f32,
    pub weight_decay: f32,
    pub warmup_steps: u64,
}

/// The moving average of the weights that is served: its decay is `1 - (1 + step)^-power`, up to `max_decay`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    pub power: f64,
    pub max_decay: f64,
}

impl TrainConfig {
    /// Parses and checks a TOML text.
    ///
    /// # Errors
    /// The first field that is unknown, missing or out of range.
    pub fn from_toml(text: &str) -> Result<Self, PolicyFailure> {
        let config: Self = toml::from_str(text).map_err(|error| PolicyFailure::Config(error.to_string()))?;
        config.check().map_err(PolicyFailure::Config)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        check_interface(&self.interface)?;
        self.policy.check(&self.interface)?;
        let training = &self.training;
        let positive = [
            ("steps", training.steps),
            ("batch_size", training.batch_size as u64),
            ("shards", training.shards as u64),
            ("validate_every", training.validate_every),
            ("checkpoint_every", training.checkpoint_every),
            ("keep", training.keep as u64),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("`training.{name}` is 0, and must be at least 1"));
        }
        if !training.batch_size.is_multiple_of(training.shards) {
            return Err(format!(
                "`training.batch_size` {} is not a multiple of `training.shards` {}",
                training.batch_size, training.shards
            ));
        }
        let optimizer = &training.optimizer;
        let rate = optimizer.learning_rate;
        if !(rate > 0.0 && rate < 1.0) {
            return Err(format!("`training.optimizer.learning_rate` is {rate}, not in 0..1"));
        }
        if optimizer.betas.iter().any(|beta| !(0.0..1.0).contains(beta)) {
            return Err(format!("`training.optimizer.betas` are {:?}, not in 0..1", optimizer.betas));
        }
        let ema = &training.ema;
        let in_range = (0.0..1.0).contains(&ema.max_decay) && ema.power > 0.0 && ema.power <= 1.0;
        if !in_range {
            return Err(format!(
                "`training.ema` is {ema:?}: power lies above 0 and up to 1, max_decay in 0..1"
            ));
        }
        if !(0.0..=0.5).contains(&self.data.validation_share) {
            return Err(format!("`data.validation_share` is {}, not in 0..=0.5", self.data.validation_share));
        }
        let (pad_after, predicted) = (self.data.pad_after, self.policy.horizon.predicted);
        if let Some(pad_after) = pad_after.filter(|pad_after| *pad_after >= predicted) {
            return Err(format!("`data.pad_after` is {pad_after}, not in 0..{predicted}"));
        }
        if self.data.episodes == Some(0) {
            return Err("`data.episodes` is 0: leave it out to learn from all of them".into());
        }
        if let Some(memory) = self.data.memory_mib.filter(|memory| !(*memory > 0.0 && memory.is_finite())) {
            return Err(format!("`data.memory_mib` is {memory}, and must be above 0"));
        }
        check_sources(&self.data.features, &self.interface)?;
        match &self.data.symmetry {
            Some(symmetry) => symmetry.check(&self.interface),
            None => Ok(()),
        }
    }
}

impl PolicyConfig {
    pub(crate) fn check(&self, interface: &Interface) -> Result<(), String> {
        self.horizon.check()?;
        self.prefix.map_or(Ok(()), |prefix| prefix.check(self.horizon))?;
        References::new(&self.relative, interface)?;
        Angles::check(&self.angles, interface)?;
        Normalization::check(&self.normalization, interface)?;
        let NetworkConfig::ConditionalUnet1d(network) = &self.network;
        network.check(self.horizon.predicted)?;
        self.sampler.check(&self.schedule.build()?)
    }
}

fn check_sources(sources: &[FeatureSource], interface: &Interface) -> Result<(), String> {
    for (index, FeatureSource { name, numbers, .. }) in sources.iter().enumerate() {
        let observed = interface.observation.iter().map(|feature| (&feature.name, feature.dim()));
        let acted = interface.action.iter().map(|feature| (&feature.name, feature.dim()));
        let Some((_, dim)) = observed.chain(acted).find(|(feature, _)| *feature == name) else {
            return Err(format!("`data.features`: the interface has no feature `{name}`"));
        };
        if sources[..index].iter().any(|before| before.name == *name) {
            return Err(format!("`data.features`: `{name}` is named twice"));
        }
        if let Some(numbers) = numbers.as_ref().filter(|numbers| numbers.len() != dim) {
            return Err(format!(
                "`data.features` `{name}`: it has {dim} numbers in the interface, and `numbers` names {}",
                numbers.len()
            ));
        }
    }
    Ok(())
}

pub(crate) fn check_interface(interface: &Interface) -> Result<(), String> {
    if interface.observation_dim() == 0 || interface.action_dim() == 0 {
        return Err("`interface` must observe and act with at least one number each".into());
    }
    if !(interface.control_hz > 0.0 && interface.control_hz.is_finite()) {
        return Err(format!("`interface.control_hz` is {}, and must be positive", interface.control_hz));
    }
    for feature in &interface.action {
        let (low, high) = (&feature.limits.low, &feature.limits.high);
        let fits = low.len() == feature.dim() && high.len() == feature.dim();
        let ordered = low.iter().zip(high).all(|(low, high)| low < high);
        if !(fits && ordered) {
            return Err(format!(
                "`interface.action` `{}`: limits need {} numbers each, low below high",
                feature.name,
                feature.dim()
            ));
        }
    }
    Ok(())
}
