//! One data set of an HDF5 file, in HDF5's sense: an array `[N, ...]`.

use std::collections::BTreeMap;
use std::path::Path;

use hdf5_reader::error::Error;
use hdf5_reader::{ByteOrder, Datatype, FilterRegistry, Hdf5File, OpenOptions};

use crate::chunked::ChunkGrid;
use crate::columns::Number;
use crate::raw::{Encoding, Kind};

/// An array of which only the header has been read.
pub(crate) struct Hdf5Array {
    array: hdf5_reader::Dataset,
    pub(crate) shape: Vec<usize>,
    /// numpy's name of the numbers, or what there is instead of numbers.
    pub(crate) dtype: String,
    encoding: Option<Encoding>,
}

/// Opens an HDF5 file. What a damaged length may cost in memory is bounded by the file's size.
pub(crate) fn open_file(path: &Path) -> Result<Hdf5File, Error> {
    let mut filters = FilterRegistry::new();
    filters.register(LZF, Box::new(|filter, data, _| unpack_lzf(data, filter.client_data.get(2).copied())));
    // Tables of numbers are seldom packed closer than 1 : 64.
    let held = usize::try_from(std::fs::metadata(path)?.len()).unwrap_or(usize::MAX);
    let most = held.saturating_mul(64).saturating_add(16 << 20);
    let options =
        OpenOptions { chunk_cache_bytes: 0, filter_registry: Some(filters), ..OpenOptions::default() };
    Hdf5File::open_with_options(path, options.with_max_read_bytes(most).with_max_chunk_bytes(most))
}

impl Hdf5Array {
    pub(crate) fn open(file: &Hdf5File, place: &str) -> Result<Self, Error> {
        let array = file.dataset(place)?;
        let shape = array.shape().iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect();
        let (dtype, encoding) = type_of(array.dtype());
        Ok(Self { array, shape, dtype, encoding })
    }

    /// All numbers, row-major. A chunk that is not there is damage, and not a table of fill values.
    ///
    /// # Errors
    /// In words: when it holds no numbers, or the bytes are damaged or packed in an unknown way.
    pub(crate) fn read<T: Number>(&self) -> Result<Vec<T>, String> {
        let Some(encoding) = self.encoding else {
            return Err(format!("it holds {}, not numbers", self.dtype));
        };
        let told = |error: Error| match &error {
            Error::UnsupportedFilter(_) => {
                format!("{error}; pack the file anew, for example with `h5repack -f GZIP=4 IN OUT`")
            }
            _ => error.to_string(),
        };
        let Some(chunk) = self.array.chunks() else {
            let mut out = Vec::new();
            encoding.append(&self.array.read_raw_bytes().map_err(told)?, &mut out);
            return Ok(out);
        };
        let chunk: Vec<usize> = chunk.into_iter().map(|size| size as usize).collect();
        let grid = ChunkGrid::new(self.shape.clone(), chunk.clone())?;
        let mut chunks = BTreeMap::new();
        for held in self.array.iter_chunks().map_err(told)? {
            let held = held.map_err(told)?;
            let place = held.offsets().iter().zip(&chunk).map(|(at, size)| *at as usize / size);
            chunks.insert(place.collect::<Vec<usize>>(), held);
        }
        let load = |place: &[usize]| {
            let held = chunks.get(place).map(|chunk| chunk.bytes());
            held.ok_or_else(|| format!("its chunk {place:?} is missing; fetch the file again"))
        };
        let wrong_size = |place: &[usize], found: usize| {
            let expected = grid.chunk_numbers() * encoding.kind.bytes();
            format!("its chunk {place:?} holds {found} bytes where {expected} belong; fetch the file again")
        };
        grid.read(0..self.shape[0], encoding, load, wrong_size)
    }
}

fn type_of(datatype: &Datatype) -> (String, Option<Encoding>) {
    let (kind, byte_order) = match datatype {
        Datatype::FixedPoint { size, signed, byte_order } => {
            (Kind::integer(usize::from(*size), *signed), *byte_order)
        }
        Datatype::FloatingPoint { size, byte_order } => (Kind::float(usize::from(*size)), *byte_order),
        // What h5py makes of numpy's bool.
        Datatype::Enum { base, members }
            if matches!(**base, Datatype::FixedPoint { size: 1, .. })
                && members.iter().map(|member| member.name.as_str()).eq(["FALSE", "TRUE"]) =>
        {
            (Some(Kind::Bool), ByteOrder::LittleEndian)
        }
        Datatype::String { .. } | Datatype::VarLen { .. } => return ("string".into(), None),
        _ => return ("record".into(), None),
    };
    let encoding = kind.map(|kind| Encoding { kind, big_endian: byte_order == ByteOrder::BigEndian });
    (kind.map_or_else(|| "number of odd size".into(), |kind| kind.name().to_owned()), encoding)
}

/// The number under which h5py's `compression="lzf"` is registered.
const LZF: u16 = 32_000;

/// Unpacks LibLZF, at most `limit` bytes.
fn unpack_lzf(packed: &[u8], limit: Option<u32>) -> Result<Vec<u8>, Error> {
    let damaged = || Error::DecompressionError("the LZF bytes are damaged".into());
    // Three bytes stand for at most 264.
    let limit = limit.map_or(usize::MAX, |limit| limit as usize).min(packed.len().saturating_mul(88));
    let mut out = Vec::with_capacity(limit);
    let mut rest = packed.iter().copied();
    while let Some(control) = rest.next() {
        let control = usize::from(control);
        let mut next = || rest.next().map(usize::from).ok_or_else(damaged);
        if control < 32 {
            for _ in 0..=control {
                out.push(next()? as u8);
            }
        } else {
            let length = 2 + if control >> 5 == 7 { 7 + next()? } else { control >> 5 };
            let back = ((control & 31) << 8) + next()? + 1;
            let begin = out.len().checked_sub(back).ok_or_else(damaged)?;
            // What is copied may reach into what it becomes.
            for at in begin..begin + length {
                out.push(out[at]);
            }
        }
        if out.len() > limit {
            return Err(damaged());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lzf_runs_copies_and_damage() {
        let unpack = |packed: &[u8], limit| unpack_lzf(packed, limit).map_err(|error| error.to_string());
        // Three bytes as they are, then 5 from 3 before, then a long copy of the last one: 2 + 7 + 4.
        let packed = [2, b'a', b'b', b'c', 3 << 5, 2, 7 << 5, 4, 0];
        assert_eq!(unpack(&packed, Some(100)).unwrap(), b"abcabcabbbbbbbbbbbbbb");
        assert_eq!(unpack(&packed, Some(21)).unwrap().len(), 21);
        assert!(unpack(&packed, Some(20)).is_err());
        for cut in [1, 2, 3, 5, 7, 8] {
            assert!(unpack(&packed[..cut], None).is_err(), "{cut}");
        }
        // A copy from before the beginning.
        assert!(unpack(&[0, b'a', 1 << 5, 1], None).is_err());
    }
}
