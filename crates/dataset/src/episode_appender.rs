//! Episodes of `nudge-control` as they are recorded: each is on the disk when it ends.

use std::path::Path;

use nudge_control::{Episode, Interface};

use crate::append::Named;
use crate::episode_writer::{columns, episode_note, spec};
use crate::episodes::NOTE;
use crate::write_meta::{INFO, json_bytes};
use crate::{Column, Dataset, DatasetAppender, DatasetError, Recording, RecordingNote, recording_note};

/// A set of one task and one interface that grows by whole episodes: see [`DatasetAppender`], whose promises it keeps.
pub struct EpisodeAppender {
    appender: DatasetAppender,
    instruction: String,
    note: RecordingNote,
}

impl EpisodeAppender {
    /// Goes on with the set in `dir`, or begins one where there is none.
    ///
    /// # Errors
    /// As [`DatasetAppender::open`]; when the interface cannot be written; and when there is a set that was recorded
    /// in another way, or of which it is not known how.
    pub fn open(
        dir: &Path,
        task: &str,
        interface: &Interface,
        recording: Recording,
    ) -> Result<Self, DatasetError> {
        let spec = spec(dir, interface, recording.robot_type)?;
        let mut note = RecordingNote {
            task: task.to_owned(),
            interface: interface.clone(),
            setup: recording.setup,
            episodes: Vec::new(),
        };
        let appender = DatasetAppender::open(dir, spec)?;
        if dir.join(INFO).is_file() {
            let there = recording_note(&Dataset::open(dir)?)?;
            if let Some(problem) = difference(&there, &as_read(dir, &note)?) {
                return Err(DatasetError::metadata(dir, format!("{problem}: name another folder")));
            }
            note.episodes = there.episodes;
            // A parsed number may be off by its last bit; rounded to the 32 it was written from, it is exact again.
            note.episodes.iter_mut().for_each(|episode| episode.score = f64::from(episode.score as f32));
        }
        Ok(Self { appender, instruction: recording.instruction, note })
    }

    /// What the set says about its recording, episode by episode.
    pub fn note(&self) -> &RecordingNote {
        &self.note
    }

    /// Adds an episode; when this comes back, it is on the disk. How many there are then.
    ///
    /// # Errors
    /// When it is of another task or interface, has no frames, or a frame does not fit the interface; or the disk
    /// refuses. The set is then as it was.
    pub fn push(&mut self, episode: &Episode) -> Result<usize, DatasetError> {
        let number = self.note.episodes.len();
        let columns = self.columns(episode)?;
        self.note.episodes.push(episode_note(episode));
        let file = self.file();
        let pushed = self.appender.push_with(&self.instruction, &times(episode), &columns, vec![file]);
        if pushed.is_err() {
            self.note.episodes.truncate(number);
        }
        pushed
    }

    /// Adds an episode, and leaves it to [`sync_with`](Self::sync_with) to bring it to the disk.
    pub(crate) fn add(&mut self, episode: &Episode) -> Result<usize, DatasetError> {
        let columns = self.columns(episode)?;
        let count = self.appender.add(&self.instruction, &times(episode), &columns)?;
        self.note.episodes.push(episode_note(episode));
        Ok(count)
    }

    /// Brings to the disk what was added, and further files that belong to the set from then on.
    pub(crate) fn sync_with(&mut self, mut notes: Vec<Named>) -> Result<(), DatasetError> {
        if !self.note.episodes.is_empty() {
            notes.push(self.file());
        }
        self.appender.sync_with(notes)
    }

    /// Ends the recording; how many frames the set holds. A set that never had an episode is removed.
    ///
    /// # Errors
    /// When the disk refuses; then the set is as if the program had been killed after the last episode.
    pub fn finish(self) -> Result<usize, DatasetError> {
        self.finish_with(Vec::new(), &[])
    }

    /// The same, with further files that belong to the set, and others that spoke of its recording alone and go with
    /// it. With further files, a set without an episode is kept for their sake.
    pub(crate) fn finish_with(self, mut notes: Vec<Named>, drop: &[String]) -> Result<usize, DatasetError> {
        if !self.note.episodes.is_empty() {
            notes.push(self.file());
        }
        self.appender.finish_with(notes, drop)
    }

    fn columns(&self, episode: &Episode) -> Result<Vec<Column>, DatasetError> {
        let number = self.note.episodes.len();
        columns(episode, &self.note).map_err(|problem| DatasetError::Unwritable { episode: number, problem })
    }

    fn file(&self) -> (String, Vec<u8>) {
        (format!("meta/{NOTE}"), json_bytes(&self.note))
    }
}

fn times(episode: &Episode) -> Vec<f32> {
    episode.frames.iter().map(|frame| frame.time_secs as f32).collect()
}

/// The note as it would be read again: a parsed number may be off by its last bit.
fn as_read(dir: &Path, note: &RecordingNote) -> Result<RecordingNote, DatasetError> {
    serde_json::from_slice(&json_bytes(note)).map_err(|error| DatasetError::metadata(dir, error.to_string()))
}

/// How what is to be recorded differs from what is there.
fn difference(there: &RecordingNote, wanted: &RecordingNote) -> Option<String> {
    if there.task != wanted.task {
        return Some(format!("it was recorded in the task {}, and not {}", there.task, wanted.task));
    }
    if there.interface != wanted.interface {
        return Some("it was recorded with another interface (see its meta/nudge.json)".into());
    }
    (there.setup != wanted.setup).then(|| {
        format!("it was recorded as {}, and this would be recorded as {}", there.setup, wanted.setup)
    })
}
