//! Kernels compiled, and lists of launches queued.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaStream, result};

use super::program::{Act, LANES, Launch};
use crate::PolicyFailure;
use crate::cuda::{Buffer, Gpu, Module, failed};

const PRELUDE: &str = concat!(include_str!("kernels/prelude.cu"), include_str!("kernels/numbers.cu"));
const CONVOLUTION: &str = include_str!("kernels/convolution.cu");

/// Kernels in modules that are compiled side by side: the name of each, what stands before its source, and how the names
/// of its kernels begin.
const MODULES: [(&str, &str, &str, &[&str]); 5] = [
    (
        "train-product",
        CONVOLUTION,
        include_str!("kernels/product.cu"),
        &["convolve_64", "convolve_back_64", "convolve_weights"],
    ),
    ("train-same", CONVOLUTION, include_str!("kernels/same.cu"), &["convolve_same"]),
    ("train-weights", CONVOLUTION, include_str!("kernels/weights.cu"), &["weights_of"]),
    ("train-norm", "", include_str!("kernels/norm.cu"), &["norm"]),
    (
        "train-small",
        "",
        include_str!("kernels/small.cu"),
        &["prepare", "activate", "sum_columns", "measure_loss", "adam", "round_weights"],
    ),
];

/// The kernels that are launched, compiled.
///
/// # Errors
/// What the compiler or the device refuses.
pub(super) fn functions<'a>(
    gpu: &Gpu,
    acts: impl Iterator<Item = &'a Act>,
) -> Result<BTreeMap<&'static str, CudaFunction>, PolicyFailure> {
    let modules = compile(gpu)?;
    let mut functions = BTreeMap::new();
    for launch in acts.filter_map(launch) {
        if !functions.contains_key(launch.kernel) {
            let holds = |of: &&[&str]| of.iter().any(|start| launch.kernel.starts_with(start));
            let module = MODULES.iter().position(|(.., kernels)| holds(kernels));
            let module = &modules[module.expect("every kernel is in a module")];
            let function = module.function(launch.kernel, launch.shared_bytes)?;
            functions.insert(launch.kernel, function);
        }
    }
    Ok(functions)
}

/// Asks the lanes for everything in the list.
pub(super) fn queue(
    acts: &[Act],
    functions: &BTreeMap<&'static str, CudaFunction>,
    lanes: &[Arc<CudaStream>; LANES],
    memory: &Buffer<f32>,
) -> Result<(), PolicyFailure> {
    // Kept until all is asked for.
    let mut events = Vec::new();
    let mut base = memory.at(0);
    for act in acts {
        match act {
            Act::Wait { lane, on } => {
                let event = lanes[*on].record_event(None).map_err(failed("an event"))?;
                lanes[*lane].wait(&event).map_err(failed("an event"))?;
                events.push(event);
            }
            Act::Launch { lane, launch } => {
                let [x, y, z] = launch.grid.map(|count| count as u32);
                let mut parameters = [(&raw mut base).cast(), launch.arguments.address().cast_mut()];
                // SAFETY: the kernel of this name takes the block's base and this struct, both are copied now, and the
                // plan's places lie within the block.
                unsafe {
                    result::launch_kernel(
                        functions[launch.kernel].cu_function(),
                        (x, y, z),
                        (launch.threads as u32, 1, 1),
                        launch.shared_bytes as u32,
                        lanes[*lane].cu_stream(),
                        &mut parameters,
                    )
                }
                .map_err(failed(launch.kernel))?;
            }
        }
    }
    Ok(())
}

fn launch(act: &Act) -> Option<&Launch> {
    match act {
        Act::Launch { launch, .. } => Some(launch),
        Act::Wait { .. } => None,
    }
}

fn compile(gpu: &Gpu) -> Result<Vec<Module>, PolicyFailure> {
    std::thread::scope(|scope| {
        let compiling: Vec<_> = MODULES
            .iter()
            .map(|(name, before, source, _)| {
                let source = [PRELUDE, before, source].concat();
                scope.spawn(move || Module::compile(gpu, name, &source, &[]))
            })
            .collect();
        let finished = compiling.into_iter().map(|thread| thread.join());
        finished.map(|module| module.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
