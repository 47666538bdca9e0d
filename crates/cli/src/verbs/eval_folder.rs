//! What an evaluation leaves in a folder: results, episodes, and a picture of the worst.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nudge_control::Episode;
use nudge_dataset::{DatasetError, EpisodeWriter, Recording};
use nudge_sim::TaskConfig;

use crate::verbs::contact_sheet::write_contact_sheet;
use crate::verbs::eval_report::Report;
use crate::verbs::record::Setup;
use crate::verbs::task::instruction;

/// Episodes on the picture.
const WORST: usize = 10;

/// The folder, while episodes come in.
pub struct EvalFolder {
    dir: PathBuf,
    task: TaskConfig,
    episodes: EpisodeWriter,
    /// The lowest scores so far, worst first.
    worst: Vec<Episode>,
}

impl EvalFolder {
    /// # Errors
    /// When `dir` exists, or cannot be created.
    pub fn create(dir: &Path, setup: &Setup) -> Result<Self> {
        if dir.symlink_metadata().is_ok() {
            return Err(DatasetError::Exists { path: dir.to_owned() }.into());
        }
        let world = setup.task.build();
        let recording = Recording {
            instruction: instruction(&setup.task).to_owned(),
            robot_type: Some("simulated".into()),
            setup: serde_json::to_value(setup)?,
        };
        let episodes =
            EpisodeWriter::create(&dir.join("episodes"), world.name(), world.interface(), recording)?;
        Ok(Self { dir: dir.to_owned(), task: setup.task, episodes, worst: Vec::new() })
    }

    /// Takes further episodes.
    pub fn keep(&mut self, episodes: Vec<Episode>) -> Result<()> {
        episodes.iter().try_for_each(|episode| self.episodes.push(episode))?;
        self.worst.extend(episodes);
        self.worst.sort_by(|one, other| {
            one.score().total_cmp(&other.score()).then_with(|| one.seed.cmp(&other.seed))
        });
        self.worst.truncate(WORST);
        Ok(())
    }

    /// Writes everything.
    pub fn finish(self, report: &Report) -> Result<()> {
        self.episodes.finish()?;
        write_contact_sheet(&self.dir.join("worst.png"), &self.task, &self.worst)?;
        let path = self.dir.join("results.json");
        let text = serde_json::to_string_pretty(report)? + "\n";
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}
