//! Planning through the training graph's layers: the reference that other engines are compared with, and what networks
//! use that no other engine takes.

use burn::tensor::{Device, Tensor, TensorData};

use super::{Asked, CLEAN, HostNetwork, PlanEngine, Precision};
use crate::parameters::{Weights, host};
use crate::sampler::SamplerStep;
use crate::unet::ConditionalUnet1d;
use crate::{DeviceChoice, PolicyFailure};

/// See the module.
#[derive(Clone)]
pub(crate) struct GraphEngine {
    network: ConditionalUnet1d,
    weights: Weights,
    device: Device,
    /// `Tp` and `Da`.
    shape: [usize; 2],
    steps: Vec<SamplerStep>,
}

impl GraphEngine {
    /// # Errors
    /// When this build or this machine has no such device.
    pub fn new(network: HostNetwork, device: DeviceChoice) -> Result<Self, PolicyFailure> {
        let (device, kernels) = device.open()?;
        let shape = [network.predicted, network.action_dim];
        let (graph, list) = network.config.build(kernels, network.action_dim, network.condition_dim);
        let weights = Weights::new(&list, network.values, &device);
        Ok(Self { network: graph, weights, device, shape, steps: Vec::new() })
    }
}

impl PlanEngine for GraphEngine {
    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn largest_batch(&self) -> usize {
        64
    }

    fn set_steps(&mut self, steps: &[SamplerStep]) -> Result<(), PolicyFailure> {
        self.steps = steps.to_vec();
        Ok(())
    }

    fn plan(&mut self, asked: Asked, samples: &mut [f32]) -> Result<(), PolicyFailure> {
        let Asked { conditions, noise, kept } = asked;
        let [predicted, action_dim] = self.shape;
        let batch = samples.len() / (predicted * action_dim);
        let tensor = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [batch, predicted, action_dim]);
            Tensor::<3>::from_data(data, &self.device)
        };
        let mut draws = noise.chunks_exact(samples.len());
        let mut draw = || tensor(draws.next().expect("the caller brings noise for every step that draws it"));
        let shape = [batch, conditions.len() / batch];
        let condition = Tensor::<2>::from_data(TensorData::new(conditions.to_vec(), shape), &self.device);
        let mut x = draw();
        let known = kept.any().then(|| {
            let mut mask = vec![0.0; samples.len()];
            kept.numbers(action_dim).for_each(|numbers| mask[numbers].fill(1.0));
            (tensor(&mask).equal_elem(1.0), tensor(kept.clean), x.clone())
        });
        let put = |x: Tensor<3>, [of_clean, of_noise]: [f64; 2]| match &known {
            Some((mask, clean, start)) => {
                x.mask_where(mask.clone(), clean.clone() * of_clean + start.clone() * of_noise)
            }
            None => x,
        };
        for step in &self.steps {
            x = put(x, step.kept);
            let timesteps = vec![step.timestep; batch];
            let output = self.network.forward(&self.weights, x.clone(), &timesteps, condition.clone());
            x = step.apply(x, output, &mut draw);
        }
        samples.copy_from_slice(&host(put(x, CLEAN)));
        Ok(())
    }

    fn another(&self) -> Option<Box<dyn PlanEngine>> {
        Some(Box::new(self.clone()))
    }
}
