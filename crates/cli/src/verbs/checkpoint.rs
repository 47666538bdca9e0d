//! The choice of a policy, as every verb that plans offers it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use nudge_policy::{DeviceChoice, DiffusionPolicy, PlanOptions, Precision, SamplerConfig};

/// Where tensors live.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Device {
    #[default]
    Cpu,
    /// The first NVIDIA GPU; needs a build with `--features cuda`
    Cuda,
}

impl From<Device> for DeviceChoice {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Cpu,
            Device::Cuda => Self::Cuda,
        }
    }
}

/// A checkpoint, and how to plan with it.
#[derive(Args, Debug)]
pub struct PolicyArgs {
    /// Checkpoint folder, or a training's folder: its newest checkpoint is then taken
    pub checkpoint: PathBuf,

    #[command(flatten)]
    pub plan: PlanArgs,
}

/// What computes plans, and how exactly.
#[derive(Args, Clone, Copy, Debug)]
pub struct DeviceArgs {
    /// Where the network runs
    #[arg(long, value_enum, default_value_t)]
    pub device: Device,

    /// How weights are stored while planning: f32, bf16 or int8 [default: f32 on the CPU, bf16 on a GPU]
    #[arg(long)]
    pub precision: Option<Precision>,
}

impl DeviceArgs {
    pub fn options(&self) -> PlanOptions {
        PlanOptions { device: self.device.into(), precision: self.precision }
    }
}

/// How to plan.
#[derive(Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    pub device: DeviceArgs,

    /// Plan with another sampler than the checkpoint's: `ddim10`, `ddpm100`, or any other number of steps
    #[arg(long, value_parser = parse_sampler)]
    pub sampler: Option<SamplerConfig>,

    /// Execute this many steps of each plan, instead of the checkpoint's number
    #[arg(long)]
    pub executed: Option<usize>,
}

impl PolicyArgs {
    /// Loads and checks the checkpoint.
    pub fn load(&self) -> anyhow::Result<DiffusionPolicy> {
        self.plan.load(&self.checkpoint)
    }

    /// The last part of its path.
    pub fn name(&self) -> String {
        self.checkpoint.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl PlanArgs {
    /// The first option of these that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--sampler", self.sampler.is_some()),
            ("--executed", self.executed.is_some()),
            ("--device", !matches!(self.device.device, Device::Cpu)),
            ("--precision", self.device.precision.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// Loads and checks a checkpoint, to be planned with as these arguments say.
    pub fn load(&self, checkpoint: &std::path::Path) -> anyhow::Result<DiffusionPolicy> {
        let mut policy = DiffusionPolicy::load(checkpoint, self.device.options())
            .with_context(|| format!("cannot plan with {}", checkpoint.display()))?;
        if let Some(sampler) = self.sampler {
            policy = policy.with_sampler(sampler)?;
        }
        if let Some(executed) = self.executed {
            policy = policy.with_executed(executed)?;
        }
        Ok(policy.with_threads(cores()))
    }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `ddim10`: a kind and a number of steps.
fn parse_sampler(text: &str) -> Result<SamplerConfig, String> {
    let split = text.find(|letter: char| letter.is_ascii_digit()).unwrap_or(text.len());
    let (kind, steps) = text.split_at(split);
    let steps = steps.parse().map_err(|_| format!("`{text}` names no number of steps, as `ddim10` does"))?;
    match kind {
        "ddim" => Ok(SamplerConfig::ddim(steps)),
        "ddpm" => Ok(SamplerConfig::ddpm(steps)),
        _ => Err(format!("`{kind}` is no sampler: choose ddim or ddpm")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_are_named_by_kind_and_steps() {
        assert_eq!(parse_sampler("ddim16"), Ok(SamplerConfig::ddim(16)));
        assert_eq!(parse_sampler("ddpm100"), Ok(SamplerConfig::ddpm(100)));
        for bad in ["ddim", "euler10", "10", "", "ddim1x"] {
            assert!(parse_sampler(bad).is_err(), "{bad}");
        }
    }
}
