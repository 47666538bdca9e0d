//! What was driven, kept as an `Episode`, by a thread that the control loop never waits for.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use nudge_control::{Action, Episode, Frame, Interface, Observation};

use crate::RuntimeError;
use crate::counters::{Count, Counters};

/// Takes the log of each episode when the next one begins, and of the last when serving ends.
pub type OnEpisode = Box<dyn FnMut(Episode) + Send>;

/// Steps that may wait to be logged.
const WAITING: usize = 4096;
/// Steps after which an episode is logged no further: an hour at 100 Hz.
const MAX_FRAMES: usize = 360_000;

enum Record {
    Begin { seed: Option<u64> },
    Step { observation: Observation, action: Action },
}

/// The control loop's end of the log.
pub(crate) struct EpisodeLog {
    records: Option<Sender<Record>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl EpisodeLog {
    /// Logs nothing.
    pub(crate) fn none(counters: Arc<Counters>) -> Self {
        Self { records: None, counters, thread: None }
    }

    /// Logs to `on_episode`, which runs on the log's own thread. What came of a step is not known here: rewards are 0.
    pub(crate) fn start(
        task: String,
        interface: Interface,
        mut on_episode: OnEpisode,
        counters: Arc<Counters>,
    ) -> Result<Self, RuntimeError> {
        let (records, waiting) = bounded(WAITING);
        let run = move || {
            let period_secs = 1.0 / interface.control_hz;
            let empty =
                |seed| Episode { task: task.clone(), interface: interface.clone(), seed, frames: vec![] };
            let mut episode = empty(None);
            for record in waiting {
                match record {
                    Record::Begin { seed } => {
                        hand_over(std::mem::replace(&mut episode, empty(seed)), &mut on_episode)
                    }
                    Record::Step { observation, action } if episode.frames.len() < MAX_FRAMES => {
                        let time_secs = episode.frames.len() as f64 * period_secs;
                        let frame = Frame {
                            time_secs,
                            observation,
                            action,
                            reward: 0.0,
                            success: false,
                            done: false,
                        };
                        episode.frames.push(frame);
                    }
                    Record::Step { .. } => {}
                }
            }
            hand_over(episode, &mut on_episode);
        };
        let thread = std::thread::Builder::new()
            .name("episode log".into())
            .spawn(run)
            .map_err(|problem| RuntimeError::Start { what: "the log thread", problem })?;
        Ok(Self { records: Some(records), counters, thread: Some(thread) })
    }

    /// An episode begins; `seed` as the robot gave it.
    pub(crate) fn begin(&self, seed: Option<u64>) {
        self.push(|| Record::Begin { seed });
    }

    /// One step: what was observed, `[Do]`, and what was commanded, `[Da]`.
    pub(crate) fn step(&self, observation: &[f64], action: &[f64]) {
        self.push(|| Record::Step {
            observation: Observation(observation.to_vec()),
            action: Action(action.to_vec()),
        });
    }

    fn push(&self, record: impl FnOnce() -> Record) {
        if let Some(records) = &self.records
            && records.try_send(record()).is_err()
        {
            self.counters.add(Count::RecordDropped, 1);
        }
    }
}

/// Episodes in which nothing was commanded are none.
fn hand_over(mut episode: Episode, on_episode: &mut OnEpisode) {
    if let Some(last) = episode.frames.last_mut() {
        last.done = true;
        on_episode(episode);
    }
}

impl Drop for EpisodeLog {
    fn drop(&mut self) {
        self.records = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the episode log ended in a panic; its last episode is lost");
        }
    }
}
