//! The policy: observations in, a denoised chunk of actions out.

use burn::tensor::{Device, Tensor, TensorData};
use nudge_control::{Action, ActionChunk, Horizon, Interface, PlanRequest, Policy, PolicyError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::checkpoint::Manifest;
use crate::parameters::{Weights, host};
use crate::unet::ConditionalUnet1d;
use crate::{NoiseSchedule, PolicyFailure, SamplerConfig};

/// Requests that share one pass through the network; more are passed through in parts.
const LARGEST_BATCH: usize = 64;

/// A trained diffusion policy (Chi et al. 2023), ready to plan.
pub struct DiffusionPolicy {
    manifest: Manifest,
    denoiser: Denoiser,
    threads: usize,
}

/// Network, weights and schedule on a device: everything that maps noise to a normalised sample.
#[derive(Clone)]
pub(crate) struct Denoiser {
    pub network: ConditionalUnet1d,
    pub weights: Weights,
    pub schedule: NoiseSchedule,
    pub device: Device,
}

impl DiffusionPolicy {
    pub(crate) fn new(manifest: Manifest, denoiser: Denoiser) -> Self {
        Self { manifest, denoiser, threads: 1 }
    }

    /// What the checkpoint says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Plans with another sampler than the checkpoint's own.
    ///
    /// # Errors
    /// When the sampler does not fit the noise schedule.
    pub fn with_sampler(mut self, sampler: SamplerConfig) -> Result<Self, PolicyFailure> {
        sampler.check(&self.denoiser.schedule).map_err(PolicyFailure::Config)?;
        self.manifest.policy.sampler = sampler;
        Ok(self)
    }

    /// Executes another part of each plan than the checkpoint's own.
    ///
    /// # Errors
    /// When the prediction is not long enough for it.
    pub fn with_executed(mut self, executed: usize) -> Result<Self, PolicyFailure> {
        let horizon = Horizon { executed, ..self.manifest.policy.horizon };
        horizon.check().map_err(PolicyFailure::Config)?;
        self.manifest.policy.horizon = horizon;
        Ok(self)
    }

    /// Plans the requests of a batch on up to `threads` threads; a plan does not depend on it.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The normalised condition `[To * Do]` of a request.
    fn condition(&self, index: usize, request: &PlanRequest) -> Result<Vec<f32>, PolicyError> {
        let bad = |problem| Err(PolicyError::BadRequest { request: index, problem });
        let (observed, dim) =
            (self.manifest.policy.horizon.observed, self.manifest.interface.observation_dim());
        if request.window.0.len() != observed {
            return bad(format!("{} observations, where the policy sees {observed}", request.window.0.len()));
        }
        let mut condition = Vec::with_capacity(observed * dim);
        for observation in &request.window.0 {
            if observation.0.len() != dim {
                return bad(format!("an observation of {} numbers, not {dim}", observation.0.len()));
            }
            if let Some(number) = observation.0.iter().position(|value| !value.is_finite()) {
                return bad(format!("observation number {number} is {}", observation.0[number]));
            }
            condition.extend(self.manifest.observation.normalise(observation.0.iter().copied()));
        }
        Ok(condition)
    }

    /// The executed part of a normalised prediction `[Tp, Da]`, in physical units. It starts at index `To - 1`.
    fn chunk(&self, request: &PlanRequest, prediction: &[f32]) -> ActionChunk {
        let Horizon { observed, executed, .. } = self.manifest.policy.horizon;
        let rows = prediction.chunks_exact(self.manifest.interface.action_dim());
        let action = |row: &[f32]| Action(self.manifest.action.unnormalise(row.iter().copied()).collect());
        let actions = rows.skip(observed - 1).take(executed).map(action).collect();
        ActionChunk { first_step: request.step, actions }
    }
}

impl Policy for DiffusionPolicy {
    fn interface(&self) -> &Interface {
        &self.manifest.interface
    }

    fn horizon(&self) -> Horizon {
        self.manifest.policy.horizon
    }

    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        let conditions: Vec<Vec<f32>> = requests
            .iter()
            .enumerate()
            .map(|(index, request)| self.condition(index, request))
            .collect::<Result<_, _>>()?;
        let share = requests.len().div_ceil(self.threads).clamp(1, LARGEST_BATCH);
        let parts: Vec<(&[PlanRequest], &[Vec<f32>])> =
            requests.chunks(share).zip(conditions.chunks(share)).collect();
        let horizon = self.manifest.policy.horizon;
        let shape = [horizon.predicted, self.manifest.interface.action_dim()];
        let plan = |(requests, conditions): &(&[PlanRequest], &[Vec<f32>])| {
            let seeds: Vec<u64> = requests.iter().map(|request| request.noise_seed).collect();
            self.denoiser.sample(&self.manifest.policy, shape, &conditions.concat(), &seeds)
        };
        let mut predictions = Vec::with_capacity(requests.len() * shape[0] * shape[1]);
        for wave in parts.chunks(self.threads) {
            if let [part] = wave {
                predictions.extend(plan(part));
                continue;
            }
            let finished: Vec<_> = std::thread::scope(|scope| {
                let running: Vec<_> = wave.iter().map(|part| scope.spawn(|| plan(part))).collect();
                running.into_iter().map(|thread| thread.join()).collect()
            });
            for part in finished {
                predictions
                    .extend(part.map_err(|_| PolicyError::Failed("a planning thread panicked".into()))?);
            }
        }
        let samples = requests.iter().zip(predictions.chunks_exact(shape[0] * shape[1])).enumerate();
        samples
            .map(|(index, (request, prediction))| {
                if prediction.iter().any(|value| !value.is_finite()) {
                    return Err(PolicyError::NotFinite { request: index });
                }
                Ok(self.chunk(request, prediction))
            })
            .collect()
    }
}

impl Denoiser {
    /// Normalised samples `[B, Tp, Da]` for normalised conditions `[B, To * Do]`, each from the noise of its own seed.
    pub fn sample(
        &self,
        policy: &crate::PolicyConfig,
        [predicted, action_dim]: [usize; 2],
        conditions: &[f32],
        seeds: &[u64],
    ) -> Vec<f32> {
        let batch = seeds.len();
        let mut generators: Vec<_> = seeds.iter().map(|seed| ChaCha8Rng::seed_from_u64(*seed)).collect();
        let mut draw = || {
            let numbers = predicted * action_dim;
            let noise: Vec<f32> = generators
                .iter_mut()
                .flat_map(|generator| {
                    (0..numbers).map(|_| generator.sample(StandardNormal)).collect::<Vec<f32>>()
                })
                .collect();
            Tensor::<3>::from_data(TensorData::new(noise, [batch, predicted, action_dim]), &self.device)
        };
        let shape = [batch, conditions.len() / batch];
        let condition = Tensor::from_data(TensorData::new(conditions.to_vec(), shape), &self.device);
        let start = draw();
        let denoise = |x, timestep| {
            self.network.forward(&self.weights, x, &vec![timestep; batch], Tensor::clone(&condition))
        };
        host(policy.sampler.sample(&self.schedule, policy.objective, start, denoise, draw))
    }
}
