//! The two products that all layers come down to, over signals whose rows are channels at one time step.
//!
//! In `[B, L, C]` with zeros between the samples, what a convolution sees at one step is one run of `taps * C` numbers.
//! So nothing is unfolded: rows are read where they lie, with whatever stride the convolution has.
//! Weights are held in panels of [`LANES`] outputs: `[outputs / LANES, taps * C, LANES]`, the last one filled up with 0.
//! Every sum is taken in the order of its terms, so that a result does not depend on where in a batch it is computed.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Outputs in a panel.
pub(super) const LANES: usize = 32;

/// Rows that go through weight gradients together, so that they stay in the nearest cache.
const BLOCK_ROWS: usize = 128;

/// Rows of a tile that lie at one distance from each other.
const GROUP: usize = 4;

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
    let (mut gathered, mut results) = (vec![0.0f32; GROUP * depth], [0.0f32; GROUP * LANES]);
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

/// Up to three groups of rows, times one panel.
struct Tile<'a> {
    input: [*const f32; 3],
    output: [*mut f32; 3],
    input_stride: usize,
    output_stride: usize,
    depth: usize,
    weights: *const f32,
    offsets: &'a [f32; LANES],
    /// Outputs of this panel that exist.
    width: usize,
    add: bool,
}

/// A few rows of a panel, summed over some rows of signals.
struct Strip {
    input: *const f32,
    input_rows: Rows,
    grad: *const f32,
    grad_rows: Rows,
    width: usize,
    sums: *mut f32,
    add: bool,
}

fn multiply_kernel() -> unsafe fn(usize, &Tile) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return tile_avx512;
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return tile_avx2;
    }
    tile_plain::<false>
}

fn transposed_kernel() -> unsafe fn(usize, &Strip) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return strip_avx512;
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return strip_avx2;
    }
    strip_plain::<false>
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn tile_avx512(groups: usize, tile: &Tile) {
    // SAFETY: the caller's.
    unsafe {
        match groups {
            1 => groups_avx512::<1>(tile),
            2 => groups_avx512::<2>(tile),
            _ => groups_avx512::<3>(tile),
        }
    }
}

/// Twelve rows by two vectors fill 24 of the 32 registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn groups_avx512<const GROUPS: usize>(tile: &Tile) {
    let masks = masks(tile.width);
    // SAFETY: rows, panel and widths are as the caller says.
    unsafe {
        let offsets = tile.offsets.as_ptr();
        let mut sums = [[[_mm512_loadu_ps(offsets), _mm512_loadu_ps(offsets.add(16))]; GROUP]; GROUPS];
        let mut weights = tile.weights;
        let mut inputs = tile.input;
        let (one, three) = (tile.input_stride, 3 * tile.input_stride);
        for _ in 0..tile.depth {
            let panel = [_mm512_loadu_ps(weights), _mm512_loadu_ps(weights.add(16))];
            weights = weights.add(LANES);
            for (sums, input) in sums.iter_mut().zip(&mut inputs) {
                for (sums, at) in sums.iter_mut().zip([0, one, 2 * one, three]) {
                    let value = _mm512_set1_ps(*input.add(at));
                    sums[0] = _mm512_fmadd_ps(value, panel[0], sums[0]);
                    sums[1] = _mm512_fmadd_ps(value, panel[1], sums[1]);
                }
                *input = input.add(1);
            }
        }
        for (sums, output) in sums.iter().zip(tile.output) {
            for (row, sums) in sums.iter().enumerate() {
                for (half, (sum, mask)) in sums.iter().zip(masks).enumerate() {
                    let place = output.add(row * tile.output_stride + 16 * half);
                    let before = _mm512_maskz_loadu_ps(if tile.add { mask } else { 0 }, place);
                    _mm512_mask_storeu_ps(place, mask, _mm512_add_ps(before, *sum));
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn strip_avx512(count: usize, strip: &Strip) {
    // SAFETY: the caller's.
    unsafe {
        match count {
            12 => rows_avx512::<12>(strip),
            4 => rows_avx512::<4>(strip),
            _ => rows_avx512::<1>(strip),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn rows_avx512<const COUNT: usize>(strip: &Strip) {
    let masks = masks(strip.width);
    // SAFETY: rows, panel and widths are as the caller says.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; COUNT];
        if strip.add {
            // They are read when all rows have been summed.
            for line in 0..2 * COUNT {
                _mm_prefetch::<_MM_HINT_ET0>(strip.sums.add(16 * line).cast());
            }
        }
        for sample in 0..strip.input_rows.samples {
            let mut input = strip.input.add(sample * strip.input_rows.sample_stride);
            let mut grad = strip.grad.add(sample * strip.grad_rows.sample_stride);
            for _ in 0..strip.input_rows.steps {
                let row = [
                    _mm512_maskz_loadu_ps(masks[0], grad),
                    _mm512_maskz_loadu_ps(masks[1], grad.wrapping_add(16)),
                ];
                for (index, sums) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*input.add(index));
                    sums[0] = _mm512_fmadd_ps(value, row[0], sums[0]);
                    sums[1] = _mm512_fmadd_ps(value, row[1], sums[1]);
                }
                input = input.wrapping_add(strip.input_rows.step_stride);
                grad = grad.wrapping_add(strip.grad_rows.step_stride);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                let place = strip.sums.add(row * LANES + 16 * half);
                let before = _mm512_maskz_loadu_ps(if strip.add { !0 } else { 0 }, place);
                _mm512_storeu_ps(place, _mm512_add_ps(before, *sum));
            }
        }
    }
}

/// Which lanes of the two vectors of a panel exist.
#[cfg(target_arch = "x86_64")]
fn masks(width: usize) -> [__mmask16; 2] {
    let mask = ((1u64 << width) - 1) as u32;
    [mask as u16, (mask >> 16) as u16]
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_avx2(groups: usize, tile: &Tile) {
    // SAFETY: the caller's.
    unsafe { tile_plain::<true>(groups, tile) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn strip_avx2(count: usize, strip: &Strip) {
    // SAFETY: the caller's.
    unsafe { strip_plain::<true>(count, strip) }
}

/// Lanes of a panel that are summed at once where registers are few.
const HALF: usize = LANES / 2;

#[inline(always)]
unsafe fn tile_plain<const FMA: bool>(groups: usize, tile: &Tile) {
    for (input, output) in tile.input.iter().zip(tile.output).take(groups) {
        for half in 0..LANES / HALF {
            let width = tile.width.saturating_sub(half * HALF).min(HALF);
            let mut sums = [[0.0f32; HALF]; GROUP];
            for sums in &mut sums {
                sums.copy_from_slice(&tile.offsets[half * HALF..(half + 1) * HALF]);
            }
            for k in 0..tile.depth {
                for (row, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: inside the rows and the panel, as the caller says.
                    let (value, weights) = unsafe {
                        let weights = tile.weights.add(k * LANES + half * HALF);
                        (*input.add(row * tile.input_stride + k), &*weights.cast::<[f32; HALF]>())
                    };
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = if FMA { value.mul_add(*weight, *sum) } else { value * weight + *sum };
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (lane, sum) in sums.iter().enumerate().take(width) {
                    // SAFETY: the lane exists, in a row that the caller borrows mutably.
                    unsafe {
                        let place = output.add(row * tile.output_stride + half * HALF + lane);
                        *place = if tile.add { *place + sum } else { *sum };
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn strip_plain<const FMA: bool>(count: usize, strip: &Strip) {
    for index in 0..count {
        let mut sums = [0.0f32; LANES];
        for sample in 0..strip.input_rows.samples {
            for step in 0..strip.input_rows.steps {
                let at = |rows: Rows| sample * rows.sample_stride + step * rows.step_stride;
                // SAFETY: inside the rows, as the caller says.
                let (value, row) = unsafe {
                    let row = strip.grad.add(at(strip.grad_rows));
                    let value = *strip.input.add(at(strip.input_rows) + index);
                    (value, std::slice::from_raw_parts(row, strip.width))
                };
                for (sum, grad) in sums.iter_mut().zip(row) {
                    *sum = if FMA { value.mul_add(*grad, *sum) } else { value * grad + *sum };
                }
            }
        }
        // SAFETY: the caller brings `count` rows of a panel.
        let before = unsafe { &mut *strip.sums.add(index * LANES).cast::<[f32; LANES]>() };
        for (before, sum) in before.iter_mut().zip(sums) {
            *before = if strip.add { *before + sum } else { sum };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Kernels = (&'static str, unsafe fn(usize, &Tile), unsafe fn(usize, &Strip));

    fn kernels_of_this_machine() -> Vec<Kernels> {
        let mut kernels: Vec<Kernels> = vec![("plain", tile_plain::<false>, strip_plain::<false>)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                kernels.push(("avx2", tile_avx2, strip_avx2));
            }
            if is_x86_feature_detected!("avx512f") {
                kernels.push(("avx512", tile_avx512, strip_avx512));
            }
        }
        kernels
    }

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

    #[test]
    fn all_kernels_agree() {
        let (depth, width) = (19, 29);
        let [input, weights, before] =
            [(12 * depth, 1), (LANES * depth, 2), (12 * LANES, 3)].map(|(count, seed)| numbers(count, seed));
        let offsets: [f32; LANES] = std::array::from_fn(|i| i as f32 * 0.01);
        let rows =
            |stride| Rows { start: 0, samples: 3, sample_stride: 4 * stride, steps: 4, step_stride: stride };
        let results = kernels_of_this_machine().into_iter().map(|(name, tile, strip)| {
            let (mut output, mut sums) = (before.clone(), before.clone());
            let place = |group: usize| output.as_mut_ptr().wrapping_add(group * GROUP * LANES);
            let task = Tile {
                output: [0, 1, 2].map(place),
                input: [0, 1, 2].map(|group| input[group * GROUP * depth..].as_ptr()),
                input_stride: depth,
                output_stride: LANES,
                depth,
                weights: weights.as_ptr(),
                offsets: &offsets,
                width,
                add: true,
            };
            // SAFETY: 12 rows of input and of output, as the strides say.
            unsafe { tile(3, &task) };
            let task = Strip {
                input: input.as_ptr(),
                input_rows: rows(depth),
                grad: before.as_ptr(),
                grad_rows: rows(LANES),
                width,
                sums: sums.as_mut_ptr(),
                add: true,
            };
            // SAFETY: 12 rows of inputs and gradients, and 12 of sums.
            unsafe { strip(12, &task) };
            (name, output, sums)
        });
        let results: Vec<_> = results.collect();
        for (name, output, sums) in &results[1..] {
            for (is, want) in output.iter().chain(sums).zip(results[0].1.iter().chain(&results[0].2)) {
                assert!((is - want).abs() < 1e-4, "{name}: {is}, not {want}");
            }
        }
    }
}
