//! `nudge bench start`

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nudge_control::Policy as _;
use serde::Serialize;

use super::machine;
use super::network::{NetworkArgs, requests};
use super::plan::device_name;
use super::scratch::Scratch;
use super::times::{self, Times, Until};
use super::torch::{self, Torch, VersusArgs};
use crate::output::{self, say};
use crate::verbs::checkpoint::{PlanArgs, cores};

/// Time a start: from nothing to the first plan
///
/// Runs this program again and again, each time until it has made one plan. The first run is cold: no compiled kernels lie
/// on disk, which a GPU needs. It leaves them there for the others, the warm ones. Nothing of yours is touched: kernels
/// are kept in a folder of this measurement.
#[derive(Args)]
pub struct Start {
    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    plan: PlanArgs,

    /// How often the program is started warm
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    runs: u64,

    #[command(flatten)]
    versus: VersusArgs,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,

    /// Make one plan, and say so: what is run again and again
    #[arg(long, hide = true)]
    once: bool,
}

#[derive(Serialize)]
struct Report {
    network: String,
    device: &'static str,
    device_name: String,
    /// The first run, with no kernels on disk.
    cold_ms: f64,
    /// The others, from before the process was made to when its first plan was known to another.
    #[serde(flatten)]
    times: Times,
    /// Of the first run, what passed from its main function on.
    cold_own_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    torch: Option<Torch>,
}

impl Start {
    pub fn run(self, started: Instant) -> Result<ExitCode> {
        if self.once {
            return self.plan_once(started);
        }
        let kernels = Scratch::new("start")?;
        let (cold_ms, cold_own_ms) = self.start(kernels.path())?;
        let warm = (0..self.runs).map(|_| Ok(self.start(kernels.path())?.0)).collect::<Result<Vec<f64>>>()?;
        let times = Times::of(warm);
        let work = torch::Work {
            verb: "start",
            device: device_name(self.plan.device.device),
            batch: 1,
            threads: cores(),
            until: Until { count: usize::try_from(self.runs)?, duration: Duration::ZERO },
            median_ms: times.median_ms,
        };
        let report = Report {
            network: self.network.name(),
            device: device_name(self.plan.device.device),
            device_name: machine::name(self.plan.device.device),
            cold_ms,
            times,
            cold_own_ms,
            torch: self.versus.starts(|| Ok(self.network.open(&self.plan)?.1), &work),
        };
        if self.json {
            output::print_json(&report)?;
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn plan_once(&self, started: Instant) -> Result<ExitCode> {
        let (mut policy, _) = self.network.open(&self.plan)?;
        let shape = [policy.horizon().observed, policy.interface().observation_dim()];
        policy.predict(&requests(shape, 1, 0))?;
        say!("{}", started.elapsed().as_secs_f64() * 1e3);
        Ok(ExitCode::SUCCESS)
    }

    /// Milliseconds of one start with compiled kernels kept below `kernels`, as seen from here and from within.
    fn start(&self, kernels: &Path) -> Result<(f64, f64)> {
        let program = std::env::current_exe().context("cannot find this program, to start it again")?;
        let mut command = Command::new(program);
        command.env("XDG_CACHE_HOME", kernels);
        command.args(["bench", "start", "--once"]).args(self.network.options());
        command.args(["--device", device_name(self.plan.device.device)]);
        if let Some(precision) = self.plan.device.precision {
            command.args(["--precision", &format!("{precision:?}").to_lowercase()]);
        }
        if let Some(sampler) = self.plan.sampler {
            command.args(["--sampler", &super::plan::sampler_name(sampler)]);
        }
        let begun = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start this program again")?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let seen = begun.elapsed().as_secs_f64() * 1e3;
        let status = child.wait()?;
        match line.trim().parse() {
            Ok(own) if status.success() => Ok((seen, own)),
            _ => bail!("a start failed ({status}): what it said stands above"),
        }
    }
}

fn print(report: &Report) {
    let [median, p99, _, least, n] = times::CELLS;
    let mut table = output::table(["start to first plan", "cold, ms", median, p99, least, n]);
    let [median, p99, _, least, n] = report.times.cells();
    let first = format!("{:.3}", report.cold_ms);
    table.add_row([format!("{}, {}", report.network, report.device), first, median, p99, least, n]);
    torch::add_start(&mut table, report.torch.as_ref());
    say!("{table}");
    say!("on {}", report.device_name);
    torch::print_summary(report.torch.as_ref());
}
