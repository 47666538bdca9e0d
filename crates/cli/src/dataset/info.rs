//! `nudge dataset info`: what a data set holds.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use comfy_table::{Cell, CellAlignment};
use nudge_dataset::{Dataset, DatasetInfo, FeatureStats, NonFinite};
use serde::Serialize;

use crate::output::{self, say};

/// Show what a data set holds: LeRobot (v3.0, v2.1, v2.0), diffusion_policy's zarr, robomimic's HDF5
///
/// Reads the metadata alone, so it answers at once for a set of any size; --check reads every number.
#[derive(Args)]
pub struct Info {
    /// The folder (LeRobot: the one that holds `meta/` and `data/`; zarr) or the HDF5 file
    dir: PathBuf,

    /// Read all frames, and report numbers that are NaN or infinite
    #[arg(long)]
    check: bool,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

impl Info {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let dataset = Dataset::open(&self.dir)?;
        let non_finite = if self.check { Some(dataset.check()?) } else { None };
        let lengths = (0..dataset.episode_count()).filter_map(|episode| dataset.episode_length(episode));
        let length = Lengths::of(lengths.collect());
        if self.json {
            output::print_json(&Report { info: dataset.info(), length, non_finite })?;
        } else {
            print(&self.dir, &dataset, length, non_finite.as_deref());
        }
        Ok(ExitCode::SUCCESS)
    }
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
    let rate = info.fps.map(|fps| format!(" at {fps} Hz ({:.1} min)", info.frames as f64 / fps / 60.0));
    say!("{} ({})", dir.display(), info.format);
    say!(
        "{} episodes, {} frames{}; an episode is {} to {} frames long (median {})",
        info.episodes,
        info.frames,
        rate.unwrap_or_else(|| ", at a rate that the set does not state".into()),
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
    let passed_over: Vec<_> =
        info.passed_over().map(|feature| format!("{} ({})", feature.name, feature.dtype)).collect();
    if !passed_over.is_empty() {
        say!("listed and not read, for they hold no numbers: {}", passed_over.join(", "));
    }
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
