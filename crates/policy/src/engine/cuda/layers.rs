//! The U-Net as the plan kernel runs it: a list of convolutions, each with where its input comes from.

use crate::UnetConfig;

/// One convolution. Weights and normalisation are named by the layers' parameter names.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Prefix of its `weight` and `bias`.
    pub name: String,
    pub kind: Kind,
    /// Its inputs, one behind the other in channels.
    pub inputs: Vec<Input>,
    /// Input and output channels.
    pub channels: [usize; 2],
    /// Time steps of the input.
    pub length: usize,
    /// A 1x1 convolution of the same input, for the residual block's shortcut.
    pub shortcut: Option<String>,
}

/// The geometries that occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Stride 1, as long as the input.
    Same { taps: usize },
    /// 3 taps, stride 2, padding 1.
    Down,
    /// Transposed, 4 taps, stride 2, padding 1.
    Up,
}

/// What a layer reads.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// The noisy sample.
    Sample,
    /// What layer `layer` summed, plus its bias; then, as far as they are given, group norm and Mish, FiLM, a shortcut.
    Sums { layer: usize, norm: Option<String>, film: Option<usize>, shortcut: Option<Shortcut> },
    /// What the only input of layer `layer` was.
    Kept { layer: usize },
}

/// The other way through a residual block.
#[derive(Clone, Debug)]
pub(super) enum Shortcut {
    /// The block's input, kept by this layer.
    Kept { layer: usize },
    /// The 1x1 convolution that ran along with this layer.
    Convolved { layer: usize },
}

/// All layers, and the residual blocks' FiLM encoders in their order.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub layers: Vec<Layer>,
    pub films: Vec<Film>,
    /// Numbers of all FiLM tables together.
    pub film_numbers: usize,
}

/// The encoder of one residual block: its table holds `channels` scales, then as many biases.
#[derive(Clone, Debug)]
pub(super) struct Film {
    pub name: String,
    pub offset: usize,
    pub channels: usize,
}

impl Layers {
    pub fn new(config: &UnetConfig, predicted: usize, action_dim: usize) -> Self {
        let mut this = Self::default();
        let taps = config.kernel_size;
        let dims = &config.down_dims;
        let last = dims.len() - 1;
        let (mut x, mut width, mut length) = (Input::Sample, action_dim, predicted);
        let mut skips = Vec::new();
        for (index, &dim) in dims.iter().enumerate() {
            let name = format!("down_modules.{index}");
            x = this.block(&format!("{name}.0"), taps, vec![x], [width, dim], length);
            x = this.block(&format!("{name}.1"), taps, vec![x], [dim, dim], length);
            width = dim;
            // Its first reader keeps it: the resampling, or the first block in the middle.
            skips.push(Input::Kept { layer: this.layers.len() });
            if index < last {
                x = this.resample(&format!("{name}.2.conv"), Kind::Down, x, dim, length);
                length /= 2;
            }
        }
        for index in 0..2 {
            x = this.block(&format!("mid_modules.{index}"), taps, vec![x], [width, width], length);
        }
        for (index, &dim) in dims[..last].iter().rev().enumerate() {
            let name = format!("up_modules.{index}");
            let skip = skips.pop().expect("there are fewer levels up than down");
            x = this.block(&format!("{name}.0"), taps, vec![x, skip], [2 * width, dim], length);
            x = this.block(&format!("{name}.1"), taps, vec![x], [dim, dim], length);
            x = this.resample(&format!("{name}.2.conv"), Kind::Up, x, dim, length);
            width = dim;
            length *= 2;
        }
        let layer = this.add("final_conv.0.block.0", Kind::Same { taps }, vec![x], [width, width], length);
        let norm = Some("final_conv.0.block.1".to_owned());
        let x = Input::Sums { layer, norm, film: None, shortcut: None };
        this.add("final_conv.1", Kind::Same { taps: 1 }, vec![x], [width, action_dim], length);
        this
    }

    fn add(
        &mut self,
        name: &str,
        kind: Kind,
        inputs: Vec<Input>,
        channels: [usize; 2],
        length: usize,
    ) -> usize {
        let name = name.to_owned();
        self.layers.push(Layer { name, kind, inputs, channels, length, shortcut: None });
        self.layers.len() - 1
    }

    fn block(
        &mut self,
        name: &str,
        taps: usize,
        inputs: Vec<Input>,
        [input, output]: [usize; 2],
        length: usize,
    ) -> Input {
        let kind = Kind::Same { taps };
        let first = self.add(&format!("{name}.blocks.0.block.0"), kind, inputs, [input, output], length);
        let shortcut = if input == output {
            Shortcut::Kept { layer: first }
        } else {
            self.layers[first].shortcut = Some(format!("{name}.residual_conv"));
            Shortcut::Convolved { layer: first }
        };
        self.films.push(Film {
            name: format!("{name}.cond_encoder.1"),
            offset: self.film_numbers,
            channels: output,
        });
        self.film_numbers += 2 * output;
        let hidden = Input::Sums {
            layer: first,
            norm: Some(format!("{name}.blocks.0.block.1")),
            film: Some(self.films.len() - 1),
            shortcut: None,
        };
        let second =
            self.add(&format!("{name}.blocks.1.block.0"), kind, vec![hidden], [output, output], length);
        let norm = Some(format!("{name}.blocks.1.block.1"));
        Input::Sums { layer: second, norm, film: None, shortcut: Some(shortcut) }
    }

    fn resample(&mut self, name: &str, kind: Kind, x: Input, channels: usize, length: usize) -> Input {
        let layer = self.add(name, kind, vec![x], [channels, channels], length);
        Input::Sums { layer, norm: None, film: None, shortcut: None }
    }
}

impl Layer {
    /// Outputs of one time step of the product: 2 where even and odd outputs are computed apart.
    pub fn parities(&self) -> usize {
        if self.kind == Kind::Up { 2 } else { 1 }
    }

    pub fn stride(&self) -> usize {
        if self.kind == Kind::Down { 2 } else { 1 }
    }

    /// Columns of the product a sample.
    pub fn positions(&self) -> usize {
        self.length / self.stride()
    }

    /// Which input step each tap reads, less `stride * position`, and which tap of the weight it is.
    pub fn taps(&self, parity: usize) -> Vec<Tap> {
        let tap = |shift: i32, tap: usize| Tap { shift, tap };
        match (self.kind, parity) {
            (Kind::Same { taps }, _) => (0..taps).map(|i| tap(i as i32 - (taps / 2) as i32, i)).collect(),
            (Kind::Down, _) => (0..3).map(|i| tap(i as i32 - 1, i)).collect(),
            // Output 2 i + tap - 1 takes input i: even outputs through taps 1 and 3, odd ones through 0 and 2.
            (Kind::Up, 0) => vec![tap(0, 1), tap(-1, 3)],
            (Kind::Up, _) => vec![tap(1, 0), tap(0, 2)],
        }
    }
}

/// See [`Layer::taps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    pub shift: i32,
    pub tap: usize,
}
