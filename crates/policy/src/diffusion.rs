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
        let width = self.manifest.policy.horizon.observed * self.encoding.observed.dim();
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
mod tests;
