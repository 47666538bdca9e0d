//! The policy: observations in, a denoised chunk of actions out.

use nudge_control::{Action, ActionChunk, Horizon, Interface, PlanRequest, Policy, PolicyError};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::checkpoint::Manifest;
use crate::config::TrainConfig;
use crate::continuation::{Continuation, KeptRows};
use crate::encoding::Encoding;
use crate::engine::{self, CLEAN, Kept, PlanOptions, Precision};
use crate::sampler::SamplerStep;
use crate::sampling::{Sampling, Wanted};
use crate::{NoiseSchedule, PolicyFailure, SamplerConfig};

/// A trained diffusion policy (Chi et al. 2023), ready to plan.
pub struct DiffusionPolicy {
    manifest: Manifest,
    schedule: NoiseSchedule,
    encoding: Encoding,
    continuation: Continuation,
    usual: Sampling,
    /// For plans that are late already, where the sampler states steps for them.
    hurried: Option<Sampling>,
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
        let usual = Sampling::new(engine::open(manifest.host_network(values), options)?);
        let sampler = manifest.policy.sampler;
        let continuation = Continuation::of(&manifest.policy);
        Self { manifest, schedule, encoding, continuation, usual, hurried: None }.with_sampler(sampler)
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
        self.usual.precision()
    }

    /// How committed actions are continued: by the prefix if the checkpoint was trained so, and otherwise not at all,
    /// unless [`with_continuation`](Self::with_continuation) says otherwise.
    pub fn continuation(&self) -> Continuation {
        self.continuation
    }

    /// Plans with another sampler than the checkpoint's own.
    ///
    /// # Errors
    /// When the sampler does not fit the noise schedule.
    pub fn with_sampler(mut self, sampler: SamplerConfig) -> Result<Self, PolicyFailure> {
        sampler.check(&self.schedule).map_err(PolicyFailure::Config)?;
        self.manifest.policy.sampler = sampler;
        self.set_steps()?;
        Ok(self)
    }

    /// Continues committed actions in another way than the checkpoint's own.
    ///
    /// # Errors
    /// When the checkpoint was not trained for it.
    pub fn with_continuation(mut self, continuation: Continuation) -> Result<Self, PolicyFailure> {
        continuation.check(&self.manifest.policy).map_err(PolicyFailure::Config)?;
        self.continuation = continuation;
        self.set_steps()?;
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
        self.samplings().for_each(|sampling| sampling.use_engines(threads));
        self
    }

    /// Shares the work of a single plan among up to `threads` threads, where the device is a CPU. They wait for each
    /// other hundreds of times a plan without sleeping: worth it on cores that nobody else wants, and slower than one
    /// thread on others.
    pub fn with_threads_a_plan(mut self, threads: usize) -> Self {
        self.samplings().for_each(|sampling| sampling.use_threads_a_plan(threads));
        self
    }

    fn samplings(&mut self) -> impl Iterator<Item = &mut Sampling> {
        std::iter::once(&mut self.usual).chain(&mut self.hurried)
    }

    /// Brings the engines to the sampler and to the way of continuing.
    fn set_steps(&mut self) -> Result<(), PolicyFailure> {
        let sampler = self.manifest.policy.sampler;
        self.usual.set_steps(&self.steps_of(sampler))?;
        // A device that one engine uses whole has no other, and makes a plan in a millisecond: nothing is to be gained there.
        let hurried = sampler.hurried().and_then(|sampler| Some((sampler, self.usual.another()?)));
        self.hurried = match hurried {
            Some((sampler, mut sampling)) => {
                sampling.set_steps(&self.steps_of(sampler))?;
                Some(sampling)
            }
            None => None,
        };
        Ok(())
    }

    fn steps_of(&self, sampler: SamplerConfig) -> Vec<SamplerStep> {
        let steps = sampler.steps_of(&self.schedule, self.manifest.policy.objective).into_iter();
        let clean = self.continuation == Continuation::Prefix;
        let kept = |step: SamplerStep| if clean { SamplerStep { kept: CLEAN, ..step } } else { step };
        steps.map(|step| kept(step.clipped_to(self.manifest.clip_range))).collect()
    }

    /// Numbers of a sample: `Tp * Da`.
    fn sample_len(&self) -> usize {
        self.manifest.policy.horizon.predicted * self.encoding.acted.dim()
    }

    /// The sum of squared differences of two normalised actions, in physical units.
    pub(crate) fn squared_distance(&self, one: &[f32], two: &[f32]) -> f64 {
        self.encoding.squared_distance(one, two, &self.manifest.action)
    }

    /// Appends the normalised condition `[To * Do]` of a request.
    fn see(&self, index: usize, request: &PlanRequest, conditions: &mut Vec<f32>) -> Result<(), PolicyError> {
        let bad = |problem| Err(PolicyError::BadRequest { request: index, problem });
        let (observed, dim) =
            (self.manifest.policy.horizon.observed, self.manifest.interface.observation_dim());
        if request.window.0.len() != observed {
            return bad(format!("{} observations, where the policy sees {observed}", request.window.0.len()));
        }
        for observation in &request.window.0 {
            if observation.0.len() != dim {
                return bad(format!("an observation of {} numbers, not {dim}", observation.0.len()));
            }
            if let Some(number) = observation.0.iter().position(|value| !value.is_finite()) {
                return bad(format!("observation number {number} is {}", observation.0[number]));
            }
            self.encoding.see(&observation.0, &self.manifest.observation, conditions);
        }
        Ok(())
    }

    /// The actions that a plan for this request continues.
    fn committed<'a>(&self, request: &'a PlanRequest) -> &'a [Action] {
        &request.committed[..request.committed.len().min(self.max_committed())]
    }

    /// The committed actions of all requests as the network has them; nothing where there are none.
    fn kept(&self, requests: &[PlanRequest]) -> Result<KeptRows, PolicyError> {
        let mut kept = KeptRows::default();
        if requests.iter().all(|request| self.committed(request).is_empty()) {
            return Ok(kept);
        }
        let (first, dim) = (self.manifest.policy.horizon.observed - 1, self.encoding.acted.dim());
        kept.clean = vec![0.0; requests.len() * self.sample_len()];
        let samples = kept.clean.chunks_exact_mut(self.sample_len());
        for (index, (request, sample)) in requests.iter().zip(samples).enumerate() {
            let (committed, newest) = (self.committed(request), newest(request));
            for (step, (action, row)) in
                committed.iter().zip(sample.chunks_exact_mut(dim).skip(first)).enumerate()
            {
                let fits = action.0.len() == self.manifest.interface.action_dim();
                if !fits || action.0.iter().any(|number| !number.is_finite()) {
                    let dim = self.manifest.interface.action_dim();
                    let problem =
                        format!("committed action {step} is {:?}, not {dim} finite numbers", action.0);
                    return Err(PolicyError::BadRequest { request: index, problem });
                }
                self.encoding.commit(&action.0, &self.manifest.action, newest, row);
            }
            kept.rows.push(first..first + committed.len());
        }
        Ok(kept)
    }

    /// A normalised prediction `[Tp, Da]` from the newest observation on, index `To - 1`, in physical units; what it
    /// continues is taken as it was given.
    fn chunk(&self, request: &PlanRequest, prediction: &[f32]) -> ActionChunk {
        let (horizon, committed) = (self.manifest.policy.horizon, self.committed(request));
        let mut actions = Vec::with_capacity(horizon.predicted + 1 - horizon.observed);
        actions.extend(committed.iter().map(|action| action.0.clone()));
        let rows = prediction.chunks_exact(self.encoding.acted.dim());
        let rows = rows.skip(horizon.observed - 1 + committed.len());
        let actions = self.encoding.act(rows, &self.manifest.action, newest(request), actions);
        let actions = actions.into_iter().map(Action).collect();
        ActionChunk { first_step: request.step, actions }
    }

    /// Normalised samples `[B, Tp, Da]` for normalised conditions `[B, To * Do]`, each from the noise of its own seed.
    ///
    /// # Errors
    /// What the device refuses.
    pub(crate) fn sample(&mut self, conditions: &[f32], seeds: &[u64]) -> Result<Vec<f32>, PolicyFailure> {
        let numbers = self.sample_len();
        let mut samples = vec![0.0; seeds.len() * numbers];
        self.usual.sample(Wanted { conditions, seeds, kept: Kept::default() }, numbers, &mut samples)?;
        Ok(samples)
    }

    /// Samples for every request: those that are hurried with fewer steps, where there are such.
    fn sample_all(&mut self, requests: &[PlanRequest], wanted: Wanted) -> Result<Vec<f32>, PolicyFailure> {
        let numbers = self.sample_len();
        let mut samples = vec![0.0; requests.len() * numbers];
        let hurried = requests.iter().filter(|request| request.hurried).count();
        let Some(quick) = self.hurried.as_mut().filter(|_| hurried > 0) else {
            self.usual.sample(wanted, numbers, &mut samples)?;
            return Ok(samples);
        };
        if hurried == requests.len() {
            quick.sample(wanted, numbers, &mut samples)?;
            return Ok(samples);
        }
        for (sampling, which) in [(&mut self.usual, false), (quick, true)] {
            let of: Vec<usize> =
                (0..requests.len()).filter(|index| requests[*index].hurried == which).collect();
            let picked = wanted.picked(&of);
            let mut some = vec![0.0; of.len() * numbers];
            sampling.sample(picked.wanted(), numbers, &mut some)?;
            for (index, sample) in of.iter().zip(some.chunks_exact(numbers)) {
                samples[index * numbers..(index + 1) * numbers].copy_from_slice(sample);
            }
        }
        Ok(samples)
    }
}

impl Policy for DiffusionPolicy {
    fn interface(&self) -> &Interface {
        &self.manifest.interface
    }

    fn horizon(&self) -> Horizon {
        self.manifest.policy.horizon
    }

    fn max_committed(&self) -> usize {
        self.continuation.max_committed(&self.manifest.policy)
    }

    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        let width = self.manifest.condition_dim();
        let mut conditions = Vec::with_capacity(requests.len() * width);
        for (index, request) in requests.iter().enumerate() {
            self.see(index, request, &mut conditions)?;
        }
        let kept = self.kept(requests)?;
        let seeds: Vec<u64> = requests.iter().map(|request| request.noise_seed).collect();
        let numbers = self.sample_len();
        let wanted = Wanted { conditions: &conditions, seeds: &seeds, kept: kept.kept() };
        let predictions = self.sample_all(requests, wanted);
        let predictions = predictions.map_err(|failure| PolicyError::Failed(failure.to_string()))?;
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

/// What was last observed.
fn newest(request: &PlanRequest) -> &[f64] {
    request.window.0.last().map_or(&[], |newest| &newest.0)
}

#[cfg(test)]
mod tests {
    use nudge_control::{
        ActionFeature, ActionMode, Feature, FeatureKind, Limits, Observation, ObservationWindow,
    };

    use super::*;
    use crate::checkpoint::{FORMAT, Trained};
    use crate::engine::{Asked, PlanEngine};
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
            prefix: None,
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
    fn a_chunk_is_all_that_is_predicted_from_the_newest_observed_step_on() {
        let policy = untrained();
        // Step i of the prediction is 0.1 i in normalised units, so 5 + 0.5 i in physical ones.
        let prediction: Vec<f32> = (0..16).flat_map(|step| [0.1 * step as f32; 2]).collect();
        let chunk = policy.chunk(&request(40), &prediction);
        assert_eq!(chunk.first_step, 40);
        assert_eq!(chunk.actions.len(), 14);
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

    /// Committed actions that differ from one another.
    fn committed(seed: u64, count: usize) -> Vec<Action> {
        (0..count).map(|step| Action(vec![0.3 * (seed % 7) as f64 + 0.4 * step as f64, 2.5])).collect()
    }

    #[test]
    fn a_plan_begins_with_what_is_committed_and_depends_on_nothing_beside_it() {
        let requests: Vec<PlanRequest> = (0..70)
            .map(|seed| PlanRequest {
                committed: committed(seed, seed as usize % 15),
                hurried: seed % 4 == 0,
                ..request(seed)
            })
            .collect();
        let sampler = SamplerConfig::Ddim {
            steps: 6,
            eta: 0.0,
            clip: true,
            spacing: crate::Spacing::Leading,
            renoise_clipped: false,
            hurried_steps: Some(4),
        };
        let policy = || untrained().with_sampler(sampler).unwrap();
        assert_eq!((policy().continuation(), policy().max_committed()), (Continuation::Ignore, 0));
        let inpainting = || policy().with_continuation(Continuation::Inpaint).unwrap();
        assert_eq!(inpainting().max_committed(), 13);
        let (mut together, mut alone) = (inpainting().with_threads(2), inpainting());
        let (mut ignoring, mut quick) = (policy(), policy().with_sampler(SamplerConfig::ddim(4)).unwrap());
        for (request, plan) in requests.iter().zip(together.predict(&requests).unwrap()) {
            // Of more than it can continue, the first.
            let continued = &request.committed[..request.committed.len().min(13)];
            assert_eq!(plan.actions.len(), 14);
            assert_eq!(&plan.actions[..continued.len()], continued);
            let one = |policy: &mut DiffusionPolicy| {
                policy.predict(std::slice::from_ref(request)).unwrap().remove(0)
            };
            assert_eq!(one(&mut alone), plan);
            assert_eq!(one(&mut ignoring) == plan, continued.is_empty());
            // Hurried is another sampler, and nothing else.
            assert_eq!(one(&mut ignoring) == one(&mut quick), request.hurried);
        }
    }

    #[test]
    fn committed_actions_go_through_the_network_as_its_own_do() {
        let mut policy = untrained();
        policy.manifest.policy.relative = vec![Relative {
            action: "action".into(),
            numbers: vec![1],
            to: "state".into(),
            to_numbers: vec![2],
            hidden: false,
        }];
        policy.encoding = Encoding::new(&policy.manifest.policy, &policy.manifest.interface).unwrap();
        let mut policy = policy.with_continuation(Continuation::Inpaint).unwrap();
        let prediction = policy.predict(&[request(3)]).unwrap().remove(0);
        let request = PlanRequest { committed: prediction.actions[..5].to_vec(), ..request(3) };
        let kept = policy.kept(std::slice::from_ref(&request)).unwrap();
        assert_eq!(kept.rows, [2..7]);
        // Back through the other door they are the same actions.
        let rows = kept.clean.chunks_exact(2).skip(2).take(5);
        let actions = policy.encoding.act(rows, &policy.manifest.action, newest(&request), Vec::new());
        for (action, committed) in actions.iter().flatten().zip(request.committed.iter().flat_map(|a| &a.0)) {
            assert!((action - committed).abs() < 1e-5, "{action}, not {committed}");
        }
    }

    #[test]
    fn a_prefix_is_continued_only_by_a_policy_that_learned_to() {
        let refused = untrained().with_continuation(Continuation::Prefix).err().unwrap().to_string();
        assert!(refused.contains("policy.prefix"), "{refused}");
        let mut manifest = untrained().manifest;
        manifest.policy.prefix = Some(crate::PrefixConfig { max_steps: 6 });
        let values = first_weights(&manifest);
        let mut policy = DiffusionPolicy::new(manifest, values, PlanOptions::default()).unwrap();
        assert_eq!((policy.continuation(), policy.max_committed()), (Continuation::Prefix, 6));
        assert!(policy.steps_of(SamplerConfig::ddim(5)).iter().all(|step| step.kept == CLEAN));
        // Without anything committed it plans as one that never heard of it.
        let (plain, prefixed) = (untrained().predict(&[request(3)]), policy.predict(&[request(3)]));
        assert_eq!(plain.unwrap(), prefixed.unwrap());
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
        let committing = |actions: &[&[f64]]| {
            let committed = actions.iter().map(|action| Action(action.to_vec())).collect();
            PlanRequest { committed, ..request(2) }
        };
        // Nobody looks at what is not continued.
        assert!(policy.predict(&[committing(&[&[1.0]])]).is_ok());
        let mut policy = policy.with_continuation(Continuation::Inpaint).unwrap();
        refused(&mut policy, committing(&[&[1.0, 2.0], &[1.0]]), "committed action 1");
        refused(&mut policy, committing(&[&[1.0, f64::INFINITY]]), "committed action 0");
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

            fn plan(&mut self, _: Asked, _: &mut [f32]) -> Result<(), PolicyFailure> {
                panic!("as it should")
            }

            fn another(&self) -> Option<Box<dyn PlanEngine>> {
                Some(Box::new(Broken))
            }
        }

        let mut policy = untrained();
        policy.usual.set_engines(vec![Box::new(Broken), Box::new(Broken)]);
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
