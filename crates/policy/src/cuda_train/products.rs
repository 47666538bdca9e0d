//! Layers as launches of matrix products, forward and back.

use super::arguments::{Arguments, Convolution, NONE, WeightGradient};
use super::layout::Place;
use super::program::{BLOCKS, Builder, Gradient, Layer, SAME_ROWS, Signal};

/// A sum over fewer steps of 64 numbers is not worth splitting; and each part is written and read once more.
const LEAST_STEPS: usize = 10;
const MOST_SPLITS: usize = 8;

impl Builder<'_> {
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
}
