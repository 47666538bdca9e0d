//! What a convolution needs of an instruction set: sixteen sums, one an output channel, that grow by products of packed
//! weights with one word of the signal.

/// Output channels that are summed at once.
pub(super) const LANES: usize = 16;

/// Multiplies and adds on one instruction set, for one kind of weights.
///
/// A *word* is four bytes of signal: an f32, or two 16-bit numbers of neighbouring channels. A *weight line* holds, for
/// one word and one tap, the weights of sixteen output channels.
///
/// # Safety
/// All functions require the instructions that the implementation names; pointers must be valid for what is read or
/// written: a line of weights, a word, sixteen numbers.
pub(super) trait Kernel {
    /// Sixteen sums.
    type Sums: Copy;
    /// A line of weights.
    type Line: Copy;
    /// A word, as often as there are lanes.
    type Word: Copy;
    /// Bytes of a weight line.
    const LINE: usize;
    /// Whether there are registers for sixteen `Sums` and more.
    const WIDE: bool;

    unsafe fn zero() -> Self::Sums;
    unsafe fn line(from: *const u8) -> Self::Line;
    unsafe fn word(from: *const u32) -> Self::Word;
    unsafe fn multiply_add(sums: Self::Sums, line: Self::Line, word: Self::Word) -> Self::Sums;

    /// Writes `start + sums`, or, where sums are integers, `start + sums * scales * factor`.
    unsafe fn finish(sums: Self::Sums, start: *const f32, scales: *const f32, factor: f32, to: *mut f32);

    /// [`super::tile::tile`], compiled for this instruction set.
    unsafe fn tile<
        const TAPS: usize,
        const STRIDE: usize,
        const PAD: usize,
        const WHOLE: bool,
        const V: usize,
        const S: usize,
        const N: usize,
    >(
        tile: &super::tile::Tile,
    );
}

/// The tile of a kernel as a function with the kernel's instructions, into which they are inlined.
macro_rules! tile_with {
    ($($features:literal)?) => {
        #[inline(always)]
        unsafe fn tile<
            const TAPS: usize,
            const STRIDE: usize,
            const PAD: usize,
            const WHOLE: bool,
            const V: usize,
            const S: usize,
            const N: usize,
        >(
            tile: &crate::engine::cpu::tile::Tile,
        ) {
            $(#[target_feature(enable = $features)])?
            unsafe fn compiled<
                K: Kernel,
                const TAPS: usize,
                const STRIDE: usize,
                const PAD: usize,
                const WHOLE: bool,
                const V: usize,
                const S: usize,
                const N: usize,
            >(
                tile: &crate::engine::cpu::tile::Tile,
            ) {
                // SAFETY: the caller's promises are the callee's.
                unsafe { crate::engine::cpu::tile::tile::<K, TAPS, STRIDE, PAD, WHOLE, V, S, N>(tile) }
            }
            // SAFETY: the caller promises the instructions.
            unsafe { compiled::<Self, TAPS, STRIDE, PAD, WHOLE, V, S, N>(tile) }
        }
    };
}
pub(super) use tile_with;
