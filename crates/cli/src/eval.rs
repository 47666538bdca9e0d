//! `nudge eval`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use nudge_control::{
    Episode, Interval, Policy as _, RolloutOptions, RolloutStats, Task, mean_interval, quantile, rollout,
    wilson_interval,
};
use nudge_sim::TaskConfig;
use serde::Serialize;

use crate::checkpoint::PolicyArgs;
use crate::output::{self, say};
use crate::task::TaskArgs;

/// Prove a policy in simulation: score and success with 95 % intervals
///
/// The score is the mean over episodes of the largest reward reached; success is the share of episodes that ever
/// achieved the task. They are different figures. The same command gives the same figures.
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

    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// What an evaluation measured.
#[derive(Serialize)]
struct Report {
    task: String,
    checkpoint: String,
    episodes: usize,
    seed: u64,
    setup: TaskConfig,
    sampler: nudge_policy::SamplerConfig,
    executed: usize,
    latency_steps: usize,
    score: f64,
    score_ci: Interval,
    success: f64,
    success_ci: Interval,
    wall_secs: f64,
    plans: usize,
    plans_per_second: f64,
    control_steps: usize,
    per_episode: Vec<Row>,
}

/// One episode of it.
#[derive(Serialize)]
struct Row {
    seed: u64,
    score: f64,
    success: bool,
    steps: usize,
}

impl Eval {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.episodes == 0 || self.batch == 0 {
            bail!("--episodes and --batch must each be at least 1");
        }
        let mut policy = self.policy.load()?;
        let task = policy.manifest().task.clone();
        let config = self.options.named(&task, policy.interface())?;
        let sampler = policy.manifest().policy.sampler;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let options = RolloutOptions { latency_steps: self.latency_steps, threads };

        let bar = output::progress(self.episodes as u64, "episodes");
        let begun = Instant::now();
        let (mut episodes, mut stats) = (Vec::with_capacity(self.episodes), RolloutStats::default());
        let seeds: Vec<u64> = (self.seed..).take(self.episodes).collect();
        for seeds in seeds.chunks(self.batch) {
            let mut tasks: Vec<(Box<dyn Task>, u64)> =
                seeds.iter().map(|seed| (config.build(), *seed)).collect();
            let finished = episodes.len() as u64;
            let (batch, part) = rollout(&mut policy, &mut tasks, options, &|| begun.elapsed(), &mut |done| {
                bar.set_position(finished + done as u64);
            })
            .with_context(|| format!("evaluating {}", self.policy.checkpoint.display()))?;
            episodes.extend(batch);
            stats.plans += part.plans;
            stats.steps += part.steps;
            stats.plan_time += part.plan_time;
        }
        bar.finish_and_clear();
        let report =
            self.report(task, config, sampler, policy.horizon().executed, &episodes, stats, begun.elapsed());
        if self.json {
            output::print_json(&report)?;
        } else {
            report.print();
        }
        Ok(ExitCode::SUCCESS)
    }

    fn report(
        &self,
        task: String,
        config: TaskConfig,
        sampler: nudge_policy::SamplerConfig,
        executed: usize,
        episodes: &[Episode],
        stats: RolloutStats,
        wall: Duration,
    ) -> Report {
        let scores: Vec<f64> = episodes.iter().map(Episode::score).collect();
        let (n, hits) = (episodes.len(), episodes.iter().filter(|episode| episode.success()).count());
        let row = |episode: &Episode| Row {
            seed: episode.seed.unwrap_or_default(),
            score: episode.score(),
            success: episode.success(),
            steps: episode.frames.len(),
        };
        Report {
            task,
            checkpoint: self.policy.checkpoint.display().to_string(),
            episodes: n,
            seed: self.seed,
            setup: config,
            sampler,
            executed,
            latency_steps: self.latency_steps,
            score: scores.iter().sum::<f64>() / n as f64,
            score_ci: mean_interval(&scores).unwrap_or(Interval { low: 0.0, high: 1.0 }),
            success: hits as f64 / n as f64,
            success_ci: wilson_interval(hits, n),
            wall_secs: wall.as_secs_f64(),
            plans: stats.plans,
            plans_per_second: stats.plans as f64 / stats.plan_time.as_secs_f64(),
            control_steps: stats.steps,
            per_episode: episodes.iter().map(row).collect(),
        }
    }
}

impl Report {
    fn print(&self) {
        let mut rows = output::table(["seed", "score", "success", "steps"]);
        for row in &self.per_episode {
            let success = if row.success { "yes" } else { "" };
            rows.add_row([
                &row.seed.to_string(),
                &format!("{:.3}", row.score),
                success,
                &row.steps.to_string(),
            ]);
        }
        say!("{rows}");
        let mut scores: Vec<f64> = self.per_episode.iter().map(|row| row.score).collect();
        scores.sort_by(f64::total_cmp);
        let interval = |ci: Interval| format!("[{:.3}, {:.3}]", ci.low, ci.high);
        let mut summary = output::table(["", "value", "95 % interval"]);
        summary.add_row(["score", &format!("{:.3}", self.score), &interval(self.score_ci)]);
        summary.add_row(["success", &format!("{:.3}", self.success), &interval(self.success_ci)]);
        summary.add_row(["median score", &format!("{:.3}", quantile(&scores, 0.5)), ""]);
        say!("{summary}");
        say!(
            "{} episodes from seed {}, {} control steps and {} plans in {:.1} s ({:.0} plans/s)",
            self.episodes,
            self.seed,
            self.control_steps,
            self.plans,
            self.wall_secs,
            self.plans_per_second
        );
    }
}
