//! `nudge dataset`: what is in a recorded data set, and how to make others of it.

mod check;
mod convert;
mod edits;
mod filter;
mod info;
mod merge;
mod sketch;
mod split;
mod stats;
#[cfg(feature = "rerun")]
mod view;
mod wire_log;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub use info::Lengths;
#[cfg(feature = "zenoh")]
pub use wire_log::is_mcap;

/// Look into recorded data sets, convert, mend, divide and merge them
#[derive(Args)]
pub struct DatasetVerb {
    #[command(subcommand)]
    command: DatasetCommand,
}

#[derive(Subcommand)]
enum DatasetCommand {
    Info(info::Info),
    Check(check::Check),
    Stats(stats::Stats),
    Convert(convert::Convert),
    Filter(filter::Filter),
    Split(split::Split),
    Merge(merge::Merge),
    #[cfg(feature = "rerun")]
    View(view::View),
}

impl DatasetVerb {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            DatasetCommand::Info(verb) => verb.run(),
            DatasetCommand::Check(verb) => verb.run(),
            DatasetCommand::Stats(verb) => verb.run(),
            DatasetCommand::Convert(verb) => verb.run(),
            DatasetCommand::Filter(verb) => verb.run(),
            DatasetCommand::Split(verb) => verb.run(),
            DatasetCommand::Merge(verb) => verb.run(),
            #[cfg(feature = "rerun")]
            DatasetCommand::View(verb) => verb.run(),
        }
    }
}
