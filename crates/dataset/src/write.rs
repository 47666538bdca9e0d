//! Writing a LeRobot v3.0 data set, episode by episode.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use parquet::arrow::ArrowWriter;

use crate::frames::{Place, check_spec, frames};
use crate::info::V3_DATA_PATH;
use crate::staging::Staging;
use crate::write_meta::{self, EpisodeRow};
use crate::{Column, DatasetError, FeatureInfo, sums, template};

/// Files to a folder, and bytes after which a data file is followed by another, as LeRobot has them.
pub(crate) const CHUNKS_SIZE: usize = 1000;
pub(crate) const DATA_FILE_MB: usize = 100;

/// What a data set is to hold.
#[derive(Clone, Debug)]
pub struct WriteSpec {
    /// Frames per second.
    pub fps: f64,
    pub robot_type: Option<String>,
    /// Each of up to five sizes, of a type that [`Column`] has. The columns that every set has (timestamp,
    /// frame_index, episode_index, index, task_index) come by themselves.
    pub features: Vec<FeatureInfo>,
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
        check_spec(dir, &spec)?;
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

    /// With another size of data files, in bytes.
    #[cfg(test)]
    pub(crate) fn with_data_file_bytes(mut self, bytes: usize) -> Self {
        self.data_file_bytes = bytes;
        self
    }

    /// Adds an episode: what was to be done in words, seconds since its beginning for each frame, and the columns of
    /// the spec in its order.
    ///
    /// # Errors
    /// When there is no frame, the columns are not those of the spec, or the disk refuses.
    pub fn push(&mut self, task: &str, timestamps: &[f32], columns: &[Column]) -> Result<(), DatasetError> {
        let task_index = self.tasks.iter().position(|known| known == task);
        let from = self.episodes.last().map_or(0, |last| last.to);
        let place =
            Place { episode: self.episodes.len(), from, task: task_index.unwrap_or(self.tasks.len()) };
        let (batch, stats) = frames(&self.spec, &self.schema, place, timestamps, columns)?;
        if task_index.is_none() {
            self.tasks.push(task.to_owned());
        }
        let file = self.write(&batch)?;
        let to = from + batch.num_rows();
        self.episodes.push(EpisodeRow { task: task.to_owned(), from, to, file, stats });
        Ok(())
    }

    /// Writes one row group; chunk and number of the file that it went to.
    fn write(&mut self, batch: &RecordBatch) -> Result<(usize, usize), DatasetError> {
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
        writer.write(batch).and_then(|()| writer.flush()).map_err(DatasetError::unwritten(&path))?;
        Ok(chunk_and_file(self.files - 1))
    }

    fn close_file(&mut self) -> Result<(), DatasetError> {
        let path = self.path_of_last();
        let Some(writer) = self.current.take() else { return Ok(()) };
        writer.close().map(drop).map_err(DatasetError::unwritten(&path))
    }

    /// The data file begun last.
    fn path_of_last(&self) -> PathBuf {
        self.staging.path().join(data_path(self.files.saturating_sub(1)))
    }

    /// Writes a further file into `meta/`.
    pub(crate) fn write_meta(&self, name: &str, value: &impl serde::Serialize) -> Result<(), DatasetError> {
        write_meta::write_file(&self.staging.path().join("meta").join(name), &write_meta::json_bytes(value))
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
        sums::write_sums(folder)?;
        self.staging.commit()?;
        Ok(frames)
    }

    /// Gives its name to a folder of no episodes, which holds what [`write_meta`](Self::write_meta) put there.
    pub(crate) fn finish_empty(self) -> Result<(), DatasetError> {
        sums::write_sums(self.staging.path())?;
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
        let mut writer = DatasetWriter::create(&dir, spec).unwrap().with_data_file_bytes(8_000);
        let values =
            |episode: usize| (0..800).map(|i| ((i * 7919 + episode) % 4001) as f32).collect::<Vec<_>>();
        for episode in 0..9 {
            writer.push("t", &[0.0; 100], &[Column::Float32(values(episode))]).unwrap();
        }
        let features = write_meta::all_features(&writer.spec.features);
        let aggregated = write_meta::aggregated(&features, &writer.episodes);
        assert_eq!(writer.finish().unwrap(), 900);
        // What a set too large for exact statistics would state.
        let exact = Dataset::open(&dir).unwrap().stats().unwrap();
        for (feature, stats) in features.iter().zip(&aggregated) {
            let exact = &exact[&feature.name];
            assert_eq!((&stats.min, &stats.max, &stats.count), (&exact.min, &exact.max, &exact.count));
            for (one, two) in stats.mean.iter().chain(&stats.std).zip(exact.mean.iter().chain(&exact.std)) {
                assert!((one - two).abs() <= 1e-9 * two.abs().max(1.0), "{}: {one} {two}", feature.name);
            }
        }
        assert!(dir.join(data_path(1)).is_file() && dir.join(data_path(2)).is_file());
        let dataset = Dataset::open(&dir).unwrap();
        for (episode, tables) in dataset.read_all(&["x"]).unwrap().iter().enumerate() {
            assert_eq!(tables[0].values, values(episode));
            assert_eq!(dataset.read_episode(episode, &["x"]).unwrap(), *tables);
        }
    }
}
