//! Episodes of `nudge-control` from LeRobot data sets, and what such sets say about their recording.
//!
//! What LeRobot has no place for (seeds, units, limits, how it was recorded) lies in `meta/nudge.json`; other readers
//! pass it over. Numbers are stored in 32 bits, as LeRobot's policies expect them: what is not representable is rounded.

use std::fs;

use nudge_control::{Action, ActionFeature, Episode, Feature, Frame, Interface, Observation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Dataset, DatasetError, Table};

pub(crate) const NOTE: &str = "nudge.json";
pub(crate) const REWARD: &str = "next.reward";
pub(crate) const DONE: &str = "next.done";
pub(crate) const SUCCESS: &str = "next.success";

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
    /// In 32 bits, as the rewards are.
    pub score: f64,
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
    let mut note: RecordingNote =
        serde_json::from_str(&text).map_err(|error| DatasetError::metadata(&path, error.to_string()))?;
    if dataset.is_recording() {
        // The episode in progress may be in it already.
        note.episodes.truncate(dataset.episode_count());
    }
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
