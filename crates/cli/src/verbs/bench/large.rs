//! `nudge bench data --frames N`: a set of any size.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nudge_control::{ActionFeature, ActionMode, Feature, FeatureKind, Limits, split_mix_64};
use nudge_dataset::{Column, DatasetWriter, FeatureInfo, WriteSpec};
use nudge_policy::TrainConfig;
use nudge_policy::bench::Batches;
use serde::Serialize;

use super::scratch::Scratch;
use super::{machine, times};
use crate::output::{self, say};
use crate::verbs::checkpoint::Device;

/// What is made and measured.
pub struct Large {
    pub frames: u64,
    /// Numbers of an observation, and of an action.
    pub dim: usize,
    /// Where the set is left, or is already; a folder for temporary files that is removed if not given.
    pub keep: Option<PathBuf>,
    /// For how long batches are mixed with noise.
    pub duration: Duration,
}

#[derive(Serialize)]
pub struct Report {
    device_name: String,
    frames: usize,
    episodes: usize,
    dim: usize,
    batch: usize,
    /// Numbers that make a window: observed and acted ones.
    numbers_a_window: [usize; 2],
    streamed: bool,
    /// Writing the set; not given where it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    write_s: Option<f64>,
    /// Reading it once, and learning its ranges.
    load_s: f64,
    rows: Vec<Row>,
    /// The most memory that the process ever held; known where there is `/proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_mib: Option<f64>,
}

#[derive(Serialize)]
struct Row {
    work: &'static str,
    threads: usize,
    windows: usize,
    windows_per_s: f64,
    /// Processor time of the whole process, reading included.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_us_a_window: Option<f64>,
}

const EPISODE: u64 = 500;

impl Large {
    /// Writes the set, and goes through it with one and with two threads.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn run(&self, mut config: TrainConfig) -> Result<Report> {
        shape(&mut config, self.dim);
        let scratch;
        let path = match &self.keep {
            Some(path) => path.clone(),
            None => {
                scratch = Scratch::new("large")?;
                scratch.path().join("data")
            }
        };
        let mut write_s = None;
        if !path.exists() {
            let begun = Instant::now();
            write(&path, self.frames, self.dim).context("cannot write a synthetic data set")?;
            write_s = Some(begun.elapsed().as_secs_f64());
        }
        // What writing took in memory is not what is measured.
        machine::forget_peak();
        let begun = Instant::now();
        let batches = Batches::open(&config, &path)?;
        let load_s = begun.elapsed().as_secs_f64();
        let (episodes, frames) = batches.size();
        let horizon = config.policy.horizon;
        let rows = vec![
            row(&batches, 1, None)?,
            row(&batches, 2, None)?,
            row(&batches, 1, Some(self.duration))?,
            row(&batches, 2, Some(self.duration))?,
        ];
        Ok(Report {
            device_name: machine::name(Device::Cpu),
            frames,
            episodes,
            dim: self.dim,
            batch: config.training.batch_size,
            numbers_a_window: [horizon.observed * self.dim, horizon.predicted * self.dim],
            streamed: batches.streamed(),
            write_s,
            load_s,
            rows,
            peak_mib: machine::peak_mib(),
        })
    }
}

/// Goes through an epoch, or mixes its windows with noise for so long.
fn row(batches: &Batches, threads: usize, noise: Option<Duration>) -> Result<Row> {
    let (cpu, begun) = (times::cpu_secs(), Instant::now());
    let (epoch, all) = (batches.windows(), AtomicUsize::new(0));
    let work = || -> Result<usize> {
        let mut own = 0;
        loop {
            let made = if noise.is_some() { batches.make_next()? } else { batches.gather_next()? };
            own += made;
            let windows = all.fetch_add(made, Ordering::Relaxed) + made;
            if noise.map_or(windows >= epoch, |duration| begun.elapsed() >= duration) {
                return Ok(own);
            }
        }
    };
    let windows = std::thread::scope(|scope| -> Result<usize> {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let finished = running.into_iter().map(|thread| thread.join());
        finished.map(|made| made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum()
    })?;
    let cpu = cpu.zip(times::cpu_secs()).map(|(before, after)| after - before);
    Ok(Row {
        work: if noise.is_some() { "and mixed with noise" } else { "gathered and normalised" },
        threads,
        windows,
        windows_per_s: windows as f64 / begun.elapsed().as_secs_f64(),
        cpu_us_a_window: cpu.map(|secs| secs * 1e6 / windows as f64),
    })
}

/// One observed and one acted feature of `dim` numbers, and nothing held out.
fn shape(config: &mut TrainConfig, dim: usize) {
    config.data.symmetry = None;
    config.data.validation_share = 0.0;
    config.interface.observation = vec![Feature::vector("observation.state", dim, "")];
    config.interface.action = vec![ActionFeature {
        name: "action".into(),
        kind: FeatureKind::Vector,
        shape: vec![dim],
        unit: String::new(),
        mode: ActionMode::Absolute,
        limits: Limits { low: vec![-1.0; dim], high: vec![1.0; dim] },
    }];
}

/// Writes random numbers in -1..1, in episodes of [`EPISODE`] frames.
fn write(dir: &Path, frames: u64, dim: usize) -> Result<()> {
    let feature = |name: &str| FeatureInfo {
        name: name.into(),
        dtype: "float32".into(),
        shape: vec![dim],
        names: Vec::new(),
    };
    let features = vec![feature("observation.state"), feature("action")];
    let mut writer = DatasetWriter::create(dir, WriteSpec { fps: 10.0, robot_type: None, features })?;
    let bar = output::progress(frames, "frames written");
    let mut written = 0;
    while written < frames {
        let length = EPISODE.min(frames - written);
        let column = |which: u64| {
            let first = (2 * written + which * length) * dim as u64;
            let number = |index| (split_mix_64(index) >> 40) as f32 / (1 << 23) as f32 - 1.0;
            Column::Float32((first..first + length * dim as u64).map(number).collect())
        };
        let timestamps: Vec<f32> = (0..length).map(|frame| frame as f32 / 10.0).collect();
        writer.push("synthetic", &timestamps, &[column(0), column(1)])?;
        written += length;
        bar.set_position(written);
    }
    writer.finish()?;
    bar.finish_and_clear();
    Ok(())
}

impl Report {
    pub fn print(&self) {
        let mut table = output::table(["windows", "threads", "windows/s", "CPU time each, us", "n"]);
        for row in &self.rows {
            let cpu = row.cpu_us_a_window.map_or("unknown".into(), |cpu| format!("{cpu:.2}"));
            let (threads, windows) = (row.threads.to_string(), row.windows.to_string());
            table.add_row([row.work.into(), threads, format!("{:.0}", row.windows_per_s), cpu, windows]);
        }
        say!("{table}");
        let [observed, acted] = self.numbers_a_window;
        let memory = self.peak_mib.map(|mib| format!(", {mib:.0} MiB of memory at most")).unwrap_or_default();
        let written = self.write_s.map(|secs| format!("written in {secs:.0} s, ")).unwrap_or_default();
        let (frames, dim, load_s) = (self.frames, self.dim, self.load_s);
        let where_from = if self.streamed { "streamed" } else { "in memory" };
        say!(
            "{frames} frames of {dim} + {dim} numbers, {where_from}; {written}first read in {load_s:.0} s{memory}"
        );
        say!(
            "a window is {observed} observed and {acted} acted numbers; batches of {} on {}",
            self.batch,
            self.device_name
        );
    }
}
