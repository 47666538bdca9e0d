//! Batches from demonstrations.

mod batch;
mod encoder;
mod rows;
mod source;
mod stream;
mod supply;
#[cfg(test)]
mod tests;

use nudge_dataset::{Dataset, Windows};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::encoder::{Encoder, Scratch, Window, starts, windows_of};
use self::rows::Rows;
use self::source::Source;
use self::stream::{Budget, Stream};
use self::supply::Supply;
use crate::config::DEFAULT_MEMORY_MIB;
use crate::initial::Normalizers;
use crate::ranges::Ranges;
use crate::{NoiseSchedule, Normalizer, Objective, PolicyFailure, TrainConfig};

use batch::Prefix;
pub(crate) use batch::{Batch, DeviceBatch};
pub(crate) use supply::Run;

/// Keeps the streams of random numbers apart that come from one seed.
#[derive(Clone, Copy)]
enum Purpose {
    HeldOut = 1,
    Shuffle = 2,
    Batch = 3,
    Validation = 4,
    Blocks = 5,
    Pool = 6,
    Ranges = 7,
}

/// Episodes, in memory or read as they are needed, and the windows over them.
pub(crate) struct TrainingData {
    seed: u64,
    encoder: Encoder,
    prefix: Option<Prefix>,
    supply: Supply,
    held_out: HeldOut,
    /// Episodes and frames of the set, those held out included.
    pub episodes: usize,
    pub frames: usize,
    pub observation: Normalizer,
    pub action: Normalizer,
    /// How far normalised actions reach from 0.
    pub clip_range: f64,
}

/// Episodes for validation.
struct HeldOut {
    /// Which of the set's.
    episodes: Vec<usize>,
    windows: Windows,
    /// `None` when they are read as they are needed.
    rows: Option<Rows>,
}

impl TrainingData {
    /// Reads a data set, or the first `config.data.episodes` of it, once, and holds episodes out. It stays in memory if it
    /// is no larger than `config.data.memory_mib`.
    ///
    /// # Errors
    /// When the set is smaller than that, lacks a feature of the interface, has it in another shape, or holds numbers that
    /// are not finite.
    pub fn load(config: &TrainConfig, dataset: Dataset) -> Result<Self, PolicyFailure> {
        Self::load_telling(config, dataset, &mut |_, _| {})
    }

    /// The same, telling how many frames have been read, and of how many.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_telling(
        config: &TrainConfig,
        dataset: Dataset,
        tell: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, PolicyFailure> {
        let source = Source::new(config, dataset)?;
        let lengths = source.lengths();
        let memory = config.data.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB) * 1024.0 * 1024.0;
        let budget = Budget::new(memory, source.dims());
        let (frames, seed) = (lengths.iter().sum(), config.seed);
        let horizon = config.policy.horizon;
        let pad_after = config.data.pad_after.unwrap_or(horizon.executed.saturating_sub(1));
        let held_out = held_out(lengths.len(), config.data.validation_share, seed);

        let mut encoder = Encoder::new(config)?;
        let [mut observation, mut action] = ranges(config, &encoder, &lengths, pad_after);
        let mut kept = (frames <= budget.frames).then(|| {
            let of = |held: bool| {
                let wanted = lengths.iter().zip(&held_out).filter(|(_, out)| **out == held);
                Rows::new(source.dims(), wanted.map(|(length, _)| length).sum())
            };
            [of(false), of(true)]
        });
        let mut read = 0;
        for block in budget.blocks(&lengths) {
            let mut rows = Rows::new(source.dims(), lengths[block.clone()].iter().sum());
            source.read(block.clone(), |_| true, &mut rows)?;
            for (index, episode) in block.enumerate() {
                let rows = rows.episode(index);
                let starts = starts(rows.frames(), horizon, pad_after);
                encoder.learn_ranges(rows, starts, &mut observation, &mut action);
                if let Some(kept) = &mut kept {
                    kept[usize::from(held_out[episode])].push_episode(rows);
                }
                read += rows.frames();
            }
            tell(read, frames);
        }
        let (observation, _) = observation.finish().map_err(PolicyFailure::Data)?;
        let (action, clip_range) = action.finish().map_err(PolicyFailure::Data)?;
        encoder.normalise_with(&observation, &action);

        let episodes: Vec<usize> = (0..lengths.len()).filter(|episode| held_out[*episode]).collect();
        let of_held_out: Vec<usize> = episodes.iter().map(|episode| lengths[*episode]).collect();
        let windows = Windows::new(&of_held_out, horizon, pad_after);
        let (supply, rows) = match kept {
            Some([train, rows]) => {
                let windows = windows_of(&train, horizon, pad_after);
                (Supply::of_rows(train, windows, seed), Some(rows))
            }
            None => {
                let wanted = held_out.iter().map(|out| !out).collect();
                let stream = Stream::new(source, seed, (horizon, pad_after), wanted, budget);
                (Supply::of_stream(stream, seed), None)
            }
        };
        if supply.windows() == 0 {
            return Err(PolicyFailure::Data(format!(
                "no training episode is long enough for a window of {} frames",
                horizon.predicted
            )));
        }
        let held_out = HeldOut { episodes, windows, rows };
        let episodes = lengths.len();
        let prefix = config
            .policy
            .prefix
            .map(|prefix| Prefix { first: horizon.observed - 1, max_steps: prefix.max_steps });
        Ok(Self {
            seed,
            encoder,
            prefix,
            supply,
            held_out,
            episodes,
            frames,
            observation,
            action,
            clip_range,
        })
    }

    /// Normalises as a checkpoint does, and no longer by what the set holds.
    pub fn normalise_with(&mut self, normalizers: Normalizers) {
        let Normalizers { observation, action, clip_range } = normalizers;
        self.encoder.normalise_with(&observation, &action);
        (self.observation, self.action, self.clip_range) = (observation, action, clip_range);
    }

    /// Windows in one pass over the training episodes.
    pub fn train_windows(&self) -> usize {
        self.supply.windows() as usize
    }

    /// Whether the set is read as it is needed.
    pub fn streamed(&self) -> bool {
        self.supply.stream().is_some()
    }

    /// Episodes held out.
    pub fn validation_episodes(&self) -> usize {
        self.held_out.episodes.len()
    }

    /// The batch of one training step: a function of seed and step alone.
    ///
    /// # Errors
    /// When the set is read as it is needed, and can no longer be.
    pub fn batch(
        &self,
        step: u64,
        size: usize,
        schedule: &NoiseSchedule,
        objective: Objective,
    ) -> Result<Batch, PolicyFailure> {
        let (mut batch, mut rng) = self.gathered(step, &self.take(step, size)?);
        batch.diffuse(schedule, objective, &mut rng);
        Ok(batch)
    }

    /// Where the windows of a step's batch lie.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn take(&self, step: u64, size: usize) -> Result<Vec<Run>, PolicyFailure> {
        self.supply.take(step * size as u64, size)
    }

    /// The batch of a step without noise yet, and the generator that draws it.
    pub fn gathered(&self, step: u64, runs: &[Run]) -> (Batch, ChaCha8Rng) {
        let mut rng = rng(self.seed, Purpose::Batch, step);
        let windows =
            runs.iter().flat_map(|run| run.pool.order[run.range.clone()].iter().zip(std::iter::repeat(run)));
        let windows = windows.map(|(window, run)| {
            let (episode, start) =
                run.pool.windows.get(*window as usize).expect("the order is of these windows");
            let mirrored = self.encoder.mirrors() && rng.random::<bool>();
            Window { episode: run.pool.rows.episode(episode), start, mirrored }
        });
        let size = runs.iter().map(|run| run.range.len()).sum();
        let batch = self.batch_of(size, windows);
        (batch, rng)
    }

    /// Up to `size` windows spread evenly over the held-out episodes, with the same noise every time.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn validation_batch(
        &self,
        size: usize,
        schedule: &NoiseSchedule,
        objective: Objective,
    ) -> Result<Option<Batch>, PolicyFailure> {
        let HeldOut { episodes, windows, rows } = &self.held_out;
        let size = size.min(windows.len());
        if size == 0 {
            return Ok(None);
        }
        let places: Vec<(usize, i64)> =
            (0..size).filter_map(|index| windows.get(index * windows.len() / size)).collect();
        let window = |rows, start| Window { episode: rows, start, mirrored: false };
        let mut batch = match (rows, self.supply.stream()) {
            (None, Some(stream)) => {
                let mut read = Vec::new();
                for episode in places.chunk_by(|one, next| one.0 == next.0) {
                    read.push((stream.episode(episodes[episode[0].0])?, episode));
                }
                let windows = read.iter().flat_map(|(rows, places)| {
                    places.iter().map(|(_, start)| window(rows.episode(0), *start))
                });
                self.batch_of(size, windows)
            }
            (Some(rows), _) => self
                .batch_of(size, places.iter().map(|(episode, start)| window(rows.episode(*episode), *start))),
            (None, None) => return Ok(None),
        };
        batch.diffuse(schedule, objective, &mut rng(self.seed, Purpose::Validation, 0));
        Ok(Some(batch))
    }

    fn batch_of<'a>(&self, size: usize, windows: impl Iterator<Item = Window<'a>>) -> Batch {
        let [of_condition, of_action] = self.encoder.window_dims();
        let (mut condition, mut action) = (vec![0.0; size * of_condition], vec![0.0; size * of_action]);
        let mut scratch = Scratch::default();
        let parts = condition.chunks_exact_mut(of_condition).zip(action.chunks_exact_mut(of_action));
        for ((condition, action), window) in parts.zip(windows) {
            self.encoder.write(window, &mut scratch, condition, action);
        }
        Batch::new(size, self.encoder.action_dim(), condition, action).with_prefix(self.prefix)
    }
}

/// What is to be learned of observations and actions of a set with these episodes.
fn ranges(config: &TrainConfig, encoder: &Encoder, lengths: &[usize], pad_after: usize) -> [Ranges; 2] {
    let (interface, horizon) = (&config.interface, config.policy.horizon);
    let images = 1 + u64::from(encoder.mirrors());
    let frames: u64 = lengths.iter().map(|length| *length as u64).sum();
    let windows = || lengths.iter().map(|length| starts(*length, horizon, pad_after).count() as u64);
    let acted = match encoder.acts_by_window() {
        true => windows().sum::<u64>() * horizon.predicted as u64,
        false => frames,
    };
    let [observed_dims, acted_dims] = encoder.feature_dims(interface);
    let entries = &config.policy.normalization;
    let rng = |index| rng(config.seed, Purpose::Ranges, index);
    [
        Ranges::new(observed_dims, entries, images * frames, &mut rng(0)),
        Ranges::new(acted_dims, entries, images * acted, &mut rng(1)),
    ]
}

/// Which episodes are held out: a share of them, at least one if the share is not 0, chosen by the seed.
fn held_out(episodes: usize, share: f64, seed: u64) -> Vec<bool> {
    let count = ((episodes as f64 * share).round() as usize).max(usize::from(share > 0.0));
    let mut order: Vec<usize> = (0..episodes).collect();
    order.shuffle(&mut rng(seed, Purpose::HeldOut, 0));
    let mut held_out = vec![false; episodes];
    // One episode at least is left to learn from.
    order.iter().take(count.min(episodes.saturating_sub(1))).for_each(|episode| held_out[*episode] = true);
    held_out
}

fn rng(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let seed = nudge_control::noise_seed(seed ^ (purpose as u64) << 56, index);
    ChaCha8Rng::seed_from_u64(seed)
}
