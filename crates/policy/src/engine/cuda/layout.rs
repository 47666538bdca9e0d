//! What the plan kernel reads, field by field as `plan/declarations.cu` declares it.

use crate::cuda::Factors;

/// Room for (tap, part) pairs of a convolution and of the shortcut beside it.
pub(super) const ENTRIES: usize = 36;

/// Samples in one launch; what a block holds of the activations grows with them.
pub(super) const LARGEST_BATCH: usize = 2;

/// A device address.
pub(super) type Address = u64;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub partial: Address,
    pub bias: Address,
    pub gamma: Address,
    pub beta: Address,
    pub shortcut: Address,
    pub shortcut_bias: Address,
    pub keep: Address,
    pub splits: i32,
    pub shortcut_splits: i32,
    pub channels: i32,
    pub group: i32,
    pub film: i32,
    pub first: i32,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            partial: 0,
            bias: 0,
            gamma: 0,
            beta: 0,
            shortcut: 0,
            shortcut_bias: 0,
            keep: 0,
            splits: 1,
            shortcut_splits: 0,
            channels: 0,
            group: 0,
            film: -1,
            first: 0,
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    pub source: [Source; 2],
    pub weights: Address,
    pub out: Address,
    pub out_shortcut: Address,
    pub sources: i32,
    pub range: i32,
    pub row_tiles: i32,
    pub items: i32,
    pub tiles: i32,
    pub rows: i32,
    pub length: i32,
    pub positions: i32,
    pub stride: i32,
    pub parities: i32,
    pub entries: i32,
    pub all_entries: i32,
    pub sampled: i32,
    pub by_quads: u32,
    pub by_group: u32,
    pub by_positions: u32,
    pub by_blocks: u32,
    pub by_row_tiles: u32,
    pub shift: [[i8; ENTRIES]; 2],
    pub part: [i8; ENTRIES],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub factors: Factors,
    pub draw: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub phases: Address,
    pub steps: Address,
    pub film_steps: Address,
    pub film_weights: Address,
    pub film_condition: Address,
    pub condition: Address,
    pub noise: Address,
    pub samples: Address,
    pub x: Address,
    pub output: Address,
    pub output_bias: Address,
    pub arrived: Address,
    pub phase_count: i32,
    pub step_count: i32,
    pub film: i32,
    pub condition_dim: i32,
    pub action_dim: i32,
    pub output_splits: i32,
    pub x_bytes: i32,
    pub scratch: i32,
    /// From here on it is read by the kernel that keeps rows alone.
    pub clean: Address,
    pub kept_parts: Address,
    pub kept: [[i32; 2]; LARGEST_BATCH],
}

// SAFETY: plain numbers in C's layout.
unsafe impl cudarc::driver::DeviceRepr for Plan {}

/// What the kernel's `divide` multiplies with to divide by `by`.
pub(super) fn magic(by: usize) -> u32 {
    if by <= 1 { 0 } else { ((1u64 << 32).div_ceil(by as u64)) as u32 }
}
