//! Memory on the device, and memory of the host that the device reads and writes.

use std::sync::Arc;

use cudarc::driver::{CudaContext, result, sys};

use super::Place;
use super::gpu::failed;
use crate::PolicyFailure;

/// Device memory of `len` numbers, freed when dropped.
pub(crate) struct Buffer<T> {
    address: sys::CUdeviceptr,
    len: usize,
    /// None where the device is emulated, and its memory is the host's.
    context: Option<Arc<CudaContext>>,
    of: std::marker::PhantomData<T>,
}

// SAFETY: an address on the device, used through a context that any thread may bind.
unsafe impl<T: Send> Send for Buffer<T> {}

impl<T: Copy> Buffer<T> {
    /// Zeroed memory; a length of 0 gives room for one number, so that every buffer has an address.
    pub fn zeroed<'a>(place: impl Into<Place<'a>>, len: usize) -> Result<Self, PolicyFailure> {
        #[cfg_attr(not(test), expect(clippy::infallible_destructuring_match, reason = "tests know another"))]
        let gpu = match place.into() {
            Place::Gpu(gpu) => gpu,
            #[cfg(test)]
            Place::Host => {
                let address = super::emulated::allocate(len.max(1) * size_of::<T>());
                return Ok(Self { address, len, context: None, of: std::marker::PhantomData });
            }
        };
        let bytes = len.max(1) * size_of::<T>();
        gpu.context.bind_to_thread().map_err(failed("binding"))?;
        // SAFETY: freshly allocated with this many bytes, and owned here alone.
        let address = unsafe {
            let address = result::malloc_sync(bytes).map_err(failed("allocating memory"))?;
            result::memset_d8_sync(address, 0, bytes).map_err(failed("clearing memory"))?;
            address
        };
        Ok(Self { address, len, context: Some(gpu.context.clone()), of: std::marker::PhantomData })
    }

    pub fn from_host<'a>(place: impl Into<Place<'a>>, values: &[T]) -> Result<Self, PolicyFailure> {
        let mut buffer = Self::zeroed(place, values.len())?;
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
        let Some(context) = &self.context else {
            // SAFETY: as below, in this process's own memory.
            unsafe {
                let to = self.at(start) as *mut T;
                std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len());
            }
            return Ok(());
        };
        context.bind_to_thread().map_err(failed("binding"))?;
        // SAFETY: the buffer holds as many numbers from there on, of a type that is plain bytes.
        unsafe { result::memcpy_htod_sync(self.at(start), values) }.map_err(failed("copying to the device"))
    }

    /// The buffer's first `len` numbers, after everything asked of the device so far.
    pub fn read(&self, len: usize) -> Result<Vec<T>, PolicyFailure>
    where
        T: Default,
    {
        assert!(len <= self.len, "{len} numbers from a buffer of {}", self.len);
        let mut values = vec![T::default(); len];
        let Some(context) = &self.context else {
            // SAFETY: as below, in this process's own memory.
            unsafe { std::ptr::copy_nonoverlapping(self.address as *const T, values.as_mut_ptr(), len) };
            return Ok(values);
        };
        context.bind_to_thread().map_err(failed("binding"))?;
        context.synchronize().map_err(failed("the work so far"))?;
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
        // A context that is gone took its memory with it; emulated memory is a test's, and stays.
        if self.context.as_ref().is_some_and(|context| context.bind_to_thread().is_ok()) {
            // SAFETY: allocated in `zeroed`, freed once.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

/// Page-locked host memory that kernels read and write in place.
pub(crate) struct Mapped {
    host: *mut f32,
    len: usize,
    /// As that of [`Buffer`].
    context: Option<Arc<CudaContext>>,
}

// SAFETY: owned memory; access follows Rust's borrows, and the device is done before the host looks.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Zeroed.
    pub fn zeroed<'a>(place: impl Into<Place<'a>>, len: usize) -> Result<Self, PolicyFailure> {
        let len = len.max(1);
        #[cfg_attr(not(test), expect(clippy::infallible_destructuring_match, reason = "tests know another"))]
        let gpu = match place.into() {
            Place::Gpu(gpu) => gpu,
            #[cfg(test)]
            Place::Host => {
                let host = super::emulated::allocate(len * size_of::<f32>()) as *mut f32;
                return Ok(Self { host, len, context: None });
            }
        };
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
        Ok(Self { host, len, context: Some(gpu.context.clone()) })
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
        if self.context.as_ref().is_some_and(|context| context.bind_to_thread().is_ok()) {
            // SAFETY: allocated in `zeroed`, freed once.
            let _ = unsafe { result::free_host(self.host.cast()) };
        }
    }
}
