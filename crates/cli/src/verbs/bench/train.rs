//! `nudge bench train`

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use nudge_policy::bench::NetworkCost;
use nudge_policy::{DeviceChoice, TrainConfig, TrainEvent, TrainPaths, train};
use serde::Serialize;

use super::network::{Size, config};
use super::plan::{device_name, seconds};
use super::scratch::Scratch;
use super::synthetic;
use super::times::{self, Times, Until};
use super::torch::{Torch, VersusArgs};
use super::{machine, torch};
use crate::output::{self, say};
use crate::verbs::checkpoint::{Device, cores};

/// Time training steps: batch, gradient, AdamW, average of the weights
///
/// This is `nudge train` itself on a data set of random numbers, from the start of the program to its last step;
/// validation and checkpoints are left out.
#[derive(Args)]
pub struct Train {
    /// Network to train
    #[arg(long, value_enum, default_value = "small")]
    network: Size,

    /// Windows in a batch
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    batch: u64,

    /// Where the network is trained
    #[arg(long, value_enum, default_value_t)]
    device: Device,

    /// Threads that share a batch on the CPU, a divisor of it [default: 1 for each core]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,

    /// Stop after so many measurements
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,

    /// Stop after so many seconds, if they come first
    #[arg(long, default_value_t = 30.0, value_name = "SECS", value_parser = seconds)]
    seconds: f64,

    #[command(flatten)]
    versus: VersusArgs,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    network: &'static str,
    parameters: usize,
    batch: usize,
    device: &'static str,
    device_name: String,
    threads: usize,
    #[serde(flatten)]
    times: Times,
    samples_per_s: f64,
    /// Since the program began.
    first_step_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    torch: Option<Torch>,
}

/// Steps that are not counted: the first ones make what the others use again.
const WARMUP: usize = 3;

impl Train {
    pub fn run(self, started: Instant) -> Result<ExitCode> {
        let batch = usize::try_from(self.batch)?;
        let config = self.config(batch)?;
        let told = self.steps(&config)?;
        let Some((first, rest)) = told.split_first().filter(|(_, rest)| rest.len() > WARMUP) else {
            bail!("no more than {} steps were made: give them more than {} s", told.len(), self.seconds);
        };
        let times = Times { warmup: 1 + WARMUP, ..Times::of(between(&rest[WARMUP - 1..])) };
        let work = torch::Work {
            verb: "train",
            device: device_name(self.device),
            batch,
            threads: config.training.shards,
            until: Until {
                count: usize::try_from(self.steps)?,
                duration: Duration::from_secs_f64(self.seconds),
            },
            median_ms: times.median_ms,
        };
        let report = Report {
            network: match self.network {
                Size::Small => "small",
                Size::Paper => "paper",
            },
            parameters: NetworkCost::of(&config).parameters,
            batch,
            device: device_name(self.device),
            device_name: machine::name(self.device),
            threads: config.training.shards,
            samples_per_s: batch as f64 / times.mean_ms * 1e3,
            times,
            first_step_ms: first.duration_since(started).as_secs_f64() * 1e3,
            torch: self.versus.run(&config, &work),
        };
        if self.json {
            output::print_json(&report)?;
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn config(&self, batch: usize) -> Result<TrainConfig> {
        let mut config = config(self.network)?;
        let threads = match (self.device, self.threads) {
            (Device::Cuda, None) => 1,
            (Device::Cpu, None) => {
                (1..=cores().min(batch)).rev().find(|n| batch.is_multiple_of(*n)).unwrap_or(1)
            }
            (_, Some(threads)) => usize::try_from(threads)?,
        };
        if !batch.is_multiple_of(threads) {
            bail!("a batch of {batch} cannot be shared evenly by {threads} threads: choose a divisor of it");
        }
        let steps = self.steps + 1 + WARMUP as u64;
        config.data.validation_share = 0.0;
        let training = &mut config.training;
        (training.steps, training.batch_size, training.shards) = (steps, batch, threads);
        (training.validate_every, training.checkpoint_every) = (steps + 1, steps + 1);
        Ok(config)
    }

    /// When each step's loss was known.
    fn steps(&self, config: &TrainConfig) -> Result<Vec<Instant>> {
        let scratch = Scratch::new("train")?;
        let data = scratch.path().join("data");
        synthetic::write(config, &data)?;
        let paths =
            TrainPaths { data: Some(&data), out: &scratch.path().join("out"), resume: false, init: None };
        let (stop, mut told) = (AtomicBool::new(false), Vec::new());
        let limit = Duration::from_secs_f64(self.seconds);
        train(config, &paths, DeviceChoice::from(self.device), &stop, &mut |event| {
            if let TrainEvent::Step { .. } = event {
                let now = Instant::now();
                told.push(now);
                // Slow steps are measured a few times all the same.
                let measuring = told.get(WARMUP).filter(|_| told.len() > WARMUP + 3);
                if measuring.is_some_and(|begun| now.duration_since(*begun) >= limit) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        })?;
        Ok(told)
    }
}

/// Milliseconds of each step from one `told` to the next. Where a device tells several at once, they share their time.
fn between(told: &[Instant]) -> Vec<f64> {
    const AT_ONCE: Duration = Duration::from_micros(50);
    let mut times = Vec::with_capacity(told.len());
    let mut since = told[0];
    let mut waiting = 0;
    for (index, now) in told.iter().enumerate().skip(1) {
        waiting += 1;
        let last = told.get(index + 1).is_none_or(|next| next.duration_since(*now) > AT_ONCE);
        if last {
            let each = now.duration_since(since).as_secs_f64() * 1e3 / f64::from(waiting);
            times.extend(std::iter::repeat_n(each, waiting as usize));
            (since, waiting) = (*now, 0);
        }
    }
    times
}

fn print(report: &Report) {
    let [median, p99, p999, least, n] = times::CELLS;
    let mut table = output::table(["training step", median, p99, p999, least, n, "samples/s"]);
    let name = format!("{}, batch {}", report.network, report.batch);
    let rate = format!("{:.0}", report.samples_per_s);
    table.add_row([vec![name], report.times.cells().to_vec(), vec![rate]].concat());
    torch::add_rows(&mut table, report.torch.as_ref());
    say!("{table}");
    say!(
        "{:.1} million parameters on {}, {} threads; the first step was made {:.0} ms after the start",
        report.parameters as f64 / 1e6,
        report.device_name,
        report.threads,
        report.first_step_ms
    );
    torch::print_summary(report.torch.as_ref());
    torch::print_first(report.torch.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_told_together_share_their_time() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        assert_eq!(between(&[at(0), at(10), at(30)]), [10.0, 20.0]);
        assert_eq!(between(&[at(0), at(30), at(30), at(30), at(40)]), [10.0, 10.0, 10.0, 10.0]);
    }
}
