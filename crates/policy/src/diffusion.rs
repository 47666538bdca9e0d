//! The policy: observations in, a denoised chunk of actions out.

use nudge_control::{Action, ActionChunk, Horizon, Interface, PlanRequest, Policy, PolicyError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::checkpoint::Manifest;
use crate::config::TrainConfig;
use crate::encoding::Encoding;
use crate::engine::{self, PlanEngine, PlanOptions, Precision};
use crate::sampler::draws;
use crate::{NoiseSchedule, PolicyFailure, SamplerConfig};

/// A trained diffusion policy (Chi et al. 2023), ready to plan.
pub struct DiffusionPolicy {
    manifest: Manifest,
    schedule: NoiseSchedule,
    encoding: Encoding,
    /// One a thread; at least one.
    engines: Vec<Box<dyn PlanEngine>>,
    /// Draws of noise that a plan takes.
    draws: usize,
    /// On how many threads a batch is planned that a single engine takes.
    threads_a_plan: usize,
}

impl DiffusionPolicy {
    /// A policy over `values`, the weights in the order of the network's list.
    ///
    /// # Errors
    /// When the actions are relative to what is not observed, or the device cannot be used.
    pub(crate) fn new(
        manifest: Manifest,
        values: Vec<Vec<f32>>,
        options: PlanOptions,
    ) -> Result<Self, PolicyFailure> {
        let encoding = Encoding::new(&manifest.policy, &manifest.interface).map_err(PolicyFailure::Config)?;
        let schedule = manifest.policy.schedule.build().map_err(PolicyFailure::Config)?;
        let engines = vec![engine::open(manifest.host_network(values), options)?];
        let sampler = manifest.policy.sampler;
        Self { manifest, schedule, encoding, engines, draws: 0, threads_a_plan: 1 }.with_sampler(sampler)
    }

    /// The policy that training with `config` begins from: seeded first weights, and numbers taken as they are. For
    /// measuring how long plans take, which does not depend on what was learned.
    ///
    /// # Errors
    /// As when loading a checkpoint.
    pub fn untrained(config: &TrainConfig, options: PlanOptions) -> Result<Self, PolicyFailure> {
        let manifest = Manifest::untrained(config);
        let list = manifest.host_network(Vec::new()).list;
        let values = list.initialise(&mut ChaCha8Rng::seed_from_u64(config.seed));
        Self::new(manifest, values, options)
    }

    /// What the checkpoint says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How weights are stored while planning.
    pub fn precision(&self) -> Precision {
        self.engines[0].precision()
    }

    /// Plans with another sampler than the checkpoint's own.
    ///
    /// # Errors
    /// When the sampler does not fit the noise schedule.
    pub fn with_sampler(mut self, sampler: SamplerConfig) -> Result<Self, PolicyFailure> {
        sampler.check(&self.schedule).map_err(PolicyFailure::Config)?;
        let steps = sampler.steps_of(&self.schedule, self.manifest.policy.objective).into_iter();
        let steps: Vec<_> = steps.map(|step| step.clipped_to(self.manifest.clip_range)).collect();
        self.manifest.policy.sampler = sampler;
        self.draws = draws(&steps);
        for engine in &mut self.engines {
            engine.set_steps(&steps)?;
        }
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

    /// Plans the requests of a batch on up to `threads` threads, where the device is not one that a single thread
    /// keeps busy.
    pub fn with_threads(mut self, threads: usize) -> Self {
        let more: Vec<_> = (1..threads).map_while(|_| self.engines[0].another()).collect();
        self.engines.truncate(1);
        self.engines.extend(more);
        self
    }

    /// Shares the work of a single plan among up to `threads` threads, where the device is a CPU. They wait for each
    /// other hundreds of times a plan without sleeping: worth it on cores that nobody else wants, and slower than one
    /// thread on others.
    pub fn with_threads_a_plan(mut self, threads: usize) -> Self {
        self.threads_a_plan = threads;
        self
    }

    /// Numbers of a sample: `Tp * Da`.
    fn sample_len(&self) -> usize {
        self.manifest.policy.horizon.predicted * self.encoding.acted.dim()
    }

    /// The sum of squared differences of two normalised actions, in physical units.
    pub(crate) fn squared_distance(&self, one: &[f32], two: &[f32]) -> f64 {
        self.encoding.squared_distance(one, two, &self.manifest.action)
    }

    /// The normalised condition `[To * Do]` of a request.
    fn condition(&self, index: usize, request: &PlanRequest) -> Result<Vec<f32>, PolicyError> {
        let bad = |problem| Err(PolicyError::BadRequest { request: index, problem });
        let (observed, dim) =
            (self.manifest.policy.horizon.observed, self.manifest.interface.observation_dim());
        if request.window.0.len() != observed {
            return bad(format!("{} observations, where the policy sees {observed}", request.window.0.len()));
        }
        let mut condition = Vec::with_capacity(observed * self.encoding.observed.dim());
        for observation in &request.window.0 {
            if observation.0.len() != dim {
                return bad(format!("an observation of {} numbers, not {dim}", observation.0.len()));
            }
            if let Some(number) = observation.0.iter().position(|value| !value.is_finite()) {
                return bad(format!("observation number {number} is {}", observation.0[number]));
            }
            self.encoding.see(&observation.0, &self.manifest.observation, &mut condition);
        }
        Ok(condition)
    }

    /// The executed part of a normalised prediction `[Tp, Da]`, in physical units. It starts at index `To - 1`.
    fn chunk(&self, request: &PlanRequest, prediction: &[f32]) -> ActionChunk {
        let Horizon { observed, executed, .. } = self.manifest.policy.horizon;
        let rows = prediction.chunks_exact(self.encoding.acted.dim()).skip(observed - 1).take(executed);
        let newest = request.window.0.last().map_or(&[][..], |newest| &newest.0);
        let actions = self.encoding.act(rows, &self.manifest.action, newest);
        let actions = actions.into_iter().map(Action).collect();
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
        let conditions = conditions.concat();
        let seeds: Vec<u64> = requests.iter().map(|request| request.noise_seed).collect();
        let numbers = self.sample_len();
        let predictions =
            self.sample(&conditions, &seeds).map_err(|failure| PolicyError::Failed(failure.to_string()))?;
        let samples = requests.iter().zip(predictions.chunks_exact(numbers)).enumerate();
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

impl DiffusionPolicy {
    /// Normalised samples `[B, Tp, Da]` for normalised conditions `[B, To * Do]`, each from the noise of its own seed.
    ///
    /// # Errors
    /// What the device refuses.
    pub(crate) fn sample(&mut self, conditions: &[f32], seeds: &[u64]) -> Result<Vec<f32>, PolicyFailure> {
        let numbers = self.sample_len();
        let mut samples = vec![0.0; seeds.len() * numbers];
        if seeds.is_empty() {
            return Ok(samples);
        }
        let draws = self.draws;
        let width = conditions.len() / seeds.len();
        let share = seeds.len().div_ceil(self.engines.len()).min(self.engines[0].largest_batch());
        let parts: Vec<_> = samples
            .chunks_mut(share * numbers)
            .zip(seeds.chunks(share))
            .zip(conditions.chunks((share * width).max(1)).chain(std::iter::repeat(&[][..])))
            .collect();
        self.engines[0].use_threads(if parts.len() == 1 { self.threads_a_plan } else { 1 });
        let mut parts = parts.into_iter();
        let plan =
            |engine: &mut Box<dyn PlanEngine>, samples: &mut [f32], seeds: &[u64], conditions: &[f32]| {
                engine.plan(conditions, &noise(seeds, draws, numbers), samples)
            };
        while parts.len() > 0 {
            let mut wave: Vec<_> = self.engines.iter_mut().zip(parts.by_ref()).collect();
            if let [(engine, ((samples, seeds), conditions))] = wave.as_mut_slice() {
                plan(engine, samples, seeds, conditions)?;
                continue;
            }
            std::thread::scope(|scope| {
                let running: Vec<_> = wave
                    .into_iter()
                    .map(|(engine, ((samples, seeds), conditions))| {
                        scope.spawn(move || plan(engine, samples, seeds, conditions))
                    })
                    .collect();
                // All are waited for: a scope that is left with a panic unseen panics itself.
                let finished: Vec<_> = running.into_iter().map(|thread| thread.join()).collect();
                let panicked = |_| Err(PolicyFailure::Device("a planning thread panicked".into()));
                finished.into_iter().try_for_each(|plan| plan.unwrap_or_else(panicked))
            })?;
        }
        Ok(samples)
    }
}

/// Standard normal numbers `[draws, B, numbers]`, each sample's from its own seed.
pub(crate) fn noise(seeds: &[u64], draws: usize, numbers: usize) -> Vec<f32> {
    let mut noise = vec![0.0; draws * seeds.len() * numbers];
    for (index, seed) in seeds.iter().enumerate() {
        let mut generator = ChaCha8Rng::seed_from_u64(*seed);
        for draw in noise.chunks_exact_mut(seeds.len() * numbers) {
            let own = &mut draw[index * numbers..(index + 1) * numbers];
            own.fill_with(|| generator.sample(StandardNormal));
        }
    }
    noise
}

#[cfg(test)]
mod tests {
    use nudge_control::{
        ActionFeature, ActionMode, Feature, FeatureKind, Limits, Observation, ObservationWindow,
    };

    use super::*;
    use crate::checkpoint::{FORMAT, Trained};
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
            angles: Vec::new(),
            normalization: Vec::new(),
        };
        let normalizer = |dim: usize| Normalizer { low: vec![0.0; dim], high: vec![10.0; dim] };
        let manifest = Manifest {
            format: FORMAT,
            task: "test".into(),
            interface,
            policy,
            observation: normalizer(3),
            action: normalizer(2),
            clip_range: 1.0,
            trained: Trained::nothing(0),
        };
        let values = first_weights(&manifest);
        DiffusionPolicy::new(manifest, values, PlanOptions::default()).unwrap()
    }

    fn first_weights(manifest: &Manifest) -> Vec<Vec<f32>> {
        let list = manifest.host_network(Vec::new()).list;
        list.initialise(&mut ChaCha8Rng::seed_from_u64(1))
    }

    fn request(seed: u64) -> PlanRequest {
        let value = |step: usize, i: usize| ((seed as usize * 7 + step * 3 + i) % 10) as f64;
        let observation = |step| Observation((0..3).map(|i| value(step, i)).collect());
        PlanRequest {
            step: seed,
            window: ObservationWindow((0..3).map(observation).collect()),
            committed: Vec::new(),
            hurried: false,
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
        policy.manifest.policy.relative = vec![relative];
        policy.encoding = Encoding::new(&policy.manifest.policy, &policy.manifest.interface).unwrap();
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
    fn a_planning_thread_that_panics_is_an_error() {
        struct Broken;

        impl PlanEngine for Broken {
            fn precision(&self) -> Precision {
                Precision::F32
            }

            fn largest_batch(&self) -> usize {
                1
            }

            fn set_steps(&mut self, _: &[crate::sampler::SamplerStep]) -> Result<(), PolicyFailure> {
                Ok(())
            }

            fn plan(&mut self, _: &[f32], _: &[f32], _: &mut [f32]) -> Result<(), PolicyFailure> {
                panic!("as it should")
            }

            fn another(&self) -> Option<Box<dyn PlanEngine>> {
                Some(Box::new(Broken))
            }
        }

        let mut policy = untrained();
        policy.engines = vec![Box::new(Broken), Box::new(Broken)];
        let error = policy.predict(&[request(1), request(2)]).unwrap_err();
        assert!(matches!(error, PolicyError::Failed(_)), "{error}");
        assert!(error.to_string().contains("panicked"), "{error}");
    }

    #[test]
    fn weights_that_are_not_finite_never_become_actions() {
        let manifest = untrained().manifest;
        let mut values = first_weights(&manifest);
        values.last_mut().unwrap()[0] = f32::NAN;
        let mut policy = DiffusionPolicy::new(manifest, values, PlanOptions::default()).unwrap();
        assert!(matches!(policy.predict(&[request(0)]), Err(PolicyError::NotFinite { request: 0 })));
    }

    #[test]
    fn overrides_that_do_not_fit_are_refused() {
        assert!(untrained().with_executed(14).is_ok());
        assert!(untrained().with_executed(15).is_err());
        assert!(untrained().with_sampler(SamplerConfig::ddim(101)).is_err());
    }
}
