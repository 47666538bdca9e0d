//! `nudge bench`: how fast this machine plans, trains, simulates, reads, ticks and starts.

mod data;
mod large;
mod machine;
mod network;
mod plan;
mod scratch;
mod sim;
mod start;
mod synthetic;
mod tick;
mod times;
mod torch;
mod train;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};

/// Measure speed on this machine, beside what it could do at best
///
/// Each kind of work is warmed up, then timed again and again; median and tail are told. Plans are held against the least
/// time that reading the weights and multiplying with them can take here, which is measured too. Close other
/// programs before you trust a figure.
#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    work: Work,
}

#[derive(Subcommand)]
enum Work {
    Plan(plan::Plan),
    Train(train::Train),
    Sim(sim::Sim),
    Data(data::Data),
    Tick(tick::Tick),
    Start(start::Start),
}

impl Bench {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        match self.work {
            Work::Plan(work) => work.run(started),
            Work::Train(work) => work.run(started),
            Work::Sim(work) => work.run(),
            Work::Data(work) => work.run(),
            Work::Tick(work) => work.run(),
            Work::Start(work) => work.run(started),
        }
    }
}
