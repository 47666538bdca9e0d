//! Demonstrations on disk: the LeRobot layouts in (v3.0, v2.1, v2.0) and out (v3.0), training windows, statistics.
//!
//! This crate must never know tensors, physics or the network.
//!
//! Dimension letters: `T` frames of an episode, `D` numbers of a feature, `To`, `Tp`, `Ta` as in `nudge-control`.

mod columns;
mod episodes;
mod error;
mod index;
mod info;
mod parquet_file;
mod read;
mod staging;
mod stats;
mod table;
mod template;
mod windows;
mod write;
mod write_meta;

pub use episodes::{EpisodeNote, Recording, RecordingNote, read_recorded, recording_note, write_episodes};
pub use error::DatasetError;
pub use info::{DatasetInfo, FeatureInfo};
pub use read::{Dataset, NonFinite};
pub use stats::FeatureStats;
pub use table::Table;
pub use windows::{Windows, gather};
pub use write::{Column, DatasetWriter, WriteSpec};
