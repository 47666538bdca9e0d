//! Training on an NVIDIA GPU without burn: a whole step, forward, backward, AdamW and the average of the weights, is one
//! CUDA graph of our own kernels, replayed without waiting for it.
//!
//! Products are bf16 on tensor cores with sums in f32, everything that is kept from step to step is f32. A step's result
//! does not depend on the order in which blocks finish: sums are split in a fixed way and added in a fixed order.

mod arguments;
#[cfg(test)]
mod batch_emulation;
mod batch_pass;
mod batches;
#[cfg(test)]
mod emulation;
mod launches;
mod layout;
mod network;
mod norms;
mod products;
mod program;
mod step;
#[cfg(test)]
mod tests;
mod trainer;

#[cfg(test)]
pub(crate) use batch_emulation::EmulatedBatches;
pub(crate) use batches::BatchPlans;
pub(crate) use trainer::CudaUpdates;
