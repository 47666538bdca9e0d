//! A safetensors file of somebody else's: any names, any floating-point type, nothing taken on trust.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use sha2::{Digest, Sha256};

use crate::PolicyFailure;
use crate::checkpoint::hex;

/// How the weights get out of a pickle: where its code is trusted, by whoever trusts it.
const CONVERT: &str = "it is a Python pickle, which can run code when it is opened, so it is not opened here. Where \
                       you trust it, write its weights as safetensors:\n\
                       \n    import torch, dill\n    from safetensors.torch import save_file\n    \
                       weights = torch.load(\"latest.ckpt\", map_location=\"cpu\", pickle_module=dill, \
                       weights_only=False)[\"state_dicts\"][\"ema_model\"]\n    \
                       save_file({name: value.contiguous() for name, value in weights.items()}, \
                       \"policy.safetensors\")\n\nand import that";

/// What a file holds, by name; numbers are decoded when they are asked for.
pub(crate) struct TensorFile {
    pub path: PathBuf,
    bytes: Vec<u8>,
    entries: BTreeMap<String, Entry>,
    /// The one text beside the tensors under which Nudge leaves a checkpoint's own words.
    pub remembered: Option<String>,
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    place: Range<usize>,
}

impl TensorFile {
    /// Reads a file and checks its header.
    ///
    /// # Errors
    /// When it cannot be read, is a pickle, or is no whole safetensors file.
    pub fn open(path: &Path) -> Result<Self, PolicyFailure> {
        let refused = |problem: String| PolicyFailure::Import { path: path.to_owned(), problem };
        let mut file = File::open(path).map_err(PolicyFailure::io(path))?;
        let mut bytes = Vec::new();
        file.by_ref().take(16).read_to_end(&mut bytes).map_err(PolicyFailure::io(path))?;
        if is_pickle(&bytes) {
            return Err(refused(CONVERT.into()));
        }
        file.read_to_end(&mut bytes).map_err(PolicyFailure::io(path))?;
        Self::parse(path, bytes).map_err(refused)
    }

    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, String> {
        let (header, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| format!("it is not a whole safetensors file: {error}"))?;
        let first = 8 + header;
        let entry = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
            let (start, end) = info.data_offsets;
            let place = first + start..first + end;
            (name, Entry { dtype: info.dtype, shape: info.shape.clone(), place })
        };
        let entries = metadata.tensors().into_iter().map(entry).collect();
        let texts = metadata.metadata().as_ref();
        let remembered = texts.and_then(|texts| texts.get(crate::export::REMEMBERED).cloned());
        Ok(Self { path: path.to_owned(), bytes, entries, remembered })
    }

    /// Every name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.entries.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.entries.get(name)?.shape)
    }

    /// Whether a tensor's numbers are of a shorter type than the f32 they become.
    pub fn is_half(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| matches!(entry.dtype, Dtype::F16 | Dtype::BF16))
    }

    /// The SHA-256 of a text and of all names and numbers, as [`export`](crate::export) leaves it beside them.
    pub fn checksum(&self, text: &str) -> String {
        let tensors =
            self.entries.iter().map(|(name, entry)| (name.as_str(), &self.bytes[entry.place.clone()]));
        crate::export::checksum(text, tensors)
    }

    /// The file's SHA-256, as `sha256sum` prints it.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }

    /// A tensor's numbers as f32, row-major: exactly those that the file holds.
    ///
    /// # Errors
    /// When there is no such tensor, f32 cannot hold its type, or a number is NaN or infinite.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>, String> {
        let entry = self.entries.get(name).ok_or_else(|| format!("it lacks `{name}`"))?;
        let bytes = &self.bytes[entry.place.clone()];
        let pairs = || bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let values: Vec<f32> = match entry.dtype {
            Dtype::F32 => {
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::BF16 => pairs().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
            Dtype::F16 => pairs().map(f16).collect(),
            other => {
                return Err(format!(
                    "`{name}` is {other:?}: weights are taken as F32, F16 or BF16, so convert it, for example \
                     with `value.float()`"
                ));
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(format!("`{name}` holds {} at number {index}", values[index])),
            None => Ok(values),
        }
    }
}

/// A zip archive, as `torch.save` writes since 1.6, or a bare pickle as it wrote before.
fn is_pickle(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || matches!(head, [0x80, 2..=5, ..])
}

/// An IEEE half as the f32 of the same value.
fn f16(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = ((bits >> 10) & 0x1f, f32::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * (-24f32).exp2(),
        0x1f if fraction == 0.0 => f32::INFINITY,
        0x1f => f32::NAN,
        _ => (1024.0 + fraction) * (f32::from(exponent) - 25.0).exp2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_keep_their_value() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(f16(bits), value, "{bits:#x}");
        }
        assert_eq!(f16(0x8000).to_bits(), (-0.0f32).to_bits());
        assert!(f16(0xfc00) == f32::NEG_INFINITY && f16(0x7e00).is_nan());
    }

    #[test]
    fn pickles_are_known_by_how_they_begin() {
        assert!(is_pickle(b"PK\x03\x04rest") && is_pickle(&[0x80, 2, b'}']));
        assert!(!is_pickle(&[0x80, 0, 0, 0, 0, 0, 0, 0]) && !is_pickle(b""));
    }
}
