//! A data set, opened: any episode without reading the others.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::columns::Number;
use crate::error::Damage;
use crate::lerobot::LeRobot;
use crate::source::Source;
use crate::{DatasetError, DatasetInfo, FeatureInfo, FeatureStats, Format, Table, runs};

/// Recorded demonstrations in any [`Format`]. Opening reads the metadata alone.
pub struct Dataset {
    root: PathBuf,
    info: DatasetInfo,
    source: Source,
    /// Frames of each episode.
    lengths: Vec<usize>,
}

impl Dataset {
    /// Opens the set at `path`: a LeRobot folder (the one that holds `meta/` and `data/`), a zarr folder, or an HDF5 file.
    ///
    /// # Errors
    /// When it is no set of a format that is read, or its metadata contradict themselves or the files.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        let (source, info) = Source::open(path, &mut Damage::Refused)?;
        let lengths = source.lengths();
        Ok(Self { root: path.to_owned(), info, source, lengths })
    }

    /// Opens a set whose metadata disagree with its files, or some of whose files are damaged: takes the episodes of which
    /// every number can be read, numbers them anew, and says in words what was left out and why. Reads the whole set.
    ///
    /// # Errors
    /// When not even the kind and the features of the set can be read, or no episode is whole.
    pub fn salvage(path: &Path) -> Result<(Self, Vec<String>), DatasetError> {
        let mut damage = Damage::LeftOut(Vec::new());
        let (mut source, info) = Source::open(path, &mut damage)?;
        let numeric: Vec<&FeatureInfo> =
            info.features.iter().filter(|feature| feature.is_numeric()).collect();
        let mut kept = Vec::new();
        for run in runs(source.lengths().into_iter().enumerate(), RUN_FRAMES) {
            whole_episodes(&source, run, &numeric, &mut damage, &mut kept)?;
        }
        let left_out = if let Damage::LeftOut(words) = damage { words } else { Vec::new() };
        if kept.is_empty() {
            let problem = format!("no episode of it is whole: {}", left_out.join("; "));
            return Err(DatasetError::NotADataset { path: path.to_owned(), problem });
        }
        source.keep(&kept);
        let lengths = source.lengths();
        let splits = info.splits.into_iter().map(|split| split.renumbered(&kept)).collect();
        let info = DatasetInfo { episodes: lengths.len(), frames: lengths.iter().sum(), splits, ..info };
        Ok((Self { root: path.to_owned(), info, source, lengths }, left_out))
    }

    pub fn info(&self) -> &DatasetInfo {
        &self.info
    }

    pub fn format(&self) -> Format {
        self.info.format
    }

    /// The set as LeRobot's; `None` when it is of another format.
    pub(crate) fn lerobot(&self) -> Option<&LeRobot> {
        match &self.source {
            Source::LeRobot(set) => Some(set),
            Source::ReplayBuffer(_) | Source::Robomimic(_) => None,
        }
    }

    /// The folder or file that it was opened from.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn episode_count(&self) -> usize {
        self.lengths.len()
    }

    pub fn frame_count(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Frames of an episode; `None` when there is no such episode.
    pub fn episode_length(&self, episode: usize) -> Option<usize> {
        self.lengths.get(episode).copied()
    }

    /// Whether the set is being recorded, or its recording was cut off: it holds the episodes that were finished.
    pub fn is_recording(&self) -> bool {
        self.lerobot().is_some_and(LeRobot::is_recording)
    }

    /// Some of the episodes as [`runs`](crate::runs).
    pub(crate) fn runs(
        &self,
        episodes: impl IntoIterator<Item = usize>,
        most_frames: usize,
    ) -> Vec<Range<usize>> {
        let length = |episode| (episode, self.episode_length(episode).unwrap_or(0));
        runs(episodes.into_iter().map(length), most_frames)
    }

    /// Whether there is a feature of this name, of numbers or not.
    pub fn has(&self, feature: &str) -> bool {
        self.info.features.iter().any(|known| known.name == feature)
    }

    /// One `[T, D]` table for each of `features`. Reads no more of the files than the row groups or chunks that hold the
    /// episode.
    ///
    /// Values of any numeric type become f32; whole numbers above 2^24 are rounded. NaN is data.
    ///
    /// # Errors
    /// When there is no such episode or feature, or the file does not hold what the metadata say.
    pub fn read_episode(&self, episode: usize, features: &[&str]) -> Result<Vec<Table>, DatasetError> {
        if episode >= self.lengths.len() {
            return Err(self.no_episode(episode));
        }
        let read = self.read_episodes(episode..episode + 1, features)?;
        Ok(read.into_iter().flatten().collect())
    }

    /// The same for many episodes, indexed `[episode - first][feature]`; what a file holds of them is read once.
    ///
    /// # Errors
    /// As [`Dataset::read_episode`].
    pub fn read_episodes(
        &self,
        episodes: Range<usize>,
        features: &[&str],
    ) -> Result<Vec<Vec<Table>>, DatasetError> {
        let features = self.find(features)?;
        let lengths =
            self.lengths.get(episodes.clone()).ok_or_else(|| self.no_episode(episodes.end.max(1) - 1))?;
        let numbers = self.source.read(episodes, &features)?;
        let tables = numbers.into_iter().zip(lengths).map(|(numbers, rows)| {
            let tables = numbers.into_iter().zip(&features);
            tables.map(|(values, feature)| Table { rows: *rows, dim: feature.dim(), values }).collect()
        });
        Ok(tables.collect())
    }

    /// The same for all episodes, indexed `[episode][feature]`.
    ///
    /// # Errors
    /// As [`Dataset::read_episode`].
    pub fn read_all(&self, features: &[&str]) -> Result<Vec<Vec<Table>>, DatasetError> {
        self.read_episodes(0..self.lengths.len(), features)
    }

    /// The row-major `[T, D]` numbers of features of many episodes, indexed `[episode - first][feature]`, in another type than
    /// [`Table`] has.
    ///
    /// # Errors
    /// As [`Dataset::read_episode`].
    pub(crate) fn read_numbers<T: Number>(
        &self,
        episodes: Range<usize>,
        features: &[&str],
    ) -> Result<Vec<Vec<Vec<T>>>, DatasetError> {
        let features = self.find(features)?;
        if episodes.end > self.lengths.len() {
            return Err(self.no_episode(episodes.end - 1));
        }
        self.source.read(episodes, &features)
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
        if episode >= self.lengths.len() {
            return Err(self.no_episode(episode));
        }
        Ok(self.source.read(episode..episode + 1, &features)?.into_iter().flatten().flatten().collect())
    }

    /// The statistics that the set states (not computed here); quantiles only where it has them.
    ///
    /// # Errors
    /// When it states none, or they cannot be read.
    pub fn stats(&self) -> Result<BTreeMap<String, FeatureStats>, DatasetError> {
        self.source.stats(&self.root)
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

    fn no_episode(&self, episode: usize) -> DatasetError {
        DatasetError::NoEpisode { episode, count: self.lengths.len() }
    }
}

/// Frames that are read at once where a set is read through: enough to be fast, little enough for any memory.
const RUN_FRAMES: usize = 1 << 16;

/// Adds to `whole` those of `episodes` that can be read. Halves what cannot until the damage is found.
fn whole_episodes(
    source: &Source,
    episodes: Range<usize>,
    features: &[&FeatureInfo],
    damage: &mut Damage,
    whole: &mut Vec<usize>,
) -> Result<(), DatasetError> {
    match source.read::<f32>(episodes.clone(), features) {
        Ok(_) => whole.extend(episodes),
        Err(error) if episodes.len() <= 1 => damage.pass(Err(error))?.unwrap_or_default(),
        Err(_) => {
            let middle = episodes.start + episodes.len() / 2;
            whole_episodes(source, episodes.start..middle, features, damage, whole)?;
            whole_episodes(source, middle..episodes.end, features, damage, whole)?;
        }
    }
    Ok(())
}
