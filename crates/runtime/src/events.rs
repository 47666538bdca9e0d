//! What reaches the control loop, and who may watch it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[cfg(feature = "rerun")]
use nudge_control::{Action, Observation};
use nudge_control::{ActionChunk, Confidence};
use tokio::sync::oneshot;

use crate::guard::State;
#[cfg(feature = "rerun")]
use crate::view::View;

/// Events that may wait for the control loop.
pub(crate) const EVENTS_WAITING: usize = 256;

pub(crate) type Answer = oneshot::Sender<Result<(), String>>;

/// What reaches the control loop from the bus.
pub(crate) enum Event {
    Observation {
        sequence: i64,
        received: Duration,
        /// How far its stamp was ahead of the wall clock when it was received.
        skew_secs: f64,
        values: Vec<f64>,
        new_publisher: bool,
    },
    /// The last observation has come again.
    Repeated {
        sequence: i64,
    },
    Reset {
        seed: Option<u64>,
        episode: u64,
        answer: Answer,
    },
    Release {
        answer: Answer,
    },
    /// A flag of [`Signals`] was set.
    Wake,
}

/// What must reach the control loop even when its queue is full, and time as all threads count it.
pub(crate) struct Signals {
    begun: Instant,
    /// An emergency stop came and was not taken yet.
    pub estop: AtomicBool,
    /// An older controller drives this robot.
    pub elder: AtomicBool,
    /// When the last heartbeat of the robot came, in ns; 0 before the first.
    heartbeat_ns: AtomicU64,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            estop: AtomicBool::new(false),
            elder: AtomicBool::new(false),
            heartbeat_ns: AtomicU64::new(0),
        }
    }

    /// Monotonic time since this end started.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn heartbeat(&self) {
        let ns = u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX);
        self.heartbeat_ns.store(ns.max(1), Ordering::Relaxed);
    }

    pub(crate) fn heartbeat_at(&self) -> Option<Duration> {
        let ns = self.heartbeat_ns.load(Ordering::Relaxed);
        (ns > 0).then(|| Duration::from_nanos(ns))
    }
}

/// Is shown every plan: the chunk that is executed, and the others of the fan behind it.
pub type OnPlan = Arc<dyn Fn(&[ActionChunk]) + Send + Sync>;

/// Those who watch; none of them may wait.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    pub on_plan: Option<OnPlan>,
    #[cfg(feature = "rerun")]
    pub view: Option<View>,
}

#[cfg_attr(not(feature = "rerun"), expect(unused_variables))]
impl Watch {
    pub(crate) fn episode(&self, episode: u64, seed: Option<u64>) {
        #[cfg(feature = "rerun")]
        if let Some(view) = &self.view {
            view.begin_episode(episode, seed.unwrap_or_default());
        }
    }

    pub(crate) fn observation(&self, step: u64, observation: &[f64]) {
        #[cfg(feature = "rerun")]
        if let Some(view) = &self.view {
            view.observation(step, &Observation(observation.to_vec()));
        }
    }

    pub(crate) fn plan(&self, chunks: &[ActionChunk], took: Duration) {
        if let Some(on_plan) = &self.on_plan {
            on_plan(chunks);
        }
        #[cfg(feature = "rerun")]
        if let (Some(view), Some(first)) = (&self.view, chunks.first()) {
            view.plan(first.first_step, chunks);
            view.timings(first.first_step, &[("plan", took.as_secs_f64() * 1e3)]);
        }
    }

    pub(crate) fn confidence(&self, step: u64, confidence: &Confidence) {
        #[cfg(feature = "rerun")]
        if let Some(view) = &self.view {
            view.confidence(step, confidence);
        }
    }

    pub(crate) fn command(&self, step: u64, command: &[f64], state: State) {
        #[cfg(feature = "rerun")]
        if let Some(view) = &self.view {
            view.command(step, &Action(command.to_vec()), &format!("{state:?}"));
        }
    }

    pub(crate) fn timings(&self, step: u64, stages: &[(&'static str, Duration)]) {
        #[cfg(feature = "rerun")]
        if let Some(view) = &self.view {
            let stages: Vec<_> =
                stages.iter().map(|(name, took)| (*name, took.as_secs_f64() * 1e3)).collect();
            view.timings(step, &stages);
        }
    }
}
