//! Rows of an array that is stored in chunks (zarr, HDF5): which chunks hold them, and putting these together.

use std::ops::Range;

use crate::columns::Number;
use crate::raw::Encoding;

/// More chunks than any demonstration has side by side: a damaged shape is told before it costs memory.
const MOST_ACROSS: usize = 1 << 16;

/// An array `[T, ...]` cut into chunks of one shape; those at its ends may reach beyond it.
#[derive(Clone, Debug)]
pub(crate) struct ChunkGrid {
    /// `[T, ...]`
    shape: Vec<usize>,
    chunk: Vec<usize>,
}

impl ChunkGrid {
    /// # Errors
    /// When the chunks have another number of dimensions, hold nothing, or are too large to be counted.
    pub(crate) fn new(shape: Vec<usize>, chunk: Vec<usize>) -> Result<Self, String> {
        if shape.is_empty() || shape.len() != chunk.len() {
            return Err(format!("its shape {shape:?} and its chunks {chunk:?} do not fit together"));
        }
        let countable = |sizes: &[usize]| sizes.iter().try_fold(16usize, |all, size| all.checked_mul(*size));
        if chunk.contains(&0) || countable(&shape).is_none() || countable(&chunk).is_none() {
            return Err(format!("its shape {shape:?} in chunks of {chunk:?} makes no sense"));
        }
        let grid = Self { shape, chunk };
        if grid
            .across()
            .iter()
            .try_fold(1usize, |all, count| all.checked_mul(*count))
            .is_none_or(|all| all > MOST_ACROSS)
        {
            return Err(format!(
                "a row of its shape {:?} lies in too many chunks of {:?}",
                grid.shape, grid.chunk
            ));
        }
        Ok(grid)
    }

    /// Chunks along each axis but the first.
    fn across(&self) -> Vec<usize> {
        self.shape.iter().zip(&self.chunk).skip(1).map(|(size, chunk)| size.div_ceil(*chunk)).collect()
    }

    /// Numbers of one row.
    pub(crate) fn dim(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Numbers of one chunk, padding included.
    pub(crate) fn chunk_numbers(&self) -> usize {
        self.chunk.iter().product()
    }

    /// Reads `rows`, row-major. `load` gives the bytes of the chunk at these chunk coordinates, and is asked once for each
    /// that holds some of the rows.
    ///
    /// # Errors
    /// Those of `load`, and when it gives a chunk of another size.
    pub(crate) fn read<T: Number, B: AsRef<[u8]>, E>(
        &self,
        rows: Range<usize>,
        encoding: Encoding,
        mut load: impl FnMut(&[usize]) -> Result<B, E>,
        wrong_size: impl Fn(&[usize], usize) -> E,
    ) -> Result<Vec<T>, E> {
        let dim = self.dim();
        let mut out: Vec<T> = Vec::new();
        if rows.is_empty() || dim == 0 {
            return Ok(out);
        }
        let across = self.across();
        let mut numbers = Vec::new();
        for block in rows.start / self.chunk[0]..=(rows.end - 1) / self.chunk[0] {
            let begin = block * self.chunk[0];
            let wanted = rows.start.max(begin)..rows.end.min(begin + self.chunk[0]);
            let first = out.len();
            for inner in indices(&across) {
                let place = [&[block], inner.as_slice()].concat();
                let bytes = load(&place)?;
                let bytes = bytes.as_ref();
                if bytes.len() != self.chunk_numbers() * encoding.kind.bytes() {
                    return Err(wrong_size(&place, bytes.len()));
                }
                // Only now is it certain that the file holds as much as its shape says.
                if out.len() == first {
                    out.resize(first + wanted.len() * dim, T::from_f32(0.0));
                }
                let width = self.chunk_numbers() / self.chunk[0];
                let row_bytes = width * encoding.kind.bytes();
                numbers.clear();
                encoding.append(
                    &bytes[(wanted.start - begin) * row_bytes..(wanted.end - begin) * row_bytes],
                    &mut numbers,
                );
                for (from, to, count) in self.runs(&inner) {
                    for row in 0..wanted.len() {
                        let (from, to) = (row * width + from, first + row * dim + to);
                        out[to..to + count].clone_from_slice(&numbers[from..from + count]);
                    }
                }
            }
        }
        Ok(out)
    }

    /// Runs of a row that lie together in the chunk at `inner` (its coordinates but the first) and in the array: where they
    /// begin in either, and how long they are.
    fn runs(&self, inner: &[usize]) -> Vec<(usize, usize, usize)> {
        let (shape, chunk) = (&self.shape[1..], &self.chunk[1..]);
        let Some(last) = shape.len().checked_sub(1) else { return vec![(0, 0, 1)] };
        let held = |axis: usize| chunk[axis].min(shape[axis] - inner[axis] * chunk[axis]);
        let outer: Vec<usize> = (0..last).map(held).collect();
        let run = |place: Vec<usize>| {
            let (mut from, mut to) = (0, 0);
            for axis in 0..=last {
                let at = place.get(axis).copied().unwrap_or(0);
                from = from * chunk[axis] + at;
                to = to * shape[axis] + inner[axis] * chunk[axis] + at;
            }
            (from, to, held(last))
        };
        indices(&outer).into_iter().map(run).collect()
    }
}

/// All coordinates within `sizes`, the last running fastest; one empty one where there are no sizes.
fn indices(sizes: &[usize]) -> Vec<Vec<usize>> {
    sizes.iter().fold(vec![Vec::new()], |all, size| {
        let longer = |place: &Vec<usize>| {
            let place = place.clone();
            (0..*size).map(move |at| [place.as_slice(), &[at]].concat())
        };
        all.iter().flat_map(longer).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Kind;

    /// The array whose numbers count up from 0, cut into chunks and put together again.
    fn rebuilt(shape: &[usize], chunk: &[usize], rows: Range<usize>) -> Vec<f64> {
        let grid = ChunkGrid::new(shape.to_vec(), chunk.to_vec()).unwrap();
        let load = |place: &[usize]| {
            let mut bytes = Vec::new();
            for within in indices(chunk) {
                let at: Vec<usize> =
                    place.iter().zip(chunk).zip(&within).map(|((p, c), w)| p * c + w).collect();
                let inside = at.iter().zip(shape).all(|(at, size)| at < size);
                let number = at.iter().zip(shape).fold(0, |number, (at, size)| number * size + at);
                bytes.extend(if inside { number as f64 } else { -1.0 }.to_le_bytes());
            }
            Ok::<_, ()>(bytes)
        };
        grid.read(rows, Encoding { kind: Kind::Float64, big_endian: false }, load, |_, _| ()).unwrap()
    }

    #[test]
    fn chunks_of_any_shape_put_together_are_the_array() {
        for (shape, chunk) in [
            (vec![10], vec![3]),
            (vec![10], vec![100]),
            (vec![7, 5], vec![3, 5]),
            (vec![7, 5], vec![3, 2]),
            (vec![7, 5], vec![1, 7]),
            (vec![6, 9, 2], vec![4, 9, 2]),
            (vec![6, 9, 2], vec![4, 4, 1]),
            (vec![5, 3, 4, 3], vec![2, 2, 3, 2]),
        ] {
            let dim: usize = shape[1..].iter().product();
            for rows in [0..shape[0], 0..1, 2..5, shape[0] - 1..shape[0], 3..3] {
                let expected: Vec<f64> = (rows.start * dim..rows.end * dim).map(|n| n as f64).collect();
                assert_eq!(rebuilt(&shape, &chunk, rows.clone()), expected, "{shape:?} {chunk:?} {rows:?}");
            }
        }
    }

    #[test]
    fn shapes_that_make_no_sense_and_chunks_of_another_size_are_refused() {
        for (shape, chunk) in [
            (vec![], vec![]),
            (vec![3], vec![3, 1]),
            (vec![3, 2], vec![3, 0]),
            (vec![usize::MAX, 2], vec![1, 2]),
            (vec![3, 2], vec![usize::MAX / 2, 8]),
            (vec![3, 1 << 40], vec![3, 2]),
        ] {
            assert!(ChunkGrid::new(shape, chunk).is_err());
        }
        let grid = ChunkGrid::new(vec![4, 2], vec![4, 2]).unwrap();
        let encoding = Encoding { kind: Kind::Float32, big_endian: false };
        let short = grid.read::<f32, _, _>(
            0..4,
            encoding,
            |_| Ok(vec![0; 31]),
            |place, found| (place.to_vec(), found),
        );
        assert_eq!(short, Err((vec![0, 0], 31)));
    }
}
