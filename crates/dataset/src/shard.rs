//! A recording in parts: what each part says about itself, so that nothing is missing when they are merged.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::DatasetError;

pub(crate) const NOTE: &str = "shard.json";

/// `meta/shard.json`: one part of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardNote {
    /// Which part, from 0, and of how many.
    pub shard: u64,
    pub shards: u64,
    /// What is recorded; parts belong together when it is the same.
    pub recording: Value,
    /// The command line that records it, but for the choice of the part.
    pub command: String,
    pub recorded: Recorded,
}

/// What came of the episodes of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    pub run: usize,
    pub succeeded: usize,
    pub kept: usize,
}

impl ShardNote {
    /// The command line that records part `shard`.
    pub fn command_of(&self, shard: u64) -> String {
        format!("{} --shard {shard}/{}", self.command, self.shards)
    }

    /// The first thing that makes this another part, or a part of another recording; `None` when it is the same.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if (self.shard, self.shards) != (other.shard, other.shards) {
            return Some(format!(
                "it is part {} of {}, and not {} of {}",
                self.shard, self.shards, other.shard, other.shards
            ));
        }
        difference(&self.recording, &other.recording)
    }
}

/// The folder of a part in the folder of the whole recording: `shard-00003-of-00008`.
pub fn shard_folder(dir: &Path, shard: u64, shards: u64) -> PathBuf {
    dir.join(format!("shard-{shard:05}-of-{shards:05}"))
}

/// The folders of parts in `dir`, in the order of their names.
///
/// # Errors
/// When `dir` cannot be listed.
pub(crate) fn shard_folders(dir: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(DatasetError::io(dir))?;
    let named = |name: &str| name.starts_with("shard-") && name.contains("-of-");
    let mut folders: Vec<PathBuf> = entries
        .into_iter()
        .filter(|entry| named(&entry.file_name().to_string_lossy()) && entry.path().is_dir())
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    Ok(folders)
}

/// What a folder says of being a part; `None` when it says nothing.
///
/// # Errors
/// When the note cannot be read.
pub fn shard_note(dir: &Path) -> Result<Option<ShardNote>, DatasetError> {
    let path = dir.join("meta").join(NOTE);
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(DatasetError::io(&path))?;
    serde_json::from_str(&text).map(Some).map_err(|error| DatasetError::metadata(&path, error.to_string()))
}

/// The first thing that two recordings say differently; `None` when they are the same.
pub(crate) fn difference(one: &Value, other: &Value) -> Option<String> {
    if one == other {
        return None;
    }
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().into_iter().flat_map(|object| object.keys().cloned()).collect()
    };
    let key = keys(one).into_iter().chain(keys(other)).find(|key| one.get(key) != other.get(key));
    let text = |value: &Value, key: &str| value.get(key).map_or("not there".into(), Value::to_string);
    Some(key.map_or_else(
        || "the recordings differ".into(),
        |key| format!("its `{key}` is {}, and not {}", text(one, &key), text(other, &key)),
    ))
}
