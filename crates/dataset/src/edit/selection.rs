//! Which episodes of a set are taken.

use std::collections::BTreeSet;

use super::draft::Draft;
use crate::episodes::SUCCESS;
use crate::{DatasetError, EpisodeNote};

/// What an episode must be to be taken. The default takes all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Only these.
    pub keep: Option<Vec<usize>>,
    /// Not these.
    pub drop: Vec<usize>,
    /// Frames, after all edits.
    pub min_frames: Option<usize>,
    pub max_frames: Option<usize>,
    /// Only episodes that achieved their task, as `next.success` or meta/nudge.json says.
    pub successful: bool,
    /// Only episodes that no seed began: those of people and robots, not of a simulation.
    pub seed_free: bool,
    /// Only episodes without NaN and infinite numbers.
    pub finite: bool,
    /// Only episodes that differ from every earlier one in some number.
    pub distinct: bool,
}

impl Selection {
    /// The episodes that `keep` and `drop` leave of `count`, in order.
    ///
    /// # Errors
    /// When one is named that is not there.
    pub(super) fn numbers(&self, count: usize) -> Result<Vec<usize>, DatasetError> {
        let named = self.keep.iter().flatten().chain(&self.drop);
        if let Some(episode) = named.max().filter(|episode| **episode >= count) {
            return Err(DatasetError::NoEpisode { episode: *episode, count });
        }
        let keep: Option<BTreeSet<&usize>> = self.keep.as_ref().map(|keep| keep.iter().collect());
        let drop: BTreeSet<&usize> = self.drop.iter().collect();
        let kept = |episode: &usize| {
            keep.as_ref().is_none_or(|keep| keep.contains(episode)) && !drop.contains(episode)
        };
        Ok((0..count).filter(kept).collect())
    }

    /// Why an episode is not taken, before any edit; `None` when it is.
    pub(super) fn refuses(&self, draft: &Draft, note: Option<&EpisodeNote>) -> Option<String> {
        if self.seed_free
            && let Some(seed) = note.and_then(|note| note.seed)
        {
            return Some(format!("it was begun by seed {seed}"));
        }
        if self.successful && !(note.is_some_and(|note| note.success) || succeeds(draft)) {
            return Some("it did not achieve its task".into());
        }
        if self.finite
            && let Some((feature, frame)) = draft.non_finite()
        {
            return Some(format!("`{feature}` is NaN or infinite in frame {frame}"));
        }
        None
    }

    /// Why it is not taken, after all edits.
    pub(super) fn refuses_length(&self, frames: usize) -> Option<String> {
        if frames == 0 {
            return Some("the edits leave no frame of it".into());
        }
        if let Some(least) = self.min_frames.filter(|least| frames < *least) {
            return Some(format!("it has {frames} frames, and {least} are asked for"));
        }
        let most = self.max_frames.filter(|most| frames > *most)?;
        Some(format!("it has {frames} frames, and at most {most} are asked for"))
    }
}

/// Whether some frame says that the task is achieved.
fn succeeds(draft: &Draft) -> bool {
    let places = draft.layout.iter().position(|(name, _)| name == SUCCESS);
    places.is_some_and(|place| draft.columns[place].to_f64().iter().any(|value| *value != 0.0))
}
