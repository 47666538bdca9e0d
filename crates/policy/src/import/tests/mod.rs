//! Policies of others, made here: small networks under both schemes, and the recorded ones where they are.

mod damage;
mod diffusion_policy;
mod lerobot;
mod recorded;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::names::Scheme;
use super::{ImportOptions, ImportReport, import};
use crate::checkpoint::{Named, Stored, serialize_tensors};
use crate::kernels::Kernels;
use crate::{PolicyFailure, UnetConfig};

/// The small network: it sees two steps of 2 + 3 numbers, and plans 2.
pub(crate) fn network() -> UnetConfig {
    UnetConfig {
        down_dims: vec![8, 16],
        diffusion_step_embed_dim: 12,
        kernel_size: 3,
        n_groups: 8,
        cond_predict_scale: true,
    }
}

/// Seeded weights of the small network, under our names.
pub(crate) fn weights() -> Named {
    let (_, list) = network().build(Kernels::Stock, 2, 10);
    let values = list.initialise(&mut ChaCha8Rng::seed_from_u64(3));
    list.iter()
        .zip(values)
        .map(|(parameter, values)| (parameter.name.clone(), parameter.shape.clone(), values))
        .collect()
}

/// What has to be said of the small network.
pub(crate) const SETTINGS: &str = r#"
task = "push_t"

[policy]
objective = "epsilon"
horizon = { observed = 2, predicted = 16, executed = 8 }
schedule = { curve = "squaredcos_cap_v2", train_steps = 100 }
sampler = { kind = "ddim", steps = 2 }

[policy.network]
kind = "conditional_unet_1d"
down_dims = [8, 16]
diffusion_step_embed_dim = 12
kernel_size = 3
n_groups = 8
cond_predict_scale = true

[interface]
control_hz = 10.0
observation = [
  { name = "observation.state", kind = "vector", shape = [2], unit = "px" },
  { name = "observation.environment_state", kind = "vector", shape = [3], unit = "px" },
]

[[interface.action]]
name = "action"
kind = "vector"
shape = [2]
unit = "px"
limits = { low = [0.0, 0.0], high = [512.0, 512.0] }
"#;

/// Ranges for where the weights come without a normaliser.
pub(crate) const RANGES: &str = r#"
[normaliser]
observation = { low = [0.0, 0.0, -1.0, -1.0, -1.0], high = [512.0, 256.0, 1.0, 1.0, 1.0] }
action = { low = [0.0, 0.0], high = [512.0, 512.0] }
"#;

/// The same under the names of a scheme, prefix and all.
fn named(scheme: Scheme, weights: Named) -> Named {
    weights.into_iter().map(|(name, shape, values)| (scheme.theirs(&name), shape, values)).collect()
}

fn vector(name: &str, values: &[f32]) -> (String, Vec<usize>, Vec<f32>) {
    (name.to_owned(), vec![values.len()], values.to_vec())
}

fn write(path: &Path, named: &Named) {
    std::fs::write(path, serialize_tensors(named, HashMap::new())).unwrap();
}

/// A temporary folder, and the name of a checkpoint to be made in it.
pub(crate) struct Place {
    pub folder: TempDir,
    pub out: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        Self { folder, out }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Imports tensors as a state dict.
fn import_tensors(named: &Named, settings: &str) -> Result<(ImportReport, Stored), PolicyFailure> {
    let place = Place::new();
    let file = place.path("policy.safetensors");
    write(&file, named);
    let report = import(&file, &place.out, &ImportOptions { config: Some(settings), ..Default::default() })?;
    Ok((report, Stored::open(&place.out)?))
}

/// A LeRobot folder of the small network as today's version writes it.
struct LeRobotPolicy {
    config: Value,
    before: Value,
    after: Value,
    statistics: Named,
    weights: Named,
}

impl LeRobotPolicy {
    fn small() -> Self {
        let modes =
            json!({ "VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ENV": "MEAN_STD", "ACTION": "MIN_MAX" });
        let step = |name: &str, file: &str| {
            json!({ "registry_name": name, "state_file": file,
                    "config": { "eps": 1e-8, "features": {}, "norm_map": modes } })
        };
        Self {
            config: json!({
                "type": "diffusion",
                "n_obs_steps": 2, "horizon": 16, "n_action_steps": 8,
                "input_features": {
                    "observation.environment_state": { "type": "ENV", "shape": [3] },
                    "observation.state": { "type": "STATE", "shape": [2] },
                },
                "output_features": { "action": { "type": "ACTION", "shape": [2] } },
                "normalization_mapping": modes,
                "vision_backbone": "resnet18",
                "down_dims": [8, 16], "kernel_size": 3, "n_groups": 8, "diffusion_step_embed_dim": 12,
                "use_film_scale_modulation": true,
                "noise_scheduler_type": "DDIM", "num_train_timesteps": 100,
                "beta_schedule": "squaredcos_cap_v2", "beta_start": 0.0001, "beta_end": 0.02,
                "prediction_type": "epsilon", "clip_sample": true, "clip_sample_range": 1.0,
                "num_inference_steps": 2,
            }),
            before: json!({ "name": "policy_preprocessor", "steps": [
                { "registry_name": "rename_observations_processor", "config": { "rename_map": {} } },
                { "registry_name": "to_batch_processor", "config": {} },
                { "registry_name": "device_processor", "config": { "device": "cpu" } },
                step("normalizer_processor", "statistics.safetensors"),
            ] }),
            after: json!({ "name": "policy_postprocessor", "steps": [
                step("unnormalizer_processor", "statistics.safetensors"),
                { "registry_name": "device_processor", "config": { "device": "cpu" } },
            ] }),
            statistics: vec![
                vector("observation.state.min", &[0.0, 10.0]),
                vector("observation.state.max", &[512.0, 256.0]),
                vector("observation.environment_state.mean", &[1.0, 2.0, 3.0]),
                vector("observation.environment_state.std", &[0.5, 1.0, 2.0]),
                vector("action.min", &[-1.0, 0.0]),
                vector("action.max", &[3.0, 512.0]),
            ],
            weights: named(Scheme::LeRobot, weights()),
        }
    }

    fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        for (name, value) in [
            ("config.json", &self.config),
            ("policy_preprocessor.json", &self.before),
            ("policy_postprocessor.json", &self.after),
        ] {
            if !value.is_null() {
                std::fs::write(folder.join(name), value.to_string()).unwrap();
            }
        }
        write(&folder.join("statistics.safetensors"), &self.statistics);
        write(&folder.join("model.safetensors"), &self.weights);
    }

    fn import(&self) -> Result<(ImportReport, Stored), PolicyFailure> {
        self.import_with(&ImportOptions { control_hz: Some(20.0), ..Default::default() })
    }

    fn import_with(&self, options: &ImportOptions) -> Result<(ImportReport, Stored), PolicyFailure> {
        let place = Place::new();
        let source = place.path("pretrained_model");
        self.write(&source);
        let report = import(&source, &place.out, options)?;
        Ok((report, Stored::open(&place.out)?))
    }
}

/// Asserts that a change is refused with each of these words.
#[track_caller]
fn refused<T>(result: Result<T, PolicyFailure>, words: &[&str]) {
    let Err(failure) = result else { panic!("it was imported, without {words:?}") };
    let text = failure.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}
