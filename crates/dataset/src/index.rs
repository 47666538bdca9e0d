//! Where each episode's frames lie, for both generations of the layout.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

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

/// Finds the episodes of the set in `root`, and checks that there are as many as it claims.
pub(crate) fn read(root: &Path, info: &Info) -> Result<Index, DatasetError> {
    let index = match info.layout {
        Layout::V3 => read_v3(root, info)?,
        Layout::V2 => read_v2(root, info)?,
    };
    let frames: usize = index.episodes.iter().map(|episode| episode.rows.len()).sum();
    let claims =
        [("episodes", info.public.episodes, index.episodes.len()), ("frames", info.public.frames, frames)];
    for (what, claimed, found) in claims {
        if claimed != found {
            let problem = format!(
                "claims {claimed} {what}, but the episode list in meta/ holds {found}; the set was copied in part or \
                 edited by hand: fetch it again, or correct total_{what}"
            );
            return Err(DatasetError::metadata(&root.join("meta/info.json"), problem));
        }
    }
    Ok(index)
}

/// The rows of `meta/episodes/`, merged over its files, as columns.
fn read_v3(root: &Path, info: &Info) -> Result<Index, DatasetError> {
    const COLUMNS: [&str; 6] = [
        "episode_index",
        "length",
        "data/chunk_index",
        "data/file_index",
        "dataset_from_index",
        "dataset_to_index",
    ];
    let folder = root.join("meta/episodes");
    let mut rows: Vec<[usize; 6]> = Vec::new();
    for path in parquet_files_below(&folder)? {
        let file = ParquetFile::open(&path)?;
        let mut columns = Vec::with_capacity(COLUMNS.len());
        for name in COLUMNS {
            columns.push(file.integers(name)?);
        }
        for row in 0..file.row_count() {
            let mut values = [0; 6];
            for (value, (column, name)) in values.iter_mut().zip(columns.iter().zip(COLUMNS)) {
                *value = usize::try_from(column[row]).map_err(|_| {
                    DatasetError::metadata(
                        &path,
                        format!("`{name}` of row {row} is negative: {}", column[row]),
                    )
                })?;
            }
            rows.push(values);
        }
    }
    rows.sort_unstable();

    let mut files: Vec<DataFile> = Vec::new();
    let mut numbers: BTreeMap<(usize, usize), (usize, usize)> = BTreeMap::new();
    let mut episodes = Vec::with_capacity(rows.len());
    for (expected, [episode, length, chunk_index, file_index, from, to]) in rows.into_iter().enumerate() {
        check_number(&folder, expected, episode)?;
        if from.checked_add(length) != Some(to) {
            let problem =
                format!("episode {episode} has length {length}, but lies at {from}..{to} of the data set");
            return Err(DatasetError::metadata(&folder, problem));
        }
        // Files hold whole episodes in order, so a file's first row is its first episode's first.
        let (file, first) = match numbers.get(&(chunk_index, file_index)) {
            Some(known) => *known,
            None => {
                let values = [("chunk_index", chunk_index), ("file_index", file_index)];
                let path = root.join(
                    template::fill(&info.data_path, &values)
                        .map_err(|problem| bad_template(root, &problem))?,
                );
                exists(&path, episode, info.public.episodes)?;
                files.push(DataFile { opened: Some(ParquetFile::open(&path)?), path });
                numbers.insert((chunk_index, file_index), (files.len() - 1, from));
                (files.len() - 1, from)
            }
        };
        let held = files[file].opened.as_ref().map_or(0, ParquetFile::row_count);
        let rows = from.checked_sub(first).map(|start| start..start + length);
        let Some(rows) = rows.filter(|rows| rows.end <= held) else {
            return Err(DatasetError::Episode {
                path: files[file].path.clone(),
                episode,
                problem: format!(
                    "the file holds {held} frames (of the data set, {first} on), but the episode lies at {from}..{to}; \
                     fetch the file again"
                ),
            });
        };
        episodes.push(Location { file, rows });
    }
    Ok(Index { files, episodes, tasks: tasks_v3(root)? })
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

fn read_v2(root: &Path, info: &Info) -> Result<Index, DatasetError> {
    let path = root.join("meta/episodes.jsonl");
    let mut lines: Vec<EpisodeLine> = json_lines(&path)?;
    lines.sort_by_key(|line| line.episode_index);
    let (mut files, mut episodes) = (Vec::with_capacity(lines.len()), Vec::with_capacity(lines.len()));
    for (expected, EpisodeLine { episode_index, length }) in lines.into_iter().enumerate() {
        check_number(&path, expected, episode_index)?;
        let values = [("episode_chunk", episode_index / info.chunks_size), ("episode_index", episode_index)];
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
        exists(&path, episode_index, info.public.episodes)?;
        episodes.push(Location { file: files.len(), rows: 0..length });
        files.push(DataFile { path, opened: None });
    }
    let path = root.join("meta/tasks.jsonl");
    let mut tasks: Vec<TaskLine> = if path.is_file() { json_lines(&path)? } else { Vec::new() };
    tasks.sort_by_key(|line| line.task_index);
    Ok(Index { files, episodes, tasks: tasks.into_iter().map(|line| line.task).collect() })
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

fn check_number(path: &Path, expected: usize, episode: usize) -> Result<(), DatasetError> {
    if episode == expected {
        return Ok(());
    }
    let problem = format!("episode {expected} is missing or listed twice (found {episode} in its place)");
    Err(DatasetError::metadata(path, problem))
}

fn exists(path: &Path, episode: usize, claimed: usize) -> Result<(), DatasetError> {
    if path.is_file() {
        return Ok(());
    }
    let problem =
        format!("there is no such file, though the data set claims {claimed} episodes; fetch it again");
    Err(DatasetError::Episode { path: path.to_owned(), episode, problem })
}

fn bad_template(root: &Path, problem: &str) -> DatasetError {
    DatasetError::metadata(&root.join("meta/info.json"), format!("`data_path`: {problem}"))
}

/// `chunk-*/file-*.parquet` below `folder`, in order.
fn parquet_files_below(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
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
