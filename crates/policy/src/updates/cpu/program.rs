//! The denoiser (Chi et al. 2023, section 5.1) as a list of operations over signals, built once.

use super::layers::{Kind, Layer};
use super::shape::Shape;
use crate::engine::HostNetwork;

/// What happens to the gradient of an operation's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The input is given: nobody asks.
    Stop,
    /// It is the first, on the way back, that this signal receives.
    Set,
    Add,
}

/// Weights of a group norm, by their places among all values, and where its moments are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormPlaces {
    pub scale: usize,
    pub shift: usize,
    pub moments: usize,
}

/// One operation; signals and layers by index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Layer {
        layer: usize,
        input: usize,
        output: usize,
        flow: Flow,
    },
    /// Norm, Mish, FiLM; added to what the output holds when `add`.
    Norm {
        norm: NormPlaces,
        input: usize,
        film: Option<usize>,
        output: usize,
        add: bool,
    },
    Mish {
        input: usize,
        output: usize,
        flow: Flow,
    },
    Copy {
        input: usize,
        output: usize,
        flow: Flow,
    },
    /// Channels side by side.
    Join {
        inputs: [usize; 2],
        output: usize,
        flows: [Flow; 2],
    },
}

impl Operation {
    pub fn output(&self) -> usize {
        match self {
            Self::Layer { output, .. }
            | Self::Norm { output, .. }
            | Self::Mish { output, .. }
            | Self::Copy { output, .. }
            | Self::Join { output, .. } => *output,
        }
    }
}

/// Where a parameter of the network's list lies among all values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// As it is, at this offset.
    Plain(usize),
    /// The weight of this layer, in panels.
    Panels(usize),
}

/// See the module.
pub(super) struct Program {
    pub signals: Vec<Shape>,
    pub operations: Vec<Operation>,
    pub layers: Vec<Layer>,
    /// In the order of the network's list.
    pub places: Vec<Place>,
    /// Numbers of all parameters as they are placed, of the turned weights, and of the moments of one sample.
    pub values: usize,
    pub turned: usize,
    pub moments: usize,
    pub groups: usize,
    pub predicts_scale: bool,
    /// Signals that are given, and the one that is wanted.
    pub noisy: usize,
    pub embedding: usize,
    pub condition: usize,
    pub prediction: usize,
}

impl Program {
    pub fn new(network: &HostNetwork) -> Self {
        let config = &network.config;
        // Wide enough for every layer: the resampling ones look one step beyond the ends.
        let mut builder =
            Builder { network, pad: (config.kernel_size / 2).max(1), program: Self::empty(network) };
        let embed = config.diffusion_step_embed_dim;
        let flat = |channels| Shape { length: 1, channels, pad: 0 };
        let embedding = builder.signal(flat(embed));
        let condition = builder.signal(flat(network.condition_dim));
        let noisy = builder.time(network.predicted, network.action_dim);
        let dense = Kind::Convolution { stride: 1 };
        let hidden = builder.layer("diffusion_step_encoder.1", dense, embedding, flat(4 * embed));
        let hidden = builder.mish(hidden);
        let step = builder.layer("diffusion_step_encoder.3", dense, hidden, flat(embed));
        let features = builder.join([step, condition]);
        let features = builder.mish(features);

        let levels = config.down_dims.len();
        let mut x = noisy;
        let mut skips = Vec::new();
        for (level, channels) in config.down_dims.iter().enumerate() {
            let name = format!("down_modules.{level}");
            x = builder.residual(&format!("{name}.0"), x, features, *channels);
            x = builder.residual(&format!("{name}.1"), x, features, *channels);
            skips.push(x);
            if level + 1 < levels {
                let shape = builder.program.signals[x];
                let half = Shape { length: shape.length / 2, ..shape };
                x = builder.layer(&format!("{name}.2.conv"), Kind::Convolution { stride: 2 }, x, half);
            }
        }
        for index in 0..2 {
            x = builder.residual(&format!("mid_modules.{index}"), x, features, config.down_dims[levels - 1]);
        }
        for level in 0..levels - 1 {
            let (name, channels) = (format!("up_modules.{level}"), config.down_dims[levels - 2 - level]);
            if let Some(skip) = skips.pop() {
                x = builder.join([x, skip]);
            }
            x = builder.residual(&format!("{name}.0"), x, features, channels);
            x = builder.residual(&format!("{name}.1"), x, features, channels);
            let shape = builder.program.signals[x];
            let double = Shape { length: shape.length * 2, ..shape };
            x = builder.layer(&format!("{name}.2.conv"), Kind::Transposed, x, double);
        }
        let shape = builder.program.signals[x];
        x = builder.block("final_conv.0", x, shape);
        let shape = Shape { channels: network.action_dim, ..builder.program.signals[x] };
        let prediction = builder.layer("final_conv.1", dense, x, shape);
        let mut program = Self { noisy, embedding, condition, prediction, ..builder.program };
        program.direct_gradients();
        program
    }

    fn empty(network: &HostNetwork) -> Self {
        Self {
            signals: Vec::new(),
            operations: Vec::new(),
            layers: Vec::new(),
            places: vec![Place::Plain(usize::MAX); network.list.iter().len()],
            values: 0,
            turned: 0,
            moments: 0,
            groups: network.config.n_groups,
            predicts_scale: network.config.cond_predict_scale,
            noisy: 0,
            embedding: 0,
            condition: 0,
            prediction: 0,
        }
    }

    /// Decides, going backwards, which gradient of a signal is its first.
    fn direct_gradients(&mut self) {
        let mut reached = vec![false; self.signals.len()];
        let given = [self.noisy, self.embedding, self.condition];
        let mut flow_of = |signal: usize| match std::mem::replace(&mut reached[signal], true) {
            _ if given.contains(&signal) => Flow::Stop,
            false => Flow::Set,
            true => Flow::Add,
        };
        for operation in self.operations.iter_mut().rev() {
            match operation {
                Operation::Layer { input, flow, .. }
                | Operation::Mish { input, flow, .. }
                | Operation::Copy { input, flow, .. } => *flow = flow_of(*input),
                Operation::Join { inputs, flows, .. } => *flows = inputs.map(&mut flow_of),
                // What a norm reads is read by nothing else.
                Operation::Norm { .. } => {}
            }
        }
    }
}

/// Adds operations under the reference's names.
struct Builder<'a> {
    network: &'a HostNetwork,
    pad: usize,
    program: Program,
}

impl Builder<'_> {
    fn signal(&mut self, shape: Shape) -> usize {
        self.program.signals.push(shape);
        self.program.signals.len() - 1
    }

    fn time(&mut self, length: usize, channels: usize) -> usize {
        let pad = self.pad;
        self.signal(Shape { length, channels, pad })
    }

    /// Reserves room for a parameter.
    fn place(&mut self, name: &str, len: usize, place: impl Fn(usize) -> Place) -> usize {
        /// Every parameter begins with a line of the cache.
        const LINE: usize = 16;
        let offset = self.program.values;
        self.program.values += len.next_multiple_of(LINE);
        let index = self.network.list.iter().position(|parameter| parameter.name == name);
        self.program.places[index.unwrap_or_else(|| panic!("the network has no parameter `{name}`"))] =
            place(offset);
        offset
    }

    fn layer(&mut self, name: &str, kind: Kind, input: usize, shape: Shape) -> usize {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let found = self.network.list.iter().find(|parameter| parameter.name == weight);
        // A linear layer is a convolution of a single tap.
        let kernel = found.and_then(|parameter| parameter.shape.get(2)).map_or(1, |kernel| *kernel);
        let sizes = [self.program.signals[input].channels, shape.channels, kernel];
        let [len, turned] = Layer::new(kind, sizes, [0; 3]).lens();
        let index = self.program.layers.len();
        let weight = self.place(&weight, len, |_| Place::Panels(index));
        let bias = self.place(&bias, shape.channels, Place::Plain);
        self.program.layers.push(Layer::new(kind, sizes, [weight, self.program.turned, bias]));
        self.program.turned += turned;
        let output = self.signal(shape);
        self.program.operations.push(Operation::Layer { layer: index, input, output, flow: Flow::Stop });
        output
    }

    fn mish(&mut self, input: usize) -> usize {
        let output = self.signal(self.program.signals[input]);
        self.program.operations.push(Operation::Mish { input, output, flow: Flow::Stop });
        output
    }

    fn join(&mut self, inputs: [usize; 2]) -> usize {
        let shapes = inputs.map(|input| self.program.signals[input]);
        let output = self.signal(Shape { channels: shapes[0].channels + shapes[1].channels, ..shapes[0] });
        self.program.operations.push(Operation::Join { inputs, output, flows: [Flow::Stop; 2] });
        output
    }

    fn norm(&mut self, name: &str, input: usize, film: Option<usize>, output: usize, add: bool) {
        let channels = self.program.signals[input].channels;
        let scale = self.place(&format!("{name}.weight"), channels, Place::Plain);
        let shift = self.place(&format!("{name}.bias"), channels, Place::Plain);
        let norm = NormPlaces { scale, shift, moments: self.program.moments };
        self.program.moments += 2 * self.program.groups;
        self.program.operations.push(Operation::Norm { norm, input, film, output, add });
    }

    /// Convolution, norm and Mish, to a signal of this shape.
    fn block(&mut self, name: &str, input: usize, shape: Shape) -> usize {
        let convolved = self.layer(&format!("{name}.block.0"), Kind::Convolution { stride: 1 }, input, shape);
        let output = self.signal(shape);
        self.norm(&format!("{name}.block.1"), convolved, None, output, false);
        output
    }

    fn residual(&mut self, name: &str, input: usize, features: usize, channels: usize) -> usize {
        let shape = Shape { channels, ..self.program.signals[input] };
        let convolution = Kind::Convolution { stride: 1 };
        let wide = if self.program.predicts_scale { 2 * channels } else { channels };
        let flat = Shape { length: 1, channels: wide, pad: 0 };
        let film = self.layer(&format!("{name}.cond_encoder.1"), convolution, features, flat);
        let first = self.layer(&format!("{name}.blocks.0.block.0"), convolution, input, shape);
        let hidden = self.signal(shape);
        self.norm(&format!("{name}.blocks.0.block.1"), first, Some(film), hidden, false);
        let second = self.layer(&format!("{name}.blocks.1.block.0"), convolution, hidden, shape);
        let output = if self.program.signals[input].channels == channels {
            let output = self.signal(shape);
            self.program.operations.push(Operation::Copy { input, output, flow: Flow::Stop });
            output
        } else {
            self.layer(&format!("{name}.residual_conv"), convolution, input, shape)
        };
        self.norm(&format!("{name}.blocks.1.block.1"), second, None, output, true);
        output
    }
}
