//! The U-Net with packed weights, and its forward pass in a workspace.

mod build;

use super::film::Film;
use super::machine::Machine;
use super::memory::Aligned;
use super::pack::Convolution;
use super::pool::Pool;
use super::rows::{After, Normalise};
use super::signal::{Signal, padded};

/// What all engines of a checkpoint share.
pub(super) struct Network {
    pub machine: Machine,
    pub film: Film,
    pub predicted: usize,
    pub action_dim: usize,
    groups: usize,
    /// Zero steps around every signal.
    halo: usize,
    /// The largest integer in a word.
    limit: f32,
    down: Vec<Level>,
    mid: [Residual; 2],
    up: Vec<Level>,
    last_block: Block,
    last: Convolution,
}

/// Convolution, group norm, Mish.
struct Block {
    convolution: Convolution,
    scale: Aligned,
    shift: Aligned,
}

/// Two [`Block`]s with FiLM between them, and a shortcut.
struct Residual {
    blocks: [Block; 2],
    /// Where its FiLM parameters begin.
    film: usize,
    shortcut: Option<Convolution>,
}

/// Two residual blocks, and a change of resolution.
struct Level {
    blocks: [Residual; 2],
    resample: Option<Convolution>,
}

/// Signals by their place in a workspace: two by turns, what is inside a residual block, and from `SKIPS` on what skips
/// the coarser levels.
const HIDDEN: usize = 2;
const SKIPS: usize = 3;

/// The memory of a plan.
pub(super) struct Workspace {
    batch: usize,
    signals: Vec<Signal>,
    /// Rows that leave a convolution, and those of a shortcut.
    sums: Aligned,
    shortcut: Aligned,
    scratch: Aligned,
    features: Vec<f32>,
    /// FiLM parameters of the batch's conditions, `[B, width]`.
    of_condition: Aligned,
}

impl Network {
    /// Every shape (channels, length) that a signal takes.
    fn shapes(&self) -> Vec<(usize, usize)> {
        let mut shapes = vec![(self.action_dim, self.predicted)];
        for (index, level) in self.down.iter().enumerate() {
            let channels = level.blocks[0].channels();
            shapes.push((channels, self.predicted >> index));
            // Going down, the next level begins with these channels; coming up, this one ends at twice the length.
            shapes.push((channels, self.predicted >> (index + 1)));
        }
        shapes
    }

    /// A workspace for plans of up to `batch` samples.
    pub fn workspace(&self, batch: usize) -> Workspace {
        let shapes = self.shapes();
        let rows = shapes.iter().map(|(channels, length)| padded(*channels) * length).max().unwrap_or(0);
        let widest = shapes.iter().map(|(channels, _)| padded(*channels)).max().unwrap_or(0);
        Workspace {
            batch,
            signals: (0..SKIPS + self.down.len())
                .map(|_| Signal::with_room(&shapes, self.halo, batch))
                .collect(),
            sums: Aligned::zeroed(batch * rows),
            shortcut: Aligned::zeroed(batch * rows),
            scratch: Aligned::zeroed(4 * widest),
            features: vec![0.0; self.film.condition()],
            of_condition: Aligned::zeroed(batch * self.film.width()),
        }
    }

    /// Prepares for forward passes under conditions `[B, To * Do]`.
    pub fn condition(&self, work: &mut Workspace, conditions: &[f32], batch: usize) {
        let Workspace { features, of_condition, .. } = work;
        let width = features.len();
        for (sample, output) in
            of_condition.numbers_mut().chunks_exact_mut(self.film.width()).take(batch).enumerate()
        {
            let condition = &conditions[sample * width..(sample + 1) * width];
            self.film.of_condition(&self.machine, condition, features, output);
        }
    }

    /// The network's output for noisy `samples` `[B, Tp, Da]` at the step whose FiLM parameters `of_step` are: rows
    /// `[B, Tp, padded Da]`.
    pub fn forward<'a>(
        &self,
        work: &'a mut Workspace,
        pool: Option<&mut Pool>,
        of_step: &[f32],
        samples: &[f32],
    ) -> &'a [f32] {
        let batch = samples.len() / (self.predicted * self.action_dim);
        let rows = work.signals[0].reshape(self.action_dim, self.predicted, batch);
        let columns = padded(self.action_dim);
        for (row, sample) in rows.chunks_exact_mut(columns).zip(samples.chunks_exact(self.action_dim)) {
            row[..self.action_dim].copy_from_slice(sample);
            row[self.action_dim..].fill(0.0);
        }
        let mut pass = Forward { network: self, work, pool, of_step, batch };
        pass.make_words(0);
        let mut now = 0;
        let mut length = self.predicted;
        for (index, level) in self.down.iter().enumerate() {
            let skip = SKIPS + index;
            pass.residual(&level.blocks[0], &[now], 1 - now);
            pass.residual(&level.blocks[1], &[1 - now], skip);
            now = skip;
            if let Some(convolution) = &level.resample {
                length /= 2;
                now = 0;
                pass.resample(convolution, skip, length, now);
            }
        }
        pass.residual(&self.mid[0], &[now], 0);
        pass.residual(&self.mid[1], &[0], 1);
        now = 1;
        for (level, skip) in self.up.iter().zip((0..self.down.len()).rev().map(|index| SKIPS + index)) {
            pass.residual(&level.blocks[0], &[now, skip], 1 - now);
            pass.residual(&level.blocks[1], &[1 - now], now);
            if let Some(convolution) = &level.resample {
                length *= 2;
                pass.resample(convolution, now, length, 1 - now);
                now = 1 - now;
            }
        }
        pass.block(&self.last_block, &[now], Then::Nothing, 1 - now);
        self.last.run(&self.machine, None, &[&work.signals[1 - now]], batch, length, work.sums.numbers_mut());
        &work.sums.numbers()[..batch * length * columns]
    }
}

impl Residual {
    fn channels(&self) -> usize {
        self.blocks[0].convolution.output_channels
    }
}

impl Workspace {
    /// Samples that it has room for.
    pub fn batch(&self) -> usize {
        self.batch
    }
}

/// One pass through the network. Signals are named by their place in the workspace.
struct Forward<'a> {
    network: &'a Network,
    work: &'a mut Workspace,
    pool: Option<&'a mut Pool>,
    of_step: &'a [f32],
    batch: usize,
}

/// What follows a block's Mish.
enum Then {
    Nothing,
    /// FiLM, with parameters from this one on.
    Film(usize),
    /// The shortcut's rows are added.
    AddShortcut,
    /// A signal's rows are added.
    AddSignal(usize),
}

impl Forward<'_> {
    fn make_words(&mut self, signal: usize) {
        let Network { machine, limit, .. } = self.network;
        self.work.signals[signal].make_words(machine, self.batch, *limit);
    }

    fn residual(&mut self, residual: &Residual, inputs: &[usize], output: usize) {
        self.block(&residual.blocks[0], inputs, Then::Film(residual.film), HIDDEN);
        let then = match &residual.shortcut {
            Some(convolution) => {
                let Workspace { signals, shortcut, .. } = &mut *self.work;
                let (length, rows) = (signals[HIDDEN].length, shortcut.numbers_mut());
                convolution.run(
                    &self.network.machine,
                    self.pool.as_deref_mut(),
                    &parts(signals, inputs),
                    self.batch,
                    length,
                    rows,
                );
                Then::AddShortcut
            }
            None => Then::AddSignal(inputs[0]),
        };
        self.block(&residual.blocks[1], &[HIDDEN], then, output);
    }

    fn block(&mut self, block: &Block, inputs: &[usize], then: Then, output: usize) {
        let Network { machine, groups, film, .. } = self.network;
        let Workspace { signals, sums, shortcut, scratch, of_condition, .. } = &mut *self.work;
        let length = signals[inputs[0]].length;
        let channels = block.convolution.output_channels;
        let columns = padded(channels);
        block.convolution.run(
            machine,
            self.pool.as_deref_mut(),
            &parts(signals, inputs),
            self.batch,
            length,
            sums.numbers_mut(),
        );
        let mut target = std::mem::take(&mut signals[output]);
        let rows = target.reshape(channels, length, self.batch).chunks_exact_mut(length * columns);
        for (sample, (output, rows)) in rows.zip(sums.numbers().chunks_exact(length * columns)).enumerate() {
            let own = sample * length * columns..(sample + 1) * length * columns;
            let after = match then {
                Then::Nothing => After::Nothing,
                Then::Film(first) => {
                    let of_condition: &[f32] = &of_condition.numbers()[sample * film.width()..];
                    After::Film(
                        [&self.of_step[first..], &of_condition[first..]].map(|all| &all[..2 * columns]),
                    )
                }
                Then::AddShortcut => After::Add(&shortcut.numbers()[own]),
                Then::AddSignal(input) => After::Add(&signals[input].rows.numbers()[own]),
            };
            let (scale, shift) = (block.scale.numbers(), block.shift.numbers());
            let scratch = &mut scratch.numbers_mut()[..4 * columns];
            machine.run(Normalise { channels, groups: *groups, scale, shift, rows, after, output, scratch });
        }
        signals[output] = target;
        self.make_words(output);
    }

    fn resample(&mut self, convolution: &Convolution, input: usize, length: usize, output: usize) {
        let signals = &mut self.work.signals;
        let mut target = std::mem::take(&mut signals[output]);
        let rows = target.reshape(convolution.output_channels, length, self.batch);
        convolution.run(
            &self.network.machine,
            self.pool.as_deref_mut(),
            &[&signals[input]],
            self.batch,
            length,
            rows,
        );
        signals[output] = target;
        self.make_words(output);
    }
}

/// One input, or two side by side.
fn parts<'a>(signals: &'a [Signal], inputs: &[usize]) -> [&'a Signal; 2] {
    [&signals[inputs[0]], &signals[inputs[inputs.len() - 1]]]
}
