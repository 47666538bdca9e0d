//! A list of kernel launches, and the block of memory that they work in. It is made without a GPU, from sizes alone.

use super::arguments::{Adam, Arguments, Piece};
use super::layout::{Layout, Place};

/// Multiprocessors that a launch should keep busy. More only help; the split of sums, and so their rounding, must not
/// depend on the GPU.
pub(super) const BLOCKS: usize = 132;

/// Numbers of one parameter that a block of [`Adam`](super::arguments::Adam) updates.
pub(super) const PIECE: usize = 2048;

/// Shared memory that the largest of the kernels needs for a block.
pub(super) const SHARED_BYTES: usize = 1024 + 2 * (2 * (SAME_ROWS * 72 + 5 * 64 * 64) + 128);

/// Rows of a tile of `convolve_same`; it holds whole samples.
pub(super) const SAME_ROWS: usize = 128;

/// One kernel launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launch {
    pub kernel: &'static str,
    pub grid: [usize; 3],
    pub threads: usize,
    /// Dynamic shared memory.
    pub shared_bytes: usize,
    pub arguments: Arguments,
}

/// What happens next. Launches of one lane follow each other; lanes run side by side until one waits for the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Launch {
        lane: usize,
        launch: Launch,
    },
    /// `lane` goes on when all that was asked of lane `on` before is done.
    Wait {
        lane: usize,
        on: usize,
    },
}

/// Lanes: the chain of activations and their gradients, and what hangs on it without holding it up.
pub(super) const MAIN: usize = 0;
pub(super) const ASIDE: usize = 1;
pub(super) const UPDATE: usize = 2;
pub(super) const LANES: usize = 3;

/// bf16 `[samples, time, channels]`, rows `ld` numbers apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal {
    pub at: u64,
    pub ld: usize,
    pub channels: usize,
    pub time: usize,
}

impl Signal {
    /// `count` of its channels from `first` on.
    pub fn narrow(self, first: usize, count: usize) -> Self {
        Self { at: self.at + 2 * first as u64, channels: count, ..self }
    }
}

/// Where a parameter's gradient is: f32, in parts that are to be added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gradient {
    pub at: u64,
    pub splits: usize,
    /// Numbers between parts.
    pub split_stride: usize,
}

/// Weight and bias of a layer, and how it steps through time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub weight: Place,
    pub bias: Place,
    pub stride: usize,
    pub pad: usize,
    /// Makes time finer by `stride`, else coarser.
    pub transposed: bool,
}

/// Weights in memory: f32 for what is added and scaled, bf16 for what is multiplied.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightsAt {
    pub full: u64,
    pub halves: u64,
}

/// Adds launches to a list.
pub(super) struct Builder<'a> {
    pub layout: &'a Layout,
    pub weights: WeightsAt,
    pub samples: usize,
    pub groups: usize,
    pub acts: Vec<Act>,
    pub lane: usize,
    /// Of every parameter, once its launch is listed.
    pub gradients: Vec<Option<Gradient>>,
    /// Of the block in use.
    pub bytes: u64,
    pub counters: Counters,
    /// Only where parameters are to be updated.
    pub update: Option<Update>,
}

/// Room for u32 counters of finished blocks, which are 0 before and after every launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counters {
    pub at: u64,
    used: usize,
}

impl Counters {
    pub const COUNT: usize = 1 << 14;

    pub fn take(&mut self, count: usize) -> u64 {
        let at = self.at + 4 * self.used as u64;
        self.used += count;
        assert!(self.used <= Self::COUNT, "a network has fewer tiles that are summed in parts");
        at
    }
}

/// The optimiser, and what of its work is listed.
pub(super) struct Update {
    pub adam: Adam,
    pub pieces: Vec<Piece>,
    pub updated: Vec<bool>,
}

impl<'a> Builder<'a> {
    /// `bytes` of the block are already in use.
    pub fn new(
        layout: &'a Layout,
        weights: WeightsAt,
        counters: u64,
        samples: usize,
        groups: usize,
        bytes: u64,
    ) -> Self {
        let gradients = vec![None; layout.places().len()];
        let counters = Counters { at: counters, used: 0 };
        let (acts, lane, update) = (Vec::new(), MAIN, None);
        Self { layout, weights, samples, groups, acts, lane, gradients, bytes, counters, update }
    }

    /// Room for `count` numbers of `size` bytes.
    pub fn take(&mut self, count: usize, size: usize) -> u64 {
        let at = self.bytes.next_multiple_of(256);
        self.bytes = at + (count * size) as u64;
        at
    }

    pub fn signal(&mut self, time: usize, channels: usize) -> Signal {
        let at = self.take(self.samples * time * channels, 2);
        Signal { at, ld: channels, channels, time }
    }

    pub fn layer(&self, name: &str) -> Layer {
        let weight = self.layout.place(&format!("{name}.weight"));
        let bias = self.layout.place(&format!("{name}.bias"));
        Layer { weight, bias, stride: 1, pad: weight.taps / 2, transposed: false }
    }

    /// What follows runs beside the main lane, after what that has done so far.
    pub fn aside(&mut self) {
        self.wait(ASIDE, MAIN);
        self.lane = ASIDE;
    }

    pub fn wait(&mut self, lane: usize, on: usize) {
        self.acts.push(Act::Wait { lane, on });
    }

    pub fn launch(
        &mut self,
        kernel: &'static str,
        grid: [usize; 3],
        (threads, shared_bytes): (usize, usize),
        arguments: Arguments,
    ) {
        debug_assert!(shared_bytes <= SHARED_BYTES);
        let launch = Launch { kernel, grid, threads, shared_bytes, arguments };
        self.acts.push(Act::Launch { lane: self.lane, launch });
    }

    pub fn full(&self, place: Place) -> u64 {
        self.weights.full + 4 * place.index as u64
    }

    pub fn halves(&self, place: Place) -> u64 {
        self.weights.halves + 2 * place.index as u64
    }

    /// Updates, beside all else, the parameters whose gradients are listed and not yet used; nothing that follows in this
    /// step reads them.
    pub fn update(&mut self) {
        let Some(mut update) = self.update.take() else { return };
        let mut ready: Vec<(Place, Gradient)> = Vec::new();
        for (place, gradient) in self.layout.places().iter().zip(&self.gradients) {
            if let Some(gradient) = gradient.filter(|_| !update.updated[place.id]) {
                update.updated[place.id] = true;
                ready.push((*place, gradient));
            }
        }
        // Small ones first: those with the most parts to add are not the last to be finished.
        ready.sort_by_key(|(place, _)| place.len());
        let first = update.pieces.len();
        for (place, gradient) in ready {
            for start in (0..place.len()).step_by(PIECE) {
                update.pieces.push(Piece {
                    index: (place.index + start) as u64,
                    gradient: gradient.at + 4 * start as u64,
                    split_stride: gradient.split_stride as u64,
                    count: PIECE.min(place.len() - start) as u32,
                    splits: gradient.splits as u32,
                });
            }
        }
        let count = update.pieces.len() - first;
        if count > 0 {
            let pieces = update.adam.pieces + (first * size_of::<Piece>()) as u64;
            self.wait(UPDATE, MAIN);
            self.wait(UPDATE, ASIDE);
            self.lane = UPDATE;
            self.launch("adam", [count, 1, 1], (256, 0), Arguments::Adam(Adam { pieces, ..update.adam }));
            self.lane = MAIN;
        }
        self.update = Some(update);
    }
}
