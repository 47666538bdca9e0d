//! The `nudge` program: it wires the rooms, prints, and exits.
//!
//! Without the feature `policy` it only guards: what a robot's own computer needs.

#![cfg_attr(not(feature = "policy"), allow(dead_code, reason = "what the other verbs print with"))]

#[cfg(feature = "policy")]
mod alarm;
#[cfg(feature = "policy")]
mod animation;
#[cfg(feature = "policy")]
mod bench;
#[cfg(feature = "policy")]
mod calibrate;
#[cfg(feature = "policy")]
mod checkpoint;
#[cfg(feature = "policy")]
mod compare;
#[cfg(feature = "policy")]
mod contact_sheet;
#[cfg(feature = "policy")]
mod dataset;
#[cfg(all(feature = "policy", feature = "zenoh"))]
mod demo;
#[cfg(feature = "policy")]
mod demonstrate;
#[cfg(feature = "policy")]
mod eval;
#[cfg(feature = "policy")]
mod eval_folder;
#[cfg(feature = "policy")]
mod eval_report;
#[cfg(feature = "policy")]
mod eval_sweep;
#[cfg(feature = "policy")]
mod export;
#[cfg(feature = "zenoh")]
mod guard;
#[cfg(feature = "policy")]
mod import;
#[cfg(all(feature = "policy", feature = "zenoh"))]
mod incident;
#[cfg(feature = "zenoh")]
mod interrupt;
mod output;
#[cfg(feature = "policy")]
mod plot;
#[cfg(feature = "policy")]
mod record;
#[cfg(feature = "policy")]
mod record_report;
#[cfg(feature = "policy")]
mod replay;
#[cfg(all(feature = "policy", feature = "zenoh"))]
mod replay_incident;
#[cfg(feature = "policy")]
mod replay_view;
#[cfg(all(feature = "policy", feature = "zenoh"))]
mod robot;
#[cfg(feature = "policy")]
mod seam;
#[cfg(all(feature = "policy", feature = "zenoh"))]
mod serve;
#[cfg(all(feature = "policy", feature = "zenoh"))]
mod serve_log;
#[cfg(feature = "policy")]
mod shard;
#[cfg(feature = "policy")]
mod task;
#[cfg(all(unix, feature = "policy", feature = "zenoh"))]
mod teleop;
#[cfg(feature = "policy")]
mod train;
#[cfg(feature = "policy")]
mod write_behind;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A diffusion-policy controller for robot manipulation: train from demonstrations, prove in simulation, drive a robot.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(all(feature = "policy", feature = "zenoh"))]
    Demo(demo::Demo),
    #[cfg(feature = "policy")]
    Train(train::Train),
    #[cfg(feature = "policy")]
    Eval(eval::Eval),
    #[cfg(feature = "policy")]
    Calibrate(calibrate::Calibrate),
    #[cfg(feature = "policy")]
    Compare(compare::Compare),
    #[cfg(feature = "policy")]
    Bench(bench::Bench),
    #[cfg(all(feature = "policy", feature = "zenoh"))]
    Serve(serve::Serve),
    #[cfg(all(feature = "policy", feature = "zenoh"))]
    Robot(robot::Robot),
    #[cfg(feature = "zenoh")]
    Guard(guard::GuardVerb),
    #[cfg(feature = "policy")]
    Dataset(dataset::DatasetVerb),
    #[cfg(feature = "policy")]
    Record(record::Record),
    #[cfg(all(unix, feature = "policy", feature = "zenoh"))]
    Teleop(teleop::Teleop),
    #[cfg(feature = "policy")]
    Replay(replay::Replay),
    #[cfg(feature = "policy")]
    Import(import::Import),
    #[cfg(feature = "policy")]
    Export(export::Export),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        #[cfg(all(feature = "policy", feature = "zenoh"))]
        Command::Demo(command) => command.run(),
        #[cfg(feature = "policy")]
        Command::Train(command) => command.run(),
        #[cfg(feature = "policy")]
        Command::Eval(command) => command.run(),
        #[cfg(feature = "policy")]
        Command::Calibrate(command) => command.run(),
        #[cfg(feature = "policy")]
        Command::Compare(command) => command.run(),
        #[cfg(feature = "policy")]
        Command::Bench(command) => command.run(),
        #[cfg(all(feature = "policy", feature = "zenoh"))]
        Command::Serve(command) => command.run(),
        #[cfg(all(feature = "policy", feature = "zenoh"))]
        Command::Robot(command) => command.run(),
        #[cfg(feature = "zenoh")]
        Command::Guard(command) => command.run(),
        #[cfg(feature = "policy")]
        Command::Dataset(command) => command.run(),
        #[cfg(feature = "policy")]
        Command::Record(command) => command.run(),
        #[cfg(all(unix, feature = "policy", feature = "zenoh"))]
        Command::Teleop(command) => command.run(),
        #[cfg(feature = "policy")]
        Command::Replay(command) => command.run(),
        #[cfg(feature = "policy")]
        Command::Import(command) => command.run(),
        #[cfg(feature = "policy")]
        Command::Export(command) => command.run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, but for those that the words before tell already.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        words if words.contains(&cause) => told,
        words => format!("{words}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("cut short").context("set/a.parquet (cut short)").context("cannot merge");
        assert_eq!(told(&error), "cannot merge: set/a.parquet (cut short)");
        assert_eq!(told(&anyhow::anyhow!("one").context("two")), "two: one");
    }
}
