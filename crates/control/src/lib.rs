//! The vocabulary of robot policies, and the receding-horizon loop that simulation and robot share.
//!
//! This crate must never know any other room of the house, nor burn, rapier, zenoh, rerun or arrow, nor the clock,
//! nor a global random source: time, seeds and noise are arguments.
//!
//! Dimension letters: `To` observed steps, `Tp` predicted steps, `Ta` executed steps, `Do` numbers in an observation,
//! `Da` numbers in an action. Values are in physical units throughout.

mod confidence;
mod episode;
mod horizon;
mod interface;
mod interpolation;
mod kinematics;
mod playback;
mod policy;
mod rollout;
mod scene;
mod seam;
mod seeds;
mod smoothness;
mod statistics;
mod task;

pub use confidence::{Confidence, Judge, Thresholds, conformal_threshold};
pub use episode::{Episode, Frame};
pub use horizon::{Accepted, Horizon, RecedingHorizon, ReceiveError};
pub use interface::{ActionFeature, ActionMode, Feature, FeatureKind, Interface, InterfaceMismatch, Limits};
pub use interpolation::{Interpolation, PathPoint};
pub use kinematics::{Chain, IkFailure, IkOptions, RevoluteJoint};
pub use playback::{Playback, Reproducible};
pub use policy::{Action, ActionChunk, Observation, ObservationWindow, PlanRequest, Policy, PolicyError};
pub use rollout::{RolloutError, RolloutOptions, RolloutStats, rollout};
pub use scene::{Scene, Shape};
pub use seam::Seam;
pub use seeds::{noise_seed, split_mix_64};
pub use smoothness::{Compared, FeatureSmoothness, Magnitudes, Smoothness};
pub use statistics::{Achieved, Interval, mean_interval, quantile, wilson_interval};
pub use task::{Expert, Step, Task};
