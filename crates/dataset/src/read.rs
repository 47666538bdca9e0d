//! A data set, opened: any episode without reading the others.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::columns::{self, Number, Problem};
use crate::index::{self, DataFile, Location};
use crate::parquet_file::{ParquetFile, column};
use crate::{DatasetError, DatasetInfo, FeatureInfo, FeatureStats, Table};
use crate::{info, stats};

/// A LeRobot data set (v3.0, v2.1 or v2.0). Opening reads the metadata alone.
pub struct Dataset {
    root: PathBuf,
    info: DatasetInfo,
    files: Vec<DataFile>,
    episodes: Vec<Location>,
}

/// Values of a feature that are NaN or infinite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NonFinite {
    pub feature: String,
    /// How many there are in the whole set.
    pub values: usize,
    /// Where the first is.
    pub episode: usize,
    pub frame: usize,
}

impl Dataset {
    /// Opens the set in `dir`, the folder that holds `meta/` and `data/`.
    ///
    /// # Errors
    /// When it is no LeRobot set, of a layout that is not read, or its metadata contradict themselves or the files.
    pub fn open(dir: &Path) -> Result<Self, DatasetError> {
        let info = info::read(dir)?;
        let index = index::read(dir, &info)?;
        let info = DatasetInfo { tasks: index.tasks, ..info.public };
        Ok(Self { root: dir.to_owned(), info, files: index.files, episodes: index.episodes })
    }

    pub fn info(&self) -> &DatasetInfo {
        &self.info
    }

    /// The folder that it was opened from.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn episode_count(&self) -> usize {
        self.episodes.len()
    }

    pub fn frame_count(&self) -> usize {
        self.episodes.iter().map(|location| location.rows.len()).sum()
    }

    /// Frames of an episode; `None` when there is no such episode.
    pub fn episode_length(&self, episode: usize) -> Option<usize> {
        Some(self.episodes.get(episode)?.rows.len())
    }

    /// One `[T, D]` table for each of `features`. Reads no more than the row groups that hold the episode.
    ///
    /// Values of any numeric type become f32; whole numbers above 2^24 are rounded. NaN is data.
    ///
    /// # Errors
    /// When there is no such episode or feature, or the file does not hold what the metadata say.
    pub fn read_episode(&self, episode: usize, features: &[&str]) -> Result<Vec<Table>, DatasetError> {
        let features = self.find(features)?;
        let numbers = self.read_numbers(episode, &features)?;
        let rows = self.episodes[episode].rows.len();
        let tables = numbers.into_iter().zip(features);
        Ok(tables.map(|(values, feature)| Table { rows, dim: feature.dim(), values }).collect())
    }

    /// The row-major `[T, D]` numbers of one feature of an episode, in another type than [`Table`] has.
    ///
    /// # Errors
    /// As [`Dataset::read_episode`].
    pub(crate) fn read_column<T: Number>(
        &self,
        episode: usize,
        feature: &str,
    ) -> Result<Vec<T>, DatasetError> {
        let features = self.find(&[feature])?;
        Ok(self.read_numbers(episode, &features)?.into_iter().flatten().collect())
    }

    fn read_numbers<T: Number>(
        &self,
        episode: usize,
        features: &[&FeatureInfo],
    ) -> Result<Vec<Vec<T>>, DatasetError> {
        let count = self.episodes.len();
        let location = self.episodes.get(episode).ok_or(DatasetError::NoEpisode { episode, count })?;
        let read = self.read_rows(location.file, location.rows.clone(), episode..episode + 1, features)?;
        Ok(read.into_iter().flatten().collect())
    }

    /// The same for all episodes, indexed `[episode][feature]`; each data file is read once.
    ///
    /// # Errors
    /// As [`Dataset::read_episode`].
    pub fn read_all(&self, features: &[&str]) -> Result<Vec<Vec<Table>>, DatasetError> {
        let features = self.find(features)?;
        let mut tables = Vec::with_capacity(self.episodes.len());
        for run in
            self.episodes.chunk_by(|one, next| one.file == next.file && one.rows.end == next.rows.start)
        {
            let rows = run[0].rows.start..run[run.len() - 1].rows.end;
            let episodes = tables.len()..tables.len() + run.len();
            let numbers = self.read_rows(run[0].file, rows, episodes, &features)?;
            tables.extend(numbers.into_iter().zip(run).map(|(numbers, episode)| {
                let rows = episode.rows.len();
                let tables = numbers.into_iter().zip(&features);
                tables.map(|(values, feature)| Table { rows, dim: feature.dim(), values }).collect()
            }));
        }
        Ok(tables)
    }

    /// Reads all numbers and lists the features that hold NaN or infinite ones.
    ///
    /// # Errors
    /// As [`Dataset::read_episode`]: a set that passes can be read whole.
    pub fn check(&self) -> Result<Vec<NonFinite>, DatasetError> {
        let numeric = self.info.features.iter().filter(|feature| feature.is_numeric());
        let names: Vec<&str> = numeric.map(|feature| feature.name.as_str()).collect();
        let mut found: Vec<Option<NonFinite>> = vec![None; names.len()];
        for (episode, tables) in self.read_all(&names)?.iter().enumerate() {
            for ((found, table), name) in found.iter_mut().zip(tables).zip(&names) {
                let Some(((frame, _), values)) = table.non_finite() else { continue };
                let first = NonFinite { feature: (*name).to_owned(), values: 0, episode, frame };
                found.get_or_insert(first).values += values;
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// The statistics that the set states (not computed here); quantiles only where it has them.
    ///
    /// # Errors
    /// When it states none, or they cannot be read.
    pub fn stats(&self) -> Result<BTreeMap<String, FeatureStats>, DatasetError> {
        stats::read(&self.root)
    }

    fn find(&self, names: &[&str]) -> Result<Vec<&FeatureInfo>, DatasetError> {
        let find = |name: &&str| {
            let feature =
                self.info.features.iter().find(|feature| feature.name == *name).ok_or_else(|| {
                    let names: Vec<_> = self.info.features.iter().map(|f| f.name.as_str()).collect();
                    DatasetError::MissingFeature { feature: (*name).to_owned(), present: names.join(", ") }
                })?;
            if feature.is_numeric() {
                return Ok(feature);
            }
            Err(DatasetError::NotNumbers { feature: feature.name.clone(), dtype: feature.dtype.clone() })
        };
        names.iter().map(find).collect()
    }

    /// Reads `rows` of a file, which are those of `episodes` one after another, as `[episode][feature]`, each
    /// row-major `[T, D]`.
    fn read_rows<T: Number>(
        &self,
        file: usize,
        rows: Range<usize>,
        episodes: Range<usize>,
        features: &[&FeatureInfo],
    ) -> Result<Vec<Vec<Vec<T>>>, DatasetError> {
        let DataFile { path, opened } = &self.files[file];
        let lengths: Vec<usize> = self.episodes[episodes.clone()].iter().map(|e| e.rows.len()).collect();
        let fresh;
        let file = match opened {
            Some(file) => file,
            None => {
                fresh = ParquetFile::open(path)?;
                if fresh.row_count() != rows.len() {
                    let problem = format!(
                        "the file holds {} frames, but meta/episodes.jsonl says {}; fetch both again",
                        fresh.row_count(),
                        rows.len()
                    );
                    return Err(DatasetError::Episode {
                        path: path.clone(),
                        episode: episodes.start,
                        problem,
                    });
                }
                &fresh
            }
        };
        let starts: Vec<usize> = lengths
            .iter()
            .scan(0, |next, length| {
                *next += length;
                Some(*next - length)
            })
            .collect();
        // Which episode and frame a row of these belongs to.
        let place = |row: usize| {
            let nth = starts.partition_point(|start| *start <= row) - 1;
            (episodes.start + nth, row - starts[nth])
        };
        let values_error = |name: &str, row: usize, problem: &str| {
            let (episode, frame) = place(row);
            let problem = format!("frame {frame} {problem}");
            DatasetError::Values { path: path.clone(), episode, column: name.to_owned(), problem }
        };

        const EPISODE: &str = "episode_index";
        let checked = file.has_column(EPISODE);
        let mut names: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
        if checked {
            names.push(EPISODE);
        }
        names.sort_unstable();
        names.dedup();
        // Not reserved by what info.json claims: its shapes are checked against the columns first.
        let mut columns: Vec<Vec<T>> = vec![Vec::new(); features.len()];
        let mut row = 0;
        for batch in file.read(&names, rows)? {
            if checked {
                let numbers = columns::integers(column(&batch, EPISODE))
                    .map_err(|Problem { row: at, text }| values_error(EPISODE, row + at, &text))?;
                let wrong =
                    numbers.iter().enumerate().find(|(at, number)| **number != place(row + at).0 as i64);
                if let Some((at, number)) = wrong {
                    let problem = format!("says {number}: meta/ and data/ disagree on where episodes lie");
                    return Err(values_error(EPISODE, row + at, &problem));
                }
            }
            for (feature, values) in features.iter().zip(&mut columns) {
                columns::append(column(&batch, &feature.name), feature.dim(), values)
                    .map_err(|Problem { row: at, text }| values_error(&feature.name, row + at, &text))?;
            }
            row += batch.num_rows();
        }

        let cut = starts.into_iter().zip(lengths).map(|(start, rows)| {
            let tables = features.iter().zip(&columns).map(|(feature, values)| {
                let dim = feature.dim();
                values[start * dim..(start + rows) * dim].to_vec()
            });
            tables.collect()
        });
        Ok(cut.collect())
    }
}
