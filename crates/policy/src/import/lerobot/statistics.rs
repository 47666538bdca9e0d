//! The normaliser of a LeRobot policy: statistics of each feature, and what is made of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::super::ranges::{Way, from_mean_and_std, from_range};
use super::super::tensors::TensorFile;
use super::config::{Kind, LeRobotConfig, Mode, kind_of};
use crate::Normalizer;

pub(crate) const BEFORE: &str = "policy_preprocessor.json";
pub(crate) const AFTER: &str = "policy_postprocessor.json";
pub(crate) const NORMALIZER: &str = "normalizer_processor";
pub(crate) const UNNORMALIZER: &str = "unnormalizer_processor";
/// Steps of a pipeline that move numbers without changing them.
const HARMLESS: [&str; 3] = ["rename_observations_processor", "to_batch_processor", "device_processor"];
/// What LeRobot adds to a deviation before it divides by it.
const EPSILON: f64 = 1e-8;

/// Statistics before or behind the policy, wherever they are kept.
pub(super) struct Statistics<'a> {
    way: Way,
    kept: Kept<'a>,
}

enum Kept<'a> {
    /// In 2024: among the weights.
    Among { weights: &'a TensorFile, config: &'a LeRobotConfig },
    /// Today: in the file of a pipeline's step.
    Beside { file: TensorFile, step: NormalizerStep },
}

/// A pipeline, as LeRobot writes it.
#[derive(Deserialize)]
struct Pipeline {
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    registry_name: Option<String>,
    #[serde(default)]
    config: Value,
    state_file: Option<String>,
}

/// What the step that normalises is told.
#[derive(Deserialize)]
struct NormalizerStep {
    eps: Option<f64>,
    norm_map: BTreeMap<Kind, Mode>,
}

impl<'a> Statistics<'a> {
    /// # Errors
    /// When there are none, or the pipeline does more to the numbers than to normalise them.
    pub fn find(
        folder: &Path,
        way: Way,
        weights: &'a TensorFile,
        config: &'a LeRobotConfig,
    ) -> Result<Self, String> {
        let (pipeline, step) = match way {
            Way::In => (BEFORE, NORMALIZER),
            Way::Out => (AFTER, UNNORMALIZER),
        };
        let kept = if folder.join(pipeline).is_file() {
            from_pipeline(folder, pipeline, step).map_err(|problem| format!("{pipeline}: {problem}"))?
        } else if weights.names().any(super::is_beside_the_network) {
            Kept::Among { weights, config }
        } else {
            return Err(format!(
                "it has no normaliser: there is neither a `{pipeline}` beside it nor a \
                 `normalize_inputs.buffer_observation_state.min` in it"
            ));
        };
        Ok(Self { way, kept })
    }

    /// The file that holds them.
    pub fn place(&self) -> String {
        let path = match &self.kept {
            Kept::Among { weights, .. } => &weights.path,
            Kept::Beside { file, .. } => &file.path,
        };
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// How a feature is normalised.
    pub fn mode(&self, feature: &str) -> Mode {
        match &self.kept {
            Kept::Among { config, .. } => config.mode(feature),
            Kept::Beside { step, .. } => {
                step.norm_map.get(&kind_of(feature)).copied().unwrap_or(Mode::Identity)
            }
        }
    }

    /// One statistic of a feature: `min`, `mean`, `q01` and so on.
    ///
    /// # Errors
    /// When it is not there, or not finite.
    pub fn numbers(&self, feature: &str, statistic: &str) -> Result<Vec<f32>, String> {
        match &self.kept {
            Kept::Among { weights, .. } => {
                let group = if self.way == Way::In { "normalize_inputs" } else { "unnormalize_outputs" };
                weights.numbers(&format!("{group}.buffer_{}.{statistic}", feature.replace('.', "_")))
            }
            Kept::Beside { file, .. } => file
                .numbers(&format!("{feature}.{statistic}"))
                .map_err(|problem| format!("{}: {problem}", self.place())),
        }
    }

    /// The normaliser of a feature of `dim` numbers.
    ///
    /// # Errors
    /// The statistic that is missing, of another length, or no use.
    pub fn normalizer(&self, feature: &str, dim: usize) -> Result<Normalizer, String> {
        let pair = |first: &str, second: &str| {
            let (first, second) = (self.numbers(feature, first)?, self.numbers(feature, second)?);
            if first.len() != dim || second.len() != dim {
                return Err(format!(
                    "{}: `{feature}` has {dim} numbers, and its statistics {} and {}",
                    self.place(),
                    first.len(),
                    second.len()
                ));
            }
            Ok((first, second))
        };
        let range = |low: &str, high: &str| {
            let (low, high) = pair(low, high)?;
            from_range(feature, &low, &high, self.way)
        };
        match self.mode(feature) {
            Mode::Identity => Ok(Normalizer { low: vec![-1.0; dim], high: vec![1.0; dim] }),
            Mode::MinMax => range("min", "max"),
            Mode::Quantiles => range("q01", "q99"),
            Mode::Quantile10 => range("q10", "q90"),
            Mode::MeanStd => {
                let (mean, std) = pair("mean", "std")?;
                from_mean_and_std(feature, &mean, &std, self.epsilon(), self.way)
            }
        }
    }

    fn epsilon(&self) -> f64 {
        match &self.kept {
            Kept::Beside { step, .. } => step.eps.unwrap_or(EPSILON),
            Kept::Among { .. } => EPSILON,
        }
    }
}

fn from_pipeline<'a>(folder: &Path, pipeline: &str, wanted: &str) -> Result<Kept<'a>, String> {
    let text = fs::read(folder.join(pipeline)).map_err(|error| error.to_string())?;
    let pipeline: Pipeline = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let mut normalizer = None;
    for step in pipeline.steps {
        let name = step.registry_name.as_deref().unwrap_or("a step without a name");
        let renames =
            step.config.get("rename_map").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
        if name == wanted && normalizer.is_none() {
            normalizer = Some(step);
        } else if !HARMLESS.contains(&name) || renames {
            let what = if renames { "renames what is observed" } else { "may change the numbers" };
            return Err(format!("`{name}` {what}: there is nothing like it here"));
        }
    }
    let step = normalizer.ok_or(format!("it has no step `{wanted}`"))?;
    let file = step.state_file.ok_or(format!("`{wanted}` names no `state_file`: it has no statistics"))?;
    // A plain name: nothing outside of the folder is read because a file says so.
    if Path::new(&file).file_name().is_none_or(|name| name != file.as_str()) {
        return Err(format!("`{file}` is not the name of a file in the same folder"));
    }
    let step = serde_json::from_value(step.config).map_err(|error| format!("`{wanted}`: {error}"))?;
    let file = TensorFile::open(&folder.join(file)).map_err(|failure| failure.to_string())?;
    Ok(Kept::Beside { file, step })
}
