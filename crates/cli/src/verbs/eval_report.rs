//! What an evaluation measured.

use comfy_table::Table;
use nudge_control::{Achieved, Confidence, Episode, FeatureSmoothness, Interval, quantile, wilson_interval};
use nudge_sim::TaskConfig;
use serde::Serialize;

use crate::output::{self, say};
use crate::verbs::alarm::Raised;
use crate::verbs::eval::Done;
use crate::verbs::eval_sweep::Pair;
use crate::verbs::record::PolicySetup;
use crate::verbs::task::stages;

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
    /// Plans drawn each time.
    pub samples: u64,
    #[serde(flatten)]
    pub pair: Pair,
    #[serde(flatten)]
    pub achieved: Achieved,
    /// For tasks whose reward counts stages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageShare>,
    pub wall_secs: f64,
    pub plans: usize,
    pub plans_per_second: f64,
    pub control_steps: usize,
    /// Steps without an action after an episode's first plan.
    pub held_steps: usize,
    /// Plans that came later than the actions that they were to continue.
    pub short_commits: usize,
    pub smoothness: Vec<FeatureSmoothness>,
    /// Where an alarm was calibrated for plans made in this way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarms: Option<Raised>,
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
#[derive(Clone, Serialize)]
pub struct Row {
    pub seed: u64,
    pub score: f64,
    pub success: bool,
    pub steps: usize,
    /// The largest figures of its plans.
    pub largest: Confidence,
}

impl Row {
    pub fn of(episode: &Episode, largest: Confidence) -> Self {
        Self {
            seed: episode.seed.unwrap_or_default(),
            score: episode.score(),
            success: episode.success(),
            steps: episode.frames.len(),
            largest,
        }
    }
}

impl Report {
    /// Of at least one episode.
    pub fn new(
        task: TaskConfig,
        checkpoint: String,
        how: PolicySetup,
        pair: Pair,
        samples: u64,
        done: Done,
    ) -> Self {
        let Done { rows, stats, wall } = done;
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
            samples,
            pair,
            achieved: Achieved::over(rows.iter().map(|row| (row.score, row.success))),
            stages: stages(&task).iter().map(stage).collect(),
            wall_secs: wall.as_secs_f64(),
            plans: stats.plans,
            plans_per_second: stats.plans as f64 / stats.plan_time.as_secs_f64(),
            control_steps: stats.steps,
            held_steps: stats.held_steps,
            short_commits: stats.short_commits,
            smoothness: stats.smoothness.summary(),
            alarms: None,
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
        say!("{}", smoothness_table(&self.smoothness));
        if let Some(Raised { successes, failures }) = &self.alarms {
            say!("alarms: in {successes} successful episodes, in {failures} others");
        }
        if self.held_steps > 0 || self.short_commits > 0 {
            say!(
                "held in {} steps for want of a plan; {} plans came later than what they were to continue",
                self.held_steps,
                self.short_commits
            );
        }
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

/// What is commanded at seams against inside plans.
fn smoothness_table(smoothness: &[FeatureSmoothness]) -> Table {
    let mut table = output::table(["commanded", "at seams: median", "p99", "inside plans: median", "p99"]);
    for feature in smoothness {
        for (name, compared) in [("acceleration", &feature.acceleration), ("jerk", &feature.jerk)] {
            let cells =
                [compared.seams.median, compared.seams.p99, compared.inside.median, compared.inside.p99];
            let name = format!("{} {name}, {}", feature.feature, compared.unit);
            table.add_row([vec![name], cells.map(figure).to_vec()].concat());
        }
    }
    table
}

/// Three significant digits, or nothing where there is no figure.
pub fn figure(value: f64) -> String {
    if value.is_nan() {
        return String::new();
    }
    let digits = if value == 0.0 { 0 } else { 2 - value.abs().log10().floor() as i32 };
    format!("{value:.*}", usize::try_from(digits.max(0)).unwrap_or_default())
}
