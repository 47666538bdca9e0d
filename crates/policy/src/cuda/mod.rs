//! NVIDIA GPUs without burn: kernels of our own in CUDA C++, compiled for the device at hand when they are first needed,
//! and kept on disk.
//!
//! The compiler is NVRTC and everything goes through the driver's interface, so that building needs no CUDA toolkit.
//! Kernels are written in CUDA C++ rather than in CubeCL because they stand on what its language does not have: bulk
//! copies completing on barriers in shared memory, a barrier over the whole grid, and the register layout of one tensor
//! core instruction.

mod buffer;
#[cfg(test)]
pub(crate) mod emulated;
mod factors;
mod gpu;
mod module;
mod place;

pub(crate) use buffer::{Buffer, Mapped};
pub(crate) use factors::Factors;
pub(crate) use gpu::{Gpu, failed};
pub(crate) use module::Module;
pub(crate) use place::Place;
