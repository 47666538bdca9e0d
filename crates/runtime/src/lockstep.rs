//! Pace `observation`: the robot waits, and every complete observation gets exactly one command.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::driver::Driver;
use crate::events::{Event, Signals};

/// How often the flags are looked at while nothing comes.
const IDLE: Duration = Duration::from_millis(20);

/// Drives until `stop` is set, `until` has passed, or an older controller is heard of.
pub(crate) fn run(
    driver: &mut Driver,
    events: &Receiver<Event>,
    signals: &Signals,
    period: Duration,
    stop: &AtomicBool,
    until: Option<Duration>,
) {
    let mut lockstep = Lockstep { period, time: Duration::ZERO, answered: None };
    loop {
        let over = until.is_some_and(|until| signals.now() >= until);
        if over || stop.load(Ordering::Relaxed) || signals.elder.load(Ordering::Relaxed) {
            return;
        }
        let event = match events.recv_timeout(IDLE) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => Event::Wake,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if signals.estop.swap(false, Ordering::AcqRel) {
            driver.stop();
            lockstep.answered = None;
        }
        lockstep.take(driver, signals, event);
    }
}

struct Lockstep {
    period: Duration,
    /// A period a command: how fast the machine is changes nothing.
    time: Duration,
    /// The last observation that got a command.
    answered: Option<i64>,
}

impl Lockstep {
    fn take(&mut self, driver: &mut Driver, signals: &Signals, event: Event) {
        match event {
            Event::Observation { sequence, received, skew_secs, values, new_publisher } => {
                driver.timings.observe.record(signals.now().saturating_sub(received));
                if new_publisher {
                    driver.publisher_changed();
                }
                let finite = driver.observe(self.time, skew_secs, sequence, values);
                self.answer(driver, signals, sequence, finite);
            }
            Event::Repeated { sequence } if self.answered == Some(sequence) => driver.resend(sequence),
            Event::Repeated { sequence } => {
                let finite = driver.observe_again(self.time);
                self.answer(driver, signals, sequence, finite);
            }
            Event::Reset { seed, episode, answer } => {
                self.answered = None;
                drop(answer.send(driver.begin_episode(seed, episode)));
            }
            Event::Release { answer } => drop(answer.send(driver.release(self.time))),
            Event::Wake => {}
        }
    }

    /// Plans if a plan is wanted, waiting for it, and answers observation `sequence`.
    fn answer(&mut self, driver: &mut Driver, signals: &Signals, sequence: i64, finite: bool) {
        if finite {
            driver.step_observed();
            if !driver.gate.is_stopped() && driver.plan_if_wanted(|_| 0) {
                driver.wait_for_plan();
            }
        }
        // A stop that came while planning is obeyed before anything is sent.
        if signals.estop.swap(false, Ordering::AcqRel) {
            driver.stop();
        }
        let (sent, _) = driver.command(self.time, Some(sequence));
        self.answered = sent.then_some(sequence);
        self.time += self.period;
    }
}
