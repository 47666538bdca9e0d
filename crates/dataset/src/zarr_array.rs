//! One array of a zarr store: what it says it holds, and chosen rows of it.

use std::borrow::Cow;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use zarrs::array::{Array, ArrayBytes, ArrayToBytesCodecTraits, CodecOptions};
use zarrs::filesystem::FilesystemStore;

use crate::DatasetError;
use crate::chunked::ChunkGrid;
use crate::columns::Number;
use crate::error::guarded;
use crate::raw::{Encoding, Kind};

/// An array `[T, ...]`, of which only the metadata have been read.
pub(crate) struct ZarrArray {
    /// The store's folder, and the array's place in it, for example `data/state`.
    root: PathBuf,
    place: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) chunk: Vec<usize>,
    /// numpy's name of the numbers, or what there is instead of numbers.
    pub(crate) dtype: String,
    kind: Option<Kind>,
    compression: Compression,
    /// Order F, in which numbers of one column follow each other.
    column_major: bool,
}

#[derive(Clone, Copy)]
enum Compression {
    None,
    Blosc,
    Zstd,
    /// One that states no size before it is decoded.
    Other,
}

/// What of `.zarray` (zarr v2) is looked at here; `zarrs` reads it whole.
#[derive(Deserialize)]
struct MetadataV2 {
    shape: Vec<usize>,
    chunks: Vec<usize>,
    dtype: Value,
    compressor: Option<Compressor>,
    filters: Option<Value>,
    #[serde(default)]
    order: String,
}

impl MetadataV2 {
    fn compression(&self) -> Compression {
        match (&self.filters, self.compressor.as_ref().map(|compressor| compressor.id.as_str())) {
            (None, None) => Compression::None,
            (None, Some("blosc")) => Compression::Blosc,
            (None, Some("zstd")) => Compression::Zstd,
            _ => Compression::Other,
        }
    }
}

#[derive(Deserialize)]
struct Compressor {
    id: String,
}

/// The same of `zarr.json` (zarr v3).
#[derive(Deserialize)]
struct MetadataV3 {
    shape: Vec<usize>,
    data_type: Value,
    chunk_grid: ChunkGridV3,
}

#[derive(Deserialize)]
struct ChunkGridV3 {
    configuration: ChunkShapeV3,
}

#[derive(Deserialize)]
struct ChunkShapeV3 {
    chunk_shape: Vec<usize>,
}

impl ZarrArray {
    /// Reads the metadata of the array at `place` below `root`.
    ///
    /// # Errors
    /// When there are none, or they make no sense.
    pub(crate) fn open(root: &Path, place: &str) -> Result<Self, DatasetError> {
        let folder = root.join(place);
        let (v3, v2) = (folder.join("zarr.json"), folder.join(".zarray"));
        let path = if v3.is_file() { &v3 } else { &v2 };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(_) if !path.is_file() => {
                let problem = "it has no .zarray, so it is not known what it holds; fetch the set again";
                return Err(DatasetError::metadata(&folder, problem));
            }
            Err(error) => return Err(DatasetError::io(path)(error)),
        };
        let bad = |error: serde_json::Error| DatasetError::metadata(path, error.to_string());
        let mut column_major = false;
        let (shape, chunk, (dtype, kind), compression) = if path == &v3 {
            let MetadataV3 { shape, data_type, chunk_grid } = serde_json::from_str(&text).map_err(bad)?;
            (shape, chunk_grid.configuration.chunk_shape, type_v3(&data_type), Compression::Other)
        } else {
            let stated: MetadataV2 = serde_json::from_str(&text).map_err(bad)?;
            let compression = stated.compression();
            column_major = stated.order == "F" && stated.shape.len() > 1;
            (stated.shape, stated.chunks, type_v2(&stated.dtype), compression)
        };
        ChunkGrid::new(shape.clone(), chunk.clone())
            .map_err(|problem| DatasetError::metadata(path, problem))?;
        Ok(Self {
            root: root.to_owned(),
            place: place.to_owned(),
            shape,
            chunk,
            dtype,
            kind,
            compression,
            column_major,
        })
    }

    /// Reads rows as a row-major table. Chunks that are not there are damage: nobody demonstrates fill values.
    ///
    /// # Errors
    /// When a chunk is missing or damaged, or its compression is not known.
    pub(crate) fn read<T: Number>(&self, rows: Range<usize>) -> Result<Vec<T>, DatasetError> {
        let folder = self.root.join(&self.place);
        let bad = |problem: String| DatasetError::metadata(&folder, problem);
        let Some(kind) = self.kind else {
            return Err(DatasetError::NotNumbers { feature: self.place.clone(), dtype: self.dtype.clone() });
        };
        if self.column_major {
            return Err(bad("its numbers are stored column by column (order F), which is not read; write it anew in order C".into()));
        }
        let grid = ChunkGrid::new(self.shape.clone(), self.chunk.clone()).map_err(bad)?;
        let store = FilesystemStore::new(&self.root).map_err(|error| bad(error.to_string()))?;
        let array = guarded(|| Array::open(Arc::new(store), &format!("/{}", self.place)))
            .map_err(|error| bad(format!("it cannot be read: {error}")))?;
        let options = CodecOptions::default().with_concurrent_target(1);
        let expected = grid.chunk_numbers() * kind.bytes();
        let path_of = |chunk: &[usize]| {
            let indices: Vec<u64> = chunk.iter().map(|index| *index as u64).collect();
            (self.root.join(array.chunk_key(&indices).as_str()), indices)
        };
        let damaged = |path: &Path, problem: String| DatasetError::Chunk { path: path.to_owned(), problem };
        let load = |chunk: &[usize]| {
            let (path, indices) = path_of(chunk);
            let encoded = match fs::read(&path) {
                Ok(encoded) => encoded,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(damaged(&path, "the file is missing".into()));
                }
                Err(error) => return Err(DatasetError::io(&path)(error)),
            };
            if let Some(found) = self.stated_size(&encoded).filter(|found| *found != expected as u64) {
                return Err(damaged(&path, format!("it states {found} bytes where {expected} belong")));
            }
            let shape = array.chunk_shape(&indices).map_err(|error| damaged(&path, error.to_string()))?;
            let decoded = guarded(|| {
                let (data_type, fill) = (array.data_type(), array.fill_value());
                array.codecs().decode(Cow::Owned(encoded), &shape, data_type, fill, &options)
            });
            match decoded {
                Ok(ArrayBytes::Fixed(bytes)) => Ok(bytes.into_owned()),
                Ok(_) => Err(damaged(&path, "it holds numbers of varying size".into())),
                Err(error) => Err(damaged(&path, error)),
            }
        };
        let wrong_size = |chunk: &[usize], found: usize| {
            damaged(&path_of(chunk).0, format!("it holds {found} bytes where {expected} belong"))
        };
        // zarrs has turned the numbers into this machine's byte order.
        grid.read(rows, Encoding { kind, big_endian: cfg!(target_endian = "big") }, load, wrong_size)
    }

    /// The size that a compressed chunk states for its contents, where its format does: asked before memory is taken for it.
    fn stated_size(&self, encoded: &[u8]) -> Option<u64> {
        match self.compression {
            Compression::None => Some(encoded.len() as u64),
            // c-blosc 1: version, version of the compressor, flags, size of a number, then the sizes.
            Compression::Blosc => Some(u64::from(u32::from_le_bytes(encoded.get(4..8)?.try_into().ok()?))),
            Compression::Zstd => zstd_content_size(encoded),
            Compression::Other => None,
        }
    }
}

/// The content size in the header of a zstd frame (RFC 8878, section 3.1.1.1), where it has one.
fn zstd_content_size(frame: &[u8]) -> Option<u64> {
    let descriptor = *frame.get(4)?;
    let single_segment = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let at = 5 + usize::from(!single_segment) + dictionary;
    let size = |bytes: usize| {
        let field = frame.get(at..at + bytes)?;
        Some(field.iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte)))
    };
    match (descriptor >> 6, single_segment) {
        (0, false) => None,
        (0, true) => size(1),
        (1, _) => Some(size(2)? + 256),
        (2, _) => size(4),
        _ => size(8),
    }
}

/// What a numpy type such as `<f4` or `|b1` holds.
fn type_v2(dtype: &Value) -> (String, Option<Kind>) {
    let Some(text) = dtype.as_str() else { return ("record".into(), None) };
    let code = text.trim_start_matches(['<', '>', '|', '=']);
    let mut letters = code.chars();
    let letter = letters.next();
    let bytes = letters.as_str().parse().unwrap_or(0);
    let kind = match letter {
        Some('f') => Kind::float(bytes),
        Some('i') => Kind::integer(bytes, true),
        Some('u') => Kind::integer(bytes, false),
        Some('b') if bytes == 1 => Some(Kind::Bool),
        Some('U' | 'S' | 'O') => return ("string".into(), None),
        _ => None,
    };
    named(kind, text)
}

fn type_v3(data_type: &Value) -> (String, Option<Kind>) {
    let Some(text) = data_type.as_str() else { return ("record".into(), None) };
    const KINDS: [Kind; 12] = [
        Kind::Bool,
        Kind::Int8,
        Kind::Int16,
        Kind::Int32,
        Kind::Int64,
        Kind::Uint8,
        Kind::Uint16,
        Kind::Uint32,
        Kind::Uint64,
        Kind::Float16,
        Kind::Float32,
        Kind::Float64,
    ];
    named(KINDS.into_iter().find(|kind| kind.name() == text), text)
}

fn named(kind: Option<Kind>, text: &str) -> (String, Option<Kind>) {
    (kind.map_or_else(|| text.to_owned(), |kind| kind.name().to_owned()), kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_numpy_are_named() {
        for (text, expected) in [
            ("<f4", "float32"),
            (">f8", "float64"),
            ("<f2", "float16"),
            ("|b1", "bool"),
            ("|u1", "uint8"),
            ("<i8", "int64"),
            ("<U12", "string"),
            ("|O", "string"),
            ("<c8", "<c8"),
        ] {
            let (name, kind) = type_v2(&Value::from(text));
            assert_eq!(name, expected);
            assert!(kind.is_none_or(|kind| kind.name() == expected));
        }
        assert_eq!(type_v3(&Value::from("float32")).1, Some(Kind::Float32));
    }

    #[test]
    fn the_content_size_of_a_zstd_frame_is_read_in_all_its_widths() {
        let magic = [0x28, 0xb5, 0x2f, 0xfd];
        for (rest, expected) in [
            (&[0x20, 200][..], Some(200)),
            (&[0x60, 44, 1][..], Some(556)),
            (&[0xa0, 1, 2, 0, 0][..], Some(513)),
            (&[0xe0, 1, 0, 0, 0, 0, 0, 0, 1][..], Some((1 << 56) + 1)),
            (&[0x80, 0x58, 1, 2, 0, 0][..], Some(513)),
            (&[0x00, 0x58][..], None),
            (&[0xa0, 1][..], None),
        ] {
            assert_eq!(zstd_content_size(&[&magic[..], rest].concat()), expected, "{rest:?}");
        }
    }
}
