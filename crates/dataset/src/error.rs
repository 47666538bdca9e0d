//! What can go wrong with a data set, where, and what to do about it.

use std::fmt::Display;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

/// Why a data set could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not a data set: {problem}", path.display())]
    NotADataset { path: PathBuf, problem: String },
    #[error("{}: {problem}", path.display())]
    Metadata { path: PathBuf, problem: String },
    #[error("{} cannot be read as parquet and is probably cut short or damaged; copy it again ({source})", path.display())]
    Parquet { path: PathBuf, source: ParquetError },
    #[error("{}: {problem}; the chunk is lost or damaged: fetch the set again", path.display())]
    Chunk { path: PathBuf, problem: String },
    #[error("{}, `{place}`: {problem}", path.display())]
    Hdf5 { path: PathBuf, place: String, problem: String },
    #[error("{} has no column `{column}`; its columns are {present}", path.display())]
    MissingColumn { path: PathBuf, column: String, present: String },
    #[error("the data set has no feature `{feature}`; its features are {present}")]
    MissingFeature { feature: String, present: String },
    #[error("feature `{feature}` holds {dtype}s; only vectors and scalars can be read as numbers")]
    NotNumbers { feature: String, dtype: String },
    #[error("there is no episode {episode}; the data set holds {count}, numbered from 0")]
    NoEpisode { episode: usize, count: usize },
    #[error("{}, episode {episode}: {problem}", path.display())]
    Episode { path: PathBuf, episode: usize, problem: String },
    #[error("{}, episode {episode}, column `{column}`: {problem}", path.display())]
    Values { path: PathBuf, episode: usize, column: String, problem: String },
    #[error("{} exists already; choose another folder or remove it first", path.display())]
    Exists { path: PathBuf },
    #[error("{} cannot be merged with {}: {problem}", path.display(), other.display())]
    Unlike { path: PathBuf, other: PathBuf, problem: String },
    #[error("{}: of {shards} parts, these are missing: {missing}. To record them:\n  {commands}", path.display())]
    MissingShards { path: PathBuf, shards: u64, missing: String, commands: String },
    #[error(
        "{} is not what {} lists: it was damaged, or changed after the set was written. Copy it again; if it was \
         changed on purpose, remove the list, and the set is read unchecked",
        path.display(), list.display()
    )]
    Changed { path: PathBuf, list: PathBuf },
    #[error("another program records into {}: wait until it has ended, or choose another folder", path.display())]
    Busy { path: PathBuf },
    #[error("{problem}")]
    Request { problem: String },
    #[error("cannot write episode {episode}: {problem}")]
    Unwritable { episode: usize, problem: String },
}

impl DatasetError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn parquet(path: &Path) -> impl FnOnce(ParquetError) -> Self + '_ {
        |source| Self::Parquet { path: path.to_owned(), source }
    }

    /// What came of writing a parquet file; a full disk is told as such.
    pub(crate) fn unwritten(path: &Path) -> impl FnOnce(ParquetError) -> Self + '_ {
        |error| {
            let problem = match error {
                ParquetError::External(source) => source.to_string(),
                other => other.to_string(),
            };
            Self::Io {
                path: path.to_owned(),
                source: io::Error::other(format!("cannot be written: {problem}")),
            }
        }
    }

    /// What was asked for cannot be done.
    pub(crate) fn request(problem: impl Into<String>) -> Self {
        Self::Request { problem: problem.into() }
    }

    pub(crate) fn metadata(path: &Path, problem: impl Into<String>) -> Self {
        Self::Metadata { path: path.to_owned(), problem: problem.into() }
    }
}

/// Runs a decoder of others on bytes that may be damaged; should it panic on them, that is an error too.
pub(crate) fn guarded<T, E: Display>(run: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the decoder met bytes that no sound file holds".into()),
    }
}

/// What to do about an episode that cannot be read.
pub(crate) enum Damage {
    /// Refuse the whole set.
    Refused,
    /// Leave it out; this is what was left out, in words.
    LeftOut(Vec<String>),
}

impl Damage {
    /// Lets through what was found, or `None` where it is damaged and left out.
    ///
    /// # Errors
    /// The damage, where it is refused.
    pub(crate) fn pass<T>(&mut self, found: Result<T, DatasetError>) -> Result<Option<T>, DatasetError> {
        match (found, self) {
            (Ok(found), _) => Ok(Some(found)),
            (Err(error), Self::Refused) => Err(error),
            (Err(error), Self::LeftOut(words)) => {
                // What else could be done about it is no matter now.
                let text = error.to_string();
                words.push(text.split("; fetch ").next().unwrap_or_default().to_owned());
                Ok(None)
            }
        }
    }
}

/// How to get at what is whole in a set that is refused.
pub(crate) fn way_out(set: &Path) -> String {
    format!(
        "keep the episodes that are whole with `nudge dataset convert {} --out DIR --salvage`",
        set.display()
    )
}
