//! Training through burn's gradient graph, on any device that burn has and on several: the reference that other ways are
//! compared with.

use std::ops::Range;

use burn::tensor::{Device, Tensor};

use super::{Learned, TrainDevices, Updates};
use crate::PolicyFailure;
use crate::config::TrainingConfig;
use crate::data::{Batch, DeviceBatch};
use crate::engine::HostNetwork;
use crate::optimizer::Optimizer;
use crate::parameters::{ParameterList, Weights};
use crate::unet::ConditionalUnet1d;

/// Samples that a validation passes through the network at once.
const VALIDATION_SAMPLES: usize = 64;

/// See the module.
pub(crate) struct GraphUpdates {
    network: ConditionalUnet1d,
    list: ParameterList,
    /// The same weights on every device; those of the first are updated, and copied to the others.
    replicas: Vec<(Device, Weights)>,
    average: Weights,
    optimizer: Optimizer,
    shards: usize,
    losses: Vec<f64>,
}

impl GraphUpdates {
    /// # Errors
    /// When this build or this machine has no such devices, or they cannot share the shards evenly.
    pub fn new(
        network: HostNetwork,
        training: &TrainingConfig,
        devices: TrainDevices,
    ) -> Result<Self, PolicyFailure> {
        let shards = training.shards;
        if devices.count == 0 || !shards.is_multiple_of(devices.count) {
            return Err(PolicyFailure::Config(format!(
                "`training.shards` is {shards}, and {} devices cannot share them evenly: what is learned depends on the \
                 number of shards, so it is a part of the configuration",
                devices.count
            )));
        }
        let opened =
            (0..devices.count).map(|index| devices.device.open_at(index)).collect::<Result<Vec<_>, _>>()?;
        let (graph, list) = network.config.build(opened[0].1, network.action_dim, network.condition_dim);
        let replica = |(device, _)| {
            let weights = Weights::new(&list, network.values.clone(), &device);
            (device, weights)
        };
        let replicas: Vec<_> = opened.into_iter().map(replica).collect();
        let average = replicas[0].1.clone();
        let optimizer = Optimizer::new(&training.optimizer, list.iter().len());
        Ok(Self { network: graph, list, replicas, average, optimizer, shards, losses: Vec::new() })
    }

    /// Loss and gradients of some samples of a batch, divided by all numbers of the whole batch that count.
    fn gradients(
        &self,
        (device, weights): &(Device, Weights),
        batch: &Batch,
        samples: Range<usize>,
    ) -> (f64, Vec<Tensor<1>>) {
        let weights = weights.tracked();
        let numbers = batch.learned() as f64;
        let batch = batch.on_device(samples, &device.clone().autodiff());
        let loss = self.squared_error(&weights, batch) / numbers;
        let mut gradients = loss.backward();
        let gradient = |tensor: &Tensor<1>| {
            tensor.grad_remove(&mut gradients).expect("the loss depends on every parameter")
        };
        let gradients = weights.tensors().iter().map(gradient).collect();
        (f64::from(loss.into_scalar::<f32>()), gradients)
    }
}

impl GraphUpdates {
    /// The sum over all numbers that count.
    fn squared_error(&self, weights: &Weights, batch: DeviceBatch) -> Tensor<1> {
        let output = self.network.forward(weights, batch.noisy, &batch.timesteps, batch.condition);
        let error = output - batch.target;
        let error = if let Some(learned) = batch.learned { error * learned } else { error };
        error.square().sum()
    }
}

impl Updates for GraphUpdates {
    fn step(&mut self, batch: &Batch, rate: f64, decay: f64) -> Result<(), PolicyFailure> {
        let (share, shards_each) = (batch.len() / self.shards, self.shards / self.replicas.len());
        let parts: Vec<(f64, Vec<Tensor<1>>)> = std::thread::scope(|scope| {
            let this = &*self;
            let running: Vec<_> = (0..self.shards)
                .map(|shard| {
                    let replica = &this.replicas[shard / shards_each];
                    scope.spawn(move || this.gradients(replica, batch, shard * share..(shard + 1) * share))
                })
                .collect();
            let finished = running.into_iter().map(|thread| thread.join());
            finished.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let (first, weights) = &mut self.replicas[0];
        let mut parts = parts.into_iter();
        let (mut loss, mut sums) = parts.next().expect("a batch has at least one shard");
        // In the order of the shards, wherever they were computed: the sum is the same for any number of devices.
        for (part, gradients) in parts {
            loss += part;
            let add = |(sum, gradient): (Tensor<1>, Tensor<1>)| sum + gradient.to_device(first);
            sums = sums.into_iter().zip(gradients).map(add).collect();
        }
        self.losses.push(loss);
        self.optimizer.step(rate, decay, weights, &mut self.average, sums, self.shards);
        let (updated, others) = self.replicas.split_first_mut().expect("there is at least one device");
        for (device, weights) in others {
            *weights = updated.1.on(device);
        }
        Ok(())
    }

    fn losses(&mut self, _wait: bool) -> Result<Vec<f64>, PolicyFailure> {
        Ok(std::mem::take(&mut self.losses))
    }

    fn validate(&mut self, batch: &Batch) -> Result<f64, PolicyFailure> {
        let (device, numbers) = (&self.replicas[0].0, batch.learned() as f64);
        let loss = |start: usize| {
            let end = (start + VALIDATION_SAMPLES).min(batch.len());
            let error = self.squared_error(&self.average, batch.on_device(start..end, device));
            f64::from(error.into_scalar::<f32>()) / numbers
        };
        Ok((0..batch.len()).step_by(VALIDATION_SAMPLES).map(loss).sum())
    }

    fn average(&mut self) -> Result<Vec<Vec<f32>>, PolicyFailure> {
        Ok(self.average.to_host())
    }

    fn learned(&mut self) -> Result<Learned, PolicyFailure> {
        let weights = self.replicas[0].1.to_host();
        Ok(Learned { weights, average: self.average.to_host(), moments: self.optimizer.moments() })
    }

    fn restore(&mut self, learned: Learned) -> Result<(), PolicyFailure> {
        for (device, weights) in &mut self.replicas {
            *weights = Weights::new(&self.list, learned.weights.clone(), device);
        }
        let device = &self.replicas[0].0;
        self.average = Weights::new(&self.list, learned.average, device);
        self.optimizer.restore(learned.moments, device);
        Ok(())
    }
}
