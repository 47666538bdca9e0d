//! What a set made of another says about itself: where it comes from, and what of its recording still holds.

use std::fs;

use serde_json::{Value, json};

use super::mapping::Mapped;
use super::{Edit, Step};
use crate::episodes::NOTE;
use crate::{Dataset, DatasetError, EpisodeNote, RecordingNote, recording_note};

/// `meta/provenance.json`: the steps from the first source to this set, the last step last.
pub(super) const PROVENANCE: &str = "provenance.json";

/// The note of a set's recording, or what is wrong with it; `None` for sets that have none.
pub(super) fn of_recording(set: &Dataset) -> Option<Result<RecordingNote, DatasetError>> {
    let there = set.root().join("meta").join(NOTE).is_file();
    there.then(|| recording_note(set))
}

/// Whether a recording's interface is that of the set to be: every feature of it is there, under its name and with its
/// numbers, and the frame rate is the control rate.
pub(super) fn still_holds(note: &RecordingNote, mapped: &[Mapped], steps: &[Step], fps: f64) -> bool {
    let observed = note.interface.observation.iter().map(|feature| feature.name.as_str());
    let acted = note.interface.action.iter().map(|feature| feature.name.as_str());
    let untouched = |name: &str| {
        let column = mapped.iter().position(|mapped| mapped.name == name && mapped.source == name);
        column.is_some_and(|column| {
            mapped[column].kept_numbers.is_none()
                && !steps.iter().any(|step| match step {
                    Step::Scale { column: changed, .. } | Step::Unwrap { column: changed, .. } => {
                        *changed == column
                    }
                    Step::ShiftAction { .. } => true,
                    Step::DropRepeated | Step::TrimIdle | Step::Retime => false,
                })
        })
    };
    note.interface.control_hz == fps && observed.chain(acted).all(untouched)
}

/// An episode's note, when its frames are those of the source: otherwise its seed no longer begins it.
pub(super) fn of_episode(note: &EpisodeNote, same_frames: bool) -> EpisodeNote {
    EpisodeNote {
        seed: note.seed.filter(|_| same_frames),
        success: note.success,
        // A parsed number may be off by its last bit; rounded to the 32 it was written from, it is exact again.
        score: f64::from(note.score as f32),
    }
}

/// The steps that led to `set`, and the one that is made now.
///
/// # Errors
/// When the source's own provenance cannot be read.
pub(super) fn provenance(
    set: &Dataset,
    command: &str,
    edits: &[Edit],
    episodes: &[usize],
) -> Result<Value, DatasetError> {
    let path = set.root().join("meta").join(PROVENANCE);
    let mut steps = match path.is_file() {
        false => Vec::new(),
        true => {
            let text = fs::read_to_string(&path).map_err(DatasetError::io(&path))?;
            let value: Value = serde_json::from_str(&text)
                .map_err(|error| DatasetError::metadata(&path, format!("not valid JSON: {error}")))?;
            value.get("steps").and_then(Value::as_array).cloned().unwrap_or_default()
        }
    };
    steps.push(json!({
        "program": format!("nudge {}", env!("CARGO_PKG_VERSION")),
        "command": command,
        "source": set.root().display().to_string(),
        "source_format": set.format(),
        "source_episodes": set.episode_count(),
        "episodes": ranges(episodes),
        "edits": edits.len(),
    }));
    Ok(json!({"steps": steps}))
}

/// Numbers in order as `0-49,60`.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let text = runs.map(|run| match run {
        [one] => one.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    text.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[]), "");
    }
}
