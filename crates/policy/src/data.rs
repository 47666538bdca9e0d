//! Batches from demonstrations.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use nudge_control::{Horizon, Interface};
use nudge_dataset::{Dataset, Table, Windows, gather};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::augmentation::Symmetry;
use crate::relative::References;
use crate::{NoiseSchedule, Normalizer, Objective, PolicyFailure, TrainConfig};

/// Keeps the streams of random numbers apart that come from one seed.
#[derive(Clone, Copy)]
enum Stream {
    HeldOut = 1,
    Shuffle = 2,
    Batch = 3,
    Validation = 4,
}

/// Episodes in memory, and the windows over them.
pub(crate) struct TrainingData {
    horizon: Horizon,
    references: References,
    seed: u64,
    train: Split,
    validation: Split,
    /// The mirror image of every training episode, when the task has a symmetry.
    mirrored: Option<Split>,
    /// Episodes and frames read, those held out included.
    pub episodes: usize,
    pub frames: usize,
    pub observation: Normalizer,
    pub action: Normalizer,
    /// An epoch and its order of the windows: shuffling a large set takes longer than making a batch.
    order: Mutex<(u64, Vec<usize>)>,
}

struct Split {
    /// Observations `[frames, Do]` and actions `[frames, Da]` of each episode, in physical units.
    episodes: Vec<(Table, Table)>,
    windows: Windows,
}

impl TrainingData {
    /// Reads a data set, or the first `config.data.episodes` of it, and holds episodes out.
    ///
    /// # Errors
    /// When the set is smaller than that, lacks a feature of the interface, has it in another shape, or holds numbers that are not finite.
    pub fn load(config: &TrainConfig, dataset: &Dataset) -> Result<Self, PolicyFailure> {
        let interface = &config.interface;
        let info = dataset.info();
        // A set that does not state its rate is taken at the configuration's.
        let fps = info.fps.unwrap_or(interface.control_hz);
        if (fps - interface.control_hz).abs() > 1e-6 * interface.control_hz {
            return Err(PolicyFailure::Data(format!(
                "it was recorded at {fps} Hz, and `interface.control_hz` is {}",
                interface.control_hz
            )));
        }
        let observed: Vec<&str> = interface.observation.iter().map(|feature| feature.name.as_str()).collect();
        let acted: Vec<&str> = interface.action.iter().map(|feature| feature.name.as_str()).collect();
        let wanted: Vec<usize> = interface.observation.iter().map(|feature| feature.dim()).collect();
        let wanted = [wanted, interface.action.iter().map(|feature| feature.dim()).collect()].concat();
        for (name, dim) in observed.iter().chain(&acted).zip(&wanted) {
            let stated =
                info.features.iter().find(|feature| feature.name == *name).map(|feature| feature.dim());
            if let Some(stated) = stated.filter(|stated| stated != dim) {
                return Err(PolicyFailure::Data(format!(
                    "feature `{name}` holds {stated} numbers, and the configuration says {dim}"
                )));
            }
        }
        let recorded = dataset.episode_count();
        let episodes = config.data.episodes.unwrap_or(recorded);
        if episodes > recorded {
            return Err(PolicyFailure::Data(format!(
                "it holds {recorded} episodes, and `data.episodes` asks for {episodes}"
            )));
        }
        let mut tables = dataset.read_all(&[observed.clone(), acted.clone()].concat())?;
        tables.truncate(episodes);
        let mut held_out = held_out(tables.len(), config.data.validation_share, config.seed);
        let mut rows = Vec::new();
        for (episode, features) in tables.iter().enumerate() {
            for (name, table) in observed.iter().chain(&acted).zip(features) {
                if let Some(((frame, number), _)) = table.non_finite() {
                    return Err(PolicyFailure::Data(format!(
                        "episode {episode}, frame {frame}, `{name}`[{number}] is not finite: mend or drop the episode"
                    )));
                }
            }
            let (observation, action) = features.split_at(observed.len());
            rows.push((join(observation), join(action)));
        }
        let frames = rows.iter().map(|(_, action)| action.rows).sum();
        let mirrored = config.data.symmetry.as_ref().map(|symmetry| mirror(symmetry, interface, &rows));
        let horizon = config.policy.horizon;
        let pad_after = config.data.pad_after.unwrap_or(horizon.executed.saturating_sub(1));
        let references =
            References::new(&config.policy.relative, interface).map_err(PolicyFailure::Config)?;
        let all = || rows.iter().chain(mirrored.iter().flatten());
        let seen = all().flat_map(|(seen, _)| seen.values.chunks_exact(seen.dim));
        let observation = Normalizer::fit(interface.observation_dim(), seen).map_err(PolicyFailure::Data)?;
        let done: Vec<f32> = if config.policy.relative.is_empty() {
            all().flat_map(|(_, done)| done.values.iter().copied()).collect()
        } else {
            let windows = Split::new(all().cloned().collect(), horizon, pad_after);
            (0..windows.windows.len())
                .flat_map(|window| windows.actions(window, horizon, &references))
                .collect()
        };
        let action_dim = interface.action_dim();
        let action =
            Normalizer::fit(action_dim, done.chunks_exact(action_dim)).map_err(PolicyFailure::Data)?;

        let mut split = |rows: Vec<(Table, Table)>| {
            let (mut train, mut validation) = (Vec::new(), Vec::new());
            for (row, held_out) in rows.into_iter().zip(&mut held_out) {
                if *held_out { validation.push(row) } else { train.push(row) }
            }
            (Split::new(train, horizon, pad_after), Split::new(validation, horizon, pad_after))
        };
        let mirrored = mirrored.map(|rows| split(rows).0);
        let (train, validation) = split(rows);
        if train.windows.is_empty() {
            return Err(PolicyFailure::Data(format!(
                "no training episode is long enough for a window of {} frames",
                horizon.predicted
            )));
        }
        Ok(Self {
            horizon,
            references,
            seed: config.seed,
            train,
            validation,
            mirrored,
            episodes,
            frames,
            observation,
            action,
            order: Mutex::new((u64::MAX, Vec::new())),
        })
    }

    /// Windows in one pass over the training episodes.
    pub fn train_windows(&self) -> usize {
        self.train.windows.len()
    }

    /// Episodes held out.
    pub fn validation_episodes(&self) -> usize {
        self.validation.episodes.len()
    }

    /// The batch of one training step: a function of seed and step alone.
    pub fn batch(&self, step: u64, size: usize, schedule: &NoiseSchedule, objective: Objective) -> Batch {
        let windows = self.train.windows.len();
        let mut rng = rng(self.seed, Stream::Batch, step);
        let mut batch = Batch::new(size, self.action.dim());
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        for sample in 0..size as u64 {
            let position = step * size as u64 + sample;
            let epoch = position / windows as u64;
            if order.0 != epoch {
                *order = (epoch, self.shuffled(epoch));
            }
            let window = order.1[(position % windows as u64) as usize];
            let flip = self.mirrored.is_some() && rng.random::<bool>();
            let split = if flip { self.mirrored.as_ref().unwrap_or(&self.train) } else { &self.train };
            self.add(split, window, &mut batch);
        }
        drop(order);
        batch.diffuse(schedule, objective, &mut rng);
        batch
    }

    /// Up to `size` windows spread evenly over the held-out episodes, with the same noise every time.
    pub fn validation_batch(
        &self,
        size: usize,
        schedule: &NoiseSchedule,
        objective: Objective,
    ) -> Option<Batch> {
        let windows = self.validation.windows.len();
        let size = size.min(windows);
        if size == 0 {
            return None;
        }
        let mut batch = Batch::new(size, self.action.dim());
        (0..size).for_each(|index| self.add(&self.validation, index * windows / size, &mut batch));
        batch.diffuse(schedule, objective, &mut rng(self.seed, Stream::Validation, 0));
        Some(batch)
    }

    fn shuffled(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.train.windows.len()).collect();
        order.shuffle(&mut rng(self.seed, Stream::Shuffle, epoch));
        order
    }

    fn add(&self, split: &Split, window: usize, batch: &mut Batch) {
        let normalised = |normalizer: &Normalizer, row: &[f32]| -> Vec<f32> {
            normalizer.normalise(row.iter().map(|value| f64::from(*value))).collect()
        };
        for seen in split.observations(window, self.horizon).chunks_exact(self.observation.dim()) {
            let mut seen = normalised(&self.observation, seen);
            self.references.hide(&mut seen);
            batch.condition.extend(seen);
        }
        for done in split.actions(window, self.horizon, &self.references).chunks_exact(self.action.dim()) {
            batch.action.extend(normalised(&self.action, done));
        }
    }
}

impl Split {
    fn new(episodes: Vec<(Table, Table)>, horizon: Horizon, pad_after: usize) -> Self {
        let lengths: Vec<usize> = episodes.iter().map(|(_, action)| action.rows).collect();
        Self { windows: Windows::new(&lengths, horizon, pad_after), episodes }
    }

    /// `[To, Do]`
    fn observations(&self, window: usize, horizon: Horizon) -> Vec<f32> {
        let (episode, start) = self.windows.get(window).expect("callers count the windows");
        gathered(&self.episodes[episode].0, start, horizon.observed)
    }

    /// `[Tp, Da]`, less what is observed at the window's newest observation where actions are relative to it.
    fn actions(&self, window: usize, horizon: Horizon, references: &References) -> Vec<f32> {
        let (episode, start) = self.windows.get(window).expect("callers count the windows");
        let (seen, done) = &self.episodes[episode];
        let newest = gathered(seen, start + horizon.observed as i64 - 1, 1);
        let mut actions = gathered(done, start, horizon.predicted);
        actions.chunks_exact_mut(done.dim).for_each(|action| references.subtract(action, &newest));
        actions
    }
}

/// Which episodes are held out: a share of them, at least one if the share is not 0, chosen by the seed.
fn held_out(episodes: usize, share: f64, seed: u64) -> Vec<bool> {
    let count = ((episodes as f64 * share).round() as usize).max(usize::from(share > 0.0));
    let mut order: Vec<usize> = (0..episodes).collect();
    order.shuffle(&mut rng(seed, Stream::HeldOut, 0));
    let mut held_out = vec![false; episodes];
    // One episode at least is left to learn from.
    order.iter().take(count.min(episodes.saturating_sub(1))).for_each(|episode| held_out[*episode] = true);
    held_out
}

fn rng(seed: u64, stream: Stream, index: u64) -> ChaCha8Rng {
    let seed = nudge_control::noise_seed(seed ^ (stream as u64) << 56, index);
    ChaCha8Rng::seed_from_u64(seed)
}

/// Features side by side.
fn join(features: &[Table]) -> Table {
    let (rows, dim) = (features[0].rows, features.iter().map(|table| table.dim).sum());
    let values = (0..rows).flat_map(|row| features.iter().flat_map(move |table| table.row(row))).copied();
    Table { rows, dim, values: values.collect() }
}

fn mirror(symmetry: &Symmetry, interface: &Interface, rows: &[(Table, Table)]) -> Vec<(Table, Table)> {
    let mirror_table = |table: &Table, features: &[(&str, usize)]| {
        let mut table = table.clone();
        let width = table.dim;
        for row in table.values.chunks_exact_mut(width) {
            let mut rest = row;
            for (name, dim) in features {
                let (feature, after) = rest.split_at_mut(*dim);
                symmetry.apply(name, feature);
                rest = after;
            }
        }
        table
    };
    let observed: Vec<_> = interface.observation.iter().map(|f| (f.name.as_str(), f.dim())).collect();
    let acted: Vec<_> = interface.action.iter().map(|f| (f.name.as_str(), f.dim())).collect();
    rows.iter().map(|(seen, done)| (mirror_table(seen, &observed), mirror_table(done, &acted))).collect()
}

/// Rows `start .. start + steps`, edges repeated.
fn gathered(table: &Table, start: i64, steps: usize) -> Vec<f32> {
    let mut out = vec![0.0; steps * table.dim];
    gather(table, start, steps, &mut out);
    out
}

/// What the network is shown and what it is to answer, on the host.
pub(crate) struct Batch {
    size: usize,
    action_dim: usize,
    /// `[B, To * Do]`
    pub condition: Vec<f32>,
    /// `[B, Tp, Da]`, normalised.
    pub action: Vec<f32>,
    /// `[B, Tp, Da]`
    pub noisy: Vec<f32>,
    /// `[B, Tp, Da]`
    pub target: Vec<f32>,
    pub timesteps: Vec<usize>,
}

/// Part of a batch on a device.
pub(crate) struct DeviceBatch {
    pub condition: Tensor<2>,
    pub noisy: Tensor<3>,
    pub target: Tensor<3>,
    pub timesteps: Vec<usize>,
}

impl Batch {
    fn new(size: usize, action_dim: usize) -> Self {
        let (condition, action, timesteps) = (Vec::new(), Vec::new(), Vec::new());
        Self { size, action_dim, condition, action, noisy: Vec::new(), target: Vec::new(), timesteps }
    }

    /// A batch of given noise, as a reference would train on.
    #[cfg(test)]
    pub fn from_parts(
        action_dim: usize,
        condition: Vec<f32>,
        action: Vec<f32>,
        noise: &[f32],
        timesteps: Vec<usize>,
        (schedule, objective): (&NoiseSchedule, Objective),
    ) -> Self {
        let mut batch = Self { size: timesteps.len(), condition, action, ..Self::new(0, action_dim) };
        batch.diffuse_with(schedule, objective, timesteps, noise);
        batch
    }

    pub fn len(&self) -> usize {
        self.size
    }

    /// Draws timesteps and noise.
    fn diffuse(&mut self, schedule: &NoiseSchedule, objective: Objective, rng: &mut ChaCha8Rng) {
        let timesteps = (0..self.size).map(|_| rng.random_range(0..schedule.train_steps())).collect();
        let noise: Vec<f32> = (0..self.action.len()).map(|_| rng.sample(StandardNormal)).collect();
        self.diffuse_with(schedule, objective, timesteps, &noise);
    }

    /// `x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise` (Ho et al. 2020, eq. 4), and the objective's target.
    fn diffuse_with(
        &mut self,
        schedule: &NoiseSchedule,
        objective: Objective,
        timesteps: Vec<usize>,
        noise: &[f32],
    ) {
        let width = self.action.len() / self.size;
        let samples = self.action.chunks_exact(width).zip(noise.chunks_exact(width)).zip(&timesteps);
        for ((action, noise), timestep) in samples {
            let factors = schedule.signal_and_noise(*timestep);
            let target = objective.target_factors(factors);
            let mix = |(of_action, of_noise): (f64, f64)| {
                let (of_action, of_noise) = (of_action as f32, of_noise as f32);
                action.iter().zip(noise).map(move |(action, noise)| of_action * action + of_noise * noise)
            };
            self.noisy.extend(mix(factors));
            self.target.extend(mix(target));
        }
        self.timesteps = timesteps;
    }

    /// The samples of `range`, on a device.
    pub fn on_device(&self, range: std::ops::Range<usize>, device: &Device) -> DeviceBatch {
        let count = range.len();
        let part = |values: &[f32]| {
            let width = values.len() / self.size;
            values[range.start * width..range.end * width].to_vec()
        };
        let signal = |values: &[f32]| {
            let values = part(values);
            let shape = [count, values.len() / count / self.action_dim, self.action_dim];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        let condition = part(&self.condition);
        let width = condition.len() / count;
        DeviceBatch {
            condition: Tensor::from_data(TensorData::new(condition, [count, width]), device),
            noisy: signal(&self.noisy),
            target: signal(&self.target),
            timesteps: self.timesteps[range.clone()].to_vec(),
        }
    }
}
