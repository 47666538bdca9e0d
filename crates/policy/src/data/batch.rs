//! What one training step is made of.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::{NoiseSchedule, Objective};

/// What the network is shown and what it is to answer, on the host.
pub(crate) struct Batch {
    size: usize,
    action_dim: usize,
    /// `[B, To * Do]`
    pub condition: Vec<f32>,
    /// `[B, Tp, Da]`, normalised.
    pub action: Vec<f32>,
    /// `[B, Tp, Da]`
    pub noisy: Vec<f32>,
    /// `[B, Tp, Da]`
    pub target: Vec<f32>,
    pub timesteps: Vec<usize>,
    prefix: Option<Prefix>,
    /// Of each sample, which rows stay clean; empty where none of any does.
    kept: Vec<Range<usize>>,
}

/// Rows of a window that may be executed already when the rest of it is planned: see
/// [`PrefixConfig`](crate::PrefixConfig).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// The row of the newest observation, `To - 1`.
    pub first: usize,
    /// At most so many.
    pub max_steps: usize,
}

/// Part of a batch on a device.
pub(crate) struct DeviceBatch {
    pub condition: Tensor<2>,
    pub noisy: Tensor<3>,
    pub target: Tensor<3>,
    /// As the target: 1, and 0 where nothing is learned. `None` where it would be 1 throughout.
    pub learned: Option<Tensor<3>>,
    pub timesteps: Vec<usize>,
}

impl Batch {
    /// Without noise so far.
    pub fn new(size: usize, action_dim: usize, condition: Vec<f32>, action: Vec<f32>) -> Self {
        let (noisy, target, timesteps, kept) = Default::default();
        Self { size, action_dim, condition, action, noisy, target, timesteps, prefix: None, kept }
    }

    /// Of each sample a number of rows, to be drawn with the noise, is to stay clean.
    pub fn with_prefix(self, prefix: Option<Prefix>) -> Self {
        Self { prefix, ..self }
    }

    /// A batch of given noise, as a reference would train on.
    #[cfg(test)]
    pub fn from_parts(
        action_dim: usize,
        condition: Vec<f32>,
        action: Vec<f32>,
        noise: &[f32],
        timesteps: Vec<usize>,
        (schedule, objective): (&NoiseSchedule, Objective),
    ) -> Self {
        let mut batch = Self::new(timesteps.len(), action_dim, condition, action);
        batch.diffuse_with(schedule, objective, timesteps, noise);
        batch
    }

    pub fn len(&self) -> usize {
        self.size
    }

    /// A sample's rows that are shown clean, and of which nothing is learned.
    pub fn kept_rows(&self, sample: usize) -> Range<usize> {
        self.kept.get(sample).cloned().unwrap_or(0..0)
    }

    /// Whether there may be any.
    pub fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The same as numbers of the sample.
    pub fn kept(&self, sample: usize) -> Range<usize> {
        let rows = self.kept_rows(sample);
        rows.start * self.action_dim..rows.end * self.action_dim
    }

    /// Numbers that count in the loss.
    pub fn learned(&self) -> usize {
        self.action.len() - self.kept.iter().map(|rows| rows.len() * self.action_dim).sum::<usize>()
    }

    /// Keeps rows clean that are not drawn but given.
    #[cfg(test)]
    pub fn keep(mut self, kept: Vec<Range<usize>>) -> Self {
        self.kept = kept;
        self.clean_kept();
        self
    }

    /// Draws timesteps and noise, and what is kept clean.
    pub fn diffuse(&mut self, schedule: &NoiseSchedule, objective: Objective, rng: &mut ChaCha8Rng) {
        let timesteps = (0..self.size).map(|_| rng.random_range(0..schedule.train_steps())).collect();
        let noise: Vec<f32> = (0..self.action.len()).map(|_| rng.sample(StandardNormal)).collect();
        if let Some(Prefix { first, max_steps }) = self.prefix {
            let rows = |_| first..first + rng.random_range(0..=max_steps);
            self.kept = (0..self.size).map(rows).collect();
        }
        self.diffuse_with(schedule, objective, timesteps, &noise);
        self.clean_kept();
    }

    fn clean_kept(&mut self) {
        let width = self.action.len() / self.size;
        for sample in 0..self.kept.len() {
            let kept = self.kept(sample);
            let numbers = sample * width + kept.start..sample * width + kept.end;
            self.noisy[numbers.clone()].copy_from_slice(&self.action[numbers]);
        }
    }

    /// `x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise` (Ho et al. 2020, eq. 4), and the objective's target.
    fn diffuse_with(
        &mut self,
        schedule: &NoiseSchedule,
        objective: Objective,
        timesteps: Vec<usize>,
        noise: &[f32],
    ) {
        let width = self.action.len() / self.size;
        let samples = self.action.chunks_exact(width).zip(noise.chunks_exact(width)).zip(&timesteps);
        for ((action, noise), timestep) in samples {
            let factors = schedule.signal_and_noise(*timestep);
            let target = objective.target_factors(factors);
            let mix = |(of_action, of_noise): (f64, f64)| {
                let (of_action, of_noise) = (of_action as f32, of_noise as f32);
                action.iter().zip(noise).map(move |(action, noise)| of_action * action + of_noise * noise)
            };
            self.noisy.extend(mix(factors));
            self.target.extend(mix(target));
        }
        self.timesteps = timesteps;
    }

    /// The samples of `range`, on a device.
    pub fn on_device(&self, range: Range<usize>, device: &Device) -> DeviceBatch {
        let count = range.len();
        let part = |values: &[f32]| {
            let width = values.len() / self.size;
            values[range.start * width..range.end * width].to_vec()
        };
        let signal = |values: &[f32]| {
            let values = part(values);
            let shape = [count, values.len() / count / self.action_dim, self.action_dim];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        let condition = part(&self.condition);
        let width = condition.len() / count;
        let learned = self.keeps().then(|| {
            let mut learned = vec![1.0; self.action.len()];
            let samples = learned.chunks_exact_mut(self.action.len() / self.size);
            samples.enumerate().for_each(|(sample, numbers)| numbers[self.kept(sample)].fill(0.0));
            signal(&learned)
        });
        DeviceBatch {
            learned,
            condition: Tensor::from_data(TensorData::new(condition, [count, width]), device),
            noisy: signal(&self.noisy),
            target: signal(&self.target),
            timesteps: self.timesteps[range.clone()].to_vec(),
        }
    }
}
