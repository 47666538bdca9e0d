//! What plans are made on: a GPU, or in tests a CPU that emulates one.

use cudarc::driver::{CudaFunction, LaunchConfig, PushKernelArg};

use super::layout::Plan;
use crate::PolicyFailure;
use crate::cuda::{Gpu, Module, Place, failed};

pub(super) enum Machine {
    Gpu(Gpu),
    #[cfg(test)]
    Emulated(super::emulation::Emulated),
}

/// The plan kernel, compiled for one batch size.
pub(super) enum Kernel {
    Gpu(CudaFunction),
    #[cfg(test)]
    Emulated(super::emulation::Emulate),
}

impl Machine {
    pub fn place(&self) -> Place<'_> {
        match self {
            Self::Gpu(gpu) => gpu.into(),
            #[cfg(test)]
            Self::Emulated(_) => Place::Host,
        }
    }

    pub fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Gpu(gpu) => Some(gpu),
            #[cfg(test)]
            Self::Emulated(_) => None,
        }
    }

    pub fn multiprocessors(&self) -> usize {
        match self {
            Self::Gpu(gpu) => gpu.multiprocessors,
            #[cfg(test)]
            Self::Emulated(emulated) => emulated.multiprocessors,
        }
    }

    /// Shared memory that one block can have.
    pub fn shared_bytes(&self) -> usize {
        match self {
            Self::Gpu(gpu) => gpu.shared_bytes,
            #[cfg(test)]
            Self::Emulated(emulated) => emulated.shared_bytes,
        }
    }

    /// Whether a network that is `small` enough for it runs on one cluster.
    pub fn clusters(&self, small: bool) -> bool {
        match self {
            Self::Gpu(_) => small,
            #[cfg(test)]
            Self::Emulated(emulated) => emulated.clusters,
        }
    }

    /// # Errors
    /// What the compiler says, or that the machine has less shared memory.
    pub fn compile(
        &self,
        source: &str,
        defines: &[String],
        shared_bytes: usize,
    ) -> Result<Kernel, PolicyFailure> {
        match self {
            Self::Gpu(gpu) => {
                let module = Module::compile(gpu, "plan", source, defines)?;
                Ok(Kernel::Gpu(module.function("plan_kernel", shared_bytes)?))
            }
            #[cfg(test)]
            Self::Emulated(_) => Ok(Kernel::Emulated(super::emulation::compiled(defines))),
        }
    }

    /// Runs a plan of `grid` blocks to its end; as one cluster, or as blocks that all run at once.
    ///
    /// # Errors
    /// What went wrong on the device.
    ///
    /// # Safety
    /// Every address in `plan` is that of memory which outlives the call, as large as the kernel assumes; as many blocks
    /// run at once.
    pub unsafe fn run(
        &self,
        kernel: &Kernel,
        plan: &Plan,
        (grid, threads, shared_bytes): (usize, usize, usize),
        clustered: bool,
    ) -> Result<(), PolicyFailure> {
        match (self, kernel) {
            (Self::Gpu(gpu), Kernel::Gpu(function)) => {
                let config = LaunchConfig {
                    grid_dim: (grid as u32, 1, 1),
                    block_dim: (threads as u32, 1, 1),
                    shared_mem_bytes: shared_bytes as u32,
                };
                let mut arguments = gpu.stream.launch_builder(function);
                arguments.arg(plan);
                // SAFETY: the caller's.
                let started = unsafe {
                    if clustered { arguments.launch(config) } else { arguments.launch_cooperative(config) }
                };
                started.map_err(failed("starting a plan"))?;
                gpu.synchronize()
            }
            #[cfg(test)]
            (_, Kernel::Emulated(emulate)) => {
                // SAFETY: the caller's.
                unsafe { emulate(plan, grid as _, shared_bytes as _) };
                Ok(())
            }
            #[cfg(test)]
            (Self::Emulated(_), Kernel::Gpu(_)) => unreachable!("a kernel is run where it was compiled"),
        }
    }
}
