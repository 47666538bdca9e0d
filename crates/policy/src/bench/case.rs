//! One plan with everything that went into it, so that another program can be seen to do the same work.

use std::collections::HashMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::checkpoint::{Manifest, Named, serialize_tensors};
use crate::config::NetworkConfig;
use crate::diffusion::DiffusionPolicy;
use crate::engine::PlanOptions;
use crate::sampler::draws;
use crate::sampling::noise;
use crate::{PolicyFailure, TrainConfig};

/// A safetensors file of one plan of the untrained policy of `config`, in f32 on the CPU.
///
/// | name | what |
/// |---|---|
/// | the reference's names | weights |
/// | `case.steps` `[S, 7]` | of each sampler step, noisiest first: the timestep, then `c0, c1, of_clean, of_x, of_output, deviation` in `x' = of_x x + of_clean clip(c0 x + c1 out) + of_output out + deviation z` |
/// | `case.condition` `[1, To * Do]` | what the plan is for, normalised |
/// | `case.noise` `[draws, 1, Tp, Da]` | what it begins from, then `z` of every step with a deviation |
/// | `case.sample` `[1, Tp, Da]` | what it gave, normalised |
///
/// The metadata key `network` holds the sizes as JSON.
///
/// # Errors
/// As [`DiffusionPolicy::untrained`].
pub fn plan_case(config: &TrainConfig) -> Result<Vec<u8>, PolicyFailure> {
    let manifest = Manifest::untrained(config);
    let list = manifest.host_network(Vec::new()).list;
    let values = list.initialise(&mut ChaCha8Rng::seed_from_u64(config.seed));
    let mut policy = DiffusionPolicy::new(manifest, values.clone(), PlanOptions::default())?;

    let horizon = config.policy.horizon;
    let (condition_dim, action_dim) = (policy.manifest().condition_dim(), policy.manifest().action_dim());
    let condition: Vec<f32> = (0..condition_dim).map(|i| (i as f32 * 0.7).sin() * 0.5).collect();
    let sample = policy.sample(&condition, &[config.seed])?;

    let schedule = config.policy.schedule.build().map_err(PolicyFailure::Config)?;
    let steps = config.policy.sampler.steps_of(&schedule, config.policy.objective);
    let draws = draws(&steps);
    let numbers = steps.iter().flat_map(|step| {
        let [c0, c1] = step.clean;
        [step.timestep as f64, c0, c1, step.of_clean, step.of_x, step.of_output, step.deviation]
    });
    let numbers: Vec<f32> = numbers.map(|number| number as f32).collect();
    let shape = vec![1, horizon.predicted, action_dim];
    let weights = list.iter().zip(values);
    let mut named: Named = weights.map(|(of, values)| (of.name.clone(), of.shape.clone(), values)).collect();
    named.extend([
        ("case.steps".into(), vec![steps.len(), 7], numbers),
        ("case.condition".into(), vec![1, condition_dim], condition),
        (
            "case.noise".into(),
            [vec![draws], shape.clone()].concat(),
            noise(&[config.seed], draws, sample.len()),
        ),
        ("case.sample".into(), shape, sample),
    ]);
    let NetworkConfig::ConditionalUnet1d(network) = &config.policy.network;
    let network = json!({
        "down_dims": network.down_dims,
        "diffusion_step_embed_dim": network.diffusion_step_embed_dim,
        "kernel_size": network.kernel_size,
        "n_groups": network.n_groups,
        "cond_predict_scale": network.cond_predict_scale,
        "action_dim": action_dim,
        "condition_dim": condition_dim,
        "train_steps": schedule.train_steps(),
    });
    Ok(serialize_tensors(&named, HashMap::from([("network".to_owned(), network.to_string())])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::parse_tensors;

    #[test]
    fn a_case_holds_all_that_its_plan_needs() {
        let mut config = TrainConfig::from_toml(include_str!("../../../../configs/push_t.toml")).unwrap();
        config.policy.sampler = crate::SamplerConfig::ddpm(5);
        let NetworkConfig::ConditionalUnet1d(network) = &mut config.policy.network;
        network.down_dims = vec![8, 16];
        let named = parse_tensors(&plan_case(&config).unwrap()).unwrap();
        assert_eq!(named["case.steps"].0, [5, 7]);
        assert_eq!(named["case.condition"].0, [1, 36]);
        // DDPM draws noise in every step but the last.
        assert_eq!(named["case.noise"].0, [5, 1, 16, 2]);
        assert_eq!(named["case.sample"].0, [1, 16, 2]);
        // The last step of a clipped sampler cannot leave -1..=1.
        assert!(named["case.sample"].1.iter().all(|value| value.abs() <= 1.0));
        assert_eq!(named["final_conv.1.weight"].0, [2, 8, 1]);
    }
}
