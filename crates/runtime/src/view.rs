//! The live view: what the controller sees, plans and does, as a rerun recording in a file or a running viewer.
//!
//! Nothing here makes the caller wait. An update goes into a bounded queue that one logging thread empties; when the
//! disk or the viewer is slower than the controller, the oldest updates are dropped and counted.

mod blueprint;
mod logger;
mod scene;
mod signals;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded, select};
use nudge_control::{Action, ActionChunk, ActionMode, Confidence, Interface, Observation, Scene};
use rerun::blueprint::Blueprint;
use rerun::external::re_uri::ProxyUri;
use rerun::log::ChunkBatcherConfig;
use rerun::sink::{FileSink, GrpcSink, LogSink};
use rerun::{ApplicationId, RecordingStream, RecordingStreamBuilder};

use logger::Logger;
pub use signals::{Signal, SignalView};

/// How long [`View::finish`] waits for a file or a viewer to take what is left.
const FINISH_TIMEOUT: Duration = Duration::from_secs(20);

/// What is shown, and how much of it may wait.
#[derive(Clone, Debug)]
pub struct ViewOptions {
    /// The application's name in the viewer, which remembers a layout for each.
    pub name: String,
    /// Of the robot: the features of the observations and actions that will be shown.
    pub interface: Interface,
    /// The two numbers of an action that are a position in the scene; without them plans and paths are not drawn.
    pub plane: Option<[usize; 2]>,
    /// Updates that may wait for the logging thread, at least 1.
    pub queue: usize,
}

impl ViewOptions {
    /// Room for 256 updates; an action of exactly two absolute numbers is drawn as a position in the scene.
    pub fn new(name: &str, interface: Interface) -> Self {
        let absolute = interface.action.iter().all(|feature| feature.mode == ActionMode::Absolute);
        let plane = (absolute && interface.action_dim() == 2).then_some([0, 1]);
        Self { name: name.to_owned(), interface, plane, queue: 256 }
    }
}

/// Why there is no view, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("the view's plane is action numbers {plane:?}, but an action has only {action_dim}")]
    Plane { plane: [usize; 2], action_dim: usize },
    #[error(
        "cannot write the recording {path}: {problem}; check that its folder exists and can be written to"
    )]
    File { path: PathBuf, problem: String },
    #[error("`{address}` is not the address of a viewer ({problem}); write it as 127.0.0.1:9876")]
    Address { address: String, problem: String },
    #[error("starting the view: {0}")]
    Start(String),
    #[error("the recording is not complete: {0}")]
    Incomplete(String),
    #[error("the recording was not taken within {} s; its end is missing", FINISH_TIMEOUT.as_secs())]
    NotFlushed,
}

/// What became of the updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewReport {
    pub logged: u64,
    /// Updates given up because the file or viewer was too slow.
    pub dropped: u64,
}

/// A handle on the view; clones show in the same recording. Made by [`View::to_file`] or [`View::connect`].
///
/// The thread that drives the episodes calls [`begin_episode`](Self::begin_episode); every other method takes the
/// control step, counted from 0 in each episode. On the timeline `time` the episodes follow one another at the
/// control rate. After [`finish`](Self::finish) updates are ignored. If all handles are dropped without it the
/// recording is still completed, unless the program ends first.
#[derive(Clone)]
pub struct View {
    updates: Sender<Stamped>,
    /// The queue's other end, to make room in it for what is newer.
    oldest: Receiver<Stamped>,
    stop: Sender<()>,
    /// Disconnected when the logging thread has ended.
    ended: Receiver<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    episode: AtomicU64,
    /// Control steps of all episodes before this one.
    steps_before: AtomicU64,
    /// Control steps seen so far, in all episodes.
    steps_seen: AtomicU64,
    logged: AtomicU64,
    dropped: AtomicU64,
    finished: AtomicBool,
    outcome: OnceLock<Result<(), String>>,
}

/// An update, with the time it belongs to.
struct Stamped {
    episode: u64,
    step: u64,
    /// Control steps since the recording began.
    total_steps: u64,
    update: Update,
}

enum Update {
    Episode { seed: u64 },
    World { scene: Scene, reward: f64 },
    Observation(Observation),
    Plan(Vec<ActionChunk>),
    Command { action: Action, state: String },
    Timings(Vec<(&'static str, f64)>),
    Confidence(Confidence),
}

impl View {
    /// Records into the file `path`, which is replaced. Open it with `rerun PATH`, of the same rerun version.
    ///
    /// # Errors
    /// When the file cannot be created, or the options do not hold together.
    pub fn to_file(path: &Path, options: ViewOptions) -> Result<Self, ViewError> {
        check(&options)?;
        let sink = file_sink(path)?;
        // The file's index grows with the number of chunks: a few large ones rather than many.
        let batches =
            ChunkBatcherConfig { flush_tick: Duration::from_secs(2), ..ChunkBatcherConfig::DEFAULT };
        Self::start(sink, batches, options)
    }

    /// Shows in the viewer that listens at `address`, as `127.0.0.1:9876` or a whole `rerun+http://` address.
    ///
    /// The connection is made in the background; a viewer that never answers is an error of [`finish`](Self::finish).
    ///
    /// # Errors
    /// When the address cannot be read, or the options do not hold together.
    pub fn connect(address: &str, options: ViewOptions) -> Result<Self, ViewError> {
        check(&options)?;
        let sink = viewer_sink(address)?;
        Self::start(sink, ChunkBatcherConfig::LOW_LATENCY, options)
    }

    fn start(
        sink: Box<dyn LogSink>,
        batches: ChunkBatcherConfig,
        options: ViewOptions,
    ) -> Result<Self, ViewError> {
        let recording = recording(sink, batches, &options.name, blueprint::blueprint(&options))?;
        let (updates, waiting) = bounded(options.queue.max(1));
        let (stop, stopped) = bounded(1);
        let (alive, ended) = bounded(0);
        let shared = Arc::new(Shared::default());
        let view = Self { updates, oldest: waiting.clone(), stop, ended, shared: shared.clone() };
        let run = move || {
            log_all(&waiting, &stopped, &shared, Logger::new(recording, options));
            drop(alive);
        };
        let thread = std::thread::Builder::new().name("view".into());
        thread.spawn(run).map_err(|error| ViewError::Start(error.to_string()))?;
        Ok(view)
    }

    /// Begins episode number `episode`; the steps of later updates are counted from here.
    pub fn begin_episode(&self, episode: u64, seed: u64) {
        self.shared.steps_before.store(self.shared.steps_seen.load(Relaxed), Relaxed);
        self.shared.episode.store(episode, Relaxed);
        self.push(0, Update::Episode { seed });
    }

    /// Shows the world as it is at `step`, and the reward of that state.
    pub fn world(&self, step: u64, scene: &Scene, reward: f64) {
        self.push(step, Update::World { scene: scene.clone(), reward });
    }

    /// Shows the numbers that were observed at `step`.
    pub fn observation(&self, step: u64, observation: &Observation) {
        self.push(step, Update::Observation(observation.clone()));
    }

    /// Shows several plans made at `step`: the first is the one that is executed, the others are what the policy
    /// might have done instead.
    pub fn plan(&self, step: u64, samples: &[ActionChunk]) {
        self.push(step, Update::Plan(samples.to_vec()));
    }

    /// Shows the action sent to the robot at `step` and the state of the guard that let it through.
    pub fn command(&self, step: u64, action: &Action, state: &str) {
        self.push(step, Update::Command { action: action.clone(), state: state.to_owned() });
    }

    /// Shows how long each named stage of `step` took, or was late, in milliseconds.
    pub fn timings(&self, step: u64, stages_ms: &[(&'static str, f64)]) {
        self.push(step, Update::Timings(stages_ms.to_vec()));
    }

    /// Shows how sure the policy seems of the plan made at `step`.
    pub fn confidence(&self, step: u64, confidence: &Confidence) {
        self.push(step, Update::Confidence(*confidence));
    }

    /// Completes the recording: everything shown so far is written or sent. Waits for it, 20 s at most.
    ///
    /// # Errors
    /// When something could not be written or sent, or not in time.
    pub fn finish(&self) -> Result<ViewReport, ViewError> {
        self.shared.finished.store(true, Relaxed);
        // When it is full, an earlier `finish` has already asked.
        let _ = self.stop.try_send(());
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(FINISH_TIMEOUT) {
            return Err(ViewError::NotFlushed);
        }
        match self.shared.outcome.get() {
            Some(Ok(())) => Ok(ViewReport {
                logged: self.shared.logged.load(Relaxed),
                dropped: self.shared.dropped.load(Relaxed),
            }),
            Some(Err(problem)) => Err(ViewError::Incomplete(problem.clone())),
            None => Err(ViewError::Incomplete("the logging thread ended early".into())),
        }
    }

    /// Queues an update; when the queue is full the oldest one in it makes room.
    fn push(&self, step: u64, update: Update) {
        if self.shared.finished.load(Relaxed) {
            return;
        }
        let total_steps = self.shared.steps_before.load(Relaxed) + step;
        self.shared.steps_seen.fetch_max(total_steps + 1, Relaxed);
        let mut stamped = Stamped { episode: self.shared.episode.load(Relaxed), step, total_steps, update };
        // Other handles may take the room that was made; after a few tries this update is the one to go.
        for _ in 0..4 {
            match self.updates.try_send(stamped) {
                Ok(()) => return,
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => stamped = back,
            }
            if self.oldest.try_recv().is_ok() {
                self.shared.dropped.fetch_add(1, Relaxed);
            }
        }
        self.shared.dropped.fetch_add(1, Relaxed);
    }
}

fn check(options: &ViewOptions) -> Result<(), ViewError> {
    let action_dim = options.interface.action_dim();
    match options.plane {
        Some(plane) if plane.iter().any(|index| *index >= action_dim) => {
            Err(ViewError::Plane { plane, action_dim })
        }
        _ => Ok(()),
    }
}

fn file_sink(path: &Path) -> Result<Box<dyn LogSink>, ViewError> {
    let sink = FileSink::new(path)
        .map_err(|error| ViewError::File { path: path.to_owned(), problem: error.to_string() })?;
    Ok(Box::new(sink))
}

fn viewer_sink(address: &str) -> Result<Box<dyn LogSink>, ViewError> {
    let whole = address.contains("://");
    let url = if whole { address.to_owned() } else { format!("rerun+http://{address}/proxy") };
    let uri: ProxyUri = url.parse().map_err(|error: rerun::external::re_uri::Error| ViewError::Address {
        address: address.to_owned(),
        problem: error.to_string(),
    })?;
    Ok(Box::new(GrpcSink::new(uri)))
}

fn recording(
    sink: Box<dyn LogSink>,
    batches: ChunkBatcherConfig,
    name: &str,
    blueprint: Blueprint,
) -> Result<RecordingStream, ViewError> {
    let id = ApplicationId::try_from(name.to_owned())
        .map_err(|error| ViewError::Start(format!("the name `{name}` will not do: {error}")))?;
    let recording = RecordingStreamBuilder::new(id)
        .enabled(true)
        .batcher_config(batches)
        .with_blueprint(blueprint)
        .buffered()
        .map_err(|error| ViewError::Start(error.to_string()))?;
    recording.set_sink(sink);
    recording.set_log_tick_enabled(false);
    recording.set_log_time_enabled(false);
    Ok(recording)
}

/// The logging thread: takes updates until it is told to stop or nobody is left to send any, then completes the
/// recording.
fn log_all(updates: &Receiver<Stamped>, stopped: &Receiver<()>, shared: &Shared, mut logger: Logger) {
    let mut failure = logger.log_names().err();
    let mut log = |stamped: Stamped| match logger.log(&stamped) {
        Ok(()) => drop(shared.logged.fetch_add(1, Relaxed)),
        Err(error) => drop(failure.get_or_insert(error)),
    };
    loop {
        select! {
            recv(updates) -> update => match update {
                Ok(stamped) => log(stamped),
                Err(_) => break,
            },
            recv(stopped) -> _ => break,
        }
    }
    updates.try_iter().for_each(&mut log);
    let outcome = match failure {
        Some(error) => Err(error.to_string()),
        None => logger.flush(FINISH_TIMEOUT),
    };
    // Dropping the stream writes the end of the file.
    drop(logger);
    // This thread alone sets it, once.
    let _ = shared.outcome.set(outcome);
}

#[cfg(test)]
mod tests;
