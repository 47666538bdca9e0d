//! `nudge bench data`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use nudge_policy::bench::Batches;
use nudge_policy::{DEFAULT_MEMORY_MIB, TrainConfig};
use serde::Serialize;

use super::large::Large;
use super::machine;
use super::network::{Size, config};
use super::plan::seconds;
use super::scratch::Scratch;
use super::synthetic;
use super::times::{self, Times, Until, measure};
use crate::output::{self, say};
use crate::verbs::checkpoint::Device;

/// Time how demonstrations are read, and how batches are made of them
///
/// A data set of random numbers first, then a recorded one. Batches are made as training makes them: windows shuffled,
/// mirrored, normalised, and mixed with noise, on one core.
///
/// With --frames a set of that size is made instead, and gone through with one and two threads: first its windows are
/// shuffled, gathered and normalised for a whole epoch, then mixed with noise as well. A set that is larger than
/// --memory-mib is streamed: what is counted then includes reading it.
#[derive(Args)]
pub struct Data {
    /// A recorded data set of Push-T, the first half of the comparison is synthetic
    #[arg(long, value_name = "DIR", default_value = "datasets/push_t")]
    data: PathBuf,

    /// Windows in a batch
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    batch: u64,

    /// Measure each set for so long
    #[arg(long, default_value_t = 3.0, value_name = "SECS", value_parser = seconds)]
    seconds: f64,

    /// Measure a set of random numbers of N frames instead; 10 million of 32 take some 4 GB of disk
    #[arg(long, value_name = "N", conflicts_with = "data", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,

    /// Numbers of an observation and of an action in that set
    #[arg(long, value_name = "N", default_value_t = 32, requires = "frames", value_parser = clap::value_parser!(u64).range(1..=1024))]
    dim: u64,

    /// Leave that set in this folder, or use the one that is there
    #[arg(long, value_name = "DIR", requires = "frames")]
    keep: Option<PathBuf>,

    /// Memory for that set, as data.memory_mib in an experiment
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_MEMORY_MIB, requires = "frames", value_parser = mebibytes)]
    memory_mib: f64,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    device_name: String,
    batch: usize,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    data: String,
    episodes: usize,
    frames: usize,
    /// Reading the set and learning its ranges.
    load_ms: f64,
    windows_per_s: f64,
    /// Of one batch.
    #[serde(flatten)]
    times: Times,
}

impl Data {
    pub fn run(self) -> Result<ExitCode> {
        let mut config = config(Size::Small)?;
        config.training.batch_size = usize::try_from(self.batch)?;
        config.training.shards = 1;
        if let Some(frames) = self.frames {
            return self.large(frames, config);
        }
        let scratch = Scratch::new("data")?;
        let made = scratch.path().join("synthetic");
        synthetic::write(&config, &made)?;
        let rows = vec![
            self.row("synthetic".into(), &config, &made)?,
            self.row(self.data.display().to_string(), &config, &self.data)?,
        ];
        let report =
            Report { device_name: machine::name(Device::Cpu), batch: config.training.batch_size, rows };
        if self.json {
            output::print_json(&report)?;
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn large(self, frames: u64, mut config: TrainConfig) -> Result<ExitCode> {
        config.data.memory_mib = Some(self.memory_mib);
        let duration = Duration::from_secs_f64(self.seconds);
        let large = Large { frames, dim: usize::try_from(self.dim)?, keep: self.keep, duration };
        let report = large.run(config)?;
        if self.json {
            output::print_json(&report)?;
        } else {
            report.print();
        }
        Ok(ExitCode::SUCCESS)
    }

    fn row(&self, name: String, config: &TrainConfig, path: &Path) -> Result<Row> {
        let begun = Instant::now();
        let batches = Batches::open(config, path).with_context(|| format!("cannot learn from {name}"))?;
        let load_ms = begun.elapsed().as_secs_f64() * 1e3;
        let until = Until { count: usize::MAX, duration: Duration::from_secs_f64(self.seconds) };
        let times = measure(
            until,
            || (),
            |()| {
                batches.make_next()?;
                Ok(())
            },
        )?;
        let (episodes, frames) = batches.size();
        let windows_per_s = config.training.batch_size as f64 / times.median_ms * 1e3;
        Ok(Row { data: name, episodes, frames, load_ms, windows_per_s, times })
    }
}

fn mebibytes(text: &str) -> Result<f64, String> {
    let mebibytes: f64 = text.parse().map_err(|_| format!("`{text}` is no number of MiB"))?;
    let fits = mebibytes > 0.0 && mebibytes.is_finite();
    if fits { Ok(mebibytes) } else { Err(format!("{mebibytes} is not above 0")) }
}

fn print(report: &Report) {
    let [median, p99, ..] = times::CELLS;
    let mut table = output::table(["data", "frames", "load, ms", "windows/s", median, p99, "batches"]);
    for row in &report.rows {
        let [median, p99, _, _, n] = row.times.cells();
        let (frames, load, rate) =
            (row.frames.to_string(), format!("{:.0}", row.load_ms), format!("{:.0}", row.windows_per_s));
        table.add_row([row.data.clone(), frames, load, rate, median, p99, n]);
    }
    say!("{table}");
    say!("batches of {} on one core of {}", report.batch, report.device_name);
}
