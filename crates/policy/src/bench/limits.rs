//! What this machine can do at best, measured: how fast weights can be read, and how fast they can be multiplied.
//!
//! A plan reads every weight once a forward pass and multiplies with it; whichever takes longer bounds it from below
//! (the roofline of Williams et al. 2009).

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::engine::PlanOptions;
use crate::{DeviceChoice, PolicyFailure, Precision};

/// Attempts of which the best counts: whatever else the machine does can only slow one down.
const ATTEMPTS: usize = 60;
/// How long one attempt lasts at least.
const ATTEMPT: Duration = Duration::from_millis(4);

/// What a device does at best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Reading weights, again and again, from wherever so many bytes fit: a cache, or memory.
    pub read_bytes_per_sec: f64,
    /// Multiplying and adding in the plan's precision: two operations each.
    pub flops_per_sec: f64,
}

impl Limits {
    /// The least time in which `bytes` can be read and `flops` be done, in seconds.
    pub fn least_secs(&self, bytes: f64, flops: f64) -> f64 {
        (bytes / self.read_bytes_per_sec).max(flops / self.flops_per_sec)
    }
}

/// Measures the device for weights of `weight_bytes` in all, on `threads` cores of a CPU; takes about half a second.
///
/// # Errors
/// When the device cannot be measured by this build.
pub fn device_limits(
    options: PlanOptions,
    weight_bytes: usize,
    threads: usize,
) -> Result<Limits, PolicyFailure> {
    match options.device {
        DeviceChoice::Cpu => Ok(Limits {
            read_bytes_per_sec: read_rate(weight_bytes, threads.max(1)),
            flops_per_sec: multiply_rate(options.precision.unwrap_or(Precision::F32), threads.max(1)),
        }),
        #[cfg(feature = "cuda-kernels")]
        DeviceChoice::Cuda => {
            super::gpu::gpu_limits(options.precision.unwrap_or(Precision::Bf16), weight_bytes)
        }
        #[cfg(not(feature = "cuda-kernels"))]
        DeviceChoice::Cuda => {
            Err(PolicyFailure::Device("this build does not measure what a GPU can do at best".into()))
        }
    }
}

/// Bytes a second that `threads` read together, each its own part of `bytes`.
fn read_rate(bytes: usize, threads: usize) -> f64 {
    // Whole blocks of what one turn of the loop reads.
    let words = (bytes / 8 / threads).next_multiple_of(BLOCK);
    let parts: Vec<Vec<u64>> = (0..threads as u64).map(|thread| vec![thread + 1; words]).collect();
    let read = reader();
    best_rate(threads, |thread| {
        black_box(read(&parts[thread]));
        words as f64 * 8.0
    })
}

/// Operations a second of `threads` together.
fn multiply_rate(precision: Precision, threads: usize) -> f64 {
    let (multiply, flops) = multiplier(precision);
    best_rate(threads, |_| {
        black_box(multiply(black_box(TURNS)));
        TURNS as f64 * flops
    })
}

/// The best rate at which `threads` together get through the amounts that `work` returns.
fn best_rate(threads: usize, work: impl Fn(usize) -> f64 + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    // Amount and seconds of each attempt.
    let attempts = |thread: usize| -> Vec<(f64, f64)> {
        let attempt = |_| {
            barrier.wait();
            let begun = Instant::now();
            let mut amount = 0.0;
            while begun.elapsed() < ATTEMPT {
                amount += work(thread);
            }
            (amount, begun.elapsed().as_secs_f64())
        };
        (0..ATTEMPTS).map(attempt).collect()
    };
    let attempts = &attempts;
    let by_thread: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || attempts(thread))).collect();
        let finished = running.into_iter().map(|thread| thread.join());
        finished.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let together = |attempt: usize| by_thread.iter().map(|own| own[attempt].0 / own[attempt].1).sum::<f64>();
    (0..ATTEMPTS).map(together).fold(0.0, f64::max)
}

/// Words that one turn of the reading loop takes.
const BLOCK: usize = 64;
/// Turns of the multiplying loop in one call.
const TURNS: u64 = 20_000;

type Read = fn(&[u64]) -> u64;
/// Takes turns.
type Multiply = fn(u64) -> f32;

#[inline(always)]
fn read_all(words: &[u64]) -> u64 {
    let mut sums = [0_u64; BLOCK];
    for block in words.chunks_exact(BLOCK) {
        sums.iter_mut().zip(block).for_each(|(sum, word)| *sum ^= word);
    }
    sums.iter().fold(0, |all, sum| all ^ sum)
}

/// The reading loop for this CPU.
fn reader() -> Read {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has what the function was compiled for.
            return |words| unsafe { x86::read_avx512(words) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return |words| unsafe { x86::read_avx2(words) };
        }
    }
    |words| read_all(words)
}

/// The multiplying loop for this CPU, and the operations of one turn. Where the CPU has no instruction for a precision,
/// plans multiply in f32.
fn multiplier(precision: Precision) -> (Multiply, f64) {
    #[cfg(target_arch = "x86_64")]
    {
        use x86::{ACCUMULATORS, dot_bf16, dot_int8, multiply_avx2, multiply_avx512};
        let turn = |operations: usize| (ACCUMULATORS * operations) as f64;
        let avx512 = is_x86_feature_detected!("avx512f");
        match precision {
            Precision::Bf16 if avx512 && is_x86_feature_detected!("avx512bf16") => {
                // SAFETY: the CPU has what the function was compiled for; and so below.
                return (|turns| unsafe { dot_bf16(turns) }, turn(2 * 32));
            }
            Precision::Int8 if avx512 && is_x86_feature_detected!("avx512vnni") => {
                return (|turns| unsafe { dot_int8(turns) }, turn(2 * 64));
            }
            _ if avx512 => return (|turns| unsafe { multiply_avx512(turns) }, turn(2 * 16)),
            _ if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
                return (|turns| unsafe { multiply_avx2(turns) }, turn(2 * 8));
            }
            _ => {}
        }
    }
    let _ = precision;
    (multiply_portable, 2.0 * LANES as f64)
}

const LANES: usize = 32;

fn multiply_portable(turns: u64) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a, b) = black_box((1e-3_f32, 0.5_f32));
    for _ in 0..turns {
        sums.iter_mut().for_each(|sum| *sum = *sum * a + b);
    }
    sums.iter().sum()
}

/// Loops that keep every multiplier busy: independent sums enough to hide an instruction's latency.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    pub const ACCUMULATORS: usize = 12;

    #[target_feature(enable = "avx512f")]
    pub fn read_avx512(words: &[u64]) -> u64 {
        super::read_all(words)
    }

    #[target_feature(enable = "avx2")]
    pub fn read_avx2(words: &[u64]) -> u64 {
        super::read_all(words)
    }

    #[target_feature(enable = "avx512f")]
    pub fn multiply_avx512(turns: u64) -> f32 {
        let (a, b) = black_box((_mm512_set1_ps(1e-3), _mm512_set1_ps(0.5)));
        let mut sums = [_mm512_setzero_ps(); ACCUMULATORS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn multiply_avx2(turns: u64) -> f32 {
        let (a, b) = black_box((_mm256_set1_ps(1e-3), _mm256_set1_ps(0.5)));
        let mut sums = [_mm256_setzero_ps(); ACCUMULATORS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        sums.into_iter().map(|sum| _mm_cvtss_f32(_mm256_castps256_ps128(sum))).sum()
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn dot_bf16(turns: u64) -> f32 {
        let half = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3), _mm512_set1_ps(1e-3));
        let (a, b) = black_box((half, half));
        let mut sums = [_mm512_setzero_ps(); ACCUMULATORS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn dot_int8(turns: u64) -> f32 {
        let (a, b) = black_box((_mm512_set1_epi8(1), _mm512_set1_epi8(1)));
        let mut sums = [_mm512_setzero_si512(); ACCUMULATORS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_epi32(sum) as f32).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_time_is_that_of_the_slower_part() {
        let limits = Limits { read_bytes_per_sec: 10.0, flops_per_sec: 100.0 };
        assert_eq!(limits.least_secs(20.0, 100.0), 2.0);
        assert_eq!(limits.least_secs(20.0, 300.0), 3.0);
    }

    #[test]
    fn a_rate_is_amount_over_time() {
        // Work that takes at least a tenth of a millisecond is done at most ten thousand times a second.
        let work = |_| {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_micros(100) {
                std::hint::spin_loop();
            }
            1.0
        };
        let rate = best_rate(1, work);
        assert!(rate > 0.0 && rate <= 10_000.0, "{rate}");
    }
}
