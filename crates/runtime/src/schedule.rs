//! When the control tick is due: absolute deadlines, half a period away from the observations.

use std::time::Duration;

/// Deadlines a period apart, so that no delay adds up.
///
/// A tick lies half a period behind the observation that it answers, where jitter on neither side makes it miss one: the
/// first observation of an episode sets the phase. A robot whose clock runs a little differently is followed once its
/// observations have come half way to a tick, by at most 2 % of a period a tick; one whose clock has jumped, by one jump.
/// Otherwise the deadlines do not move. Of several observations in a period the first alone can move them, and that of a
/// robot that observes itself much more often than it is commanded none.
#[derive(Clone, Debug)]
pub struct Schedule {
    period: Duration,
    next: Duration,
    last: Option<Duration>,
    aligned: bool,
    /// Observations in a row that came too near to a tick.
    astray: u32,
    /// Observations since the last tick, and whether there were too many before it to tell a phase.
    seen: u32,
    often: bool,
}

/// So many observations in one period are no jitter of a robot that observes itself once in it.
const OFTEN: u32 = 3;

/// So many observations in a row that come too near to a tick, though they are followed, are a jump.
const JUMP: u32 = 5;

impl Schedule {
    /// Ticks from `now` on.
    pub fn new(period: Duration, now: Duration) -> Self {
        Self { period, next: now, last: None, aligned: false, astray: 0, seen: 0, often: false }
    }

    /// When the next tick is due.
    pub fn deadline(&self) -> Duration {
        self.next
    }

    /// Forgets the phase: the next observation sets it anew, and no tick comes sooner than a period after the last.
    pub fn release(&mut self) {
        self.aligned = false;
    }

    /// Forgets the phase and the last tick: as after a silence, the next tick is half a period behind an observation.
    pub fn restart(&mut self) {
        self.aligned = false;
        self.last = None;
    }

    /// An observation was received at `now`.
    pub fn observed(&mut self, now: Duration) {
        self.seen = self.seen.saturating_add(1);
        if !self.aligned {
            self.align(now, self.period);
            return;
        }
        if self.often || self.seen > 1 {
            return;
        }
        // How much later than half a period before the tick it came, folded into half a period either way.
        let period = self.period.as_secs_f64();
        let late = (now + self.period / 2).as_secs_f64() - self.next.as_secs_f64();
        let late = late - (late / period).round() * period;
        if late.abs() <= period / 4.0 {
            self.astray = 0;
            return;
        }
        self.astray += 1;
        if self.astray == JUMP {
            self.align(now, self.period / 2);
            return;
        }
        let shift = self.period / 50;
        self.next = if late > 0.0 { self.next + shift } else { self.next.saturating_sub(shift) };
    }

    /// Puts the next tick half a period behind an observation at `now`, at least `interval` after the last one.
    fn align(&mut self, now: Duration, interval: Duration) {
        self.aligned = true;
        self.astray = 0;
        self.next = now + self.period / 2;
        let earliest = self.last.map_or(now, |last| last + interval);
        while self.next < earliest {
            self.next += self.period;
        }
    }

    /// The tick due was done at `now`; periods that were missed whole are left out, and counted in the answer.
    pub fn advance(&mut self, now: Duration) -> u64 {
        self.last = Some(self.next);
        self.often = self.seen >= OFTEN;
        self.seen = 0;
        self.next += self.period;
        let missed = now.saturating_sub(self.next).as_nanos() / self.period.as_nanos().max(1);
        self.next += self.period * u32::try_from(missed).unwrap_or(u32::MAX);
        missed as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn deadlines_do_not_drift_when_ticks_are_late() {
        let mut schedule = Schedule::new(PERIOD, ms(7));
        for tick in 0..1000 {
            assert_eq!(schedule.deadline(), ms(7) + PERIOD * tick);
            assert_eq!(schedule.advance(schedule.deadline() + ms(60)), 0);
        }
    }

    #[test]
    fn periods_missed_whole_are_left_out() {
        let mut schedule = Schedule::new(PERIOD, ms(0));
        assert_eq!(schedule.advance(ms(350)), 2);
        assert_eq!(schedule.deadline(), ms(300));
    }

    #[test]
    fn the_first_observation_sets_the_phase_and_no_interval_is_shorter_than_a_period() {
        let mut schedule = Schedule::new(PERIOD, ms(0));
        schedule.observed(ms(30));
        assert_eq!(schedule.deadline(), ms(80));
        schedule.advance(ms(80));
        schedule.release();
        schedule.observed(ms(90));
        assert_eq!(schedule.deadline(), ms(240));
        schedule.advance(ms(240));
        schedule.restart();
        schedule.observed(ms(250));
        assert_eq!(schedule.deadline(), ms(300));
    }

    #[test]
    fn observations_that_jitter_less_than_a_quarter_of_a_period_move_nothing() {
        let mut schedule = Schedule::new(PERIOD, ms(0));
        schedule.observed(ms(100));
        for tick in 1..100 {
            schedule.advance(schedule.deadline());
            let jitter = [0, 24, 48][tick as usize % 3];
            schedule.observed(ms(100) + PERIOD * tick + ms(jitter) - ms(24));
            assert_eq!(schedule.deadline(), ms(150) + PERIOD * tick);
        }
    }

    #[test]
    fn a_robot_whose_clock_jumps_is_followed_at_once_and_no_interval_is_shorter_than_half_a_period() {
        for jump in [30, 50, 70] {
            let mut schedule = Schedule::new(PERIOD, ms(0));
            schedule.observed(ms(100));
            let (mut last, mut phase) = (None, ms(0));
            for step in 1..40 {
                let seen = ms(100 + jump) + PERIOD * step;
                while schedule.deadline() < seen {
                    let deadline = schedule.deadline();
                    assert!(last.is_none_or(|last| deadline >= last + PERIOD / 2));
                    last = Some(deadline);
                    schedule.advance(deadline);
                }
                schedule.observed(seen);
                phase = schedule.deadline() - seen;
                assert!(step < 10 || (ms(25)..=ms(75)).contains(&phase), "{jump}: {phase:?} at step {step}");
            }
            assert!((ms(25)..=ms(75)).contains(&phase));
        }
    }

    #[test]
    fn a_robot_that_observes_itself_more_often_than_it_is_commanded_moves_no_tick() {
        for robot_period in [ms(1), ms(7), ms(10), ms(33)] {
            let mut schedule = Schedule::new(PERIOD, ms(0));
            let (mut seen, mut ticks) = (ms(3), Vec::new());
            while seen < ms(20_000) {
                schedule.observed(seen);
                seen += robot_period;
                while schedule.deadline() < seen {
                    ticks.push(schedule.deadline());
                    schedule.advance(schedule.deadline());
                }
            }
            assert!(ticks.len() >= 198, "{robot_period:?}: {} ticks in 20 s", ticks.len());
            // Before it is known how often observations come, a tick may have gone after them.
            for pair in ticks[5..].windows(2) {
                assert_eq!(pair[1] - pair[0], PERIOD, "{robot_period:?}");
            }
        }
    }

    #[test]
    fn a_robot_whose_clock_differs_is_followed() {
        for robot_period in [ms(99), ms(101)] {
            let mut schedule = Schedule::new(PERIOD, ms(0));
            let (mut seen, mut ticked) = (ms(1000), 0);
            for _ in 0..2000 {
                schedule.observed(seen);
                seen += robot_period;
                while schedule.deadline() < seen {
                    schedule.advance(schedule.deadline());
                    ticked += 1;
                }
            }
            assert_eq!(ticked, 2000, "one tick an observation");
        }
    }
}
