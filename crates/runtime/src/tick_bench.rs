//! How steady the guard's own thread is on this machine: the thread that drives a robot, with a plan to follow and a bus
//! that takes everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::RuntimeError;
use crate::counters::Counters;
use crate::events::Signals;
use crate::fast_link::{Link, Motion};
use crate::fast_loop::{FastLoop, FastThreads};
use crate::guard::{Guard, GuardConfig};
use crate::robot_file::RobotFile;
use crate::timing::Quantiles;

/// What the guard's thread did in a while.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct TickTimes {
    /// How late ticks began, ms.
    pub jitter_ms: Quantiles,
    /// How long a guarded tick took, ms.
    pub guard_ms: Quantiles,
    pub commands_sent: u64,
    /// Whether the system let the thread run ahead of ordinary ones (`SCHED_FIFO`).
    pub runs_ahead: bool,
}

/// Runs the guard's thread of `robot` for `duration`, with a plan every control period and an observation of where it was
/// sent every tenth of one. Its first feature measures its first action.
///
/// # Errors
/// When the threads cannot be started.
pub fn time_guard_thread(robot: &RobotFile, duration: Duration) -> Result<TickTimes, RuntimeError> {
    let config = GuardConfig::new(robot, |_| Some(0));
    let dim = config.axes.len();
    let link = Arc::new(Link::new(dim, dim));
    let signals = Arc::new(Signals::new());
    let control_period = Duration::from_secs_f64(1.0 / robot.control_hz);
    let dims = (dim, control_period.as_secs_f64());
    let fast = FastLoop::new(Guard::with(config), link.clone(), signals.clone(), dims);
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let send = Box::new(move |_: Option<i64>, _: &[f64]| {
        count.fetch_add(1, Ordering::Relaxed);
        true
    });
    link.observe(signals.now(), 0.0, &vec![0.0; dim]);
    let threads = FastThreads::start(fast, send, Arc::new(Counters::default()), None)?;
    let begun = signals.now();
    let (mut step, mut plan) = (0_u64, vec![0.0; dim * 8]);
    while signals.now() - begun < duration {
        let tenth = step % 10;
        if tenth == 0 {
            for (index, value) in plan.iter_mut().enumerate() {
                let (ahead, number) = (index / dim, index % dim);
                *value = 0.3 * ((step / 10 + ahead as u64) as f64 * 0.2 + number as f64).sin();
            }
            link.move_on(Motion::Plan(&plan));
        }
        let seen = link.told().map_or_else(|| vec![0.0; dim], |told| told.command);
        link.observe(signals.now(), 0.0, &seen);
        std::thread::sleep(control_period / 10);
        step += 1;
    }
    drop(threads);
    Ok(TickTimes {
        jitter_ms: link.tick_jitter.quantiles(),
        guard_ms: link.guard.quantiles(),
        commands_sent: sent.load(Ordering::Relaxed),
        runs_ahead: link.runs_ahead.load(Ordering::Relaxed),
    })
}
