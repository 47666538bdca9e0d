//! What one training step is made of.

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
}

/// Part of a batch on a device.
pub(crate) struct DeviceBatch {
    pub condition: Tensor<2>,
    pub noisy: Tensor<3>,
    pub target: Tensor<3>,
    pub timesteps: Vec<usize>,
}

impl Batch {
    /// Without noise so far.
    pub fn new(size: usize, action_dim: usize, condition: Vec<f32>, action: Vec<f32>) -> Self {
        let (noisy, target, timesteps) = (Vec::new(), Vec::new(), Vec::new());
        Self { size, action_dim, condition, action, noisy, target, timesteps }
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

    /// Draws timesteps and noise.
    pub fn diffuse(&mut self, schedule: &NoiseSchedule, objective: Objective, rng: &mut ChaCha8Rng) {
        let timesteps = (0..self.size).map(|_| rng.random_range(0..schedule.train_steps())).collect();
        let noise: Vec<f32> = (0..self.action.len()).map(|_| rng.sample(StandardNormal)).collect();
        self.diffuse_with(schedule, objective, timesteps, &noise);
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
    pub fn on_device(&self, range: std::ops::Range<usize>, device: &Device) -> DeviceBatch {
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
        DeviceBatch {
            condition: Tensor::from_data(TensorData::new(condition, [count, width]), device),
            noisy: signal(&self.noisy),
            target: signal(&self.target),
            timesteps: self.timesteps[range.clone()].to_vec(),
        }
    }
}
