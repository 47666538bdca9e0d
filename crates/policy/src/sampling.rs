//! Whole batches through the plan engines: in parts that an engine takes, on as many threads as there are engines.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::PolicyFailure;
use crate::continuation::KeptRows;
use crate::engine::{Asked, Kept, PlanEngine, Precision};
use crate::sampler::{SamplerStep, draws};

/// Plans of one list of steps.
pub(crate) struct Sampling {
    /// One a thread; at least one.
    engines: Vec<Box<dyn PlanEngine>>,
    /// Draws of noise that a plan takes.
    draws: usize,
    /// On how many threads a batch is planned that a single engine takes.
    threads_a_plan: usize,
}

/// Normalised conditions `[B, To * Do]`, a seed of the noise for each, and the rows that each plan is to keep.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub conditions: &'a [f32],
    pub seeds: &'a [u64],
    pub kept: Kept<'a>,
}

impl Sampling {
    /// Over an engine that knows no steps yet.
    pub fn new(engine: Box<dyn PlanEngine>) -> Self {
        Self { engines: vec![engine], draws: 0, threads_a_plan: 1 }
    }

    /// Over the same weights, on as many threads, to plan with other steps; `None` where one engine uses the whole device.
    pub fn another(&self) -> Option<Self> {
        let engines = self.engines.iter().map(|engine| engine.another()).collect::<Option<_>>()?;
        Some(Self { engines, draws: 0, threads_a_plan: self.threads_a_plan })
    }

    /// How weights are stored.
    pub fn precision(&self) -> Precision {
        self.engines[0].precision()
    }

    /// # Errors
    /// What the device refuses.
    pub fn set_steps(&mut self, steps: &[SamplerStep]) -> Result<(), PolicyFailure> {
        self.draws = draws(steps);
        self.engines.iter_mut().try_for_each(|engine| engine.set_steps(steps))
    }

    /// Plans on up to so many threads, where the device is not one that a single thread keeps busy.
    pub fn use_engines(&mut self, count: usize) {
        let more: Vec<_> = (1..count).map_while(|_| self.engines[0].another()).collect();
        self.engines.truncate(1);
        self.engines.extend(more);
    }

    /// Shares the work of a single plan among so many threads, where the engine can.
    pub fn use_threads_a_plan(&mut self, threads: usize) {
        self.threads_a_plan = threads;
    }

    #[cfg(test)]
    pub fn set_engines(&mut self, engines: Vec<Box<dyn PlanEngine>>) {
        self.engines = engines;
    }

    /// Writes normalised samples `[B, numbers]`, each from the noise of its own seed.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn sample(
        &mut self,
        wanted: Wanted,
        numbers: usize,
        samples: &mut [f32],
    ) -> Result<(), PolicyFailure> {
        let (count, draws) = (wanted.seeds.len(), self.draws);
        let share = count.div_ceil(self.engines.len()).min(self.engines[0].largest_batch());
        let plan = |engine: &mut Box<dyn PlanEngine>, wanted: Wanted, samples: &mut [f32]| {
            let noise = noise(wanted.seeds, draws, numbers);
            engine.plan(Asked { conditions: wanted.conditions, noise: &noise, kept: wanted.kept }, samples)
        };
        if count <= share {
            self.engines[0].use_threads(self.threads_a_plan);
            return if count == 0 { Ok(()) } else { plan(&mut self.engines[0], wanted, samples) };
        }
        self.engines[0].use_threads(1);
        let mut parts = samples
            .chunks_mut(share * numbers)
            .enumerate()
            .map(|(index, samples)| (wanted.part(index * share..((index + 1) * share).min(count)), samples))
            .peekable();
        if let [engine] = self.engines.as_mut_slice() {
            return parts.try_for_each(|(wanted, samples)| plan(engine, wanted, samples));
        }
        while parts.peek().is_some() {
            std::thread::scope(|scope| {
                let running: Vec<_> = self
                    .engines
                    .iter_mut()
                    .zip(parts.by_ref())
                    .map(|(engine, (wanted, samples))| scope.spawn(move || plan(engine, wanted, samples)))
                    .collect();
                // All are waited for: a scope that is left with a panic unseen panics itself.
                let finished: Vec<_> = running.into_iter().map(|thread| thread.join()).collect();
                let panicked = |_| Err(PolicyFailure::Device("a planning thread panicked".into()));
                finished.into_iter().try_for_each(|plan| plan.unwrap_or_else(panicked))
            })?;
        }
        Ok(())
    }
}

impl<'a> Wanted<'a> {
    /// The requests with these indices.
    pub fn picked(self, indices: &[usize]) -> Picked {
        let parts: Vec<Self> = indices.iter().map(|index| self.part(*index..index + 1)).collect();
        let kept = KeptRows {
            rows: parts.iter().flat_map(|part| part.kept.rows).cloned().collect(),
            clean: parts.iter().flat_map(|part| part.kept.clean).copied().collect(),
        };
        Picked {
            conditions: parts.iter().flat_map(|part| part.conditions).copied().collect(),
            seeds: parts.iter().flat_map(|part| part.seeds).copied().collect(),
            kept,
        }
    }

    fn part(self, requests: Range<usize>) -> Self {
        let width = self.conditions.len() / self.seeds.len();
        Self {
            conditions: &self.conditions[requests.start * width..requests.end * width],
            seeds: &self.seeds[requests.clone()],
            kept: self.kept.part(requests),
        }
    }
}

/// Some of what was wanted, side by side.
pub(crate) struct Picked {
    conditions: Vec<f32>,
    seeds: Vec<u64>,
    kept: KeptRows,
}

impl Picked {
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted { conditions: &self.conditions, seeds: &self.seeds, kept: self.kept.kept() }
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
