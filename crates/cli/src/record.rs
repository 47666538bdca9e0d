//! `nudge record`: closed-loop episodes of a policy, kept as a data set.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, value_parser};
use nudge_control::{
    Episode, Interval, Policy as _, Reproducible, RolloutOptions, RolloutStats, Task, mean_interval, rollout,
    wilson_interval,
};
use nudge_dataset::{DatasetError, Recording, write_episodes};
use nudge_policy::{DiffusionPolicy, SamplerConfig};
use nudge_sim::TaskConfig;
use serde::{Deserialize, Serialize};

use crate::checkpoint::PlanArgs;
use crate::output::{self, say};
use crate::task::{TaskArgs, TaskName, instruction};

/// Episodes that run side by side; what is recorded does not depend on it.
const SIDE_BY_SIDE: usize = 256;

/// Record episodes of a policy in simulation as a LeRobot v3.0 data set
///
/// Only episodes that achieve the task are kept, as demonstrations are, unless --all. What is recorded is exactly what
/// was done, so `nudge replay` gives it back to the bit.
#[derive(Args)]
pub struct Record {
    /// The simulated task
    #[arg(value_enum)]
    task: TaskName,

    #[command(flatten)]
    options: TaskArgs,

    /// The policy that acts: a checkpoint folder
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,

    #[command(flatten)]
    plan: PlanArgs,

    /// Episodes to run, each from a seed of its own
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    episodes: u64,

    /// Seed of the first episode; the next ones count up
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,

    /// The folder to write; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Keep failures too
    #[arg(long)]
    all: bool,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// How a set was recorded, as its `meta/nudge.json` keeps it for `nudge replay`.
#[derive(Serialize, Deserialize)]
pub struct Setup {
    pub task: TaskConfig,
    /// Name of the checkpoint that acted, and how it planned.
    pub checkpoint: String,
    pub sampler: SamplerConfig,
    pub executed: usize,
}

#[derive(Serialize)]
struct Report {
    task: String,
    /// Episodes run, and those of them that were kept.
    episodes: usize,
    kept: usize,
    /// Of those kept.
    frames: usize,
    seed: u64,
    score: f64,
    score_ci: Option<Interval>,
    success: f64,
    success_ci: Interval,
    plans: usize,
    wall_secs: f64,
    out: PathBuf,
}

impl Record {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.out.symlink_metadata().is_ok() {
            return Err(DatasetError::Exists { path: self.out }.into());
        }
        let policy = self.plan.load(&self.checkpoint)?;
        let setup = Setup {
            task: self.options.config(self.task)?,
            checkpoint: self.checkpoint.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sampler: policy.manifest().policy.sampler,
            executed: policy.horizon().executed,
        };
        let begun = Instant::now();
        let (episodes, stats) = self.episodes(reproducible(policy), &setup.task, begun)?;

        let scores: Vec<f64> = episodes.iter().map(Episode::score).collect();
        let score = scores.iter().sum::<f64>() / scores.len() as f64;
        let achieved = episodes.iter().filter(|episode| episode.success()).count();
        let kept: Vec<Episode> =
            episodes.into_iter().filter(|episode| self.all || episode.success()).collect();
        if kept.is_empty() {
            bail!(
                "none of {} episodes achieved the task (mean score {score:.3}), so there is nothing to keep; --all \
                 keeps failures too",
                scores.len()
            );
        }
        let recording = Recording {
            instruction: instruction(&setup.task).to_owned(),
            robot_type: Some("simulated".into()),
            setup: serde_json::to_value(&setup)?,
        };
        let report = Report {
            frames: write_episodes(&self.out, &kept, &recording)?,
            episodes: scores.len(),
            kept: kept.len(),
            seed: self.seed,
            score,
            score_ci: mean_interval(&scores),
            success: achieved as f64 / scores.len() as f64,
            success_ci: wilson_interval(achieved, scores.len()),
            plans: stats.plans,
            wall_secs: begun.elapsed().as_secs_f64(),
            task: setup.task.build().name().to_owned(),
            out: self.out,
        };
        if self.json {
            output::print_json(&report)?;
        } else {
            report.print();
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs all episodes.
    fn episodes(
        &self,
        mut policy: Reproducible,
        task: &TaskConfig,
        begun: Instant,
    ) -> anyhow::Result<(Vec<Episode>, RolloutStats)> {
        let end =
            self.seed.checked_add(self.episodes).context("--seed and --episodes pass the largest seed")?;
        let seeds: Vec<u64> = (self.seed..end).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let options = RolloutOptions { latency_steps: 0, threads };
        let bar = output::progress(self.episodes, "episodes");
        let (mut episodes, mut stats) = (Vec::with_capacity(seeds.len()), RolloutStats::default());
        for seeds in seeds.chunks(SIDE_BY_SIDE) {
            let mut tasks: Vec<(Box<dyn Task>, u64)> =
                seeds.iter().map(|seed| (task.build(), *seed)).collect();
            let finished = episodes.len() as u64;
            let mut progress = |done: usize| bar.set_position(finished + done as u64);
            let (part, of_part) =
                rollout(&mut policy, &mut tasks, options, &|| begun.elapsed(), &mut progress)
                    .with_context(|| format!("recording {}", self.checkpoint.display()))?;
            episodes.extend(part);
            stats.plans += of_part.plans;
        }
        bar.finish_and_clear();
        Ok((episodes, stats))
    }
}

impl Report {
    fn print(&self) {
        let interval = |ci: Interval| format!("[{:.3}, {:.3}]", ci.low, ci.high);
        let mut table = output::table(["", "value", "95 % interval"]);
        table.add_row(["episodes run", &self.episodes.to_string(), ""]);
        table.add_row(["episodes kept", &self.kept.to_string(), ""]);
        table.add_row(["frames kept", &self.frames.to_string(), ""]);
        let score_ci = self.score_ci.map_or_else(String::new, interval);
        table.add_row(["score", &format!("{:.3}", self.score), &score_ci]);
        table.add_row(["success", &format!("{:.3}", self.success), &interval(self.success_ci)]);
        say!("{table}");
        say!("{} plans in {:.1} s, from seed {}", self.plans, self.wall_secs, self.seed);
        say!(
            "{} is a LeRobot v3.0 data set; see `nudge dataset info` and `nudge replay`",
            self.out.display()
        );
    }
}

/// A policy whose plans come out the same whoever asks beside it: it plans one request a core, so each is a batch of
/// its own.
pub fn reproducible(policy: DiffusionPolicy) -> Reproducible {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Reproducible { policy: Box::new(policy.with_threads(cores)), at_once: cores }
}
