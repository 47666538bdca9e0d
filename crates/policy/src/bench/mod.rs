//! What plans cost, what this machine could do at best, and one plan with all that went into it: what measurements
//! are held against.

mod batches;
mod case;
mod cost;
#[cfg(feature = "cuda-kernels")]
mod gpu;
mod limits;

pub use batches::Batches;
pub use case::plan_case;
pub use cost::NetworkCost;
pub use limits::{Limits, device_limits};
