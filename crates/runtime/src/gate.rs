//! The guard as the control loop sees it: beside it in the same thread, or on a thread of its own at a higher rate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::fast_link::{Link, MOST_ACTIONS, Motion, Told};
use crate::fast_loop::FastThreads;
use crate::guard::{Guard, GuardConfig, LogLine, Missing, Rule, State};
use crate::guard_watch::{GuardTap, WatchedGuard};

/// Where commands are decided.
pub(crate) enum Gate {
    Inline(Box<WatchedGuard>),
    Fast(Box<Fast>),
}

/// The guard on its own thread.
pub(crate) struct Fast {
    link: Arc<Link>,
    config: GuardConfig,
    stopped: bool,
    releases: u64,
    actions: Vec<f64>,
    told: Option<Told>,
    _threads: FastThreads,
}

/// What came of a control step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stepped<'a> {
    pub state: State,
    pub reason: Option<Rule>,
    pub command: Option<&'a [f64]>,
}

/// How long a release waits for the guard's thread, beyond some of its periods.
const RELEASE_WAIT: Duration = Duration::from_millis(100);

impl Gate {
    pub(crate) fn inline(guard: Guard, tap: Option<GuardTap>) -> Self {
        Self::Inline(Box::new(WatchedGuard::new(guard).shown_to(tap)))
    }

    pub(crate) fn fast(link: Arc<Link>, config: GuardConfig, threads: FastThreads) -> Self {
        let actions = Vec::with_capacity(MOST_ACTIONS * link.dim);
        Self::Fast(Box::new(Fast {
            link,
            config,
            stopped: false,
            releases: 0,
            actions,
            told: None,
            _threads: threads,
        }))
    }

    pub(crate) fn reset(&mut self) {
        match self {
            Self::Inline(guard) => guard.reset(),
            Self::Fast(fast) => drop(fast.link.resets.fetch_add(1, Ordering::AcqRel)),
        }
    }

    pub(crate) fn publisher_changed(&mut self) {
        match self {
            Self::Inline(guard) => guard.publisher_changed(),
            Self::Fast(fast) => drop(fast.link.changes.fetch_add(1, Ordering::AcqRel)),
        }
    }

    /// The policy's alarm is raised, or ends.
    pub(crate) fn alarm(&mut self, raised: bool) {
        match self {
            Self::Inline(guard) => guard.alarm(raised),
            Self::Fast(fast) => fast.link.alarm.store(raised, Ordering::Release),
        }
    }

    pub(crate) fn stop(&mut self) {
        match self {
            Self::Inline(guard) => guard.stop(),
            Self::Fast(fast) => {
                fast.stopped = true;
                fast.link.stop.store(true, Ordering::Release);
            }
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        match self {
            Self::Inline(guard) => guard.is_stopped(),
            Self::Fast(fast) => fast.stopped,
        }
    }

    /// The guard's thread looks for the heartbeat itself.
    pub(crate) fn heartbeat(&mut self, at: Duration) {
        if let Self::Inline(guard) = self {
            guard.heartbeat(at);
        }
    }

    /// Releases the emergency stop, if fresh observations allow it at `now`.
    pub(crate) fn release(&mut self, now: Duration) -> Result<(), String> {
        let fast = match self {
            Self::Inline(guard) => return guard.release(now).map_err(|why| why.to_string()),
            Self::Fast(fast) => fast,
        };
        fast.releases += 1;
        fast.link.releases_asked.store(fast.releases, Ordering::Release);
        let wait = RELEASE_WAIT + Duration::from_secs_f64(4.0 * fast.config.period_secs);
        let begun = Instant::now();
        while begun.elapsed() < wait {
            if let Some(answer) = fast.link.release_answer(fast.releases) {
                answer.map_err(|why| why.to_string())?;
                fast.stopped = false;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err("the guard's thread does not answer".into())
    }

    /// Takes an observation, as [`Guard::observe_stamped`] does.
    pub(crate) fn observe(&mut self, received: Duration, skew_secs: f64, values: &[f64]) -> Result<(), Rule> {
        match self {
            Self::Inline(guard) => guard.observe_stamped(received, skew_secs, values),
            Self::Fast(fast) => {
                fast.link.observe(received, skew_secs, values);
                fast.config.refuses(skew_secs, values).map_or(Ok(()), Err)
            }
        }
    }

    /// A control step: `proposed`, and the actions behind it. The command is that of `now`, or the newest of the guard's
    /// thread.
    pub(crate) fn step<'a>(
        &mut self,
        now: Duration,
        proposed: Result<&[f64], Missing>,
        upcoming: impl Iterator<Item = &'a [f64]>,
    ) -> Stepped<'_> {
        match self {
            Self::Inline(guard) => {
                let verdict = guard.tick(now, proposed);
                Stepped { state: verdict.state, reason: verdict.reason, command: verdict.command }
            }
            Self::Fast(fast) => {
                match proposed {
                    Ok(action) => {
                        fast.actions.clear();
                        fast.actions.extend_from_slice(action);
                        upcoming
                            .take(MOST_ACTIONS - 1)
                            .for_each(|action| fast.actions.extend_from_slice(action));
                        fast.link.move_on(Motion::Plan(&fast.actions));
                    }
                    Err(missing) => fast.link.move_on(Motion::Nothing(missing)),
                }
                fast.told = fast.link.told();
                let state = if fast.stopped { State::Stopped } else { State::Init };
                fast.told.as_ref().map_or(Stepped { state, reason: None, command: None }, |told| Stepped {
                    state: told.state,
                    reason: told.reason,
                    command: told.sends.then_some(told.command.as_slice()),
                })
            }
        }
    }

    /// What is shared with the guard's thread, if it has one.
    pub(crate) fn fast_link(&self) -> Option<&Arc<Link>> {
        match self {
            Self::Inline(_) => None,
            Self::Fast(fast) => Some(&fast.link),
        }
    }

    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Inline(guard) => guard.guard().counters().collect(),
            Self::Fast(fast) => {
                let counters = fast.link.told().map_or([0; Rule::ALL.len()], |told| told.counters);
                Rule::ALL.into_iter().zip(counters).map(|(rule, count)| (rule.name(), count)).collect()
            }
        }
    }

    pub(crate) fn log(&self) -> Vec<LogLine> {
        match self {
            Self::Inline(guard) => guard.guard().log().copied().collect(),
            Self::Fast(fast) => fast.link.told().map(|told| told.log).unwrap_or_default(),
        }
    }
}
