//! How layers are laid out for products: which rows they read and write, and where their weights lie.

use super::product::{LANES, panels_len};

/// What a layer does to the time axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `[Cout, Cin, K]`, padded to keep the length, which a stride divides.
    Convolution { stride: usize },
    /// `[Cin, Cout, 4]` with stride 2 and padding 1: doubles the length.
    Transposed,
}

/// Part of a layer that is one product: output rows `start + i * stride` from the windows of input that begin at row
/// `input_start + i * input_stride`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    /// The kernel's taps in the order of the window.
    pub taps: Vec<usize>,
    pub input_start: isize,
    pub input_stride: usize,
    pub start: usize,
    pub stride: usize,
}

/// A layer with weight and bias.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub kind: Kind,
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub forward: Vec<Phase>,
    /// From gradients of the output to those of the input.
    pub backward: Vec<Phase>,
    /// Where the forward panels begin among all values, and the backward ones among all turned weights.
    pub weight: usize,
    pub turned: usize,
    pub bias: usize,
}

impl Layer {
    pub fn new(kind: Kind, [input, output, kernel]: [usize; 3], [weight, turned, bias]: [usize; 3]) -> Self {
        let one = |taps: Vec<usize>, input_start: isize, input_stride: usize| Phase {
            taps,
            input_start,
            input_stride,
            start: 0,
            stride: 1,
        };
        let half = |taps: &[usize], input_start: isize, start: usize| Phase {
            taps: taps.to_vec(),
            input_start,
            input_stride: 1,
            start,
            stride: 2,
        };
        let padding = (kernel / 2) as isize;
        let (forward, backward) = match kind {
            Kind::Convolution { stride: 1 } => (
                vec![one((0..kernel).collect(), -padding, 1)],
                vec![one((0..kernel).rev().collect(), -padding, 1)],
            ),
            // With stride 2, 3 taps and padding 1, even steps are seen by the middle tap alone, odd ones by the others.
            Kind::Convolution { .. } => {
                (vec![one(vec![0, 1, 2], -1, 2)], vec![half(&[1], 0, 0), half(&[2, 0], 0, 1)])
            }
            // Step `t` reaches `2 t + tap - 1`.
            Kind::Transposed => {
                (vec![half(&[3, 1], -1, 0), half(&[2, 0], 0, 1)], vec![one(vec![0, 1, 2, 3], -1, 2)])
            }
        };
        Self { kind, input, output, kernel, forward, backward, weight, turned, bias }
    }

    /// Numbers of the forward panels, and of the turned ones.
    pub fn lens(&self) -> [usize; 2] {
        let len = |phases: &[Phase], from: usize, to: usize| {
            phases.iter().map(|phase| panels_len(phase.taps.len() * from, to)).sum()
        };
        [len(&self.forward, self.input, self.output), len(&self.backward, self.output, self.input)]
    }

    /// Visits every weight: its place in the parameter as the reference has it, and in the forward panels.
    pub fn places(&self, mut visit: impl FnMut(usize, usize)) {
        let mut begin = 0;
        for phase in &self.forward {
            let depth = phase.taps.len() * self.input;
            for (position, tap) in phase.taps.iter().enumerate() {
                for input in 0..self.input {
                    for output in 0..self.output {
                        let outer = match self.kind {
                            Kind::Convolution { .. } => output * self.input + input,
                            Kind::Transposed => input * self.output + output,
                        };
                        let row = output / LANES * depth + position * self.input + input;
                        visit(outer * self.kernel + tap, begin + row * LANES + output % LANES);
                    }
                }
            }
            begin += panels_len(depth, self.output);
        }
    }

    /// Fills the backward panels from the forward ones: blocks of a tap are turned, inputs becoming outputs.
    pub fn turn(&self, forward: &[f32], turned: &mut [f32]) {
        let mut begin = 0;
        for phase in &self.backward {
            let depth = phase.taps.len() * self.output;
            for (position, tap) in phase.taps.iter().enumerate() {
                let (source, source_depth) = self.forward_block(*tap);
                for input in (0..self.input).step_by(LANES) {
                    let inputs = LANES.min(self.input - input);
                    for output in (0..self.output).step_by(LANES) {
                        let outputs = LANES.min(self.output - output);
                        let from = source + (output / LANES * source_depth + input) * LANES;
                        let to = begin + (input / LANES * depth + position * self.output + output) * LANES;
                        let block = &forward[from..from + inputs * LANES];
                        let rows = turned[to..to + outputs * LANES].chunks_exact_mut(LANES);
                        for (lane, row) in rows.enumerate() {
                            for (value, source) in row[..inputs].iter_mut().zip(block.chunks_exact(LANES)) {
                                *value = source[lane];
                            }
                        }
                    }
                }
            }
            begin += panels_len(depth, self.input);
        }
    }

    /// Where the rows of a tap begin in the first forward panel of its phase, and how many rows a panel has.
    fn forward_block(&self, tap: usize) -> (usize, usize) {
        let mut begin = 0;
        for phase in &self.forward {
            let depth = phase.taps.len() * self.input;
            if let Some(position) = phase.taps.iter().position(|other| *other == tap) {
                return (begin + position * self.input * LANES, depth);
            }
            begin += panels_len(depth, self.output);
        }
        unreachable!("every tap belongs to a phase");
    }
}
