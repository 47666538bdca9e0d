//! Diffusion policies: networks, noise schedules, objectives, samplers, training and checkpoints.
//!
//! The only room that knows burn. It must never know the simulations or the runtime.

mod kernels;
mod objective;
mod parameters;
mod sampler;
mod schedule;
mod unet;

pub use objective::Objective;
pub use sampler::{SamplerConfig, Spacing, Variance};
pub use schedule::{BetaCurve, NoiseSchedule, ScheduleConfig};
pub use unet::UnetConfig;
