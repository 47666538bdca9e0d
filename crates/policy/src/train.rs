//! The training loop.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use nudge_dataset::Dataset;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::checkpoint::{self, Initial, Manifest};
use crate::config::TrainConfig;
use crate::data::TrainingData;
use crate::initial::Beginning;
use crate::optimizer::{ema_decay, learning_rate};
use crate::parameters::ParameterList;
use crate::resume::{self, Progress};
use crate::updates::{self, TrainDevices, Updates};
use crate::{DeviceChoice, DiffusionPolicy, NoiseSchedule, PolicyFailure};

/// Windows on which a validation measures the denoising loss, and those it plans for.
const VALIDATION_WINDOWS: usize = 512;
const VALIDATION_PLANS: usize = 64;

/// Batches that are ready before they are needed.
const BATCHES_AHEAD: usize = 2;

/// Where training reads and writes.
pub struct TrainPaths<'a> {
    /// Folder of the data set; that of the configuration when `None`.
    pub data: Option<&'a Path>,
    /// Folder of checkpoints and log.
    pub out: &'a Path,
    /// Go on from the newest checkpoint in `out`.
    pub resume: bool,
    /// Begin from the weights of this checkpoint, rather than from random ones; not looked at when resuming.
    pub init: Option<&'a Path>,
}

/// What training tells while it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrainEvent {
    /// The data set can be read. The features passed over are pictures, videos and text.
    Opened {
        format: String,
        passed_over: Vec<String>,
    },
    /// The training begins from a checkpoint's weights, or goes on having begun so.
    Begun {
        from: Initial,
    },
    /// While ranges are learned, before the first step.
    Reading {
        frames: usize,
        of: usize,
    },
    Started {
        step: u64,
        steps: u64,
        parameters: usize,
        episodes: usize,
        held_out: usize,
        windows: usize,
    },
    /// After update `step`, as soon as its loss is known: on a GPU that may be some updates later. `loss` is that of the
    /// batch, before the update.
    Step {
        step: u64,
        loss: f64,
        learning_rate: f64,
        samples_per_second: f64,
    },
    /// On held-out episodes with the averaged weights. `action_error` is the root mean square distance of executed
    /// actions from the recorded ones, over all action numbers, in their unit.
    Validated {
        step: u64,
        loss: f64,
        action_error: f64,
    },
    Saved {
        step: u64,
        path: PathBuf,
    },
}

/// How training ended.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    pub step: u64,
    /// Whether all steps were made; otherwise it was stopped, and can be resumed.
    pub finished: bool,
    pub checkpoint: PathBuf,
    pub seconds: f64,
}

/// A training between two steps.
struct Trainer<'a> {
    config: &'a TrainConfig,
    data: &'a TrainingData,
    out: &'a Path,
    manifest: Manifest,
    list: ParameterList,
    schedule: NoiseSchedule,
    device: DeviceChoice,
    updates: Box<dyn Updates>,
}

/// Trains to the end, or until `stop` is set; then a checkpoint is written and nothing is lost.
///
/// # Errors
/// When configuration, data or checkpoints do not fit together, the loss is no longer finite, or the disk fails.
pub fn train(
    config: &TrainConfig,
    paths: &TrainPaths,
    devices: impl Into<TrainDevices>,
    stop: &AtomicBool,
    report: &mut dyn FnMut(&TrainEvent),
) -> Result<TrainReport, PolicyFailure> {
    let path = paths.data.unwrap_or(Path::new(&config.data.path));
    let dataset = Dataset::open(path)?;
    let passed_over = dataset.info().passed_over().map(|feature| feature.name.clone()).collect();
    report(&TrainEvent::Opened { format: dataset.format().to_string(), passed_over });
    let reading = &mut |frames, of| report(&TrainEvent::Reading { frames, of });
    let mut data = TrainingData::load_telling(config, dataset, reading)?;
    std::fs::create_dir_all(paths.out).map_err(PolicyFailure::io(paths.out))?;
    checkpoint::remove_unfinished(paths.out)?;
    let found = checkpoint::checkpoints_in(paths.out).pop();
    let beginning = match (&found, paths.resume, paths.init) {
        (Some(folder), true, _) => Beginning::again(folder)?,
        (Some(folder), false, _) => {
            let problem = "the folder already holds a training: resume it with --resume, or choose another";
            return Err(PolicyFailure::checkpoint(folder, problem));
        }
        (None, true, _) => {
            return Err(PolicyFailure::checkpoint(paths.out, "there is no checkpoint to resume from"));
        }
        (None, false, Some(init)) => Beginning::read(init, &Manifest::untrained(config))?,
        (None, false, None) => Beginning::default(),
    };
    if let Some(from) = &beginning.initial {
        report(&TrainEvent::Begun { from: from.clone() });
    }
    beginning.normalizers.clone().into_iter().for_each(|normalizers| data.normalise_with(normalizers));
    let mut trainer = Trainer::new(config, &data, paths.out, devices.into(), beginning)?;
    let progress = match found {
        Some(folder) => {
            let (learned, progress) = resume::load(&folder, config, &trainer.list)?;
            trainer.updates.restore(learned)?;
            progress
        }
        None => Progress { step: 0, seconds: 0.0 },
    };
    report(&TrainEvent::Started {
        step: progress.step,
        steps: config.training.steps,
        parameters: trainer.list.count(),
        episodes: data.episodes,
        held_out: data.validation_episodes(),
        windows: data.train_windows(),
    });
    trainer.run(progress, stop, report)
}

fn manifest(config: &TrainConfig, data: &TrainingData) -> Manifest {
    let mut manifest = Manifest::untrained(config);
    manifest.observation = data.observation.clone();
    manifest.action = data.action.clone();
    manifest.clip_range = data.clip_range;
    manifest.trained.episodes = data.episodes;
    manifest.trained.frames = data.frames;
    manifest
}

impl<'a> Trainer<'a> {
    fn new(
        config: &'a TrainConfig,
        data: &'a TrainingData,
        out: &'a Path,
        devices: TrainDevices,
        beginning: Beginning,
    ) -> Result<Self, PolicyFailure> {
        let mut manifest = manifest(config, data);
        manifest.trained.initial = beginning.initial;
        let mut network = manifest.host_network(Vec::new());
        let random = || network.list.initialise(&mut ChaCha8Rng::seed_from_u64(config.seed));
        network.values = beginning.values.unwrap_or_else(random);
        let list = network.list.clone();
        manifest.trained.parameters = list.count();
        let schedule = config.policy.schedule.build().map_err(PolicyFailure::Config)?;
        let updates = updates::open(network, &config.training, devices)?;
        Ok(Self { config, data, out, manifest, list, schedule, device: devices.device, updates })
    }

    /// Trains from `progress` to the end, or until `stop` is set.
    fn run(
        mut self,
        progress: Progress,
        stop: &AtomicBool,
        report: &mut dyn FnMut(&TrainEvent),
    ) -> Result<TrainReport, PolicyFailure> {
        let (config, data, schedule) = (self.config, self.data, self.schedule.clone());
        let training = &config.training;
        let begun = Instant::now();
        let now = |step| Progress { step, seconds: progress.seconds + begun.elapsed().as_secs_f64() };
        let mut losses = Losses { told: progress.step, since: begun };
        let mut step = progress.step;
        let mut saved = None;
        std::thread::scope(|scope| {
            let (ready, batches) = sync_channel(BATCHES_AHEAD);
            scope.spawn(move || {
                // A batch depends on seed and step alone, so it does not matter when it is made.
                for step in progress.step..training.steps {
                    let batch = data.batch(step, training.batch_size, &schedule, config.policy.objective);
                    if ready.send(batch).is_err() {
                        // The training has ended before its last step.
                        break;
                    }
                }
            });
            while step < training.steps && !stop.load(Ordering::Relaxed) {
                let rate = learning_rate(&training.optimizer, step, training.steps);
                let Ok(batch) = batches.recv() else { break };
                self.updates.step(&batch?, rate, ema_decay(&training.ema, step))?;
                step += 1;
                let validates = step.is_multiple_of(training.validate_every) || step == training.steps;
                let saves = step.is_multiple_of(training.checkpoint_every) && step < training.steps;
                losses.tell(&mut *self.updates, config, validates || saves, report)?;
                if validates && let Some((loss, action_error)) = self.validate()? {
                    report(&TrainEvent::Validated { step, loss, action_error });
                }
                if saves {
                    saved = Some((step, self.save(now(step), report)?));
                }
                if validates || saves {
                    losses.since = Instant::now();
                }
            }
            Ok::<_, PolicyFailure>(())
        })?;
        losses.tell(&mut *self.updates, config, true, report)?;
        let last = now(step);
        let checkpoint = match saved {
            Some((at, path)) if at == step => path,
            _ => self.save(last, report)?,
        };
        Ok(TrainReport { step, finished: step >= training.steps, checkpoint, seconds: last.seconds })
    }

    /// Writes a checkpoint, and removes the oldest ones beyond those to be kept.
    fn save(
        &mut self,
        progress: Progress,
        report: &mut dyn FnMut(&TrainEvent),
    ) -> Result<PathBuf, PolicyFailure> {
        let (config, out, manifest) = (self.config, self.out, &mut self.manifest);
        manifest.trained.steps = progress.step;
        manifest.trained.samples = progress.step * config.training.batch_size as u64;
        manifest.trained.seconds = progress.seconds;
        let folder = out.join(format!("step_{:08}", progress.step));
        if !folder.exists() {
            let learned = self.updates.learned()?;
            let average = learned.average.clone();
            let state = resume::serialize(learned, &self.list, config, &progress);
            checkpoint::write(&folder, manifest, &self.list, average, &[(resume::FILE, state)])?;
            report(&TrainEvent::Saved { step: progress.step, path: folder.clone() });
        }
        let all = checkpoint::checkpoints_in(out);
        for old in all.iter().take(all.len().saturating_sub(config.training.keep)) {
            std::fs::remove_dir_all(old).map_err(PolicyFailure::io(old))?;
        }
        Ok(folder)
    }

    /// Denoising loss and action error of the averaged weights on held-out episodes; `None` when none are held out.
    fn validate(&mut self) -> Result<Option<(f64, f64)>, PolicyFailure> {
        let (config, manifest) = (self.config, &self.manifest);
        let of_size = |size| self.data.validation_batch(size, &self.schedule, config.policy.objective);
        let (Some(batch), Some(plans)) = (of_size(VALIDATION_WINDOWS)?, of_size(VALIDATION_PLANS)?) else {
            return Ok(None);
        };
        let loss = self.updates.validate(&batch)?;

        let (horizon, dim) = (config.policy.horizon, manifest.action_dim());
        let seeds: Vec<u64> = (0..plans.len() as u64).collect();
        let mut policy = DiffusionPolicy::new(manifest.clone(), self.updates.average()?, self.device.into())?;
        let sampled = policy.sample(&plans.condition, &seeds)?;
        let executed = |values: &[f32]| -> Vec<Vec<f32>> {
            let windows = values.chunks_exact(horizon.predicted * dim);
            let rows = windows.flat_map(|window| {
                window
                    .chunks_exact(dim)
                    .skip(horizon.observed - 1)
                    .take(horizon.executed)
                    .map(<[f32]>::to_vec)
            });
            rows.collect()
        };
        let (sampled, recorded) = (executed(&sampled), executed(&plans.action));
        let pairs = sampled.iter().zip(&recorded);
        let squares: f64 = pairs.map(|(one, two)| policy.squared_distance(one, two)).sum();
        let numbers = sampled.len() * config.interface.action_dim();
        Ok(Some((loss, (squares / numbers as f64).sqrt())))
    }
}

/// Which losses have been told.
struct Losses {
    /// Updates whose loss is known.
    told: u64,
    since: Instant,
}

impl Losses {
    /// Reports the losses that have become known; those of all updates when `wait`.
    fn tell(
        &mut self,
        updates: &mut dyn Updates,
        config: &TrainConfig,
        wait: bool,
        report: &mut dyn FnMut(&TrainEvent),
    ) -> Result<(), PolicyFailure> {
        let training = &config.training;
        let losses = updates.losses(wait)?;
        let samples = (losses.len() * training.batch_size) as f64;
        let samples_per_second = samples / self.since.elapsed().as_secs_f64();
        for loss in &losses {
            if !loss.is_finite() {
                let problem = format!("the loss is {loss}: lower `training.optimizer.learning_rate`");
                return Err(PolicyFailure::Training { step: self.told, problem });
            }
            let learning_rate = learning_rate(&training.optimizer, self.told, training.steps);
            self.told += 1;
            report(&TrainEvent::Step { step: self.told, loss: *loss, learning_rate, samples_per_second });
        }
        if !losses.is_empty() {
            self.since = Instant::now();
        }
        Ok(())
    }
}
