//! A data set that grows by whole episodes, and is complete at any time.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nudge_control::Episode;
use nudge_dataset::{Dataset, Recording, read_recorded, recording_note, write_episodes};

/// The set at a path, which need not exist yet.
pub struct Kept {
    dir: PathBuf,
    recording: Recording,
}

impl Kept {
    /// For episodes recorded as `recording` says.
    ///
    /// # Errors
    /// When there is a folder that is no set, or a set that was recorded in another way.
    pub fn open(dir: &Path, recording: Recording) -> Result<Self> {
        let kept = Self { dir: dir.to_owned(), recording };
        kept.recover()?;
        if let Some(set) = kept.set()? {
            let note = recording_note(&set)?;
            if note.setup != kept.recording.setup {
                bail!(
                    "{} was recorded as {}, and this would be recorded as {}: name another folder",
                    dir.display(),
                    note.setup,
                    kept.recording.setup
                );
            }
        }
        Ok(kept)
    }

    /// The seeds of the episodes that are in it.
    ///
    /// # Errors
    /// When the set cannot be read.
    pub fn seeds(&self) -> Result<Vec<u64>> {
        let Some(set) = self.set()? else { return Ok(Vec::new()) };
        Ok(recording_note(&set)?.episodes.iter().filter_map(|episode| episode.seed).collect())
    }

    /// Puts `episode` behind the others; how many there are then.
    ///
    /// The whole set is written anew beside the old one and takes its place, so a set cut off in the middle never
    /// bears the name.
    ///
    /// # Errors
    /// When the disk refuses; the set is then as it was.
    pub fn push(&self, episode: &Episode) -> Result<usize> {
        let mut episodes = Vec::new();
        if let Some(set) = self.set()? {
            for number in 0..set.episode_count() {
                episodes.push(read_recorded(&set, number)?);
            }
        }
        episodes.push(episode.clone());
        let (new, old) = (self.beside("new"), self.beside("old"));
        remove(&new)?;
        write_episodes(&new, &episodes, &self.recording)?;
        if self.dir.exists() {
            rename(&self.dir, &old)?;
        }
        rename(&new, &self.dir)?;
        remove(&old)?;
        Ok(episodes.len())
    }

    /// Ends what a killed program had begun: between its two renames the new set is whole.
    fn recover(&self) -> Result<()> {
        let (new, old) = (self.beside("new"), self.beside("old"));
        if old.exists() && !self.dir.exists() {
            if new.exists() {
                rename(&new, &self.dir)?;
            } else {
                rename(&old, &self.dir)?;
            }
        }
        remove(&new)?;
        remove(&old)
    }

    fn set(&self) -> Result<Option<Dataset>> {
        Ok(if self.dir.symlink_metadata().is_ok() { Some(Dataset::open(&self.dir)?) } else { None })
    }

    /// A hidden sibling of the set.
    fn beside(&self, what: &str) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.dir.file_name().unwrap_or_default());
        name.push(format!(".{what}"));
        self.dir.with_file_name(name)
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("renaming {} to {}", from.display(), to.display()))
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nudge_control::{Action, Frame};
    use nudge_sim::TaskConfig;
    use nudge_sim::push_t::PushTConfig;

    fn recording(text: &str) -> Recording {
        Recording { instruction: "push".into(), robot_type: None, setup: serde_json::json!({ "by": text }) }
    }

    fn episode(seed: u64) -> Episode {
        let mut task = TaskConfig::PushT(PushTConfig::default()).build();
        let observation = task.reset(seed);
        let action = Action(vec![seed as f64, 2.0]);
        let step = task.step(&action);
        let frame =
            Frame { time_secs: 0.0, observation, action, reward: step.reward, success: false, done: false };
        Episode {
            task: "push_t".into(),
            interface: task.interface().clone(),
            seed: Some(seed),
            frames: vec![frame],
        }
    }

    /// The names in a folder, in order.
    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_set_grows_by_whole_episodes_and_the_next_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("set");
        for seed in [5, 9, 6] {
            let kept = Kept::open(&dir, recording("hand")).unwrap();
            assert!(!kept.seeds().unwrap().contains(&seed));
            kept.push(&episode(seed)).unwrap();
            assert_eq!(names(folder.path()), ["set"]);
        }
        let kept = Kept::open(&dir, recording("hand")).unwrap();
        assert_eq!(kept.seeds().unwrap(), [5, 9, 6]);
        let set = Dataset::open(&dir).unwrap();
        assert_eq!(read_recorded(&set, 1).unwrap().frames[0].action, episode(9).frames[0].action);
        let error = Kept::open(&dir, recording("foot")).err().unwrap().to_string();
        assert!(error.contains("name another folder"), "{error}");
    }

    #[test]
    fn wherever_a_program_was_killed_the_next_run_finds_a_whole_set() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("set");
        let kept = Kept::open(&dir, recording("hand")).unwrap();
        kept.push(&episode(1)).unwrap();
        let seeds = || Kept::open(&dir, recording("hand")).unwrap().seeds().unwrap();
        // Half written.
        fs::create_dir_all(kept.beside("new").join("data")).unwrap();
        assert_eq!(seeds(), [1]);
        // Between the renames.
        let both = folder.path().join("both");
        write_episodes(&both, &[episode(1), episode(2)], &recording("hand")).unwrap();
        fs::rename(&dir, kept.beside("old")).unwrap();
        fs::rename(&both, kept.beside("new")).unwrap();
        assert_eq!(seeds(), [1, 2]);
        // Before the old one was removed.
        write_episodes(&kept.beside("old"), &[episode(1)], &recording("hand")).unwrap();
        assert_eq!(seeds(), [1, 2]);
        assert_eq!(names(folder.path()), ["set"]);
    }
}
