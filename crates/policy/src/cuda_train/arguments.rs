//! What each kernel is given: the same structs as in `kernels/*.cu`, where their members are told. Tensors are byte
//! offsets into one block of device memory.

/// No such tensor.
pub(super) const NONE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Convolution {
    pub input: u64,
    pub weight: u64,
    pub output: u64,
    pub bias: u64,
    pub addends: [u64; 2],
    pub split_stride: u64,
    pub workspace: u64,
    pub counters: u64,
    pub rows: i32,
    pub n: i32,
    pub k: i32,
    pub ld_input: i32,
    pub ld_weight: i32,
    pub ld_output: i32,
    pub ld_addends: [i32; 2],
    pub taps: i32,
    pub tap_stride: i32,
    pub t_out: i32,
    pub t_in: i32,
    pub stride: i32,
    pub pad: i32,
    pub transposed: i32,
    pub splits: i32,
    pub f32: i32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct WeightGradient {
    pub slope: u64,
    pub input: u64,
    pub output: u64,
    pub split_stride: u64,
    pub rows: i32,
    pub m: i32,
    pub n: i32,
    pub ld_slope: i32,
    pub ld_input: i32,
    pub taps: i32,
    pub t_coarse: i32,
    pub t_fine: i32,
    pub stride: i32,
    pub pad: i32,
    pub slope_is_fine: i32,
    pub splits: i32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Norm {
    pub input: u64,
    pub output: u64,
    pub gamma: u64,
    pub beta: u64,
    pub film: u64,
    pub residual: u64,
    pub samples: i32,
    pub t: i32,
    pub channels: i32,
    pub group: i32,
    pub ld_output: i32,
    pub ld_film: i32,
    pub ld_residual: i32,
    pub film_scales: i32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct NormGradient {
    pub input: u64,
    pub slope: u64,
    pub output: u64,
    pub gamma: u64,
    pub beta: u64,
    pub film: u64,
    pub film_slope: u64,
    pub gamma_slope: u64,
    pub beta_slope: u64,
    pub bias_slope: u64,
    pub split_stride: u64,
    pub samples: i32,
    pub t: i32,
    pub channels: i32,
    pub group: i32,
    pub ld_slope: i32,
    pub ld_film: i32,
    pub film_scales: i32,
    pub parts: i32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Inputs {
    pub noisy: u64,
    pub timesteps: u64,
    pub condition: u64,
    pub sample: u64,
    pub embedding: u64,
    pub features: u64,
    pub samples: i32,
    pub t: i32,
    pub actions: i32,
    pub ld_sample: i32,
    pub embed: i32,
    pub conditions: i32,
    pub ld_features: i32,
    pub rate: f32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Activation {
    pub input: u64,
    pub output: u64,
    pub rows: i32,
    pub columns: i32,
    pub ld_input: i32,
    pub ld_output: i32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct ActivationGradient {
    pub slope: u64,
    pub input: u64,
    pub output: u64,
    pub split_stride: u64,
    pub rows: i32,
    pub columns: i32,
    pub ld_slope: i32,
    pub ld_input: i32,
    pub ld_output: i32,
    pub splits: i32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct ColumnSums {
    pub input: u64,
    pub output: u64,
    pub split_stride: u64,
    pub rows: i32,
    pub columns: i32,
    pub ld: i32,
    pub parts: i32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Loss {
    pub output: u64,
    pub target: u64,
    pub slope: u64,
    pub losses: u64,
    pub scalars: u64,
    pub rows: i32,
    pub actions: i32,
    pub ld: i32,
    pub t: i32,
    pub kept: u64,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Adam {
    pub weights: u64,
    pub first: u64,
    pub second: u64,
    pub average: u64,
    pub halves: u64,
    pub pieces: u64,
    pub scalars: u64,
    pub beta_first: f32,
    pub beta_second: f32,
    pub rest_first: f32,
    pub rest_second: f32,
    pub epsilon: f32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Rounding {
    pub input: u64,
    pub output: u64,
    pub count: u64,
}

/// Of a list in device memory, which [`Adam`] works off one a block.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Piece {
    pub index: u64,
    pub gradient: u64,
    pub split_stride: u64,
    pub count: u32,
    pub splits: u32,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arguments {
    Convolution(Convolution),
    WeightGradient(WeightGradient),
    Norm(Norm),
    NormGradient(NormGradient),
    Inputs(Inputs),
    Activation(Activation),
    ActivationGradient(ActivationGradient),
    ColumnSums(ColumnSums),
    Loss(Loss),
    Adam(Adam),
    Rounding(Rounding),
}

impl Arguments {
    /// The struct's address.
    pub fn address(&self) -> *const std::ffi::c_void {
        match self {
            Self::Convolution(p) => (&raw const *p).cast(),
            Self::WeightGradient(p) => (&raw const *p).cast(),
            Self::Norm(p) => (&raw const *p).cast(),
            Self::NormGradient(p) => (&raw const *p).cast(),
            Self::Inputs(p) => (&raw const *p).cast(),
            Self::Activation(p) => (&raw const *p).cast(),
            Self::ActivationGradient(p) => (&raw const *p).cast(),
            Self::ColumnSums(p) => (&raw const *p).cast(),
            Self::Loss(p) => (&raw const *p).cast(),
            Self::Adam(p) => (&raw const *p).cast(),
            Self::Rounding(p) => (&raw const *p).cast(),
        }
    }
}
