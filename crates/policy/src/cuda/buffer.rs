//! Memory on the device, and memory of the host that the device reads and writes.

use std::sync::Arc;

use cudarc::driver::{CudaContext, result, sys};

use super::Gpu;
use super::gpu::failed;
use crate::PolicyFailure;

/// Device memory of `len` numbers, freed when dropped.
pub(crate) struct Buffer<T> {
    address: sys::CUdeviceptr,
    len: usize,
    context: Arc<CudaContext>,
    of: std::marker::PhantomData<T>,
}

// SAFETY: an address on the device, used through a context that any thread may bind.
unsafe impl<T: Send> Send for Buffer<T> {}

impl<T: Copy> Buffer<T> {
    /// Zeroed memory; a length of 0 gives room for one number, so that every buffer has an address.
    pub fn zeroed(gpu: &Gpu, len: usize) -> Result<Self, PolicyFailure> {
        let bytes = len.max(1) * size_of::<T>();
        gpu.context.bind_to_thread().map_err(failed("binding"))?;
        // SAFETY: freshly allocated with this many bytes, and owned here alone.
        let address = unsafe {
            let address = result::malloc_sync(bytes).map_err(failed("allocating memory"))?;
            result::memset_d8_sync(address, 0, bytes).map_err(failed("clearing memory"))?;
            address
        };
        Ok(Self { address, len, context: gpu.context.clone(), of: std::marker::PhantomData })
    }

    pub fn from_host(gpu: &Gpu, values: &[T]) -> Result<Self, PolicyFailure> {
        let mut buffer = Self::zeroed(gpu, values.len())?;
        buffer.write(values)?;
        Ok(buffer)
    }

    /// Copies `values` to the buffer's start, before it returns.
    ///
    /// # Panics
    /// When they are more than the buffer holds.
    pub fn write(&mut self, values: &[T]) -> Result<(), PolicyFailure> {
        self.write_at(0, values)
    }

    /// Copies `values` to number `start` and on, before it returns.
    ///
    /// # Panics
    /// When they reach beyond the buffer's end.
    pub fn write_at(&mut self, start: usize, values: &[T]) -> Result<(), PolicyFailure> {
        assert!(start + values.len() <= self.len, "{} numbers at {start} of {}", values.len(), self.len);
        self.context.bind_to_thread().map_err(failed("binding"))?;
        // SAFETY: the buffer holds as many numbers from there on, of a type that is plain bytes.
        unsafe { result::memcpy_htod_sync(self.at(start), values) }.map_err(failed("copying to the device"))
    }

    /// The buffer's first `len` numbers, after everything asked of the device so far.
    pub fn read(&self, len: usize) -> Result<Vec<T>, PolicyFailure>
    where
        T: Default,
    {
        assert!(len <= self.len, "{len} numbers from a buffer of {}", self.len);
        self.context.bind_to_thread().map_err(failed("binding"))?;
        self.context.synchronize().map_err(failed("the work so far"))?;
        let mut values = vec![T::default(); len];
        // SAFETY: both sides hold `len` numbers of the same plain type.
        unsafe { result::memcpy_dtoh_sync(&mut values, self.address) }
            .map_err(failed("copying from the device"))?;
        Ok(values)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The address of number `index`.
    pub fn at(&self, index: usize) -> u64 {
        self.address + (index * size_of::<T>()) as u64
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // A context that is gone took its memory with it.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated in `zeroed`, freed once.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

/// Page-locked host memory that kernels read and write in place.
pub(crate) struct Mapped {
    host: *mut f32,
    len: usize,
    context: Arc<CudaContext>,
}

// SAFETY: owned memory; access follows Rust's borrows, and the device is done before the host looks.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Zeroed.
    pub fn zeroed(gpu: &Gpu, len: usize) -> Result<Self, PolicyFailure> {
        let len = len.max(1);
        gpu.context.bind_to_thread().map_err(failed("binding"))?;
        let flags = sys::CU_MEMHOSTALLOC_DEVICEMAP | sys::CU_MEMHOSTALLOC_PORTABLE;
        // SAFETY: freshly allocated with this many bytes, and zeroed before anyone reads.
        let host = unsafe {
            let host = result::malloc_host(len * size_of::<f32>(), flags)
                .map_err(failed("allocating host memory"))?
                .cast::<f32>();
            std::ptr::write_bytes(host, 0, len);
            host
        };
        Ok(Self { host, len, context: gpu.context.clone() })
    }

    /// The address that kernels use; with unified addressing it is the host's own.
    pub fn at(&self, index: usize) -> u64 {
        self.host as u64 + (index * size_of::<f32>()) as u64
    }

    pub fn slice(&self) -> &[f32] {
        // SAFETY: `len` initialised numbers, owned by `self`.
        unsafe { std::slice::from_raw_parts(self.host, self.len) }
    }

    pub fn slice_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.host, self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated in `zeroed`, freed once.
            let _ = unsafe { result::free_host(self.host.cast()) };
        }
    }
}
