//! Plans for many requests at once: training's forward pass, once a sampler step, all steps in one CUDA graph.
//!
//! One request is a stream of weights past a few columns; hundreds are large matrix products, which training has already.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode_enum as CaptureMode};
use cudarc::driver::{CudaFunction, CudaGraph, CudaStream, LaunchConfig, PushKernelArg, result};

use super::batch_pass::{Denoise, Inputs, Pass, Places};
use super::launches::{functions, queue};
use super::layout::Layout;
use super::network::fits;
use super::program::{Act, LANES, MAIN, SHARED_BYTES};
use crate::PolicyFailure;
use crate::cuda::{Buffer, Gpu, Mapped, Module, failed};
use crate::engine::{Asked, HostNetwork};
use crate::sampler::{SamplerStep, draws};

const DENOISE: &str = include_str!("kernels/denoise.cu");
/// Batch sizes that graphs are made for; others are filled up to the next.
const SIZES: [usize; 6] = [8, 16, 32, 64, 128, 256];

/// A network on a GPU, for batches of up to 256.
pub(crate) struct BatchPlans {
    gpu: Gpu,
    layout: Layout,
    network: HostNetwork,
    functions: BTreeMap<&'static str, CudaFunction>,
    /// Those of [`Denoise::KERNELS`].
    denoise: [CudaFunction; 2],
    lanes: [Arc<CudaStream>; LANES],
    /// Weights first, then what the largest batch works on.
    memory: Buffer<f32>,
    at: Places,
    steps: Vec<SamplerStep>,
    graphs: Vec<Graph>,
    host: Mapped,
}

/// A plan for so many requests, which keeps rows or none.
struct Graph {
    size: usize,
    keeps: bool,
    graph: CudaGraph,
    inputs: Inputs,
}

// SAFETY: a graph may be launched from any thread; it is owned, and used by one at a time.
unsafe impl Send for Graph {}

// SAFETY: plain numbers in C's layout.
unsafe impl cudarc::driver::DeviceRepr for Denoise {}

impl BatchPlans {
    /// The largest batch.
    pub const LARGEST: usize = SIZES[SIZES.len() - 1];

    /// Whether this network, on this GPU, can be planned with in batches.
    pub fn fits(gpu: &Gpu, network: &HostNetwork) -> bool {
        fits(network).is_ok() && gpu.shared_bytes >= SHARED_BYTES
    }

    /// # Errors
    /// When the network does not fit the kernels, or the device fails.
    pub fn new(gpu: &Gpu, network: &HostNetwork) -> Result<Self, PolicyFailure> {
        fits(network).map_err(PolicyFailure::Device)?;
        let layout = Layout::new(&network.list);
        let at = Places::new(&layout);
        let pass = Pass::new(&layout, network, at, Self::LARGEST, 1);
        let rounding = at.rounding(&layout);
        let passes = SIZES.iter().map(|size| Pass::new(&layout, network, at, *size, 1).acts);
        let all: Vec<Act> = passes.flatten().chain(rounding.iter().copied()).collect();
        let functions = functions(gpu, all.iter())?;
        let denoise = Module::compile(gpu, "denoise", DENOISE, &[])?;
        let [free, keeping] = Denoise::KERNELS.map(|name| denoise.function(name, 0));
        let stream = || gpu.context.new_stream().map_err(failed("a stream"));
        // Noise is the only thing that grows with the steps; a thousand of them draw at most this much.
        let memory = Buffer::zeroed(gpu, pass.bytes as usize / 4 + 1)?;
        let mut this = Self {
            denoise: [free?, keeping?],
            lanes: [stream()?, stream()?, stream()?],
            gpu: gpu.clone(),
            network: HostNetwork { values: Vec::new(), ..network.clone() },
            functions,
            memory,
            at,
            steps: Vec::new(),
            graphs: Vec::new(),
            host: Mapped::zeroed(gpu, 1)?,
            layout,
        };
        let flat = this.layout.pack(&network.values);
        this.memory.write(&flat)?;
        queue(&rounding, &this.functions, &this.lanes, &this.memory)?;
        this.lanes[MAIN].synchronize().map_err(failed("rounding weights"))?;
        Ok(this)
    }

    /// # Errors
    /// What the device refuses.
    pub fn set_steps(&mut self, steps: &[SamplerStep]) -> Result<(), PolicyFailure> {
        self.steps = steps.to_vec();
        self.graphs.clear();
        let pass = Pass::new(&self.layout, &self.network, self.at, Self::LARGEST, self.draws());
        let numbers = pass.bytes as usize / 4 + 1;
        if numbers > self.memory.len() {
            let flat = self.memory.read(self.at.free as usize / 4)?;
            self.memory = Buffer::zeroed(&self.gpu, numbers)?;
            self.memory.write(&flat)?;
        }
        self.host = Mapped::zeroed(&self.gpu, pass.inputs.len())?;
        Ok(())
    }

    /// As a plan engine's.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn plan(&mut self, asked: Asked, samples: &mut [f32]) -> Result<(), PolicyFailure> {
        let HostNetwork { predicted, action_dim, .. } = self.network;
        let batch = samples.len() / (predicted * action_dim);
        let size = SIZES.into_iter().find(|size| *size >= batch).unwrap_or(Self::LARGEST);
        let keeps = asked.kept.any();
        let fitting = |graph: &Graph| graph.size == size && graph.keeps == keeps;
        let known = self.graphs.iter().position(fitting);
        let index = known.unwrap_or(self.graphs.len());
        if known.is_none() {
            self.graphs.push(self.capture(size, keeps)?);
        }
        let Graph { graph, inputs, .. } = &self.graphs[index];
        let count = samples.len();
        let total = inputs.write(asked, (count, action_dim), self.steps.first(), self.host.slice_mut());
        let at = self.memory.at(0) + inputs.at;
        let stream = &self.lanes[MAIN];
        self.gpu.context.bind_to_thread().map_err(failed("binding"))?;
        // SAFETY: the host's memory is not touched before the work is done; the places lie within the block.
        unsafe {
            result::memcpy_htod_async(at, &self.host.slice()[..total], stream.cu_stream())
                .map_err(failed("copying requests"))?;
            graph.launch().map_err(failed("a plan"))?;
            result::memcpy_dtoh_async(&mut self.host.slice_mut()[..inputs.signal], at, stream.cu_stream())
                .map_err(failed("copying plans"))?;
        }
        stream.synchronize().map_err(failed("a plan"))?;
        samples.copy_from_slice(&self.host.slice()[..count]);
        Ok(())
    }

    fn draws(&self) -> usize {
        // The first is where the samples are.
        draws(&self.steps) - 1
    }

    /// All steps for a batch of this size as one graph.
    fn capture(&self, size: usize, keeps: bool) -> Result<Graph, PolicyFailure> {
        let pass = Pass::new(&self.layout, &self.network, self.at, size, self.draws());
        let stream = &self.lanes[MAIN];
        stream.begin_capture(CaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).map_err(failed("capture"))?;
        let queued = self.queue_steps(&pass, &self.denoise[usize::from(keeps)]);
        // Also after an error: the stream must not stay in capture.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).map_err(failed("capture"))?;
        queued?;
        let graph =
            graph.ok_or_else(|| PolicyFailure::Device("the GPU captured no graph of a plan".into()))?;
        Ok(Graph { size, keeps, graph, inputs: pass.inputs })
    }

    fn queue_steps(&self, pass: &Pass, denoise: &CudaFunction) -> Result<(), PolicyFailure> {
        for step in pass.denoising(self.memory.at(0), &self.steps) {
            queue(&pass.acts, &self.functions, &self.lanes, &self.memory)?;
            let config = LaunchConfig {
                grid_dim: (step.blocks() as u32, 1, 1),
                block_dim: (Denoise::THREADS as u32, 1, 1),
                shared_mem_bytes: 0,
            };
            let mut arguments = self.lanes[MAIN].launch_builder(denoise);
            arguments.arg(&step);
            // SAFETY: all addresses lie within the block, with as many numbers as the kernel touches.
            unsafe { arguments.launch(config) }.map_err(failed("a sampler step"))?;
        }
        Ok(())
    }
}

impl Drop for BatchPlans {
    fn drop(&mut self) {
        // Nothing may still read what is about to be freed; an error was told before or concerns nobody any more.
        let _ = self.gpu.context.synchronize();
    }
}
