//! A folder that LeRobot's `DiffusionPolicy.from_pretrained` loads: configuration, weights, and the pipelines that normalise
//! before the policy and undo it behind.

use serde_json::{Value, json};

use crate::checkpoint::{Manifest, Named, Stored, serialize_tensors};
use crate::import::Scheme;
use crate::import::lerobot::{
    ACTION, AFTER, BEFORE, CONFIG, ENVIRONMENT, FeatureSpec, NORMALIZER, STATE, UNNORMALIZER, WEIGHTS,
    kind_of,
};
use crate::{BetaCurve, Normalizer, Objective, SamplerConfig, Spacing, UnetConfig, Variance};

use super::{Export, bounds, parameters, serialize};

/// # Errors
/// What of the policy LeRobot has no words for.
pub(super) fn export(stored: &Stored, network: &UnetConfig) -> Result<Export, String> {
    let manifest = &stored.manifest;
    check(manifest, network)?;
    let config = config(manifest, network)?;
    let statistics = serialize_tensors(&statistics(manifest)?, Default::default());
    let [before, after] =
        [(BEFORE, 3, NORMALIZER), (AFTER, 0, UNNORMALIZER)].map(|(pipeline, step, name)| {
            format!("{}_step_{step}_{name}.safetensors", pipeline.trim_end_matches(".json"))
        });
    let pipelines = pipelines(&config, &before, &after);
    let text = |value: &Value| format!("{value:#}\n").into_bytes();
    let files = vec![
        (CONFIG.into(), text(&config)),
        (WEIGHTS.into(), serialize(parameters(stored, Scheme::LeRobot), manifest)),
        (BEFORE.into(), text(&pipelines[0])),
        (before, statistics.clone()),
        (AFTER.into(), text(&pipelines[1])),
        (after, statistics),
    ];
    let notes = vec!["LeRobot does not keep the control rate, units and limits".to_owned()];
    Ok(Export { files, notes })
}

fn check(manifest: &Manifest, network: &UnetConfig) -> Result<(), String> {
    let interface = &manifest.interface;
    let names: Vec<&str> = interface.observation.iter().map(|feature| feature.name.as_str()).collect();
    if names != [STATE, ENVIRONMENT] {
        return Err(format!(
            "LeRobot's policy without images observes `{STATE}` and `{ENVIRONMENT}`, in this order, and this one \
             `{}`: export its weights under diffusion_policy's names",
            names.join("`, `")
        ));
    }
    let actions: Vec<&str> = interface.action.iter().map(|feature| feature.name.as_str()).collect();
    if actions != [ACTION] {
        return Err(format!("LeRobot's policy has one `{ACTION}`, and this one `{}`", actions.join("`, `")));
    }
    if let Some(relative) = manifest.policy.relative.first() {
        return Err(format!(
            "numbers of `{}` are planned as differences from `{}`, which LeRobot's policy does not do",
            relative.action, relative.to
        ));
    }
    if let Some(angles) = manifest.policy.angles.first() {
        return Err(format!(
            "angles of `{}` go through the network as sine and cosine, which LeRobot's policy does not do",
            angles.feature
        ));
    }
    let (predicted, stride) = (manifest.policy.horizon.predicted, 1usize << network.down_dims.len());
    if !predicted.is_multiple_of(stride) {
        return Err(format!(
            "LeRobot wants a prediction of a multiple of {stride} steps for {} resolutions, and this one has {predicted}",
            network.down_dims.len()
        ));
    }
    Ok(())
}

fn config(manifest: &Manifest, network: &UnetConfig) -> Result<Value, String> {
    let policy = &manifest.policy;
    let (scheduler, steps, clip) = match policy.sampler {
        SamplerConfig::Ddim {
            steps,
            eta: 0.0,
            clip,
            spacing: Spacing::Leading,
            renoise_clipped: false,
            ..
        } => ("DDIM", steps, clip),
        SamplerConfig::Ddpm { steps, clip, variance: Variance::FixedSmall, spacing: Spacing::Leading } => {
            ("DDPM", steps, clip)
        }
        other => {
            return Err(format!(
                "LeRobot samples with leading timesteps, DDIM without noise and DDPM with small variance, and this \
                 policy with {other:?}"
            ));
        }
    };
    let objective = match policy.objective {
        Objective::Epsilon => "epsilon",
        Objective::Sample => "sample",
        Objective::Velocity => {
            return Err("LeRobot's policy predicts noise or samples, and this one velocities".into());
        }
    };
    let curve = match policy.schedule.curve {
        BetaCurve::SquaredcosCapV2 => "squaredcos_cap_v2",
        BetaCurve::Linear => "linear",
        BetaCurve::ScaledLinear => "scaled_linear",
    };
    let horizon = policy.horizon;
    let feature = |name: &str, shape: &[usize]| FeatureSpec {
        kind: kind_of(name),
        shape: vec![shape.iter().product()],
    };
    let inputs: serde_json::Map<String, Value> = manifest
        .interface
        .observation
        .iter()
        .map(|observed| (observed.name.clone(), json!(feature(&observed.name, &observed.shape))))
        .collect();
    Ok(json!({
        "type": "diffusion",
        "n_obs_steps": horizon.observed,
        "input_features": inputs,
        "output_features": { ACTION: feature(ACTION, &manifest.interface.action[0].shape) },
        "device": "cpu",
        "horizon": horizon.predicted,
        "n_action_steps": horizon.executed,
        "normalization_mapping": {
            "VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ENV": "MIN_MAX", "ACTION": "MIN_MAX"
        },
        "drop_n_last_frames": (horizon.predicted + 1).saturating_sub(horizon.executed + horizon.observed),
        "down_dims": network.down_dims,
        "kernel_size": network.kernel_size,
        "n_groups": network.n_groups,
        "diffusion_step_embed_dim": network.diffusion_step_embed_dim,
        "use_film_scale_modulation": network.cond_predict_scale,
        "noise_scheduler_type": scheduler,
        "num_train_timesteps": policy.schedule.train_steps,
        "beta_schedule": curve,
        "beta_start": policy.schedule.beta_start,
        "beta_end": policy.schedule.beta_end,
        "prediction_type": objective,
        "clip_sample": clip,
        "clip_sample_range": manifest.clip_range,
        "num_inference_steps": steps,
    }))
}

/// Ranges of all features, as LeRobot keeps the statistics of a data set.
fn statistics(manifest: &Manifest) -> Result<Named, String> {
    let part = |normalizer: &Normalizer, from: usize, dim: usize| Normalizer {
        low: normalizer.low[from..from + dim].to_vec(),
        high: normalizer.high[from..from + dim].to_vec(),
    };
    let mut features = vec![(ACTION.to_owned(), manifest.action.clone())];
    let mut first = 0;
    for feature in &manifest.interface.observation {
        features.push((feature.name.clone(), part(&manifest.observation, first, feature.dim())));
        first += feature.dim();
    }
    let mut named = Named::new();
    for (feature, normalizer) in features {
        let (low, high) = bounds(&feature, &normalizer)?;
        named.push((format!("{feature}.min"), vec![low.len()], low));
        named.push((format!("{feature}.max"), vec![high.len()], high));
    }
    Ok(named)
}

/// What happens before the policy and behind it.
fn pipelines(config: &Value, before: &str, after: &str) -> [Value; 2] {
    let (inputs, outputs) = (&config["input_features"], &config["output_features"]);
    let mut features = inputs.clone();
    features[ACTION] = outputs[ACTION].clone();
    let device =
        json!({ "registry_name": "device_processor", "config": { "device": "cpu", "float_dtype": null } });
    let normalizer = |name: &str, features: &Value, file: &str| {
        json!({
            "registry_name": name,
            "config": { "eps": 1e-8, "features": features, "norm_map": config["normalization_mapping"] },
            "state_file": file,
        })
    };
    [
        json!({ "name": BEFORE.trim_end_matches(".json"), "steps": [
            { "registry_name": "rename_observations_processor", "config": { "rename_map": {} } },
            { "registry_name": "to_batch_processor", "config": {} },
            device,
            normalizer(NORMALIZER, &features, before),
        ] }),
        json!({ "name": AFTER.trim_end_matches(".json"), "steps": [
            normalizer(UNNORMALIZER, outputs, after),
            device,
        ] }),
    ]
}
