//! The `nudge` program: it wires the rooms, prints, and exits.

mod animation;
mod bench;
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
mod export;
mod import;
mod output;
mod plot;
mod record;
mod record_report;
mod replay;
mod replay_view;
#[cfg(feature = "zenoh")]
mod robot;
mod seam;
#[cfg(feature = "zenoh")]
mod serve;
mod shard;
mod task;
#[cfg(all(unix, feature = "zenoh"))]
mod teleop;
mod train;

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
    #[cfg(feature = "zenoh")]
    Demo(demo::Demo),
    Train(train::Train),
    Eval(eval::Eval),
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        #[cfg(feature = "zenoh")]
        Command::Demo(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Bench(command) => command.run(),
        #[cfg(feature = "zenoh")]
        Command::Serve(command) => command.run(),
        #[cfg(feature = "zenoh")]
        Command::Robot(command) => command.run(),
        Command::Dataset(command) => command.run(),
        Command::Record(command) => command.run(),
        #[cfg(all(unix, feature = "zenoh"))]
        Command::Teleop(command) => command.run(),
        Command::Replay(command) => command.run(),
        Command::Import(command) => command.run(),
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
