//! A signal between two convolutions: rows of channels, a row a time step, as sums leave a convolution, and words of
//! time steps, a row a channel or two, as the next convolution reads them.

use super::kernel::LANES;
use super::machine::{Arithmetic, Machine, Words, Work};
use super::memory::Aligned;

/// Channels rounded up to whole vectors.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// The signals of a batch.
#[derive(Default)]
pub(super) struct Signal {
    pub channels: usize,
    /// Time steps.
    pub length: usize,
    pub batch: usize,
    /// Zero steps before the first and after the last one.
    pub halo: usize,
    /// `[B, length, padded channels]`; what pads is 0.
    pub rows: Aligned,
    /// `[B, channel or two, halo + length + halo]`.
    pub words: Aligned,
    /// What an integer word's numbers are multiplied with, one a sample.
    pub factors: Vec<f32>,
    /// A sample's words before they are turned, `[length, words]`.
    turning: Aligned,
}

impl Signal {
    /// Room for `batch` signals with these shapes (channels, length), one at a time.
    pub fn with_room(shapes: &[(usize, usize)], halo: usize, batch: usize) -> Self {
        let room = |size: &dyn Fn(usize, usize) -> usize| {
            shapes.iter().map(|(channels, length)| size(*channels, *length)).max().unwrap_or(0)
        };
        let rows = room(&|channels, length| padded(channels) * length);
        Self {
            channels: 0,
            length: 0,
            batch,
            halo,
            rows: Aligned::zeroed(batch * rows),
            words: Aligned::zeroed(batch * room(&|channels, length| channels * (length + 2 * halo))),
            factors: vec![0.0; batch],
            turning: Aligned::zeroed(rows),
        }
    }

    /// Words of a channel, or of two.
    pub fn row(&self) -> usize {
        self.length + 2 * self.halo
    }

    /// Rows of words.
    pub fn words(&self, machine: &Machine) -> usize {
        self.channels.div_ceil(machine.words.channels())
    }

    /// Rows of another shape, for the first `batch` samples.
    pub fn reshape(&mut self, channels: usize, length: usize, batch: usize) -> &mut [f32] {
        (self.channels, self.length) = (channels, length);
        &mut self.rows.numbers_mut()[..batch * length * padded(channels)]
    }

    /// Makes words of the rows of the first `batch` samples, where integers are at most `limit`.
    pub fn make_words(&mut self, machine: &Machine, batch: usize, limit: f32) {
        let (columns, row, count) = (padded(self.channels), self.row(), self.words(machine));
        let rows = self.rows.numbers::<f32>().chunks_exact(self.length * columns);
        let words = self.words.numbers_mut::<u32>().chunks_exact_mut(count * row);
        for ((rows, words), factor) in rows.zip(words).zip(&mut self.factors).take(batch) {
            let turning = &mut self.turning.numbers_mut()[..rows.len()];
            let kind = machine.words;
            machine.run(MakeWords {
                kind,
                columns,
                count,
                row,
                halo: self.halo,
                limit,
                rows,
                turning,
                words,
                factor,
            });
        }
    }
}

/// The words of one sample.
struct MakeWords<'a> {
    kind: Words,
    columns: usize,
    count: usize,
    row: usize,
    halo: usize,
    limit: f32,
    rows: &'a [f32],
    turning: &'a mut [u32],
    words: &'a mut [u32],
    factor: &'a mut f32,
}

impl Work for MakeWords<'_> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        let Self { kind, columns, count, row, halo, limit, rows, turning, words, factor } = self;
        let width = columns / kind.channels();
        let steps = rows.chunks_exact(columns).zip(turning.chunks_exact_mut(width));
        match kind {
            Words::F32 => turning.iter_mut().zip(rows).for_each(|(word, value)| *word = value.to_bits()),
            Words::Bf16Pairs => steps.for_each(|(values, words)| {
                for (word, pair) in words.iter_mut().zip(values.as_chunks::<2>().0) {
                    *word = bf16_bits(pair[0]) >> 16 | (bf16_bits(pair[1]) & 0xffff_0000);
                }
            }),
            Words::Int16Pairs => {
                // Compared as bits, so that what is no number is the largest.
                let largest =
                    rows.iter().fold(0, |largest, value| (value.to_bits() & 0x7fff_ffff).max(largest));
                let largest = f32::from_bits(largest);
                let scale = if largest > 0.0 { limit / largest } else { 0.0 };
                *factor = largest / limit;
                steps.for_each(|(values, words)| {
                    for (word, pair) in words.iter_mut().zip(values.as_chunks::<2>().0) {
                        let [first, second] = pair.map(|value| rounded_bits(value * scale));
                        *word = (first & 0xffff) | second << 16;
                    }
                });
            }
        }
        turn(turning, width, words, count, row, halo);
    }
}

/// bf16 in the upper half: to the nearest, to even between two.
#[inline(always)]
fn bf16_bits(value: f32) -> u32 {
    let bits = value.to_bits();
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1))
}

/// An integer in two's complement, in the lower 22 bits: added to this number, a fraction is rounded away.
#[inline(always)]
fn rounded_bits(value: f32) -> u32 {
    (value + 12_582_912.0).to_bits()
}

/// `[steps, width]` to the first `count` of `[width, halo + steps + halo]`.
#[inline(always)]
fn turn(from: &[u32], width: usize, to: &mut [u32], count: usize, row: usize, halo: usize) {
    let steps = row - 2 * halo;
    // The halo, in one go.
    to.fill(0);
    let square = (steps / 4 * 4, count / 4 * 4);
    for step in (0..square.0).step_by(4) {
        for word in (0..square.1).step_by(4) {
            let lines: [[u32; 4]; 4] = std::array::from_fn(|line| {
                let start = (step + line) * width + word;
                std::array::from_fn(|place| from[start..start + 4][place])
            });
            for place in 0..4 {
                let start = (word + place) * row + halo + step;
                to[start..start + 4].copy_from_slice(&lines.map(|line| line[place]));
            }
        }
    }
    for step in 0..steps {
        let first = if step < square.0 { square.1 } else { 0 };
        for word in first..count {
            to[word * row + halo + step] = from[step * width + word];
        }
    }
}
