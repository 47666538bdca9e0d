//! The plan kernel on the CPU, against the graph. Skips, aloud, where there is no C++ compiler.

use std::ffi::{c_int, c_void};

use super::layout::Plan;
use super::machine::Machine;
use super::tests::{keeps_rows_as_the_graph_does, network, plans_as_the_graph_does};
use super::{CudaEngine, HostNetwork};
use crate::SamplerConfig;
use crate::cuda::emulated::{FIBERS, compile};
use crate::cuda_train::EmulatedBatches;
use crate::engine::Precision;

/// How large the machine is that is emulated.
pub(super) struct Emulated {
    pub multiprocessors: usize,
    pub shared_bytes: usize,
    pub clusters: bool,
}

pub(super) type Emulate = unsafe extern "C" fn(*const Plan, c_int, c_int);

/// The plan kernel for the CPU.
pub(super) fn compiled(defines: &[String]) -> Emulate {
    // Each block has shared memory of its own, though all are in one process.
    let declared = "extern __shared__ __align__(128) unsigned char shared[];";
    let kernel = include_str!("plan/kernel.cu");
    assert!(kernel.contains(declared));
    let source = [
        FIBERS,
        include_str!("plan/declarations.cu"),
        include_str!("plan/emulated.cpp"),
        include_str!("plan/numbers.cu"),
        include_str!("plan/input.cu"),
        include_str!("plan/product.cu"),
        &kernel.replace(declared, "unsigned char* shared = block_memory();"),
        include_str!("plan/emulated_entry.cpp"),
    ];
    let function = compile(&source.concat(), defines, "emulate_plan").expect("it was there a moment ago");
    // SAFETY: the function has this type.
    unsafe { std::mem::transmute::<*mut c_void, Emulate>(function) }
}

fn engine(network: &HostNetwork, precision: Precision, clusters: bool) -> CudaEngine {
    // Fewer blocks than a layer has items, so that some do several.
    let machine = Emulated { multiprocessors: 5, shared_bytes: 227 << 10, clusters };
    CudaEngine::on(Machine::Emulated(machine), network, precision).unwrap()
}

#[test]
fn the_emulated_kernel_plans_and_keeps_rows_as_the_graph_does() {
    if compile("extern \"C\" void nothing() {}", &[], "nothing").is_none() {
        return;
    }
    let network = network(&[16, 32], 2, true);
    let samplers = [SamplerConfig::ddim(2), SamplerConfig::ddpm(2)];
    for (precision, clusters, batches) in [
        (Precision::F32, true, [1, 2].as_slice()),
        (Precision::F32, false, &[2]),
        (Precision::Bf16, false, &[1]),
        (Precision::Int8, true, &[2]),
    ] {
        let mut engine = engine(&network, precision, clusters);
        plans_as_the_graph_does(&network, &mut engine, &samplers, batches);
        keeps_rows_as_the_graph_does(&network, &mut engine, samplers, batches);
    }
}

#[test]
fn emulated_plans_for_many_requests_keep_rows_as_the_graph_does() {
    let network = network(&[32, 64], 2, true);
    let Some(mut engine) = EmulatedBatches::new(&network, 8) else { return };
    let samplers = [SamplerConfig::ddim(2), SamplerConfig::ddpm(2)];
    plans_as_the_graph_does(&network, &mut engine, &samplers, &[3, 8]);
    keeps_rows_as_the_graph_does(&network, &mut engine, samplers, &[3, 8]);
}
