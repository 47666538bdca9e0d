//! Numbers of a command stream under limits on position, velocity, acceleration and jerk.
//!
//! No command leaves without a way to rest behind it: a command is only given when a [`StopPlan`] from there stays within
//! all limits; when none is found for what is wished, nor for less of it, the plan behind the last command is followed
//! one tick. So every state that is ever reached has a way to rest within all limits, whatever is wished or missing.

use super::four::{Four, HALF, LANES, Mask, TWO, side_by_side};
use super::stop::{Brakes, Motion, ROUNDING, Reach, StopPlan};

/// Limits a tick: `d` bounds the first difference (velocity), `dd` the second (acceleration), `ddd` the third (jerk).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TickLimits<T = f64> {
    pub low: T,
    pub high: T,
    pub d: T,
    pub dd: T,
    pub ddd: T,
}

impl TickLimits {
    /// What states no limit on acceleration, and is to be brought to rest, does not move.
    pub(super) const STILL: Self = Self { low: -1.0, high: 1.0, d: 0.0, dd: 0.0, ddd: 0.0 };

    /// The nearest position to `p` that is gone to.
    pub(super) fn nearest(&self, p: f64) -> f64 {
        p.clamp(self.low + self.margin(), self.high - self.margin())
    }

    /// Leaves a little room, so that roundings on the way to rest do not lead over a limit.
    fn margin(&self) -> f64 {
        let scale = self.low.abs().max(self.high.abs());
        (1e-9 * scale).min((self.high - self.low) / 4.0)
    }
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

impl Step {
    fn select(which: Mask, one: Self, other: Self) -> Self {
        Self {
            motion: Motion::select(which, one.motion, other.motion),
            stop: StopPlan::select(which, one.stop, other.stop),
            reach: Reach::select(which, one.reach, other.reach),
        }
    }
}

/// Four numbers of the stream, each for itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axes {
    limits: TickLimits<Four>,
    brakes: Brakes,
    /// Between what they are sent: their limits less the margin.
    low: Four,
    high: Four,
    margin: Four,
    motion: Motion,
    stop: StopPlan,
    /// The last proposals, newest first, while they move as this stream may; and how many.
    targets: [Four; 3],
    known: Four,
}

/// Halvings between what is wished and the way to rest; 2^-8 of a tick's jerk is not seen.
const HALVINGS: usize = 8;
/// Steps of the search for the command whose way to rest ends at the target.
const SEARCHES: usize = 8;

impl Axes {
    pub(super) fn new(limits: [TickLimits; LANES]) -> Self {
        let each = |of: fn(&TickLimits) -> f64| side_by_side(|lane| of(&limits[lane]));
        let margin = each(TickLimits::margin);
        let [low, high] = [each(|of| of.low), each(|of| of.high)];
        let [d, dd, ddd] = [each(|of| of.d), each(|of| of.dd), each(|of| of.ddd)];
        Self {
            limits: TickLimits { low, high, d, dd, ddd },
            brakes: Brakes::new(dd, ddd),
            low: low + margin,
            high: high - margin,
            margin,
            motion: Motion::default(),
            stop: StopPlan::default(),
            targets: [Four::ZERO; 3],
            known: Four::ZERO,
        }
    }

    /// Begins a stream at rest at `p`.
    pub(super) fn start(&mut self, p: Four) {
        self.motion = Motion::at_rest(p);
        self.stop = StopPlan::default();
        self.known = Four::ZERO;
    }

    pub(super) fn motion(&self) -> Motion {
        self.motion
    }

    /// The nearest positions to `p` that are gone to.
    fn nearest(&self, p: Four) -> Four {
        // In this order what is not a number stays one.
        self.high.fast_min(self.low.fast_max(p))
    }

    /// Takes a step that [`follow`](Self::follow), [`braked`](Self::braked) or [`step_of`](Self::step_of) found.
    pub(super) fn take(&mut self, step: &Step) {
        (self.motion, self.stop) = (step.motion, step.stop);
        // What is left of a rounding at the end of the way is no motion.
        let moves = !self.stop.is_done();
        (self.motion.d, self.motion.dd) = (moves & self.motion.d, moves & self.motion.dd);
    }

    /// The next tick of the way to rest.
    pub(super) fn braked(&self) -> Step {
        let (dd, stop) = self.stop.next(self.motion.dd);
        let at_rest = Motion::at_rest(self.motion.p);
        let motion = Motion::select(self.stop.is_done(), at_rest, self.motion.stepped(dd));
        Step { motion, stop, reach: stop.reach(motion) }
    }

    /// The step that takes the stream to `proposed`, or as near as its limits allow; where `follows` does not say so, the
    /// next tick of the way to rest.
    pub(super) fn follow(&mut self, proposed: Four, follows: Mask) -> (Step, Acted) {
        if !follows.any() {
            self.known = Four::ZERO;
            return (self.braked(), Acted::default());
        }
        let limits = self.limits;
        let target = self.nearest(proposed);
        let on_it = self.is_on_the_way(target);
        let velocity = self.target_velocity(target);
        self.remember(target);
        self.known = follows & self.known;
        let [least, most] = self.accelerations();
        let Motion { p, d, dd } = self.motion;
        let needed = target - p - d;
        let beyond = !(proposed.simd_ge(limits.low) & proposed.simd_le(limits.high));

        let passes = follows & on_it & needed.simd_ge(least) & needed.simd_le(most);
        let (mut step, mut found) = (Step::default(), Four::ZERO);
        if passes.any() {
            let (passed, proven) = self.proven(self.motion.moved_to(target));
            (step, found) = (passed, passes & proven);
        }
        let limited = follows & !found;
        if limited.any() {
            let wished = self.landing(target, velocity, [least, most], limited);
            step = Step::select(found, step, self.towards(self.motion.stepped(wished), limited));
        }
        if !follows.all() {
            step = Step::select(follows, step, self.braked());
        }
        let slowed = limited & (target - p).abs().simd_gt(limits.d);
        let eased = limited & needed.abs().simd_gt(limits.dd);
        let smoothed = limited & (needed - dd).abs().simd_gt(limits.ddd);
        // Nothing but the way to rest ahead is in the way of a proposal that none of them is in the way of.
        let ahead = limited & !(slowed | eased | smoothed);
        let acted = Acted {
            position: (follows & beyond | ahead).any(),
            velocity: slowed.any(),
            acceleration: eased.any(),
            jerk: smoothed.any(),
        };
        (step, acted)
    }

    /// The step of the second differences `dd`, and where there is a way to rest from it.
    pub(super) fn step_of(&self, dd: Four) -> (Step, Mask) {
        self.proven(self.motion.stepped(dd))
    }

    /// `wished` where there is a way to rest from it, or the nearest to it between the way to rest and it; for those that
    /// are `asked` for.
    fn towards(&self, wished: Motion, asked: Mask) -> Step {
        let (step, proven) = self.proven(wished);
        let missing = asked & !proven;
        if !missing.any() {
            return step;
        }
        let mut found = Step::select(missing, self.braked(), step);
        let safe = found.motion.dd;
        let (mut lower, mut upper) = (Four::ZERO, Four::ONE);
        for _ in 0..HALVINGS {
            let middle = (lower + upper) * HALF;
            let (step, proven) = self.proven(self.motion.stepped(safe + middle * (wished.dd - safe)));
            found = Step::select(missing & proven, step, found);
            (lower, upper) = (proven.select(middle, lower), proven.select(upper, middle));
        }
        found
    }

    /// The step to `next`, and where it and a way to rest from it are within all limits.
    fn proven(&self, next: Motion) -> (Step, Mask) {
        let TickLimits { d, dd, ddd, .. } = self.limits;
        let within = |value: Four, limit: Four| value.abs().simd_le(limit * Four::splat(1.0 + ROUNDING));
        let (stop, found) = StopPlan::new(next.d, next.dd, &self.brakes);
        let reach = stop.reach(next);
        let Self { low, high, margin, .. } = *self;
        // Outside of the limits, as a robot may be found, every way leads inwards.
        let above = next
            .p
            .simd_gt(high)
            .select(next.p.simd_le(self.motion.p) & reach.d[1].simd_le(margin), reach.p[1].simd_le(high));
        let below = next
            .p
            .simd_lt(low)
            .select(next.p.simd_ge(self.motion.p) & reach.d[0].simd_ge(-margin), reach.p[0].simd_ge(low));
        // What it moves in the next tick is in its reach.
        let slow = within(reach.d[0], d) & within(reach.d[1], d);
        let smooth = within(next.dd, dd) & within(next.dd - self.motion.dd, ddd);
        (Step { motion: next, stop, reach }, found & above & below & slow & smooth)
    }

    /// The least and greatest second difference of the next tick that its limit, that of the third, and the velocity
    /// reached while it is taken back allow.
    fn accelerations(&self) -> [Four; 2] {
        let TickLimits { d, dd, ddd, .. } = self.limits;
        let Motion { d: now, dd: before, .. } = self.motion;
        let room = |left: Four| (ddd * ddd + TWO * ddd * left.fast_max(Four::ZERO)).sqrt() - ddd;
        let most = (before + ddd).fast_min(dd).fast_min(room(d - now));
        let least = (before - ddd).fast_max(-dd).fast_max(-room(d + now));
        [least.fast_min(most), most]
    }

    /// The second difference of the next tick from which the way to the target's velocity ends at the target, for those
    /// that are `asked` for.
    fn landing(&self, target: Four, velocity: Four, [least, most]: [Four; 2], asked: Mask) -> Four {
        let beyond = |dd: Four| {
            let next = self.motion.stepped(dd);
            let relative = Motion { p: next.p - target, d: next.d - velocity, dd };
            let (plan, found) = StopPlan::new(relative.d, relative.dd, &self.brakes);
            found.select(plan.end(relative), relative.p)
        };
        // Mostly all speed is wished for, the way that the target lies.
        let ahead = target.simd_ge(self.motion.p);
        let likely = ahead.select(most, least);
        let reached = beyond(likely);
        let mut done = !asked | ahead.select(reached.simd_le(Four::ZERO), reached.simd_ge(Four::ZERO));
        if done.all() {
            return likely;
        }
        let other = ahead.select(least, most);
        let back = beyond(other);
        let turned = !done & ahead.select(back.simd_ge(Four::ZERO), back.simd_le(Four::ZERO));
        let mut landing = turned.select(other, likely);
        done |= turned;
        // Regula falsi, with the end that stays counted half (the Illinois rule).
        let mut low = (least, ahead.select(back, reached));
        let mut high = (most, ahead.select(reached, back));
        let mut side = Four::ZERO;
        for _ in 0..SEARCHES {
            if done.all() {
                return landing;
            }
            let at = low.0 + (high.0 - low.0) * low.1 / (low.1 - high.1);
            let value = beyond(at);
            let hit = !done & value.simd_eq(Four::ZERO);
            landing = hit.select(at, landing);
            done |= hit;
            let above = value.simd_gt(Four::ZERO);
            low.1 = (above & side.simd_gt(Four::ZERO)).select(low.1 * HALF, low.1);
            high.1 = (!above & side.simd_lt(Four::ZERO)).select(high.1 * HALF, high.1);
            low = (above.select(low.0, at), above.select(low.1, value));
            high = (above.select(at, high.0), above.select(value, high.1));
            side = above.select(Four::ONE, -Four::ONE);
        }
        // The side that does not overshoot.
        done.select(landing, ahead.select(low.0, high.0))
    }

    /// Where the stream is so near to the proposals, in position, velocity and acceleration, that three ticks within half
    /// of the jerk limit put it on them.
    fn is_on_the_way(&self, target: Four) -> Mask {
        let Motion { p, d, dd } = self.motion;
        let [one, two, three] = self.targets;
        let knows = |count: f64| self.known.simd_ge(Four::splat(count));
        let behind = p - knows(1.0).select(one, target);
        let slower = d - (knows(2.0) & (one - two));
        let lesser = dd - (knows(3.0) & (one - TWO * two + three));
        let most = self.limits.ddd * HALF;
        (behind + slower + lesser).abs().simd_le(most)
            & (TWO * behind + slower).abs().simd_le(most)
            & behind.abs().simd_le(most)
    }

    /// How far the proposals move a tick, where they move steadily.
    fn target_velocity(&self, target: Four) -> Four {
        let [one, two, _] = self.targets;
        let (now, before) = (target - one, one - two);
        let TickLimits { d, dd, .. } = self.limits;
        let steady = self.known.simd_ge(TWO) & (now - before).abs().simd_le(TWO * dd);
        steady & now.abs().simd_le(d) & now
    }

    fn remember(&mut self, target: Four) {
        // A jump is another target, not a moving one.
        let jumps = (target - self.targets[0]).abs().simd_gt(self.limits.d);
        self.targets = [target, self.targets[0], self.targets[1]];
        self.known = ((!jumps & self.known) + Four::ONE).fast_min(Four::splat(3.0));
    }
}
