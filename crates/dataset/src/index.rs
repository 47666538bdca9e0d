//! Where each episode's frames lie, for both generations of the layout.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Damage, way_out};
use crate::info::{Info, Layout, V2_DATA_PATH};
use crate::parquet_file::ParquetFile;
use crate::{DatasetError, template};

/// A data file. Those of v3.0 are few and large: their footers are read when the set is opened.
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    pub(crate) opened: Option<ParquetFile>,
}

/// Rows of one data file.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    /// The number under which the set's own files know the episode.
    pub(crate) number: usize,
    pub(crate) file: usize,
    pub(crate) rows: Range<usize>,
}

/// Where everything is.
pub(crate) struct Index {
    pub(crate) files: Vec<DataFile>,
    /// By episode.
    pub(crate) episodes: Vec<Location>,
    pub(crate) tasks: Vec<String>,
}

/// Finds the episodes of the set in `root`, and checks that there are as many as it claims. Of a set that is being
/// `recorded` (or was, when its recording was cut off), what lies beyond is not part.
pub(crate) fn read(
    root: &Path,
    info: &Info,
    recorded: bool,
    damage: &mut Damage,
) -> Result<Index, DatasetError> {
    let index = match info.layout {
        Layout::V3 => read_v3(root, info, recorded, damage)?,
        Layout::V2 => read_v2(root, info, damage)?,
    };
    let frames: usize = index.episodes.iter().map(|episode| episode.rows.len()).sum();
    let claims =
        [("episodes", info.public.episodes, index.episodes.len()), ("frames", info.public.frames, frames)];
    for (what, claimed, found) in claims {
        if claimed != found {
            let problem = format!(
                "claims {claimed} {what}, but the episode list in meta/ holds {found}; the set was copied in part or \
                 edited by hand: fetch it again, correct total_{what}, or {}",
                way_out(root)
            );
            damage.pass::<()>(Err(DatasetError::metadata(&root.join("meta/info.json"), problem)))?;
        }
    }
    Ok(index)
}

/// One row of `meta/episodes/`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    episode: usize,
    chunk_index: usize,
    file_index: usize,
    /// Frames of the whole set.
    from: usize,
    length: usize,
}

/// The rows of `meta/episodes/`, merged over its files, as columns.
fn read_v3(root: &Path, info: &Info, recorded: bool, damage: &mut Damage) -> Result<Index, DatasetError> {
    let folder = root.join("meta/episodes");
    let mut rows = Vec::new();
    for path in parquet_files_below(&folder)? {
        rows.extend(damage.pass(episode_rows(&path))?.unwrap_or_default());
    }
    rows.sort_unstable();
    if recorded {
        rows.retain(|row: &Row| row.episode < info.public.episodes);
        // While files are put together, an episode may be listed in its old place and in its new one. Both hold it; the
        // new one comes first, and will be there to the end.
        rows.dedup_by_key(|row| row.episode);
    }
    let mut finder = Finder { root, info, files: Vec::new(), numbers: BTreeMap::new() };
    let mut episodes = Vec::with_capacity(rows.len());
    let mut expected = 0;
    for row in rows {
        if in_order(&folder, &mut expected, row.episode, damage)? {
            episodes.extend(damage.pass(finder.find(&row))?);
        }
    }
    let tasks = damage.pass(tasks_v3(root))?.unwrap_or_default();
    Ok(Index { files: finder.files, episodes, tasks })
}

/// Where an episode lies is told by `length` and `dataset_from_index`, or by the latter and `dataset_to_index`.
fn episode_rows(path: &Path) -> Result<Vec<Row>, DatasetError> {
    let file = ParquetFile::open(path)?;
    let column = |name: &str| -> Result<Vec<usize>, DatasetError> {
        let number = |(row, value): (usize, i64)| {
            usize::try_from(value).map_err(|_| {
                DatasetError::metadata(path, format!("`{name}` of row {row} is negative: {value}"))
            })
        };
        file.integers(name)?.into_iter().enumerate().map(number).collect()
    };
    let (episode, from) = (column("episode_index")?, column("dataset_from_index")?);
    let (chunk_index, file_index) = (column("data/chunk_index")?, column("data/file_index")?);
    let stated = if file.has_column("length") { Some(column("length")?) } else { None };
    let to = match &stated {
        Some(_) if !file.has_column("dataset_to_index") => None,
        _ => Some(column("dataset_to_index")?),
    };
    let row = |row: usize| {
        let (episode, from) = (episode[row], from[row]);
        let between = to.as_ref().map(|to| to[row].checked_sub(from));
        let length = match (stated.as_ref().map(|lengths| lengths[row]), between) {
            (Some(length), None) => length,
            (None, Some(Some(between))) => between,
            (Some(length), Some(between)) if between == Some(length) => length,
            (stated, _) => {
                let length = stated.map_or_else(|| "no length".into(), |length| format!("length {length}"));
                let to = to.as_ref().map_or(0, |to| to[row]);
                let problem =
                    format!("episode {episode} has {length}, but lies at {from}..{to} of the data set");
                return Err(DatasetError::metadata(path, problem));
            }
        };
        Ok(Row { episode, chunk_index: chunk_index[row], file_index: file_index[row], from, length })
    };
    (0..file.row_count()).map(row).collect()
}

/// Finds the rows of episodes in data files, which it opens as they come up.
struct Finder<'a> {
    root: &'a Path,
    info: &'a Info,
    files: Vec<DataFile>,
    /// By chunk and file: the place in `files`, and which frame of the whole set is its first.
    numbers: BTreeMap<(usize, usize), (usize, usize)>,
}

impl Finder<'_> {
    fn find(&mut self, row: &Row) -> Result<Location, DatasetError> {
        let Row { episode, chunk_index, file_index, from, length } = *row;
        // Files hold whole episodes in order, so a file's first row is its first episode's first.
        let (file, first) = match self.numbers.get(&(chunk_index, file_index)) {
            Some(known) => *known,
            None => {
                let values = [("chunk_index", chunk_index), ("file_index", file_index)];
                let path = template::fill(&self.info.data_path, &values)
                    .map_err(|problem| bad_template(self.root, &problem))?;
                let path = self.root.join(path);
                exists(self.root, &path, episode, self.info.public.episodes)?;
                self.files.push(DataFile { opened: Some(ParquetFile::open(&path)?), path });
                self.numbers.insert((chunk_index, file_index), (self.files.len() - 1, from));
                (self.files.len() - 1, from)
            }
        };
        let held = self.files[file].opened.as_ref().map_or(0, ParquetFile::row_count);
        let rows = from.checked_sub(first).and_then(|start| Some(start..start.checked_add(length)?));
        let Some(rows) = rows.filter(|rows| rows.end <= held) else {
            let problem = format!(
                "the file holds {held} frames (of the data set, {first} on), but the episode lies at {from}..{}; fetch the \
                 file again, or {}",
                from.saturating_add(length),
                way_out(self.root)
            );
            return Err(DatasetError::Episode { path: self.files[file].path.clone(), episode, problem });
        };
        Ok(Location { number: episode, file, rows })
    }
}

/// Task texts by task index. pandas keeps the text in an index column whose name varies.
fn tasks_v3(root: &Path) -> Result<Vec<String>, DatasetError> {
    let path = root.join("meta/tasks.parquet");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let file = ParquetFile::open(&path)?;
    let mut tasks: Vec<_> = file.integers("task_index")?.into_iter().zip(file.first_texts()?).collect();
    tasks.sort();
    Ok(tasks.into_iter().map(|(_, text)| text).collect())
}

#[derive(Deserialize)]
struct EpisodeLine {
    episode_index: usize,
    length: usize,
}

#[derive(Deserialize)]
struct TaskLine {
    task_index: usize,
    task: String,
}

fn read_v2(root: &Path, info: &Info, damage: &mut Damage) -> Result<Index, DatasetError> {
    let path = root.join("meta/episodes.jsonl");
    let mut lines: Vec<EpisodeLine> = json_lines(&path)?;
    lines.sort_by_key(|line| line.episode_index);
    let (mut files, mut episodes) = (Vec::with_capacity(lines.len()), Vec::with_capacity(lines.len()));
    let mut expected = 0;
    for EpisodeLine { episode_index, length } in lines {
        if !in_order(&path, &mut expected, episode_index, damage)? {
            continue;
        }
        let found = file_v2(root, info, episode_index);
        if let Some(path) = damage.pass(found)? {
            episodes.push(Location { number: episode_index, file: files.len(), rows: 0..length });
            files.push(DataFile { path, opened: None });
        }
    }
    let path = root.join("meta/tasks.jsonl");
    let mut tasks: Vec<TaskLine> = if path.is_file() { json_lines(&path)? } else { Vec::new() };
    tasks.sort_by_key(|line| line.task_index);
    Ok(Index { files, episodes, tasks: tasks.into_iter().map(|line| line.task).collect() })
}

/// The file of an episode.
fn file_v2(root: &Path, info: &Info, episode: usize) -> Result<PathBuf, DatasetError> {
    let values = [("episode_chunk", episode / info.chunks_size), ("episode_index", episode)];
    let fill = |template: &str| {
        template::fill(template, &values)
            .map(|path| root.join(path))
            .map_err(|problem| bad_template(root, &problem))
    };
    let mut path = fill(&info.data_path)?;
    if !path.is_file() {
        // Some sets state a template that their own files do not follow, and then follow the usual one.
        let usual = fill(V2_DATA_PATH)?;
        if usual.is_file() {
            path = usual;
        }
    }
    exists(root, &path, episode, info.public.episodes)?;
    Ok(path)
}

/// One JSON value a line.
pub(crate) fn json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, DatasetError> {
    let text = fs::read_to_string(path).map_err(DatasetError::io(path))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line)
                .map_err(|error| DatasetError::metadata(path, format!("line {}: {error}", number + 1)))
        })
        .collect()
}

/// Whether a listed episode is to be looked at: numbers go up one by one from 0, and where damage is left out some may be
/// missing, but none is there twice.
fn in_order(
    path: &Path,
    expected: &mut usize,
    episode: usize,
    damage: &mut Damage,
) -> Result<bool, DatasetError> {
    if episode != *expected {
        let problem = format!("episode {expected} is missing or listed twice (found {episode} in its place)");
        damage.pass::<()>(Err(DatasetError::metadata(path, problem)))?;
        if episode < *expected {
            return Ok(false);
        }
    }
    *expected = episode.saturating_add(1);
    Ok(true)
}

fn exists(root: &Path, path: &Path, episode: usize, claimed: usize) -> Result<(), DatasetError> {
    if path.is_file() {
        return Ok(());
    }
    let problem = format!(
        "there is no such file, though the data set claims {claimed} episodes; fetch it again, or {}",
        way_out(root)
    );
    Err(DatasetError::Episode { path: path.to_owned(), episode, problem })
}

fn bad_template(root: &Path, problem: &str) -> DatasetError {
    DatasetError::metadata(&root.join("meta/info.json"), format!("`data_path`: {problem}"))
}

/// `chunk-*/file-*.parquet` below `folder`, in order.
pub(crate) fn parquet_files_below(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let mut files = Vec::new();
    for chunk in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        files.extend(
            entries(&chunk)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "parquet")),
        );
    }
    files.sort();
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let read = fs::read_dir(folder).map_err(DatasetError::io(folder))?;
    read.map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(DatasetError::io(folder))
}
