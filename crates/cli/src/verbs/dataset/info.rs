//! `nudge dataset info`: what a data set holds.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use comfy_table::{Cell, CellAlignment};
use nudge_dataset::{Dataset, DatasetInfo, FeatureSummary, summarise};
use serde::Serialize;

use super::stats::rounded;
use super::{sketch, wire_log};
use crate::output::{self, say};

/// Show what a data set holds: episodes, features, and how their numbers are distributed
///
/// Of LeRobot v3.0, v2.1 and v2.0 folders, diffusion_policy's zarr replay buffers and robomimic's HDF5 files. Reads all frames, or
/// some episodes of a large set, and says so. Of an MCAP file: its topics, their rates, and what is missing.
#[derive(Args)]
pub struct Info {
    /// The data set: a LeRobot folder (which holds `meta/` and `data/`), a zarr folder, an HDF5 file, or an MCAP file
    #[arg(value_name = "SET")]
    dir: PathBuf,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    info: &'a DatasetInfo,
    /// Frames of an episode.
    length: Lengths,
    /// Features that are listed and not read, each with its type.
    passed_over: Vec<String>,
    /// `None` when the frames cannot be read.
    sketch: Option<Sketch>,
}

/// What the numbers are.
#[derive(Serialize)]
struct Sketch {
    /// How many episodes it was made from.
    episodes: usize,
    features: Vec<FeatureSummary>,
}

impl Info {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if wire_log::is_mcap(&self.dir) {
            wire_log::info(&self.dir, self.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        let dataset = Dataset::open(&self.dir)?;
        let lengths = (0..dataset.episode_count()).filter_map(|episode| dataset.episode_length(episode));
        let length = Lengths::of(lengths.collect());
        let sampled = sketch::sampled(&dataset);
        let bar = output::progress(100, "% of the features");
        let mut progress = |share: f64| bar.set_position((100.0 * share) as u64);
        let summaries = summarise(&dataset, &sampled, sketch::BINS, &mut progress);
        bar.finish_and_clear();
        // What the metadata say is worth showing all the same.
        let sketch = match summaries {
            Ok(features) => Some(Sketch { episodes: sampled.len(), features }),
            Err(error) => {
                eprintln!("warning: the frames cannot be read: {error}");
                None
            }
        };
        let info = dataset.info();
        let passed_over =
            info.passed_over().map(|feature| format!("{} ({})", feature.name, feature.dtype)).collect();
        let report = Report { info, length, passed_over, sketch };
        if self.json {
            output::print_json(&report)?;
        } else {
            print(&self.dir, &report);
        }
        Ok(ExitCode::SUCCESS)
    }
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

fn print(dir: &Path, report: &Report) {
    let Report { info, length, passed_over, sketch } = report;
    say!("{} ({})", dir.display(), info.format);
    let rate = match info.fps {
        Some(fps) => format!("at {fps} Hz ({:.1} min)", info.frames as f64 / fps / 60.0),
        None => "at a rate that it does not state".into(),
    };
    let Lengths { min, median, max } = length;
    let frames = info.frames;
    say!(
        "{} episodes, {frames} frames {rate}; an episode is {min} to {max} frames long (median {median})",
        info.episodes
    );
    if let Some(robot) = &info.robot_type {
        say!("robot: {robot}");
    }
    info.tasks.iter().filter(|task| !task.is_empty()).for_each(|task| say!("task: {task}"));
    for split in &info.splits {
        say!("part `{}`: {} episodes", split.name, split.episodes.len());
    }
    let mut table =
        output::table(["feature", "type", "shape", "least", "greatest", "from least to greatest", "names"]);
    for feature in info.features.iter().filter(|feature| feature.is_numeric()) {
        let features = sketch.iter().flat_map(|sketch| &sketch.features);
        let summary = features.into_iter().find(|summary| summary.feature == feature.name);
        let shape: Vec<String> = feature.shape.iter().map(ToString::to_string).collect();
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let extreme = |list: fn(&FeatureSummary) -> &Vec<f64>, pick: fn(f64, f64) -> f64| {
            let value = summary.and_then(|summary| list(summary).iter().copied().reduce(pick));
            right(value.map_or_else(String::new, rounded))
        };
        table.add_row([
            Cell::new(&feature.name),
            Cell::new(&feature.dtype),
            right(shape.join(" x ")),
            extreme(|summary| &summary.stats.min, f64::min),
            extreme(|summary| &summary.stats.max, f64::max),
            Cell::new(summary.map_or_else(String::new, sketch::of_feature)),
            Cell::new(shortened(&feature.names)),
        ]);
    }
    say!("{table}");
    if let Some(sketch) = sketch.as_ref().filter(|sketch| sketch.episodes < info.episodes) {
        say!("the numbers are those of {} episodes, evenly spread; the set is large", sketch.episodes);
    }
    if !passed_over.is_empty() {
        say!("listed and not read, for they hold no numbers: {}", passed_over.join(", "));
    }
}

fn shortened(names: &[String]) -> String {
    match names {
        [first, second, third, _, .., last] => format!("{first}, {second}, {third}, ..., {last}"),
        _ => names.join(", "),
    }
}
