//! What can go wrong with a configuration, a data set or a checkpoint.

use std::path::PathBuf;

use nudge_dataset::DatasetError;

/// Why training or loading stopped.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFailure {
    #[error("the configuration does not hold together: {0}")]
    Config(String),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("the data set does not fit the configuration: {0}")]
    Data(String),
    #[error("checkpoint {path}: {problem}")]
    Checkpoint { path: PathBuf, problem: String },
    #[error("cannot import {path}: {problem}")]
    Import { path: PathBuf, problem: String },
    #[error("cannot export to {path}: {problem}")]
    Export { path: PathBuf, problem: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the device cannot be used: {0}")]
    Device(String),
    #[error("training failed at step {step}: {problem}")]
    Training { step: u64, problem: String },
}

impl PolicyFailure {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn checkpoint(path: impl Into<PathBuf>, problem: impl ToString) -> Self {
        Self::Checkpoint { path: path.into(), problem: problem.to_string() }
    }
}
