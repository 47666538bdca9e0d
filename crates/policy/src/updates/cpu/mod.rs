//! Training on a CPU with kernels of our own: the whole step by hand, gradients too, in memory that is allocated once.
//!
//! Signals are `[B, L, C]`, so that convolutions read their windows where they lie (`product`, `tiles`), and everything
//! between them runs along channels (`norm`). Weights are kept as the products want them, moments and average too: AdamW treats
//! all numbers alike (`adam`), and only checkpoints need them in the reference's order.

mod adam;
mod buffer;
mod lanes;
mod layers;
mod norm;
mod product;
mod program;
mod run;
mod shape;
mod tiles;

use self::adam::Update;
use self::buffer::Buffer;
use self::program::{Place, Program};
use self::run::{Placed, Run};
use super::{Learned, Updates};
use crate::PolicyFailure;
use crate::config::{OptimizerConfig, TrainingConfig};
use crate::data::Batch;
use crate::engine::HostNetwork;
use crate::optimizer::Moments;

/// Samples that pass through the network together: few enough for their signals to stay in the cache, enough for the
/// weights to be worth reading.
const SAMPLES: usize = 32;

/// See the module.
pub(crate) struct CpuUpdates {
    program: Program,
    /// Numbers of every parameter of the network's list.
    lens: Vec<usize>,
    config: OptimizerConfig,
    weights: Buffer,
    turned: Buffer,
    average: Buffer,
    first: Buffer,
    second: Buffer,
    updates: u64,
    shards: Vec<Shard>,
    losses: Vec<f64>,
}

/// What the gradients of a part of the batch are computed with, on a thread of its own.
struct Shard {
    run: Run,
    gradients: Buffer,
}

impl CpuUpdates {
    pub fn new(network: HostNetwork, training: &TrainingConfig) -> Self {
        let program = Program::new(&network);
        let capacity = SAMPLES.min(training.batch_size / training.shards);
        let zeros = || Buffer::zeros(program.values);
        let shard = |_| Shard { run: Run::new(&program, capacity), gradients: zeros() };
        let mut updates = Self {
            lens: network.values.iter().map(Vec::len).collect(),
            config: training.optimizer,
            weights: zeros(),
            turned: Buffer::zeros(program.turned),
            average: zeros(),
            first: zeros(),
            second: zeros(),
            updates: 0,
            shards: (0..training.shards).map(shard).collect(),
            losses: Vec::new(),
            program,
        };
        updates.weights = updates.placed(&network.values);
        updates.average = updates.weights.clone();
        updates.turn();
        updates
    }

    /// Values in the order of the network's list, where the program has them.
    fn placed(&self, values: &[Vec<f32>]) -> Buffer {
        let mut placed = Buffer::zeros(self.program.values);
        for (place, values) in self.program.places.iter().zip(values) {
            match *place {
                Place::Plain(start) => placed[start..start + values.len()].copy_from_slice(values),
                Place::Panels(layer) => {
                    let layer = &self.program.layers[layer];
                    layer.places(|index, panel| placed[layer.weight + panel] = values[index]);
                }
            }
        }
        placed
    }

    /// Placed values in the order of the network's list.
    fn listed(&self, placed: &[f32]) -> Vec<Vec<f32>> {
        let values = |(place, len): (&Place, &usize)| match *place {
            Place::Plain(start) => placed[start..start + len].to_vec(),
            Place::Panels(layer) => {
                let layer = &self.program.layers[layer];
                let mut values = vec![0.0; *len];
                layer.places(|index, panel| values[index] = placed[layer.weight + panel]);
                values
            }
        };
        self.program.places.iter().zip(&self.lens).map(values).collect()
    }

    /// Brings the weights that gradients flow back through up to date.
    fn turn(&mut self) {
        let threads = self.shards.len();
        let share = self.turned.len().div_ceil(threads);
        let (program, weights) = (&self.program, &*self.weights);
        let mut rest = &mut *self.turned;
        let mut layers = program.layers.iter().peekable();
        std::thread::scope(|scope| {
            while layers.peek().is_some() {
                let mut part = Vec::new();
                let mut len = 0;
                while let Some(layer) = layers.next_if(|_| len < share) {
                    let (turned, others) = std::mem::take(&mut rest).split_at_mut(layer.lens()[1]);
                    rest = others;
                    len += turned.len();
                    part.push((layer, turned));
                }
                scope.spawn(move || {
                    for (layer, turned) in part {
                        layer.turn(&weights[layer.weight..layer.weight + layer.lens()[0]], turned);
                    }
                });
            }
        });
    }

    /// Applies the sum of the shards' gradients.
    fn update(&mut self, rate: f64, decay: f64) {
        self.updates += 1;
        let update = Update::new(&self.config, self.updates, rate, decay);
        let share = self.weights.len().div_ceil(self.shards.len());
        let shards = &self.shards;
        let states = self
            .weights
            .chunks_mut(share)
            .zip(self.average.chunks_mut(share))
            .zip(self.first.chunks_mut(share).zip(self.second.chunks_mut(share)));
        std::thread::scope(|scope| {
            for (index, ((weights, average), (first, second))) in states.enumerate() {
                let here = index * share..index * share + weights.len();
                let gradients = shards.iter().map(|shard| &shard.gradients[here.clone()]).collect();
                let range = adam::Range { weights, average, first, second, gradients };
                scope.spawn(move || update.apply(range));
            }
        });
        self.turn();
    }
}

impl Updates for CpuUpdates {
    fn step(&mut self, batch: &Batch, rate: f64, decay: f64) -> Result<(), PolicyFailure> {
        let share = batch.len() / self.shards.len();
        let numbers = batch.learned() as f64;
        let (program, weights) = (&self.program, Placed { values: &self.weights, turned: &self.turned });
        let losses: Vec<f64> = std::thread::scope(|scope| {
            let running: Vec<_> = self
                .shards
                .iter_mut()
                .enumerate()
                .map(|(index, shard)| {
                    let samples = index * share..(index + 1) * share;
                    scope.spawn(move || shard.gradients(program, weights, batch, samples, numbers))
                })
                .collect();
            let finished = running.into_iter().map(|thread| thread.join());
            finished.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        self.losses.push(losses.iter().sum::<f64>() / numbers);
        self.update(rate, decay);
        Ok(())
    }

    fn losses(&mut self, _wait: bool) -> Result<Vec<f64>, PolicyFailure> {
        Ok(std::mem::take(&mut self.losses))
    }

    fn validate(&mut self, batch: &Batch) -> Result<f64, PolicyFailure> {
        let weights = Placed { values: &self.average, turned: &self.turned };
        let run = &mut self.shards[0].run;
        let mut errors = 0.0;
        for start in (0..batch.len()).step_by(run.capacity()) {
            let end = (start + run.capacity()).min(batch.len());
            errors += run.forward(&self.program, weights, batch, start..end);
        }
        Ok(errors / batch.learned() as f64)
    }

    fn average(&mut self) -> Result<Vec<Vec<f32>>, PolicyFailure> {
        Ok(self.listed(&self.average))
    }

    fn learned(&mut self) -> Result<Learned, PolicyFailure> {
        let moments = match self.updates {
            0 => Moments::default(),
            updates => {
                Moments { updates, first: self.listed(&self.first), second: self.listed(&self.second) }
            }
        };
        Ok(Learned { weights: self.listed(&self.weights), average: self.listed(&self.average), moments })
    }

    fn restore(&mut self, learned: Learned) -> Result<(), PolicyFailure> {
        self.weights = self.placed(&learned.weights);
        self.average = self.placed(&learned.average);
        self.first = self.placed(&learned.moments.first);
        self.second = self.placed(&learned.moments.second);
        self.updates = learned.moments.updates;
        self.turn();
        Ok(())
    }
}

impl Shard {
    /// The sum of the squared errors of some samples; the gradients of its `numbers`th part are left in the shard.
    fn gradients(
        &mut self,
        program: &Program,
        weights: Placed,
        batch: &Batch,
        samples: std::ops::Range<usize>,
        numbers: f64,
    ) -> f64 {
        let (mut errors, factor) = (0.0, (1.0 / numbers) as f32);
        for start in samples.clone().step_by(self.run.capacity()) {
            let part = start..(start + self.run.capacity()).min(samples.end);
            errors += self.run.forward(program, weights, batch, part.clone());
            let add = start > samples.start;
            self.run.backward(program, weights, (batch, part), factor, &mut self.gradients, add);
        }
        errors
    }
}
