//! How much work one forward pass is, counted from the network's own list of parameters.

use crate::checkpoint::Manifest;
use crate::config::NetworkConfig;
use crate::kernels::Kernels;
use crate::parameters::Parameter;
use crate::{Precision, TrainConfig};

/// One forward pass of a network at batch 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkCost {
    pub parameters: usize,
    /// Weights of the convolutions: a plan reads them in every pass. The others see only timesteps, known beforehand,
    /// and the condition, so that once a plan is enough.
    pub convolved: usize,
    /// Floating-point operations of all products as they are commonly counted: a multiplication and an addition each,
    /// those with the padding of convolutions included.
    pub flops: u64,
    /// Of the convolutions alone, without the products with padding: what every pass has to do.
    pub flops_needed: u64,
}

impl NetworkCost {
    /// The cost of the network that `config` describes.
    pub fn of(config: &TrainConfig) -> Self {
        let NetworkConfig::ConditionalUnet1d(network) = &config.policy.network;
        let list = Manifest::untrained(config).network(Kernels::Stock).1;
        let halvings = network.down_dims.len() - 1;
        let predicted = config.policy.horizon.predicted;
        let mut cost = Self { parameters: list.count(), convolved: 0, flops: 0, flops_needed: 0 };
        for parameter in list.iter() {
            let (all, needed) = products(parameter, predicted, halvings);
            cost.flops += 2 * all;
            cost.flops_needed += 2 * needed;
            if needed > 0 {
                cost.convolved += parameter.shape.iter().product::<usize>();
            }
        }
        cost
    }

    /// Bytes that every pass of a plan in `precision` reads.
    pub fn bytes_each_pass(&self, precision: Precision) -> usize {
        let bytes = match precision {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
            Precision::Int8 => 1,
        };
        self.convolved * bytes
    }
}

/// Multiplications with a weight in one pass: all, and those that every pass has to make. None for biases and norms.
fn products(parameter: &Parameter, predicted: usize, halvings: usize) -> (u64, u64) {
    match *parameter.shape {
        [output, input] => ((output * input) as u64, 0),
        [outer, inner, taps] => {
            let mut parts = parameter.name.split('.');
            let (family, level) = (parts.next().unwrap_or_default(), parts.next());
            let level: usize = level.and_then(|level| level.parse().ok()).unwrap_or(0);
            let halved = match family {
                "down_modules" => level,
                "mid_modules" => halvings,
                "up_modules" => halvings - level,
                _ => 0,
            };
            let length = predicted >> halved;
            let resampled = parameter.name.ends_with(".2.conv.weight");
            let pairs = match (resampled, family) {
                // Stride 2, padding 1: the first of its outputs meets the padding with one tap.
                (true, "down_modules") => (taps * length / 2, taps * length / 2 - 1),
                // Transposed: one output beyond either end is cut off.
                (true, _) => (taps * length, taps * length - 2),
                (false, _) => (taps * length, inside(length, taps)),
            };
            ((outer * inner * pairs.0) as u64, (outer * inner * pairs.1) as u64)
        }
        _ => (0, 0),
    }
}

/// Pairs of an output and a tap that meet within a signal, at stride 1 and with `taps / 2` of padding.
fn inside(length: usize, taps: usize) -> usize {
    let reach = (taps / 2) as isize;
    let meets =
        |output: isize| (-reach..=reach).filter(move |tap| (0..length as isize).contains(&(output + tap)));
    (0..length as isize).map(|output| meets(output).count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shipped experiment with another network and `observed` numbers in an observation.
    fn cost(down_dims: &[usize], embed: usize, observed: usize) -> NetworkCost {
        let text = include_str!("../../../../configs/push_t.toml");
        let mut config = TrainConfig::from_toml(text).unwrap();
        let NetworkConfig::ConditionalUnet1d(network) = &mut config.policy.network;
        network.down_dims = down_dims.to_vec();
        network.diffusion_step_embed_dim = embed;
        config.interface.observation.truncate(1);
        config.interface.observation[0].shape = vec![observed];
        NetworkCost::of(&config)
    }

    #[test]
    fn the_published_networks_cost_what_is_published() {
        // Low-dimensional Push-T of the reference: 20 observed numbers, 65.78 M parameters, 0.59 GFLOP.
        let paper = cost(&[256, 512, 1024], 256, 20);
        assert_eq!(paper.parameters, 65_783_298);
        assert_eq!(paper.flops, 590_561_280);
        let small = cost(&[64, 128, 256], 256, 18);
        assert_eq!((small.parameters, small.flops), (5_397_826, 39_477_248));
        assert_eq!((small.convolved, small.flops_needed), (3_810_176, 27_707_904));
        assert_eq!(small.bytes_each_pass(Precision::Bf16), 2 * small.convolved);
        // The shipped policy.
        assert_eq!(cost(&[32, 64, 128], 128, 18).parameters, 1_386_146);
    }

    #[test]
    fn taps_over_padding_are_left_out() {
        // Five taps over four steps: 3 + 4 + 4 + 3 of 20.
        assert_eq!(inside(4, 5), 14);
        assert_eq!(inside(16, 1), 16);
        assert_eq!(inside(16, 3), 46);
    }
}
