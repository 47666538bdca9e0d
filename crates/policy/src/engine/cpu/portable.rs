//! Kernels in plain Rust, for every other machine.

use super::kernel::{Kernel, LANES, tile_with};

/// f32.
pub(super) struct F32Portable;

impl Kernel for F32Portable {
    type Sums = [f32; LANES];
    type Line = [f32; LANES];
    type Word = f32;
    const LINE: usize = 4 * LANES;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> [f32; LANES] {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> [f32; LANES] {
        // SAFETY: the caller promises a line.
        unsafe { *from.cast() }
    }

    #[inline(always)]
    unsafe fn word(from: *const u32) -> f32 {
        // SAFETY: the caller promises a word.
        f32::from_bits(unsafe { *from })
    }

    #[inline(always)]
    unsafe fn multiply_add(mut sums: [f32; LANES], line: [f32; LANES], word: f32) -> [f32; LANES] {
        for (sum, weight) in sums.iter_mut().zip(line) {
            *sum = multiply_add(weight, word, *sum);
        }
        sums
    }

    #[inline(always)]
    unsafe fn finish(sums: [f32; LANES], start: *const f32, _: *const f32, _: f32, to: *mut f32) {
        // SAFETY: the caller promises sixteen numbers at both.
        let start: [f32; LANES] = unsafe { *start.cast() };
        unsafe { *to.cast() = std::array::from_fn::<f32, LANES, _>(|lane| start[lane] + sums[lane]) }
    }

    tile_with!();
}

/// `a b + c`, in one rounding where that is an instruction and not a call.
#[inline(always)]
pub(super) fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

/// bf16 weights widened to f32.
pub(super) struct WideBf16Portable;

impl Kernel for WideBf16Portable {
    type Sums = [f32; LANES];
    type Line = [f32; LANES];
    type Word = f32;
    const LINE: usize = 2 * LANES;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> [f32; LANES] {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> [f32; LANES] {
        // SAFETY: the caller promises a line.
        let halves: [u16; LANES] = unsafe { *from.cast() };
        halves.map(|half| f32::from_bits(u32::from(half) << 16))
    }

    #[inline(always)]
    unsafe fn word(from: *const u32) -> f32 {
        // SAFETY: as the caller promises.
        unsafe { F32Portable::word(from) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: [f32; LANES], line: [f32; LANES], word: f32) -> [f32; LANES] {
        // SAFETY: nothing is asked for.
        unsafe { F32Portable::multiply_add(sums, line, word) }
    }

    #[inline(always)]
    unsafe fn finish(sums: [f32; LANES], start: *const f32, scales: *const f32, factor: f32, to: *mut f32) {
        // SAFETY: as the caller promises.
        unsafe { F32Portable::finish(sums, start, scales, factor, to) }
    }

    tile_with!();
}

/// 8-bit weights times pairs of 16-bit integers.
pub(super) struct Int8Portable;

impl Kernel for Int8Portable {
    type Sums = [i32; LANES];
    type Line = [[i8; 2]; LANES];
    type Word = [i32; 2];
    const LINE: usize = 2 * LANES;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> [i32; LANES] {
        [0; LANES]
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> [[i8; 2]; LANES] {
        // SAFETY: the caller promises a line.
        unsafe { *from.cast() }
    }

    #[inline(always)]
    unsafe fn word(from: *const u32) -> [i32; 2] {
        // SAFETY: the caller promises a word.
        let word = unsafe { *from };
        [i32::from(word as u16 as i16), i32::from((word >> 16) as u16 as i16)]
    }

    #[inline(always)]
    unsafe fn multiply_add(mut sums: [i32; LANES], line: [[i8; 2]; LANES], word: [i32; 2]) -> [i32; LANES] {
        for (sum, [first, second]) in sums.iter_mut().zip(line) {
            *sum += i32::from(first) * word[0] + i32::from(second) * word[1];
        }
        sums
    }

    #[inline(always)]
    unsafe fn finish(sums: [i32; LANES], start: *const f32, scales: *const f32, factor: f32, to: *mut f32) {
        // SAFETY: the caller promises sixteen numbers at each.
        let (start, scales): ([f32; LANES], [f32; LANES]) = unsafe { (*start.cast(), *scales.cast()) };
        let value = |lane: usize| multiply_add(sums[lane] as f32, scales[lane] * factor, start[lane]);
        unsafe { *to.cast() = std::array::from_fn::<f32, LANES, _>(value) }
    }

    tile_with!();
}
