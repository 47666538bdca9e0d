//! Plans for many requests at once: training's forward pass, once a sampler step, all steps in one CUDA graph.
//!
//! One request is a stream of weights past a few columns; hundreds are large matrix products, which training has already.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode_enum as CaptureMode};
use cudarc::driver::{CudaFunction, CudaGraph, CudaStream, LaunchConfig, PushKernelArg, result};

use super::arguments::{Arguments, Rounding};
use super::launches::{functions, queue};
use super::layout::Layout;
use super::network::{Given, fits};
use super::program::{Act, Builder, Counters, LANES, MAIN, SHARED_BYTES, Signal, WeightsAt};
use crate::PolicyFailure;
use crate::cuda::{Buffer, Gpu, Mapped, Module, failed};
use crate::engine::HostNetwork;
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
    denoise: CudaFunction,
    lanes: [Arc<CudaStream>; LANES],
    /// Weights first, then what the largest batch works on.
    memory: Buffer<f32>,
    at: Places,
    steps: Vec<SamplerStep>,
    graphs: Vec<(usize, Graph)>,
    host: Mapped,
}

/// Offsets in bytes.
#[derive(Clone, Copy)]
struct Places {
    weights: WeightsAt,
    counters: u64,
    /// Where inputs and activations begin.
    free: u64,
}

struct Graph {
    graph: CudaGraph,
    /// f32: samples, conditions, timesteps, then noise; what the host writes and reads.
    inputs: u64,
    counts: [usize; 4],
}

// SAFETY: a graph may be launched from any thread; it is owned, and used by one at a time.
unsafe impl Send for Graph {}

/// As `kernels/denoise.cu` declares it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Denoise {
    x: u64,
    output: u64,
    noise: u64,
    timesteps: u64,
    count: i32,
    actions: i32,
    ld: i32,
    batch: i32,
    clean_x: f32,
    clean_output: f32,
    of_clean: f32,
    of_x: f32,
    of_output: f32,
    deviation: f32,
    next_timestep: f32,
    unused: f32,
}

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
        let mut sizes =
            Builder::new(&layout, WeightsAt { full: 0, halves: 0 }, 0, 1, network.config.n_groups, 0);
        let full = sizes.take(layout.len, 4);
        let halves = sizes.take(layout.len, 2);
        let counters = sizes.take(Counters::COUNT, 4);
        let at = Places { weights: WeightsAt { full, halves }, counters, free: sizes.bytes };
        let pass = Pass::new(&layout, network, at, Self::LARGEST, 1);
        let mut round = Builder::new(&layout, at.weights, counters, 1, network.config.n_groups, 0);
        let rounding = Rounding { input: full, output: halves, count: layout.len as u64 };
        round.launch("round_weights", [1024, 1, 1], (256, 0), Arguments::Rounding(rounding));
        let round = round.acts;
        let passes = SIZES.iter().map(|size| Pass::new(&layout, network, at, *size, 1).acts);
        let all: Vec<Act> = passes.flatten().chain(round.iter().copied()).collect();
        let functions = functions(gpu, all.iter())?;
        let stream = || gpu.context.new_stream().map_err(failed("a stream"));
        // Noise is the only thing that grows with the steps; a thousand of them draw at most this much.
        let memory = Buffer::zeroed(gpu, pass.bytes as usize / 4 + 1)?;
        let mut this = Self {
            denoise: Module::compile(gpu, "denoise", DENOISE, &[])?.function("denoise", 0)?,
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
        queue(&round, &this.functions, &this.lanes, &this.memory)?;
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
        self.host = Mapped::zeroed(&self.gpu, pass.counts.iter().sum())?;
        Ok(())
    }

    /// As a plan engine's.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn plan(
        &mut self,
        conditions: &[f32],
        noise: &[f32],
        samples: &mut [f32],
    ) -> Result<(), PolicyFailure> {
        let numbers = self.network.predicted * self.network.action_dim;
        let batch = samples.len() / numbers;
        let size = SIZES.into_iter().find(|size| *size >= batch).unwrap_or(Self::LARGEST);
        if !self.graphs.iter().any(|(known, _)| *known == size) {
            let graph = self.capture(size)?;
            self.graphs.push((size, graph));
        }
        let Some((_, graph)) = self.graphs.iter().find(|(known, _)| *known == size) else { return Ok(()) };
        let [signal, condition, timesteps, _] = graph.counts;
        let total: usize = graph.counts.iter().sum();
        let host = &mut self.host.slice_mut()[..total];
        let (x, rest) = host.split_at_mut(signal);
        let (to_conditions, rest) = rest.split_at_mut(condition);
        let (to_timesteps, to_noise) = rest.split_at_mut(timesteps);
        let mut draws = noise.chunks_exact(samples.len());
        if let Some(first) = draws.next() {
            x[..samples.len()].copy_from_slice(first);
        }
        for (to, draw) in to_noise.chunks_exact_mut(signal).zip(draws) {
            to[..samples.len()].copy_from_slice(draw);
        }
        to_conditions[..conditions.len()].copy_from_slice(conditions);
        to_timesteps.fill(self.steps.first().map_or(0.0, |step| step.timestep as f32));
        let at = self.memory.at(0) + graph.inputs;
        let stream = &self.lanes[MAIN];
        self.gpu.context.bind_to_thread().map_err(failed("binding"))?;
        // SAFETY: the host's memory is not touched before the work is done; the places lie within the block.
        unsafe {
            result::memcpy_htod_async(at, &self.host.slice()[..total], stream.cu_stream())
                .map_err(failed("copying requests"))?;
            graph.graph.launch().map_err(failed("a plan"))?;
            result::memcpy_dtoh_async(&mut self.host.slice_mut()[..signal], at, stream.cu_stream())
                .map_err(failed("copying plans"))?;
        }
        stream.synchronize().map_err(failed("a plan"))?;
        samples.copy_from_slice(&self.host.slice()[..samples.len()]);
        Ok(())
    }

    fn draws(&self) -> usize {
        // The first is where the samples are.
        draws(&self.steps) - 1
    }

    /// All steps for a batch of this size as one graph.
    fn capture(&self, size: usize) -> Result<Graph, PolicyFailure> {
        let pass = Pass::new(&self.layout, &self.network, self.at, size, self.draws());
        let stream = &self.lanes[MAIN];
        stream.begin_capture(CaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).map_err(failed("capture"))?;
        let queued = self.queue_steps(&pass, size);
        // Also after an error: the stream must not stay in capture.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).map_err(failed("capture"))?;
        queued?;
        let graph =
            graph.ok_or_else(|| PolicyFailure::Device("the GPU captured no graph of a plan".into()))?;
        Ok(Graph { graph, inputs: pass.inputs, counts: pass.counts })
    }

    fn queue_steps(&self, pass: &Pass, size: usize) -> Result<(), PolicyFailure> {
        let base = self.memory.at(0) + pass.inputs;
        let [signal, condition, timesteps, _] = pass.counts;
        let mut draw = 0;
        for (index, step) in self.steps.iter().enumerate() {
            queue(&pass.acts, &self.functions, &self.lanes, &self.memory)?;
            let denoise = Denoise {
                x: base,
                output: self.memory.at(0) + pass.prediction.at,
                noise: base + 4 * (signal + condition + timesteps + draw * signal) as u64,
                timesteps: base + 4 * (signal + condition) as u64,
                count: signal as i32,
                actions: self.network.action_dim as i32,
                ld: pass.prediction.ld as i32,
                batch: size as i32,
                clean_x: step.clean[0] as f32,
                clean_output: step.clean[1] as f32,
                of_clean: step.of_clean as f32,
                of_x: step.of_x as f32,
                of_output: step.of_output as f32,
                deviation: step.deviation as f32,
                next_timestep: self.steps.get(index + 1).map_or(0.0, |step| step.timestep as f32),
                unused: 0.0,
            };
            draw += usize::from(step.deviation > 0.0);
            let config = LaunchConfig {
                grid_dim: (signal.max(size).div_ceil(256) as u32, 1, 1),
                block_dim: (256, 1, 1),
                shared_mem_bytes: 0,
            };
            let mut arguments = self.lanes[MAIN].launch_builder(&self.denoise);
            arguments.arg(&denoise);
            // SAFETY: all addresses lie within the block, with as many numbers as the kernel touches.
            unsafe { arguments.launch(config) }.map_err(failed("a sampler step"))?;
        }
        Ok(())
    }
}

/// One forward pass of a batch.
struct Pass {
    acts: Vec<Act>,
    inputs: u64,
    /// Numbers of samples, conditions, timesteps and noise.
    counts: [usize; 4],
    prediction: Signal,
    bytes: u64,
}

impl Pass {
    fn new(layout: &Layout, network: &HostNetwork, at: Places, size: usize, draws: usize) -> Self {
        let signal = size * network.predicted * network.action_dim;
        let counts = [signal, size * network.condition_dim, size, draws * signal];
        let mut builder =
            Builder::new(layout, at.weights, at.counters, size, network.config.n_groups, at.free);
        let inputs = builder.take(counts.iter().sum(), 4);
        let given = Given {
            network,
            noisy: inputs,
            condition: inputs + 4 * signal as u64,
            timesteps: inputs + 4 * (counts[0] + counts[1]) as u64,
        };
        let prediction = builder.forward(&given).prediction;
        Self { inputs, counts, prediction, bytes: builder.bytes, acts: builder.acts }
    }
}

impl Drop for BatchPlans {
    fn drop(&mut self) {
        // Nothing may still read what is about to be freed; an error was told before or concerns nobody any more.
        let _ = self.gpu.context.synchronize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnetConfig;
    use crate::kernels::Kernels;

    /// A launch costs a microsecond however little it does: a plan of 10 steps is to stay below a thousand.
    #[test]
    fn a_pass_takes_few_launches() {
        let config = UnetConfig {
            down_dims: vec![256, 512, 1024],
            diffusion_step_embed_dim: 256,
            kernel_size: 5,
            n_groups: 8,
            cond_predict_scale: true,
        };
        let (_, list) = config.build(Kernels::Stock, 2, 36);
        let network =
            HostNetwork { config, predicted: 16, action_dim: 2, condition_dim: 36, list, values: Vec::new() };
        let layout = Layout::new(&network.list);
        let at = Places { weights: WeightsAt { full: 0, halves: 0 }, counters: 0, free: 0 };
        let pass = Pass::new(&layout, &network, at, 256, 1);
        let launches = pass.acts.iter().filter(|act| matches!(act, Act::Launch { .. })).count();
        assert!(launches <= 75, "{launches}");
    }
}
