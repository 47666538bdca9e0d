//! The network's layers, packed, from a checkpoint's parameters by the names that the reference gives them.

use super::{Block, Level, Network, Residual};
use crate::engine::HostNetwork;
use crate::engine::cpu::film::Film;
use crate::engine::cpu::machine::Machine;
use crate::engine::cpu::memory::Aligned;
use crate::engine::cpu::pack::{Convolution, Geometry};
use crate::engine::cpu::signal::padded;

impl Network {
    /// Packs the weights for a machine.
    pub fn new(host: &HostNetwork, machine: Machine) -> Self {
        let config = &host.config;
        let dims = &config.down_dims;
        let taps = config.kernel_size;
        let mut builder = Builder { host, machine, films: Vec::new(), width: 0 };
        let down = (0..dims.len()).map(|index| {
            let input = if index == 0 { host.action_dim } else { dims[index - 1] };
            let name = format!("down_modules.{index}");
            let resample = (index + 1 < dims.len()).then(|| {
                let geometry = Geometry::Centered { taps: 3, stride: 2 };
                builder.convolution(&format!("{name}.2.conv"), geometry, &[dims[index]], dims[index])
            });
            Level { blocks: builder.level(&name, &[input], dims[index]), resample }
        });
        let down = down.collect();
        let widest = dims[dims.len() - 1];
        let mid = [0, 1].map(|index| builder.residual(&format!("mid_modules.{index}"), &[widest], widest));
        let up = (1..dims.len()).rev().enumerate().map(|(index, level)| {
            let name = format!("up_modules.{index}");
            let channels = dims[level - 1];
            let resample =
                builder.convolution(&format!("{name}.2.conv"), Geometry::Doubling, &[channels], channels);
            let blocks = builder.level(&name, &[dims[level], dims[level]], channels);
            Level { blocks, resample: Some(resample) }
        });
        let up = up.collect();
        let last_block = builder.block("final_conv.0", &[dims[0]], dims[0]);
        let one_tap = Geometry::Centered { taps: 1, stride: 1 };
        let last = builder.convolution("final_conv.1", one_tap, &[dims[0]], host.action_dim);
        let film = Film::new(host, &builder.films);
        let mut network = Self {
            machine,
            film,
            predicted: host.predicted,
            action_dim: host.action_dim,
            groups: config.n_groups,
            halo: (taps / 2).max(1),
            limit: 0.0,
            down,
            mid,
            up,
            last_block,
            last,
        };
        network.limit = network.largest_integer();
        network
    }

    /// Integers up to this one times any output's weights stay within 32 bits, and they within 16.
    fn largest_integer(&self) -> f32 {
        let residuals = self.down.iter().chain(&self.up).flat_map(|level| &level.blocks).chain(&self.mid);
        let blocks = residuals.clone().flat_map(|residual| &residual.blocks).chain([&self.last_block]);
        let resamples = self.down.iter().chain(&self.up).filter_map(|level| level.resample.as_ref());
        let all = blocks
            .map(|block| &block.convolution)
            .chain(residuals.filter_map(|residual| residual.shortcut.as_ref()))
            .chain(resamples)
            .chain([&self.last]);
        let largest = all.map(Convolution::largest_sum).max().unwrap_or(0).max(1);
        (i32::MAX as u64 / largest).min(i16::MAX as u64) as f32
    }
}

/// Packs layers by the names that the reference gives them.
struct Builder<'a> {
    host: &'a HostNetwork,
    machine: Machine,
    /// Residual blocks so far, and their FiLM parameters.
    films: Vec<(String, usize)>,
    width: usize,
}

impl Builder<'_> {
    /// Weights are `[out, in, taps]`, or `[in, out, taps]` where steps are doubled.
    fn convolution(&self, name: &str, geometry: Geometry, parts: &[usize], outputs: usize) -> Convolution {
        let weights = self.host.get(&format!("{name}.weight"));
        let bias = self.host.get(&format!("{name}.bias"));
        let inputs: usize = parts.iter().sum();
        let taps = weights.len() / (inputs * outputs);
        Convolution::pack(&self.machine, geometry, parts, bias, |output, input, tap| match geometry {
            Geometry::Centered { .. } => weights[(output * inputs + input) * taps + tap],
            Geometry::Doubling => weights[(input * outputs + output) * taps + tap],
        })
    }

    fn block(&self, name: &str, parts: &[usize], outputs: usize) -> Block {
        let geometry = Geometry::Centered { taps: self.host.config.kernel_size, stride: 1 };
        let vector = |values: &[f32]| {
            let mut vector = Aligned::zeroed(padded(outputs));
            vector.numbers_mut()[..outputs].copy_from_slice(values);
            vector
        };
        Block {
            convolution: self.convolution(&format!("{name}.block.0"), geometry, parts, outputs),
            scale: vector(self.host.get(&format!("{name}.block.1.weight"))),
            shift: vector(self.host.get(&format!("{name}.block.1.bias"))),
        }
    }

    fn residual(&mut self, name: &str, parts: &[usize], outputs: usize) -> Residual {
        let film = self.width;
        self.width += 2 * padded(outputs);
        self.films.push((name.to_owned(), outputs));
        let one_tap = Geometry::Centered { taps: 1, stride: 1 };
        let shortcut = if parts.iter().sum::<usize>() != outputs {
            Some(self.convolution(&format!("{name}.residual_conv"), one_tap, parts, outputs))
        } else if parts.len() > 1 {
            // Two inputs side by side are as wide as the output: what is added is the convolution that changes nothing.
            let one = |output, input, _| if output == input { 1.0 } else { 0.0 };
            Some(Convolution::pack(&self.machine, one_tap, parts, &vec![0.0; outputs], one))
        } else {
            None
        };
        Residual {
            blocks: [
                self.block(&format!("{name}.blocks.0"), parts, outputs),
                self.block(&format!("{name}.blocks.1"), &[outputs], outputs),
            ],
            film,
            shortcut,
        }
    }

    fn level(&mut self, name: &str, parts: &[usize], outputs: usize) -> [Residual; 2] {
        [
            self.residual(&format!("{name}.0"), parts, outputs),
            self.residual(&format!("{name}.1"), &[outputs], outputs),
        ]
    }
}
