//! Where kernels run.

use super::Gpu;

/// Where what kernels read and write lies.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Gpu(&'a Gpu),
    /// In this process, where a device is emulated.
    #[cfg(test)]
    Host,
}

impl<'a> From<&'a Gpu> for Place<'a> {
    fn from(gpu: &'a Gpu) -> Self {
        Self::Gpu(gpu)
    }
}
