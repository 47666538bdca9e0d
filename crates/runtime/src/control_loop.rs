//! Pace `clock`: one command a tick, whatever the robot, the planner or the bus do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, select};

use crate::driver::Driver;
use crate::events::{Event, Signals};
use crate::guard::Rule;
use crate::schedule::Schedule;

/// Drives until `stop` is set, `until` has passed, or an older controller is heard of.
pub(crate) fn run(
    driver: &mut Driver,
    events: &Receiver<Event>,
    signals: &Signals,
    period: Duration,
    stop: &AtomicBool,
    until: Option<Duration>,
) {
    let mut pace =
        Pace { schedule: Schedule::new(period, signals.now()), period, observed: false, newer: None };
    loop {
        let now = signals.now();
        let over = until.is_some_and(|until| now >= until);
        if over || stop.load(Ordering::Relaxed) || signals.elder.load(Ordering::Relaxed) {
            return;
        }
        if signals.estop.swap(false, Ordering::AcqRel) {
            driver.stop();
        }
        let deadline = pace.schedule.deadline();
        if now >= deadline {
            pace.tick(driver, signals, now);
            continue;
        }
        let plans = driver.planner().plans().clone();
        select! {
            recv(events) -> event => match event {
                Ok(event) => pace.take(driver, signals, event),
                Err(_) => return,
            },
            recv(plans) -> plan => match plan {
                Ok(plan) => driver.take_plan(plan),
                Err(_) => return,
            },
            default(deadline - now) => {}
        }
    }
}

/// Where a run of ticks stands.
struct Pace {
    schedule: Schedule,
    period: Duration,
    /// Whether this step has its observation.
    observed: bool,
    /// One that came in this step after that: the next step's, if that brings none of its own.
    newer: Option<Newer>,
}

struct Newer {
    sequence: i64,
    received: Duration,
    skew_secs: f64,
    values: Vec<f64>,
}

impl Pace {
    fn take(&mut self, driver: &mut Driver, signals: &Signals, event: Event) {
        let now = signals.now();
        match event {
            Event::Observation { sequence, received, skew_secs, values, new_publisher } => {
                if new_publisher {
                    driver.publisher_changed();
                    self.restart();
                }
                self.schedule.observed(received);
                let newer = Newer { sequence, received, skew_secs, values };
                if self.observed {
                    self.newer = Some(newer);
                } else {
                    self.newer = None;
                    self.observe(driver, signals, newer);
                }
            }
            Event::Repeated { .. } | Event::Wake => {}
            Event::Reset { seed, episode, answer } => {
                self.restart();
                // Whoever asked may be gone; nothing then waits for the answer.
                drop(answer.send(driver.begin_episode(seed, episode)));
            }
            Event::Release { answer } => {
                // A stop that came first is latched first.
                if signals.estop.swap(false, Ordering::AcqRel) {
                    driver.stop();
                }
                drop(answer.send(driver.release(now)));
            }
        }
    }

    /// Takes this step's observation and asks for a plan if one is wanted: it may be there by this step's tick.
    fn observe(&mut self, driver: &mut Driver, signals: &Signals, newer: Newer) {
        let now = signals.now();
        driver.timings.observe.record(now.saturating_sub(newer.received));
        let Newer { sequence, received, skew_secs, values } = newer;
        self.observed = true;
        if !driver.observe(received, skew_secs, sequence, values) {
            return;
        }
        driver.step_observed();
        if driver.gate.is_stopped() {
            return;
        }
        let until_tick = self.schedule.deadline().saturating_sub(now);
        let period = self.period;
        driver.plan_if_wanted(|plan_time| ticks_passed(plan_time, until_tick, period));
    }

    fn tick(&mut self, driver: &mut Driver, signals: &Signals, now: Duration) {
        let late = now.saturating_sub(self.schedule.deadline());
        driver.timings.tick_jitter.record(late);
        if let Some(heartbeat) = signals.heartbeat_at() {
            driver.gate.heartbeat(heartbeat);
        }
        while let Ok(plan) = driver.planner().plans().try_recv() {
            driver.take_plan(plan);
        }
        if !self.observed
            && let Some(newer) = self.newer.take()
        {
            self.observe(driver, signals, newer);
        }
        let (sent, reason) = driver.command(now, None);
        self.schedule.advance(signals.now());
        if !sent {
            self.schedule.restart();
        } else if reason.is_some_and(Rule::breaks_history) {
            self.schedule.release();
        }
        self.observed = false;
    }

    fn restart(&mut self) {
        self.schedule.restart();
        self.observed = false;
        self.newer = None;
    }
}

/// How many ticks pass while a plan is made.
fn ticks_passed(plan_time: Duration, until_tick: Duration, period: Duration) -> usize {
    let beyond = plan_time.saturating_sub(until_tick).as_nanos();
    beyond.div_ceil(period.as_nanos().max(1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_there_by_the_tick_passes_none() {
        let ms = Duration::from_millis;
        let cases = [(0, 0), (50, 0), (51, 1), (150, 1), (151, 2), (1050, 10)];
        for (plan_time, ticks) in cases {
            assert_eq!(ticks_passed(ms(plan_time), ms(50), ms(100)), ticks);
        }
    }
}
