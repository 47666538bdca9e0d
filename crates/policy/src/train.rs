//! The training loop.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use nudge_dataset::Dataset;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::checkpoint::{self, Manifest};
use crate::config::TrainConfig;
use crate::data::{Batch, TrainingData};
use crate::diffusion::Denoiser;
use crate::optimizer::{Optimizer, ema_decay, learning_rate};
use crate::parameters::{ParameterList, Weights};
use crate::resume::{self, Progress};
use crate::unet::ConditionalUnet1d;
use crate::{DeviceChoice, NoiseSchedule, PolicyFailure};

/// Windows on which a validation measures the denoising loss, and those it plans for.
const VALIDATION_WINDOWS: usize = 512;
const VALIDATION_PLANS: usize = 64;

/// Where training reads and writes.
pub struct TrainPaths<'a> {
    /// Folder of the data set; that of the configuration when `None`.
    pub data: Option<&'a Path>,
    /// Folder of checkpoints and log.
    pub out: &'a Path,
    /// Go on from the newest checkpoint in `out`.
    pub resume: bool,
}

/// What training tells while it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrainEvent {
    Started {
        step: u64,
        steps: u64,
        parameters: usize,
        episodes: usize,
        held_out: usize,
        windows: usize,
    },
    /// After an update. `loss` is that of the batch, before it.
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

/// The state of training between two steps. It is a function of configuration, data and step count alone.
pub(crate) struct Trainer {
    pub network: ConditionalUnet1d,
    pub list: ParameterList,
    pub weights: Weights,
    pub average: Weights,
    pub optimizer: Optimizer,
    pub schedule: NoiseSchedule,
    pub device: Device,
}

/// Trains to the end, or until `stop` is set; then a checkpoint is written and nothing is lost.
///
/// # Errors
/// When configuration, data or checkpoints do not fit together, the loss is no longer finite, or the disk fails.
pub fn train(
    config: &TrainConfig,
    paths: &TrainPaths,
    device: DeviceChoice,
    stop: &AtomicBool,
    report: &mut dyn FnMut(&TrainEvent),
) -> Result<TrainReport, PolicyFailure> {
    let path = paths.data.unwrap_or(Path::new(&config.data.path));
    let dataset = Dataset::open(path)?;
    let data = TrainingData::load(config, &dataset)?;
    std::fs::create_dir_all(paths.out).map_err(PolicyFailure::io(paths.out))?;
    let mut manifest = manifest(config, &data);
    let mut trainer = Trainer::new(&manifest, config, device)?;
    manifest.trained.parameters = trainer.list.count();
    checkpoint::remove_unfinished(paths.out)?;
    let found = checkpoint::checkpoints_in(paths.out).pop();
    let progress = match (found, paths.resume) {
        (Some(folder), true) => resume::load(&folder, config, &mut trainer)?,
        (Some(folder), false) => {
            let problem = "the folder already holds a training: resume it with --resume, or choose another";
            return Err(PolicyFailure::checkpoint(folder, problem));
        }
        (None, true) => {
            return Err(PolicyFailure::checkpoint(paths.out, "there is no checkpoint to resume from"));
        }
        (None, false) => Progress { step: 0, seconds: 0.0 },
    };
    let training = &config.training;
    report(&TrainEvent::Started {
        step: progress.step,
        steps: training.steps,
        parameters: manifest.trained.parameters,
        episodes: data.episodes,
        held_out: data.validation_episodes(),
        windows: data.train_windows(),
    });

    let begun = Instant::now();
    let mut step = progress.step;
    let mut saved = None;
    while step < training.steps && !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let rate = learning_rate(&training.optimizer, step, training.steps);
        let batch = data.batch(step, training.batch_size, &trainer.schedule, config.policy.objective);
        let loss = trainer.step(&batch, training.shards, rate, ema_decay(&training.ema, step));
        if !loss.is_finite() {
            let problem = format!("the loss is {loss}: lower `training.optimizer.learning_rate`");
            return Err(PolicyFailure::Training { step, problem });
        }
        step += 1;
        let samples_per_second = training.batch_size as f64 / started.elapsed().as_secs_f64();
        report(&TrainEvent::Step { step, loss, learning_rate: rate, samples_per_second });
        if (step.is_multiple_of(training.validate_every) || step == training.steps)
            && let Some((loss, action_error)) = trainer.validate(config, &data, &manifest)
        {
            report(&TrainEvent::Validated { step, loss, action_error });
        }
        if step.is_multiple_of(training.checkpoint_every) && step < training.steps {
            let seconds = progress.seconds + begun.elapsed().as_secs_f64();
            saved = Some((
                step,
                save(&trainer, &mut manifest, config, paths.out, Progress { step, seconds }, report)?,
            ));
        }
    }
    let seconds = progress.seconds + begun.elapsed().as_secs_f64();
    let checkpoint = match saved {
        Some((at, path)) if at == step => path,
        _ => save(&trainer, &mut manifest, config, paths.out, Progress { step, seconds }, report)?,
    };
    Ok(TrainReport { step, finished: step >= training.steps, checkpoint, seconds })
}

fn manifest(config: &TrainConfig, data: &TrainingData) -> Manifest {
    let mut manifest = Manifest::untrained(config);
    manifest.observation = data.observation.clone();
    manifest.action = data.action.clone();
    manifest.trained.episodes = data.episodes;
    manifest.trained.frames = data.frames;
    manifest
}

/// Writes a checkpoint, and removes the oldest ones beyond those to be kept.
fn save(
    trainer: &Trainer,
    manifest: &mut Manifest,
    config: &TrainConfig,
    out: &Path,
    progress: Progress,
    report: &mut dyn FnMut(&TrainEvent),
) -> Result<PathBuf, PolicyFailure> {
    manifest.trained.steps = progress.step;
    manifest.trained.samples = progress.step * config.training.batch_size as u64;
    manifest.trained.seconds = progress.seconds;
    let folder = out.join(format!("step_{:08}", progress.step));
    if !folder.exists() {
        let state = resume::serialize(trainer, config, &progress);
        let denoiser = trainer.denoiser();
        checkpoint::write(&folder, manifest, &trainer.list, &denoiser, &[(resume::FILE, state)])?;
        report(&TrainEvent::Saved { step: progress.step, path: folder.clone() });
    }
    let all = checkpoint::checkpoints_in(out);
    for old in all.iter().take(all.len().saturating_sub(config.training.keep)) {
        std::fs::remove_dir_all(old).map_err(PolicyFailure::io(old))?;
    }
    Ok(folder)
}

impl Trainer {
    pub fn new(
        manifest: &Manifest,
        config: &TrainConfig,
        device: DeviceChoice,
    ) -> Result<Self, PolicyFailure> {
        let (device, kernels) = device.open()?;
        let (network, list) = manifest.network(kernels);
        let values = list.initialise(&mut ChaCha8Rng::seed_from_u64(config.seed));
        let weights = Weights::new(&list, values, &device);
        let optimizer = Optimizer::new(&config.training.optimizer, list.iter().len());
        let schedule = config.policy.schedule.build().map_err(PolicyFailure::Config)?;
        Ok(Self { network, list, average: weights.clone(), weights, optimizer, schedule, device })
    }

    /// One update; returns the mean squared error of the batch before it.
    pub fn step(&mut self, batch: &Batch, shards: usize, rate: f64, decay: f64) -> f64 {
        let share = batch.len() / shards;
        let numbers = batch.action.len() as f64;
        let parts: Vec<(f64, Vec<Tensor<1>>)> = std::thread::scope(|scope| {
            let this = &*self;
            let running: Vec<_> = (0..shards)
                .map(|shard| {
                    scope.spawn(move || this.gradients(batch, shard * share..(shard + 1) * share, numbers))
                })
                .collect();
            let finished = running.into_iter().map(|thread| thread.join());
            finished.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let mut parts = parts.into_iter();
        let (mut loss, mut sums) = parts.next().expect("a batch has at least one shard");
        for (part, gradients) in parts {
            loss += part;
            sums = sums.into_iter().zip(gradients).map(|(sum, gradient)| sum + gradient).collect();
        }
        self.optimizer.step(rate, decay, &mut self.weights, &mut self.average, sums, shards);
        loss
    }

    /// Loss and gradients of some samples of a batch, divided by all numbers of the whole batch.
    fn gradients(
        &self,
        batch: &Batch,
        samples: std::ops::Range<usize>,
        numbers: f64,
    ) -> (f64, Vec<Tensor<1>>) {
        let device = self.device.clone().autodiff();
        let weights = self.weights.tracked();
        let batch = batch.on_device(samples, &device);
        let output = self.network.forward(&weights, batch.noisy, &batch.timesteps, batch.condition);
        let loss = (output - batch.target).square().sum() / numbers;
        let mut gradients = loss.backward();
        let gradient = |tensor: &Tensor<1>| {
            tensor.grad_remove(&mut gradients).expect("the loss depends on every parameter")
        };
        let gradients = weights.tensors().iter().map(gradient).collect();
        (f64::from(loss.into_scalar::<f32>()), gradients)
    }

    /// Network and averaged weights.
    pub fn denoiser(&self) -> Denoiser {
        Denoiser {
            network: self.network.clone(),
            weights: self.average.clone(),
            schedule: self.schedule.clone(),
            device: self.device.clone(),
        }
    }

    /// Denoising loss and action error of the averaged weights on held-out episodes.
    fn validate(&self, config: &TrainConfig, data: &TrainingData, manifest: &Manifest) -> Option<(f64, f64)> {
        let batch = data.validation_batch(VALIDATION_WINDOWS, &self.schedule, config.policy.objective)?;
        let (mut loss, numbers) = (0.0, batch.action.len() as f64);
        for start in (0..batch.len()).step_by(64) {
            let part = batch.on_device(start..(start + 64).min(batch.len()), &self.device);
            let output = self.network.forward(&self.average, part.noisy, &part.timesteps, part.condition);
            loss += f64::from((output - part.target).square().sum().into_scalar::<f32>()) / numbers;
        }

        let plans = data.validation_batch(VALIDATION_PLANS, &self.schedule, config.policy.objective)?;
        let (horizon, dim) = (config.policy.horizon, config.interface.action_dim());
        let seeds: Vec<u64> = (0..plans.len() as u64).collect();
        let shape = [horizon.predicted, dim];
        let sampled = self.denoiser().sample(&config.policy, shape, &plans.condition, &seeds);
        let executed = horizon.observed - 1..horizon.observed - 1 + horizon.executed;
        let physical = |values: &[f32]| {
            let windows = values.chunks_exact(shape[0] * dim);
            let rows =
                windows.flat_map(|window| window.chunks_exact(dim).take(executed.end).skip(executed.start));
            rows.flat_map(|row| manifest.action.unnormalise(row.iter().copied())).collect::<Vec<f64>>()
        };
        let (sampled, recorded) = (physical(&sampled), physical(&plans.action));
        let squares: f64 = sampled.iter().zip(&recorded).map(|(a, b)| (a - b).powi(2)).sum();
        Some((loss, (squares / sampled.len() as f64).sqrt()))
    }
}
