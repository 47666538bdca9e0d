//! Drives a GPU through the steps of a training.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode_enum as CaptureMode};
use cudarc::driver::{CudaEvent, CudaFunction, CudaGraph, CudaStream, result};

use super::launches::{functions, queue};
use super::network::fits;
use super::program::{Act, Counters, LANES, MAIN, SHARED_BYTES};
use super::step::{SLOTS, StepPlan};
use crate::PolicyFailure;
use crate::config::TrainingConfig;
use crate::cuda::{Buffer, Gpu, Mapped, failed};
use crate::data::Batch;
use crate::engine::HostNetwork;
use crate::optimizer::Moments;
use crate::updates::{Learned, Updates};

/// A network in training on one GPU.
pub(crate) struct CudaUpdates {
    gpu: Gpu,
    plan: StepPlan,
    memory: Buffer<f32>,
    functions: BTreeMap<&'static str, CudaFunction>,
    lanes: [Arc<CudaStream>; LANES],
    /// Of the plan's steps.
    graphs: [CudaGraph; 2],
    slots: Vec<Slot>,
    /// Slots whose steps may still be under way, oldest first.
    pending: VecDeque<usize>,
    losses: Vec<f64>,
    updates: u64,
}

/// What a step brings to the device and back, and when it is done.
struct Slot {
    inputs: Mapped,
    loss: Mapped,
    done: CudaEvent,
}

impl CudaUpdates {
    /// # Errors
    /// Why this network cannot be trained by these kernels.
    pub fn fits(network: &HostNetwork) -> Result<(), String> {
        fits(network)
    }

    /// Whether a GPU has what the kernels need: products of bf16 matrices, and room for their tiles.
    pub fn runs_on(gpu: &Gpu) -> bool {
        gpu.capability >= 80 && gpu.shared_bytes >= SHARED_BYTES
    }

    /// # Errors
    /// When the network does not fit, the GPU's memory is too small, or it cannot run the kernels.
    pub fn new(gpu: Gpu, network: &HostNetwork, training: &TrainingConfig) -> Result<Self, PolicyFailure> {
        fits(network).map_err(PolicyFailure::Config)?;
        let plan = StepPlan::new(network, &training.optimizer, training.batch_size);
        let functions =
            functions(&gpu, plan.steps.iter().chain([&plan.validation, &plan.rounding]).flatten())?;
        let memory = Buffer::zeroed(&gpu, plan.bytes as usize / 4 + 1)?;
        // The chain of activations goes first where both lanes could run.
        let (_, urgent) = result::stream::get_priority_range().map_err(failed("streams"))?;
        let stream = |priority| gpu.context.new_stream_with_priority(priority).map_err(failed("a stream"));
        let lanes = [stream(urgent)?, stream(0)?, stream(0)?];
        let slots = (0..SLOTS)
            .map(|_| {
                let inputs = Mapped::zeroed(&gpu, plan.inputs.len())?;
                let done = gpu.context.new_event(None).map_err(failed("an event"))?;
                Ok(Slot { inputs, loss: Mapped::zeroed(&gpu, 1)?, done })
            })
            .collect::<Result<Vec<_>, PolicyFailure>>()?;
        let capture = |step: &[Act]| {
            let main = &lanes[MAIN];
            main.begin_capture(CaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).map_err(failed("capture"))?;
            let queued = queue(step, &functions, &lanes, &memory);
            // Also after an error: the stream must not stay in capture.
            let graph = main.end_capture(CUgraphInstantiate_flags(0)).map_err(failed("capture"))?;
            queued?;
            graph.ok_or_else(|| PolicyFailure::Device("the GPU captured no graph of a training step".into()))
        };
        let graphs = [capture(&plan.steps[0])?, capture(&plan.steps[1])?];
        let (pending, losses) = (VecDeque::new(), Vec::new());
        let this = Self { gpu, plan, memory, functions, lanes, graphs, slots, pending, losses, updates: 0 };
        let flat = this.plan.layout.pack(&network.values);
        this.write(this.plan.weights, &flat)?;
        this.write(this.plan.average, &flat)?;
        this.write(this.plan.pieces_at, &this.plan.pieces)?;
        this.write(this.plan.counters, &[0u32; Counters::COUNT])?;
        this.run(&this.plan.rounding)?;
        Ok(this)
    }

    /// Queues launches and waits for them.
    fn run(&self, acts: &[Act]) -> Result<(), PolicyFailure> {
        queue(acts, &self.functions, &self.lanes, &self.memory)?;
        self.lanes[MAIN].synchronize().map_err(failed("a pass"))
    }

    /// Copies to the block's byte `at` on, before it returns; nothing is under way meanwhile.
    fn write<T>(&self, at: u64, values: &[T]) -> Result<(), PolicyFailure> {
        self.gpu.context.synchronize().map_err(failed("the work so far"))?;
        // SAFETY: the plan's places lie within the block, with room for what is written to them.
        unsafe { result::memcpy_htod_sync(self.memory.at(0) + at, values) }
            .map_err(failed("copying to the device"))
    }

    fn read(&self, at: u64, len: usize) -> Result<Vec<f32>, PolicyFailure> {
        self.gpu.context.synchronize().map_err(failed("the work so far"))?;
        let mut values = vec![0.0; len];
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_sync(&mut values, self.memory.at(0) + at) }
            .map_err(failed("copying from the device"))?;
        Ok(values)
    }

    /// Values of all parameters from a flat array on the device.
    fn unpacked(&self, at: u64) -> Result<Vec<Vec<f32>>, PolicyFailure> {
        Ok(self.plan.layout.unpack(&self.read(at, self.plan.layout.len)?))
    }

    /// Takes the loss of the oldest step under way, if it is done or is to be waited for.
    fn finish(&mut self, wait: bool) -> Result<bool, PolicyFailure> {
        let Some(&slot) = self.pending.front() else { return Ok(false) };
        let slot = &self.slots[slot];
        if wait {
            slot.done.synchronize().map_err(failed("a training step"))?;
        } else if !slot.done.try_is_complete().map_err(failed("a training step"))? {
            return Ok(false);
        }
        self.losses.push(f64::from(slot.loss.slice()[0]));
        self.pending.pop_front();
        Ok(true)
    }
}

impl Updates for CudaUpdates {
    fn step(&mut self, batch: &Batch, rate: f64, decay: f64) -> Result<(), PolicyFailure> {
        if batch.len() != self.plan.batch {
            let problem =
                format!("a batch of {}, not of {}, was to be learned", batch.len(), self.plan.batch);
            return Err(PolicyFailure::Config(problem));
        }
        if self.pending.len() == SLOTS {
            self.finish(true)?;
        }
        let index = (self.updates % SLOTS as u64) as usize;
        let scalars = self.plan.scalars(rate, decay, self.updates + 1, batch.learned(), index);
        let slot = &mut self.slots[index];
        self.plan.inputs.write(batch, 0, scalars, slot.inputs.slice_mut());
        let (base, stream) = (self.memory.at(0), &self.lanes[MAIN]);
        self.gpu.context.bind_to_thread().map_err(failed("binding"))?;
        // SAFETY: the slot's memory is not touched until its step is done; the plan's places lie within the block.
        unsafe {
            let inputs = &slot.inputs.slice()[..self.plan.inputs.len()];
            result::memcpy_htod_async(base + self.plan.inputs.at, inputs, stream.cu_stream())
                .map_err(failed("copying a batch"))?;
            self.graphs[usize::from(batch.keeps())].launch().map_err(failed("a training step"))?;
            let from = base + self.plan.losses + 4 * index as u64;
            result::memcpy_dtoh_async(&mut slot.loss.slice_mut()[..1], from, stream.cu_stream())
                .map_err(failed("copying a loss"))?;
        }
        slot.done.record(stream).map_err(failed("a training step"))?;
        self.pending.push_back(index);
        self.updates += 1;
        Ok(())
    }

    fn losses(&mut self, wait: bool) -> Result<Vec<f64>, PolicyFailure> {
        while self.finish(wait)? {}
        Ok(std::mem::take(&mut self.losses))
    }

    fn validate(&mut self, batch: &Batch) -> Result<f64, PolicyFailure> {
        self.run(&self.plan.rounding)?;
        self.plan.mean_squared_error(batch, |inputs| {
            self.write(self.plan.inputs.at, inputs)?;
            self.run(&self.plan.validation)?;
            self.read(self.plan.prediction.at, self.plan.predictions())
        })
    }

    fn average(&mut self) -> Result<Vec<Vec<f32>>, PolicyFailure> {
        self.unpacked(self.plan.average)
    }

    fn learned(&mut self) -> Result<Learned, PolicyFailure> {
        let moments = match self.updates {
            0 => Moments { updates: 0, first: Vec::new(), second: Vec::new() },
            updates => Moments {
                updates,
                first: self.unpacked(self.plan.first)?,
                second: self.unpacked(self.plan.second)?,
            },
        };
        Ok(Learned { weights: self.unpacked(self.plan.weights)?, average: self.average()?, moments })
    }

    fn restore(&mut self, learned: Learned) -> Result<(), PolicyFailure> {
        while self.finish(true)? {}
        let Learned { weights, average, moments } = learned;
        let none = vec![0.0; self.plan.layout.len];
        let pack = |values: &[Vec<f32>]| self.plan.layout.pack(values);
        self.write(self.plan.weights, &pack(&weights))?;
        self.write(self.plan.average, &pack(&average))?;
        for (at, values) in [(self.plan.first, &moments.first), (self.plan.second, &moments.second)] {
            let flat = if moments.updates == 0 { none.clone() } else { pack(values) };
            self.write(at, &flat)?;
        }
        self.updates = moments.updates;
        self.run(&self.plan.rounding)
    }
}

impl Drop for CudaUpdates {
    fn drop(&mut self) {
        // Nothing may still read what is about to be freed; an error was told before or concerns nobody any more.
        let _ = self.gpu.context.synchronize();
    }
}
