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
use crate::engine::{Asked, CLEAN, HostNetwork};
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
    inputs: Inputs,
}

/// What the host writes, side by side: f32 samples, conditions, timesteps, kept rows and noise; then, where rows are kept,
/// their clean values and the samples of the start. It reads the samples.
#[derive(Clone, Copy)]
struct Inputs {
    /// In bytes.
    at: u64,
    /// Numbers of the parts.
    signal: usize,
    condition: usize,
    batch: usize,
    noise: usize,
}

impl Inputs {
    /// Without what only kept rows need.
    fn usual(&self) -> usize {
        self.signal + self.condition + 3 * self.batch + self.noise
    }

    fn len(&self) -> usize {
        self.usual() + 2 * self.signal
    }

    /// The parts in their order, from a block of [`len`](Self::len) numbers.
    fn parts<'a>(&self, block: &'a mut [f32]) -> [&'a mut [f32]; 7] {
        let Self { signal, condition, batch, noise, .. } = *self;
        let mut rest = block;
        [signal, condition, batch, 2 * batch, noise, signal, signal].map(|len| {
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
            rest = behind;
            part
        })
    }

    fn conditions(&self) -> u64 {
        self.at + 4 * self.signal as u64
    }

    fn timesteps(&self) -> u64 {
        self.conditions() + 4 * self.condition as u64
    }

    fn kept(&self) -> u64 {
        self.timesteps() + 4 * self.batch as u64
    }

    fn noise(&self, draw: usize) -> u64 {
        self.kept() + 4 * (2 * self.batch + draw * self.signal) as u64
    }

    fn clean(&self) -> u64 {
        self.at + 4 * self.usual() as u64
    }

    fn start(&self) -> u64 {
        self.clean() + 4 * self.signal as u64
    }
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
    clean: u64,
    start: u64,
    kept: u64,
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
    kept_clean: f32,
    kept_noise: f32,
    t: i32,
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
        self.host = Mapped::zeroed(&self.gpu, pass.inputs.len())?;
        Ok(())
    }

    /// As a plan engine's.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn plan(&mut self, asked: Asked, samples: &mut [f32]) -> Result<(), PolicyFailure> {
        let Asked { conditions, noise, kept } = asked;
        let numbers = self.network.predicted * self.network.action_dim;
        let batch = samples.len() / numbers;
        let size = SIZES.into_iter().find(|size| *size >= batch).unwrap_or(Self::LARGEST);
        if !self.graphs.iter().any(|(known, _)| *known == size) {
            let graph = self.capture(size)?;
            self.graphs.push((size, graph));
        }
        let Some((_, graph)) = self.graphs.iter().find(|(known, _)| *known == size) else { return Ok(()) };
        let Inputs { at, signal, .. } = graph.inputs;
        let total = if kept.rows.is_empty() { graph.inputs.usual() } else { graph.inputs.len() };
        let [x, to_conditions, to_timesteps, to_kept, to_noise, clean, start] =
            graph.inputs.parts(&mut self.host.slice_mut()[..graph.inputs.len()]);
        let mut draws = noise.chunks_exact(samples.len());
        if let Some(first) = draws.next() {
            x[..samples.len()].copy_from_slice(first);
        }
        for (to, draw) in to_noise.chunks_exact_mut(signal).zip(draws) {
            to[..samples.len()].copy_from_slice(draw);
        }
        to_conditions[..conditions.len()].copy_from_slice(conditions);
        to_timesteps.fill(self.steps.first().map_or(0.0, |step| step.timestep as f32));
        to_kept.fill(0.0);
        if !kept.rows.is_empty() {
            clean[..samples.len()].copy_from_slice(kept.clean);
            start.copy_from_slice(x);
            let first = self.steps.first().map_or(CLEAN, |step| step.kept);
            kept.put(first, start, self.network.action_dim, x);
            for (to, rows) in to_kept.chunks_exact_mut(2).zip(kept.rows) {
                to.copy_from_slice(&[rows.start as f32, rows.end as f32]);
            }
        }
        let at = self.memory.at(0) + at;
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
        Ok(Graph { graph, inputs: pass.inputs })
    }

    fn queue_steps(&self, pass: &Pass, size: usize) -> Result<(), PolicyFailure> {
        let (base, inputs) = (self.memory.at(0), pass.inputs);
        let signal = inputs.signal;
        let mut draw = 0;
        for (index, step) in self.steps.iter().enumerate() {
            queue(&pass.acts, &self.functions, &self.lanes, &self.memory)?;
            let next = self.steps.get(index + 1);
            let [kept_clean, kept_noise] = next.map_or(CLEAN, |step| step.kept);
            let denoise = Denoise {
                x: base + inputs.at,
                output: base + pass.prediction.at,
                noise: base + inputs.noise(draw),
                timesteps: base + inputs.timesteps(),
                clean: base + inputs.clean(),
                start: base + inputs.start(),
                kept: base + inputs.kept(),
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
                next_timestep: next.map_or(0.0, |step| step.timestep as f32),
                kept_clean: kept_clean as f32,
                kept_noise: kept_noise as f32,
                t: self.network.predicted as i32,
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
    inputs: Inputs,
    prediction: Signal,
    bytes: u64,
}

impl Pass {
    fn new(layout: &Layout, network: &HostNetwork, at: Places, size: usize, draws: usize) -> Self {
        let signal = size * network.predicted * network.action_dim;
        let condition = size * network.condition_dim;
        let mut inputs = Inputs { at: 0, signal, condition, batch: size, noise: draws * signal };
        let mut builder =
            Builder::new(layout, at.weights, at.counters, size, network.config.n_groups, at.free);
        inputs.at = builder.take(inputs.len(), 4);
        let given = Given {
            network,
            noisy: inputs.at,
            condition: inputs.conditions(),
            timesteps: inputs.timesteps(),
        };
        let prediction = builder.forward(&given).prediction;
        Self { inputs, prediction, bytes: builder.bytes, acts: builder.acts }
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
