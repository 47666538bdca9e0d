//! One episode as the rows of a data file, with the columns that every set has.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use crate::{Column, DatasetError, FeatureInfo, FeatureStats, WriteSpec, column, write_meta};

/// Where an episode belongs in its set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) episode: usize,
    /// Its first frame, counted over the whole set.
    pub(crate) from: usize,
    pub(crate) task: usize,
}

/// # Errors
/// When no set of this kind can be written to `dir`: says which feature, or that it is the frame rate.
pub(crate) fn check_spec(dir: &Path, spec: &WriteSpec) -> Result<(), DatasetError> {
    if !(spec.fps.is_finite() && spec.fps > 0.0) {
        let problem = format!("the frame rate is {}, but must be above 0", spec.fps);
        return Err(DatasetError::metadata(dir, problem));
    }
    for (place, feature) in spec.features.iter().enumerate() {
        let bad = |problem: &str| {
            DatasetError::metadata(dir, format!("cannot write feature `{}`: {problem}", feature.name))
        };
        let taken = spec.features[..place].iter().any(|earlier| earlier.name == feature.name);
        if taken || write_meta::FRAME_COLUMNS.iter().any(|(name, _)| *name == feature.name) {
            return Err(bad("there is another column of this name"));
        }
        if feature.name.is_empty() || feature.name.contains('/') {
            return Err(bad("LeRobot allows no empty name and no `/` in one"));
        }
        if let Some(problem) = column::refusal(feature) {
            return Err(bad(&problem));
        }
    }
    Ok(())
}

/// The rows of an episode, and the statistics of its columns, those of every set included.
///
/// # Errors
/// When there is no frame, or the columns are not those of the spec.
pub(crate) fn frames(
    spec: &WriteSpec,
    schema: &Arc<Schema>,
    place: Place,
    timestamps: &[f32],
    columns: &[Column],
) -> Result<(RecordBatch, Vec<FeatureStats>), DatasetError> {
    let Place { episode, from, task } = place;
    let unwritable = |problem: String| DatasetError::Unwritable { episode, problem };
    check(spec, timestamps.len(), columns).map_err(unwritable)?;
    let rows = timestamps.len();
    let repeat = |value: usize| Column::Int64(vec![value as i64; rows]);
    let count_from = |first: usize| Column::Int64((first..first + rows).map(|i| i as i64).collect());
    let frame_columns = [
        Column::Float32(timestamps.to_vec()),
        count_from(0),
        repeat(episode),
        count_from(from),
        repeat(task),
    ];
    let shapes = spec.features.iter().map(|feature| feature.shape.as_slice()).chain([&[1][..]; 5]);
    let all: Vec<(&Column, &[usize])> = columns.iter().chain(&frame_columns).zip(shapes).collect();
    let arrays = all.iter().map(|(column, shape)| column.array(shape)).collect();
    let batch =
        RecordBatch::try_new(schema.clone(), arrays).map_err(|error| unwritable(error.to_string()))?;
    Ok((batch, all.iter().map(|(column, shape)| column.stats(shape)).collect()))
}

fn check(spec: &WriteSpec, rows: usize, columns: &[Column]) -> Result<(), String> {
    if rows == 0 {
        return Err("it has no frames".into());
    }
    if columns.len() != spec.features.len() {
        return Err(format!("it has {} columns instead of {}", columns.len(), spec.features.len()));
    }
    for (column, FeatureInfo { name, dtype, shape, .. }) in columns.iter().zip(&spec.features) {
        let numbers = rows * shape.iter().product::<usize>();
        if column.dtype() != dtype || column.len() != numbers {
            return Err(format!(
                "`{name}` comes as {} {}s, but {rows} frames of {shape:?} need {numbers} {dtype}s",
                column.len(),
                column.dtype()
            ));
        }
    }
    Ok(())
}
