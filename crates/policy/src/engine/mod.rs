//! Plan engines: a trained network packed once for a device, and whole plans made with it.
//!
//! Training differentiates a graph of layers; planning repeats one forward pass, tens of times, at batch 1, on a
//! schedule. An engine knows neither gradients nor burn's graphs: it holds packed weights and the memory that a plan
//! needs.

mod cpu;
#[cfg(feature = "cuda-kernels")]
mod cuda;
mod graph;

use std::str::FromStr;

use crate::parameters::ParameterList;
use crate::sampler::SamplerStep;
use crate::{DeviceChoice, PolicyFailure, UnetConfig};

pub(crate) use cpu::CpuEngine;
pub(crate) use graph::GraphEngine;

/// How weights are stored while planning. Sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F32,
    /// Weights, and what they are multiplied with, rounded to 8 significant bits.
    Bf16,
    /// Weights as 8-bit integers with one scale an output channel.
    Int8,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(format!("`{name}` is no precision: choose f32, bf16 or int8")),
        }
    }
}

impl Precision {
    /// How far a plan in this precision may lie from the same plan in f32, in normalised units: room for rounding, none
    /// for another network.
    pub(crate) fn tolerance(self) -> f32 {
        match self {
            Self::F32 => 5e-3,
            Self::Bf16 => 5e-2,
            Self::Int8 => 1e-1,
        }
    }
}

/// Where and how a policy plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    pub device: DeviceChoice,
    /// The device's usual one if not given: f32 on the CPU, bf16 on a GPU.
    pub precision: Option<Precision>,
}

impl From<DeviceChoice> for PlanOptions {
    fn from(device: DeviceChoice) -> Self {
        Self { device, precision: None }
    }
}

/// A network on the host: everything that an engine is made of.
#[derive(Clone, Debug)]
pub(crate) struct HostNetwork {
    pub config: UnetConfig,
    /// `Tp`.
    pub predicted: usize,
    /// `Da`.
    pub action_dim: usize,
    /// `To * Do`.
    pub condition_dim: usize,
    pub list: ParameterList,
    /// In the order of `list`.
    pub values: Vec<Vec<f32>>,
}

impl HostNetwork {
    /// The values of a parameter, row-major.
    ///
    /// # Panics
    /// When the network has no parameter of this name.
    pub fn get(&self, name: &str) -> &[f32] {
        let index = self.list.iter().position(|parameter| parameter.name == name);
        &self.values[index.unwrap_or_else(|| panic!("the network has no parameter `{name}`"))]
    }
}

/// Plans with one network on one device.
pub(crate) trait PlanEngine: Send {
    fn precision(&self) -> Precision;

    /// Requests that go through the network at once; more are to be passed in parts.
    fn largest_batch(&self) -> usize;

    /// Prepares for plans of these steps, noisiest first; called before the first plan and whenever they change.
    ///
    /// # Errors
    /// What the device refuses.
    fn set_steps(&mut self, steps: &[SamplerStep]) -> Result<(), PolicyFailure>;

    /// Plans for `B` normalised conditions `[B, To * Do]` from standard normal `noise` `[1 + draws, B, Tp * Da]`, where
    /// `draws` counts the steps that draw noise, and writes normalised samples `[B, Tp * Da]`.
    ///
    /// # Errors
    /// What the device refuses.
    fn plan(&mut self, conditions: &[f32], noise: &[f32], samples: &mut [f32]) -> Result<(), PolicyFailure>;

    /// Another engine for another thread, over the same weights; `None` where one engine uses the whole device.
    fn another(&self) -> Option<Box<dyn PlanEngine>>;

    /// Makes each plan on up to so many threads, from one on, where the engine can; what is planned stays the same.
    fn use_threads(&mut self, _threads: usize) {}
}

/// The engine for a network.
///
/// # Errors
/// When this build or this machine lacks the device, or cannot plan in this precision.
pub(crate) fn open(network: HostNetwork, options: PlanOptions) -> Result<Box<dyn PlanEngine>, PolicyFailure> {
    if options.device == DeviceChoice::Cpu {
        let precision = options.precision.unwrap_or(Precision::F32);
        return Ok(Box::new(CpuEngine::new(&network, precision)));
    }
    #[cfg(feature = "cuda-kernels")]
    match cuda::CudaEngine::new(&network, options.precision.unwrap_or(Precision::Bf16)) {
        Ok(engine) => return Ok(Box::new(engine)),
        // What our kernels do not take, burn's do, in f32, where they were built.
        Err(_) if cfg!(feature = "cuda") && matches!(options.precision, None | Some(Precision::F32)) => {}
        Err(refused) => return Err(refused),
    }
    Ok(Box::new(GraphEngine::new(network, options.device)?))
}

/// Rounded to the nearest bf16, ties to even; NaN stays NaN.
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The nearest of the 255 whole multiples of `scale`.
fn int8(value: f32, scale: f32) -> i8 {
    if scale > 0.0 { (value / scale).round() as i8 } else { 0 }
}

/// The largest magnitude; not a number if any is none.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    f32::from_bits(values.map(|value| value.abs().to_bits()).max().unwrap_or(0))
}
