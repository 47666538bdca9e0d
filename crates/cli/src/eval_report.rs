//! What an evaluation measured.

use std::time::Duration;

use nudge_control::{Achieved, Episode, Interval, RolloutStats, quantile, wilson_interval};
use nudge_sim::TaskConfig;
use serde::Serialize;

use crate::output::{self, say};
use crate::record::PolicySetup;
use crate::task::stages;

#[derive(Serialize)]
pub struct Report {
    pub task: TaskConfig,
    pub checkpoint: String,
    /// Episodes that the policy learned from.
    pub demonstrations: usize,
    pub episodes: usize,
    pub seed: u64,
    pub sampler: nudge_policy::SamplerConfig,
    pub executed: usize,
    pub latency_steps: usize,
    #[serde(flatten)]
    pub achieved: Achieved,
    /// For tasks whose reward counts stages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageShare>,
    pub wall_secs: f64,
    pub plans: usize,
    pub plans_per_second: f64,
    pub control_steps: usize,
    pub per_episode: Vec<Row>,
}

/// The share of episodes that came to a stage of the task.
#[derive(Serialize)]
pub struct StageShare {
    pub stage: &'static str,
    pub share: f64,
    pub share_ci: Interval,
}

/// One episode.
#[derive(Serialize)]
pub struct Row {
    pub seed: u64,
    pub score: f64,
    pub success: bool,
    pub steps: usize,
}

impl Row {
    pub fn of(episode: &Episode) -> Self {
        Self {
            seed: episode.seed.unwrap_or_default(),
            score: episode.score(),
            success: episode.success(),
            steps: episode.frames.len(),
        }
    }
}

impl Report {
    /// Of at least one episode; without latency.
    pub fn new(
        task: TaskConfig,
        checkpoint: String,
        how: PolicySetup,
        rows: Vec<Row>,
        stats: RolloutStats,
        wall: Duration,
    ) -> Self {
        let scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
        let n = rows.len();
        let stage = |&(stage, reward): &(&'static str, f64)| {
            // Rewards are whole fifths, but for rounding.
            let reached = scores.iter().filter(|score| **score > reward - 1e-6).count();
            StageShare { stage, share: reached as f64 / n as f64, share_ci: wilson_interval(reached, n) }
        };
        Self {
            checkpoint,
            demonstrations: 0,
            episodes: n,
            seed: rows.first().map_or(0, |row| row.seed),
            sampler: how.sampler,
            executed: how.executed,
            latency_steps: 0,
            achieved: Achieved::over(rows.iter().map(|row| (row.score, row.success))),
            stages: stages(&task).iter().map(stage).collect(),
            wall_secs: wall.as_secs_f64(),
            plans: stats.plans,
            plans_per_second: stats.plans as f64 / stats.plan_time.as_secs_f64(),
            control_steps: stats.steps,
            per_episode: rows,
            task,
        }
    }

    pub fn print(&self) {
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
        let mut summary = output::table(["", "value", "95 % interval"]);
        let Achieved { score, score_ci, success, success_ci } = self.achieved;
        summary.add_row(["score", &format!("{score:.3}"), &score_ci.to_string()]);
        summary.add_row(["success", &format!("{success:.3}"), &success_ci.to_string()]);
        summary.add_row(["median score", &format!("{:.3}", quantile(&scores, 0.5)), ""]);
        for StageShare { stage, share, share_ci } in &self.stages {
            summary.add_row([*stage, &format!("{share:.3}"), &share_ci.to_string()]);
        }
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
