//! Every verb that needs a policy, a simulation or a data set: all but those of a robot's own computer.

mod alarm;
mod animation;
mod bench;
mod calibrate;
mod checkpoint;
mod compare;
mod contact_sheet;
mod dataset;
#[cfg(feature = "zenoh")]
mod demo;
mod demonstrate;
mod eval;
mod eval_folder;
mod eval_report;
mod eval_sweep;
mod export;
mod import;
#[cfg(feature = "zenoh")]
mod incident;
mod plot;
mod record;
mod record_report;
mod replay;
#[cfg(feature = "zenoh")]
mod replay_incident;
mod replay_view;
#[cfg(feature = "zenoh")]
mod robot;
mod seam;
#[cfg(feature = "zenoh")]
mod serve;
#[cfg(feature = "zenoh")]
mod serve_log;
mod shard;
mod task;
#[cfg(all(unix, feature = "zenoh"))]
mod teleop;
mod train;
mod write_behind;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum Verb {
    #[cfg(feature = "zenoh")]
    Demo(demo::Demo),
    Train(train::Train),
    Eval(eval::Eval),
    Calibrate(calibrate::Calibrate),
    Compare(compare::Compare),
    Bench(bench::Bench),
    #[cfg(feature = "zenoh")]
    Serve(serve::Serve),
    #[cfg(feature = "zenoh")]
    Robot(robot::Robot),
    Dataset(dataset::DatasetVerb),
    Record(record::Record),
    #[cfg(all(unix, feature = "zenoh"))]
    Teleop(teleop::Teleop),
    Replay(replay::Replay),
    Import(import::Import),
    Export(export::Export),
}

impl Verb {
    pub fn run(self) -> Result<ExitCode> {
        match self {
            #[cfg(feature = "zenoh")]
            Self::Demo(command) => command.run(),
            Self::Train(command) => command.run(),
            Self::Eval(command) => command.run(),
            Self::Calibrate(command) => command.run(),
            Self::Compare(command) => command.run(),
            Self::Bench(command) => command.run(),
            #[cfg(feature = "zenoh")]
            Self::Serve(command) => command.run(),
            #[cfg(feature = "zenoh")]
            Self::Robot(command) => command.run(),
            Self::Dataset(command) => command.run(),
            Self::Record(command) => command.run(),
            #[cfg(all(unix, feature = "zenoh"))]
            Self::Teleop(command) => command.run(),
            Self::Replay(command) => command.run(),
            Self::Import(command) => command.run(),
            Self::Export(command) => command.run(),
        }
    }
}
