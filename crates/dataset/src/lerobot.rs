//! The LeRobot layouts (v3.0, v2.1, v2.0): frames in parquet files.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::columns::{self, Number, Problem};
use crate::error::Damage;
use crate::index::{self, DataFile, Location};
use crate::parquet_file::{ParquetFile, column};
use crate::source::Numbers;
use crate::sums::Sums;
use crate::{DatasetError, DatasetInfo, FeatureInfo, info};

/// A LeRobot data set. Opening reads the metadata alone.
pub(crate) struct LeRobot {
    files: Vec<DataFile>,
    episodes: Vec<Location>,
    sums: Option<Sums>,
}

impl LeRobot {
    /// Opens the set in `dir`, the folder that holds `meta/` and `data/`.
    pub(crate) fn open(dir: &Path, damage: &mut Damage) -> Result<(Self, DatasetInfo), DatasetError> {
        let sums = damage.pass(Sums::read(dir))?.flatten();
        for checked in sums.iter().flat_map(Sums::metadata) {
            damage.pass(checked)?;
        }
        let info = info::read(dir)?;
        let recorded = sums.as_ref().is_some_and(Sums::recording);
        let index = index::read(dir, &info, recorded, damage)?;
        let info = DatasetInfo { tasks: index.tasks, ..info.public };
        Ok((Self { files: index.files, episodes: index.episodes, sums }, info))
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.sums.as_ref().is_some_and(Sums::recording)
    }

    /// The files that hold its episodes.
    pub(crate) fn data_files(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// # Errors
    /// When a file is not what the set's list of checksums says.
    pub(crate) fn check_sum(&self, path: &Path) -> Result<(), DatasetError> {
        self.sums.iter().try_for_each(|sums| sums.check(path))
    }

    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.episodes.iter().map(|location| location.rows.len()).collect()
    }

    /// Keeps these episodes alone.
    pub(crate) fn keep(&mut self, episodes: &[usize]) {
        self.episodes = episodes.iter().map(|episode| self.episodes[*episode].clone()).collect();
    }

    /// Each run of episodes that lie one after another in a file is read at once.
    pub(crate) fn read<T: Number>(
        &self,
        episodes: Range<usize>,
        features: &[&FeatureInfo],
    ) -> Result<Numbers<T>, DatasetError> {
        let mut numbers = Vec::with_capacity(episodes.len());
        let mut first = episodes.start;
        let following =
            |one: &Location, next: &Location| one.file == next.file && one.rows.end == next.rows.start;
        for run in self.episodes[episodes].chunk_by(following) {
            let rows = run[0].rows.start..run[run.len() - 1].rows.end;
            numbers.extend(self.read_rows(run[0].file, rows, first..first + run.len(), features)?);
            first += run.len();
        }
        Ok(numbers)
    }

    /// Reads `rows` of a file, which are those of `episodes` one after another, as `[episode][feature]`, each
    /// row-major `[T, D]`.
    fn read_rows<T: Number>(
        &self,
        file: usize,
        rows: Range<usize>,
        episodes: Range<usize>,
        features: &[&FeatureInfo],
    ) -> Result<Numbers<T>, DatasetError> {
        let DataFile { path, opened } = &self.files[file];
        self.check_sum(path)?;
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
        let own_number = |row: usize| self.episodes[place(row).0].number as i64;
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
                let wrong = numbers.iter().enumerate().find(|(at, number)| **number != own_number(row + at));
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
