//! Evaluations over planning delays and ways to take over, side by side.

use nudge_control::{Achieved, FeatureSmoothness};
use nudge_sim::TaskConfig;
use serde::Serialize;

use crate::output::{self, say};
use crate::verbs::compare::Difference;
use crate::verbs::eval::Done;
use crate::verbs::eval_report::{Row, figure};
use crate::verbs::record::PolicySetup;
use crate::verbs::seam::SeamChoice;

/// One delay and one way to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    pub latency_steps: usize,
    pub seam: SeamChoice,
}

#[derive(Serialize)]
pub struct Sweep {
    task: TaskConfig,
    checkpoint: String,
    #[serde(flatten)]
    how: PolicySetup,
    seed: u64,
    samples: u64,
    wall_secs: f64,
    rows: Vec<SweepRow>,
}

#[derive(Serialize)]
struct SweepRow {
    #[serde(flatten)]
    pair: Pair,
    episodes: usize,
    #[serde(flatten)]
    achieved: Achieved,
    /// Against no delay with the same seam, start by start, where that was run before.
    #[serde(skip_serializing_if = "Option::is_none")]
    against_no_delay: Option<Difference>,
    control_steps: usize,
    held_steps: usize,
    short_commits: usize,
    plans: usize,
    smoothness: Vec<FeatureSmoothness>,
    wall_secs: f64,
    per_episode: Vec<Row>,
}

impl Sweep {
    pub fn new(task: TaskConfig, checkpoint: String, how: PolicySetup, seed: u64, samples: u64) -> Self {
        Self { task, checkpoint, how, seed, samples, wall_secs: 0.0, rows: Vec::new() }
    }

    pub fn push(&mut self, pair: Pair, done: Done) {
        let Done { rows, stats, wall } = done;
        self.wall_secs += wall.as_secs_f64();
        let score = |row: &Row| (row.score, row.success);
        let undelayed = self
            .rows
            .iter()
            .find(|row| pair.latency_steps > 0 && row.pair == Pair { latency_steps: 0, seam: pair.seam });
        let against_no_delay = undelayed.and_then(|undelayed| {
            let pairs = rows.iter().zip(&undelayed.per_episode);
            Difference::between(&pairs.map(|(row, first)| (score(row), score(first))).collect::<Vec<_>>())
        });
        self.rows.push(SweepRow {
            pair,
            episodes: rows.len(),
            achieved: Achieved::over(rows.iter().map(score)),
            against_no_delay,
            control_steps: stats.steps,
            held_steps: stats.held_steps,
            short_commits: stats.short_commits,
            plans: stats.plans,
            smoothness: stats.smoothness.summary(),
            wall_secs: wall.as_secs_f64(),
            per_episode: rows,
        });
    }

    /// Takes a row that was run already: without delay nothing is committed, and to continue is to switch.
    pub fn again(&mut self, pair: Pair) -> bool {
        let same = |row: &&SweepRow| {
            let found = row.pair.seam;
            let as_good = found == SeamChoice::Switch || found.continues();
            row.pair.latency_steps == 0
                && pair.latency_steps == 0
                && pair.seam != SeamChoice::Ensemble
                && as_good
        };
        let Some(found) = self.rows.iter().find(same) else { return false };
        let row = SweepRow {
            pair,
            against_no_delay: None,
            smoothness: found.smoothness.clone(),
            per_episode: found.per_episode.clone(),
            ..*found
        };
        self.rows.push(row);
        true
    }

    pub fn print(&self) {
        let unit = |derivative: fn(&FeatureSmoothness) -> &nudge_control::Compared| {
            self.rows
                .first()
                .and_then(|row| row.smoothness.first())
                .map_or("", |part| derivative(part).unit.as_str())
        };
        let acceleration = format!("acceleration at seams | inside, {}", unit(|part| &part.acceleration));
        let jerk = format!("jerk at seams | inside, {}", unit(|part| &part.jerk));
        let header =
            ["delay", "seam", "score", "success", "score vs no delay", "held", "short", &acceleration, &jerk];
        let mut table = output::table(header);
        for row in &self.rows {
            let Achieved { score, score_ci, success, success_ci } = row.achieved;
            let compared = |derivative: fn(&FeatureSmoothness) -> &nudge_control::Compared| {
                row.smoothness.first().map(derivative).map_or_else(String::new, |found| {
                    format!("{} | {}", figure(found.seams.p99), figure(found.inside.p99))
                })
            };
            table.add_row([
                row.pair.latency_steps.to_string(),
                row.pair.seam.name().to_owned(),
                format!("{score:.3} {score_ci}"),
                format!("{success:.3} {success_ci}"),
                row.against_no_delay.as_ref().map_or_else(String::new, Difference::score_text),
                format!("{:.1} %", 100.0 * row.held_steps as f64 / row.control_steps as f64),
                row.short_commits.to_string(),
                compared(|part| &part.acceleration),
                compared(|part| &part.jerk),
            ]);
        }
        say!("{table}");
        let feature = self.rows.first().and_then(|row| row.smoothness.first());
        say!(
            "{} episodes a row from seed {}, in {:.0} s; accelerations and jerks are p99 of `{}` as commanded, all others are in --json",
            self.rows.first().map_or(0, |row| row.episodes),
            self.seed,
            self.wall_secs,
            feature.map_or("", |part| part.feature.as_str())
        );
        say!(
            "without delay nothing is committed, so to continue is to switch; held: steps without an action after the first plan"
        );
    }
}
