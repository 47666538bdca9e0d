//! Where tensors live.

use std::str::FromStr;

use burn::tensor::Device;

use crate::PolicyFailure;
use crate::kernels::Kernels;

/// The choice of a device, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    #[default]
    Cpu,
    /// The first NVIDIA GPU; only in builds with the feature `cuda`.
    Cuda,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => Err(format!("`{name}` is no device: choose cpu or cuda")),
        }
    }
}

impl DeviceChoice {
    /// # Errors
    /// When this build or this machine has no such device.
    pub(crate) fn open(self) -> Result<(Device, Kernels), PolicyFailure> {
        self.open_at(0)
    }

    /// One of several devices of a kind. There are as many CPU devices as are asked for.
    ///
    /// # Errors
    /// When this build or this machine has no such device.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables))]
    pub(crate) fn open_at(self, index: usize) -> Result<(Device, Kernels), PolicyFailure> {
        match self {
            Self::Cpu => Ok((Device::flex(), Kernels::Cpu)),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok((Device::cuda(index), Kernels::Stock)),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda => {
                let how = "this program was built without CUDA: build it with `--features cuda`, or use `--device cpu`";
                Err(PolicyFailure::Device(how.into()))
            }
        }
    }
}
