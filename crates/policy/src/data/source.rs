//! A data set as an experiment reads it: which numbers of which features are observed and acted.

use std::ops::Range;

use nudge_dataset::{Dataset, Table};

use super::rows::{Part, Rows};
use crate::config::FeatureSource;
use crate::{PolicyFailure, TrainConfig};

/// See the module.
pub(crate) struct Source {
    dataset: Dataset,
    observation: Vec<Column>,
    action: Vec<Column>,
    /// How many episodes, from the first on, are learned from.
    episodes: usize,
}

/// A feature of the data set, and which of its numbers.
struct Column {
    name: String,
    numbers: Option<Vec<usize>>,
    /// Numbers taken.
    dim: usize,
}

impl Source {
    /// # Errors
    /// When the set was recorded at another rate, is smaller than the configuration wants it, or lacks a feature or has it
    /// in another shape.
    pub fn new(config: &TrainConfig, dataset: Dataset) -> Result<Self, PolicyFailure> {
        let (interface, info) = (&config.interface, dataset.info());
        // A set that states no rate is taken to have the configuration's.
        let other = |fps: &f64| (fps - interface.control_hz).abs() > 1e-6 * interface.control_hz;
        if let Some(fps) = info.fps.filter(other) {
            return Err(PolicyFailure::Data(format!(
                "it was recorded at {fps} Hz, and `interface.control_hz` is {}",
                interface.control_hz
            )));
        }
        let column = |(name, dim)| Column::new(name, dim, &config.data.features, &dataset);
        let observed = interface.observation.iter().map(|feature| (feature.name.as_str(), feature.dim()));
        let acted = interface.action.iter().map(|feature| (feature.name.as_str(), feature.dim()));
        let observation = observed.map(column).collect::<Result<_, _>>()?;
        let action = acted.map(column).collect::<Result<_, _>>()?;
        let recorded = dataset.episode_count();
        let episodes = config.data.episodes.unwrap_or(recorded);
        if episodes > recorded {
            return Err(PolicyFailure::Data(format!(
                "it holds {recorded} episodes, and `data.episodes` asks for {episodes}"
            )));
        }
        Ok(Self { dataset, observation, action, episodes })
    }

    /// Frames of each episode.
    pub fn lengths(&self) -> Vec<usize> {
        (0..self.episodes).map(|episode| self.dataset.episode_length(episode).unwrap_or(0)).collect()
    }

    /// `[Do, Da]` in physical units.
    pub fn dims(&self) -> [usize; 2] {
        [&self.observation, &self.action].map(|columns| columns.iter().map(|column| column.dim).sum())
    }

    /// Reads consecutive episodes, and appends those that are `wanted`.
    ///
    /// # Errors
    /// When the files do not hold what the metadata say, or a number is not finite.
    pub fn read(
        &self,
        episodes: Range<usize>,
        wanted: impl Fn(usize) -> bool,
        rows: &mut Rows,
    ) -> Result<(), PolicyFailure> {
        let columns = || self.observation.iter().chain(&self.action);
        let names: Vec<&str> = columns().map(|column| column.name.as_str()).collect();
        let tables = self.dataset.read_episodes(episodes.clone(), &names)?;
        for (episode, tables) in episodes.zip(&tables).filter(|(episode, _)| wanted(*episode)) {
            for (column, table) in columns().zip(tables) {
                column.check_finite(episode, table)?;
            }
            let (observation, action) = tables.split_at(self.observation.len());
            rows.push(&parts(&self.observation, observation), &parts(&self.action, action));
        }
        Ok(())
    }
}

impl Column {
    fn new(
        feature: &str,
        dim: usize,
        sources: &[FeatureSource],
        dataset: &Dataset,
    ) -> Result<Self, PolicyFailure> {
        let source = sources.iter().find(|source| source.name == feature);
        let name = source.map_or(feature, |source| source.from.as_str()).to_owned();
        let numbers = source.and_then(|source| source.numbers.clone());
        let stated =
            dataset.info().features.iter().find(|stated| stated.name == name).map(|stated| stated.dim());
        // What the set does not have, reading names.
        let problem = match (stated, &numbers) {
            (Some(stated), None) if stated != dim => {
                Some(format!("`{name}` holds {stated} numbers, and the configuration says {dim}"))
            }
            (Some(stated), Some(numbers)) => numbers.iter().find(|number| **number >= stated).map(|number| {
                format!("`{name}` holds {stated} numbers, and `data.features` asks for number {number}")
            }),
            _ => None,
        };
        match problem {
            Some(problem) => Err(PolicyFailure::Data(format!("feature {problem}"))),
            None => Ok(Self { name, numbers, dim }),
        }
    }

    /// Only what is taken counts.
    fn check_finite(&self, episode: usize, table: &Table) -> Result<(), PolicyFailure> {
        let bad = |(frame, number): (usize, usize)| {
            let name = &self.name;
            Err(PolicyFailure::Data(format!(
                "episode {episode}, frame {frame}, `{name}`[{number}] is not finite: mend or drop the episode"
            )))
        };
        let Some((place, _)) = table.non_finite() else { return Ok(()) };
        let Some(numbers) = &self.numbers else { return bad(place) };
        let within = |frame: usize| {
            let number = numbers.iter().find(|number| !table.row(frame)[**number].is_finite())?;
            Some((frame, *number))
        };
        (place.0..table.rows).find_map(within).map_or(Ok(()), bad)
    }
}

fn parts<'a>(columns: &'a [Column], tables: &'a [Table]) -> Vec<Part<'a>> {
    columns.iter().zip(tables).map(|(column, table)| (table, column.numbers.as_deref())).collect()
}
