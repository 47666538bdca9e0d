//! What plans for many requests are made of: where their numbers lie, and what is launched for a step. Made without a GPU.

use super::arguments::{Arguments, Rounding};
use super::layout::Layout;
use super::network::Given;
use super::program::{Act, Builder, Counters, Signal, WeightsAt};
use crate::cuda::Factors;
use crate::engine::{Asked, CLEAN, HostNetwork};
use crate::sampler::SamplerStep;

/// Offsets in bytes of what is there whatever the batch.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub weights: WeightsAt,
    pub counters: u64,
    /// Where inputs and activations begin.
    pub free: u64,
}

impl Places {
    pub fn new(layout: &Layout) -> Self {
        let mut sizes = Builder::new(layout, WeightsAt { full: 0, halves: 0 }, 0, 1, 1, 0);
        let full = sizes.take(layout.len, 4);
        let halves = sizes.take(layout.len, 2);
        let counters = sizes.take(Counters::COUNT, 4);
        Self { weights: WeightsAt { full, halves }, counters, free: sizes.bytes }
    }

    /// Rounds the weights to bf16, after they came from the host.
    pub fn rounding(&self, layout: &Layout) -> Vec<Act> {
        let mut round = Builder::new(layout, self.weights, self.counters, 1, 1, 0);
        let WeightsAt { full, halves } = self.weights;
        let rounding = Rounding { input: full, output: halves, count: layout.len as u64 };
        round.launch("round_weights", [1024, 1, 1], (256, 0), Arguments::Rounding(rounding));
        round.acts
    }
}

/// What the host writes, side by side: f32 samples, conditions, timesteps and noise; then, where rows are kept, which, their
/// clean values and the samples of the start. It reads the samples.
#[derive(Clone, Copy)]
pub(super) struct Inputs {
    /// In bytes.
    pub at: u64,
    /// Numbers of the parts.
    pub signal: usize,
    condition: usize,
    batch: usize,
    noise: usize,
}

impl Inputs {
    /// Without what only kept rows need.
    fn usual(&self) -> usize {
        self.signal + self.condition + self.batch + self.noise
    }

    pub fn len(&self) -> usize {
        self.usual() + 2 * self.batch + 2 * self.signal
    }

    fn conditions(&self) -> u64 {
        self.at + 4 * self.signal as u64
    }

    fn timesteps(&self) -> u64 {
        self.conditions() + 4 * self.condition as u64
    }

    fn noise(&self, draw: usize) -> u64 {
        self.timesteps() + 4 * (self.batch + draw * self.signal) as u64
    }

    fn kept(&self) -> u64 {
        self.at + 4 * self.usual() as u64
    }

    fn clean(&self) -> u64 {
        self.kept() + 4 * 2 * self.batch as u64
    }

    fn start(&self) -> u64 {
        self.clean() + 4 * self.signal as u64
    }

    /// Writes what is asked for `count` numbers of samples into a block of [`len`](Self::len) numbers, and returns how many
    /// of them the device needs.
    pub fn write(
        &self,
        Asked { conditions, noise, kept }: Asked,
        (count, action_dim): (usize, usize),
        first: Option<&SamplerStep>,
        block: &mut [f32],
    ) -> usize {
        let Self { signal, condition, batch, noise: drawn, .. } = *self;
        let mut rest = &mut block[..self.len()];
        let [x, to_conditions, timesteps, to_noise, rows, clean, start] =
            [signal, condition, batch, drawn, 2 * batch, signal, signal].map(|len| {
                let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
                rest = behind;
                part
            });
        let mut draws = noise.chunks_exact(count);
        if let Some(first) = draws.next() {
            x[..count].copy_from_slice(first);
        }
        for (to, draw) in to_noise.chunks_exact_mut(signal).zip(draws) {
            to[..count].copy_from_slice(draw);
        }
        to_conditions[..conditions.len()].copy_from_slice(conditions);
        timesteps.fill(first.map_or(0.0, |step| step.timestep as f32));
        if !kept.any() {
            return self.usual();
        }
        clean[..count].copy_from_slice(kept.clean);
        start.copy_from_slice(x);
        kept.put(first.map_or(CLEAN, |step| step.kept), start, action_dim, x);
        // Where the batch is filled up nothing is kept.
        rows.fill(0.0);
        for (to, rows) in rows.chunks_exact_mut(2).zip(kept.rows) {
            to.copy_from_slice(&[rows.start as f32, rows.end as f32]);
        }
        self.len()
    }
}

/// As `kernels/denoise.cu` declares it, where its members are told.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Denoise {
    x: u64,
    output: u64,
    noise: u64,
    timesteps: u64,
    count: i32,
    actions: i32,
    ld: i32,
    batch: i32,
    factors: Factors,
    next_timestep: f32,
    t: i32,
    kept: u64,
    clean: u64,
    start: u64,
    kept_clean: f32,
    kept_noise: f32,
}

impl Denoise {
    /// The kernels: that of plans which keep nothing, and that of plans which keep rows.
    pub const KERNELS: [&str; 2] = ["denoise", "denoise_and_keep"];
    pub const THREADS: usize = 256;

    pub fn blocks(&self) -> usize {
        (self.count.max(self.batch) as usize).div_ceil(Self::THREADS)
    }
}

/// One forward pass of a batch.
pub(super) struct Pass {
    pub acts: Vec<Act>,
    pub inputs: Inputs,
    prediction: Signal,
    pub bytes: u64,
    /// `Tp` and `Da`.
    sample: [usize; 2],
}

impl Pass {
    /// For `size` requests, in plans that draw noise `draws` times after the start.
    pub fn new(layout: &Layout, network: &HostNetwork, at: Places, size: usize, draws: usize) -> Self {
        let sample = [network.predicted, network.action_dim];
        let signal = size * network.predicted * network.action_dim;
        let condition = size * network.condition_dim;
        let mut inputs = Inputs { at: 0, signal, condition, batch: size, noise: draws * signal };
        let mut builder =
            Builder::new(layout, at.weights, at.counters, size, network.config.n_groups, at.free);
        inputs.at = builder.take(inputs.len(), 4);
        let given = Given {
            network,
            noisy: inputs.at,
            condition: inputs.conditions(),
            timesteps: inputs.timesteps(),
        };
        let prediction = builder.forward(&given).prediction;
        Self { inputs, prediction, bytes: builder.bytes, acts: builder.acts, sample }
    }

    /// What follows the pass in each of the steps, in a block of memory that begins at the address `base`.
    pub fn denoising(&self, base: u64, steps: &[SamplerStep]) -> impl Iterator<Item = Denoise> {
        let inputs = self.inputs;
        let [predicted, action_dim] = self.sample;
        let mut draw = 0;
        steps.iter().enumerate().map(move |(index, step)| {
            let next = steps.get(index + 1);
            let [kept_clean, kept_noise] = next.map_or(CLEAN, |step| step.kept);
            let denoise = Denoise {
                x: base + inputs.at,
                output: base + self.prediction.at,
                noise: base + inputs.noise(draw),
                timesteps: base + inputs.timesteps(),
                count: inputs.signal as i32,
                actions: action_dim as i32,
                ld: self.prediction.ld as i32,
                batch: inputs.batch as i32,
                factors: step.into(),
                next_timestep: next.map_or(0.0, |step| step.timestep as f32),
                t: predicted as i32,
                kept: base + inputs.kept(),
                clean: base + inputs.clean(),
                start: base + inputs.start(),
                kept_clean: kept_clean as f32,
                kept_noise: kept_noise as f32,
            };
            draw += usize::from(step.deviation > 0.0);
            denoise
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnetConfig;
    use crate::kernels::Kernels;

    /// A launch costs a microsecond however little it does: a plan of 10 steps is to stay below a thousand.
    #[test]
    fn a_pass_takes_few_launches() {
        let config = UnetConfig {
            down_dims: vec![256, 512, 1024],
            diffusion_step_embed_dim: 256,
            kernel_size: 5,
            n_groups: 8,
            cond_predict_scale: true,
        };
        let (_, list) = config.build(Kernels::Stock, 2, 36);
        let network =
            HostNetwork { config, predicted: 16, action_dim: 2, condition_dim: 36, list, values: Vec::new() };
        let layout = Layout::new(&network.list);
        let pass = Pass::new(&layout, &network, Places::new(&layout), 256, 1);
        let launches = pass.acts.iter().filter(|act| matches!(act, Act::Launch { .. })).count();
        assert!(launches <= 75, "{launches}");
    }
}
