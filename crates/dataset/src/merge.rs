//! Several data sets as one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::episodes::NOTE;
use crate::journal::Journal;
use crate::recorder::unfinished;
use crate::shard::{self, difference, shard_folders};
use crate::write_meta::FRAME_COLUMNS;
use crate::{
    Column, Dataset, DatasetError, DatasetWriter, EpisodeNote, FeatureInfo, Recorded, RecordingNote,
    ShardNote, WriteSpec, recording_note,
};

/// What was merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Merged {
    /// Folders that held episodes.
    pub sets: usize,
    pub episodes: usize,
    pub frames: usize,
    /// What the parts of one recording say together; `None` for sets that are none.
    pub recorded: Option<Recorded>,
}

/// Writes the episodes of all sets in `dirs`, one after another, as one set. A folder that holds the parts of a
/// recording stands for these.
///
/// The parts of a recording, in whatever order they are given, become the very set that would have been recorded in
/// one go. Of other sets, what they say about their recording is kept as far as all say the same.
///
/// # Errors
/// When parts are missing, double or of different recordings; when sets differ in features, frame rate, robot, task or
/// interface; when `out` exists; or the disk refuses. Nothing is left behind then.
pub fn merge(dirs: &[PathBuf], out: &Path) -> Result<Merged, DatasetError> {
    let mut folders = Vec::new();
    for dir in dirs {
        folders.extend(expand(dir)?);
    }
    let mut notes = Vec::new();
    for folder in &folders {
        if let Some(command) = unfinished(folder)? {
            let problem = format!("its recording was cut off; go on with it: {command}");
            return Err(DatasetError::metadata(folder, problem));
        }
    }
    for (place, folder) in folders.iter().enumerate() {
        if folders[..place].contains(folder) {
            return Err(DatasetError::metadata(folder, "it is given twice; give each set once"));
        }
        notes.push(shard::shard_note(folder)?);
    }
    let recorded = match notes.iter().flatten().count() {
        0 => None,
        _ => {
            let shards = whole(folders, notes)?;
            folders = shards.iter().map(|(folder, _)| folder.clone()).collect();
            Some(shards)
        }
    };
    let mut sets = Vec::new();
    for (place, folder) in folders.iter().enumerate() {
        let note = recorded.as_ref().map(|shards| &shards[place].1);
        if note.is_some_and(|note| note.recorded.kept == 0) {
            continue;
        }
        let set = Dataset::open(folder)?;
        if let Some(note) = note.filter(|note| note.recorded.kept != set.episode_count()) {
            let problem = format!(
                "holds {} episodes, but its meta/shard.json says {}; remove the folder and record it again: {}",
                set.episode_count(),
                note.recorded.kept,
                note.command_of(note.shard)
            );
            return Err(DatasetError::metadata(folder, problem));
        }
        sets.push(set);
    }
    let (episodes, frames) = write(&sets, out)?;
    let recorded = recorded.map(|shards| {
        shards.iter().fold(Recorded::default(), |sum, (_, ShardNote { recorded, .. })| Recorded {
            run: sum.run + recorded.run,
            succeeded: sum.succeeded + recorded.succeeded,
            kept: sum.kept + recorded.kept,
        })
    });
    Ok(Merged { sets: sets.len(), episodes, frames, recorded })
}

/// The sets that a folder stands for.
fn expand(dir: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let is_set = dir.join("meta/info.json").is_file() || dir.join("meta").join(shard::NOTE).is_file();
    if is_set || !dir.is_dir() {
        // What is not there is refused when it is opened, with the reason.
        return Ok(vec![dir.canonicalize().unwrap_or_else(|_| dir.to_owned())]);
    }
    let mut folders = shard_folders(dir)?;
    if let Some(first) = folders.first().cloned() {
        // Those that were cut off are missing; when all were, the first can say what to do.
        let mut whole = Vec::new();
        for folder in folders {
            if unfinished(&folder)?.is_none() && Journal::is_foreign(&folder)? {
                whole.push(folder);
            }
        }
        folders = if whole.is_empty() { vec![first] } else { whole };
    }
    if folders.is_empty() {
        let problem = "it holds neither a data set (meta/info.json) nor parts of a recording (shard-*-of-*)";
        return Err(DatasetError::NotADataset { path: dir.to_owned(), problem: problem.into() });
    }
    Ok(folders.into_iter().map(|folder| folder.canonicalize().unwrap_or(folder)).collect())
}

/// The parts in their order, when together they are one whole recording.
fn whole(
    folders: Vec<PathBuf>,
    notes: Vec<Option<ShardNote>>,
) -> Result<Vec<(PathBuf, ShardNote)>, DatasetError> {
    let mut found: BTreeMap<u64, (PathBuf, ShardNote)> = BTreeMap::new();
    for (folder, note) in folders.into_iter().zip(notes) {
        let Some(note) = note else {
            let problem = "it is not a part of a recording, but others are; merge those first";
            return Err(DatasetError::metadata(&folder, problem));
        };
        if let Some((other, first)) = found.first_key_value().map(|(_, part)| part) {
            let unlike = |problem: String| DatasetError::Unlike {
                path: folder.clone(),
                other: other.clone(),
                problem,
            };
            if note.shards != first.shards {
                return Err(unlike(format!(
                    "it is one of {} parts, the other of {}",
                    note.shards, first.shards
                )));
            }
            if let Some(problem) = difference(&note.recording, &first.recording) {
                return Err(unlike(problem));
            }
        }
        if let Some((double, _)) = found.get(&note.shard) {
            let problem = format!("both are part {} of {}", note.shard, note.shards);
            return Err(DatasetError::Unlike { path: folder, other: double.clone(), problem });
        }
        found.insert(note.shard, (folder, note));
    }
    if let Some((folder, note)) = found.first_key_value().map(|(_, part)| part) {
        let missing: Vec<u64> = (0..note.shards).filter(|shard| !found.contains_key(shard)).collect();
        if !missing.is_empty() {
            let commands: Vec<String> = missing.iter().map(|shard| note.command_of(*shard)).collect();
            return Err(DatasetError::MissingShards {
                path: folder.parent().unwrap_or(folder).to_owned(),
                missing: missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                shards: note.shards,
                commands: commands.join("\n  "),
            });
        }
    }
    Ok(found.into_values().collect())
}

/// Writes the episodes of `sets`; how many, and how many frames.
fn write(sets: &[Dataset], out: &Path) -> Result<(usize, usize), DatasetError> {
    let Some((first, others)) = sets.split_first() else {
        return Err(DatasetError::metadata(out, "there is no episode to merge, so there is no set to write"));
    };
    let spec = spec_of(first)?;
    for other in others {
        if let Some(problem) = difference_of(&spec, &spec_of(other)?) {
            let (path, other) = (other.root().to_owned(), first.root().to_owned());
            return Err(DatasetError::Unlike { path, other, problem });
        }
    }
    let features = spec.features.clone();
    let mut writer = DatasetWriter::create(out, spec)?;
    let mut episodes = 0;
    for set in sets {
        for episode in 0..set.episode_count() {
            let columns = features
                .iter()
                .map(|feature| Column::read(set, episode, feature))
                .collect::<Result<Vec<_>, _>>()?;
            let times = set.read_column(episode, "timestamp")?;
            writer.push(&instruction(set, episode)?, &times, &columns)?;
            episodes += 1;
        }
    }
    if let Some(note) = common_note(sets)? {
        writer.write_meta(NOTE, &note)?;
    }
    Ok((episodes, writer.finish()?))
}

/// The features of a set beside those that every set has.
fn own_features(set: &Dataset) -> Vec<FeatureInfo> {
    let own = |feature: &&FeatureInfo| !FRAME_COLUMNS.iter().any(|(name, _)| *name == feature.name);
    set.info().features.iter().filter(own).cloned().collect()
}

/// What would have to be written to have this set again.
///
/// # Errors
/// When the set states no frame rate.
pub(crate) fn spec_of(set: &Dataset) -> Result<WriteSpec, DatasetError> {
    let info = set.info();
    let Some(fps) = info.fps else {
        let problem =
            "states no frame rate; make it a LeRobot set first: nudge dataset convert SET --out DIR --fps HZ";
        return Err(DatasetError::metadata(set.root(), problem));
    };
    Ok(WriteSpec { fps, robot_type: info.robot_type.clone(), features: own_features(set) })
}

/// What keeps two sets from being one: how the second differs; `None` when nothing does.
pub(crate) fn difference_of(one: &WriteSpec, two: &WriteSpec) -> Option<String> {
    if one.fps != two.fps {
        return Some(format!("it has {} frames a second, the other {}", two.fps, one.fps));
    }
    if one.robot_type != two.robot_type {
        let name = |robot: &Option<String>| robot.clone().unwrap_or_else(|| "none".into());
        let (one, two) = (name(&one.robot_type), name(&two.robot_type));
        return Some(format!("its robot_type is {two}, the other's {one}"));
    }
    for feature in &one.features {
        match two.features.iter().find(|held| held.name == feature.name) {
            None => return Some(format!("it has no feature `{}`, which the other has", feature.name)),
            Some(held) if (&held.dtype, &held.shape) != (&feature.dtype, &feature.shape) => {
                return Some(format!(
                    "its feature `{}` is {} {:?}, the other's {} {:?}",
                    feature.name, held.dtype, held.shape, feature.dtype, feature.shape
                ));
            }
            Some(held) if held.names != feature.names => {
                return Some(format!(
                    "the numbers of its feature `{}` are {}, the other's {}",
                    feature.name,
                    held.names.join(", "),
                    feature.names.join(", ")
                ));
            }
            Some(_) => {}
        }
    }
    let more = two.features.iter().find(|held| !one.features.iter().any(|feature| feature.name == held.name));
    more.map(|more| format!("it has a feature `{}`, which the other has not", more.name))
}

/// What was to be done in an episode.
fn instruction(set: &Dataset, episode: usize) -> Result<String, DatasetError> {
    let tasks: Vec<i64> = set.read_column(episode, "task_index")?;
    let bad = |problem: String| DatasetError::Episode { path: set.root().to_owned(), episode, problem };
    let Some(first) = tasks.first() else { return Err(bad("it has no frames".into())) };
    if tasks.iter().any(|task| task != first) {
        return Err(bad("it has several tasks; only episodes of one can be merged".into()));
    }
    let text = usize::try_from(*first).ok().and_then(|index| set.info().tasks.get(index));
    text.cloned().ok_or_else(|| bad(format!("its task_index is {first}, which the set's tasks do not name")))
}

/// What all sets say about their recording; `None` unless every one has a note.
fn common_note(sets: &[Dataset]) -> Result<Option<RecordingNote>, DatasetError> {
    if !sets.iter().all(|set| set.root().join("meta").join(NOTE).is_file()) {
        return Ok(None);
    }
    let mut common: Option<RecordingNote> = None;
    for set in sets {
        let mut note = recording_note(set)?;
        // A parsed number may be off by its last bit; rounded to the 32 it was written from, it is exact again.
        note.episodes.iter_mut().for_each(|EpisodeNote { score, .. }| *score = f64::from(*score as f32));
        let Some(common) = &mut common else {
            common = Some(note);
            continue;
        };
        let differs = if common.task != note.task {
            Some(format!("it was recorded in the task {}, the other in {}", note.task, common.task))
        } else if common.interface != note.interface {
            Some("they were recorded with different interfaces (see meta/nudge.json of both)".to_owned())
        } else {
            None
        };
        if let Some(problem) = differs {
            let (path, other) = (set.root().to_owned(), sets[0].root().to_owned());
            return Err(DatasetError::Unlike { path, other, problem });
        }
        common.setup = agreement(&common.setup, &note.setup);
        common.episodes.append(&mut note.episodes);
    }
    Ok(common)
}

/// What two setups say alike.
fn agreement(one: &Value, other: &Value) -> Value {
    match (one, other) {
        (one, other) if one == other => one.clone(),
        (Value::Object(one), Value::Object(other)) => {
            let same = one.iter().filter(|(key, value)| other.get(*key) == Some(value));
            Value::Object(same.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}
