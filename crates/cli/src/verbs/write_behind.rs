//! Episodes brought to the disk on a thread of their own, while the next ones are simulated.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nudge_control::Episode;
use nudge_dataset::{DatasetError, Recorder};

/// Episodes that may wait for the disk; when it is that slow, the simulation waits too.
const WAITING: usize = 64;
/// Nothing waits longer than this before it is brought to the disk.
const LONGEST: Duration = Duration::from_secs(1);
/// And no more of the thread's time goes into that than one part in so many.
const SHARE: u32 = 10;

/// The simulation's end of the recording.
pub struct WriteBehind {
    /// Episodes, and whether to keep them.
    episodes: Option<SyncSender<(Episode, bool)>>,
    thread: Option<JoinHandle<Result<Recorder, DatasetError>>>,
}

impl WriteBehind {
    /// Goes on with this recording; `on_disk` hears how many of the episodes taken are on the disk, whenever more are.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(recorder: Recorder, on_disk: impl Fn(u64) + Send + 'static) -> Result<Self> {
        let (sender, waiting) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("recording".into())
            .spawn(move || write(recorder, &waiting, &on_disk))?;
        Ok(Self { episodes: Some(sender), thread: Some(thread) })
    }

    /// Takes the episode of the next seed.
    ///
    /// # Errors
    /// What became of an earlier one.
    pub fn take(&mut self, episode: Episode, keep: bool) -> Result<()> {
        match &self.episodes {
            Some(sender) if sender.send((episode, keep)).is_ok() => Ok(()),
            _ => self.end().map(drop),
        }
    }

    /// Ends the thread when everything is on the disk.
    ///
    /// # Errors
    /// When the disk refused.
    pub fn finish(mut self) -> Result<Recorder> {
        self.end()
    }

    fn end(&mut self) -> Result<Recorder> {
        self.episodes = None;
        let Some(thread) = self.thread.take() else { bail!("the recording has ended already") };
        match thread.join() {
            Ok(ended) => Ok(ended?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        self.episodes = None;
        if let Some(thread) = self.thread.take() {
            // An error of the simulation is on its way; what was simulated before is to be kept all the same.
            let _ = thread.join();
        }
    }
}

fn write(
    mut recorder: Recorder,
    waiting: &Receiver<(Episode, bool)>,
    on_disk: &dyn Fn(u64),
) -> Result<Recorder, DatasetError> {
    let (mut taken, mut held) = (0, 0);
    // The first at once, so that a recording that is killed soon after its beginning has something to show.
    let mut due = Instant::now();
    loop {
        let next = if held == taken {
            waiting.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            waiting.recv_timeout(due.saturating_duration_since(Instant::now()))
        };
        match next {
            Ok((episode, keep)) => {
                recorder.take(&episode, keep)?;
                taken += 1;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if held == taken => return Ok(recorder),
            Err(RecvTimeoutError::Disconnected) => due = Instant::now(),
        }
        let begun = Instant::now();
        if begun >= due {
            recorder.sync()?;
            held = taken;
            on_disk(held);
            due = begun + LONGEST.min(begun.elapsed() * SHARE);
        }
    }
}
