//! What a GPU does at best, measured with kernels that do nothing else.

use std::time::Instant;

use cudarc::driver::{CudaFunction, LaunchConfig, PushKernelArg};

use super::limits::Limits;
use crate::cuda::{Buffer, Gpu, Module, failed};
use crate::{PolicyFailure, Precision};

const ATTEMPTS: usize = 20;
const THREADS: u32 = 256;
/// What one attempt reads, and how many turns it multiplies: some milliseconds, beside which a launch is nothing.
const READ_BYTES: usize = 8 << 30;
const TURNS: i32 = 40_000;

use Argument::{Int, Long};

/// Reading weights of `bytes` in all, again and again, and multiplying in `precision`. Tensor cores multiply in bf16 whatever
/// weights narrower than f32 are kept in.
///
/// # Errors
/// When there is no GPU, or its driver or compiler fails.
pub(super) fn gpu_limits(precision: Precision, bytes: usize) -> Result<Limits, PolicyFailure> {
    let gpu = Gpu::open(0)?;
    let module = Module::compile(&gpu, "limits", include_str!("limits.cu"), &[])?;
    // Enough blocks to keep every multiprocessor full.
    let grid = gpu.multiprocessors as u32 * 8;
    let out = Buffer::<u32>::zeroed(&gpu, 1)?;

    let groups = bytes.div_ceil(16).max(1);
    let words = Buffer::<u128>::zeroed(&gpu, groups)?;
    let read = module.function("read_again", 0)?;
    let passes = READ_BYTES.div_ceil(groups * 16) as i32;
    let arguments = [Long(words.at(0)), Long(groups as u64), Int(passes), Long(out.at(0))];
    let read_secs = best_secs(&gpu, &read, grid, &arguments)?;

    let (name, number, flops) = match precision {
        Precision::F32 => ("multiply_f32", 1e-3_f32.to_bits(), f64::from(THREADS) * 16.0 * 2.0),
        // Two halves of 1.0; a warp makes eight products a turn.
        _ => ("multiply_bf16", 0x3F80_3F80, f64::from(THREADS / 32) * 8.0 * (2 * 16 * 8 * 16) as f64),
    };
    let multiply = module.function(name, 0)?;
    let arguments = [Int(TURNS), Int(number as i32), Long(out.at(0))];
    let multiply_secs = best_secs(&gpu, &multiply, grid, &arguments)?;
    Ok(Limits {
        read_bytes_per_sec: passes as f64 * (groups * 16) as f64 / read_secs,
        flops_per_sec: f64::from(TURNS) * f64::from(grid) * flops / multiply_secs,
    })
}

/// An argument of a kernel.
enum Argument {
    Int(i32),
    Long(u64),
}

/// The least time of a kernel over some attempts.
fn best_secs(
    gpu: &Gpu,
    kernel: &CudaFunction,
    grid: u32,
    arguments: &[Argument],
) -> Result<f64, PolicyFailure> {
    let config = LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
    let mut best = f64::INFINITY;
    for _ in 0..ATTEMPTS {
        gpu.synchronize()?;
        let begun = Instant::now();
        let mut launch = gpu.stream.launch_builder(kernel);
        for argument in arguments {
            match argument {
                Int(value) => launch.arg(value),
                Long(value) => launch.arg(value),
            };
        }
        // SAFETY: the addresses are those of buffers that outlive the launch, as large as the kernel is told.
        unsafe { launch.launch(config) }.map_err(failed("measuring"))?;
        gpu.synchronize()?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(best)
}
