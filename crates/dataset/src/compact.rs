//! The files of a recording, small for the sake of the disk, put together as those of a set that was written in one go.
//!
//! Whatever moment the power goes at, the set is whole: a new data file is on the disk before an episode is listed as being
//! in it, and the old ones are there until none is.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use parquet::arrow::ArrowWriter;

use crate::append::{DatasetAppender, Named};
use crate::index::parquet_files_below;
use crate::parquet_file::ParquetFile;
use crate::tail::{self, FileNumber, Limits};
use crate::write_meta::{begin_parquet, parquet_bytes};
use crate::{DatasetError, columns};

const LIST: &str = "meta/episodes/chunk-000/file-000.parquet";

/// Puts the data files and the lists of a set together, which holds `episodes` and whose info.json is `info`: data files
/// of `bytes` each, and one list. A set that is laid out in another way than ours is left as it is; it is whole, too.
///
/// # Errors
/// When a file cannot be read, or the disk refuses; then the set is as if its recording had been cut off.
pub(crate) fn put_together(
    set: &mut DatasetAppender,
    episodes: usize,
    bytes: usize,
    info: &Named,
) -> Result<(), DatasetError> {
    let Some(list) = read_list(set, episodes)?.filter(List::in_runs) else { return Ok(()) };
    let (at, olds) = not_full(set, &list, bytes)?;
    let schema = set.schema.clone();
    // One is left alone, unless it has grown too large at once.
    let in_place = match &olds[..] {
        [] => true,
        [old] => old.at == at && old.file.row_group_ends().iter().rev().skip(1).all(|end| *end < bytes),
        _ => false,
    };
    let ours = olds.iter().all(|old| old.file.schema().fields() == schema.fields());
    let mut joining = Joining { limits: set.data_limits, set, list, olds, placed: Vec::new(), info };
    if ours && !in_place {
        joining.join(at, bytes)?;
    }
    if joining.list.names != [LIST] {
        joining.commit_list()?;
    }
    joining.remove_beyond()
}

/// The greatest number of the data files that the set in `dir` lists for its `episodes`; while files are put together, it need not be the last.
///
/// # Errors
/// When the list cannot be read.
pub(crate) fn greatest_listed(dir: &Path, episodes: usize) -> Result<FileNumber, DatasetError> {
    let mut greatest = (0, 0);
    for path in parquet_files_below(&dir.join("meta/episodes"))? {
        let file = ParquetFile::open(&path)?;
        let chunks = file.integers("data/chunk_index")?;
        let files = file.integers("data/file_index")?;
        for ((number, chunk), file) in file.integers("episode_index")?.into_iter().zip(chunks).zip(files) {
            let known = usize::try_from(number).is_ok_and(|number| number < episodes);
            if let (true, Ok(chunk), Ok(file)) = (known, usize::try_from(chunk), usize::try_from(file)) {
                greatest = greatest.max((chunk, file));
            }
        }
    }
    Ok(greatest)
}

/// The list of episodes, and which data file each is in.
struct List {
    rows: RecordBatch,
    /// Frames of the whole set at which the episodes begin.
    starts: Vec<usize>,
    files: Vec<FileNumber>,
    /// The files in which it is laid down.
    names: Vec<String>,
}

impl List {
    /// Whether the episodes of each data file follow one another.
    fn in_runs(&self) -> bool {
        let runs = self.files.chunk_by(|one, other| one == other).map(|run| run[0]);
        runs.clone().count() == runs.collect::<BTreeSet<_>>().len()
    }
}

/// A data file that is to become part of another, and its frames of the whole set.
struct Old {
    at: FileNumber,
    file: ParquetFile,
    frames: Range<usize>,
}

/// A data file that was written.
struct New {
    at: FileNumber,
    to_be: FileNumber,
    frames: Range<usize>,
}

struct Joining<'a> {
    set: &'a mut DatasetAppender,
    limits: Limits,
    list: List,
    olds: Vec<Old>,
    placed: Vec<New>,
    info: &'a Named,
}

/// The list as it is in its files; `None` when they cannot be one.
fn read_list(set: &DatasetAppender, episodes: usize) -> Result<Option<List>, DatasetError> {
    let (mut parts, mut names, mut schema) = (Vec::new(), Vec::new(), None);
    for path in parquet_files_below(&set.root.join("meta/episodes"))? {
        let file = ParquetFile::open_typed(&path)?;
        let known = schema.get_or_insert_with(|| Arc::new(file.schema().clone()));
        let name = path.strip_prefix(&set.root).ok().and_then(Path::to_str);
        let (true, Some(name)) = (known.fields() == file.schema().fields(), name) else { return Ok(None) };
        names.push(name.replace('\\', "/"));
        let batches = file.read(&tail::names(known), 0..file.row_count())?;
        parts.push(tail::one(known, &batches).map_err(DatasetError::parquet(&path))?);
    }
    let Some(schema) = schema else { return Ok(None) };
    let broken = |problem: String| DatasetError::metadata(&set.root.join("meta/episodes"), problem);
    let all = concat_batches(&schema, &parts).map_err(|error| broken(error.to_string()))?;
    let numbers = |rows: &RecordBatch, name: &str| -> Result<Vec<usize>, DatasetError> {
        let Some(values) = rows.column_by_name(name) else {
            return Err(broken(format!("no column `{name}`")));
        };
        let values =
            columns::integers(values).map_err(|problem| broken(format!("`{name}`: {}", problem.text)))?;
        let values = values.into_iter().map(usize::try_from).collect::<Result<_, _>>();
        values.map_err(|_| broken(format!("`{name}` is negative")))
    };
    let files = |rows: &RecordBatch| -> Result<Vec<FileNumber>, DatasetError> {
        let (chunks, files) = (numbers(rows, "data/chunk_index")?, numbers(rows, "data/file_index")?);
        Ok(chunks.into_iter().zip(files).collect())
    };
    // As when it is read: of what is listed twice, the first.
    let mut order: Vec<(usize, FileNumber, usize)> = numbers(&all, "episode_index")?
        .into_iter()
        .zip(files(&all)?)
        .enumerate()
        .map(|(row, (episode, file))| (episode, file, row))
        .collect();
    order.sort_unstable();
    order.retain(|(episode, ..)| *episode < episodes);
    order.dedup_by_key(|(episode, ..)| *episode);
    if order.len() != episodes {
        return Ok(None);
    }
    let rows = UInt64Array::from_iter_values(order.iter().map(|(.., row)| *row as u64));
    let rows = take_record_batch(&all, &rows).map_err(|error| broken(error.to_string()))?;
    Ok(Some(List { starts: numbers(&rows, "dataset_from_index")?, files: files(&rows)?, rows, names }))
}

/// The data files from the first on that is not full or not in its place, and the number that they are to begin with.
fn not_full(
    set: &DatasetAppender,
    list: &List,
    bytes: usize,
) -> Result<(FileNumber, Vec<Old>), DatasetError> {
    let (mut olds, mut next): (Vec<Old>, FileNumber) = (Vec::new(), (0, 0));
    let mut episode = 0;
    for episodes in list.files.chunk_by(|one, other| one == other) {
        let (at, from) = (episodes[0], list.starts[episode]);
        episode += episodes.len();
        let file = ParquetFile::open_typed(&set.root.join(set.data_name(at)?))?;
        let to = list.starts.get(episode).copied().unwrap_or(from + file.row_count());
        // A joining that was cut off may have left more in a file than is listed as being there.
        let ends = file.row_group_ends();
        let (last, others) = ends.split_last().map_or((0, &[][..]), |(last, others)| (*last, others));
        let full = last >= bytes && others.iter().all(|end| *end < bytes);
        let whole = full && file.row_count() == to - from;
        if olds.is_empty() && whole && next == at {
            next = set.data_limits.after(at);
            continue;
        }
        olds.push(Old { at, file, frames: from..to });
    }
    Ok((next, olds))
}

impl Joining<'_> {
    /// Writes what is in the old files into new ones, of which the first has the number `at`.
    fn join(&mut self, mut at: FileNumber, bytes: usize) -> Result<(), DatasetError> {
        let schema = self.set.schema.clone();
        let names = tail::names(&schema);
        let starts: BTreeSet<usize> = self.list.starts.iter().copied().collect();
        let root = self.set.root.clone();
        let begin = || begin_parquet(Vec::new(), &schema).map_err(DatasetError::unwritten(&root));
        let end = |writer: ArrowWriter<Vec<u8>>| writer.into_inner().map_err(DatasetError::unwritten(&root));
        let (mut writer, mut from, mut frame) = (begin()?, self.olds[0].frames.start, 0);
        for old in 0..self.olds.len() {
            let (mut row, groups) = (0, self.olds[old].file.row_groups());
            for rows in groups {
                let Old { file, frames, .. } = &self.olds[old];
                frame = frames.start + row;
                if frame >= frames.end {
                    break;
                }
                let batch = file.read(&names, row..row + rows)?;
                if writer.bytes_written() >= bytes && starts.contains(&frame) {
                    let full = end(std::mem::replace(&mut writer, begin()?))?;
                    self.place(full, from..frame, at)?;
                    (from, at) = (frame, self.limits.after(at));
                }
                let batch = tail::one(&schema, &batch);
                let written = batch.and_then(|batch| writer.write(&batch)).and_then(|()| writer.flush());
                written.map_err(DatasetError::unwritten(&root))?;
                row += rows;
                frame += rows;
            }
        }
        self.place(end(writer)?, from..frame, at)?;
        self.settle()
    }

    /// Puts a new data file in its place, or elsewhere while that is taken by an old one.
    fn place(&mut self, bytes: Vec<u8>, frames: Range<usize>, at: FileNumber) -> Result<(), DatasetError> {
        let number = if self.is_taken(at, &frames) {
            let known = self.list.files.iter().chain(self.olds.iter().map(|old| &old.at));
            let known = known.chain(self.placed.iter().map(|new| &new.at));
            self.limits.after(known.copied().max().unwrap_or(at))
        } else {
            at
        };
        self.placed.push(New { at: number, to_be: at, frames });
        self.put(bytes, self.placed.len() - 1)
    }

    /// Brings those that had to wait elsewhere to their places.
    fn settle(&mut self) -> Result<(), DatasetError> {
        let free = |joining: &Self| {
            let waits = |new: &New| new.at != new.to_be && !joining.is_taken(new.to_be, &new.frames);
            joining.placed.iter().position(waits)
        };
        while let Some(new) = free(self) {
            let path = self.set.root.join(self.set.data_name(self.placed[new].at)?);
            let bytes = fs::read(&path).map_err(DatasetError::io(&path))?;
            self.placed[new].at = self.placed[new].to_be;
            self.put(bytes, new)?;
        }
        Ok(())
    }

    /// Whether a file of these frames may not take this place.
    fn is_taken(&self, at: FileNumber, frames: &Range<usize>) -> bool {
        let List { files, starts, .. } = &self.list;
        let mut there = files.iter().zip(starts).filter(|(file, _)| **file == at).map(|(_, start)| *start);
        let mut waits = self.placed.iter().filter(|new| new.at == at && new.frames != *frames);
        // An old one that the new one begins with may be replaced by it.
        waits.next().is_some()
            || there
                .next()
                .is_some_and(|first| first != frames.start || there.any(|start| start >= frames.end))
    }

    /// Brings a new file to the disk, lists what is in it, and removes the files that are used up.
    fn put(&mut self, bytes: Vec<u8>, new: usize) -> Result<(), DatasetError> {
        let name = self.set.data_name(self.placed[new].at)?;
        self.set.journal.commit(&[(name, bytes), self.info.clone()], &[])?;
        let before = self.list.files.clone();
        self.list_anew();
        self.commit_list()?;
        let gone: BTreeSet<FileNumber> =
            before.into_iter().filter(|file| !self.list.files.contains(file)).collect();
        let gone = gone.into_iter().map(|file| self.set.data_name(file)).collect::<Result<Vec<_>, _>>()?;
        self.set.journal.commit(std::slice::from_ref(self.info), &gone)
    }

    /// Lists the episodes of old files that are used up where they are now.
    fn list_anew(&mut self) {
        let written = self.placed.last().map_or(0, |new| new.frames.end);
        let used =
            self.olds.iter().map(|old| old.frames.end).filter(|end| *end <= written).max().unwrap_or(0);
        for (start, file) in self.list.starts.iter().zip(&mut self.list.files) {
            if let Some(new) = self.placed.iter().find(|new| *start < used && new.frames.contains(start)) {
                *file = new.at;
            }
        }
    }

    /// Makes the list one file.
    fn commit_list(&mut self) -> Result<(), DatasetError> {
        let List { rows, files, names, .. } = &mut self.list;
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
            let number = |of: &dyn Fn(&FileNumber) -> usize| -> ArrayRef {
                Arc::new(Int64Array::from_iter_values(files.iter().map(|file| of(file) as i64)))
            };
            match field.name().as_str() {
                "data/chunk_index" => cast(&number(&|file| file.0), field.data_type()),
                "data/file_index" => cast(&number(&|file| file.1), field.data_type()),
                "meta/episodes/chunk_index" | "meta/episodes/file_index" => {
                    cast(&number(&|_| 0), field.data_type())
                }
                _ => Ok(column.clone()),
            }
        });
        let bytes = columns
            .collect::<Result<Vec<_>, _>>()
            .and_then(|columns| RecordBatch::try_new(schema.clone(), columns))
            .map_err(Into::into)
            .and_then(|rows| parquet_bytes(&schema, &[rows]))
            .map_err(DatasetError::unwritten(&self.set.root))?;
        let others: Vec<String> = names.extract_if(.., |name| name != LIST).collect();
        self.set.journal.commit(&[(LIST.to_owned(), bytes), self.info.clone()], &others)?;
        *names = vec![LIST.to_owned()];
        Ok(())
    }

    /// Removes data files and lists after the last, which an episode that was cut off may have begun, or a joining that
    /// was.
    fn remove_beyond(&mut self) -> Result<(), DatasetError> {
        let last = self.list.files.iter().copied().max().unwrap_or_default();
        let beyond = |name: &&String| {
            let limit = match name.split('/').next() {
                Some("data") => last,
                Some("meta") if name.starts_with("meta/episodes/") => (0, 0),
                _ => return false,
            };
            tail::number_of(Path::new(name)).is_some_and(|number| number > limit)
        };
        let beyond: Vec<String> = self.set.journal.names().filter(beyond).cloned().collect();
        if beyond.is_empty() {
            return Ok(());
        }
        self.set.journal.commit(std::slice::from_ref(self.info), &beyond)
    }
}

#[cfg(test)]
#[path = "compact_tests.rs"]
mod tests;
