//! `config.json` of a LeRobot diffusion policy, in the form of today and in that of 2024.

use std::collections::BTreeMap;
use std::fmt;

use nudge_control::Horizon;
use serde::{Deserialize, Serialize};

use crate::config::{NetworkConfig, PolicyConfig};
use crate::{BetaCurve, Objective, SamplerConfig, ScheduleConfig, Spacing, UnetConfig, Variance};

pub(crate) const STATE: &str = "observation.state";
pub(crate) const ENVIRONMENT: &str = "observation.environment_state";
pub(crate) const ACTION: &str = "action";

/// The part of it that plans depend on; LeRobot writes much more.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LeRobotConfig {
    n_obs_steps: usize,
    horizon: usize,
    n_action_steps: usize,
    input_features: Option<BTreeMap<String, FeatureSpec>>,
    output_features: Option<BTreeMap<String, FeatureSpec>>,
    normalization_mapping: Option<BTreeMap<Kind, Mode>>,
    input_shapes: Option<BTreeMap<String, Vec<usize>>>,
    output_shapes: Option<BTreeMap<String, Vec<usize>>>,
    input_normalization_modes: Option<BTreeMap<String, Mode>>,
    output_normalization_modes: Option<BTreeMap<String, Mode>>,
    down_dims: Vec<usize>,
    kernel_size: usize,
    n_groups: usize,
    diffusion_step_embed_dim: usize,
    use_film_scale_modulation: bool,
    noise_scheduler_type: Option<String>,
    num_train_timesteps: usize,
    beta_schedule: String,
    beta_start: f64,
    beta_end: f64,
    prediction_type: String,
    clip_sample: bool,
    clip_sample_range: Option<f64>,
    num_inference_steps: Option<usize>,
}

/// What a policy takes and gives.
pub(crate) struct Features<'a> {
    /// Name and numbers of what is observed, in the order of the network's condition.
    pub observed: Vec<(&'static str, usize)>,
    /// Numbers of an action.
    pub action: usize,
    /// Inputs that the network does not see.
    pub unseen: Vec<&'a str>,
}

/// A feature as LeRobot states it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeatureSpec {
    #[serde(rename = "type")]
    pub kind: Kind,
    pub shape: Vec<usize>,
}

/// What a feature is to the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Kind {
    State,
    Visual,
    Env,
    Action,
    Reward,
    Language,
}

/// How a feature is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Mode {
    #[serde(alias = "min_max")]
    MinMax,
    #[serde(alias = "mean_std")]
    MeanStd,
    #[serde(alias = "identity")]
    Identity,
    Quantiles,
    Quantile10,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::MinMax => "MIN_MAX",
            Self::MeanStd => "MEAN_STD",
            Self::Identity => "IDENTITY",
            Self::Quantiles => "QUANTILES",
            Self::Quantile10 => "QUANTILE10",
        })
    }
}

impl LeRobotConfig {
    /// # Errors
    /// When it is another policy's, or lacks what a plan depends on.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(rename = "type")]
            kind: Option<String>,
        }
        let named: Named = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if let Some(kind) = named.kind.filter(|kind| kind != "diffusion") {
            return Err(format!("it is a policy of type `{kind}`, and only `diffusion` is one that we have"));
        }
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }

    /// # Errors
    /// When it looks at images, or has no state or no action.
    pub fn features(&self) -> Result<Features<'_>, String> {
        let inputs = specs(self.input_features.as_ref(), self.input_shapes.as_ref(), "input_features")?;
        let outputs = specs(self.output_features.as_ref(), self.output_shapes.as_ref(), "output_features")?;
        let visual = |(name, kind, _): &&(&str, Option<Kind>, &[usize])| {
            *kind == Some(Kind::Visual) || kind.is_none() && name.starts_with("observation.image")
        };
        if let Some((name, ..)) = inputs.iter().find(visual) {
            return Err(format!("the policy looks at images (`{name}`), for which there is no encoder here"));
        }
        let dim = |list: &[(&str, Option<Kind>, &[usize])], wanted: &str, kind: Kind| {
            let found = list.iter().find(|(name, is, _)| *name == wanted && is.is_none_or(|is| is == kind));
            found.map(|(_, _, shape)| match shape {
                [numbers] if *numbers > 0 => Ok(*numbers),
                _ => Err(format!("`{wanted}` has the shape {shape:?}, and must be a vector")),
            })
        };
        let state = dim(&inputs, STATE, Kind::State).ok_or(format!(
            "it has no input `{STATE}` of type STATE, which LeRobot's network begins with"
        ))??;
        let mut observed = vec![(STATE, state)];
        if let Some(environment) = dim(&inputs, ENVIRONMENT, Kind::Env) {
            observed.push((ENVIRONMENT, environment?));
        }
        let action = dim(&outputs, ACTION, Kind::Action).ok_or(format!("it has no output `{ACTION}`"))??;
        let seen = |name: &str| observed.iter().any(|(seen, _)| *seen == name);
        let unseen = inputs.iter().map(|(name, ..)| *name).filter(|name| !seen(name)).collect();
        Ok(Features { observed, action, unseen })
    }

    /// How a feature is normalised, where no file beside the weights says so.
    pub fn mode(&self, feature: &str) -> Mode {
        let by_name = [&self.input_normalization_modes, &self.output_normalization_modes];
        let by_name = by_name.into_iter().flatten().find_map(|modes| modes.get(feature));
        let by_kind = || self.normalization_mapping.as_ref()?.get(&kind_of(feature));
        by_name.or_else(by_kind).copied().unwrap_or(Mode::Identity)
    }

    /// To how far from 0 samples are clipped, where they are.
    ///
    /// # Errors
    /// When it is no range.
    pub fn clip_range(&self) -> Result<f64, String> {
        match self.clip_sample_range {
            Some(range) if self.clip_sample && !(range > 0.0 && range.is_finite()) => {
                Err(format!("`clip_sample_range` is {range}, and must be positive"))
            }
            Some(range) if self.clip_sample => Ok(range),
            _ => Ok(1.0),
        }
    }

    /// # Errors
    /// The field that no policy of ours can have.
    pub fn policy(&self) -> Result<PolicyConfig, String> {
        let refused = |field: &str, is: &str, known: &str| {
            Err(format!("`{field}` is `{is}`, and only {known} can be planned with here"))
        };
        let curve = match self.beta_schedule.as_str() {
            "squaredcos_cap_v2" => BetaCurve::SquaredcosCapV2,
            "linear" => BetaCurve::Linear,
            "scaled_linear" => BetaCurve::ScaledLinear,
            other => return refused("beta_schedule", other, "squaredcos_cap_v2, linear and scaled_linear"),
        };
        let objective = match self.prediction_type.as_str() {
            "epsilon" => Objective::Epsilon,
            "sample" => Objective::Sample,
            "v_prediction" => Objective::Velocity,
            other => return refused("prediction_type", other, "epsilon, sample and v_prediction"),
        };
        let (clip, spacing) = (self.clip_sample, Spacing::Leading);
        let steps = self.num_inference_steps.unwrap_or(self.num_train_timesteps);
        let sampler = match self.noise_scheduler_type.as_deref().unwrap_or("DDPM") {
            "DDPM" => SamplerConfig::Ddpm { steps, clip, variance: Variance::FixedSmall, spacing },
            "DDIM" => SamplerConfig::Ddim {
                steps,
                eta: 0.0,
                clip,
                spacing,
                renoise_clipped: false,
                hurried_steps: None,
            },
            other => return refused("noise_scheduler_type", other, "DDPM and DDIM"),
        };
        let schedule = ScheduleConfig {
            curve,
            train_steps: self.num_train_timesteps,
            beta_start: self.beta_start,
            beta_end: self.beta_end,
        };
        let network = UnetConfig {
            down_dims: self.down_dims.clone(),
            diffusion_step_embed_dim: self.diffusion_step_embed_dim,
            kernel_size: self.kernel_size,
            n_groups: self.n_groups,
            cond_predict_scale: self.use_film_scale_modulation,
        };
        Ok(PolicyConfig {
            horizon: Horizon {
                observed: self.n_obs_steps,
                predicted: self.horizon,
                executed: self.n_action_steps,
            },
            network: NetworkConfig::ConditionalUnet1d(network),
            schedule,
            objective,
            sampler,
            relative: Vec::new(),
            angles: Vec::new(),
            normalization: Vec::new(),
            prefix: None,
        })
    }
}

/// What LeRobot takes one of our three features for.
pub(crate) fn kind_of(feature: &str) -> Kind {
    match feature {
        ENVIRONMENT => Kind::Env,
        ACTION => Kind::Action,
        _ => Kind::State,
    }
}

/// Name, kind where it is stated, and shape of each feature.
type Specs<'a> = Vec<(&'a str, Option<Kind>, &'a [usize])>;

fn specs<'a>(
    features: Option<&'a BTreeMap<String, FeatureSpec>>,
    shapes: Option<&'a BTreeMap<String, Vec<usize>>>,
    name: &str,
) -> Result<Specs<'a>, String> {
    match (features, shapes) {
        (Some(features), _) => Ok(features
            .iter()
            .map(|(name, spec)| (name.as_str(), Some(spec.kind), &spec.shape[..]))
            .collect()),
        (None, Some(shapes)) => {
            Ok(shapes.iter().map(|(name, shape)| (name.as_str(), None, &shape[..])).collect())
        }
        (None, None) => Err(format!("it states no `{name}`")),
    }
}
