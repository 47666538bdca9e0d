//! What lies between the products: norms, activations, and the sums that give the gradients of their parameters.

use super::arguments::{Activation, ActivationGradient, Arguments, ColumnSums, NONE, Norm, NormGradient};
use super::layout::Place;
use super::program::{Builder, Gradient, Layer, Signal};

/// Parts of the sums over samples that give the gradients of a norm's parameters and of biases.
const PARTS: usize = 32;

impl Builder<'_> {
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
