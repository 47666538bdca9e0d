//! A whole training step as launches, and what it works on.

use super::arguments::{Adam, Arguments, Loss, Piece, Rounding};
use super::layout::Layout;
use super::network::Given;
use super::program::{Act, Builder, Counters, Launch, PIECE, Signal, Update, WeightsAt};
use crate::config::OptimizerConfig;
use crate::data::Batch;
use crate::engine::HostNetwork;

/// Numbers of `Scalars` in `kernels/small.cu`.
const SCALARS: usize = 8;

/// Steps that the host may be ahead of the device.
pub(super) const SLOTS: usize = 4;

/// The kernels of the loss: where every number counts, and where rows may be left out of it.
const LOSS: [&str; 2] = ["measure_loss", "measure_loss_of_rest"];

/// Launches, and where in the block of memory they read and write. Made without a GPU.
pub(super) struct StepPlan {
    pub layout: Layout,
    /// Forward, backward and update: by batches of which everything is learned, and by those with rows that are kept.
    pub steps: [Vec<Act>; 2],
    /// Forward with the averaged weights.
    pub validation: Vec<Act>,
    /// Rounds weights and averaged weights to bf16, after they came from the host.
    pub rounding: Vec<Act>,
    /// f32, each [`Layout::len`] numbers.
    pub weights: u64,
    pub average: u64,
    pub first: u64,
    pub second: u64,
    pub inputs: Inputs,
    /// f32 `[SLOTS]`
    pub losses: u64,
    pub pieces: Vec<Piece>,
    pub pieces_at: u64,
    /// u32 `[Counters::COUNT]`, 0 before the first step.
    pub counters: u64,
    /// Of the validation.
    pub prediction: Signal,
    /// Size of the block.
    pub bytes: u64,
    pub batch: usize,
    optimizer: OptimizerConfig,
}

/// Everything that comes from the host in a step, side by side: one copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs {
    pub at: u64,
    /// Numbers of each part.
    signal: usize,
    batch: usize,
    condition: usize,
}

impl Inputs {
    pub fn len(&self) -> usize {
        SCALARS + 2 * self.signal + self.batch + self.condition + 2 * self.batch
    }

    fn target(&self) -> u64 {
        self.at + 4 * (SCALARS + self.signal) as u64
    }

    fn noisy(&self) -> u64 {
        self.at + 4 * SCALARS as u64
    }

    fn timesteps(&self) -> u64 {
        self.target() + 4 * self.signal as u64
    }

    fn condition(&self) -> u64 {
        self.timesteps() + 4 * self.batch as u64
    }

    fn kept(&self) -> u64 {
        self.condition() + 4 * self.condition as u64
    }

    /// Writes the samples `from ..` of a batch, as many as there is room for; the last is repeated where they are too few.
    pub fn write(&self, batch: &Batch, from: usize, scalars: [f32; SCALARS], to: &mut [f32]) {
        let (head, rest) = to.split_at_mut(SCALARS);
        let (noisy, rest) = rest.split_at_mut(self.signal);
        let (target, rest) = rest.split_at_mut(self.signal);
        let (timesteps, rest) = rest.split_at_mut(self.batch);
        let (condition, kept) = rest.split_at_mut(self.condition);
        head.copy_from_slice(&scalars);
        let last = batch.len() - 1;
        let fill = |to: &mut [f32], values: &[f32]| {
            let width = values.len() / batch.len();
            for (index, to) in to.chunks_exact_mut(width).enumerate() {
                let sample = (from + index).min(last);
                to.copy_from_slice(&values[sample * width..(sample + 1) * width]);
            }
        };
        fill(noisy, &batch.noisy);
        fill(target, &batch.target);
        fill(condition, &batch.condition);
        for (index, timestep) in timesteps.iter_mut().enumerate() {
            *timestep = batch.timesteps[(from + index).min(last)] as f32;
        }
        for (index, kept) in kept.chunks_exact_mut(2).enumerate() {
            let rows = batch.kept_rows((from + index).min(last));
            kept.copy_from_slice(&[rows.start as f32, rows.end as f32]);
        }
    }
}

impl StepPlan {
    pub fn new(network: &HostNetwork, optimizer: &OptimizerConfig, batch: usize) -> Self {
        let layout = Layout::new(&network.list);
        let groups = network.config.n_groups;
        let signal = batch * network.predicted * network.action_dim;
        let mut sizes = Builder::new(&layout, WeightsAt { full: 0, halves: 0 }, 0, batch, groups, 0);
        let [weights, average, first, second] = [(); 4].map(|()| sizes.take(layout.len, 4));
        let [halves, average_halves] = [(); 2].map(|()| sizes.take(layout.len, 2));
        let condition = batch * network.condition_dim;
        let mut inputs = Inputs { at: 0, signal, batch, condition };
        inputs.at = sizes.take(inputs.len(), 4);
        let losses = sizes.take(SLOTS, 4);
        let count: usize = layout.places().iter().map(|place| place.len().div_ceil(PIECE)).sum();
        let pieces_at = sizes.take(count, size_of::<Piece>());
        let counters = sizes.take(Counters::COUNT, 4);
        let given = Given {
            network,
            noisy: inputs.noisy(),
            timesteps: inputs.timesteps(),
            condition: inputs.condition(),
        };
        let used = sizes.bytes;

        let mut builder =
            Builder::new(&layout, WeightsAt { full: weights, halves }, counters, batch, groups, used);
        let passed = builder.forward(&given);
        let prediction = passed.prediction;
        let slope = builder.signal(network.predicted, prediction.ld);
        let loss = Loss {
            output: prediction.at,
            target: inputs.target(),
            slope: slope.at,
            losses,
            scalars: inputs.at,
            rows: (batch * network.predicted) as i32,
            actions: network.action_dim as i32,
            ld: prediction.ld as i32,
            t: network.predicted as i32,
            kept: inputs.kept(),
        };
        builder.launch(LOSS[0], [1; 3], (1024, 0), Arguments::Loss(loss));
        let [beta_first, beta_second] = optimizer.betas;
        let adam = Adam {
            weights,
            first,
            second,
            average,
            halves,
            pieces: pieces_at,
            scalars: inputs.at,
            beta_first,
            beta_second,
            rest_first: 1.0 - beta_first,
            rest_second: 1.0 - beta_second,
            epsilon: optimizer.epsilon,
        };
        builder.update =
            Some(Update { adam, pieces: Vec::new(), updated: vec![false; layout.places().len()] });
        builder.backward(&passed, slope);
        let pieces = builder.update.take().map_or_else(Vec::new, |update| update.pieces);
        assert_eq!(pieces.len(), count, "the backward pass differentiates every parameter");
        let with_rest = |act: &Act| match *act {
            Act::Launch { lane, launch } if launch.kernel == LOSS[0] => {
                Act::Launch { lane, launch: Launch { kernel: LOSS[1], ..launch } }
            }
            act => act,
        };
        let of_rest = builder.acts.iter().map(with_rest).collect();
        let steps = [builder.acts, of_rest];

        let of_average = WeightsAt { full: average, halves: average_halves };
        // A validation runs between steps, so what both compute can lie in the same place.
        let bytes = builder.bytes;
        let mut builder = Builder::new(&layout, of_average, counters, batch, groups, used);
        let prediction = builder.forward(&given).prediction;
        let (validation, bytes) = (std::mem::take(&mut builder.acts), bytes.max(builder.bytes));
        for (input, output) in [(weights, halves), (average, average_halves)] {
            let rounding = Rounding { input, output, count: layout.len as u64 };
            builder.launch("round_weights", [1024, 1, 1], (256, 0), Arguments::Rounding(rounding));
        }
        let rounding = builder.acts;
        Self {
            steps,
            validation,
            rounding,
            weights,
            average,
            first,
            second,
            inputs,
            losses,
            pieces,
            pieces_at,
            counters,
            prediction,
            bytes,
            batch,
            optimizer: *optimizer,
            layout,
        }
    }

    /// What the kernels need to know of update `update`, counted from 1, by a batch of which so many numbers are `learned`,
    /// and whose loss goes to `slot`.
    pub fn scalars(&self, rate: f64, decay: f64, update: u64, learned: usize, slot: usize) -> [f32; SCALARS] {
        let correction = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(update as f64))) as f32;
        let [first, second] = self.optimizer.betas;
        let shrink = 1.0 - rate * f64::from(self.optimizer.weight_decay);
        [
            rate as f32,
            shrink as f32,
            correction(first),
            correction(second),
            decay as f32,
            (1.0 - decay) as f32,
            f32::from_bits(slot as u32),
            1.0 / learned as f32,
        ]
    }

    /// Numbers of a prediction, padding included.
    pub fn predictions(&self) -> usize {
        self.batch * self.prediction.time * self.prediction.ld
    }

    /// The mean squared error on a batch of any size, of which `pass` predicts as much at once as fits.
    pub fn mean_squared_error<E>(
        &self,
        batch: &Batch,
        mut pass: impl FnMut(&[f32]) -> Result<Vec<f32>, E>,
    ) -> Result<f64, E> {
        let width = batch.target.len() / batch.len();
        let mut inputs = vec![0.0; self.inputs.len()];
        let mut sum = 0.0;
        for from in (0..batch.len()).step_by(self.batch) {
            self.inputs.write(batch, from, [0.0; SCALARS], &mut inputs);
            let predicted = pass(&inputs)?;
            let targets = batch.target[from * width..].chunks_exact(width / self.prediction.time);
            for (row, (predicted, target)) in
                predicted.chunks_exact(self.prediction.ld).zip(targets).enumerate()
            {
                let (sample, row) = (from + row / self.prediction.time, row % self.prediction.time);
                if batch.kept_rows(sample).contains(&row) {
                    continue;
                }
                let squares = predicted.iter().zip(target).map(|(is, want)| f64::from(is - want).powi(2));
                sum += squares.sum::<f64>();
            }
        }
        Ok(sum / batch.learned() as f64)
    }
}
