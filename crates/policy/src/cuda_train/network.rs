//! The U-Net as launches: forward, and back again.

use super::arguments::{Arguments, Inputs};
use super::layout::padded;
use super::norms::{Film, norm_fits};
use super::program::{ASIDE, Builder, Gradient, Layer, MAIN, Signal, UPDATE};
use crate::engine::HostNetwork;

/// Sizes of a network, and where its inputs lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub network: &'a HostNetwork,
    /// f32 `[B, Tp, Da]`
    pub noisy: u64,
    /// f32 `[B]`
    pub timesteps: u64,
    /// f32 `[B, To * Do]`
    pub condition: u64,
}

/// What a forward pass leaves behind for the way back.
pub(super) struct Passed {
    steps: Steps,
    /// Finest first: two blocks, and the layer to the next level with its output's place.
    down: Vec<([Block; 2], Option<Layer>)>,
    mid: [Block; 2],
    up: Vec<([Block; 2], Layer)>,
    last: Block,
    head: Layer,
    /// f32 `[B * Tp, Da padded]`
    pub prediction: Signal,
}

/// The step encoder, and FiLM of all blocks at once.
struct Steps {
    embedding: Signal,
    hidden: [Signal; 2],
    embedded: Signal,
    features: Signal,
    film: Signal,
    film_slope: u64,
}

/// A residual block that was passed; the last has but one convolution.
struct Block {
    convolutions: Vec<(Layer, Layer)>,
    /// Input of each convolution, and its output.
    inputs: Vec<Signal>,
    outputs: Vec<Signal>,
    film: Film,
    shortcut: Option<Layer>,
    result: Signal,
}

/// # Errors
/// Why these kernels cannot train this network: burn's graph then does.
pub(super) fn fits(network: &HostNetwork) -> Result<(), String> {
    let config = &network.config;
    if let Some(dim) = config.down_dims.iter().find(|dim| !dim.is_multiple_of(8)) {
        return Err(format!("{dim} channels are no multiple of 8"));
    }
    if !config.diffusion_step_embed_dim.is_multiple_of(8) {
        return Err(format!("a step embedding of {} is no multiple of 8", config.diffusion_step_embed_dim));
    }
    for level in 0..config.down_dims.len() {
        // On the way up a level's blocks already have the channels of the next finer one.
        for of in [level, level.saturating_sub(1)] {
            norm_fits(config.down_dims[of] / config.n_groups, network.predicted >> level)?;
        }
    }
    Ok(())
}

impl Builder<'_> {
    /// The network's output from its inputs.
    pub fn forward(&mut self, given: &Given) -> Passed {
        let network = given.network;
        let (config, time) = (&network.config, network.predicted);
        let embed = config.diffusion_step_embed_dim;
        let sample = self.signal(time, padded(network.action_dim));
        let embedding = self.signal(1, embed);
        let features = self.signal(1, padded(embed + network.condition_dim));
        let inputs = Inputs {
            noisy: given.noisy,
            timesteps: given.timesteps,
            condition: given.condition,
            sample: sample.at,
            embedding: embedding.at,
            features: features.at,
            samples: self.samples as i32,
            t: time as i32,
            actions: network.action_dim as i32,
            ld_sample: sample.ld as i32,
            embed: embed as i32,
            conditions: network.condition_dim as i32,
            ld_features: features.ld as i32,
            rate: (10_000f64.ln() / (embed / 2 - 1) as f64) as f32,
        };
        let numbers = self.samples * (time * sample.ld + features.ld);
        self.launch("prepare", [numbers.div_ceil(256), 1, 1], (256, 0), Arguments::Inputs(inputs));
        self.aside();
        let steps = self.encode_steps(embedding, features);
        self.lane = MAIN;
        // Two levels of one name meet on the way up, side by side: what comes from below, and what was skipped.
        let dims = &config.down_dims;
        let last = dims.len() - 1;
        let joined: Vec<Signal> =
            dims.iter().enumerate().map(|(level, dim)| self.signal(time >> level, 2 * dim)).collect();

        let mut x = sample;
        let mut down = Vec::new();
        for (level, dim) in dims.iter().copied().enumerate() {
            let name = format!("down_modules.{level}");
            let inner = self.signal(time >> level, dim);
            let first = self.block(&format!("{name}.0"), x, inner, &steps);
            let skipped = joined[level].narrow(dim, dim);
            let second = self.block(&format!("{name}.1"), inner, skipped, &steps);
            let resample = (level < last).then(|| {
                let layer = Layer { stride: 2, pad: 1, ..self.layer(&format!("{name}.2.conv")) };
                x = self.signal(time >> (level + 1), dim);
                self.convolve(layer, skipped, x, false);
                layer
            });
            if level == last {
                x = skipped;
            }
            down.push(([first, second], resample));
        }
        let inner = self.signal(x.time, x.channels);
        let below = joined[last].narrow(0, dims[last]);
        let mid = [
            self.block("mid_modules.0", x, inner, &steps),
            self.block("mid_modules.1", inner, below, &steps),
        ];
        x = below;
        let mut up = Vec::new();
        for (index, level) in (1..=last).rev().enumerate() {
            let name = format!("up_modules.{index}");
            let (narrower, time) = (dims[level - 1], time >> level);
            let [inner, outer] = [self.signal(time, narrower), self.signal(time, narrower)];
            let first = self.block(&format!("{name}.0"), joined[level], inner, &steps);
            let second = self.block(&format!("{name}.1"), inner, outer, &steps);
            let layer =
                Layer { stride: 2, pad: 1, transposed: true, ..self.layer(&format!("{name}.2.conv")) };
            x = joined[level - 1].narrow(0, narrower);
            self.convolve(layer, outer, x, false);
            up.push(([first, second], layer));
        }
        let [convolved, normed] = [self.signal(time, dims[0]), self.signal(time, dims[0])];
        let (convolution, norm) = (self.layer("final_conv.0.block.0"), self.layer("final_conv.0.block.1"));
        self.convolve(convolution, x, convolved, false);
        self.norm(norm, convolved, normed, Film::ABSENT, None);
        let block = Block {
            convolutions: vec![(convolution, norm)],
            inputs: vec![x, normed],
            outputs: vec![convolved],
            film: Film::ABSENT,
            shortcut: None,
            result: normed,
        };
        let head = self.layer("final_conv.1");
        let ld = padded(network.action_dim);
        let at = self.take(self.samples * time * ld, 4);
        let prediction = Signal { at, ld, channels: ld, time };
        self.convolve(head, normed, prediction, true);
        Passed { steps, down, mid, up, last: block, head, prediction }
    }

    fn encode_steps(&mut self, embedding: Signal, features: Signal) -> Steps {
        let (first, second) =
            (self.layer("diffusion_step_encoder.1"), self.layer("diffusion_step_encoder.3"));
        let wide = first.weight.outputs;
        let hidden = [self.signal(1, wide), self.signal(1, wide)];
        let embedded = self.signal(1, embedding.channels);
        self.convolve(first, embedding, hidden[0], false);
        self.activate(hidden[0], hidden[1]);
        self.convolve(second, hidden[1], embedded, false);
        self.activate(embedded, features.narrow(0, embedding.channels));
        let films = self.films();
        let film = self.signal(1, films.weight.outputs);
        self.convolve(films, features, film, false);
        let film_slope = self.take(self.samples * film.channels, 2);
        Steps { embedding, hidden, embedded, features, film, film_slope }
    }

    /// The encoders of all blocks as one layer.
    fn films(&self) -> Layer {
        let names = self.layout.films();
        let outputs = names.iter().map(|name| self.layout.film(name).1).sum();
        let mut layer = self.layer(&format!("{}.cond_encoder.1", names[0]));
        (layer.weight.outputs, layer.bias.outputs) = (outputs, outputs);
        layer
    }

    fn block(&mut self, name: &str, input: Signal, output: Signal, steps: &Steps) -> Block {
        let conv = |index| format!("{name}.blocks.{index}.block.0");
        let norm = |index| format!("{name}.blocks.{index}.block.1");
        let convolutions: Vec<_> =
            (0..2).map(|index| (self.layer(&conv(index)), self.layer(&norm(index)))).collect();
        let [convolved, hidden, again] = [(); 3].map(|()| self.signal(input.time, output.channels));
        let (column, columns) = self.layout.film(name);
        let column = 2 * column as u64;
        let film = Film {
            at: steps.film.at + column,
            slope_at: steps.film_slope + column,
            ld: steps.film.ld,
            scales: columns > output.channels,
        };
        let shortcut = format!("{name}.residual_conv");
        let shortcut = self.layout.contains(&shortcut).then(|| self.layer(&shortcut));
        let mut residual = input;
        if let Some(layer) = shortcut {
            residual = self.signal(input.time, output.channels);
            self.aside();
            self.convolve(layer, input, residual, false);
            self.lane = MAIN;
        }
        self.convolve(convolutions[0].0, input, convolved, false);
        // The first block's shortcut and FiLM of all blocks.
        self.wait(MAIN, ASIDE);
        self.norm(convolutions[0].1, convolved, hidden, film, None);
        self.convolve(convolutions[1].0, hidden, again, false);
        self.norm(convolutions[1].1, again, output, Film::ABSENT, Some(residual));
        Block {
            convolutions,
            inputs: vec![input, hidden],
            outputs: vec![convolved, again],
            film,
            shortcut,
            result: output,
        }
    }

    /// Gradients of all parameters from the slope by the network's output, `[B * Tp, Da padded]`.
    pub fn backward(&mut self, passed: &Passed, slope: Signal) {
        let normed = passed.last.inputs[1];
        self.beside(|this| {
            this.weight_gradient(passed.head, slope, normed);
            this.bias_gradient(passed.head.bias, slope);
        });
        let mut back = self.signal(normed.time, normed.channels);
        self.convolve_back(passed.head, slope, back, &[]);
        let convolved = self.convolution_back(&passed.last, 0, back, Film::ABSENT);
        let (first, input) = (passed.last.convolutions[0].0, passed.last.inputs[0]);
        back = self.signal(input.time, input.channels);
        self.convolve_back(first, convolved, back, &[]);

        // The slopes of what was skipped, coarsest last.
        let mut skipped = Vec::new();
        for (blocks, layer) in passed.up.iter().rev() {
            back = self.resample_back(*layer, blocks, back, &[]);
            back = self.block_back(&blocks[1], back, &[]);
            back = self.block_back(&blocks[0], back, &[]);
            let half = back.channels / 2;
            skipped.push(back.narrow(half, half));
            back = back.narrow(0, half);
        }
        back = self.block_back(&passed.mid[1], back, &[]);
        let more: Vec<Signal> = skipped.pop().into_iter().collect();
        back = self.block_back(&passed.mid[0], back, &more);
        for (level, (blocks, resample)) in passed.down.iter().enumerate().rev() {
            if let Some(layer) = resample {
                let more: Vec<Signal> = skipped.pop().into_iter().collect();
                back = self.resample_back(*layer, blocks, back, &more);
            }
            back = self.block_back(&blocks[1], back, &[]);
            if level > 0 {
                back = self.block_back(&blocks[0], back, &[]);
            } else {
                // Nobody asks for the slope by the noisy actions.
                self.block_gradients(&blocks[0], back);
            }
        }
        self.beside(|this| this.steps_back(&passed.steps));
        self.update();
        self.wait(MAIN, ASIDE);
        self.wait(MAIN, UPDATE);
    }

    /// What `list` adds runs beside the main lane.
    fn beside(&mut self, list: impl FnOnce(&mut Self)) {
        self.aside();
        list(self);
        self.lane = MAIN;
    }

    /// Back through a change of resolution after `blocks`: the slope by its input, plus `more`.
    fn resample_back(&mut self, layer: Layer, blocks: &[Block; 2], slope: Signal, more: &[Signal]) -> Signal {
        let input = blocks[1].result;
        self.beside(|this| {
            this.weight_gradient(layer, slope, input);
            this.bias_gradient(layer.bias, slope);
        });
        let back = self.signal(input.time, input.channels);
        self.convolve_back(layer, slope, back, more);
        back
    }

    /// Back through norm and FiLM of one convolution; gives the slope by the convolution's output.
    fn convolution_back(&mut self, block: &Block, index: usize, slope: Signal, film: Film) -> Signal {
        let (convolution, norm) = block.convolutions[index];
        let output = block.outputs[index];
        let back = self.signal(output.time, output.channels);
        self.norm_back(norm, convolution.bias, [output, slope, back], film);
        self.beside(|this| this.weight_gradient(convolution, back, block.inputs[index]));
        back
    }

    /// Back through a block as far as to its first convolution's output.
    fn block_gradients(&mut self, block: &Block, slope: Signal) -> Signal {
        let [input, hidden] = [block.inputs[0], block.inputs[1]];
        let second = self.convolution_back(block, 1, slope, Film::ABSENT);
        let back = self.signal(hidden.time, hidden.channels);
        self.convolve_back(block.convolutions[1].0, second, back, &[]);
        let first = self.convolution_back(block, 0, back, block.film);
        if let Some(layer) = block.shortcut {
            self.beside(|this| {
                this.weight_gradient(layer, slope, input);
                this.bias_gradient(layer.bias, slope);
            });
        }
        first
    }

    /// Back through a block: the slope by its input, plus `more`.
    fn block_back(&mut self, block: &Block, slope: Signal, more: &[Signal]) -> Signal {
        let input = block.inputs[0];
        let first = self.block_gradients(block, slope);
        let back = self.signal(input.time, input.channels);
        let mut addends = vec![slope];
        if let Some(layer) = block.shortcut {
            let through = self.signal(input.time, input.channels);
            self.convolve_back(layer, slope, through, &[]);
            addends = vec![through];
        }
        addends.extend(more);
        self.convolve_back(block.convolutions[0].0, first, back, &addends);
        self.update();
        back
    }

    /// Back through FiLM's encoders and the step encoder.
    fn steps_back(&mut self, steps: &Steps) {
        let films = self.films();
        let slope = Signal { at: steps.film_slope, ..steps.film };
        let weights = self.products_of_columns(
            films,
            [1, films.weight.outputs, films.weight.inputs],
            slope,
            steps.features,
        );
        let biases = self.sums_of_columns(slope);
        let mut column = 0;
        for name in self.layout.films() {
            let layer = self.layer(&format!("{name}.cond_encoder.1"));
            let part = |whole: Gradient, first: usize| Gradient { at: whole.at + 4 * first as u64, ..whole };
            self.gradients[layer.weight.id] = Some(part(weights, column * layer.weight.inputs));
            self.gradients[layer.bias.id] = Some(part(biases, column));
            column += layer.weight.outputs;
        }
        let parts = self.linear_back(films, slope, steps.embedded.channels);
        let (first, second) =
            (self.layer("diffusion_step_encoder.1"), self.layer("diffusion_step_encoder.3"));
        let slope = self.signal(1, steps.embedded.channels);
        self.activate_back(parts, steps.embedded, slope);
        self.weight_gradient(second, slope, steps.hidden[1]);
        self.bias_gradient(second.bias, slope);
        let parts = self.linear_back(second, slope, steps.hidden[0].channels);
        let slope = self.signal(1, steps.hidden[0].channels);
        self.activate_back(parts, steps.hidden[0], slope);
        self.weight_gradient(first, slope, steps.embedding);
        self.bias_gradient(first.bias, slope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda_train::tests::network;

    #[test]
    fn networks_that_no_kernel_fits_are_refused_with_the_reason() {
        for dims in [[32, 64, 128].as_slice(), &[64, 128, 256], &[256, 512, 1024], &[512, 1024, 2048], &[64]]
        {
            fits(&network(dims, 64, true)).unwrap();
        }
        let refused = |dims: &[usize], embed| fits(&network(dims, embed, true)).unwrap_err();
        assert!(refused(&[16, 32], 64).contains("groups of 2 channels"));
        assert!(refused(&[96, 192], 64).contains("groups of 12 channels"));
        assert!(refused(&[64, 128], 60).contains("embedding of 60"));
        let mut long = network(&[256], 64, true);
        long.predicted = 128;
        assert!(fits(&long).unwrap_err().contains("over 128 steps"));
    }
}
