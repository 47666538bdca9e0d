//! A recording of one seed after another, which can be cut off at any moment and gone on with.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;

use nudge_control::{Episode, Interface};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::journal::Journal;
use crate::sums::MARKER;
use crate::write_meta::{INFO, json_bytes};
use crate::{DatasetError, EpisodeAppender, Recording, RecordingNote, ShardNote, shard};

/// Lies in the set while it is recorded.
const NOTE: &str = "meta/record.json";

/// What is to be recorded.
#[derive(Clone, Debug)]
pub struct Request {
    /// One episode each, in their order.
    pub seeds: Range<u64>,
    /// Everything that what comes of it depends on; a recording that was cut off is gone on with when it is the same.
    pub recording: Value,
    /// The command line that records it, for whoever finds it cut off.
    pub command: String,
}

/// `meta/record.json`: a recording that is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    recording: Value,
    command: String,
    left_out: Vec<LeftOut>,
}

/// An episode that was run and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeftOut {
    seed: u64,
    /// In 32 bits, like those of episodes that are kept.
    score: f32,
}

/// Records the episodes of successive seeds, of which some are kept. Whatever becomes of the program or the power, what
/// [`sync`](Self::sync) came back from is on the disk, and the same recording goes on behind it; gone on with to the end, the
/// set is, to the byte, the one that would have been recorded in one go.
pub struct Recorder {
    appender: EpisodeAppender,
    seeds: Range<u64>,
    note: Note,
    /// How many episodes of this recording were run, kept or not.
    run: u64,
}

/// The command that goes on with the recording in `dir` which was cut off; `None` when there is none.
///
/// # Errors
/// When its note cannot be read.
pub fn unfinished(dir: &Path) -> Result<Option<String>, DatasetError> {
    Ok(read(dir)?.map(|note| note.command))
}

impl Recorder {
    /// Begins to record into `dir`, or goes on with what was cut off there. `None` when that was cut off at its very
    /// end: all is recorded.
    ///
    /// # Errors
    /// When `dir` holds anything else; when another program records into it; when the interface cannot be written; or
    /// the disk refuses.
    pub fn open(
        dir: &Path,
        task: &str,
        interface: &Interface,
        recording: Recording,
        request: Request,
    ) -> Result<Option<Self>, DatasetError> {
        let Request { seeds, recording: wanted, command } = request;
        let exists = || DatasetError::Exists { path: dir.to_owned() };
        let there = read(dir)?;
        if let Some(there) = &there {
            if let Some(difference) = shard::difference(&there.recording, &as_read(dir, &wanted)?) {
                let problem = format!(
                    "a recording was cut off here, and it is another: {difference}; choose another folder, remove this \
                     one, or go on with it: {}",
                    there.command
                );
                return Err(DatasetError::metadata(dir, problem));
            }
            // What was cut off at its end is ended.
            drop(Journal::open(dir)?);
            if !dir.join(MARKER).is_file() {
                let path = dir.join(NOTE);
                fs::remove_file(&path).map_err(DatasetError::io(&path))?;
                return Ok(None);
            }
        } else if dir.join(INFO).is_file() {
            return Err(exists());
        }
        let appender = EpisodeAppender::open(dir, task, interface, recording)?;
        let mut note = Note { recording: wanted, command, left_out: Vec::new() };
        note.left_out = there.map_or_else(Vec::new, |there| there.left_out);
        // The note may speak of episodes whose like was not brought to the disk any more.
        let kept = appender.note().episodes.iter().filter_map(|episode| episode.seed);
        let known: BTreeSet<u64> = kept.clone().chain(note.left_out.iter().map(|one| one.seed)).collect();
        let next = seeds.clone().find(|seed| !known.contains(seed)).unwrap_or(seeds.end);
        if let Some(beyond) = kept.clone().find(|seed| !(seeds.start..next).contains(seed)) {
            let problem = format!("the episode of seed {beyond} is there, but the one of seed {next} is not");
            return Err(DatasetError::metadata(&dir.join(NOTE), problem));
        }
        note.left_out.retain(|one| (seeds.start..next).contains(&one.seed));
        Ok(Some(Self { appender, run: next - seeds.start, seeds, note }))
    }

    /// The seeds that are yet to be run.
    pub fn left(&self) -> Range<u64> {
        self.seeds.start + self.run..self.seeds.end
    }

    /// What the set says about its recording, and about each episode that was kept.
    pub fn note(&self) -> &RecordingNote {
        self.appender.note()
    }

    /// The scores of the episodes that were not kept, in 32 bits.
    pub fn scores_left_out(&self) -> impl Iterator<Item = f64> {
        self.note.left_out.iter().map(|one| f64::from(one.score))
    }

    /// Takes the episode of the next seed, to be kept or not. It is on the disk after the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// When it is of another seed, task or interface, has no frames, or a frame does not fit the interface.
    pub fn take(&mut self, episode: &Episode, keep: bool) -> Result<(), DatasetError> {
        let due = self.left().next();
        let Some(seed) = due.filter(|due| episode.seed == Some(*due)) else {
            let problem = format!("the episode of seed {:?} came when that of {due:?} was due", episode.seed);
            return Err(DatasetError::request(problem));
        };
        if keep {
            self.appender.add(episode)?;
        } else {
            self.note.left_out.push(LeftOut { seed, score: episode.score() as f32 });
        }
        self.run += 1;
        Ok(())
    }

    /// Brings to the disk all that was taken.
    ///
    /// # Errors
    /// When the disk refuses; the set there is then as it was.
    pub fn sync(&mut self) -> Result<(), DatasetError> {
        self.appender.sync_with(vec![(NOTE.to_owned(), json_bytes(&self.note))])
    }

    /// Ends the recording; how many frames the set holds. One without an episode is removed, unless it is a part of a
    /// larger recording: then what it says about itself is all that its folder holds.
    ///
    /// # Errors
    /// When the disk refuses; then the set is as if the program had been killed after the last episode.
    pub fn finish(mut self, part: Option<&ShardNote>) -> Result<usize, DatasetError> {
        self.sync()?;
        let notes = part.map(|note| (format!("meta/{}", shard::NOTE), json_bytes(note)));
        self.appender.finish_with(notes.into_iter().collect(), &[NOTE.to_owned()])
    }
}

fn read(dir: &Path) -> Result<Option<Note>, DatasetError> {
    let path = dir.join(NOTE);
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(DatasetError::io(&path))?;
    serde_json::from_str(&text).map(Some).map_err(|error| DatasetError::metadata(&path, error.to_string()))
}

/// A value as it would be read again: a parsed number may be off by its last bit.
fn as_read(dir: &Path, value: &Value) -> Result<Value, DatasetError> {
    serde_json::from_slice(&json_bytes(value)).map_err(|error| DatasetError::metadata(dir, error.to_string()))
}
