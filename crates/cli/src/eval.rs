//! `nudge eval`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use nudge_control::{Policy, RolloutOptions, RolloutStats, Task, rollout};

use crate::checkpoint::{PolicyArgs, cores};
use crate::eval_folder::EvalFolder;
use crate::eval_report::{Report, Row};
use crate::output;
use crate::record::{PolicySetup, Setup, reproducible};
use crate::task::TaskArgs;

/// Prove a policy in simulation: score and success with 95 % intervals
///
/// The score is the mean over episodes of the largest reward reached; success is the share of episodes that ever
/// achieved the task. They are different figures. The same command gives the same figures.
///
/// The task is the one that the policy was trained for; its options make it another variant.
#[derive(Args)]
pub struct Eval {
    #[command(flatten)]
    policy: PolicyArgs,

    /// Episodes, each from a seed of its own
    #[arg(long, default_value_t = 50)]
    episodes: usize,

    /// Seed of the first episode; the next ones count up
    #[arg(long, default_value_t = 100_000)]
    seed: u64,

    #[command(flatten)]
    options: TaskArgs,

    /// Execute every plan this many control steps after what it was made from was seen
    #[arg(long, default_value_t = 0)]
    latency_steps: usize,

    /// Episodes that run side by side; the result does not depend on it
    #[arg(long, default_value_t = 256)]
    batch: usize,

    /// Leave the results here, with the episodes, and a picture of the ten worst
    ///
    /// A new folder with results.json, episodes/ (a data set, for `nudge replay` too) and worst.png (first, middle and
    /// last frame of each). So that the episodes can be had again to the bit, the policy then sees and answers in the
    /// 32 bits of a recording: a rare episode may take another course than without.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

impl Eval {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.episodes == 0 || self.batch == 0 {
            bail!("--episodes and --batch must each be at least 1");
        }
        let policy = self.policy.load()?;
        let manifest = policy.manifest();
        let task = self.options.named(&manifest.task, policy.interface())?;
        let how = PolicySetup {
            checkpoint: self.policy.name(),
            sampler: manifest.policy.sampler,
            executed: policy.horizon().executed,
        };
        let demonstrations = manifest.trained.episodes;
        let mut folder = match &self.out {
            Some(out) => Some(EvalFolder::create(out, &Setup { task, policy: Some(how.clone()) })?),
            None => None,
        };
        let mut policy: Box<dyn Policy> = match &folder {
            Some(_) => Box::new(reproducible(policy)),
            None => Box::new(policy),
        };
        let threads = cores();
        let options =
            RolloutOptions { latency_steps: self.latency_steps, threads, ..RolloutOptions::default() };

        let bar = output::progress(self.episodes as u64, "episodes");
        let begun = Instant::now();
        let (mut rows, mut stats) = (Vec::with_capacity(self.episodes), RolloutStats::default());
        let seeds: Vec<u64> = (self.seed..).take(self.episodes).collect();
        for seeds in seeds.chunks(self.batch) {
            let mut tasks: Vec<(Box<dyn Task>, u64)> =
                seeds.iter().map(|seed| (task.build(), *seed)).collect();
            let finished = rows.len() as u64;
            let mut progress = |done: usize| bar.set_position(finished + done as u64);
            let (batch, part) =
                rollout(policy.as_mut(), &mut tasks, options, &|| begun.elapsed(), &mut progress)
                    .with_context(|| format!("evaluating {}", self.policy.checkpoint.display()))?;
            stats.add(part);
            rows.extend(batch.iter().map(Row::of));
            if let Some(folder) = &mut folder {
                folder.keep(batch)?;
            }
        }
        bar.finish_and_clear();
        let report = Report {
            latency_steps: self.latency_steps,
            demonstrations,
            ..Report::new(
                task,
                self.policy.checkpoint.display().to_string(),
                how,
                rows,
                stats,
                begun.elapsed(),
            )
        };
        if let Some(folder) = folder {
            folder.finish(&report)?;
        }
        if self.json {
            output::print_json(&report)?;
        } else {
            report.print();
            if let Some(out) = &self.out {
                output::say!(
                    "look at {}; `nudge replay {}` shows the episodes",
                    out.join("worst.png").display(),
                    out.join("episodes").display()
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
