//! One door for every format: what a path holds, and its numbers.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::columns::Number;
use crate::error::Damage;
use crate::lerobot::LeRobot;
use crate::replay_buffer::ReplayBuffer;
use crate::robomimic::Robomimic;
use crate::{DatasetError, DatasetInfo, FeatureInfo, FeatureStats, stats, sums};

/// Numbers of many episodes, `[episode][feature]`, each row-major `[T, D]`.
pub(crate) type Numbers<T> = Vec<Vec<Vec<T>>>;

/// An opened set. Each format is one file of this crate.
pub(crate) enum Source {
    LeRobot(LeRobot),
    ReplayBuffer(ReplayBuffer),
    Robomimic(Robomimic),
}

impl Source {
    /// Opens whatever lies at `path`, by what it looks like.
    pub(crate) fn open(path: &Path, damage: &mut Damage) -> Result<(Self, DatasetInfo), DatasetError> {
        Ok(match kind_of(path)? {
            Kind::LeRobot => LeRobot::open(path, damage).map(|(set, info)| (Self::LeRobot(set), info))?,
            Kind::ReplayBuffer => {
                ReplayBuffer::open(path, damage).map(|(set, info)| (Self::ReplayBuffer(set), info))?
            }
            Kind::Robomimic => {
                Robomimic::open(path, damage).map(|(set, info)| (Self::Robomimic(set), info))?
            }
        })
    }

    /// Frames of each episode.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        match self {
            Self::LeRobot(set) => set.lengths(),
            Self::ReplayBuffer(set) => set.lengths(),
            Self::Robomimic(set) => set.lengths(),
        }
    }

    /// Keeps these episodes alone, which exist, and numbers them anew.
    pub(crate) fn keep(&mut self, episodes: &[usize]) {
        match self {
            Self::LeRobot(set) => set.keep(episodes),
            Self::ReplayBuffer(set) => set.keep(episodes),
            Self::Robomimic(set) => set.keep(episodes),
        }
    }

    /// Reads `features` of `episodes`, which exist; each file is read once.
    pub(crate) fn read<T: Number>(
        &self,
        episodes: Range<usize>,
        features: &[&FeatureInfo],
    ) -> Result<Numbers<T>, DatasetError> {
        match self {
            Self::LeRobot(set) => set.read(episodes, features),
            Self::ReplayBuffer(set) => set.read(episodes, features),
            Self::Robomimic(set) => set.read(episodes, features),
        }
    }

    /// The statistics that the set at `path` states.
    pub(crate) fn stats(&self, path: &Path) -> Result<BTreeMap<String, FeatureStats>, DatasetError> {
        match self {
            Self::LeRobot(_) => stats::read(path),
            Self::ReplayBuffer(_) | Self::Robomimic(_) => {
                let problem =
                    "sets of this format state no statistics; `nudge dataset stats SET` computes them";
                Err(DatasetError::metadata(path, problem))
            }
        }
    }
}

enum Kind {
    LeRobot,
    ReplayBuffer,
    Robomimic,
}

/// What lies at `path`, by its outside.
fn kind_of(path: &Path) -> Result<Kind, DatasetError> {
    let not_a_set = |problem: String| DatasetError::NotADataset { path: path.to_owned(), problem };
    if path.join("meta/info.json").is_file() {
        Ok(Kind::LeRobot)
    } else if path.is_dir() && ReplayBuffer::is_at(path) {
        Ok(Kind::ReplayBuffer)
    } else if path.join(sums::MARKER).is_file() {
        let problem = "a recording into it was cut off, or is going on, before its first episode: record into it again, or \
                       remove it";
        Err(not_a_set(problem.into()))
    } else if path.is_dir() {
        Err(not_a_set(match set_below(path, 3) {
            Some(inner) => format!("it has no meta/info.json, but one within it has: point at {}", inner.display()),
            None => "it has no meta/info.json (LeRobot; point at the folder that holds meta/ and data/) and is no zarr \
                     store of diffusion_policy (`data/` and `meta/episode_ends`)"
                .into(),
        }))
    } else if path.is_file() && Robomimic::is_at(path) {
        Ok(Kind::Robomimic)
    } else if path.extension().is_some_and(|extension| extension == "zip") {
        Err(not_a_set("it is packed; unpack it first: `unzip FILE.zip -d FOLDER`".into()))
    } else if path.exists() {
        Err(not_a_set("it is a file, but not HDF5; folders of LeRobot and zarr are read too".into()))
    } else {
        Err(not_a_set("there is no such folder or file".into()))
    }
}

/// A LeRobot set in a folder within `path`, at most so deep.
fn set_below(path: &Path, depth: usize) -> Option<PathBuf> {
    let depth = depth.checked_sub(1)?;
    let entries = fs::read_dir(path).ok()?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.into_iter().find_map(|folder| match folder.join("meta/info.json").is_file() {
        true => Some(folder),
        false => set_below(&folder, depth),
    })
}
