//! Batches as training makes them.

use std::hint::black_box;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nudge_dataset::Dataset;

use crate::data::{Run, TrainingData};
use crate::{NoiseSchedule, PolicyFailure, TrainConfig};

/// Windows of a data set, shuffled, mirrored, normalised and noised. Several threads can make batches side by side.
pub struct Batches {
    config: TrainConfig,
    data: TrainingData,
    schedule: NoiseSchedule,
    step: Mutex<u64>,
}

impl Batches {
    /// Reads the data set in `path` for an experiment, instead of its own.
    ///
    /// # Errors
    /// As training does, when set and experiment do not fit together.
    pub fn open(config: &TrainConfig, path: &Path) -> Result<Self, PolicyFailure> {
        let data = TrainingData::load(config, Dataset::open(path)?)?;
        let schedule = config.policy.schedule.build().map_err(PolicyFailure::Config)?;
        Ok(Self { config: config.clone(), data, schedule, step: Mutex::new(0) })
    }

    /// Episodes and frames read.
    pub fn size(&self) -> (usize, usize) {
        (self.data.episodes, self.data.frames)
    }

    /// Windows of an epoch.
    pub fn windows(&self) -> usize {
        self.data.train_windows()
    }

    /// Whether the set is read again in every epoch, because it is larger than the experiment's memory.
    pub fn streamed(&self) -> bool {
        self.data.streamed()
    }

    /// Makes the batch of the next training step, of the experiment's size; how many windows it holds.
    ///
    /// # Errors
    /// When the set can no longer be read.
    pub fn make_next(&self) -> Result<usize, PolicyFailure> {
        let (step, runs) = self.next()?;
        let (mut batch, mut rng) = self.data.gathered(step, &runs);
        batch.diffuse(&self.schedule, self.config.policy.objective, &mut rng);
        Ok(black_box(batch).len())
    }

    /// The same without mixing the windows with noise.
    ///
    /// # Errors
    /// When the set can no longer be read.
    pub fn gather_next(&self) -> Result<usize, PolicyFailure> {
        let (step, runs) = self.next()?;
        Ok(black_box(self.data.gathered(step, &runs)).0.len())
    }

    /// Steps are given out in order, so that a set that is streamed is read in order.
    fn next(&self) -> Result<(u64, Vec<Run>), PolicyFailure> {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = self.data.take(*step, self.config.training.batch_size)?;
        *step += 1;
        Ok((*step - 1, runs))
    }
}
