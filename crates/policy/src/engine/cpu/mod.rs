//! Planning on the CPU, with weights packed for the instructions of this machine.
//!
//! A plan is tens of small convolutions over 16, 8 or 4 time steps, repeated for every step of the sampler. Sums run over
//! packed weights, sixteen output channels at once; a whole time axis of them stays in registers, so that a forward pass
//! reads every weight once. What depends on the steps alone is computed before any plan, what depends on the condition
//! alone before the first step, and a plan allocates nothing.

mod film;
mod kernel;
mod machine;
mod memory;
mod network;
mod pack;
mod pool;
mod portable;
#[cfg(test)]
pub(in crate::engine) mod reference;
mod rows;
mod signal;
mod sweep;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::Arc;

use self::machine::Machine;
use self::memory::Aligned;
use self::network::{Network, Workspace};
use self::pool::Pool;
use super::{Asked, CLEAN, HostNetwork, PlanEngine, Precision};
use crate::PolicyFailure;
use crate::sampler::SamplerStep;

/// See the module.
pub(crate) struct CpuEngine {
    network: Arc<Network>,
    precision: Precision,
    steps: Vec<SamplerStep>,
    /// FiLM's part of each step.
    of_steps: Arc<Aligned>,
    work: Workspace,
    /// Threads of a plan, and those that help.
    threads: usize,
    pool: Option<Pool>,
}

impl CpuEngine {
    /// Packs the weights for the fastest instructions that this machine has.
    pub fn new(network: &HostNetwork, precision: Precision) -> Self {
        Self::on(network, precision, Machine::new(precision))
    }

    fn on(network: &HostNetwork, precision: Precision, machine: Machine) -> Self {
        let network = Arc::new(Network::new(network, machine));
        let work = network.workspace(1);
        let of_steps = Arc::new(Aligned::zeroed(0));
        Self { network, precision, steps: Vec::new(), of_steps, work, threads: 1, pool: None }
    }
}

impl PlanEngine for CpuEngine {
    fn precision(&self) -> Precision {
        self.precision
    }

    fn largest_batch(&self) -> usize {
        64
    }

    fn set_steps(&mut self, steps: &[SamplerStep]) -> Result<(), PolicyFailure> {
        let timesteps: Vec<usize> = steps.iter().map(|step| step.timestep).collect();
        self.of_steps = Arc::new(self.network.film.of_steps(&self.network.machine, &timesteps));
        self.steps = steps.to_vec();
        Ok(())
    }

    fn plan(&mut self, asked: Asked, samples: &mut [f32]) -> Result<(), PolicyFailure> {
        let Asked { conditions, noise, kept } = asked;
        let Network { predicted, action_dim, .. } = *self.network;
        let batch = samples.len() / (predicted * action_dim);
        if batch > self.work.batch() {
            self.work = self.network.workspace(batch);
        }
        self.network.condition(&mut self.work, conditions, batch);
        let (start, mut draws) = noise.split_at(samples.len());
        samples.copy_from_slice(start);
        let width = self.network.film.width();
        let mut pool = self.pool.as_mut().filter(|_| self.threads > 1);
        let _awake = pool.as_deref().map(Pool::wake);
        for (step, of_step) in self.steps.iter().zip(self.of_steps.numbers::<f32>().chunks_exact(width)) {
            kept.put(step.kept, start, action_dim, samples);
            let outputs = self.network.forward(&mut self.work, pool.as_deref_mut(), of_step, samples);
            let outputs = outputs.chunks_exact(outputs.len() / (batch * predicted));
            for (sample, output) in samples.chunks_exact_mut(action_dim).zip(outputs) {
                sample.iter_mut().zip(output).for_each(|(x, output)| *x = step.next_mean(*x, *output));
            }
            if step.deviation > 0.0 {
                let (draw, rest) = draws.split_at(samples.len());
                draws = rest;
                let noisy = |(x, noise): (&mut f32, &f32)| *x += (step.deviation * f64::from(*noise)) as f32;
                samples.iter_mut().zip(draw).for_each(noisy);
            }
        }
        kept.put(CLEAN, start, action_dim, samples);
        Ok(())
    }

    fn another(&self) -> Option<Box<dyn PlanEngine>> {
        Some(Box::new(Self {
            network: Arc::clone(&self.network),
            precision: self.precision,
            steps: self.steps.clone(),
            of_steps: Arc::clone(&self.of_steps),
            work: self.network.workspace(1),
            threads: 1,
            pool: None,
        }))
    }

    fn use_threads(&mut self, threads: usize) {
        if threads > 1 && self.pool.is_none() {
            self.pool = Pool::new(threads);
        }
        self.threads = threads;
    }
}

impl SamplerStep {
    /// The next sample's number before noise is added, from the sample's and the network's.
    fn next_mean(&self, x: f32, output: f32) -> f32 {
        let (x, output) = (f64::from(x), f64::from(output));
        let clean = (self.clean[0] * x + self.clean[1] * output).clamp(-1.0, 1.0);
        (self.of_clean * clean + self.of_x * x + self.of_output * output) as f32
    }
}
