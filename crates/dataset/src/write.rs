//! Writing a LeRobot v3.0 data set, episode by episode.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, RecordBatch,
};
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;

use crate::info::V3_DATA_PATH;
use crate::staging::Staging;
use crate::write_meta::{self, EpisodeRow};
use crate::{DatasetError, FeatureInfo, FeatureStats, template};

/// Files to a folder, and bytes after which a data file is followed by another, as LeRobot has them.
pub(crate) const CHUNKS_SIZE: usize = 1000;
pub(crate) const DATA_FILE_MB: usize = 100;

/// What a data set is to hold.
#[derive(Clone, Debug)]
pub struct WriteSpec {
    /// Frames per second.
    pub fps: f64,
    pub robot_type: Option<String>,
    /// Each of shape `[D]` and dtype `float32`, `float64`, `int64` or `bool`. The columns that every set has
    /// (timestamp, frame_index, episode_index, index, task_index) come by themselves.
    pub features: Vec<FeatureInfo>,
}

/// Row-major `[T, D]` values of one feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Int64(Vec<i64>),
    Bool(Vec<bool>),
}

impl Column {
    fn dtype(&self) -> &'static str {
        match self {
            Self::Float32(_) => "float32",
            Self::Float64(_) => "float64",
            Self::Int64(_) => "int64",
            Self::Bool(_) => "bool",
        }
    }

    pub(crate) fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::Float32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Self::Float64(values) => values.clone(),
            Self::Int64(values) => values.iter().map(|value| *value as f64).collect(),
            Self::Bool(values) => values.iter().map(|value| f64::from(u8::from(*value))).collect(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Float32(values) => values.len(),
            Self::Float64(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// The arrow column: bare for one number, a list of fixed size for more.
    fn array(&self, dim: usize) -> ArrayRef {
        let values: ArrayRef = match self {
            Self::Float32(values) => Arc::new(Float32Array::from(values.clone())),
            Self::Float64(values) => Arc::new(Float64Array::from(values.clone())),
            Self::Int64(values) => Arc::new(Int64Array::from(values.clone())),
            Self::Bool(values) => Arc::new(BooleanArray::from(values.clone())),
        };
        if dim == 1 {
            return values;
        }
        let element = Arc::new(Field::new("element", values.data_type().clone(), true));
        Arc::new(FixedSizeListArray::new(element, dim as i32, values, None))
    }
}

/// Writes a LeRobot v3.0 set: one row group an episode, as LeRobot does. The folder appears when
/// [`finish`](Self::finish) succeeds, whole; dropped before that, nothing is left.
pub struct DatasetWriter {
    staging: Staging,
    spec: WriteSpec,
    schema: Arc<Schema>,
    data_file_bytes: usize,
    current: Option<ArrowWriter<File>>,
    /// Files begun so far.
    files: usize,
    episodes: Vec<EpisodeRow>,
    tasks: Vec<String>,
}

impl DatasetWriter {
    /// # Errors
    /// When `dir` exists, the disk refuses, or the features cannot be written.
    pub fn create(dir: &Path, spec: WriteSpec) -> Result<Self, DatasetError> {
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
            if !matches!(feature.dtype.as_str(), "float32" | "float64" | "int64" | "bool") {
                return Err(bad(&format!(
                    "its type is {}; float32, float64, int64 and bool are written",
                    feature.dtype
                )));
            }
            if feature.shape.len() != 1 || !(1..=1 << 20).contains(&feature.dim()) {
                return Err(bad(&format!(
                    "its shape is {:?}; one number or a flat vector is written",
                    feature.shape
                )));
            }
        }
        let schema = Arc::new(write_meta::data_schema(&spec.features));
        Ok(Self {
            staging: Staging::create(dir)?,
            spec,
            schema,
            data_file_bytes: DATA_FILE_MB << 20,
            current: None,
            files: 0,
            episodes: Vec::new(),
            tasks: Vec::new(),
        })
    }

    /// Adds an episode: what was to be done in words, seconds since its beginning for each frame, and the columns of
    /// the spec in its order.
    ///
    /// # Errors
    /// When there is no frame, the columns are not those of the spec, or the disk refuses.
    pub fn push(&mut self, task: &str, timestamps: &[f32], columns: &[Column]) -> Result<(), DatasetError> {
        let episode = self.episodes.len();
        self.check(timestamps.len(), columns)
            .map_err(|problem| DatasetError::Unwritable { episode, problem })?;
        let task_index = self.tasks.iter().position(|known| known == task).unwrap_or_else(|| {
            self.tasks.push(task.to_owned());
            self.tasks.len() - 1
        });

        let rows = timestamps.len();
        let from = self.episodes.last().map_or(0, |last| last.to);
        let repeat = |value: usize| Column::Int64(vec![value as i64; rows]);
        let count_from = |first: usize| Column::Int64((first..first + rows).map(|i| i as i64).collect());
        let frame_columns = [
            Column::Float32(timestamps.to_vec()),
            count_from(0),
            repeat(episode),
            count_from(from),
            repeat(task_index),
        ];
        let dims = self.spec.features.iter().map(FeatureInfo::dim).chain([1; 5]);
        let all: Vec<(&Column, usize)> = columns.iter().chain(&frame_columns).zip(dims).collect();

        let file = self.write(all.iter().map(|(column, dim)| column.array(*dim)).collect())?;
        self.episodes.push(EpisodeRow {
            task: task.to_owned(),
            from,
            to: from + rows,
            file,
            stats: all.iter().map(|(column, dim)| FeatureStats::of(&column.to_f64(), *dim)).collect(),
        });
        Ok(())
    }

    fn check(&self, rows: usize, columns: &[Column]) -> Result<(), String> {
        if rows == 0 {
            return Err("it has no frames".into());
        }
        if columns.len() != self.spec.features.len() {
            return Err(format!("it has {} columns instead of {}", columns.len(), self.spec.features.len()));
        }
        for (column, feature) in columns.iter().zip(&self.spec.features) {
            if column.dtype() != feature.dtype || column.len() != rows * feature.dim() {
                return Err(format!(
                    "`{}` comes as {} {}s, but {rows} frames of {:?} need {} {}s",
                    feature.name,
                    column.len(),
                    column.dtype(),
                    feature.shape,
                    rows * feature.dim(),
                    feature.dtype
                ));
            }
        }
        Ok(())
    }

    /// Writes one row group; the number of the file that it went to.
    fn write(&mut self, arrays: Vec<ArrayRef>) -> Result<usize, DatasetError> {
        if self.current.as_ref().is_some_and(|file| file.bytes_written() >= self.data_file_bytes) {
            self.close_file()?;
        }
        if self.current.is_none() {
            self.files += 1;
        }
        let path = self.path_of_last();
        let writer = match &mut self.current {
            Some(writer) => writer,
            None => self.current.insert(write_meta::create_parquet(&path, &self.schema)?),
        };
        RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(Into::into)
            .and_then(|batch| writer.write(&batch))
            .and_then(|()| writer.flush())
            .map_err(DatasetError::parquet(&path))?;
        Ok(self.files - 1)
    }

    fn close_file(&mut self) -> Result<(), DatasetError> {
        let path = self.path_of_last();
        let Some(writer) = self.current.take() else { return Ok(()) };
        writer.close().map(drop).map_err(DatasetError::parquet(&path))
    }

    /// The data file begun last.
    fn path_of_last(&self) -> PathBuf {
        self.staging.path().join(data_path(self.files.saturating_sub(1)))
    }

    /// Writes a further file into `meta/`.
    pub(crate) fn write_meta(&self, name: &str, value: &impl serde::Serialize) -> Result<(), DatasetError> {
        write_meta::write_json(&self.staging.path().join("meta").join(name), value)
    }

    /// Writes the metadata and gives the folder its name; how many frames it holds.
    ///
    /// # Errors
    /// When no episode was added, or the disk refuses. Nothing is left behind then.
    pub fn finish(mut self) -> Result<usize, DatasetError> {
        self.close_file()?;
        let Some(frames) = self.episodes.last().map(|last| last.to) else {
            return Err(DatasetError::metadata(
                self.staging.path(),
                "a data set of no episodes is not written",
            ));
        };
        let folder = self.staging.path();
        let files: Vec<_> = (0..self.files).map(|file| folder.join(data_path(file))).collect();
        write_meta::write_all(folder, &self.spec, &self.episodes, &self.tasks, &files)?;
        self.staging.commit()?;
        Ok(frames)
    }

    /// Gives its name to a folder of no episodes, which holds what [`write_meta`](Self::write_meta) put there.
    pub(crate) fn finish_empty(self) -> Result<(), DatasetError> {
        self.staging.commit()
    }
}

/// Chunk and file numbers of the `n`th file.
pub(crate) fn chunk_and_file(n: usize) -> (usize, usize) {
    (n / CHUNKS_SIZE, n % CHUNKS_SIZE)
}

fn data_path(n: usize) -> PathBuf {
    let (chunk, file) = chunk_and_file(n);
    template::fill(V3_DATA_PATH, &[("chunk_index", chunk), ("file_index", file)])
        .expect("the template is LeRobot's own")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dataset;

    #[test]
    fn a_full_data_file_is_followed_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("set");
        let feature =
            FeatureInfo { name: "x".into(), dtype: "float32".into(), shape: vec![8], names: Vec::new() };
        let spec = WriteSpec { fps: 10.0, robot_type: None, features: vec![feature] };
        let mut writer = DatasetWriter::create(&dir, spec).unwrap();
        writer.data_file_bytes = 8_000;
        let values =
            |episode: usize| (0..800).map(|i| ((i * 7919 + episode) % 4001) as f32).collect::<Vec<_>>();
        for episode in 0..9 {
            writer.push("t", &[0.0; 100], &[Column::Float32(values(episode))]).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 900);
        assert!(dir.join(data_path(1)).is_file() && dir.join(data_path(2)).is_file());
        let dataset = Dataset::open(&dir).unwrap();
        for (episode, tables) in dataset.read_all(&["x"]).unwrap().iter().enumerate() {
            assert_eq!(tables[0].values, values(episode));
            assert_eq!(dataset.read_episode(episode, &["x"]).unwrap(), *tables);
        }
    }
}
