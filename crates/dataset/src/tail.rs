//! The last file of a growing set: written anew whenever episodes are brought to the disk, until it is large and another
//! follows.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::Schema;
use parquet::errors::ParquetError;

use crate::index::parquet_files_below;
use crate::parquet_file::ParquetFile;
use crate::{DatasetError, template, write_meta};

/// Where LeRobot v3.0 lists its episodes.
pub(crate) const EPISODES_PATH: &str = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet";

/// Chunk and number of a file.
pub(crate) type FileNumber = (usize, usize);

/// When a file is followed by another.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    /// Files to a folder.
    pub(crate) chunks_size: usize,
}

impl Limits {
    /// The file that follows.
    pub(crate) fn after(self, (chunk, file): FileNumber) -> FileNumber {
        if file + 1 < self.chunks_size { (chunk, file + 1) } else { (chunk + 1, 0) }
    }
}

/// A file and what it holds, each batch a row group of its own.
#[derive(Clone)]
pub(crate) struct Tail {
    pub(crate) at: FileNumber,
    pub(crate) schema: Arc<Schema>,
    batches: Vec<RecordBatch>,
    /// Its length when it was last encoded.
    bytes: usize,
}

impl Tail {
    pub(crate) fn new(at: FileNumber, schema: Arc<Schema>) -> Self {
        Self { at, schema, batches: Vec::new(), bytes: 0 }
    }

    /// The last data file of a set whose frames in all are `frames`, and whose data file of the greatest number is
    /// `greatest`. What it holds beyond them is left out; a file that is long, laid out in another way, or not of the
    /// greatest number, is followed by another.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of_frames(
        (at, path): (FileNumber, &Path),
        greatest: FileNumber,
        frames: usize,
        schema: &Arc<Schema>,
        limits: Limits,
    ) -> Result<Self, DatasetError> {
        let following = Self::new(limits.after(greatest), schema.clone());
        if at < greatest {
            return Ok(following);
        }
        let file = ParquetFile::open_typed(path)?;
        if file.schema().fields() != schema.fields() || length(path)? >= limits.bytes {
            return Ok(following);
        }
        let first = file.integers("index")?.first().copied().unwrap_or(0);
        let names = names(schema);
        let mut left = frames.saturating_sub(usize::try_from(first).unwrap_or(usize::MAX));
        let (mut batches, mut begin) = (Vec::new(), 0);
        for rows in file.row_groups() {
            let taken = rows.min(left);
            if taken > 0 {
                let read = file.read(&names, begin..begin + taken)?;
                batches.push(one(schema, &read).map_err(DatasetError::parquet(path))?);
            }
            (left, begin) = (left - taken, begin + rows);
        }
        Ok(Self { at, schema: schema.clone(), batches, bytes: length(path)? })
    }

    /// The last list of episodes of the set in `root`, which holds `episodes` in all, and the data file of the last.
    /// As [`of_frames`](Self::of_frames).
    ///
    /// # Errors
    /// When it cannot be read, or there is none.
    pub(crate) fn of_episodes(
        root: &Path,
        episodes: usize,
        limits: Limits,
    ) -> Result<(Self, FileNumber), DatasetError> {
        let folder = root.join("meta/episodes");
        for path in parquet_files_below(&folder)?.into_iter().rev() {
            let file = ParquetFile::open_typed(&path)?;
            let numbers = file.integers("episode_index")?;
            let known = |number: &i64| usize::try_from(*number).is_ok_and(|number| number < episodes);
            let kept = numbers.iter().filter(|number| known(number)).count();
            let Some(last) = kept.checked_sub(1) else { continue };
            if !numbers[..kept].is_sorted() || !known(&numbers[last]) {
                return Err(DatasetError::metadata(
                    &path,
                    "its episodes are not in order; convert the set first",
                ));
            }
            let number = |name: &str| -> Result<usize, DatasetError> {
                let bad =
                    |_| DatasetError::metadata(&path, format!("`{name}` of episode {last} is negative"));
                usize::try_from(file.integers(name)?[last]).map_err(bad)
            };
            let data = (number("data/chunk_index")?, number("data/file_index")?);
            let Some(at) = number_of(&path) else {
                let problem = "its name is not chunk-000/file-000.parquet with other numbers";
                return Err(DatasetError::metadata(&path, problem));
            };
            let schema = Arc::new(Schema::clone(file.schema()));
            let bytes = length(&path)?;
            if bytes >= limits.bytes {
                return Ok((Self::new(limits.after(at), schema), data));
            }
            let read = file.read(&names(&schema), 0..kept)?;
            let batch = one(&schema, &read).map_err(DatasetError::parquet(&path))?;
            return Ok((Self { at, schema, batches: vec![batch], bytes }, data));
        }
        Err(DatasetError::metadata(&folder, "no file lists the set's last episode"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Where the next rows go.
    pub(crate) fn next_at(&self, limits: Limits) -> FileNumber {
        if self.bytes < limits.bytes { self.at } else { limits.after(self.at) }
    }

    /// With a row group more.
    pub(crate) fn grown(&self, batch: RecordBatch, limits: Limits) -> Self {
        let mut grown = self.begun(limits);
        grown.batches.push(batch);
        grown
    }

    /// With more rows in its one row group. They get the columns that the others have: what these lack is left out,
    /// what the rows lack is null.
    pub(crate) fn joined(&self, rows: &RecordBatch, limits: Limits) -> Result<Self, ParquetError> {
        let columns = self.schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
            Some(column) => cast(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), rows.num_rows())),
        });
        let rows = RecordBatch::try_new(self.schema.clone(), columns.collect::<Result<_, _>>()?)?;
        let mut joined = self.begun(limits);
        joined.batches.push(rows);
        joined.batches = vec![concat_batches(&self.schema, &joined.batches)?];
        Ok(joined)
    }

    /// This file, or an empty one that follows it.
    fn begun(&self, limits: Limits) -> Self {
        match self.next_at(limits) {
            at if at == self.at => self.clone(),
            at => Self::new(at, self.schema.clone()),
        }
    }

    /// The file's bytes.
    pub(crate) fn encode(&mut self) -> Result<Vec<u8>, ParquetError> {
        let bytes = write_meta::parquet_bytes(&self.schema, &self.batches)?;
        self.bytes = bytes.len();
        Ok(bytes)
    }
}

/// The path of a file in the set's folder.
///
/// # Errors
/// When the template is none.
pub(crate) fn file_path(template: &str, (chunk, file): FileNumber) -> Result<PathBuf, String> {
    template::fill(template, &[("chunk_index", chunk), ("file_index", file)])
}

/// Chunk and number of `.../chunk-000/file-000.parquet`.
pub(crate) fn number_of(path: &Path) -> Option<FileNumber> {
    let number = |name: &str, prefix: &str| name.strip_prefix(prefix)?.parse().ok();
    let chunk = number(path.parent()?.file_name()?.to_str()?, "chunk-")?;
    Some((chunk, number(path.file_stem()?.to_str()?, "file-")?))
}

pub(crate) fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

/// Batches as one, of this very schema.
pub(crate) fn one(schema: &Arc<Schema>, batches: &[RecordBatch]) -> Result<RecordBatch, ParquetError> {
    let batches = batches.iter().map(|batch| RecordBatch::try_new(schema.clone(), batch.columns().to_vec()));
    Ok(concat_batches(schema, &batches.collect::<Result<Vec<_>, _>>()?)?)
}

fn length(path: &Path) -> Result<usize, DatasetError> {
    let length = fs::metadata(path).map_err(DatasetError::io(path))?.len();
    Ok(usize::try_from(length).unwrap_or(usize::MAX))
}
