//! A sampler's arithmetic, as kernels are given it.

use crate::sampler::SamplerStep;

/// The first members of `Step` in `engine/cuda/plan/declarations.cu`, and those of `Denoise` in
/// `cuda_train/kernels/denoise.cu` from `clean_x` on: a step's factors in f32.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    clean_x: f32,
    clean_output: f32,
    of_clean: f32,
    of_x: f32,
    of_output: f32,
    deviation: f32,
}

impl From<&SamplerStep> for Factors {
    fn from(step: &SamplerStep) -> Self {
        Self {
            clean_x: step.clean[0] as f32,
            clean_output: step.clean[1] as f32,
            of_clean: step.of_clean as f32,
            of_x: step.of_x as f32,
            of_output: step.of_output as f32,
            deviation: step.deviation as f32,
        }
    }
}
