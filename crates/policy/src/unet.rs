//! The conditional 1D temporal U-Net of Diffusion Policy (Chi et al. 2023, section 5.1; `ConditionalUnet1D` in the
//! reference implementation), with its exact structure and parameter names.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::kernels::{Kernels, convolve, convolve_transposed, group_norm_mish, linear, mish};
use crate::parameters::{Initial, ParameterId, ParameterList, Weights};

/// The U-Net's sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Channels at each resolution, finest first; each further one halves the time axis.
    pub down_dims: Vec<usize>,
    /// Width of the diffusion step's embedding; even.
    pub diffusion_step_embed_dim: usize,
    /// Taps of the convolutions; odd.
    pub kernel_size: usize,
    /// Groups of each group norm; divides every channel count.
    pub n_groups: usize,
    /// FiLM with scale and bias (Perez et al. 2018), else with bias alone.
    pub cond_predict_scale: bool,
}

/// The network: a function of weights that are kept apart from it.
#[derive(Clone, Debug)]
pub(crate) struct ConditionalUnet1d {
    kernels: Kernels,
    groups: usize,
    kernel_size: usize,
    step_embed_dim: usize,
    step_encoder: [Layer; 2],
    down: Vec<Level>,
    mid: Vec<ResidualBlock>,
    up: Vec<Level>,
    final_block: ConvBlock,
    final_conv: Layer,
}

/// Weight and bias.
#[derive(Clone, Copy, Debug)]
struct Layer {
    weight: ParameterId,
    bias: ParameterId,
}

/// Convolution, group norm, Mish.
#[derive(Clone, Copy, Debug)]
struct ConvBlock {
    conv: Layer,
    norm: Layer,
}

/// Two [`ConvBlock`]s with FiLM between them, and a shortcut.
#[derive(Clone, Debug)]
struct ResidualBlock {
    blocks: [ConvBlock; 2],
    cond_encoder: Layer,
    residual_conv: Option<Layer>,
    channels: usize,
    predicts_scale: bool,
}

/// Two residual blocks, and a change of resolution.
#[derive(Clone, Debug)]
struct Level {
    blocks: [ResidualBlock; 2],
    resample: Option<Layer>,
}

impl UnetConfig {
    /// # Errors
    /// The field out of range, and its range.
    pub(crate) fn check(&self, predicted: usize) -> Result<(), String> {
        if self.down_dims.is_empty() || self.down_dims.len() > 8 {
            return Err(format!("`network.down_dims` has {} entries, not 1 to 8", self.down_dims.len()));
        }
        if self.n_groups == 0 {
            return Err("`network.n_groups` is 0, and must be at least 1".into());
        }
        if let Some(dim) = self.down_dims.iter().find(|dim| **dim == 0 || **dim % self.n_groups != 0) {
            return Err(format!(
                "`network.down_dims` holds {dim}, which is not a positive multiple of `n_groups` = {}",
                self.n_groups
            ));
        }
        if self.kernel_size.is_multiple_of(2) {
            return Err(format!("`network.kernel_size` is {}, and must be odd", self.kernel_size));
        }
        if self.diffusion_step_embed_dim < 4 || !self.diffusion_step_embed_dim.is_multiple_of(2) {
            return Err(format!(
                "`network.diffusion_step_embed_dim` is {}, and must be even and at least 4",
                self.diffusion_step_embed_dim
            ));
        }
        let stride = 1 << (self.down_dims.len() - 1);
        if !predicted.is_multiple_of(stride) {
            return Err(format!(
                "`horizon.predicted` is {predicted}, and must be a multiple of {stride} for {} resolutions",
                self.down_dims.len()
            ));
        }
        Ok(())
    }

    /// The network for `action_dim` = Da and `cond_dim` = To * Do, and the list of its parameters.
    pub(crate) fn build(
        &self,
        kernels: Kernels,
        action_dim: usize,
        cond_dim: usize,
    ) -> (ConditionalUnet1d, ParameterList) {
        let mut list = ParameterList::default();
        let embed = self.diffusion_step_embed_dim;
        let builder = Builder { config: self, cond_dim: embed + cond_dim };
        let step_encoder = [
            builder.linear(&mut list, "diffusion_step_encoder.1", embed, 4 * embed),
            builder.linear(&mut list, "diffusion_step_encoder.3", 4 * embed, embed),
        ];
        let last = self.down_dims.len() - 1;
        let inputs = std::iter::once(&action_dim).chain(&self.down_dims);
        let pairs: Vec<(usize, usize)> =
            inputs.zip(&self.down_dims).map(|(input, output)| (*input, *output)).collect();
        let down = pairs.iter().enumerate().map(|(index, &(input, output))| {
            let name = format!("down_modules.{index}");
            let resample =
                (index < last).then(|| builder.conv(&mut list, &format!("{name}.2.conv"), output, output, 3));
            Level { blocks: builder.level(&mut list, &name, input, output), resample }
        });
        let down = down.collect();
        let widest = self.down_dims[last];
        let mid = (0..2)
            .map(|index| builder.residual(&mut list, &format!("mid_modules.{index}"), widest, widest))
            .collect();
        let up = pairs[1..].iter().rev().enumerate().map(|(index, &(input, output))| {
            let name = format!("up_modules.{index}");
            let weight = [input, input, 4];
            let resample = Some(Layer {
                weight: list.add(
                    format!("{name}.2.conv.weight"),
                    &weight,
                    Initial::Uniform { fan_in: input * 4 },
                ),
                bias: list.add(
                    format!("{name}.2.conv.bias"),
                    &[input],
                    Initial::Uniform { fan_in: input * 4 },
                ),
            });
            Level { blocks: builder.level(&mut list, &name, 2 * output, input), resample }
        });
        let up = up.collect();
        let finest = self.down_dims[0];
        let final_block = builder.conv_block(&mut list, "final_conv.0", finest, finest);
        let final_conv = builder.conv(&mut list, "final_conv.1", finest, action_dim, 1);
        let network = ConditionalUnet1d {
            kernels,
            groups: self.n_groups,
            kernel_size: self.kernel_size,
            step_embed_dim: embed,
            step_encoder,
            down,
            mid,
            up,
            final_block,
            final_conv,
        };
        (network, list)
    }
}

/// Adds layers under the reference's names, with PyTorch's default initial values.
struct Builder<'a> {
    config: &'a UnetConfig,
    cond_dim: usize,
}

impl Builder<'_> {
    fn linear(&self, list: &mut ParameterList, name: &str, input: usize, output: usize) -> Layer {
        let initial = Initial::Uniform { fan_in: input };
        Layer {
            weight: list.add(format!("{name}.weight"), &[output, input], initial),
            bias: list.add(format!("{name}.bias"), &[output], initial),
        }
    }

    fn conv(
        &self,
        list: &mut ParameterList,
        name: &str,
        input: usize,
        output: usize,
        kernel: usize,
    ) -> Layer {
        let initial = Initial::Uniform { fan_in: input * kernel };
        Layer {
            weight: list.add(format!("{name}.weight"), &[output, input, kernel], initial),
            bias: list.add(format!("{name}.bias"), &[output], initial),
        }
    }

    fn conv_block(&self, list: &mut ParameterList, name: &str, input: usize, output: usize) -> ConvBlock {
        let conv = self.conv(list, &format!("{name}.block.0"), input, output, self.config.kernel_size);
        let norm = Layer {
            weight: list.add(format!("{name}.block.1.weight"), &[output], Initial::One),
            bias: list.add(format!("{name}.block.1.bias"), &[output], Initial::Zero),
        };
        ConvBlock { conv, norm }
    }

    fn residual(&self, list: &mut ParameterList, name: &str, input: usize, output: usize) -> ResidualBlock {
        let predicts_scale = self.config.cond_predict_scale;
        let film = if predicts_scale { 2 * output } else { output };
        ResidualBlock {
            blocks: [
                self.conv_block(list, &format!("{name}.blocks.0"), input, output),
                self.conv_block(list, &format!("{name}.blocks.1"), output, output),
            ],
            cond_encoder: self.linear(list, &format!("{name}.cond_encoder.1"), self.cond_dim, film),
            residual_conv: (input != output)
                .then(|| self.conv(list, &format!("{name}.residual_conv"), input, output, 1)),
            channels: output,
            predicts_scale,
        }
    }

    fn level(&self, list: &mut ParameterList, name: &str, input: usize, output: usize) -> [ResidualBlock; 2] {
        [
            self.residual(list, &format!("{name}.0"), input, output),
            self.residual(list, &format!("{name}.1"), output, output),
        ]
    }
}

impl ConditionalUnet1d {
    /// The network's output `[B, Tp, Da]` for noisy actions `[B, Tp, Da]`, one diffusion timestep a sample, and the
    /// condition `[B, To * Do]`.
    pub(crate) fn forward(
        &self,
        weights: &Weights,
        sample: Tensor<3>,
        timesteps: &[usize],
        condition: Tensor<2>,
    ) -> Tensor<3> {
        let run = Run { network: self, weights };
        let embedded = run.embed_steps(timesteps, &condition);
        // Every residual block's encoder begins with the same Mish of the same features.
        let features = mish(Tensor::cat(vec![embedded, condition], 1));
        let mut x = sample.swap_dims(1, 2);
        let mut skips = Vec::with_capacity(self.down.len());
        for level in &self.down {
            x = run.level(level, x, &features);
            skips.push(x.clone());
            if let Some(conv) = level.resample {
                x = run.conv(conv, x, 2, 1);
            }
        }
        for block in &self.mid {
            x = run.residual(block, x, &features);
        }
        for level in &self.up {
            let skip = skips.pop().expect("there are fewer levels up than down");
            x = run.level(level, Tensor::cat(vec![x, skip], 1), &features);
            if let Some(conv) = level.resample {
                let (weight, bias) = (weights.get(conv.weight), weights.get(conv.bias));
                x = convolve_transposed(self.kernels, x, weight, bias, 2, 1);
            }
        }
        let x = run.conv_block(self.final_block, x);
        run.conv(self.final_conv, x, 1, 0).swap_dims(1, 2)
    }
}

/// A network with the weights of one call.
struct Run<'a> {
    network: &'a ConditionalUnet1d,
    weights: &'a Weights,
}

impl Run<'_> {
    /// Two layers over the sinusoidal embedding: `[B, step_embed_dim]`.
    fn embed_steps(&self, timesteps: &[usize], like: &Tensor<2>) -> Tensor<2> {
        let embedding = sinusoidal_embedding(timesteps, self.network.step_embed_dim);
        let shape = [timesteps.len(), self.network.step_embed_dim];
        let embedding = Tensor::from_data(burn::tensor::TensorData::new(embedding, shape), &like.device());
        let hidden = mish(self.linear(self.network.step_encoder[0], embedding));
        self.linear(self.network.step_encoder[1], hidden)
    }

    fn linear(&self, layer: Layer, x: Tensor<2>) -> Tensor<2> {
        linear(self.network.kernels, x, self.weights.get(layer.weight), self.weights.get(layer.bias))
    }

    fn conv(&self, layer: Layer, x: Tensor<3>, stride: usize, padding: usize) -> Tensor<3> {
        let (weight, bias) = (self.weights.get(layer.weight), self.weights.get(layer.bias));
        convolve(self.network.kernels, x, weight, bias, stride, padding)
    }

    fn conv_block(&self, block: ConvBlock, x: Tensor<3>) -> Tensor<3> {
        let x = self.conv(block.conv, x, 1, self.network.kernel_size / 2);
        let (scale, shift) = (self.weights.get(block.norm.weight), self.weights.get(block.norm.bias));
        group_norm_mish(self.network.kernels, x, scale, shift, self.network.groups)
    }

    fn residual(&self, block: &ResidualBlock, x: Tensor<3>, features: &Tensor<2>) -> Tensor<3> {
        let hidden = self.conv_block(block.blocks[0], x.clone());
        let film = self.linear(block.cond_encoder, features.clone());
        let batch = film.dims()[0];
        let hidden = if block.predicts_scale {
            let film = film.reshape([batch, 2 * block.channels, 1]);
            let scale = film.clone().narrow(1, 0, block.channels);
            let bias = film.narrow(1, block.channels, block.channels);
            hidden * scale + bias
        } else {
            hidden + film.reshape([batch, block.channels, 1])
        };
        let hidden = self.conv_block(block.blocks[1], hidden);
        match block.residual_conv {
            Some(conv) => hidden + self.conv(conv, x, 1, 0),
            None => hidden + x,
        }
    }

    fn level(&self, level: &Level, x: Tensor<3>, features: &Tensor<2>) -> Tensor<3> {
        let x = self.residual(&level.blocks[0], x, features);
        self.residual(&level.blocks[1], x, features)
    }
}

/// `[sin(t f_i).., cos(t f_i)..]` with `f_i = exp(-ln(10000) i / (dim / 2 - 1))` (Vaswani et al. 2017, section 3.5), in
/// f32 as the reference computes it; row-major `[B, dim]`.
pub(crate) fn sinusoidal_embedding(timesteps: &[usize], dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let rate = (10_000f64.ln() / (half - 1) as f64) as f32;
    let angles = |timestep: usize| (0..half).map(move |i| timestep as f32 * (-rate * i as f32).exp());
    timesteps
        .iter()
        .flat_map(|&timestep| angles(timestep).map(f32::sin).chain(angles(timestep).map(f32::cos)))
        .collect()
}
