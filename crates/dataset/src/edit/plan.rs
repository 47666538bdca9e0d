//! Everything about a conversion that is the same for all episodes.

use super::mapping::{self, Mapped};
use super::{Conversion, Step, note};
use crate::episodes::SUCCESS;
use crate::{Column, Dataset, DatasetError, RecordingNote};

/// What a conversion does, with everything found that it speaks of.
pub(super) struct Plan<'a> {
    pub(super) fps: f64,
    /// What the source states, if it does.
    pub(super) source_fps: Option<f64>,
    pub(super) task: Option<&'a str>,
    pub(super) mapped: Vec<Mapped>,
    pub(super) steps: Vec<Step>,
    pub(super) note: Option<RecordingNote>,
    /// What is wrong with a note that is there.
    unusable_note: Option<String>,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// When something is asked for that is not there, or the first episode cannot be read.
    pub(super) fn new(
        set: &Dataset,
        conversion: &'a Conversion,
        chosen: &[usize],
    ) -> Result<Self, DatasetError> {
        let source_fps = set.info().fps;
        let Some(fps) = conversion.fps.or(source_fps) else {
            return Err(DatasetError::request(format!(
                "{} does not state how many frames a second it holds: say so with --fps HZ",
                set.root().display()
            )));
        };
        if !(fps.is_finite() && fps > 0.0) {
            return Err(DatasetError::request(format!("the frame rate is {fps}, but must be above 0")));
        }
        let mut mapped = mapping::map(set, &conversion.rename, &conversion.drop_features)?;
        let steps = mapping::resolve(&conversion.edits, &mut mapped)?;
        let (note, unusable) = match note::of_recording(set) {
            None => (None, None),
            Some(Ok(note)) => (Some(note), None),
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        if conversion.selection.successful
            && note.is_none()
            && !mapped.iter().any(|mapped| mapped.name == SUCCESS)
        {
            return Err(DatasetError::request(format!(
                "{} does not say which episodes achieved their task: it has no feature `next.success` and no \
                 meta/nudge.json; --rename OLD=next.success names a feature that tells it",
                set.root().display()
            )));
        }
        let task = conversion.task.as_deref();
        let mut plan = Self { fps, source_fps, task, mapped, steps, note, unusable_note: unusable };
        plan.widen(set, chosen)?;
        Ok(plan)
    }

    /// Some info.json state fewer bits than their files have: what the first episode shows is believed.
    fn widen(&mut self, set: &Dataset, chosen: &[usize]) -> Result<(), DatasetError> {
        let Some(first) = chosen.first() else { return Ok(()) };
        let narrow = |mapped: &&mut Mapped| matches!(mapped.dtype.as_str(), "float16" | "float32");
        let mut narrow: Vec<&mut Mapped> = self.mapped.iter_mut().filter(narrow).collect();
        let names: Vec<&str> = narrow.iter().map(|mapped| mapped.source.as_str()).collect();
        let read = set.read_numbers::<f64>(*first..first + 1, &names)?.into_iter().flatten();
        let fits: Vec<bool> =
            read.zip(&narrow).map(|(values, mapped)| Column::of(&mapped.dtype, values).is_ok()).collect();
        for (mapped, _) in narrow.iter_mut().zip(fits).filter(|(_, fits)| !fits) {
            mapped.dtype = "float64".to_owned();
        }
        Ok(())
    }

    /// What is not written as it is in the source, in words.
    pub(super) fn remarks(&self, set: &Dataset) -> Vec<String> {
        let mut remarks = Vec::new();
        for mapped in &self.mapped {
            let (from, to) = (&mapped.source_dtype, &mapped.dtype);
            if from != to {
                remarks.push(match to.as_str() {
                    "float64" => format!(
                        "`{}` is {from} in the metadata, but its numbers need 64 bits and keep them",
                        mapped.source
                    ),
                    _ => format!(
                        "`{}` is {from} and written as {to}, which holds every number of it exactly",
                        mapped.source
                    ),
                });
            }
        }
        if let (Some(stated), true) = (self.source_fps, self.source_fps != Some(self.fps)) {
            remarks.push(format!("the source states {stated} frames a second; {} was asked for", self.fps));
        }
        if let Some(problem) = &self.unusable_note {
            remarks.push(format!("what the source says of its recording is left out: {problem}"));
        }
        if self.task.is_none() && set.info().tasks.is_empty() {
            remarks.push("the source does not say in words what was to be done; --task TEXT does".into());
        }
        remarks
    }
}
