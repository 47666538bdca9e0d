//! The `nudge` program: it wires the rooms, prints, and exits.

mod checkpoint;
mod eval;
mod output;
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
    Train(train::Train),
    Eval(eval::Eval),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Train(command) => command.run(),
        Command::Eval(command) => command.run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
