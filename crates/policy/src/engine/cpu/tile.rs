//! A tile of a convolution: sixteen output channels a vector, over all time steps of a sample where they fit, so that
//! every weight is read once.

use super::kernel::{Kernel, LANES};

/// Where a tile reads and writes. Strides count numbers of four bytes, those of `weights` bytes.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// The first word that the first tap of the first output step reads, padding included.
    pub signal: *const u32,
    /// Words of a step: rows of the signal.
    pub words: usize,
    /// From a word's row to the next word's.
    pub row: usize,
    /// From a sample's signal to the next sample's.
    pub signal_sample: usize,
    /// Lines of the first sixteen output channels: `[words, TAPS]`.
    pub weights: *const u8,
    /// From sixteen output channels to the next sixteen.
    pub weights_block: usize,
    /// What is added to the sums: a bias that all steps share, or what lies in the output.
    pub bias: Option<*const f32>,
    /// One an output channel, if sums are integers.
    pub scales: *const f32,
    /// One a sample, if sums are integers.
    pub factors: *const f32,
    pub output: *mut f32,
    /// From an output step to the next.
    pub output_step: usize,
    pub output_sample: usize,
}

/// `V` times sixteen output channels of `S` samples at `N` output steps. `WHOLE` tiles span a sample's whole time axis:
/// what they would read beyond it is known to be zero and left out.
///
/// # Safety
/// The kernel's instructions must be there; the tile's pointers valid for all that its numbers span.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Indices that are constants once unrolled keep the sums in registers.
pub(super) unsafe fn tile<
    K: Kernel + ?Sized,
    const TAPS: usize,
    const STRIDE: usize,
    const PAD: usize,
    const WHOLE: bool,
    const V: usize,
    const S: usize,
    const N: usize,
>(
    tile: &Tile,
) {
    let reach = (N - 1) * STRIDE + TAPS;
    let is_read = |at: usize| !WHOLE || (at >= PAD && at < PAD + N * STRIDE);
    // SAFETY: the offsets are those that the caller vouches for.
    unsafe {
        let mut sums = [[[K::zero(); N]; S]; V];
        let mut signal = tile.signal;
        let mut weights = tile.weights;
        for _ in 0..tile.words {
            if reach < 16 && TAPS * V <= S * reach {
                let mut lines = [[K::line(weights); TAPS]; V];
                for v in 0..V {
                    for tap in 0..TAPS {
                        lines[v][tap] = K::line(weights.add(v * tile.weights_block + tap * K::LINE));
                    }
                }
                for s in 0..S {
                    for at in 0..reach {
                        if is_read(at) {
                            let word = K::word(signal.add(s * tile.signal_sample + at));
                            for tap in 0..TAPS {
                                if at >= tap && (at - tap) % STRIDE == 0 && (at - tap) / STRIDE < N {
                                    let step = (at - tap) / STRIDE;
                                    for v in 0..V {
                                        sums[v][s][step] =
                                            K::multiply_add(sums[v][s][step], lines[v][tap], word);
                                    }
                                }
                            }
                        }
                    }
                }
            } else {
                for v in 0..V {
                    for tap in 0..TAPS {
                        let line = K::line(weights.add(v * tile.weights_block + tap * K::LINE));
                        for s in 0..S {
                            for step in 0..N {
                                let at = step * STRIDE + tap;
                                if is_read(at) {
                                    let word = K::word(signal.add(s * tile.signal_sample + at));
                                    sums[v][s][step] = K::multiply_add(sums[v][s][step], line, word);
                                }
                            }
                        }
                    }
                }
            }
            signal = signal.add(tile.row);
            weights = weights.add(TAPS * K::LINE);
        }
        for v in 0..V {
            for s in 0..S {
                for step in 0..N {
                    let to = tile.output.add(v * LANES + s * tile.output_sample + step * tile.output_step);
                    let start = tile.bias.map_or(to.cast_const(), |bias| bias.add(v * LANES));
                    let factor = *tile.factors.add(s);
                    K::finish(sums[v][s][step], start, tile.scales.add(v * LANES), factor, to);
                }
            }
        }
    }
}
