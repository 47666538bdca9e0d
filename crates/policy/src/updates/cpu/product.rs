//! The two products that all layers come down to, over signals whose rows are channels at one time step.
//!
//! In `[B, L, C]` with zeros between the samples, what a convolution sees at one step is one run of `taps * C` numbers.
//! So nothing is unfolded: rows are read where they lie, with whatever stride the convolution has.
//! Weights are held in panels of [`LANES`] outputs: `[outputs / LANES, taps * C, LANES]`, the last one filled up with 0.
//! Every sum is taken in the order of its terms, so that a result does not depend on where in a batch it is computed.

use super::tiles::{GROUP, Strip, Tile, multiply_kernel, transposed_kernel};

/// Outputs in a panel.
pub(super) const LANES: usize = 32;

/// Rows that go through weight gradients together, so that they stay in the nearest cache.
const BLOCK_ROWS: usize = 128;

/// Where rows lie in a slice: `steps` of each of `samples`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub start: usize,
    pub samples: usize,
    pub sample_stride: usize,
    pub steps: usize,
    pub step_stride: usize,
}

impl Rows {
    fn of_samples(self, first: usize, samples: usize) -> Self {
        Self { start: self.start + first * self.sample_stride, samples, ..self }
    }

    /// One past the last number of the last row, of `width` numbers.
    fn end(self, width: usize) -> usize {
        let (samples, steps) = (self.samples.max(1) - 1, self.steps.max(1) - 1);
        self.start + samples * self.sample_stride + steps * self.step_stride + width
    }
}

/// Numbers in the panels of `outputs` outputs over `depth` inputs.
pub(super) fn panels_len(depth: usize, outputs: usize) -> usize {
    outputs.div_ceil(LANES) * LANES * depth
}

/// `out [rows, outputs] = input [rows, depth] * panels + bias`, or `out += ..` when `add`.
pub(super) fn multiply(
    (input, input_rows): (&[f32], Rows),
    depth: usize,
    panels: &[f32],
    bias: Option<&[f32]>,
    (output, output_rows): (&mut [f32], Rows),
    outputs: usize,
    add: bool,
) {
    assert!(input_rows.samples == output_rows.samples && input_rows.steps == output_rows.steps);
    assert!(input_rows.end(depth) <= input.len() && output_rows.end(outputs) <= output.len());
    assert!(panels.len() == panels_len(depth, outputs) && bias.is_none_or(|bias| bias.len() == outputs));
    if input_rows.samples * input_rows.steps == 0 {
        return;
    }
    let kernel = multiply_kernel();
    // What does not fill a group of rows is copied to where it does.
    let (mut gathered, mut results) = (Vec::new(), [0.0f32; GROUP * LANES]);
    for (panel, weights) in panels.chunks_exact(LANES * depth).enumerate() {
        let first = panel * LANES;
        let width = (outputs - first).min(LANES);
        let mut offsets = [0.0; LANES];
        if let Some(bias) = bias {
            offsets[..width].copy_from_slice(&bias[first..first + width]);
        }
        let task = |input: [*const f32; 3], output: [*mut f32; 3], strides| Tile {
            input,
            output,
            input_stride: strides,
            output_stride: output_rows.step_stride,
            depth,
            weights: weights.as_ptr(),
            offsets: &offsets,
            width,
            add,
        };
        let mut waiting = ([std::ptr::null(); 3], [std::ptr::null_mut(); 3], 0);
        let mut rest = Vec::new();
        for sample in 0..input_rows.samples {
            let input_at = input_rows.start + sample * input_rows.sample_stride;
            let output_at = output_rows.start + sample * output_rows.sample_stride + first;
            for step in (0..input_rows.steps).step_by(GROUP) {
                let (from, to) =
                    (input_at + step * input_rows.step_stride, output_at + step * output_rows.step_stride);
                if step + GROUP > input_rows.steps {
                    rest.extend((0..input_rows.steps - step).map(|row| {
                        (from + row * input_rows.step_stride, to + row * output_rows.step_stride)
                    }));
                    continue;
                }
                // The ends of the last rows were compared with the lengths above.
                waiting.0[waiting.2] = input[from..].as_ptr();
                waiting.1[waiting.2] = output[to..].as_mut_ptr();
                waiting.2 += 1;
                if waiting.2 == 3 {
                    // SAFETY: every row of the three groups lies inside the slices, as `end` says, and `output` is
                    // borrowed mutably; the kernel was chosen for this machine.
                    unsafe { kernel(3, &task(waiting.0, waiting.1, input_rows.step_stride)) };
                    waiting.2 = 0;
                }
            }
        }
        if waiting.2 > 0 {
            // SAFETY: as above, for the groups that are left.
            unsafe { kernel(waiting.2, &task(waiting.0, waiting.1, input_rows.step_stride)) };
        }
        for rows in rest.chunks(GROUP) {
            gathered.resize(GROUP * depth, 0.0f32);
            for (row, (from, to)) in rows.iter().enumerate() {
                gathered[row * depth..(row + 1) * depth].copy_from_slice(&input[*from..from + depth]);
                results[row * LANES..row * LANES + width].copy_from_slice(&output[*to..to + width]);
            }
            let ends = ([gathered.as_ptr(); 3], [results.as_mut_ptr(); 3]);
            let tile = Tile { output_stride: LANES, ..task(ends.0, ends.1, depth) };
            // SAFETY: the buffers hold a whole group of rows of these strides.
            unsafe { kernel(1, &tile) };
            for (row, (_, to)) in rows.iter().enumerate() {
                output[*to..to + width].copy_from_slice(&results[row * LANES..row * LANES + width]);
            }
        }
    }
}

/// `panels += input^T [depth, rows] * grad [rows, outputs]`, or `= ..` when not `add`.
pub(super) fn multiply_transposed(
    (input, input_rows): (&[f32], Rows),
    depth: usize,
    (grad, grad_rows): (&[f32], Rows),
    outputs: usize,
    panels: &mut [f32],
    add: bool,
) {
    assert!(input_rows.samples == grad_rows.samples && input_rows.steps == grad_rows.steps);
    assert!(input_rows.end(depth) <= input.len() && grad_rows.end(outputs) <= grad.len());
    assert!(panels.len() == panels_len(depth, outputs));
    let kernel = transposed_kernel();
    let block = (BLOCK_ROWS / input_rows.steps.max(1)).max(1);
    for (panel, sums) in panels.chunks_exact_mut(LANES * depth).enumerate() {
        let first = panel * LANES;
        let width = (outputs - first).min(LANES);
        for sample in (0..input_rows.samples).step_by(block) {
            let samples = block.min(input_rows.samples - sample);
            let (from, by) = (input_rows.of_samples(sample, samples), grad_rows.of_samples(sample, samples));
            let mut row = 0;
            while row < depth {
                let count = match depth - row {
                    12.. => 12,
                    4.. => 4,
                    _ => 1,
                };
                let strip = Strip {
                    input: input[from.start + row..].as_ptr(),
                    input_rows: from,
                    grad: grad[by.start + first..].as_ptr(),
                    grad_rows: by,
                    width,
                    sums: sums[row * LANES..(row + count) * LANES].as_mut_ptr(),
                    add: add || sample > 0,
                };
                // SAFETY: `end` was compared with the lengths above, `sums` holds `count` rows of a panel and is borrowed
                // mutably, and the kernel was chosen for this machine.
                unsafe { kernel(count, &strip) };
                row += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i * 7919 + seed * 104_729) % 2003) as f32) / 1001.0 - 1.0).collect()
    }

    /// The rows of windows of `taps` steps, `stride` apart, in samples with `pad` steps at both ends; and of the results.
    fn layout(
        samples: usize,
        steps: usize,
        stride: usize,
        [depth, channels, outputs]: [usize; 3],
    ) -> [Rows; 2] {
        let length = (steps - 1) * stride + depth.div_ceil(channels);
        let (sample_stride, step_stride) = (length * channels, stride * channels);
        [
            Rows { start: 0, samples, sample_stride, steps, step_stride },
            Rows { start: 3, samples, sample_stride: steps * outputs + 5, steps, step_stride: outputs },
        ]
    }

    fn starts(rows: Rows) -> Vec<usize> {
        let of_sample = |sample: usize| {
            (0..rows.steps)
                .map(move |step| rows.start + sample * rows.sample_stride + step * rows.step_stride)
        };
        (0..rows.samples).flat_map(of_sample).collect()
    }

    #[test]
    fn products_agree_with_double_precision_whatever_their_shape() {
        for (samples, steps, stride, channels, taps, outputs) in [
            (3, 16, 1, 6, 5, 40),
            (5, 4, 2, 33, 3, 32),
            (7, 1, 1, 10, 1, 2),
            (1, 9, 1, 3, 4, 70),
            (2, 6, 1, 16, 2, 64),
        ] {
            let depth = channels * taps;
            let [read, write] = layout(samples, steps, stride, [depth, channels, outputs]);
            let input = numbers(read.end(depth), 1);
            let weights = numbers(depth * outputs, 2);
            let (bias, before) = (numbers(outputs, 3), numbers(write.end(outputs), 4));
            let mut panels = vec![0.0; panels_len(depth, outputs)];
            let place = |row: usize, output: usize| (output / LANES * depth + row) * LANES + output % LANES;
            for row in 0..depth {
                (0..outputs).for_each(|output| panels[place(row, output)] = weights[row * outputs + output]);
            }
            let close = |is: f32, want: f64, what: &str| {
                assert!((f64::from(is) - want).abs() < 1e-5 * depth as f64, "{what}: {is}, not {want}");
            };
            let mut gradient: Vec<f64> = vec![0.0; depth * outputs];
            for add in [false, true] {
                let mut outputs_now = before.clone();
                let bias = (!add).then_some(&bias[..]);
                multiply((&input, read), depth, &panels, bias, (&mut outputs_now, write), outputs, add);
                let mut untouched = vec![true; before.len()];
                for (from, to) in starts(read).into_iter().zip(starts(write)) {
                    for output in 0..outputs {
                        let start = bias.map_or(f64::from(before[to + output]), |bias| bias[output].into());
                        let want = (0..depth).fold(start, |sum, row| {
                            sum + f64::from(input[from + row]) * f64::from(weights[row * outputs + output])
                        });
                        close(outputs_now[to + output], want, "product");
                        untouched[to + output] = false;
                    }
                }
                let kept = untouched.iter().zip(outputs_now.iter().zip(&before));
                assert!(kept.into_iter().all(|(untouched, (is, was))| !untouched || is == was));

                for (from, by) in starts(read).into_iter().zip(starts(write)) {
                    for row in 0..depth {
                        for output in 0..outputs {
                            let part = f64::from(input[from + row]) * f64::from(before[by + output]);
                            gradient[row * outputs + output] += part;
                        }
                    }
                }
                let mut sums = vec![7.0; panels.len()];
                for round in 0..=usize::from(add) {
                    multiply_transposed(
                        (&input, read),
                        depth,
                        (&before, write),
                        outputs,
                        &mut sums,
                        round > 0,
                    );
                }
                for row in 0..depth {
                    for output in 0..outputs {
                        close(sums[place(row, output)], gradient[row * outputs + output], "gradient");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        let (depth, outputs) = (37, 48);
        let panels = numbers(panels_len(depth, outputs), 1);
        let product = |samples: usize, steps: usize| {
            let rows = |width: usize| Rows {
                start: 0,
                samples,
                sample_stride: steps * width,
                steps,
                step_stride: width,
            };
            let input = numbers(24 * depth, 2);
            let mut output = vec![0.0; samples * steps * outputs];
            multiply(
                (&input, rows(depth)),
                depth,
                &panels,
                None,
                (&mut output, rows(outputs)),
                outputs,
                false,
            );
            output
        };
        let whole = product(1, 24);
        for (samples, steps) in [(24, 1), (1, 23), (6, 4), (2, 12), (5, 3), (1, 1)] {
            let part = product(samples, steps);
            assert_eq!(part, whole[..part.len()], "{samples} samples of {steps} steps");
        }
    }
}
