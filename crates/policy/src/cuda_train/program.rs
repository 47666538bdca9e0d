//! A list of kernel launches, and the block of memory that they work in. It is made without a GPU, from sizes alone.

use super::arguments::{
    Activation, ActivationGradient, Adam, Arguments, ColumnSums, Convolution, NONE, Norm, NormGradient,
    Piece, WeightGradient,
};
use super::layout::{Layout, Place};

/// Multiprocessors that a launch should keep busy. More only help; the split of sums, and so their rounding, must not
/// depend on the GPU.
const BLOCKS: usize = 132;

/// Numbers of one parameter that a block of [`Adam`](super::arguments::Adam) updates.
pub(super) const PIECE: usize = 2048;

/// Shared memory that the largest of the kernels needs for a block.
pub(super) const SHARED_BYTES: usize = 1024 + 2 * (2 * (SAME_ROWS * 72 + 5 * 64 * 64) + 128);

/// Rows of a tile of `convolve_same`; it holds whole samples.
const SAME_ROWS: usize = 128;

/// A sum over fewer steps of 64 numbers is not worth splitting; and each part is written and read once more.
const LEAST_STEPS: usize = 10;
const MOST_SPLITS: usize = 8;

/// Parts of the sums over samples that give the gradients of a norm's parameters and of biases.
const PARTS: usize = 32;

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
    counters: Counters,
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

    fn take(&mut self, count: usize) -> u64 {
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

    fn halves(&self, place: Place) -> u64 {
        self.weights.halves + 2 * place.index as u64
    }

    /// `output = layer(input)`, as bf16; as f32 when `f32`.
    pub fn convolve(&mut self, layer: Layer, input: Signal, output: Signal, f32: bool) {
        let weight = layer.weight;
        let arguments = Convolution {
            input: input.at,
            weight: self.halves(weight),
            output: output.at,
            bias: self.full(layer.bias),
            addends: [NONE; 2],
            split_stride: 0,
            workspace: NONE,
            counters: NONE,
            rows: (self.samples * output.time) as i32,
            n: weight.outputs as i32,
            k: weight.inputs as i32,
            ld_input: input.ld as i32,
            ld_weight: weight.inputs as i32,
            ld_output: output.ld as i32,
            ld_addends: [0; 2],
            taps: weight.taps as i32,
            tap_stride: (weight.outputs * weight.inputs) as i32,
            t_out: output.time as i32,
            t_in: input.time as i32,
            stride: layer.stride as i32,
            pad: layer.pad as i32,
            transposed: i32::from(layer.transposed),
            splits: 1,
            f32: i32::from(f32),
        };
        self.product(false, arguments);
    }

    /// The slope by a layer's input from the slope by its output, plus `addends`.
    pub fn convolve_back(&mut self, layer: Layer, slope: Signal, output: Signal, addends: &[Signal]) {
        let mut arguments = self.back(layer, slope, output);
        for (index, addend) in addends.iter().enumerate() {
            arguments.addends[index] = addend.at;
            arguments.ld_addends[index] = addend.ld as i32;
        }
        self.product(true, arguments);
    }

    /// The same for the first `n` inputs of a linear layer, as f32 parts to be added: `[parts, samples, n]`.
    pub fn linear_back(&mut self, layer: Layer, slope: Signal, n: usize) -> Gradient {
        let tiles = self.samples.div_ceil(64) * n.div_ceil(128);
        let chunks = layer.weight.outputs.div_ceil(64);
        let splits = (BLOCKS / tiles).clamp(1, chunks.div_ceil(4));
        let split_stride = self.samples * n;
        let at = self.take(splits * split_stride, 4);
        let mut arguments = self.back(layer, slope, Signal { at, ld: n, channels: n, time: 1 });
        (arguments.n, arguments.f32) = (n as i32, 1);
        (arguments.splits, arguments.split_stride) = (splits as i32, split_stride as u64);
        self.product(true, arguments);
        Gradient { at, splits, split_stride }
    }

    fn back(&self, layer: Layer, slope: Signal, output: Signal) -> Convolution {
        let weight = layer.weight;
        Convolution {
            input: slope.at,
            weight: self.halves(weight),
            output: output.at,
            bias: NONE,
            addends: [NONE; 2],
            split_stride: 0,
            workspace: NONE,
            counters: NONE,
            rows: (self.samples * output.time) as i32,
            n: weight.inputs as i32,
            k: weight.outputs as i32,
            ld_input: slope.ld as i32,
            ld_weight: weight.inputs as i32,
            ld_output: output.ld as i32,
            ld_addends: [0; 2],
            taps: weight.taps as i32,
            tap_stride: (weight.outputs * weight.inputs) as i32,
            t_out: output.time as i32,
            t_in: slope.time as i32,
            stride: layer.stride as i32,
            pad: layer.pad as i32,
            transposed: i32::from(!layer.transposed),
            splits: 1,
            f32: 0,
        }
    }

    fn product(&mut self, back: bool, mut arguments: Convolution) {
        let [rows, n, time] = [arguments.rows, arguments.n, arguments.t_out].map(|size| size as usize);
        let same = match (arguments.taps, back) {
            (1, false) => Some(("convolve_same_1", 4)),
            (1, true) => Some(("convolve_same_back_1", 4)),
            (3, false) => Some(("convolve_same_3", 2)),
            (3, true) => Some(("convolve_same_back_3", 2)),
            (5, false) => Some(("convolve_same_5", 2)),
            (5, true) => Some(("convolve_same_back_5", 2)),
            _ => None,
        };
        let whole = time.is_power_of_two() && time <= SAME_ROWS;
        if let Some((kernel, stages)) = same
            && (arguments.stride == 1 && arguments.splits == 1 && whole)
        {
            let grid = [n.div_ceil(64), rows.div_ceil(SAME_ROWS)];
            let chunks = (arguments.k as usize).div_ceil(64);
            let blocks = grid[0] * grid[1];
            if arguments.f32 == 0 {
                let worthwhile = chunks.min(chunks * arguments.taps as usize / LEAST_STEPS).min(MOST_SPLITS);
                arguments.splits = (BLOCKS / blocks).clamp(1, worthwhile.max(1)) as i32;
            }
            let splits = arguments.splits as usize;
            if splits > 1 {
                arguments.workspace = self.take(blocks * splits * SAME_ROWS * 64, 4);
                arguments.counters = self.counters.take(blocks);
            }
            let stage = SAME_ROWS * 72 + arguments.taps as usize * 64 * 64;
            let shared_bytes = 1024 + 2 * (stages * stage + 128);
            let arguments = Arguments::Convolution(arguments);
            return self.launch(kernel, [grid[0], grid[1], splits], (256, shared_bytes), arguments);
        }
        let (kernel, weights) = if back { ("convolve_back_64", 64 * 136) } else { ("convolve_64", 128 * 72) };
        let shared_bytes = 3 * 2 * (64 * 72 + weights);
        let grid = [n.div_ceil(128), rows.div_ceil(64), arguments.splits as usize];
        self.launch(kernel, grid, (128, shared_bytes), Arguments::Convolution(arguments));
    }

    /// The gradient of a layer's weights from the slope by its output.
    pub fn weight_gradient(&mut self, layer: Layer, slope: Signal, input: Signal) {
        let Place { taps, outputs, inputs, id, .. } = layer.weight;
        self.gradients[id] = Some(self.products_of_columns(layer, [taps, outputs, inputs], slope, input));
    }

    /// `[parts, taps, outputs, inputs]`
    pub fn products_of_columns(
        &mut self,
        layer: Layer,
        [taps, outputs, inputs]: [usize; 3],
        slope: Signal,
        input: Signal,
    ) -> Gradient {
        let (coarse, fine) = if layer.transposed { (input, slope) } else { (slope, input) };
        let rows = self.samples * coarse.time;
        let together = match taps {
            1 => Some("weights_of_1_tap"),
            3 => Some("weights_of_3_taps"),
            5 => Some("weights_of_5_taps"),
            _ => None,
        };
        let together =
            together.filter(|_| layer.stride == 1 && fine.time.is_power_of_two() && fine.time <= 16);
        let (kernel, tiles, threads, shared_bytes) = match together {
            Some(kernel) => {
                let tiles = outputs.div_ceil(64) * inputs.div_ceil(64);
                (kernel, tiles, 128, 1024 + 2 * (4 * 64 * (64 + 72) + 128))
            }
            None => {
                let tiles = taps * outputs.div_ceil(128) * inputs.div_ceil(128);
                ("convolve_weights", tiles, 256, 3 * 2 * 2 * 64 * 136)
            }
        };
        let splits = (2 * BLOCKS / tiles).clamp(1, rows.div_ceil(64).div_ceil(4)).min(MOST_SPLITS);
        let split_stride = taps * outputs * inputs;
        let gradient = Gradient { at: self.take(splits * split_stride, 4), splits, split_stride };
        let arguments = WeightGradient {
            slope: slope.at,
            input: input.at,
            output: gradient.at,
            split_stride: split_stride as u64,
            rows: rows as i32,
            m: outputs as i32,
            n: inputs as i32,
            ld_slope: slope.ld as i32,
            ld_input: input.ld as i32,
            taps: taps as i32,
            t_coarse: coarse.time as i32,
            t_fine: fine.time as i32,
            stride: layer.stride as i32,
            pad: layer.pad as i32,
            slope_is_fine: i32::from(layer.transposed),
            splits: splits as i32,
        };
        let arguments = Arguments::WeightGradient(arguments);
        self.launch(kernel, [tiles, 1, splits], (threads, shared_bytes), arguments);
        gradient
    }

    /// The gradient of a bias: the slope's sum over samples and time.
    pub fn bias_gradient(&mut self, bias: Place, slope: Signal) {
        self.gradients[bias.id] = Some(self.sums_of_columns(slope));
    }

    pub fn sums_of_columns(&mut self, slope: Signal) -> Gradient {
        let rows = self.samples * slope.time;
        let parts = PARTS.min(rows.div_ceil(8));
        let at = self.take(parts * slope.channels, 4);
        let arguments = ColumnSums {
            input: slope.at,
            output: at,
            split_stride: slope.channels as u64,
            rows: rows as i32,
            columns: slope.channels as i32,
            ld: slope.ld as i32,
            parts: parts as i32,
        };
        let grid = [slope.channels.div_ceil(256), parts, 1];
        self.launch("sum_columns", grid, (256, 0), Arguments::ColumnSums(arguments));
        Gradient { at, splits: parts, split_stride: slope.channels }
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

    /// Group norm, Mish, then FiLM with `film` = first column, columns in all, and whether there are scales; then `residual`.
    pub fn norm(
        &mut self,
        layer: Layer,
        input: Signal,
        output: Signal,
        film: Film,
        residual: Option<Signal>,
    ) {
        let group = input.channels / self.groups;
        let arguments = Norm {
            input: input.at,
            output: output.at,
            gamma: self.full(layer.weight),
            beta: self.full(layer.bias),
            film: film.at,
            residual: residual.map_or(NONE, |residual| residual.at),
            samples: self.samples as i32,
            t: input.time as i32,
            channels: input.channels as i32,
            group: group as i32,
            ld_output: output.ld as i32,
            ld_film: film.ld as i32,
            ld_residual: residual.map_or(0, |residual| residual.ld as i32),
            film_scales: i32::from(film.scales),
        };
        let kernel = match norm_shape(group, input.time) {
            (4, _) => "norm_4x1",
            (_, 1) => "norm_8x1",
            (_, 2) => "norm_8x2",
            _ => "norm_8x4",
        };
        let blocks = (self.samples * self.groups).div_ceil(8);
        self.launch(kernel, [blocks, 1, 1], (256, 0), Arguments::Norm(arguments));
    }

    /// The slope by the norm's input from that by its output, and the gradients of the norm and of the bias before it.
    pub fn norm_back(&mut self, layer: Layer, bias: Place, [input, slope, output]: [Signal; 3], film: Film) {
        let (channels, group) = (input.channels, input.channels / self.groups);
        let parts = PARTS.min(self.samples.div_ceil(8));
        let mut sums = || {
            let at = self.take(parts * channels, 4);
            Gradient { at, splits: parts, split_stride: channels }
        };
        let [gamma_slope, beta_slope, bias_slope] = [sums(), sums(), sums()];
        for (place, gradient) in [(layer.weight, gamma_slope), (layer.bias, beta_slope), (bias, bias_slope)] {
            self.gradients[place.id] = Some(gradient);
        }
        let arguments = NormGradient {
            input: input.at,
            slope: slope.at,
            output: output.at,
            gamma: self.full(layer.weight),
            beta: self.full(layer.bias),
            film: film.at,
            film_slope: film.slope_at,
            gamma_slope: gamma_slope.at,
            beta_slope: beta_slope.at,
            bias_slope: bias_slope.at,
            split_stride: channels as u64,
            samples: self.samples as i32,
            t: input.time as i32,
            channels: channels as i32,
            group: group as i32,
            ld_slope: slope.ld as i32,
            ld_film: film.ld as i32,
            film_scales: i32::from(film.scales),
            parts: parts as i32,
        };
        let kernel = match norm_shape(group, input.time) {
            (4, _) => "norm_back_4x1",
            (_, 1) => "norm_back_8x1",
            (_, 2) => "norm_back_8x2",
            _ => "norm_back_8x4",
        };
        self.launch(kernel, [self.groups, parts, 1], (256, 0), Arguments::NormGradient(arguments));
    }

    /// Mish.
    pub fn activate(&mut self, input: Signal, output: Signal) {
        let (rows, columns) = (self.samples * input.time, input.channels);
        let arguments = Activation {
            input: input.at,
            output: output.at,
            rows: rows as i32,
            columns: columns as i32,
            ld_input: input.ld as i32,
            ld_output: output.ld as i32,
        };
        let blocks = (rows * columns).div_ceil(256);
        self.launch("activate", [blocks, 1, 1], (256, 0), Arguments::Activation(arguments));
    }

    /// The slope by the input of Mish, from parts of the slope by its output.
    pub fn activate_back(&mut self, slope: Gradient, input: Signal, output: Signal) {
        let (rows, columns) = (self.samples * input.time, input.channels);
        let arguments = ActivationGradient {
            slope: slope.at,
            input: input.at,
            output: output.at,
            split_stride: slope.split_stride as u64,
            rows: rows as i32,
            columns: columns as i32,
            ld_slope: columns as i32,
            ld_input: input.ld as i32,
            ld_output: output.ld as i32,
            splits: slope.splits as i32,
        };
        let blocks = (rows * columns).div_ceil(256);
        self.launch("activate_back", [blocks, 1, 1], (256, 0), Arguments::ActivationGradient(arguments));
    }
}

/// What FiLM takes from the encoders' outputs, and where their slopes go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Film {
    pub at: u64,
    pub slope_at: u64,
    pub ld: usize,
    pub scales: bool,
}

impl Film {
    pub const ABSENT: Self = Self { at: NONE, slope_at: NONE, ld: 0, scales: false };
}

/// Neighbouring channels that a lane holds at once, and how many times it does: the smallest kernel that fits.
fn norm_shape(group: usize, time: usize) -> (usize, usize) {
    let width = if group.is_multiple_of(8) { 8 } else { 4 };
    (width, (group * time).div_ceil(32 * width).next_power_of_two())
}

/// # Errors
/// Why no kernel norms groups of this many channels over this many steps.
pub(super) fn norm_fits(group: usize, time: usize) -> Result<(), String> {
    let (width, vectors) = norm_shape(group, time);
    if !group.is_power_of_two() || !(4..=256).contains(&group) {
        return Err(format!("groups of {group} channels, not of 4, 8, 16, 32, 64, 128 or 256"));
    }
    if vectors > if width == 8 { 4 } else { 1 } {
        return Err(format!("groups of {group} channels over {time} steps are too large"));
    }
    Ok(())
}
