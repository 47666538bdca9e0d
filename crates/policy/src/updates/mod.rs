//! What makes the updates of a training, and where: a whole step a call, so that each kind of device is driven in the
//! way that suits it. The loop around it, the data and the checkpoints are the same for all.

mod cpu;
mod graph;
#[cfg(test)]
mod tests;

use crate::config::TrainingConfig;
#[cfg(feature = "cuda-kernels")]
use crate::cuda::Gpu;
#[cfg(feature = "cuda-kernels")]
use crate::cuda_train::CudaUpdates;
use crate::data::Batch;
use crate::engine::HostNetwork;
use crate::optimizer::Moments;
use crate::{DeviceChoice, PolicyFailure};

pub(crate) use cpu::CpuUpdates;
pub(crate) use graph::GraphUpdates;

/// The device, or the first ones of its kind, that a training runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainDevices {
    pub device: DeviceChoice,
    /// Each computes the gradients of its part of every batch. At least 1, and a divisor of `training.shards`.
    pub count: usize,
}

impl From<DeviceChoice> for TrainDevices {
    fn from(device: DeviceChoice) -> Self {
        Self { device, count: 1 }
    }
}

/// What a training has learned so far, on the host; values in the order of the network's list.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    pub weights: Vec<Vec<f32>>,
    pub average: Vec<Vec<f32>>,
    pub moments: Moments,
}

/// A network in training: its weights, their moving average, and AdamW's moments. All of it is a function of where it
/// began and of the steps made.
pub(crate) trait Updates {
    /// One update by the gradient of the batch's mean squared error, at a learning `rate`; then the average of the
    /// weights moves towards them, keeping `decay` of itself. It may return before the device has made the update.
    ///
    /// # Errors
    /// What the device refuses.
    fn step(&mut self, batch: &Batch, rate: f64, decay: f64) -> Result<(), PolicyFailure>;

    /// The mean squared error of each batch before its update, for the steps made since the last call, in order. Where
    /// updates are made asynchronously, those that are known by now; all of them when `wait`.
    ///
    /// # Errors
    /// What the device refuses.
    fn losses(&mut self, wait: bool) -> Result<Vec<f64>, PolicyFailure>;

    /// The mean squared error of the averaged weights on a batch of any size; nothing is learned from it.
    ///
    /// # Errors
    /// What the device refuses.
    fn validate(&mut self, batch: &Batch) -> Result<f64, PolicyFailure>;

    /// The averaged weights, in the order of the network's list.
    ///
    /// # Errors
    /// What the device refuses.
    fn average(&mut self) -> Result<Vec<Vec<f32>>, PolicyFailure>;

    /// Everything that is needed to go on from here.
    ///
    /// # Errors
    /// What the device refuses.
    fn learned(&mut self) -> Result<Learned, PolicyFailure>;

    /// Goes on from what was learned before.
    ///
    /// # Errors
    /// What the device refuses.
    fn restore(&mut self, learned: Learned) -> Result<(), PolicyFailure>;
}

/// Training from the network's values on, in the way that suits the device.
///
/// # Errors
/// When this build or this machine lacks the devices, or they cannot share the batches.
pub(crate) fn open(
    network: HostNetwork,
    training: &TrainingConfig,
    devices: TrainDevices,
) -> Result<Box<dyn Updates>, PolicyFailure> {
    match devices {
        TrainDevices { device: DeviceChoice::Cpu, count: 1 } => {
            Ok(Box::new(CpuUpdates::new(network, training)))
        }
        #[cfg(feature = "cuda-kernels")]
        TrainDevices { device: DeviceChoice::Cuda, count: 1 } if CudaUpdates::fits(&network).is_ok() => {
            let gpu = Gpu::open(0)?;
            if CudaUpdates::runs_on(&gpu) {
                return Ok(Box::new(CudaUpdates::new(gpu, &network, training)?));
            }
            Ok(Box::new(GraphUpdates::new(network, training, devices)?))
        }
        _ => Ok(Box::new(GraphUpdates::new(network, training, devices)?)),
    }
}
