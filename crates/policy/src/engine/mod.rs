//! Plan engines: a trained network packed once for a device, and whole plans made with it.
//!
//! Training differentiates a graph of layers; planning repeats one forward pass, tens of times, at batch 1, on a
//! schedule. An engine knows neither gradients nor burn's graphs: it holds packed weights and the memory that a plan
//! needs.

mod cpu;
#[cfg(feature = "cuda-kernels")]
mod cuda;
mod graph;

use std::ops::Range;
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

/// What plans are made of.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Normalised, `[B, To * Do]`.
    pub conditions: &'a [f32],
    /// Standard normal, `[1 + draws, B, Tp * Da]`, where `draws` counts the steps that draw noise.
    pub noise: &'a [f32],
    pub kept: Kept<'a>,
}

/// Rows of samples that are known before the plan, which continues them: in every step they are what
/// [`SamplerStep::kept`] says, and in the sample their clean values.
#[derive(Clone, Copy, Default)]
pub(crate) struct Kept<'a> {
    /// Which rows of each sample; empty where none of any is kept.
    pub rows: &'a [Range<usize>],
    /// Normalised samples `[B, Tp * Da]`, of which only these rows matter; empty as `rows` is.
    pub clean: &'a [f32],
}

impl<'a> Kept<'a> {
    /// Whether rows may be kept.
    pub fn any(self) -> bool {
        !self.rows.is_empty()
    }

    /// Those of some of the samples.
    pub fn part(self, samples: Range<usize>) -> Self {
        if !self.any() {
            return self;
        }
        let width = self.clean.len() / self.rows.len();
        let clean = &self.clean[samples.start * width..samples.end * width];
        Self { rows: &self.rows[samples], clean }
    }

    /// Which of the numbers of samples `[B, Tp * Da]` are kept.
    pub fn numbers(self, action_dim: usize) -> impl Iterator<Item = Range<usize>> + 'a {
        let width = self.clean.len() / self.rows.len().max(1);
        let of_sample = move |(sample, rows): (usize, &Range<usize>)| {
            let start = sample * width;
            start + rows.start * action_dim..start + rows.end * action_dim
        };
        self.rows.iter().enumerate().map(of_sample)
    }

    /// Puts the kept rows of `samples` where a step wants them, between clean values and the noise of the start.
    pub fn put(self, [of_clean, of_noise]: [f64; 2], start: &[f32], action_dim: usize, samples: &mut [f32]) {
        let mix = |clean: f32, noise: f32| (of_clean * f64::from(clean) + of_noise * f64::from(noise)) as f32;
        for numbers in self.numbers(action_dim) {
            let known = self.clean[numbers.clone()].iter().zip(&start[numbers.clone()]);
            samples[numbers].iter_mut().zip(known).for_each(|(x, (clean, noise))| *x = mix(*clean, *noise));
        }
    }
}

#[cfg(test)]
impl<'a> Asked<'a> {
    /// Nothing is kept.
    pub fn new(conditions: &'a [f32], noise: &'a [f32]) -> Self {
        Self { conditions, noise, kept: Kept::default() }
    }
}

/// In the clean sample.
pub(crate) const CLEAN: [f64; 2] = [1.0, 0.0];

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

    /// Makes plans, and writes normalised samples `[B, Tp * Da]`.
    ///
    /// # Errors
    /// What the device refuses.
    fn plan(&mut self, asked: Asked, samples: &mut [f32]) -> Result<(), PolicyFailure>;

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
