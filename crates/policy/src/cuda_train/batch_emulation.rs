//! Plans for many requests, by the kernels on the CPU: as [`BatchPlans`](super::BatchPlans) makes them, but for the graph.

use super::batch_pass::{Denoise, Pass, Places};
use super::emulation::{Device, compiled};
use super::layout::Layout;
use super::program::Counters;
use crate::PolicyFailure;
use crate::engine::{Asked, HostNetwork, PlanEngine, Precision};
use crate::sampler::{SamplerStep, draws};

pub(crate) struct EmulatedBatches {
    network: HostNetwork,
    layout: Layout,
    steps: Vec<SamplerStep>,
    /// A batch is filled up to so many.
    size: usize,
    pass: Pass,
    device: Device,
}

impl EmulatedBatches {
    /// `None`, aloud, where there is no C++ compiler.
    pub fn new(network: &HostNetwork, size: usize) -> Option<Self> {
        let layout = Layout::new(&network.list);
        let pass = Pass::new(&layout, network, Places::new(&layout), size, 0);
        let device = Device::new(compiled()?, pass.bytes);
        Some(Self { network: network.clone(), layout, steps: Vec::new(), size, pass, device })
    }
}

impl PlanEngine for EmulatedBatches {
    fn precision(&self) -> Precision {
        Precision::Bf16
    }

    fn largest_batch(&self) -> usize {
        self.size
    }

    fn set_steps(&mut self, steps: &[SamplerStep]) -> Result<(), PolicyFailure> {
        let at = Places::new(&self.layout);
        self.steps = steps.to_vec();
        self.pass = Pass::new(&self.layout, &self.network, at, self.size, draws(steps) - 1);
        self.device = Device::new(self.device.emulate, self.pass.bytes);
        self.device.write(at.weights.full, &self.layout.pack(&self.network.values));
        self.device.write(at.counters, &[0u32; Counters::COUNT]);
        self.device.run(&at.rounding(&self.layout));
        Ok(())
    }

    fn plan(&mut self, asked: Asked, samples: &mut [f32]) -> Result<(), PolicyFailure> {
        let Self { steps, pass, device, .. } = self;
        let inputs = pass.inputs;
        // What the last plan left is not to be read.
        let mut block = vec![f32::NAN; inputs.len()];
        device.write(inputs.at, &block);
        let kernel = Denoise::KERNELS[usize::from(asked.kept.any())];
        let shape = (samples.len(), self.network.action_dim);
        let total = inputs.write(asked, shape, steps.first(), &mut block);
        device.write(inputs.at, &block[..total]);
        for step in pass.denoising(device.address(), steps) {
            device.run(&pass.acts);
            // SAFETY: its addresses lie within the block, with as many numbers as the kernel touches.
            unsafe {
                device.launch(kernel, ([step.blocks(), 1, 1], Denoise::THREADS, 0), (&raw const step).cast())
            };
        }
        samples.copy_from_slice(&device.read(inputs.at, samples.len()));
        Ok(())
    }

    fn another(&self) -> Option<Box<dyn PlanEngine>> {
        None
    }
}
