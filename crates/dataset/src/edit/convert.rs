//! One set made of another.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::mapping::{self, Mapped};
use super::plan::Plan;
use super::source::{self, Source};
use super::{Edit, Selection, note};
use crate::episodes::NOTE;
use crate::{Column, Dataset, DatasetError, DatasetWriter, RecordingNote, WriteSpec};

/// What is to be made of a set.
#[derive(Clone, Debug, Default)]
pub struct Conversion {
    /// Frames per second; needed where the source does not state it.
    pub fps: Option<f64>,
    /// What was to be done in every episode, instead of what the source says.
    pub task: Option<String>,
    /// Source names of features, and the names that they are to have.
    pub rename: Vec<(String, String)>,
    /// Source names of features that are left out.
    pub drop_features: Vec<String>,
    pub selection: Selection,
    /// Applied in this order to every episode.
    pub edits: Vec<Edit>,
    /// The command line that asks for this, for the set's provenance.
    pub command: String,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Converted {
    pub episodes: usize,
    pub frames: usize,
    pub fps: f64,
    /// Frames of the episodes taken that the edits removed.
    pub removed_frames: usize,
    pub features: Vec<Mapped>,
    /// What holds no numbers, and what it holds, for example `observation.images.top (video)`.
    pub passed_over: Vec<String>,
    pub left_out: Vec<LeftOut>,
    /// What else there is to know, in words.
    pub remarks: Vec<String>,
}

/// An episode of the source that is not in what was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// In the source.
    pub episode: usize,
    pub why: String,
}

/// Writes what `conversion` makes of `set` as a LeRobot v3.0 set into `out`. `progress` is told the source's frames passed
/// so far.
///
/// Without edits every number keeps its type and its bits; a time stamp has 32 bits in LeRobot. What the source says of its recording (meta/nudge.json) is kept where it
/// still holds, and `meta/provenance.json` tells where the set comes from.
///
/// # Errors
/// When something is asked for that is not there, no episode is left, the source cannot be read, `out` exists, or the disk
/// refuses. Nothing is left behind then.
pub fn convert(
    set: &Dataset,
    out: &Path,
    conversion: &Conversion,
    progress: &mut dyn FnMut(usize),
) -> Result<Converted, DatasetError> {
    let chosen = conversion.selection.numbers(set.episode_count())?;
    let plan = Plan::new(set, conversion, &chosen)?;
    let spec = WriteSpec {
        fps: plan.fps,
        robot_type: set.info().robot_type.clone(),
        features: plan.mapped.iter().map(Mapped::feature).collect(),
    };
    let mut writer = DatasetWriter::create(out, spec)?;
    let (mut taken, mut left_out, mut episode_notes) = (Vec::new(), Vec::new(), Vec::new());
    let mut fingerprints: BTreeMap<[u64; 2], usize> = BTreeMap::new();
    let (mut passed, mut source_frames, mut rounded) = (0, 0, 0);
    for episodes in set.runs(chosen.iter().copied(), source::BLOCK_FRAMES) {
        for source in source::read(set, &plan, episodes)? {
            let Source { episode, task, mut draft, rounded_times } = source;
            let rows = draft.rows();
            passed += rows;
            let own_note = plan.note.as_ref().and_then(|note| note.episodes.get(episode));
            let selection = &conversion.selection;
            let mut why = selection.refuses(&draft, own_note);
            if why.is_none() && selection.distinct {
                let earlier = *fingerprints.entry(draft.fingerprint()).or_insert(episode);
                why = (earlier != episode).then(|| format!("it is episode {earlier} once more"));
            }
            if why.is_none() {
                plan.steps.iter().for_each(|step| step.apply(&mut draft, plan.fps));
                why = selection.refuses_length(draft.rows());
            }
            if let Some(why) = why {
                left_out.push(LeftOut { episode, why });
                continue;
            }
            let columns = draft.columns.into_iter().zip(&plan.mapped);
            let columns: Vec<Column> = columns.map(|(column, mapped)| mapped.narrow(column)).collect();
            writer.push(&task, &draft.times, &columns)?;
            episode_notes.extend(own_note.map(|own| note::of_episode(own, draft.times.len() == rows)));
            source_frames += rows;
            rounded += usize::from(rounded_times);
            taken.push(episode);
            progress(passed);
        }
        progress(passed);
    }
    if taken.is_empty() {
        return Err(nothing_left(set, &left_out));
    }
    let mut remarks = plan.remarks(set);
    if rounded > 0 {
        remarks
            .push(format!("time stamps of {rounded} episodes were rounded to the 32 bits that LeRobot has"));
    }
    if let Some(note) = plan.note {
        if note::still_holds(&note, &plan.mapped, &plan.steps, plan.fps) {
            writer.write_meta(NOTE, &RecordingNote { episodes: episode_notes, ..note })?;
        } else {
            remarks.push(
                "seeds, units and limits (meta/nudge.json) are left out: they describe other numbers".into(),
            );
        }
    }
    let provenance = note::provenance(set, &conversion.command, &conversion.edits, &taken)?;
    writer.write_meta(note::PROVENANCE, &provenance)?;
    let frames = writer.finish()?;
    Ok(Converted {
        episodes: taken.len(),
        frames,
        fps: plan.fps,
        removed_frames: source_frames - frames,
        features: plan.mapped,
        passed_over: mapping::passed_over(set),
        left_out,
        remarks,
    })
}

fn nothing_left(set: &Dataset, left_out: &[LeftOut]) -> DatasetError {
    let example = left_out
        .first()
        .map_or_else(String::new, |LeftOut { episode, why }| format!("; episode {episode}, for one: {why}"));
    DatasetError::request(format!(
        "no episode is left of the {} in {}, so nothing is written{example}",
        set.episode_count(),
        set.root().display()
    ))
}
