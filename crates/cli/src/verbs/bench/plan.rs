//! `nudge bench plan`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use nudge_control::Policy as _;
use nudge_policy::bench::{Limits, NetworkCost, device_limits};
use nudge_policy::{DiffusionPolicy, PlanOptions, PolicyConfig, SamplerConfig, TrainConfig};
use serde::Serialize;

use super::network::{NetworkArgs, requests};
use super::times::{self, Times, Until, measure};
use super::torch::{Torch, VersusArgs};
use super::{machine, torch};
use crate::output::{self, say};
use crate::verbs::checkpoint::{Device, PlanArgs, cores};

/// Time plans: observations in, actions out
///
/// Every plan is for other observations from other noise. The limit is the least time in which this machine reads the
/// weights of all convolutions once a denoising step, or multiplies with them, whichever takes longer; both rates are
/// measured in this run.
#[derive(Args)]
pub struct Plan {
    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    plan: PlanArgs,

    /// Plans made at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    batch: u64,

    /// Threads that share a batch, or a single plan
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: u64,

    /// Stop after so many measurements
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    plans: u64,

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
    network: String,
    parameters: usize,
    sampler: String,
    batch: usize,
    device: &'static str,
    device_name: String,
    precision: String,
    threads: usize,
    #[serde(flatten)]
    times: Times,
    /// Since the program began.
    first_plan_ms: f64,
    /// What the limit is made of; absent where it cannot be measured.
    #[serde(flatten)]
    limit: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torch: Option<Torch>,
}

/// What this machine could do at best.
#[derive(Serialize)]
struct Limit {
    limit_ms: f64,
    ratio_to_limit: f64,
    read_gb_per_s: f64,
    gflop_per_s: f64,
    /// Read in a plan: the convolutions' weights, once a denoising step.
    read_gb: f64,
    /// Done in a plan.
    gflop: f64,
}

/// A number of seconds, as an argument.
pub fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    let fits = (0.0..=1e6).contains(&seconds);
    if fits { Ok(seconds) } else { Err(format!("{seconds} is not in 0..=1000000")) }
}

impl Plan {
    pub fn run(self, started: Instant) -> anyhow::Result<ExitCode> {
        let (batch, threads) = (usize::try_from(self.batch)?, usize::try_from(self.threads)?);
        let (policy, config) = self.network.open(&self.plan)?;
        let mut policy = policy.with_threads(threads).with_threads_a_plan(threads);
        let shape = [policy.horizon().observed, policy.interface().observation_dim()];
        policy.predict(&requests(shape, batch, 0))?;
        let first_plan_ms = started.elapsed().as_secs_f64() * 1e3;

        let mut index = 0;
        let until =
            Until { count: usize::try_from(self.plans)?, duration: Duration::from_secs_f64(self.seconds) };
        let fresh = || {
            index += 1;
            requests(shape, batch, index)
        };
        let times = measure(until, fresh, |requests| {
            policy.predict(&requests)?;
            Ok(())
        })?;
        let limit = self.limit(&policy, &config, &times);
        let work = torch::Work {
            verb: "plan",
            device: device_name(self.plan.device.device),
            batch,
            threads,
            until,
            median_ms: times.median_ms,
        };
        let report = Report {
            network: self.network.name(),
            parameters: NetworkCost::of(&config).parameters,
            sampler: sampler_name(config.policy.sampler),
            batch,
            device: device_name(self.plan.device.device),
            device_name: machine::name(self.plan.device.device),
            precision: format!("{:?}", policy.precision()).to_lowercase(),
            threads,
            times,
            first_plan_ms,
            limit,
            torch: self.versus.run(&config, &work),
        };
        if self.json {
            output::print_json(&report)?;
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn limit(&self, policy: &DiffusionPolicy, config: &TrainConfig, times: &Times) -> Option<Limit> {
        let cost = NetworkCost::of(config);
        let precision = policy.precision();
        let bytes = cost.bytes_each_pass(precision);
        let options = PlanOptions { precision: Some(precision), ..self.plan.device.options() };
        // One plan is shared by all threads; of several, each is made by one.
        let threads = if self.batch == 1 { self.threads } else { self.threads.min(self.batch) } as usize;
        let limits: Limits = match device_limits(options, bytes, threads) {
            Ok(limits) => limits,
            Err(error) => {
                eprintln!("no limit to compare with: {error}");
                return None;
            }
        };
        let forwards = forwards(&config.policy) as f64;
        let read = bytes as f64 * forwards;
        let flops = cost.flops_needed as f64 * forwards * self.batch as f64;
        let limit_ms = limits.least_secs(read, flops) * 1e3;
        Some(Limit {
            limit_ms,
            ratio_to_limit: times.median_ms / limit_ms,
            read_gb_per_s: limits.read_bytes_per_sec / 1e9,
            gflop_per_s: limits.flops_per_sec / 1e9,
            read_gb: read / 1e9,
            gflop: flops / 1e9,
        })
    }
}

/// Passes through the network in a plan.
fn forwards(policy: &PolicyConfig) -> usize {
    policy.sampler.timesteps(policy.schedule.train_steps).len()
}

/// As `--sampler` has it.
pub fn sampler_name(sampler: SamplerConfig) -> String {
    match sampler {
        SamplerConfig::Ddim { steps, .. } => format!("ddim{steps}"),
        SamplerConfig::Ddpm { steps, .. } => format!("ddpm{steps}"),
    }
}

/// As `--device` has it.
pub fn device_name(device: Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda => "cuda",
    }
}

fn print(report: &Report) {
    let mut table = output::table([
        "plan",
        times::CELLS[0],
        times::CELLS[1],
        times::CELLS[2],
        times::CELLS[3],
        times::CELLS[4],
        "limit, ms",
        "of the limit",
    ]);
    let [limit, ratio] = match &report.limit {
        Some(limit) => [format!("{:.3}", limit.limit_ms), format!("{:.1} x", limit.ratio_to_limit)],
        None => Default::default(),
    };
    let name = format!("{}, batch {}, {}", report.network, report.batch, report.precision);
    table.add_row([vec![name], report.times.cells().to_vec(), vec![limit, ratio]].concat());
    torch::add_rows(&mut table, report.torch.as_ref());
    say!("{table}");
    say!(
        "{:.1} million parameters on {} ({} of {} cores); the first plan was there {:.0} ms after the start",
        report.parameters as f64 / 1e6,
        report.device_name,
        report.threads,
        cores(),
        report.first_plan_ms
    );
    if let Some(limit) = &report.limit {
        say!(
            "the limit: {:.2} GB at {:.1} GB/s, {:.2} GFLOP at {:.0} GFLOP/s",
            limit.read_gb,
            limit.read_gb_per_s,
            limit.gflop,
            limit.gflop_per_s
        );
    }
    torch::print_summary(report.torch.as_ref());
    torch::print_first(report.torch.as_ref());
}
