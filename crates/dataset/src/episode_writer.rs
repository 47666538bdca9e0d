//! Episodes of `nudge-control` as LeRobot data sets.

use std::path::Path;

use nudge_control::{ActionFeature, Episode, Feature, FeatureKind, Interface, Limits};
use serde_json::Value;

use crate::episodes::{DONE, NOTE, REWARD, SUCCESS};
use crate::shard;
use crate::{
    Column, DatasetError, DatasetWriter, EpisodeNote, FeatureInfo, RecordingNote, ShardNote, WriteSpec,
};

/// What there is to say about a recording beside its frames.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// What was to be done, in words.
    pub instruction: String,
    pub robot_type: Option<String>,
    /// How it was recorded, for whoever wants to do the same again. Kept as it is.
    pub setup: Value,
}

/// Writes episodes of one task and one interface as a LeRobot v3.0 set; how many frames it holds.
///
/// # Errors
/// When there is no episode, and as the methods of [`EpisodeWriter`]. Nothing is left behind then.
pub fn write_episodes(
    dir: &Path,
    episodes: &[Episode],
    recording: &Recording,
) -> Result<usize, DatasetError> {
    let Some(first) = episodes.first() else {
        return Err(DatasetError::metadata(dir, "there are no episodes to write"));
    };
    let mut writer = EpisodeWriter::create(dir, &first.task, &first.interface, recording.clone())?;
    episodes.iter().try_for_each(|episode| writer.push(episode))?;
    writer.finish()
}

/// Writes episodes one by one, so that a set need not fit in memory. The folder appears when it is finished, whole;
/// dropped before that, nothing is left.
pub struct EpisodeWriter {
    writer: DatasetWriter,
    instruction: String,
    note: RecordingNote,
}

impl EpisodeWriter {
    /// A set of episodes of this task and interface.
    ///
    /// # Errors
    /// When `dir` exists, the interface holds pictures or unbounded limits, or the disk refuses.
    pub fn create(
        dir: &Path,
        task: &str,
        interface: &Interface,
        recording: Recording,
    ) -> Result<Self, DatasetError> {
        let spec = spec(dir, interface, recording.robot_type)?;
        Ok(Self {
            writer: DatasetWriter::create(dir, spec)?,
            instruction: recording.instruction,
            note: RecordingNote {
                task: task.to_owned(),
                interface: interface.clone(),
                setup: recording.setup,
                episodes: Vec::new(),
            },
        })
    }

    /// Adds an episode.
    ///
    /// # Errors
    /// When it is of another task or interface, has no frames, or a frame does not fit the interface.
    pub fn push(&mut self, episode: &Episode) -> Result<(), DatasetError> {
        let number = self.note.episodes.len();
        let unwritable = |problem: String| DatasetError::Unwritable { episode: number, problem };
        let columns = columns(episode, &self.note).map_err(unwritable)?;
        let times: Vec<f32> = episode.frames.iter().map(|frame| frame.time_secs as f32).collect();
        self.writer.push(&self.instruction, &times, &columns)?;
        self.note.episodes.push(episode_note(episode));
        Ok(())
    }

    /// Gives the folder its name; how many frames it holds.
    ///
    /// # Errors
    /// When no episode was added, or the disk refuses. Nothing is left behind then.
    pub fn finish(self) -> Result<usize, DatasetError> {
        self.writer.write_meta(NOTE, &self.note)?;
        self.writer.finish()
    }

    /// The same for a part of a larger recording, in which no episode may have been worth keeping: then the note is
    /// all that the folder holds.
    ///
    /// # Errors
    /// When the disk refuses. Nothing is left behind then.
    pub fn finish_shard(self, shard: &ShardNote) -> Result<usize, DatasetError> {
        self.writer.write_meta(shard::NOTE, shard)?;
        if self.note.episodes.is_empty() { self.writer.finish_empty().map(|()| 0) } else { self.finish() }
    }
}

/// The set of such episodes.
pub(crate) fn spec(
    dir: &Path,
    interface: &Interface,
    robot_type: Option<String>,
) -> Result<WriteSpec, DatasetError> {
    let features = features(interface).map_err(|problem| DatasetError::metadata(dir, problem))?;
    Ok(WriteSpec { fps: interface.control_hz, robot_type, features })
}

pub(crate) fn episode_note(episode: &Episode) -> EpisodeNote {
    let score = f64::from(episode.score() as f32);
    EpisodeNote { seed: episode.seed, success: episode.success(), score }
}

fn features(interface: &Interface) -> Result<Vec<FeatureInfo>, String> {
    let observed = interface.observation.iter().map(|f| (&f.name, f.kind, f.dim()));
    let acted = interface.action.iter().map(|f| (&f.name, f.kind, f.dim()));
    let mut features = Vec::new();
    for (name, kind, dim) in observed.chain(acted) {
        if kind == FeatureKind::Image {
            return Err(format!("cannot write feature `{name}`: pictures are not written"));
        }
        features.push(feature(name, "float32", dim));
    }
    let limits = interface.action.iter().find(|feature| {
        let Limits { low, high } = &feature.limits;
        !low.iter().chain(high).all(|limit| limit.is_finite())
    });
    if let Some(feature) = limits {
        return Err(format!("cannot write feature `{}`: its limits are not finite", feature.name));
    }
    features.extend([feature(REWARD, "float32", 1), feature(DONE, "bool", 1), feature(SUCCESS, "bool", 1)]);
    Ok(features)
}

fn feature(name: &str, dtype: &str, dim: usize) -> FeatureInfo {
    FeatureInfo { name: name.to_owned(), dtype: dtype.to_owned(), shape: vec![dim], names: Vec::new() }
}

/// The columns of an episode of this recording, in the order of [`features`].
pub(crate) fn columns(episode: &Episode, note: &RecordingNote) -> Result<Vec<Column>, String> {
    let interface = &episode.interface;
    if (&episode.task, interface) != (&note.task, &note.interface) {
        return Err("its task or interface is not that of the set".into());
    }
    let (seen, acted) = (interface.observation_dim(), interface.action_dim());
    for (number, frame) in episode.frames.iter().enumerate() {
        let (observation, action) = (frame.observation.0.len(), frame.action.0.len());
        if (observation, action) != (seen, acted) {
            return Err(format!(
                "frame {number} observes {observation} and does {action} numbers; the interface says {seen} and {acted}"
            ));
        }
        let too_large = |value: &&f64| value.is_finite() && !(**value as f32).is_finite();
        if let Some(value) = frame.observation.0.iter().chain(&frame.action.0).find(too_large) {
            return Err(format!("frame {number} holds {value:e}, which is too large for 32 bits"));
        }
    }
    let frames = &episode.frames;
    let mut columns = Vec::new();
    let mut begin = 0;
    for dim in interface.observation.iter().map(Feature::dim) {
        let values = frames.iter().flat_map(|frame| &frame.observation.0[begin..begin + dim]);
        columns.push(Column::Float32(values.map(|value| *value as f32).collect()));
        begin += dim;
    }
    begin = 0;
    for dim in interface.action.iter().map(ActionFeature::dim) {
        let values = frames.iter().flat_map(|frame| &frame.action.0[begin..begin + dim]);
        columns.push(Column::Float32(values.map(|value| *value as f32).collect()));
        begin += dim;
    }
    columns.push(Column::Float32(frames.iter().map(|frame| frame.reward as f32).collect()));
    columns.push(Column::Bool(frames.iter().map(|frame| frame.done).collect()));
    columns.push(Column::Bool(frames.iter().map(|frame| frame.success).collect()));
    Ok(columns)
}
