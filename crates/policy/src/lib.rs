//! Diffusion policies: networks, noise schedules, objectives, samplers, training and checkpoints.
//!
//! The only room that knows burn. It must never know the simulations or the runtime.
//!
//! ```text
//! demonstrations -> normaliser -> windows -> batches [B, To * Do], [B, Tp, Da] -> loss -> AdamW -> average -> checkpoint
//! checkpoint -> DiffusionPolicy: plan requests -> DDIM or DDPM -> action chunks [Tp - To + 1, Da]
//! ```

mod angles;
mod augmentation;
pub mod bench;
mod checkpoint;
mod config;
mod continuation;
#[cfg(feature = "cuda-kernels")]
mod cuda;
#[cfg(feature = "cuda-kernels")]
mod cuda_train;
mod data;
mod device;
mod diffusion;
mod encoding;
mod engine;
mod error;
pub mod export;
#[cfg(test)]
mod golden_tests;
pub mod import;
mod initial;
mod kernels;
mod normalizer;
mod objective;
mod optimizer;
mod parameters;
mod ranges;
mod relative;
mod resume;
mod sampler;
mod sampling;
mod schedule;
mod train;
mod unet;
mod updates;

pub use angles::Angles;
pub use augmentation::{Mirror, Scale, Symmetry};
pub use checkpoint::{Initial, Manifest, Trained};
pub use config::{
    DEFAULT_MEMORY_MIB, DataConfig, EmaConfig, FeatureSource, NetworkConfig, OptimizerConfig, PolicyConfig,
    PrefixConfig, TrainConfig, TrainingConfig,
};
pub use continuation::Continuation;
pub use device::DeviceChoice;
pub use diffusion::DiffusionPolicy;
pub use engine::{PlanOptions, Precision};
pub use error::PolicyFailure;
pub use normalizer::Normalizer;
pub use objective::Objective;
pub use ranges::{Normalization, NormalizationKind};
pub use relative::Relative;
pub use sampler::{SamplerConfig, Spacing, Variance};
pub use schedule::{BetaCurve, NoiseSchedule, ScheduleConfig};
pub use train::{TrainEvent, TrainPaths, TrainReport, train};
pub use unet::UnetConfig;
pub use updates::TrainDevices;
