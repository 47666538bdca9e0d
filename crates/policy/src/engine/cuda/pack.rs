//! Weights in the register order of the tensor cores' `m16n8k16`, cut into the items that blocks work on.

use super::layers::{Kind, Layer};
use crate::engine::bf16;

/// How a layer is cut: `row_tiles` of 16 output rows (over all parities) times `splits` of `range` input channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub row_tiles: usize,
    pub splits: usize,
    pub range: usize,
    /// (tap, part) pairs of the convolution, and with those of the shortcut.
    pub entries: usize,
    pub all_entries: usize,
}

impl Cut {
    /// As many splits as `blocks` can take at once, with whole groups (`groups`: channels of each normalised input, and
    /// the channel it begins at) and whole 16s in each.
    ///
    /// # Errors
    /// Why the layer does not fit.
    pub fn new(
        layer: &Layer,
        groups: &[(usize, usize)],
        parts: usize,
        blocks: usize,
    ) -> Result<Self, String> {
        let [input, output] = layer.channels;
        let input = input.next_multiple_of(16);
        let row_tiles = output.div_ceil(16) * layer.parities();
        let fits = |splits: usize| {
            let range = input / splits;
            input.is_multiple_of(splits)
                && range.is_multiple_of(16)
                && groups
                    .iter()
                    .all(|(group, first)| range.is_multiple_of(*group) && first.is_multiple_of(range))
        };
        let splits = (1..=input / 16).rev().find(|splits| fits(*splits) && row_tiles * splits <= blocks);
        let splits = splits.or_else(|| (1..=input / 16).find(|splits| fits(*splits))).ok_or_else(|| {
            format!("`{}` with {input} input channels cannot be cut into groups", layer.name)
        })?;
        let taps = layer.taps(0).len();
        let entries = taps * parts;
        let all_entries = entries + if layer.shortcut.is_some() { parts } else { 0 };
        Ok(Self { row_tiles, splits, range: input / splits, entries, all_entries })
    }

    pub fn items(&self) -> usize {
        self.row_tiles * self.splits
    }

    /// Tiles of 16 by 16 weights of an item.
    pub fn tiles(&self) -> usize {
        self.all_entries * self.range / 16
    }
}

/// Which part of the input each of the (up to three) products of a tap reads; the weights' parts are high, low, high.
pub(super) fn input_parts(parts: usize) -> &'static [i32] {
    if parts == 3 { &[0, 0, 1] } else { &[0] }
}

/// The packed weights of one item: `[tiles][32 lanes][8]` as bf16 bits.
pub(super) fn pack_item(
    layer: &Layer,
    cut: Cut,
    item: usize,
    weight: &[f32],
    shortcut: Option<&[f32]>,
    parts: usize,
    packed: &mut Vec<u16>,
) {
    let [input, output] = layer.channels;
    let (split, tile) = (item / cut.row_tiles, item % cut.row_tiles);
    let tiles = cut.row_tiles / layer.parities();
    let (parity, row) = (tile / tiles, (tile % tiles) * 16);
    let taps = layer.taps(parity);
    let kernel = weight.len() / (input * output);
    let at = |tap: usize, out: usize, channel: usize| match layer.kind {
        _ if out >= output || channel >= input => 0.0,
        Kind::Up => weight[(channel * output + out) * kernel + tap],
        _ => weight[(out * input + channel) * kernel + tap],
    };
    let along = |out: usize, channel: usize| match shortcut {
        Some(weight) if out < output && channel < input => weight[out * input + channel],
        _ => 0.0,
    };
    let first = split * cut.range;
    for entry in 0..cut.all_entries {
        let part = entry % parts;
        for block in (first..first + cut.range).step_by(16) {
            for lane in 0..32 {
                for register in 0..8 {
                    let out = row + lane / 4 + (register / 2 % 2) * 8;
                    let channel = block + (lane % 4) * 2 + register % 2 + (register / 4) * 8;
                    let value = match entry < cut.entries {
                        true => at(taps[entry / parts].tap, out, channel),
                        false => along(out, channel),
                    };
                    let high = bf16(value);
                    packed.push(if part == 1 { bf16(value - from_bf16(high)) } else { high });
                }
            }
        }
    }
}

fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
