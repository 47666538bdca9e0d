//! Demonstrations on disk: LeRobot (v3.0, v2.1, v2.0), diffusion_policy's zarr and robomimic's HDF5 in, LeRobot v3.0 out;
//! shards and their merging, training windows, statistics.
//!
//! This crate must never know tensors, physics or the network.
//!
//! Dimension letters: `T` frames of an episode, `D` numbers of a feature, `To`, `Tp`, `Ta` as in `nudge-control`.

mod append;
mod chunked;
mod column;
mod columns;
mod compact;
mod doctor;
mod edit;
mod episode_appender;
mod episode_writer;
mod episodes;
mod error;
mod format;
mod frames;
mod hdf5_array;
mod index;
mod info;
mod journal;
mod lerobot;
pub mod mcap;
mod merge;
mod parquet_file;
mod raw;
mod read;
mod recorder;
mod replay_buffer;
mod robomimic;
mod runs;
mod shard;
mod source;
mod staging;
mod stats;
mod summary;
mod sums;
mod table;
mod tail;
mod template;
mod windows;
mod write;
mod write_meta;
mod zarr_array;

pub use append::DatasetAppender;
pub use column::Column;
pub use doctor::{Diagnosis, ExamineOptions, Fault, Finding, Severity, examine, examine_with};
pub use edit::{Conversion, Converted, Division, Edit, LeftOut, Mapped, Numbers, Selection, convert, split};
pub use episode_appender::EpisodeAppender;
pub use episode_writer::{EpisodeWriter, Recording, write_episodes};
pub use episodes::{EpisodeNote, RecordingNote, read_recorded, recording_note};
pub use error::DatasetError;
pub use format::Format;
pub use info::{DatasetInfo, FeatureInfo, Split};
pub use merge::{Merged, merge};
pub use read::Dataset;
pub use recorder::{Recorder, Request, unfinished};
pub use runs::runs;
pub use shard::{Recorded, ShardNote, shard_folder, shard_note};
pub use stats::FeatureStats;
pub use summary::{Disagreement, FeatureSummary, disagreements, summarise, write_stats};
pub use sums::write_sums;
pub use table::Table;
pub use windows::{Windows, gather};
pub use write::{DatasetWriter, WriteSpec};
