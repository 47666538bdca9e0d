//! `nudge dataset`: what is in a recorded data set, and several as one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use comfy_table::{Cell, CellAlignment};
use nudge_control::{Interval, wilson_interval};
use nudge_dataset::{Dataset, DatasetInfo, FeatureStats, Merged, NonFinite, Recorded, merge};
use serde::Serialize;

use crate::output::{self, say};

/// Look into recorded data sets, and merge them
#[derive(Args)]
pub struct DatasetVerb {
    #[command(subcommand)]
    command: DatasetCommand,
}

#[derive(Subcommand)]
enum DatasetCommand {
    /// Show what a LeRobot data set holds (v3.0, v2.1 or v2.0)
    ///
    /// Reads the metadata alone, so it answers at once for a set of any size; --check reads every number.
    Info {
        /// The folder that holds `meta/` and `data/`
        dir: PathBuf,
        /// Read all frames, and report numbers that are NaN or infinite
        #[arg(long)]
        check: bool,
        /// Print JSON instead of tables
        #[arg(long)]
        json: bool,
    },
    /// Make one data set of several
    ///
    /// For the parts of a recording (`nudge record --shard`), give the folder that holds them: it is checked that none is
    /// missing or double, and the set is the very one that one program would have recorded. Other sets are put one
    /// after another; they must have the same features.
    Merge {
        /// Data sets, or folders of parts
        #[arg(required = true, value_name = "DIR")]
        dirs: Vec<PathBuf>,
        /// The folder to write; it must not exist
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl DatasetVerb {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            DatasetCommand::Info { dir, check, json } => info(&dir, check, json)?,
            DatasetCommand::Merge { dirs, out, json } => merge_sets(&dirs, &out, json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn info(dir: &Path, check: bool, json: bool) -> anyhow::Result<()> {
    let dataset = Dataset::open(dir)?;
    let non_finite = if check { Some(dataset.check()?) } else { None };
    let lengths = (0..dataset.episode_count()).filter_map(|episode| dataset.episode_length(episode));
    let length = Lengths::of(lengths.collect());
    if json {
        output::print_json(&Report { info: dataset.info(), length, non_finite })?;
    } else {
        print(dir, &dataset, length, non_finite.as_deref());
    }
    Ok(())
}

/// What a merge says.
#[derive(Serialize)]
struct MergeReport<'a> {
    #[serde(flatten)]
    merged: Merged,
    /// Share of successes among all episodes that the parts of a recording ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success_ci: Option<Interval>,
    out: &'a Path,
}

fn merge_sets(dirs: &[PathBuf], out: &Path, json: bool) -> anyhow::Result<()> {
    let merged = merge(dirs, out)?;
    let Merged { sets, episodes, frames, recorded } = merged;
    if json {
        let success = recorded.map(|recorded| recorded.succeeded as f64 / recorded.run.max(1) as f64);
        let success_ci = recorded.map(|recorded| wilson_interval(recorded.succeeded, recorded.run));
        return output::print_json(&MergeReport { merged, success, success_ci, out });
    }
    say!("{}: {episodes} episodes, {frames} frames, from {sets} sets", out.display());
    if let Some(Recorded { run, succeeded, kept }) = recorded {
        let ci = wilson_interval(succeeded, run);
        say!(
            "nothing is missing: {run} episodes were run, {succeeded} achieved the task (95 % interval {:.3} to \
             {:.3}), {kept} were kept",
            ci.low,
            ci.high
        );
    }
    Ok(())
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    info: &'a DatasetInfo,
    /// Frames of an episode.
    length: Lengths,
    #[serde(skip_serializing_if = "Option::is_none")]
    non_finite: Option<Vec<NonFinite>>,
}

/// Frames of an episode.
#[derive(Clone, Copy, Serialize)]
pub struct Lengths {
    pub min: usize,
    pub median: usize,
    pub max: usize,
}

impl Lengths {
    /// 0 throughout when there are none.
    pub fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let at = |place: usize| lengths.get(place).copied().unwrap_or(0);
        Self { min: at(0), median: at(lengths.len() / 2), max: at(lengths.len().saturating_sub(1)) }
    }
}

fn print(dir: &Path, dataset: &Dataset, lengths: Lengths, non_finite: Option<&[NonFinite]>) {
    let info = dataset.info();
    let seconds = info.frames as f64 / info.fps;
    say!("{} (LeRobot {})", dir.display(), info.codebase_version);
    say!(
        "{} episodes, {} frames at {} Hz ({:.1} min); an episode is {} to {} frames long (median {})",
        info.episodes,
        info.frames,
        info.fps,
        seconds / 60.0,
        lengths.min,
        lengths.max,
        lengths.median
    );
    if let Some(robot) = &info.robot_type {
        say!("robot: {robot}");
    }
    for task in &info.tasks {
        say!("task: {task}");
    }
    // A set without statistics is a set all the same.
    let stats = dataset.stats().unwrap_or_default();
    let mut table = output::table(["feature", "type", "shape", "least", "greatest", "names"]);
    for feature in &info.features {
        let stats = stats.get(&feature.name);
        let shape: Vec<String> = feature.shape.iter().map(ToString::to_string).collect();
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(&feature.name),
            Cell::new(&feature.dtype),
            right(shape.join(" x ")),
            right(extreme(stats, |stats| &stats.min, f64::min)),
            right(extreme(stats, |stats| &stats.max, f64::max)),
            Cell::new(shortened(&feature.names)),
        ]);
    }
    say!("{table}");
    match non_finite {
        None => {}
        Some([]) => say!("all numbers are finite"),
        Some(found) => found.iter().for_each(|found| {
            say!(
                "{}: {} numbers are NaN or infinite, the first in episode {}, frame {}",
                found.feature,
                found.values,
                found.episode,
                found.frame
            );
        }),
    }
}

/// The least or greatest of a feature's numbers, if the set states them.
fn extreme(
    stats: Option<&FeatureStats>,
    list: impl Fn(&FeatureStats) -> &Vec<f64>,
    pick: impl Fn(f64, f64) -> f64,
) -> String {
    let value = stats.and_then(|stats| list(stats).iter().copied().reduce(pick));
    value.map_or_else(String::new, |value| format!("{}", (value * 1e4).round() / 1e4))
}

fn shortened(names: &[String]) -> String {
    match names {
        [first, second, third, _, .., last] => format!("{first}, {second}, {third}, ..., {last}"),
        _ => names.join(", "),
    }
}
