//! The `nudge` program: it wires the rooms, prints, and exits.
//!
//! Without the feature `policy` it only guards: what a robot's own computer needs.

#![cfg_attr(not(feature = "policy"), allow(dead_code, reason = "what the other verbs print with"))]

#[cfg(feature = "zenoh")]
mod guard;
#[cfg(feature = "zenoh")]
mod interrupt;
mod output;
#[cfg(feature = "policy")]
mod verbs;

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
    #[cfg(feature = "policy")]
    #[command(flatten)]
    Verb(verbs::Verb),
    #[cfg(feature = "zenoh")]
    Guard(guard::GuardVerb),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        #[cfg(feature = "policy")]
        Command::Verb(verb) => verb.run(),
        #[cfg(feature = "zenoh")]
        Command::Guard(command) => command.run(),
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
