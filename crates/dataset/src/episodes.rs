//! Episodes of `nudge-control` as LeRobot data sets, and back.
//!
//! What LeRobot has no place for (seeds, units, limits, how it was recorded) lies in `meta/nudge.json`; other readers
//! pass it over. Numbers are stored in 32 bits, as LeRobot's policies expect them: what is not representable is rounded.

use std::fs;
use std::path::Path;

use nudge_control::{
    Action, ActionFeature, Episode, Feature, FeatureKind, Frame, Interface, Limits, Observation,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Column, Dataset, DatasetError, DatasetWriter, FeatureInfo, Table, WriteSpec};

const NOTE: &str = "nudge.json";
const REWARD: &str = "next.reward";
const DONE: &str = "next.done";
const SUCCESS: &str = "next.success";

/// What there is to say about a recording beside its frames.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// What was to be done, in words.
    pub instruction: String,
    pub robot_type: Option<String>,
    /// How it was recorded, for whoever wants to do the same again. Kept as it is.
    pub setup: Value,
}

/// `meta/nudge.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingNote {
    /// Name of the task.
    pub task: String,
    pub interface: Interface,
    pub setup: Value,
    pub episodes: Vec<EpisodeNote>,
}

/// One episode in `meta/nudge.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpisodeNote {
    pub seed: Option<u64>,
    pub success: bool,
    pub score: f64,
}

/// Writes episodes of one task and one interface as a LeRobot v3.0 set; how many frames it holds.
///
/// # Errors
/// When `dir` exists, there is no episode, they differ in task or interface, a frame does not fit the interface, the
/// interface holds pictures or unbounded limits, or the disk refuses. Nothing is left behind then.
pub fn write_episodes(
    dir: &Path,
    episodes: &[Episode],
    recording: &Recording,
) -> Result<usize, DatasetError> {
    let Some(first) = episodes.first() else {
        return Err(DatasetError::metadata(dir, "there are no episodes to write"));
    };
    let (task, interface) = (&first.task, &first.interface);
    let spec = WriteSpec {
        fps: interface.control_hz,
        robot_type: recording.robot_type.clone(),
        features: features(interface).map_err(|problem| DatasetError::metadata(dir, problem))?,
    };
    let mut writer = DatasetWriter::create(dir, spec)?;
    for (number, episode) in episodes.iter().enumerate() {
        let unwritable = |problem: String| DatasetError::Unwritable { episode: number, problem };
        if (&episode.task, &episode.interface) != (task, interface) {
            return Err(unwritable("its task or interface is not that of episode 0".into()));
        }
        let columns = columns(episode).map_err(unwritable)?;
        let times: Vec<f32> = episode.frames.iter().map(|frame| frame.time_secs as f32).collect();
        writer.push(&recording.instruction, &times, &columns)?;
    }
    let note = RecordingNote {
        task: task.clone(),
        interface: interface.clone(),
        setup: recording.setup.clone(),
        episodes: episodes
            .iter()
            .map(|episode| EpisodeNote {
                seed: episode.seed,
                success: episode.success(),
                score: episode.score(),
            })
            .collect(),
    };
    writer.write_meta(NOTE, &note)?;
    writer.finish()
}

/// What the set says about its recording.
///
/// # Errors
/// When it was not written by [`write_episodes`], or the note contradicts the set.
pub fn recording_note(dataset: &Dataset) -> Result<RecordingNote, DatasetError> {
    let path = dataset.root().join("meta").join(NOTE);
    if !path.is_file() {
        let problem = "there is no such file, so seeds, units and limits of this set are unknown; only sets that \
                       this program recorded have it";
        return Err(DatasetError::metadata(&path, problem));
    }
    let text = fs::read_to_string(&path).map_err(DatasetError::io(&path))?;
    let note: RecordingNote =
        serde_json::from_str(&text).map_err(|error| DatasetError::metadata(&path, error.to_string()))?;
    if note.episodes.len() != dataset.episode_count() {
        let problem = format!(
            "it speaks of {} episodes, but the data set holds {}",
            note.episodes.len(),
            dataset.episode_count()
        );
        return Err(DatasetError::metadata(&path, problem));
    }
    Ok(note)
}

/// Reads an episode that [`write_episodes`] wrote.
///
/// # Errors
/// As [`recording_note`] and [`Dataset::read_episode`].
pub fn read_recorded(dataset: &Dataset, episode: usize) -> Result<Episode, DatasetError> {
    let RecordingNote { task, interface, episodes, .. } = recording_note(dataset)?;
    let observed = interface.observation.iter().map(|feature| feature.name.as_str());
    let acted = interface.action.iter().map(|feature| feature.name.as_str());
    let names: Vec<&str> = observed.chain(acted).chain([REWARD, DONE, SUCCESS, "timestamp"]).collect();
    let tables = dataset.read_episode(episode, &names)?;
    let dims = interface.observation.iter().map(Feature::dim);
    let dims = dims.chain(interface.action.iter().map(ActionFeature::dim));
    for ((table, dim), name) in tables.iter().zip(dims).zip(&names) {
        if table.dim != dim {
            let problem = format!("`{name}` has {dim} numbers here, but {} in info.json", table.dim);
            return Err(DatasetError::metadata(&dataset.root().join("meta").join(NOTE), problem));
        }
    }
    let (seen, rest) = tables.split_at(interface.observation.len());
    let (acted, rest) = rest.split_at(interface.action.len());
    let join = |tables: &[Table], row: usize| -> Vec<f64> {
        tables.iter().flat_map(|table| table.row(row)).map(|value| f64::from(*value)).collect()
    };
    let frames = (0..rest[0].rows).map(|row| {
        let [reward, done, success, time] = [0, 1, 2, 3].map(|table| rest[table].row(row)[0]);
        Frame {
            time_secs: time_of(time, row, interface.control_hz),
            observation: Observation(join(seen, row)),
            action: Action(join(acted, row)),
            reward: f64::from(reward),
            success: success != 0.0,
            done: done != 0.0,
        }
    });
    let frames = frames.collect();
    Ok(Episode { task, interface, seed: episodes[episode].seed, frames })
}

/// A time stamp that is the frame's nominal time, but for the rounding to 32 bits, is that time.
fn time_of(stamp: f32, frame: usize, control_hz: f64) -> f64 {
    let nominal = frame as f64 / control_hz;
    if nominal as f32 == stamp { nominal } else { f64::from(stamp) }
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

/// The columns of an episode, in the order of [`features`].
fn columns(episode: &Episode) -> Result<Vec<Column>, String> {
    let interface = &episode.interface;
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
