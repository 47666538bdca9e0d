//! How a command stream comes to rest: the proof that the guard holds before it lets a command out.
//!
//! All in differences a tick: with positions p, the first difference d is the velocity times the period, the second, dd,
//! the acceleration times its square, the third the jerk times its cube. Limits on these are limits on what an observer
//! of the commands sees, whatever happens between two ticks.

use super::four::{Four, HALF, Mask, TWO, rounded_down, rounded_up};

/// Where a command stream stands: the last position and its first two differences.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Motion {
    pub p: Four,
    pub d: Four,
    pub dd: Four,
}

impl Motion {
    /// At rest at `p`.
    pub(super) fn at_rest(p: Four) -> Self {
        Self { p, ..Self::default() }
    }

    /// One tick later, when its second difference is then `dd`.
    pub(super) fn stepped(self, dd: Four) -> Self {
        let d = self.d + dd;
        Self { p: self.p + d, d, dd }
    }

    /// One tick later, at `p`.
    pub(super) fn moved_to(self, p: Four) -> Self {
        let d = p - self.p;
        Self { p, d, dd: d - self.d }
    }

    /// The one where `which` says so, the other elsewhere.
    pub(super) fn select(which: Mask, one: Self, other: Self) -> Self {
        Self {
            p: which.select(one.p, other.p),
            d: which.select(one.d, other.d),
            dd: which.select(one.dd, other.dd),
        }
    }

    /// After `n` ticks of the same third difference `u`.
    fn after(self, u: Four, n: Four) -> Self {
        let once = n * (n + Four::ONE) * HALF;
        let twice = once * (n + TWO) * Four::splat(1.0 / 3.0);
        Self {
            p: self.p + n * self.d + once * self.dd + twice * u,
            d: self.d + n * self.dd + once * u,
            dd: self.dd + n * u,
        }
    }

    /// After `n` ticks without a third difference.
    fn steadily_after(self, n: Four) -> Self {
        let once = n * (n + Four::ONE) * HALF;
        Self { p: self.p + n * self.d + once * self.dd, d: self.d + n * self.dd, dd: self.dd }
    }
}

/// How hard a stream may brake: what its second and third differences are at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Brakes {
    dd: Four,
    ddd: Four,
    per_dd: Four,
    per_ddd: Four,
}

impl Brakes {
    pub(super) fn new(dd: Four, ddd: Four) -> Self {
        Self { dd, ddd, per_dd: Four::ONE / dd, per_ddd: Four::ONE / ddd }
    }
}

/// A way to rest: three runs of ticks of the same third difference, the middle one 0. Empty at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct StopPlan {
    ticks: [Four; 3],
    first: Four,
    last: Four,
}

/// What a plan comes by, its beginning included: smallest and greatest position and first difference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reach {
    pub p: [Four; 2],
    pub d: [Four; 2],
}

/// Roundings that a plan made to touch a limit may be over it by, as a share of the limit.
pub(super) const ROUNDING: f64 = 1e-12;
/// A plan of more ticks than this is none; at 1 kHz it is a quarter of an hour.
const MOST_TICKS: f64 = 1e6;

impl StopPlan {
    /// A quick way to rest from first and second differences `d` and `dd`, and where one was found.
    ///
    /// The quickest way with a bounded jerk brakes harder, then as hard as it may, then less and less. Its durations,
    /// rounded up to ticks, leave one number free, the braking b, and the sum of all second differences must be -d:
    /// b = (d + dd (n1 - 1) / 2) / ((n1 + n3) / 2 + n2).
    pub(super) fn new(d: Four, dd: Four, brakes: &Brakes) -> (Self, Mask) {
        let rounding = Four::splat(ROUNDING);
        // Where the velocity would end if only the acceleration were taken back says which way to brake.
        let ends = d + dd * dd.abs() * HALF * brakes.per_ddd;
        let sign = ends.simd_ge(Four::ZERO).select(Four::ONE, -Four::ONE);
        let (v, a) = (sign * d, sign * dd);
        let quickest = (brakes.ddd * v + a * a * HALF).fast_max(Four::ZERO).sqrt().fast_min(brakes.dd);
        let n1 = rounded_up((a + quickest) * brakes.per_ddd - rounding).fast_max(Four::ONE);
        let n3 = rounded_up(quickest * brakes.per_ddd - rounding).fast_max(Four::ONE);
        let is_short = (n1 + n3 + v.abs() * brakes.per_dd).simd_le(Four::splat(MOST_TICKS));

        let most = Four::splat(1.0 + ROUNDING);
        let (dd_most, ddd_most) = (brakes.dd * most, brakes.ddd * most);
        let plan = |n1: Four, n3: Four, more: Four| {
            let (change, slopes) = (v + a * (n1 - Four::ONE) * HALF, (n1 + n3) * HALF);
            let n2 = rounded_up(change.abs() * brakes.per_dd - slopes).fast_max(Four::ZERO) + more;
            let braking = change / (slopes + n2);
            let within = braking.abs().simd_le(dd_most)
                & (braking + a).abs().simd_le(n1 * ddd_most)
                & braking.abs().simd_le(n3 * ddd_most);
            let first = -sign * (braking + a) / n1;
            let plan = Self { ticks: [n1, n2, n3], first, last: sign * braking / n3 };
            (plan, within & n1.simd_ge(Four::ONE) & n3.simd_ge(Four::ONE))
        };
        let (mut found, mut proven) = plan(n1, n3, Four::ZERO);
        if !proven.all() {
            // What rounding up makes too long is a tick shorter; what only takes the acceleration back has two slopes.
            let back = rounded_up(a.abs() * brakes.per_ddd) + Four::ONE;
            let half = rounded_down(back * HALF);
            let tries = [
                (n1, n3 - Four::ONE, Four::ZERO),
                (n1 + Four::ONE, n3 - Four::ONE, Four::ZERO),
                (n1 + Four::ONE + Four::ONE, n3 - Four::ONE, Four::ZERO),
                (half, back - half, Four::ZERO),
                (half + Four::ONE, back - half, Four::ZERO),
                (n1, n3, Four::ONE),
                (n1 + Four::ONE, n3, Four::ZERO),
            ];
            for (n1, n3, more) in tries {
                let (other, within) = plan(n1, n3, more);
                found = Self::select(proven, found, other);
                proven |= within;
            }
        }
        let rests = d.simd_eq(Four::ZERO) & dd.simd_eq(Four::ZERO);
        (Self::select(rests, Self::default(), found), proven & is_short | rests)
    }

    /// The second difference of the next tick, when the present one is `dd`, and what is left of the plan.
    pub(super) fn next(self, dd: Four) -> (Four, Self) {
        let left = self.ticks.map(|n| n.simd_gt(Four::ZERO));
        let runs = [left[0], !left[0] & left[1], !left[0] & !left[1] & left[2]];
        let jerk = runs[0] & self.first | runs[2] & self.last;
        let ticks = std::array::from_fn(|run| self.ticks[run] - (runs[run] & Four::ONE));
        (!self.is_done() & (dd + jerk), Self { ticks, ..self })
    }

    /// Whether it has come to rest.
    pub(super) fn is_done(&self) -> Mask {
        let [first, second, third] = self.ticks.map(|n| n.simd_eq(Four::ZERO));
        first & second & third
    }

    /// Where it rests from `from`.
    pub(super) fn end(&self, from: Motion) -> Four {
        self.end_behind(from.after(self.first, self.ticks[0]))
    }

    /// Where it rests when its first run ends at `first`.
    fn end_behind(&self, first: Motion) -> Four {
        first.steadily_after(self.ticks[1]).after(self.last, self.ticks[2]).p
    }

    /// What it comes by from `from`.
    ///
    /// Only in the first run does either turn: in the others the second difference keeps its sign and the first one comes
    /// to 0, so both go one way.
    pub(super) fn reach(&self, from: Motion) -> Reach {
        let n = self.ticks[0];
        let first = from.after(self.first, n);
        let mut reach = Reach { p: [from.p; 2], d: [from.d; 2] };
        reach.take(first);
        widen(&mut reach.p, self.end_behind(first));
        widen(&mut reach.d, Four::ZERO);
        reach.turn(from, self.first, n);
        reach
    }

    pub(super) fn select(which: Mask, one: Self, other: Self) -> Self {
        Self {
            ticks: std::array::from_fn(|run| which.select(one.ticks[run], other.ticks[run])),
            first: which.select(one.first, other.first),
            last: which.select(one.last, other.last),
        }
    }
}

impl Reach {
    /// Takes in where `n` ticks from `from` of the same third difference `u` turn. Their ends are in it.
    fn turn(&mut self, from: Motion, u: Four, n: Four) {
        // The first difference turns where the second changes sign.
        let turns = from.dd.simd_gt(Four::ZERO) ^ (from.dd + n * u).simd_gt(Four::ZERO);
        if turns.any() {
            self.take_within(from, u, turns & n, -from.dd / u);
        }
        // The position turns where the first difference does: that of tick k is the quadratic u/2 k^2 + b k + d.
        let turns = self.d[0].simd_lt(Four::ZERO) & self.d[1].simd_gt(Four::ZERO);
        if turns.any() {
            let b = from.dd + u * HALF;
            let root = (b * b - (u + u) * from.d).fast_max(Four::ZERO).sqrt();
            let q = -HALF * (b + b.simd_lt(Four::ZERO).select(-root, root));
            self.take_within(from, u, turns & n, (q + q) / u);
            self.take_within(from, u, turns & n, from.d / q);
        }
    }

    /// Takes in the last tick that is not after `k` of them, where that lies between `from` and `n` ticks of the same third
    /// difference `u` from there.
    fn take_within(&mut self, from: Motion, u: Four, n: Four, k: Four) {
        let within = k.simd_gt(Four::ZERO) & k.simd_lt(n);
        if within.any() {
            self.take(from.after(u, rounded_down(within & k)));
        }
    }

    fn take(&mut self, at: Motion) {
        widen(&mut self.p, at.p);
        widen(&mut self.d, at.d);
    }

    pub(super) fn select(which: Mask, one: Self, other: Self) -> Self {
        Self {
            p: std::array::from_fn(|end| which.select(one.p[end], other.p[end])),
            d: std::array::from_fn(|end| which.select(one.d[end], other.d[end])),
        }
    }
}

fn widen([least, most]: &mut [Four; 2], value: Four) {
    (*least, *most) = (least.fast_min(value), most.fast_max(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every plan comes to rest within its limits, and its reach is that of its ticks one by one.
    #[test]
    fn a_plan_comes_to_rest_and_its_reach_is_what_its_ticks_come_by() {
        let mut seed = 1;
        let mut random = || {
            Four::from(std::array::from_fn::<f64, 4, _>(|_| {
                seed = nudge_control::split_mix_64(seed);
                (seed >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
            }))
        };
        let power = |exponent: Four| Four::from(exponent.to_array().map(|e| 10_f64.powf(e)));
        let splat = Four::splat;
        let mut ticks = 0.0_f64;
        for _ in 0..5_000 {
            let dd_max = power(splat(2.0) * random());
            let ddd_max = dd_max * power(splat(1.3) * random() - splat(1.0));
            let d = dd_max * splat(20.0) * random() * random();
            let from = Motion { p: random(), d, dd: dd_max * random() };
            let (plan, found) = StopPlan::new(from.d, from.dd, &Brakes::new(dd_max, ddd_max));
            assert!(found.all(), "{from:?}");
            let reach = plan.reach(from);
            let mut walked = Reach { p: [from.p; 2], d: [from.d; 2] };
            let (mut at, mut left) = (from, plan);
            while !left.is_done().all() {
                let (dd, rest) = left.next(at.dd);
                let near = splat(1.0 + 1e-9);
                assert!(dd.abs().simd_le(dd_max * near).all(), "{from:?} {plan:?}");
                let jerk = (!left.is_done()) & (dd - at.dd);
                assert!(jerk.abs().simd_le(ddd_max * near).all(), "{from:?} {plan:?}");
                at = Motion::select(left.is_done(), at, at.stepped(dd));
                ticks += (!left.is_done() & Four::ONE).reduce_add();
                left = rest;
                walked.take(at);
            }
            let scale =
                dd_max.max(from.d.abs()) * (splat(10.0) + plan.ticks[0] + plan.ticks[1] + plan.ticks[2]);
            let small = |size: Four| size.simd_lt(splat(1e-12) * scale).all();
            assert!(small(at.d.abs()) && small(at.dd.abs()), "{from:?} {plan:?} {at:?}");
            let near = |a: Four, b: Four| (a - b).abs().simd_lt(splat(1e-11) * (Four::ONE + scale)).all();
            let alike = |a: [Four; 2], b: [Four; 2]| near(a[0], b[0]) && near(a[1], b[1]);
            assert!(alike(reach.p, walked.p) && alike(reach.d, walked.d), "{from:?} {reach:?} {walked:?}");
            assert!(near(plan.end(from), at.p));
        }
        assert!(ticks > 100_000.0);
    }
}
