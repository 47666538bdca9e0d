//! Which network is measured.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use nudge_control::{Observation, ObservationWindow, PlanRequest, split_mix_64};
use nudge_policy::{DiffusionPolicy, NetworkConfig, PlanOptions, TrainConfig};

use crate::verbs::checkpoint::PlanArgs;

/// Task, horizon and schedule of the networks that are measured by size.
const EXPERIMENT: &str = include_str!("../../../../../configs/push_t.toml");

/// A network of Diffusion Policy, on the observations and actions of Push-T
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// 5.4 million parameters: 64, 128 and 256 channels
    Small,
    /// 65.7 million parameters: 256, 512 and 1024 channels
    Paper,
}

/// A network by size, or that of a checkpoint.
#[derive(Args, Debug)]
pub struct NetworkArgs {
    /// Network with untrained weights: they cost as much time as trained ones
    #[arg(long, value_enum, default_value = "small", conflicts_with = "checkpoint")]
    network: Size,

    /// Measure the policy of this checkpoint instead
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
}

/// An untrained network on Push-T.
///
/// # Errors
/// Never, as long as the shipped experiment is a valid one.
pub fn config(size: Size) -> Result<TrainConfig> {
    let mut config = TrainConfig::from_toml(EXPERIMENT)?;
    let NetworkConfig::ConditionalUnet1d(network) = &mut config.policy.network;
    network.down_dims = match size {
        Size::Small => vec![64, 128, 256],
        Size::Paper => vec![256, 512, 1024],
    };
    network.diffusion_step_embed_dim = 256;
    Ok(config)
}

impl NetworkArgs {
    /// What is measured, in a word.
    pub fn name(&self) -> String {
        match (&self.checkpoint, self.network) {
            (Some(checkpoint), _) => checkpoint.display().to_string(),
            (None, Size::Small) => "small".into(),
            (None, Size::Paper) => "paper".into(),
        }
    }

    /// The options with which another process of this program measures the same.
    pub fn options(&self) -> Vec<String> {
        let option = if self.checkpoint.is_some() { "--checkpoint" } else { "--network" };
        vec![option.into(), self.name()]
    }

    /// The policy as it is to plan, on one thread, and the experiment of its network.
    ///
    /// # Errors
    /// When the checkpoint is damaged, the device cannot be used, or the sampler does not fit.
    pub fn open(&self, plan: &PlanArgs) -> Result<(DiffusionPolicy, TrainConfig)> {
        let mut config = config(self.network)?;
        let policy = match &self.checkpoint {
            Some(checkpoint) => plan.load(checkpoint)?.with_threads(1),
            None => {
                let options: PlanOptions = plan.device.options();
                let mut policy = DiffusionPolicy::untrained(&config, options)?;
                if let Some(sampler) = plan.sampler {
                    policy = policy.with_sampler(sampler)?;
                }
                if let Some(executed) = plan.executed {
                    policy = policy.with_executed(executed)?;
                }
                policy
            }
        };
        let manifest = policy.manifest();
        config.task.clone_from(&manifest.task);
        config.policy = manifest.policy.clone();
        config.interface = manifest.interface.clone();
        Ok((policy, config))
    }
}

/// The `index`th batch of requests for a policy that sees `[To, Do]`: other observations and other noise each.
pub fn requests([observed, dim]: [usize; 2], batch: usize, index: u64) -> Vec<PlanRequest> {
    // Uniform in -1..1.
    let number = |seed: u64| (split_mix_64(seed) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
    (0..batch as u64)
        .map(|request| {
            let noise_seed = split_mix_64(index << 20 | request);
            let observation = |step: usize| {
                let numbers = (0..dim).map(|d| number(noise_seed ^ (step * dim + d) as u64));
                Observation(numbers.collect())
            };
            let window = ObservationWindow((0..observed).map(observation).collect());
            PlanRequest { step: index, window, committed: Vec::new(), hurried: false, noise_seed }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nudge_policy::bench::NetworkCost;

    #[test]
    fn networks_have_the_size_that_they_are_known_by() {
        let millions = |size| NetworkCost::of(&config(size).unwrap()).parameters as f64 / 1e6;
        assert!((millions(Size::Small) - 5.4).abs() < 0.05);
        assert!((millions(Size::Paper) - 65.7).abs() < 0.05);
    }
}
