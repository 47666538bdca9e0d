//! One number of a command stream under limits on position, velocity, acceleration and jerk.
//!
//! No command leaves without a way to rest behind it: a command is only given when a [`StopPlan`] from there stays within
//! all limits; when none is found for what is wished, nor for less of it, the plan behind the last command is followed
//! one tick. So every state that is ever reached has a way to rest within all limits, whatever is wished or missing.

use super::stop::{Brakes, Motion, Reach, StopPlan};

/// Limits a tick: `d` bounds the first difference (velocity), `dd` the second (acceleration), `ddd` the third (jerk).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TickLimits {
    pub low: f64,
    pub high: f64,
    pub d: f64,
    pub dd: f64,
    pub ddd: f64,
}

/// Why a command is not what was proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acted {
    pub position: bool,
    pub velocity: bool,
    pub acceleration: bool,
    pub jerk: bool,
}

impl Acted {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            position: self.position || other.position,
            velocity: self.velocity || other.velocity,
            acceleration: self.acceleration || other.acceleration,
            jerk: self.jerk || other.jerk,
        }
    }
}

/// A motion and a way to rest from it within all limits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Step {
    pub motion: Motion,
    pub stop: StopPlan,
    pub reach: Reach,
}

/// One number of the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    limits: TickLimits,
    brakes: Brakes,
    /// Between what it is sent, and how far within its limits: a little, so that roundings on the way to rest do not lead
    /// over a limit.
    low: f64,
    high: f64,
    margin: f64,
    motion: Motion,
    stop: StopPlan,
    /// The last proposals, newest first, while they move as this stream may.
    targets: [f64; 3],
    known: usize,
}

/// Halvings between what is wished and the way to rest; 2^-8 of a tick's jerk is not seen.
const HALVINGS: usize = 8;
/// Steps of the search for the command whose way to rest ends at the target.
const SEARCHES: usize = 8;

impl Axis {
    pub(super) fn new(limits: TickLimits) -> Self {
        let TickLimits { low, high, dd, ddd, .. } = limits;
        let margin = (1e-9 * low.abs().max(high.abs())).min((high - low) / 4.0);
        Self {
            limits,
            brakes: Brakes::new(dd, ddd),
            low: low + margin,
            high: high - margin,
            margin,
            motion: Motion::default(),
            stop: StopPlan::default(),
            targets: [0.0; 3],
            known: 0,
        }
    }

    /// The nearest position to `p` that is gone to.
    pub(super) fn nearest(&self, p: f64) -> f64 {
        p.clamp(self.low, self.high)
    }

    /// Begins a stream at rest at `p`.
    pub(super) fn start(&mut self, p: f64) {
        self.motion = Motion::at_rest(p);
        self.stop = StopPlan::default();
        self.known = 0;
    }

    pub(super) fn motion(&self) -> Motion {
        self.motion
    }

    /// Takes a step that [`follow`](Self::follow), [`brake`](Self::brake) or [`towards`](Self::towards) found.
    pub(super) fn take(&mut self, step: &Step) {
        (self.motion, self.stop) = (step.motion, step.stop);
        // What is left of a rounding at the end of the way is no motion.
        if self.stop.is_done() {
            (self.motion.d, self.motion.dd) = (0.0, 0.0);
        }
    }

    /// The next tick of the way to rest.
    pub(super) fn brake(&mut self) -> Step {
        self.known = 0;
        self.braked()
    }

    pub(super) fn braked(&self) -> Step {
        let (dd, stop) = self.stop.next(self.motion.dd);
        let rests = self.stop.is_done();
        let motion = if rests { Motion::at_rest(self.motion.p) } else { self.motion.stepped(dd) };
        Step { motion, stop, reach: stop.reach(motion) }
    }

    /// The step that takes the stream to `proposed`, or as near as its limits allow.
    pub(super) fn follow(&mut self, proposed: f64) -> (Step, Acted) {
        let TickLimits { low, high, .. } = self.limits;
        let target = self.nearest(proposed);
        let on_it = self.is_on_the_way(target);
        let velocity = self.target_velocity(target);
        self.remember(target);
        let [least, most] = self.accelerations();
        let Motion { p, d, dd } = self.motion;
        let needed = target - p - d;
        if on_it
            && (least..=most).contains(&needed)
            && let Some(step) = self.proven(self.motion.moved_to(target))
        {
            let position = !(low..=high).contains(&proposed);
            return (step, Acted { position, ..Acted::default() });
        }
        let acted = Acted {
            position: !(low..=high).contains(&proposed),
            velocity: (target - p).abs() > self.limits.d,
            acceleration: needed.abs() > self.limits.dd,
            jerk: (needed - dd).abs() > self.limits.ddd,
        };
        let other = acted == Acted::default();
        let wished = self.landing(target, velocity, [least, most]);
        let step = self.towards(self.motion.stepped(wished));
        // Nothing but the way to rest ahead is in the way of such a proposal.
        (step, Acted { position: acted.position || other, ..acted })
    }

    /// The step of the second difference `dd`, if there is a way to rest from it.
    pub(super) fn step_of(&self, dd: f64) -> Option<Step> {
        self.proven(self.motion.stepped(dd))
    }

    /// `wished`, if there is a way to rest from it, or the nearest to it between the way to rest and it.
    fn towards(&self, wished: Motion) -> Step {
        if let Some(step) = self.proven(wished) {
            return step;
        }
        let mut found = self.braked();
        let safe = found.motion.dd;
        let (mut lower, mut upper) = (0.0, 1.0);
        for _ in 0..HALVINGS {
            let middle = (lower + upper) / 2.0;
            match self.proven(self.motion.stepped(safe + middle * (wished.dd - safe))) {
                Some(step) => (lower, found) = (middle, step),
                None => upper = middle,
            }
        }
        found
    }

    /// The step to `next`, if it and a way to rest from it are within all limits.
    fn proven(&self, next: Motion) -> Option<Step> {
        let limits = &self.limits;
        let within = |value: f64, limit: f64| value.abs() <= limit * (1.0 + 1e-12);
        let jerk = next.dd - self.motion.dd;
        if !within(next.d, limits.d) || !within(next.dd, limits.dd) || !within(jerk, limits.ddd) {
            return None;
        }
        let stop = StopPlan::new(next.d, next.dd, &self.brakes)?;
        let reach = stop.reach(next);
        let Self { low, high, margin, .. } = *self;
        // Outside of the limits, as a robot may be found, every way leads inwards.
        let above =
            if next.p > high { next.p <= self.motion.p && reach.d[1] <= margin } else { reach.p[1] <= high };
        let below =
            if next.p < low { next.p >= self.motion.p && reach.d[0] >= -margin } else { reach.p[0] >= low };
        let slow = within(reach.d[0], limits.d) && within(reach.d[1], limits.d);
        (above && below && slow).then_some(Step { motion: next, stop, reach })
    }

    /// The least and greatest second difference of the next tick that its limit, that of the third, and the velocity
    /// reached while it is taken back allow.
    fn accelerations(&self) -> [f64; 2] {
        let TickLimits { d, dd, ddd, .. } = self.limits;
        let Motion { d: now, dd: before, .. } = self.motion;
        let room = |left: f64| (ddd * ddd + 2.0 * ddd * left.max(0.0)).sqrt() - ddd;
        let most = (before + ddd).min(dd).min(room(d - now));
        let least = (before - ddd).max(-dd).max(-room(d + now));
        [least.min(most), most]
    }

    /// The second difference of the next tick from which the way to the target's velocity ends at the target.
    fn landing(&self, target: f64, velocity: f64, [least, most]: [f64; 2]) -> f64 {
        let beyond = |dd: f64| {
            let next = self.motion.stepped(dd);
            let relative = Motion { p: next.p - target, d: next.d - velocity, dd };
            let plan = StopPlan::new(relative.d, relative.dd, &self.brakes);
            plan.map_or(relative.p, |plan| plan.end(relative))
        };
        // Mostly all speed is wished for, the way that the target lies.
        let ahead = target >= self.motion.p;
        let (mut low, mut high) = ((least, f64::NEG_INFINITY), (most, f64::INFINITY));
        for is_high in [ahead, !ahead] {
            if is_high {
                high.1 = beyond(most);
                if high.1 <= 0.0 {
                    return most;
                }
            } else {
                low.1 = beyond(least);
                if low.1 >= 0.0 {
                    return least;
                }
            }
        }
        // Regula falsi, with the end that stays counted half (the Illinois rule).
        let mut side = 0;
        for _ in 0..SEARCHES {
            let at = low.0 + (high.0 - low.0) * low.1 / (low.1 - high.1);
            let value = beyond(at);
            if value == 0.0 {
                return at;
            }
            if value > 0.0 {
                high = (at, value);
                if side == 1 {
                    low.1 /= 2.0;
                }
                side = 1;
            } else {
                low = (at, value);
                if side == -1 {
                    high.1 /= 2.0;
                }
                side = -1;
            }
        }
        // The side that does not overshoot.
        if ahead { low.0 } else { high.0 }
    }

    /// Whether the stream is so near to the proposals, in position, velocity and acceleration, that three ticks within
    /// half of the jerk limit put it on them.
    fn is_on_the_way(&self, target: f64) -> bool {
        let Motion { p, d, dd } = self.motion;
        let [one, two, three] = self.targets;
        let (behind, slower, lesser) = match self.known {
            0 => (p - target, d, dd),
            1 => (p - one, d, dd),
            2 => (p - one, d - (one - two), dd),
            _ => (p - one, d - (one - two), dd - (one - 2.0 * two + three)),
        };
        let most = self.limits.ddd / 2.0;
        (behind + slower + lesser).abs() <= most
            && (2.0 * behind + slower).abs() <= most
            && behind.abs() <= most
    }

    /// How far the proposals move a tick, if they move steadily.
    fn target_velocity(&self, target: f64) -> f64 {
        let [one, two, _] = self.targets;
        let (now, before) = (target - one, one - two);
        let steady = self.known >= 2 && (now - before).abs() <= 2.0 * self.limits.dd;
        if steady && now.abs() <= self.limits.d { now } else { 0.0 }
    }

    fn remember(&mut self, target: f64) {
        // A jump is another target, not a moving one.
        if self.known > 0 && (target - self.targets[0]).abs() > self.limits.d {
            self.known = 0;
        }
        self.targets = [target, self.targets[0], self.targets[1]];
        self.known = (self.known + 1).min(3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A joint at 500 Hz: 2 rad/s, 10 rad/s², 200 rad/s³.
    const JOINT: TickLimits = TickLimits { low: -1.0, high: 1.0, d: 0.004, dd: 40e-6, ddd: 1.6e-6 };

    fn follow(axis: &mut Axis, target: f64) -> Motion {
        let (step, _) = axis.follow(target);
        axis.take(&step);
        axis.motion()
    }

    #[test]
    fn a_far_target_is_reached_with_an_overshoot_of_rounding_ticks_in_little_more_than_the_least_time() {
        for (from, target) in [(-0.9, 0.9), (0.0, 1.0), (0.3, 0.31), (0.5, -0.5), (0.1, 0.1001)] {
            let mut axis = Axis::new(JOINT);
            axis.start(from);
            let way: f64 = target - from;
            let mut ticks = 0;
            while (axis.motion().p - target).abs() > 2e-9 || axis.motion().d != 0.0 {
                let motion = follow(&mut axis, target);
                assert!(
                    (motion.p - target) * way.signum() <= 4.0 * JOINT.ddd,
                    "{from} to {target}: {motion:?}"
                );
                ticks += 1;
                assert!(ticks < 2000, "{from} to {target}: never there: {:?}", axis.motion());
            }
            // The least time of a jerk-limited way from rest to rest, by its three cases.
            let TickLimits { d, dd, ddd, .. } = JOINT;
            let way = way.abs();
            let least = if way < 2.0 * dd * dd * dd / (ddd * ddd) {
                4.0 * (way / (2.0 * ddd)).cbrt()
            } else {
                let peak = d.min(-dd * dd / (2.0 * ddd) + ((dd * dd / ddd).powi(2) / 4.0 + dd * way).sqrt());
                way / peak + peak / dd + dd / ddd
            };
            println!("{from} to {target}: {ticks} ticks, {least} at least");
            assert!(f64::from(ticks) < 1.15 * least + 12.0, "{from} to {target}: {ticks}, least {least}");
        }
    }

    #[test]
    fn a_stream_within_the_limits_passes_unchanged() {
        let wave = |tick: i32| 0.2 * (f64::from(tick) * 0.01).sin() + 0.1;
        let mut axis = Axis::new(JOINT);
        axis.start(wave(0));
        let (mut caught, mut errors) = (None, 0);
        for tick in 1..3000 {
            let motion = follow(&mut axis, wave(tick));
            if motion.p == wave(tick) {
                caught.get_or_insert(tick);
            } else if caught.is_some() {
                errors += 1;
            }
        }
        println!("caught at {caught:?}, {errors} not passed since");
        assert!(caught.is_some_and(|tick| tick < 500) && errors == 0, "{caught:?} {errors}");
    }
}
