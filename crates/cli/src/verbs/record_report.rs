//! What `nudge record` says when it is done.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use nudge_control::{Episode, Interval, mean_interval, quantile, wilson_interval};
use nudge_dataset::{Dataset, EpisodeNote, Recorded};
use nudge_sim::TaskConfig;
use serde::Serialize;

use crate::output::{self, say};
use crate::verbs::dataset::Lengths;
use crate::verbs::shard::Shard;
use crate::verbs::task::{Position, position};

/// What has been recorded so far.
pub struct Tally {
    pub recorded: Recorded,
    position: Position,
    scores: Vec<f64>,
    /// Frames of each episode that was kept.
    lengths: Vec<usize>,
    /// Of what moves, from each frame to the next, in those.
    speeds: Vec<f64>,
}

impl Tally {
    pub fn new(task: &TaskConfig) -> Self {
        Self {
            recorded: Recorded::default(),
            position: position(task),
            scores: Vec::new(),
            lengths: Vec::new(),
            speeds: Vec::new(),
        }
    }

    pub fn count(&mut self, episode: &Episode, kept: bool) {
        self.recorded.run += 1;
        self.recorded.succeeded += usize::from(episode.success());
        self.recorded.kept += usize::from(kept);
        self.scores.push(episode.score());
        if !kept {
            return;
        }
        self.lengths.push(episode.frames.len());
        let Some(range) = episode.interface.observation_range(self.position.feature) else { return };
        let range = range.start..range.start + self.position.dim;
        for pair in episode.frames.windows(2) {
            let [from, to] = [0, 1].map(|frame| &pair[frame].observation.0[range.clone()]);
            let square: f64 = from.iter().zip(to).map(|(from, to)| (to - from).powi(2)).sum();
            self.speeds.push(square.sqrt() * episode.interface.control_hz);
        }
    }

    /// Counts the episodes that an earlier program kept in `set`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn go_on(&mut self, set: &Dataset, notes: &[EpisodeNote]) -> Result<()> {
        for note in notes {
            self.recorded.run += 1;
            self.recorded.succeeded += usize::from(note.success);
            self.recorded.kept += 1;
            self.scores.push(note.score);
        }
        let fps = set.info().fps.unwrap_or_default();
        for tables in set.read_all(&[self.position.feature])? {
            let Some(table) = tables.first() else { continue };
            self.lengths.push(table.rows);
            for row in 1..table.rows {
                let [from, to] = [row - 1, row].map(|row| &table.row(row)[..self.position.dim]);
                let square = |(from, to): (&f32, &f32)| f64::from(to - from).powi(2);
                self.speeds.push(from.iter().zip(to).map(square).sum::<f64>().sqrt() * fps);
            }
        }
        Ok(())
    }

    /// Counts episodes of these scores that were not kept.
    pub fn count_left_out(&mut self, scores: impl Iterator<Item = f64>) {
        scores.for_each(|score| {
            self.recorded.run += 1;
            self.scores.push(score);
        });
    }

    pub fn mean_score(&self) -> f64 {
        self.scores.iter().sum::<f64>() / self.scores.len().max(1) as f64
    }
}

#[derive(Serialize)]
pub struct Report {
    task: String,
    /// The part that this is of a recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    /// Episodes run, those of them that an earlier program had run, and those that were kept.
    episodes: usize,
    #[serde(skip_serializing_if = "is_zero")]
    recorded_before: usize,
    kept: usize,
    /// Of those kept.
    frames: usize,
    /// Of the first episode of the whole recording.
    seed: u64,
    score: f64,
    #[serde(flatten)]
    success: Success,
    /// Frames of an episode that was kept.
    length: Lengths,
    speed: Speed,
    wall_secs: f64,
    episodes_per_hour: f64,
    out: PathBuf,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[derive(Serialize)]
#[serde(untagged)]
enum Success {
    Expert { expert_success: f64, expert_success_ci: Interval },
    Policy { success: f64, success_ci: Interval, score_ci: Option<Interval>, plans: usize },
}

/// Of what moves, in the episodes that were kept.
#[derive(Serialize)]
struct Speed {
    feature: &'static str,
    unit: String,
    median: f64,
    p99: f64,
}

impl Report {
    /// So many episodes were run `before` this program; its `plans` are those of a policy, and without them, the expert
    /// demonstrated.
    #[expect(clippy::too_many_arguments, reason = "a report is all that there is to say")]
    pub fn new(
        task: String,
        seed: u64,
        shard: Option<Shard>,
        mut tally: Tally,
        before: usize,
        frames: usize,
        plans: Option<usize>,
        wall: Duration,
        out: PathBuf,
    ) -> Self {
        let Recorded { run, succeeded, kept } = tally.recorded;
        let (share, interval) = (succeeded as f64 / run.max(1) as f64, wilson_interval(succeeded, run));
        tally.speeds.sort_by(f64::total_cmp);
        Self {
            task,
            shard: shard.map(|Shard { index, count }| format!("{index}/{count}")),
            episodes: run,
            recorded_before: before,
            kept,
            frames,
            seed,
            score: tally.mean_score(),
            success: match plans {
                None => Success::Expert { expert_success: share, expert_success_ci: interval },
                Some(plans) => Success::Policy {
                    success: share,
                    success_ci: interval,
                    score_ci: mean_interval(&tally.scores),
                    plans,
                },
            },
            length: Lengths::of(tally.lengths),
            speed: Speed {
                feature: tally.position.feature,
                unit: format!("{}/s", tally.position.unit),
                median: quantile(&tally.speeds, 0.5),
                p99: quantile(&tally.speeds, 0.99),
            },
            wall_secs: wall.as_secs_f64(),
            episodes_per_hour: (run - before) as f64 / wall.as_secs_f64() * 3600.0,
            out,
        }
    }

    pub fn print(&self) {
        let mut table = output::table(["", "value", "95 % interval"]);
        table.add_row(["episodes run", &self.episodes.to_string(), ""]);
        table.add_row(["episodes kept", &self.kept.to_string(), ""]);
        table.add_row(["frames kept", &self.frames.to_string(), ""]);
        let plans = match self.success {
            Success::Expert { expert_success, expert_success_ci } => {
                table.add_row(["score", &format!("{:.3}", self.score), ""]);
                let ci = expert_success_ci.to_string();
                table.add_row(["expert's success", &format!("{expert_success:.3}"), &ci]);
                String::new()
            }
            Success::Policy { success, success_ci, score_ci, plans } => {
                let ci = score_ci.map_or_else(String::new, |ci| ci.to_string());
                table.add_row(["score", &format!("{:.3}", self.score), &ci]);
                table.add_row(["success", &format!("{success:.3}"), &success_ci.to_string()]);
                format!(" with {plans} plans")
            }
        };
        let Lengths { min, median, max } = self.length;
        table.add_row(["frames of an episode", &format!("{median} ({min} to {max})"), ""]);
        let Speed { feature, unit, median, p99 } = &self.speed;
        table.add_row(["median speed", &format!("{median:.3} {unit}"), ""]);
        table.add_row(["99 % below", &format!("{p99:.3} {unit}"), ""]);
        say!("{table}");
        say!(
            "{:.0} episodes an hour ({:.1} s{plans}), from seed {}; speed is that of `{feature}`",
            self.episodes_per_hour,
            self.wall_secs,
            self.seed
        );
        if self.recorded_before > 0 {
            say!("{} of the episodes had been run before this recording was cut off", self.recorded_before);
        }
        let out = self.out.display();
        match (&self.shard, self.kept) {
            (None, _) => {
                say!("{out} is a LeRobot v3.0 data set; see `nudge dataset info` and `nudge replay`")
            }
            (Some(shard), 0) => say!("{out} is part {shard}, in which no episode was kept"),
            (Some(shard), _) => {
                say!("{out} is part {shard}; `nudge dataset merge` makes one set of all parts")
            }
        }
    }
}
