//! The policy: observations in, a denoised chunk of actions out.

use burn::tensor::{Device, Tensor, TensorData};
use nudge_control::{Action, ActionChunk, Horizon, Interface, PlanRequest, Policy, PolicyError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::checkpoint::Manifest;
use crate::parameters::{Weights, host};
use crate::relative::References;
use crate::unet::ConditionalUnet1d;
use crate::{NoiseSchedule, PolicyFailure, SamplerConfig};

/// Requests that share one pass through the network; more are passed through in parts.
const LARGEST_BATCH: usize = 64;

/// A trained diffusion policy (Chi et al. 2023), ready to plan.
pub struct DiffusionPolicy {
    manifest: Manifest,
    denoiser: Denoiser,
    references: References,
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
    /// # Errors
    /// When the actions are relative to what is not observed.
    pub(crate) fn new(manifest: Manifest, denoiser: Denoiser) -> Result<Self, PolicyFailure> {
        let references = References::new(&manifest.policy.relative, &manifest.interface);
        let references = references.map_err(PolicyFailure::Config)?;
        Ok(Self { manifest, denoiser, references, threads: 1 })
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
            let before = condition.len();
            condition.extend(self.manifest.observation.normalise(observation.0.iter().copied()));
            self.references.hide(&mut condition[before..]);
        }
        Ok(condition)
    }

    /// The executed part of a normalised prediction `[Tp, Da]`, in physical units. It starts at index `To - 1`.
    fn chunk(&self, request: &PlanRequest, prediction: &[f32]) -> ActionChunk {
        let Horizon { observed, executed, .. } = self.manifest.policy.horizon;
        let rows = prediction.chunks_exact(self.manifest.interface.action_dim());
        let newest = request.window.0.last();
        let action = |row: &[f32]| {
            let mut action: Vec<f64> = self.manifest.action.unnormalise(row.iter().copied()).collect();
            newest.iter().for_each(|observation| self.references.add(&mut action, &observation.0));
            Action(action)
        };
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

#[cfg(test)]
mod tests {
    use nudge_control::{
        ActionFeature, ActionMode, Feature, FeatureKind, Limits, Observation, ObservationWindow,
    };

    use super::*;
    use crate::checkpoint::{FORMAT, Trained};
    use crate::kernels::Kernels;
    use crate::{
        BetaCurve, NetworkConfig, Normalizer, Objective, PolicyConfig, Relative, ScheduleConfig, UnetConfig,
    };

    const HORIZON: Horizon = Horizon { observed: 3, predicted: 16, executed: 5 };

    /// A policy with its first weights: 3 observed numbers, 2 acted ones.
    fn untrained() -> DiffusionPolicy {
        let action = ActionFeature {
            name: "action".into(),
            kind: FeatureKind::Vector,
            shape: vec![2],
            unit: String::new(),
            mode: ActionMode::Absolute,
            limits: Limits { low: vec![0.0; 2], high: vec![10.0; 2] },
        };
        let interface = Interface {
            observation: vec![Feature::vector("state", 3, "")],
            action: vec![action],
            control_hz: 10.0,
        };
        let network = UnetConfig {
            down_dims: vec![8, 16],
            diffusion_step_embed_dim: 16,
            kernel_size: 3,
            n_groups: 4,
            cond_predict_scale: true,
        };
        let curve = BetaCurve::SquaredcosCapV2;
        let policy = PolicyConfig {
            horizon: HORIZON,
            network: NetworkConfig::ConditionalUnet1d(network),
            schedule: ScheduleConfig { curve, train_steps: 100, beta_start: 1e-4, beta_end: 0.02 },
            objective: Objective::Epsilon,
            sampler: SamplerConfig::ddim(5),
            relative: Vec::new(),
        };
        let normalizer = |dim: usize| Normalizer { low: vec![0.0; dim], high: vec![10.0; dim] };
        let manifest = Manifest {
            format: FORMAT,
            task: "test".into(),
            interface,
            policy,
            observation: normalizer(3),
            action: normalizer(2),
            trained: Trained {
                version: String::new(),
                seed: 0,
                steps: 0,
                samples: 0,
                episodes: 0,
                frames: 0,
                parameters: 0,
                seconds: 0.0,
            },
        };
        let device = Device::flex();
        let (network, list) = manifest.network(Kernels::Cpu);
        let values = list.initialise(&mut ChaCha8Rng::seed_from_u64(1));
        let weights = Weights::new(&list, values, &device);
        let schedule = manifest.policy.schedule.build().unwrap();
        DiffusionPolicy::new(manifest, Denoiser { network, weights, schedule, device }).unwrap()
    }

    fn request(seed: u64) -> PlanRequest {
        let value = |step: usize, i: usize| ((seed as usize * 7 + step * 3 + i) % 10) as f64;
        let observation = |step| Observation((0..3).map(|i| value(step, i)).collect());
        PlanRequest {
            step: seed,
            window: ObservationWindow((0..3).map(observation).collect()),
            committed: Vec::new(),
            noise_seed: seed,
        }
    }

    #[test]
    fn the_executed_part_starts_at_the_newest_observed_step() {
        let policy = untrained();
        // Step i of the prediction is 0.1 i in normalised units, so 5 + 0.5 i in physical ones.
        let prediction: Vec<f32> = (0..16).flat_map(|step| [0.1 * step as f32; 2]).collect();
        let chunk = policy.chunk(&request(40), &prediction);
        assert_eq!(chunk.first_step, 40);
        assert_eq!(chunk.actions.len(), 5);
        for (step, action) in (2..).zip(&chunk.actions) {
            let expected = 5.0 + 0.5 * f64::from(step);
            assert!(action.0.iter().all(|value| (value - expected).abs() < 1e-5), "{step}: {action:?}");
        }
    }

    #[test]
    fn relative_actions_start_from_the_newest_observation() {
        let prediction = [0.0; 32];
        let absolute = untrained().chunk(&request(40), &prediction);
        let mut policy = untrained();
        let relative = Relative {
            action: "action".into(),
            numbers: vec![1],
            to: "state".into(),
            to_numbers: vec![2],
            hidden: true,
        };
        policy.references = References::new(&[relative], &policy.manifest.interface).unwrap();
        let newest = request(40).window.0[2].0[2];
        assert_ne!(newest, 0.0);
        for (absolute, action) in absolute.actions.iter().zip(policy.chunk(&request(40), &prediction).actions)
        {
            assert_eq!(action.0, [absolute.0[0], absolute.0[1] + newest]);
        }
        // All that is observed is hidden: the network plans the same from anywhere, and the plan moves along.
        let moved = |request: PlanRequest, by: f64| {
            let window =
                request.window.0.into_iter().map(|seen| seen.0.iter().map(|value| value + by).collect());
            PlanRequest { window: ObservationWindow(window.map(Observation).collect()), ..request }
        };
        let here = policy.predict(&[request(1)]).unwrap().remove(0);
        let there = policy.predict(&[moved(request(1), 5.0)]).unwrap().remove(0);
        for (here, there) in here.actions.iter().zip(&there.actions) {
            assert_eq!(here.0[0], there.0[0]);
            assert!((here.0[1] + 5.0 - there.0[1]).abs() < 1e-12);
        }
    }

    #[test]
    fn a_plan_does_not_depend_on_its_batch_or_on_threads() {
        let requests: Vec<PlanRequest> = (0..130).map(request).collect();
        for sampler in [SamplerConfig::ddim(5), SamplerConfig::ddpm(10)] {
            let mut together = untrained().with_sampler(sampler).unwrap().with_threads(3);
            let mut alone = untrained().with_sampler(sampler).unwrap();
            let plans = together.predict(&requests).unwrap();
            assert_eq!(plans.len(), requests.len());
            for (request, plan) in requests.iter().zip(&plans).step_by(9) {
                let single = alone.predict(std::slice::from_ref(request)).unwrap().remove(0);
                assert_eq!(single, *plan);
            }
        }
    }

    #[test]
    fn requests_that_do_not_fit_are_refused() {
        let mut policy = untrained();
        let refused = |policy: &mut DiffusionPolicy, request: PlanRequest, problem: &str| {
            let error = policy.predict(&[self::request(1), request]).unwrap_err();
            assert!(matches!(error, PolicyError::BadRequest { request: 1, .. }), "{error}");
            assert!(error.to_string().contains(problem), "{error}");
        };
        let mut nan = request(2);
        nan.window.0[1].0[2] = f64::NAN;
        refused(&mut policy, nan, "number 2 is NaN");
        let mut short = request(2);
        short.window.0.pop();
        refused(&mut policy, short, "2 observations");
        let mut narrow = request(2);
        narrow.window.0[0].0.pop();
        refused(&mut policy, narrow, "2 numbers, not 3");
        assert!(policy.predict(&[]).unwrap().is_empty());
    }

    #[test]
    fn weights_that_are_not_finite_never_become_actions() {
        let mut policy = untrained();
        let mut values = policy.denoiser.weights.to_host();
        values.last_mut().unwrap()[0] = f32::NAN;
        let (_, list) = policy.manifest.network(Kernels::Cpu);
        policy.denoiser.weights = Weights::new(&list, values, &Device::flex());
        assert!(matches!(policy.predict(&[request(0)]), Err(PolicyError::NotFinite { request: 0 })));
    }

    #[test]
    fn overrides_that_do_not_fit_are_refused() {
        assert!(untrained().with_executed(14).is_ok());
        assert!(untrained().with_executed(15).is_err());
        assert!(untrained().with_sampler(SamplerConfig::ddim(101)).is_err());
    }
}
