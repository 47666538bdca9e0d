//! Kernels in the instructions of x86-64.
//!
//! What is unsafe here is what [`Kernel`] asks of its caller, and nothing else: that the machine has the instructions, and
//! that pointers lead to a line of weights, a word or sixteen numbers.

use std::arch::x86_64::*;

use super::kernel::{Kernel, tile_with};

/// f32 with AVX-512.
pub(super) struct F32Avx512;

impl Kernel for F32Avx512 {
    type Sums = __m512;
    type Line = __m512;
    type Word = __m512;
    const LINE: usize = 64;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> __m512 {
        unsafe { _mm512_load_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn word(from: *const u32) -> __m512 {
        unsafe { _mm512_set1_ps(*from.cast::<f32>()) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: __m512, line: __m512, word: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(line, word, sums) }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m512, start: *const f32, _: *const f32, _: f32, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(start), sums)) }
    }

    tile_with!("avx512f");
}

/// bf16 weights widened to f32, with AVX-512.
pub(super) struct WideBf16Avx512;

impl Kernel for WideBf16Avx512 {
    type Sums = __m512;
    type Line = __m512;
    type Word = __m512;
    const LINE: usize = 32;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> __m512 {
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_load_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    unsafe fn word(from: *const u32) -> __m512 {
        unsafe { F32Avx512::word(from) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: __m512, line: __m512, word: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(line, word, sums) }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m512, start: *const f32, scales: *const f32, factor: f32, to: *mut f32) {
        unsafe { F32Avx512::finish(sums, start, scales, factor, to) }
    }

    tile_with!("avx512f");
}

/// Pairs of bf16 with AVX-512's own product.
pub(super) struct Bf16Avx512;

impl Kernel for Bf16Avx512 {
    type Sums = __m512;
    type Line = __m512i;
    type Word = __m512i;
    const LINE: usize = 64;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> __m512i {
        unsafe { _mm512_load_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn word(from: *const u32) -> __m512i {
        unsafe { _mm512_set1_epi32(*from as i32) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: __m512, line: __m512i, word: __m512i) -> __m512 {
        // SAFETY: both types are 64 bytes, and any bytes are one.
        let line = unsafe { std::mem::transmute::<__m512i, __m512bh>(line) };
        // SAFETY: as above.
        let word = unsafe { std::mem::transmute::<__m512i, __m512bh>(word) };
        unsafe { _mm512_dpbf16_ps(sums, line, word) }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m512, start: *const f32, scales: *const f32, factor: f32, to: *mut f32) {
        unsafe { F32Avx512::finish(sums, start, scales, factor, to) }
    }

    tile_with!("avx512f,avx512bf16");
}

/// 8-bit weights times pairs of 16-bit integers with AVX-512 VNNI.
pub(super) struct Int8Avx512;

impl Kernel for Int8Avx512 {
    type Sums = __m512i;
    type Line = __m512i;
    type Word = __m512i;
    const LINE: usize = 32;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> __m512i {
        unsafe { _mm512_cvtepi8_epi16(_mm256_load_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn word(from: *const u32) -> __m512i {
        unsafe { _mm512_set1_epi32(*from as i32) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: __m512i, line: __m512i, word: __m512i) -> __m512i {
        unsafe { _mm512_dpwssd_epi32(sums, line, word) }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m512i, start: *const f32, scales: *const f32, factor: f32, to: *mut f32) {
        unsafe {
            let scales = _mm512_mul_ps(_mm512_loadu_ps(scales), _mm512_set1_ps(factor));
            let sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scales, _mm512_loadu_ps(start));
            _mm512_storeu_ps(to, sums);
        }
    }

    tile_with!("avx512f,avx512bw,avx512vnni");
}

/// f32 with AVX2.
pub(super) struct F32Avx2;

impl Kernel for F32Avx2 {
    type Sums = [__m256; 2];
    type Line = [__m256; 2];
    type Word = __m256;
    const LINE: usize = 64;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> [__m256; 2] {
        unsafe { [_mm256_setzero_ps(); 2] }
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> [__m256; 2] {
        unsafe { [_mm256_load_ps(from.cast()), _mm256_load_ps(from.add(32).cast())] }
    }

    #[inline(always)]
    unsafe fn word(from: *const u32) -> __m256 {
        unsafe { _mm256_set1_ps(*from.cast::<f32>()) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: [__m256; 2], line: [__m256; 2], word: __m256) -> [__m256; 2] {
        unsafe { [_mm256_fmadd_ps(line[0], word, sums[0]), _mm256_fmadd_ps(line[1], word, sums[1])] }
    }

    #[inline(always)]
    unsafe fn finish(sums: [__m256; 2], start: *const f32, _: *const f32, _: f32, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(start), sums[0]));
            _mm256_storeu_ps(to.add(8), _mm256_add_ps(_mm256_loadu_ps(start.add(8)), sums[1]));
        }
    }

    tile_with!("avx2,fma");
}

/// bf16 weights widened to f32, with AVX2.
pub(super) struct WideBf16Avx2;

impl Kernel for WideBf16Avx2 {
    type Sums = [__m256; 2];
    type Line = [__m256; 2];
    type Word = __m256;
    const LINE: usize = 32;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> [__m256; 2] {
        unsafe { F32Avx2::zero() }
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> [__m256; 2] {
        unsafe {
            [0, 16].map(|offset| {
                let halves = _mm256_cvtepu16_epi32(_mm_load_si128(from.add(offset).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
            })
        }
    }

    #[inline(always)]
    unsafe fn word(from: *const u32) -> __m256 {
        unsafe { F32Avx2::word(from) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: [__m256; 2], line: [__m256; 2], word: __m256) -> [__m256; 2] {
        unsafe { F32Avx2::multiply_add(sums, line, word) }
    }

    #[inline(always)]
    unsafe fn finish(sums: [__m256; 2], start: *const f32, scales: *const f32, factor: f32, to: *mut f32) {
        unsafe { F32Avx2::finish(sums, start, scales, factor, to) }
    }

    tile_with!("avx2,fma");
}

/// 8-bit weights times pairs of 16-bit integers with AVX2.
pub(super) struct Int8Avx2;

impl Kernel for Int8Avx2 {
    type Sums = [__m256i; 2];
    type Line = [__m256i; 2];
    type Word = __m256i;
    const LINE: usize = 32;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> [__m256i; 2] {
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> [__m256i; 2] {
        unsafe {
            [
                _mm256_cvtepi8_epi16(_mm_load_si128(from.cast())),
                _mm256_cvtepi8_epi16(_mm_load_si128(from.add(16).cast())),
            ]
        }
    }

    #[inline(always)]
    unsafe fn word(from: *const u32) -> __m256i {
        unsafe { _mm256_set1_epi32(*from as i32) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: [__m256i; 2], line: [__m256i; 2], word: __m256i) -> [__m256i; 2] {
        unsafe {
            [
                _mm256_add_epi32(sums[0], _mm256_madd_epi16(line[0], word)),
                _mm256_add_epi32(sums[1], _mm256_madd_epi16(line[1], word)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn finish(sums: [__m256i; 2], start: *const f32, scales: *const f32, factor: f32, to: *mut f32) {
        unsafe {
            for (half, sums) in [(0, sums[0]), (8, sums[1])] {
                let scales = _mm256_mul_ps(_mm256_loadu_ps(scales.add(half)), _mm256_set1_ps(factor));
                let start = _mm256_loadu_ps(start.add(half));
                _mm256_storeu_ps(to.add(half), _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scales, start));
            }
        }
    }

    tile_with!("avx2,fma");
}
