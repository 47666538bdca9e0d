//! One GPU, opened: its context, its stream, and what it can do.

use std::sync::Arc;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};
use cudarc::driver::{CudaContext, CudaStream, DriverError};

use crate::PolicyFailure;

/// An opened GPU. Everything that is asked of it goes through one stream, in order.
#[derive(Clone)]
pub(crate) struct Gpu {
    pub context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
    pub name: String,
    /// Compute capability, 90 for 9.0.
    pub capability: u32,
    pub multiprocessors: usize,
    /// Shared memory that one block can have.
    pub shared_bytes: usize,
}

impl Gpu {
    /// # Errors
    /// When there is no driver, or no such GPU.
    pub fn open(ordinal: usize) -> Result<Self, PolicyFailure> {
        // SAFETY: looks for the driver's library and loads it; nothing else is called before.
        if !unsafe { sys::is_culib_present() } {
            let problem = "there is no NVIDIA driver here (libcuda was not found): use `--device cpu`";
            return Err(PolicyFailure::Device(problem.into()));
        }
        let context = CudaContext::new(ordinal).map_err(|error| {
            PolicyFailure::Device(format!("GPU {ordinal} cannot be opened: {}", said(error)))
        })?;
        // SAFETY: events guard buffers that several streams share; each engine here has one stream.
        unsafe { context.disable_event_tracking() };
        let attribute =
            |which| context.attribute(which).map(|value| value as usize).map_err(failed("attributes"));
        let (major, minor) = context.compute_capability().map_err(failed("attributes"))?;
        Ok(Self {
            stream: context.new_stream().map_err(failed("a stream"))?,
            name: context.name().map_err(failed("its name"))?,
            capability: (major * 10 + minor) as u32,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            context,
        })
    }

    /// Waits until everything asked so far is done.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn synchronize(&self) -> Result<(), PolicyFailure> {
        self.stream.synchronize().map_err(failed("the work so far"))
    }
}

/// Turns a driver's error into ours.
pub(crate) fn failed(what: &str) -> impl Fn(DriverError) -> PolicyFailure + '_ {
    move |error| PolicyFailure::Device(format!("the GPU failed at {what}: {}", said(error)))
}

fn said(error: DriverError) -> String {
    match error.error_string() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("{error:?}"),
    }
}
