//! FiLM parameters (Perez et al. 2018) of all residual blocks. They are linear in Mish of the step's embedding and of the
//! condition, so that each has a part of its own: of a step, known before any plan, and of a condition, known before the
//! first step.

use super::machine::{Arithmetic, Machine, Work};
use super::memory::Aligned;
use super::rows::mish;
use super::signal::padded;
use crate::engine::HostNetwork;
use crate::unet::sinusoidal_embedding;

/// The encoders of all blocks as one.
pub(super) struct Film {
    /// FiLM parameters in all.
    width: usize,
    embedding: usize,
    condition: usize,
    step_encoder: [Linear; 2],
    /// `[embedding, width]` and a bias.
    of_step: Linear,
    /// `[condition, width]`; no bias of its own.
    of_condition: Linear,
}

/// A linear layer, input by input.
struct Linear {
    /// `[inputs, padded outputs]`.
    weights: Aligned,
    /// `[padded outputs]`.
    bias: Aligned,
}

impl Film {
    /// The encoders of `blocks` (name, channels), in their order.
    pub fn new(network: &HostNetwork, blocks: &[(String, usize)]) -> Self {
        let embedding = network.config.diffusion_step_embed_dim;
        let condition = network.condition_dim;
        let width = blocks.iter().map(|(_, channels)| 2 * padded(*channels)).sum();
        let mut of_step = Linear::zeroed(embedding, width);
        let mut of_condition = Linear::zeroed(condition, width);
        let mut first = 0;
        for (name, channels) in blocks {
            let weights = network.get(&format!("{name}.cond_encoder.1.weight"));
            let biases = network.get(&format!("{name}.cond_encoder.1.bias"));
            // Scales and biases, or biases alone.
            let halves = if network.config.cond_predict_scale { [0, 1] } else { [1, 1] };
            if !network.config.cond_predict_scale {
                of_step.bias.numbers_mut()[first..first + channels].fill(1.0f32);
            }
            let rows = weights.chunks_exact(embedding + condition).zip(biases).enumerate();
            for (output, (weights, bias)) in rows {
                let half = halves[output / channels];
                let place = first + half * padded(*channels) + output % channels;
                of_step.bias.numbers_mut()[place] = *bias;
                for (input, weight) in weights.iter().enumerate() {
                    let (layer, input) = if input < embedding {
                        (&mut of_step, input)
                    } else {
                        (&mut of_condition, input - embedding)
                    };
                    layer.weights.numbers_mut()[input * width + place] = *weight;
                }
            }
            first += 2 * padded(*channels);
        }
        let linear = |name: &str| Linear::named(network, &format!("diffusion_step_encoder.{name}"));
        Self { width, embedding, condition, step_encoder: [linear("1"), linear("3")], of_step, of_condition }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn condition(&self) -> usize {
        self.condition
    }

    /// The part of each timestep: `[timesteps, width]`.
    pub fn of_steps(&self, machine: &Machine, timesteps: &[usize]) -> Aligned {
        let mut all = Aligned::zeroed(timesteps.len() * self.width);
        let mut hidden = Aligned::zeroed(self.step_encoder[0].bias.numbers::<f32>().len());
        let mut embedded = Aligned::zeroed(self.step_encoder[1].bias.numbers::<f32>().len());
        for (timestep, output) in timesteps.iter().zip(all.numbers_mut().chunks_exact_mut(self.width)) {
            let mut embedding = sinusoidal_embedding(&[*timestep], self.embedding);
            self.step_encoder[0].run(machine, &embedding, hidden.numbers_mut());
            machine.run(Mish(hidden.numbers_mut()));
            self.step_encoder[1].run(
                machine,
                &hidden.numbers()[..4 * self.embedding],
                embedded.numbers_mut(),
            );
            embedding.copy_from_slice(&embedded.numbers()[..self.embedding]);
            machine.run(Mish(&mut embedding));
            self.of_step.run(machine, &embedding, output);
        }
        all
    }

    /// The part of one condition `[To * Do]`: `[width]`. `features` is room for as many numbers as the condition has.
    pub fn of_condition(
        &self,
        machine: &Machine,
        condition: &[f32],
        features: &mut [f32],
        output: &mut [f32],
    ) {
        features.copy_from_slice(condition);
        machine.run(Mish(features));
        self.of_condition.run(machine, features, output);
    }
}

impl Linear {
    fn zeroed(inputs: usize, outputs: usize) -> Self {
        let columns = padded(outputs);
        Self { weights: Aligned::zeroed(inputs * columns), bias: Aligned::zeroed(columns) }
    }

    fn named(network: &HostNetwork, name: &str) -> Self {
        let weights = network.get(&format!("{name}.weight"));
        let bias = network.get(&format!("{name}.bias"));
        let inputs = weights.len() / bias.len();
        let mut layer = Self::zeroed(inputs, bias.len());
        layer.bias.numbers_mut()[..bias.len()].copy_from_slice(bias);
        for (output, weights) in weights.chunks_exact(inputs).enumerate() {
            for (input, weight) in weights.iter().enumerate() {
                layer.weights.numbers_mut()[input * padded(bias.len()) + output] = *weight;
            }
        }
        layer
    }

    fn run(&self, machine: &Machine, inputs: &[f32], outputs: &mut [f32]) {
        outputs.copy_from_slice(&self.bias.numbers()[..outputs.len()]);
        machine.run(AddProducts { inputs, weights: self.weights.numbers(), outputs });
    }
}

/// Adds `inputs [n]` times `weights [n, m]` to `outputs [m]`.
struct AddProducts<'a> {
    inputs: &'a [f32],
    weights: &'a [f32],
    outputs: &'a mut [f32],
}

impl Work for AddProducts<'_> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        for (input, weights) in self.inputs.iter().zip(self.weights.chunks_exact(self.outputs.len())) {
            for (output, weight) in self.outputs.iter_mut().zip(weights) {
                *output = A::multiply_add(*weight, *input, *output);
            }
        }
    }
}

/// Mish of each number.
struct Mish<'a>(&'a mut [f32]);

impl Work for Mish<'_> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        self.0.iter_mut().for_each(|value| *value = mish::<A>(*value));
    }
}
