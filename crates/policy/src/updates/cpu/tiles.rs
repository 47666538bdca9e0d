//! The innermost loops of the products, in registers, for what this machine has.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::product::{LANES, Rows};

/// Rows of a tile that lie at one distance from each other.
pub(super) const GROUP: usize = 4;

/// Up to three groups of rows, times one panel.
pub(super) struct Tile<'a> {
    pub input: [*const f32; 3],
    pub output: [*mut f32; 3],
    pub input_stride: usize,
    pub output_stride: usize,
    pub depth: usize,
    pub weights: *const f32,
    pub offsets: &'a [f32; LANES],
    /// Outputs of this panel that exist.
    pub width: usize,
    pub add: bool,
}

/// A few rows of a panel, summed over some rows of signals.
pub(super) struct Strip {
    pub input: *const f32,
    pub input_rows: Rows,
    pub grad: *const f32,
    pub grad_rows: Rows,
    pub width: usize,
    pub sums: *mut f32,
    pub add: bool,
}

pub(super) fn multiply_kernel() -> unsafe fn(usize, &Tile) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return tile_avx512;
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return tile_avx2;
    }
    tile_plain::<false>
}

pub(super) fn transposed_kernel() -> unsafe fn(usize, &Strip) {
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
    for group in 0..groups {
        for half in 0..LANES / HALF {
            // SAFETY: the caller's.
            unsafe {
                if tile.width >= (half + 1) * HALF {
                    tile_part::<FMA, true>(tile, group, half);
                } else {
                    tile_part::<FMA, false>(tile, group, half);
                }
            }
        }
    }
}

/// A group of rows times half a panel, of which all outputs exist when `FULL`.
#[inline(always)]
unsafe fn tile_part<const FMA: bool, const FULL: bool>(tile: &Tile, group: usize, half: usize) {
    let (input, output) = (tile.input[group], tile.output[group]);
    let mut sums = [[0.0f32; HALF]; GROUP];
    for k in 0..tile.depth {
        // SAFETY: inside the rows and the panel, as the caller says.
        let (values, weights) = unsafe {
            let weights = tile.weights.add(k * LANES + half * HALF);
            let value = |row: usize| *input.add(row * tile.input_stride + k);
            ([value(0), value(1), value(2), value(3)], *weights.cast::<[f32; HALF]>())
        };
        for (sums, value) in sums.iter_mut().zip(values) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = if FMA { value.mul_add(weight, *sum) } else { value * weight + *sum };
            }
        }
    }
    let width = if FULL { HALF } else { tile.width.saturating_sub(half * HALF).min(HALF) };
    for (row, sums) in sums.iter().enumerate() {
        let place = output.wrapping_add(row * tile.output_stride + half * HALF);
        for (lane, (sum, offset)) in sums.iter().zip(&tile.offsets[half * HALF..]).enumerate() {
            if FULL || lane < width {
                // SAFETY: the lane exists, in a row that the caller borrows mutably.
                unsafe {
                    let place = place.add(lane);
                    *place = if tile.add { *place + (sum + offset) } else { sum + offset };
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn strip_plain<const FMA: bool>(count: usize, strip: &Strip) {
    for half in 0..LANES / HALF {
        let full = strip.width >= (half + 1) * HALF;
        // SAFETY: the caller's, for each of its rows.
        unsafe {
            if full && count.is_multiple_of(GROUP) {
                (0..count).step_by(GROUP).for_each(|row| strip_part::<FMA, true, GROUP>(strip, row, half));
            } else {
                (0..count).for_each(|row| strip_part::<FMA, false, 1>(strip, row, half));
            }
        }
    }
}

/// Some rows from `first` on, of half a panel.
#[inline(always)]
unsafe fn strip_part<const FMA: bool, const FULL: bool, const ROWS: usize>(
    strip: &Strip,
    first: usize,
    half: usize,
) {
    let width = if FULL { HALF } else { strip.width.saturating_sub(half * HALF).min(HALF) };
    let mut sums = [[0.0f32; HALF]; ROWS];
    for sample in 0..strip.input_rows.samples {
        for step in 0..strip.input_rows.steps {
            let at = |rows: Rows| sample * rows.sample_stride + step * rows.step_stride;
            let mut grads = [0.0f32; HALF];
            // SAFETY: inside the rows, as the caller says.
            let values = unsafe {
                let row = strip.grad.wrapping_add(at(strip.grad_rows) + half * HALF);
                grads[..width].copy_from_slice(std::slice::from_raw_parts(row, width));
                std::slice::from_raw_parts(strip.input.add(at(strip.input_rows) + first), ROWS)
            };
            for (sums, value) in sums.iter_mut().zip(values) {
                for (sum, grad) in sums.iter_mut().zip(&grads) {
                    *sum = if FMA { value.mul_add(*grad, *sum) } else { value * grad + *sum };
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: the caller brings these rows of a panel.
        let before =
            unsafe { &mut *strip.sums.add((first + row) * LANES + half * HALF).cast::<[f32; HALF]>() };
        for (before, sum) in before.iter_mut().zip(sums) {
            *before = if strip.add { *before + sum } else { *sum };
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
