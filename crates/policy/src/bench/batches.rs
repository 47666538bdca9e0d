//! Batches as training makes them.

use std::path::Path;

use nudge_dataset::Dataset;

use crate::data::TrainingData;
use crate::{NoiseSchedule, PolicyFailure, TrainConfig};

/// Windows of a data set, shuffled, mirrored, normalised and noised.
pub struct Batches {
    config: TrainConfig,
    data: TrainingData,
    schedule: NoiseSchedule,
    step: u64,
}

impl Batches {
    /// Reads the data set in `path` for an experiment, instead of its own.
    ///
    /// # Errors
    /// As training does, when set and experiment do not fit together.
    pub fn open(config: &TrainConfig, path: &Path) -> Result<Self, PolicyFailure> {
        let data = TrainingData::load(config, &Dataset::open(path)?)?;
        let schedule = config.policy.schedule.build().map_err(PolicyFailure::Config)?;
        Ok(Self { config: config.clone(), data, schedule, step: 0 })
    }

    /// Episodes and frames read.
    pub fn size(&self) -> (usize, usize) {
        (self.data.episodes, self.data.frames)
    }

    /// Makes the batch of the next training step, of the experiment's size; how many windows it holds.
    pub fn make_next(&mut self) -> usize {
        let size = self.config.training.batch_size;
        let batch = self.data.batch(self.step, size, &self.schedule, self.config.policy.objective);
        self.step += 1;
        std::hint::black_box(batch).len()
    }
}
