//! `nudge dataset`: what is in a recorded data set, and several as one.

mod check;
mod info;
mod merge;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub use info::Lengths;

/// Look into recorded data sets, and merge them
#[derive(Args)]
pub struct DatasetVerb {
    #[command(subcommand)]
    command: DatasetCommand,
}

#[derive(Subcommand)]
enum DatasetCommand {
    Info(info::Info),
    Check(check::Check),
    Merge(merge::Merge),
}

impl DatasetVerb {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            DatasetCommand::Info(verb) => verb.run(),
            DatasetCommand::Check(verb) => verb.run(),
            DatasetCommand::Merge(verb) => verb.run(),
        }
    }
}
