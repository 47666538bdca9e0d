//! `nudge compare`: evaluations side by side, and on one plot.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use nudge_control::{Achieved, Interval, mean_interval};
use serde::{Deserialize, Serialize};

use crate::output::{self, say};
use crate::verbs::plot;

/// Compare evaluations: a table, differences on the same starts, and success against demonstrations on a plot
///
/// Takes what `nudge eval --json` printed or `nudge eval --out` wrote. Differences are to the first result and are taken start
/// by start, which tells more than two intervals that overlap.
#[derive(Args)]
pub struct Compare {
    /// Result files
    #[arg(required = true, value_name = "RESULTS.json")]
    results: Vec<PathBuf>,

    /// Draw score and success against the number of demonstrations into this SVG file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The part of an evaluation's report that is compared.
#[derive(Deserialize)]
struct Results {
    task: serde_json::Value,
    checkpoint: String,
    demonstrations: usize,
    per_episode: Vec<Start>,
}

#[derive(Clone, Copy, Deserialize)]
struct Start {
    seed: u64,
    score: f64,
    success: bool,
}

/// One result as it is shown.
#[derive(Serialize)]
struct Row {
    checkpoint: String,
    demonstrations: usize,
    episodes: usize,
    #[serde(flatten)]
    achieved: Achieved,
    /// Against the first result, where both ran the same starts of the same task.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Difference>,
}

/// Score of an episode, and whether it succeeded.
pub type Outcome = (f64, bool);

/// Means over starts of this result less the first one, with bootstrap intervals.
#[derive(Serialize)]
pub struct Difference {
    pub score: f64,
    pub score_ci: Interval,
    pub success: f64,
    pub success_ci: Interval,
}

impl Difference {
    /// Of scores and verdicts on the same starts; `None` without any.
    pub fn between(pairs: &[(Outcome, Outcome)]) -> Option<Self> {
        let by_start = |of: fn(&Outcome) -> f64| -> Vec<f64> {
            pairs.iter().map(|(result, first)| of(result) - of(first)).collect()
        };
        let score = by_start(|(score, _)| *score);
        let success = by_start(|(_, success)| f64::from(u8::from(*success)));
        Some(Self {
            score: mean(&score),
            score_ci: mean_interval(&score)?,
            success: mean(&success),
            success_ci: mean_interval(&success)?,
        })
    }

    /// The score's, as a table shows it.
    pub fn score_text(&self) -> String {
        format!("{:+.3} [{:+.3}, {:+.3}]", self.score, self.score_ci.low, self.score_ci.high)
    }
}

impl Compare {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let results = self.results.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let rows: Vec<Row> = results.iter().map(|result| row(result, &results[0])).collect();
        if let Some(path) = &self.plot {
            let curve: Vec<plot::Point> = rows.iter().map(point).collect();
            plot::success_by_demonstrations(path, &curve)?;
        }
        if self.json {
            output::print_json(&rows)?;
        } else {
            print(&rows);
            if let Some(path) = &self.plot {
                say!("look at {}", path.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(path: &Path) -> anyhow::Result<Results> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let results: Results = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what `nudge eval --json` prints", path.display()))?;
    if results.per_episode.is_empty() {
        bail!("{} holds no episodes", path.display());
    }
    Ok(results)
}

fn row(result: &Results, first: &Results) -> Row {
    Row {
        checkpoint: result.checkpoint.clone(),
        demonstrations: result.demonstrations,
        episodes: result.per_episode.len(),
        achieved: Achieved::over(result.per_episode.iter().map(|start| (start.score, start.success))),
        difference: difference(result, first),
    }
}

/// `None` for the first result itself, and where the starts are not the same.
fn difference(result: &Results, first: &Results) -> Option<Difference> {
    let seeds = |results: &Results| results.per_episode.iter().map(|start| start.seed).collect::<Vec<_>>();
    if std::ptr::eq(result, first) || result.task != first.task || seeds(result) != seeds(first) {
        return None;
    }
    let of = |start: &Start| (start.score, start.success);
    let pairs = result.per_episode.iter().zip(&first.per_episode);
    Difference::between(&pairs.map(|(start, first)| (of(start), of(first))).collect::<Vec<_>>())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn point(row: &Row) -> plot::Point {
    let Achieved { score, score_ci, success, success_ci } = row.achieved;
    plot::Point {
        demonstrations: row.demonstrations,
        success: (success_ci.low, success, success_ci.high),
        score: (score_ci.low, score, score_ci.high),
    }
}

fn print(rows: &[Row]) {
    let header = [
        "checkpoint",
        "demonstrations",
        "episodes",
        "score",
        "success",
        "score vs first",
        "success vs first",
    ];
    let mut table = output::table(header);
    let with = |value: f64, ci: Interval| format!("{value:.3} {ci}");
    let signed = |value: f64, ci: Interval| format!("{value:+.3} [{:+.3}, {:+.3}]", ci.low, ci.high);
    for row in rows {
        let (score, success) = row.difference.as_ref().map_or_else(Default::default, |difference| {
            (difference.score_text(), signed(difference.success, difference.success_ci))
        });
        table.add_row([
            row.checkpoint.clone(),
            row.demonstrations.to_string(),
            row.episodes.to_string(),
            with(row.achieved.score, row.achieved.score_ci),
            with(row.achieved.success, row.achieved.success_ci),
            score,
            success,
        ]);
    }
    say!("{table}");
    say!("intervals are at 95 %: Wilson for success, bootstrap over starts for the rest");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(first_seed: u64, scores: &[f64]) -> Results {
        let start = |(index, score): (usize, &f64)| Start {
            seed: first_seed + index as u64,
            score: *score,
            success: *score >= 1.0,
        };
        Results {
            task: "push_t".into(),
            checkpoint: "a".into(),
            demonstrations: 10,
            per_episode: scores.iter().enumerate().map(start).collect(),
        }
    }

    #[test]
    fn differences_are_taken_start_by_start() {
        // Every start is better by the same amount: the interval has no width, though the scores' own are wide.
        let (worse, better) = (results(5, &[0.1, 0.5, 0.8]), results(5, &[0.2, 0.6, 0.9]));
        let Difference { score, score_ci, success, .. } = difference(&better, &worse).unwrap();
        assert!((score - 0.1).abs() < 1e-12 && (score_ci.high - score_ci.low).abs() < 1e-12);
        assert_eq!(success, 0.0);
        let score_ci = row(&better, &worse).achieved.score_ci;
        assert!(score_ci.high - score_ci.low > 0.3);
    }

    #[test]
    fn other_starts_are_not_compared() {
        let first = results(5, &[0.1, 1.0]);
        assert!(difference(&results(6, &[0.1, 1.0]), &first).is_none());
        assert!(difference(&results(5, &[0.1]), &first).is_none());
        assert!(difference(&first, &first).is_none());
    }
}
