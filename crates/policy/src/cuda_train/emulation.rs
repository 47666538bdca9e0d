//! The kernels on the CPU. Skips, aloud, where there is no C++ compiler.

use std::ffi::{CString, c_char, c_int, c_void};
use std::rc::Rc;

use super::program::{Act, Counters};
use super::step::StepPlan;
use super::tests::{agrees_with_the_graph, network, training};
use crate::PolicyFailure;
use crate::cuda::emulated::{FIBERS, compile};
use crate::data::Batch;
use crate::engine::HostNetwork;
use crate::optimizer::Moments;
use crate::updates::{Learned, Updates};

pub(super) type Emulate =
    unsafe extern "C" fn(*const c_char, *const c_int, c_int, c_int, *mut u8, *const c_void) -> c_int;

/// A GPU's memory, and its kernels.
pub(super) struct Device {
    memory: Vec<Line>,
    pub emulate: Emulate,
}

struct Emulator {
    plan: Rc<StepPlan>,
    device: Device,
    updates: u64,
    losses: Vec<f64>,
}

/// Device memory begins at such a line.
#[derive(Clone, Copy)]
#[repr(align(256))]
#[expect(dead_code, reason = "only its bytes are used")]
struct Line([u8; 256]);

impl Device {
    pub fn new(emulate: Emulate, bytes: u64) -> Self {
        // All ones: not a number, in f32 and in bf16.
        Self { memory: vec![Line([0xff; 256]); bytes.div_ceil(256) as usize], emulate }
    }

    pub fn address(&self) -> u64 {
        self.memory.as_ptr() as u64
    }

    pub fn write<T: Copy>(&mut self, at: u64, values: &[T]) {
        assert!(at as usize + size_of_val(values) <= size_of_val(&*self.memory));
        // SAFETY: within the block, as was just asserted.
        unsafe {
            let to = self.memory.as_mut_ptr().cast::<u8>().add(at as usize);
            std::ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), to, size_of_val(values));
        }
    }

    pub fn read(&self, at: u64, len: usize) -> Vec<f32> {
        assert!(at as usize + 4 * len <= size_of_val(&*self.memory));
        let mut values = vec![0.0; len];
        // SAFETY: within the block, as was just asserted.
        unsafe {
            let from = self.memory.as_ptr().cast::<u8>().add(at as usize);
            std::ptr::copy_nonoverlapping(from.cast::<f32>(), values.as_mut_ptr(), len);
        }
        values
    }

    pub fn run(&mut self, acts: &[Act]) {
        for act in acts {
            let Act::Launch { launch, .. } = act else { continue };
            let shape = (launch.grid, launch.threads, launch.shared_bytes);
            // SAFETY: kernel and arguments belong together, and stay within the block.
            unsafe { self.launch(launch.kernel, shape, launch.arguments.address()) };
        }
    }

    /// # Safety
    /// The kernel takes these arguments, and what they tell it to touch is there.
    pub unsafe fn launch(
        &mut self,
        kernel: &str,
        (grid, threads, shared_bytes): ([usize; 3], usize, usize),
        arguments: *const c_void,
    ) {
        let (name, grid) = (CString::new(kernel).unwrap(), grid.map(|count| count as c_int));
        let (threads, shared_bytes) = (threads as c_int, shared_bytes as c_int);
        let base = self.memory.as_mut_ptr().cast();
        // SAFETY: the caller's.
        let known =
            unsafe { (self.emulate)(name.as_ptr(), grid.as_ptr(), threads, shared_bytes, base, arguments) };
        assert_eq!(known, 1, "no kernel is called {kernel}");
    }
}

impl Emulator {
    fn new(emulate: Emulate, network: &HostNetwork, batch: usize) -> Self {
        let plan = Rc::new(StepPlan::new(network, &training(batch).optimizer, batch));
        let mut device = Device::new(emulate, plan.bytes);
        let flat = plan.layout.pack(&network.values);
        let none = vec![0.0; flat.len()];
        let parts = [(plan.weights, &flat), (plan.average, &flat), (plan.first, &none), (plan.second, &none)];
        for (at, values) in parts {
            device.write(at, values);
        }
        device.write(plan.pieces_at, &plan.pieces);
        device.write(plan.counters, &[0u32; Counters::COUNT]);
        device.run(&plan.rounding);
        Self { plan, device, updates: 0, losses: Vec::new() }
    }

    fn unpacked(&self, at: u64) -> Vec<Vec<f32>> {
        self.plan.layout.unpack(&self.device.read(at, self.plan.layout.len))
    }
}

impl Updates for Emulator {
    fn step(&mut self, batch: &Batch, rate: f64, decay: f64) -> Result<(), PolicyFailure> {
        self.updates += 1;
        let mut staging = vec![0.0; self.plan.inputs.len()];
        let scalars = self.plan.scalars(rate, decay, self.updates, batch.learned(), 1);
        self.plan.inputs.write(batch, 0, scalars, &mut staging);
        self.device.write(self.plan.inputs.at, &staging);
        self.device.run(&self.plan.steps[usize::from(batch.keeps())]);
        self.losses.push(f64::from(self.device.read(self.plan.losses, 2)[1]));
        Ok(())
    }

    fn losses(&mut self, _wait: bool) -> Result<Vec<f64>, PolicyFailure> {
        Ok(std::mem::take(&mut self.losses))
    }

    fn validate(&mut self, batch: &Batch) -> Result<f64, PolicyFailure> {
        let plan = self.plan.clone();
        self.device.run(&plan.rounding);
        plan.mean_squared_error(batch, |inputs| {
            self.device.write(plan.inputs.at, inputs);
            self.device.run(&plan.validation);
            Ok(self.device.read(plan.prediction.at, plan.predictions()))
        })
    }

    fn average(&mut self) -> Result<Vec<Vec<f32>>, PolicyFailure> {
        Ok(self.unpacked(self.plan.average))
    }

    fn learned(&mut self) -> Result<Learned, PolicyFailure> {
        let (first, second) = (self.unpacked(self.plan.first), self.unpacked(self.plan.second));
        let moments = Moments { updates: self.updates, first, second };
        Ok(Learned { weights: self.unpacked(self.plan.weights), average: self.average()?, moments })
    }

    fn restore(&mut self, _learned: Learned) -> Result<(), PolicyFailure> {
        unreachable!("no test asks for it")
    }
}

/// The emulator, compiled.
pub(super) fn compiled() -> Option<Emulate> {
    let kernels = [
        FIBERS,
        include_str!("emulator.cpp"),
        include_str!("kernels/numbers.cu"),
        include_str!("kernels/convolution.cu"),
        include_str!("kernels/product.cu"),
        include_str!("kernels/same.cu"),
        include_str!("kernels/weights.cu"),
        include_str!("kernels/norm.cu"),
        include_str!("kernels/small.cu"),
        include_str!("kernels/denoise.cu"),
        include_str!("emulator_entry.cpp"),
    ];
    let function = compile(&kernels.concat(), &[], "emulate")?;
    // SAFETY: the function has this type.
    Some(unsafe { std::mem::transmute::<*mut c_void, Emulate>(function) })
}

#[test]
fn the_kernels_learn_what_the_graph_learns() {
    let Some(emulate) = compiled() else { return };
    let cases =
        [([32, 64].as_slice(), (5, 0), false, 0), (&[64, 128], (7, 1), true, 0), (&[64], (3, 0), true, 1)];
    for (dims, batch, scales, more) in cases {
        let network = network(dims, 16, scales);
        agrees_with_the_graph(&network, batch, more, &mut Emulator::new(emulate, &network, batch.0));
    }
}
