//! What `nudge serve --record` keeps.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use nudge_control::{Episode, Interface};
use nudge_dataset::{DatasetError, EpisodeAppender, Recording};
use nudge_runtime::OnEpisode;

/// What was driven, on the disk as each episode ends.
pub struct Log {
    dir: PathBuf,
    set: EpisodeAppender,
    added: usize,
    /// Why an episode is not in it: the first of them.
    lost: Option<DatasetError>,
}

impl Log {
    /// Goes on with the set in `dir`, or begins one.
    pub fn open(dir: &Path, task: &str, interface: &Interface, recording: Recording) -> Result<Self> {
        let set = EpisodeAppender::open(dir, task, interface, recording)?;
        Ok(Self { dir: dir.to_owned(), set, added: 0, lost: None })
    }

    /// What takes the episodes of `log`.
    pub fn taker(log: &Arc<Mutex<Self>>) -> OnEpisode {
        let log = log.clone();
        Box::new(move |episode| log.lock().unwrap_or_else(PoisonError::into_inner).add(&episode))
    }

    fn add(&mut self, episode: &Episode) {
        match self.set.push(episode) {
            Ok(_) => self.added += 1,
            Err(error) => {
                eprintln!("an episode of {} frames is not recorded: {error}", episode.frames.len());
                self.lost.get_or_insert(error);
            }
        }
    }

    /// Makes what was driven a finished set, and says how much there is.
    pub fn finish(self) -> Result<()> {
        let Self { dir, set, added, lost } = self;
        let frames = set.finish()?;
        if let Some(error) = lost {
            let problem = format!("{added} episodes are recorded in {}, but not all", dir.display());
            return Err(anyhow::Error::from(error).context(problem));
        }
        match added {
            0 => eprintln!("nothing was driven, so there is nothing to record"),
            _ => eprintln!("{added} episodes recorded in {}, which holds {frames} frames", dir.display()),
        }
        Ok(())
    }
}
