//! Weights in the order in which a convolution reads them, and the convolution.

use super::kernel::LANES;
use super::machine::{Lines, Machine};
use super::memory::Aligned;
use super::pool::Pool;
use super::signal::{Signal, padded};
use super::sweep::Sweep;
use super::tile::Tile;
use crate::engine::{bf16, int8, largest};

/// A convolution with packed weights.
pub(super) struct Convolution {
    pub output_channels: usize,
    /// Output steps written by one pass are this far apart: 2 where even and odd steps are passes of their own.
    interleave: usize,
    /// For each of the interleaved steps.
    passes: Vec<Pass>,
    bias: Aligned,
}

/// What one sweep adds up.
struct Pass {
    /// Which input it reads.
    part: usize,
    taps: usize,
    stride: usize,
    pad: Option<usize>,
    /// Steps before the signal's first one where the first output begins to read.
    before: isize,
    /// The first output step written.
    phase: usize,
    /// Whether it adds to what an earlier pass wrote.
    adds: bool,
    words: usize,
    /// `[blocks, words, taps]` lines.
    weights: Aligned,
    /// One an output channel.
    scales: Aligned,
    largest_sum: u64,
}

/// Geometry of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) enum Geometry {
    /// Odd taps around every `stride`-th step.
    Centered { taps: usize, stride: usize },
    /// Four taps, every step becomes two: `ConvTranspose1d(kernel 4, stride 2, padding 1)`.
    Doubling,
}

impl Convolution {
    /// `weight(output, input, tap)` over all input channels, which come in `parts`.
    pub fn pack(
        machine: &Machine,
        geometry: Geometry,
        parts: &[usize],
        bias: &[f32],
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let outputs = bias.len();
        let mut passes: Vec<Pass> = Vec::new();
        let mut add = |phase: usize, taps: &[usize], stride: usize, pad: Option<usize>, before: isize| {
            let mut first = 0;
            for (part, channels) in parts.iter().enumerate() {
                let adds = passes.iter().any(|pass| pass.phase == phase);
                let lines = Packed::new(machine, outputs, *channels, taps, |output, input, tap| {
                    weight(output, first + input, tap)
                });
                passes.push(Pass {
                    part,
                    taps: taps.len(),
                    stride,
                    pad,
                    before,
                    phase,
                    adds,
                    words: channels.div_ceil(machine.words.channels()),
                    weights: lines.weights,
                    scales: lines.scales,
                    largest_sum: lines.largest_sum,
                });
                first += channels;
            }
        };
        let interleave = match geometry {
            Geometry::Centered { taps, stride } => {
                let pad = taps / 2;
                let mut first = 0;
                while first < taps {
                    let count = match taps - first {
                        left if stride == 2 => left,
                        5.. => 5,
                        3.. => 3,
                        left => left,
                    };
                    let whole = (count == taps).then_some(pad);
                    let run: Vec<usize> = (first..first + count).collect();
                    add(0, &run, stride, whole, pad as isize - first as isize);
                    first += count;
                }
                1
            }
            Geometry::Doubling => {
                // Step 2 t reads steps t - 1 and t, step 2 t + 1 reads t and t + 1.
                add(0, &[3, 1], 1, Some(1), 1);
                add(1, &[2, 0], 1, Some(0), 0);
                2
            }
        };
        let mut padded_bias = Aligned::zeroed(padded(outputs));
        padded_bias.numbers_mut()[..outputs].copy_from_slice(bias);
        Self { output_channels: outputs, interleave, passes, bias: padded_bias }
    }

    /// The largest sum of absolute weights that an output has, where these are integers.
    pub fn largest_sum(&self) -> u64 {
        self.passes.iter().map(|pass| pass.largest_sum).max().unwrap_or(0)
    }

    /// Writes rows `[B, steps, padded channels]`, with the help of a pool if there is one.
    pub fn run(
        &self,
        machine: &Machine,
        mut pool: Option<&mut Pool>,
        inputs: &[&Signal],
        batch: usize,
        steps: usize,
        rows: &mut [f32],
    ) {
        let columns = padded(self.output_channels);
        assert!(rows.len() >= batch * steps * columns, "rows for fewer outputs");
        let blocks = columns / LANES;
        let length = steps / self.interleave;
        for pass in &self.passes {
            let input = inputs[pass.part];
            let row = input.row();
            assert!(
                input.length == length * pass.stride
                    && input.words(machine) == pass.words
                    && input.batch >= batch,
                "a signal of another shape"
            );
            let words: &[u32] = input.words.numbers();
            assert!(words.len() >= batch * pass.words * row);
            assert!(pass.before <= input.halo as isize);
            let first = (input.halo as isize - pass.before) as usize;
            assert!(first + (length - 1) * pass.stride + pass.taps <= row, "taps beyond the padding");
            let weights: &[u32] = pass.weights.numbers();
            let block = pass.words * pass.taps * machine.line;
            assert!(weights.len() * 4 >= blocks * block);
            let (bias, scales): (&[f32], &[f32]) = (self.bias.numbers(), pass.scales.numbers());
            assert!(bias.len() >= columns && scales.len() >= columns && input.factors.len() >= batch);
            let over = Sweep {
                taps: pass.taps,
                stride: pass.stride,
                pad: pass.pad,
                blocks,
                batch,
                length,
                origin: Tile {
                    signal: words[first..].as_ptr(),
                    words: pass.words,
                    row,
                    signal_sample: pass.words * row,
                    weights: weights.as_ptr().cast(),
                    weights_block: block,
                    bias: (!pass.adds).then_some(bias.as_ptr()),
                    scales: scales.as_ptr(),
                    factors: input.factors.as_ptr(),
                    output: rows[pass.phase * columns..].as_mut_ptr(),
                    output_step: self.interleave * columns,
                    output_sample: steps * columns,
                },
            };
            // SAFETY: what the sweep spans of signal, weights, bias, scales, factors and rows was checked just above.
            unsafe {
                match &mut pool {
                    Some(pool) => pool.sweep(machine, &over),
                    None => machine.sweep(&over),
                }
            }
        }
    }
}

/// The lines of one pass.
struct Packed {
    weights: Aligned,
    scales: Aligned,
    largest_sum: u64,
}

impl Packed {
    fn new(
        machine: &Machine,
        outputs: usize,
        inputs: usize,
        taps: &[usize],
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let columns = padded(outputs);
        let pair = machine.words.channels();
        let words = inputs.div_ceil(pair);
        let at = |output: usize, input: usize, tap: usize| {
            if output < outputs && input < inputs { weight(output, input, tap) } else { 0.0 }
        };
        let mut scales = Aligned::zeroed(columns);
        if machine.lines == Lines::Int8Pairs {
            for (output, scale) in scales.numbers_mut::<f32>().iter_mut().enumerate() {
                let all = (0..inputs).flat_map(|input| taps.iter().map(move |tap| at(output, input, *tap)));
                *scale = largest(all) / 127.0;
            }
        }
        let mut weights = Aligned::zeroed((columns * words * taps.len()).div_ceil(LANES) * machine.line / 4);
        let mut sums = vec![0; columns];
        let size = machine.line / (LANES * pair);
        let mut places = weights.bytes_mut().chunks_exact_mut(size);
        for block in 0..columns / LANES {
            for word in 0..words {
                for tap in taps {
                    for (output, sum) in sums.iter_mut().enumerate().skip(block * LANES).take(LANES) {
                        for input in word * pair..(word + 1) * pair {
                            let value = at(output, input, *tap);
                            let place = places.next().expect("there is a place for every weight");
                            match machine.lines {
                                Lines::F32 => place.copy_from_slice(&value.to_le_bytes()),
                                Lines::Bf16 | Lines::Bf16Pairs => {
                                    place.copy_from_slice(&bf16(value).to_le_bytes());
                                }
                                Lines::Int8Pairs => {
                                    let steps = int8(value, scales.numbers::<f32>()[output]);
                                    place.copy_from_slice(&steps.to_le_bytes());
                                    *sum += u64::from(steps.unsigned_abs());
                                }
                            }
                        }
                    }
                }
            }
        }
        let largest_sum = sums.into_iter().max().unwrap_or(0);
        Self { weights, scales, largest_sum }
    }
}
