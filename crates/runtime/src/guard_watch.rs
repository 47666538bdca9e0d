//! The guard, and whoever is shown what it is told and what it answers.

use std::borrow::Cow;
use std::time::Duration;

use crate::guard::{Guard, GuardConfig, GuardInput, Missing, NotFresh, Proposal, Rule, Verdict};

/// What happened at the guard.
#[derive(Clone, Copy, Debug)]
pub enum GuardEvent<'a> {
    /// It was told something, and answered if it was a tick.
    Told(&'a GuardInput<'a>, Option<Verdict<'a>>),
    /// So many events were not handed over: whoever is shown them did not keep up.
    Lost(u64),
}

/// Is shown what the guard is told, in its order, and what it answers to each tick. It must not wait: it is called on the
/// control thread, or, where the guard has a thread of its own, on one that only shows.
pub type GuardTap = Box<dyn FnMut(GuardEvent<'_>) + Send>;

/// Makes a tap of what the guard was built from.
pub type OnGuard = Box<dyn FnOnce(&GuardConfig) -> GuardTap + Send>;

/// A guard, and the tap that is shown all, if there is one.
pub(crate) struct WatchedGuard {
    guard: Guard,
    tap: Option<GuardTap>,
}

impl WatchedGuard {
    /// Shown to nobody yet.
    pub(crate) fn new(guard: Guard) -> Self {
        Self { guard, tap: None }
    }

    pub(crate) fn shown_to(self, tap: Option<GuardTap>) -> Self {
        Self { tap, ..self }
    }

    pub(crate) fn reset(&mut self) {
        self.show(&GuardInput::Reset);
        self.guard.reset();
    }

    pub(crate) fn publisher_changed(&mut self) {
        self.show(&GuardInput::PublisherChanged);
        self.guard.publisher_changed();
    }

    pub(crate) fn alarm(&mut self, raised: bool) {
        self.show(&GuardInput::Alarm { raised });
        self.guard.alarm(raised);
    }

    pub(crate) fn stop(&mut self) {
        self.show(&GuardInput::Stop);
        self.guard.stop();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.guard.is_stopped()
    }

    pub(crate) fn heartbeat(&mut self, now: Duration) {
        self.show(&GuardInput::Heartbeat { now });
        self.guard.heartbeat(now);
    }

    pub(crate) fn release(&mut self, now: Duration) -> Result<(), NotFresh> {
        self.show(&GuardInput::Release { now });
        self.guard.release(now)
    }

    pub(crate) fn observe_stamped(
        &mut self,
        now: Duration,
        skew_secs: f64,
        values: &[f64],
    ) -> Result<(), Rule> {
        self.show(&GuardInput::Observe { now, skew_secs, values: Cow::Borrowed(values) });
        self.guard.observe_stamped(now, skew_secs, values)
    }

    pub(crate) fn tick(&mut self, now: Duration, proposed: Result<&[f64], Missing>) -> Verdict<'_> {
        let verdict = self.guard.tick(now, proposed);
        if let Some(tap) = &mut self.tap {
            let input = GuardInput::Tick { now, proposed: Proposal::from(proposed) };
            tap(GuardEvent::Told(&input, Some(verdict)));
        }
        verdict
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    fn show(&mut self, input: &GuardInput<'_>) {
        if let Some(tap) = &mut self.tap {
            tap(GuardEvent::Told(input, None));
        }
    }
}
