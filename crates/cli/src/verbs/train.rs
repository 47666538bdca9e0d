//! `nudge train`

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use clap::Args;
use nudge_policy::{TrainConfig, TrainDevices, TrainEvent, TrainPaths, train};

use crate::output::{self, say};
use crate::verbs::checkpoint::Device;

/// Exit status of a training that was stopped and can be resumed.
const STOPPED: u8 = 130;

/// Frames of a set whose reading is shown.
const SLOW_TO_READ: usize = 1_000_000;

/// Train a policy from demonstrations
///
/// Shows progress, validates on held-out episodes, and writes checkpoints that can be evaluated and served. Ctrl-C stops
/// cleanly: a checkpoint is written, and `--resume` goes on as if nothing had happened, to the last bit on a CPU.
#[derive(Args)]
pub struct Train {
    /// The experiment, for example configs/push_t.toml
    config: PathBuf,

    /// Data set to learn from, instead of the configuration's: a LeRobot folder, a zarr folder of diffusion_policy, or an
    /// HDF5 file of robomimic
    #[arg(long)]
    data: Option<PathBuf>,

    /// Learn from the first N episodes of the data set only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    episodes: Option<u64>,

    /// Folder for checkpoints and log; runs/<name of the configuration> if not given
    #[arg(long)]
    out: Option<PathBuf>,

    /// Go on with the training in this folder
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    resume: Option<PathBuf>,

    /// Begin from the weights of this checkpoint, rather than from random ones. Its network must be the configuration's;
    /// where it observes and acts with the same features, its normalisers are taken too
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "resume")]
    init: Option<PathBuf>,

    /// Where the network is trained
    #[arg(long, value_enum, default_value_t)]
    device: Device,

    /// On how many devices of that kind: each computes the gradients of its part of every batch. A divisor of
    /// training.shards in the configuration. Of use with several GPUs; a CPU's cores share the shards without it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    devices: u64,

    /// Print the final report as JSON
    #[arg(long)]
    json: bool,
}

impl Train {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let text = std::fs::read_to_string(&self.config)
            .with_context(|| format!("cannot read {}", self.config.display()))?;
        let mut config = TrainConfig::from_toml(&text).with_context(|| self.config.display().to_string())?;
        if let Some(episodes) = self.episodes {
            config.data.episodes = Some(usize::try_from(episodes)?);
        }
        let name = self.config.file_stem().unwrap_or_default();
        let out = self.resume.clone().or(self.out).unwrap_or_else(|| Path::new("runs").join(name));
        if self.resume.is_some() && !out.is_dir() {
            bail!("there is no folder {} to resume", out.display());
        }

        let stop = Arc::new(AtomicBool::new(false));
        let stopper = Arc::clone(&stop);
        ctrlc::set_handler(move || stopper.store(true, Ordering::Relaxed))
            .context("cannot watch for Ctrl-C")?;
        let mut show = Show::new(&out);
        let paths = TrainPaths {
            data: self.data.as_deref(),
            out: &out,
            resume: self.resume.is_some(),
            init: self.init.as_deref(),
        };
        let devices = TrainDevices { device: self.device.into(), count: usize::try_from(self.devices)? };
        let report = train(&config, &paths, devices, &stop, &mut |event| show.event(event))?;
        show.finish()?;

        if self.json {
            output::print_json(&report)?;
        } else if report.finished {
            say!("trained {} steps in {:.0} s: {}", report.step, report.seconds, report.checkpoint.display());
            say!("next: nudge eval {}", report.checkpoint.display());
        } else {
            say!("stopped at step {}; nothing is lost: {}", report.step, report.checkpoint.display());
            let data = self.data.map(|data| format!(" --data {}", data.display())).unwrap_or_default();
            let episodes =
                self.episodes.map(|episodes| format!(" --episodes {episodes}")).unwrap_or_default();
            let device = match self.device {
                Device::Cpu => "",
                Device::Cuda => " --device cuda",
            };
            let devices =
                if self.devices > 1 { format!(" --devices {}", self.devices) } else { String::new() };
            say!(
                "to go on: nudge train {}{data}{episodes}{device}{devices} --resume {}",
                self.config.display(),
                out.display()
            );
        }
        Ok(if report.finished { ExitCode::SUCCESS } else { ExitCode::from(STOPPED) })
    }
}

/// Progress for a person on standard error, and every event for machines in `log.jsonl`.
struct Show {
    path: PathBuf,
    log: Option<File>,
    bar: indicatif::ProgressBar,
    failure: Option<anyhow::Error>,
    mean_loss: f64,
}

impl Show {
    fn new(out: &Path) -> Self {
        let path = out.join("log.jsonl");
        Self { path, log: None, bar: indicatif::ProgressBar::hidden(), failure: None, mean_loss: f64::NAN }
    }

    fn event(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::Opened { passed_over, .. } => {
                if !passed_over.is_empty() {
                    self.line(&format!(
                        "not learned from, for they are no numbers: {}",
                        passed_over.join(", ")
                    ));
                }
            }
            TrainEvent::Begun { from } => {
                let normalisers =
                    if from.normalizers { "its normalisers" } else { "normalisers of the data set" };
                self.line(&format!(
                    "begun from {} after {} steps, with {normalisers}",
                    from.checkpoint, from.steps
                ));
            }
            TrainEvent::Reading { frames, of } => {
                // A small set is read before a bar could be seen.
                if *of >= SLOW_TO_READ {
                    if self.bar.is_hidden() {
                        self.bar = output::progress(*of as u64, "frames read");
                    }
                    self.bar.set_position(*frames as u64);
                }
            }
            TrainEvent::Started { step, steps, parameters, episodes, held_out, windows } => {
                self.bar.finish_and_clear();
                self.bar = output::progress(*steps, "steps");
                self.bar.set_position(*step);
                self.line(&format!(
                    "{parameters} parameters, {episodes} episodes of which {held_out} are held out, {windows} windows, \
                     from step {step} to {steps}"
                ));
                self.failure = self.open_log(*step).err();
            }
            TrainEvent::Step { step, loss, samples_per_second, .. } => {
                let mean = if self.mean_loss.is_nan() { *loss } else { self.mean_loss };
                self.mean_loss = 0.99 * mean + 0.01 * loss;
                self.bar.set_position(*step);
                self.bar
                    .set_message(format!("loss {:.4}, {samples_per_second:.0} samples/s", self.mean_loss));
                // One line in a hundred: enough to draw a curve.
                if !step.is_multiple_of(100) {
                    return;
                }
            }
            TrainEvent::Validated { step, loss, action_error } => {
                let train = self.mean_loss;
                self.line(&format!(
                    "step {step}: loss {train:.4}, held-out loss {loss:.4}, action error {action_error:.2}"
                ));
            }
            TrainEvent::Saved { path, .. } => self.line(&format!("saved {}", path.display())),
        }
        if let Err(error) = self.write(event) {
            self.failure.get_or_insert(error);
        }
    }

    /// A line above the bar, or a plain one where there is no terminal.
    fn line(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    /// Opens the log, without the lines of steps that a resumed training makes again.
    fn open_log(&mut self, step: u64) -> anyhow::Result<()> {
        let kept: Vec<String> = match File::open(&self.path) {
            Ok(file) => BufReader::new(file)
                .lines()
                .map_while(Result::ok)
                .filter(|line| {
                    let line: Option<serde_json::Value> = serde_json::from_str(line).ok();
                    line.and_then(|line| line["step"].as_u64()).is_some_and(|logged| logged <= step)
                })
                .collect(),
            Err(_) => Vec::new(),
        };
        let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&self.path, text).with_context(|| self.path.display().to_string())?;
        let log = OpenOptions::new().append(true).open(&self.path);
        self.log = Some(log.with_context(|| self.path.display().to_string())?);
        Ok(())
    }

    fn write(&mut self, event: &TrainEvent) -> anyhow::Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        writeln!(log, "{}", serde_json::to_string(event)?).with_context(|| self.path.display().to_string())
    }

    fn finish(self) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        self.failure
            .map_or(Ok(()), |error| Err(error.context("the training is saved, but its log is not whole")))
    }
}
