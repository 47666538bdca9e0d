//! One pass of packed weights over the signals of a batch, cut into tiles.

use super::kernel::{Kernel, LANES};
use super::tile::Tile;

/// A pass over all output channels, samples and steps.
#[derive(Clone, Copy)]
pub(super) struct Sweep {
    pub taps: usize,
    pub stride: usize,
    /// Zero steps that the first output reads before the signal, where `taps` are all taps; else tiles may not know what
    /// is zero.
    pub pad: Option<usize>,
    /// Sixteens of output channels.
    pub blocks: usize,
    pub batch: usize,
    /// Output steps; `stride` times as many are in the signal.
    pub length: usize,
    /// Where the first tile lies.
    pub origin: Tile,
}

/// # Safety
/// The kernel's instructions must be there, and the origin's pointers valid for the whole sweep.
pub(super) unsafe fn sweep<K: Kernel>(sweep: &Sweep) {
    // SAFETY: as the caller promises.
    unsafe {
        match (sweep.taps, sweep.stride, sweep.pad) {
            (5, 1, Some(2)) => sweep.whole::<K, 5, 1, 2>(),
            (3, 2, Some(1)) => sweep.whole::<K, 3, 2, 1>(),
            (2, 1, Some(1)) => sweep.whole::<K, 2, 1, 1>(),
            (2, 1, Some(0)) => sweep.whole::<K, 2, 1, 0>(),
            (1, 1, Some(0)) => sweep.whole::<K, 1, 1, 0>(),
            (5, 1, _) => sweep.chunks::<K, 5, 1>(),
            (3, 1, _) => sweep.chunks::<K, 3, 1>(),
            (2, 1, _) => sweep.chunks::<K, 2, 1>(),
            (1, 1, _) => sweep.chunks::<K, 1, 1>(),
            (taps, stride, _) => {
                unreachable!("weights are packed in no passes of {taps} taps, stride {stride}")
            }
        }
    }
}

impl Sweep {
    /// Into how many parts it can be cut for several threads.
    pub fn parts(&self) -> usize {
        self.blocks.div_ceil(self.blocks_of_a_part())
    }

    /// Blocks of a part: as many as the widest tiles take, unless fewer than four parts were left.
    fn blocks_of_a_part(&self) -> usize {
        (self.blocks / 4).clamp(1, 4)
    }

    /// The part with this number.
    pub fn part(&self, number: usize) -> Self {
        let first = number * self.blocks_of_a_part();
        let blocks = self.blocks_of_a_part().min(self.blocks - first);
        Self { blocks, origin: self.at(first, 0, 0), ..*self }
    }

    /// In tiles that span the time axis of one to four samples, where there are any of its length.
    unsafe fn whole<K: Kernel, const TAPS: usize, const STRIDE: usize, const PAD: usize>(&self) {
        let all = (self.blocks, self.batch);
        // SAFETY: as the caller promises.
        unsafe {
            match self.length {
                16 if K::WIDE => {
                    self.tiles::<K, TAPS, STRIDE, PAD, 1, 1, 16>((0, 0), all);
                }
                8 if K::WIDE => {
                    let (_, sample) = self.tiles::<K, TAPS, STRIDE, PAD, 1, 2, 8>((0, 0), all);
                    let (block, _) = self.tiles::<K, TAPS, STRIDE, PAD, 2, 1, 8>((0, sample), all);
                    self.tiles::<K, TAPS, STRIDE, PAD, 1, 1, 8>((block, sample), all);
                }
                4 if K::WIDE => {
                    let (_, sample) = self.tiles::<K, TAPS, STRIDE, PAD, 1, 4, 4>((0, 0), all);
                    let (block, _) = self.tiles::<K, TAPS, STRIDE, PAD, 4, 1, 4>((0, sample), all);
                    self.tiles::<K, TAPS, STRIDE, PAD, 1, 1, 4>((block, sample), all);
                }
                _ => self.chunks::<K, TAPS, STRIDE>(),
            }
        }
    }

    /// Whole tiles of `V` blocks of channels and `S` samples, as many as fit between two corners (block, sample).
    /// Returns the first block and the first sample that are left.
    unsafe fn tiles<
        K: Kernel,
        const TAPS: usize,
        const STRIDE: usize,
        const PAD: usize,
        const V: usize,
        const S: usize,
        const N: usize,
    >(
        &self,
        from: (usize, usize),
        to: (usize, usize),
    ) -> (usize, usize) {
        let left = (to.0 - (to.0 - from.0) % V, to.1 - (to.1 - from.1) % S);
        for block in (from.0..left.0).step_by(V) {
            for sample in (from.1..left.1).step_by(S) {
                // SAFETY: as the caller promises.
                unsafe { K::tile::<TAPS, STRIDE, PAD, true, V, S, N>(&self.at(block, sample, 0)) };
            }
        }
        left
    }

    /// In tiles of a few steps of one sample.
    unsafe fn chunks<K: Kernel, const TAPS: usize, const STRIDE: usize>(&self) {
        // SAFETY: as the caller promises.
        unsafe {
            match self.length {
                16.. if K::WIDE => self.chunks_of::<K, TAPS, STRIDE, 16>(),
                4.. => self.chunks_of::<K, TAPS, STRIDE, 4>(),
                _ => self.chunks_of::<K, TAPS, STRIDE, 1>(),
            }
        }
    }

    unsafe fn chunks_of<K: Kernel, const TAPS: usize, const STRIDE: usize, const N: usize>(&self) {
        for block in 0..self.blocks {
            for sample in 0..self.batch {
                let mut step = 0;
                while step < self.length {
                    // The last tile begins early enough to be full, unless that would add to its sums twice.
                    let first = if self.origin.bias.is_some() { step.min(self.length - N) } else { step };
                    let tile = self.at(block, sample, first);
                    // SAFETY: as the caller promises.
                    unsafe {
                        if first + N <= self.length {
                            K::tile::<TAPS, STRIDE, 0, false, 1, 1, N>(&tile);
                            step = first + N;
                        } else {
                            K::tile::<TAPS, STRIDE, 0, false, 1, 1, 1>(&tile);
                            step += 1;
                        }
                    }
                }
            }
        }
    }

    fn at(&self, block: usize, sample: usize, step: usize) -> Tile {
        let origin = &self.origin;
        let output = block * LANES + sample * origin.output_sample + step * origin.output_step;
        // SAFETY: within what the caller of `sweep` vouches for.
        unsafe {
            Tile {
                signal: origin.signal.add(sample * origin.signal_sample + step * self.stride),
                weights: origin.weights.add(block * origin.weights_block),
                bias: origin.bias.map(|bias| bias.add(block * LANES)),
                scales: origin.scales.add(block * LANES),
                factors: origin.factors.add(sample),
                output: origin.output.add(output),
                ..*origin
            }
        }
    }
}
