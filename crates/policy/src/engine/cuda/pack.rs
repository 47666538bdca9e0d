//! Weights in the register order of the tensor cores' `m16n8k16`, cut into the items that blocks work on.

use super::layers::{Kind, Layer};
use crate::Precision;
use crate::engine::{bf16, int8, largest};

/// How weights of a precision lie on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub precision: Precision,
    /// Products of two bf16 that a weight takes: see [`PARTS`].
    pub parts: usize,
    /// Of 16 by 16 weights, and of the scales that follow the last of an item.
    pub tile_bytes: usize,
    pub scale_bytes: usize,
}

/// Which part of the weight and which of the input each product multiplies, where an f32 is the sum of three bf16: what is
/// left out is as small as an f32's own rounding.
const PARTS: [[i8; 2]; 6] = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0]];

impl Form {
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self { precision, parts: PARTS.len(), tile_bytes: 512, scale_bytes: 0 },
            Precision::Bf16 => Self { precision, parts: 1, tile_bytes: 512, scale_bytes: 0 },
            // A scale for each row of the convolution, and of the shortcut beside it.
            Precision::Int8 => Self { precision, parts: 1, tile_bytes: 256, scale_bytes: 2 * 16 * 4 },
        }
    }

    /// Parts that the input is kept in.
    pub fn input_parts(self) -> usize {
        PARTS[..self.parts].iter().map(|[_, input]| *input as usize + 1).max().unwrap_or(1)
    }

    /// Which part of the input an entry reads.
    pub fn input_part(self, entry: usize) -> i8 {
        PARTS[entry % self.parts][1]
    }

    /// Of an item of so many tiles.
    pub fn item_bytes(self, tiles: usize) -> usize {
        tiles * self.tile_bytes + self.scale_bytes
    }
}

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

/// The packed weights of one item: `[tiles][32 lanes][8]` as bf16 bits, or as 8-bit integers and behind them their scales,
/// `[2][16 rows]` as f32. `weights` are those of the convolution and of the shortcut beside it, if there is one.
pub(super) fn pack_item(
    layer: &Layer,
    cut: Cut,
    item: usize,
    weights: [Option<&[f32]>; 2],
    form: Form,
    packed: &mut Vec<u8>,
) {
    let [input, output] = layer.channels;
    let (split, tile) = (item / cut.row_tiles, item % cut.row_tiles);
    let tiles = cut.row_tiles / layer.parities();
    let (parity, first_row) = (tile / tiles, (tile % tiles) * 16);
    let taps = layer.taps(parity);
    let channels = split * cut.range..(split + 1) * cut.range;
    let kernels = weights.map(|weights| weights.map_or(1, <[f32]>::len) / (input * output));
    let value = |entry: usize, row: usize, channel: usize| {
        let out = first_row + row;
        let (which, tap) = if entry < cut.entries { (0, taps[entry / form.parts].tap) } else { (1, 0) };
        let Some(weights) = weights[which].filter(|_| out < output && channel < input) else { return 0.0 };
        let kernel = kernels[which];
        match layer.kind {
            Kind::Up => weights[(channel * output + out) * kernel + tap],
            _ => weights[(out * input + channel) * kernel + tap],
        }
    };
    let mut scales = [[0.0; 16]; 2];
    if form.precision == Precision::Int8 {
        for (entries, scales) in [0..cut.entries, cut.entries..cut.all_entries].into_iter().zip(&mut scales) {
            for (row, scale) in scales.iter_mut().enumerate() {
                let of_row = entries.clone().flat_map(|entry| channels.clone().map(move |c| (entry, c)));
                *scale = largest(of_row.map(|(entry, channel)| value(entry, row, channel))) / 127.0;
            }
        }
    }
    for entry in 0..cut.all_entries {
        for block in channels.clone().step_by(16) {
            for lane in 0..32 {
                for register in 0..8 {
                    let row = lane / 4 + (register / 2 % 2) * 8;
                    let channel = block + (lane % 4) * 2 + register % 2 + (register / 4) * 8;
                    let value = value(entry, row, channel);
                    match form.precision {
                        Precision::Int8 => {
                            let scale = scales[usize::from(entry >= cut.entries)][row];
                            packed.extend(int8(value, scale).to_le_bytes());
                        }
                        _ => packed.extend(part(value, PARTS[entry % form.parts][0]).to_le_bytes()),
                    }
                }
            }
        }
    }
    if form.precision == Precision::Int8 {
        packed.extend(scales.iter().flatten().flat_map(|scale: &f32| scale.to_le_bytes()));
    }
}

/// The bf16 that is nearest to what the parts before it leave of `value`.
fn part(value: f32, index: i8) -> u16 {
    let bits = bf16(value);
    if index == 0 { bits } else { part(value - from_bf16(bits), index - 1) }
}

fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
