//! How one number of a command stream comes to rest: the proof that the guard holds before it lets a command out.
//!
//! All in differences a tick: with positions p, the first difference d is the velocity times the period, the second, dd,
//! the acceleration times its square, the third the jerk times its cube. Limits on these are limits on what an observer
//! of the commands sees, whatever happens between two ticks.

/// Where a command stream stands: the last position and its first two differences.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Motion {
    pub p: f64,
    pub d: f64,
    pub dd: f64,
}

impl Motion {
    /// At rest at `p`.
    pub(super) fn at_rest(p: f64) -> Self {
        Self { p, d: 0.0, dd: 0.0 }
    }

    /// One tick later, when its second difference is then `dd`.
    pub(super) fn stepped(self, dd: f64) -> Self {
        let d = self.d + dd;
        Self { p: self.p + d, d, dd }
    }

    /// One tick later, at `p`.
    pub(super) fn moved_to(self, p: f64) -> Self {
        let d = p - self.p;
        Self { p, d, dd: d - self.d }
    }

    /// After `n` ticks of the same third difference `u`.
    fn after(self, u: f64, n: f64) -> Self {
        let once = n * (n + 1.0) * 0.5;
        let twice = once * (n + 2.0) * (1.0 / 3.0);
        Self {
            p: self.p + n * self.d + once * self.dd + twice * u,
            d: self.d + n * self.dd + once * u,
            dd: self.dd + n * u,
        }
    }

    /// After `n` ticks without a third difference.
    fn steadily_after(self, n: f64) -> Self {
        let once = n * (n + 1.0) * 0.5;
        Self { p: self.p + n * self.d + once * self.dd, d: self.d + n * self.dd, dd: self.dd }
    }
}

/// How hard a stream may brake: what its second and third differences are at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Brakes {
    dd: f64,
    ddd: f64,
    per_dd: f64,
    per_ddd: f64,
}

impl Brakes {
    pub(super) fn new(dd: f64, ddd: f64) -> Self {
        Self { dd, ddd, per_dd: 1.0 / dd, per_ddd: 1.0 / ddd }
    }
}

/// A way to rest: three runs of ticks of the same third difference, the middle one 0. Empty at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct StopPlan {
    ticks: [f64; 3],
    first: f64,
    last: f64,
}

/// What a plan comes by, its beginning included: smallest and greatest position and first difference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reach {
    pub p: [f64; 2],
    pub d: [f64; 2],
}

/// Roundings that a plan made to touch a limit may be over it by, as a share of the limit.
const ROUNDING: f64 = 1e-12;
/// A plan of more ticks than this is none; at 1 kHz it is a quarter of an hour.
const MOST_TICKS: f64 = 1e6;

impl StopPlan {
    /// A quick way to rest from first and second differences `d` and `dd`.
    ///
    /// The quickest way with a bounded jerk brakes harder, then as hard as it may, then less and less. Its durations,
    /// rounded up to ticks, leave one number free, the braking b, and the sum of all second differences must be -d:
    /// b = (d + dd (n1 - 1) / 2) / ((n1 + n3) / 2 + n2).
    pub(super) fn new(d: f64, dd: f64, brakes: &Brakes) -> Option<Self> {
        if d == 0.0 && dd == 0.0 {
            return Some(Self::default());
        }
        let Brakes { dd: dd_max, ddd: ddd_max, per_dd, per_ddd } = *brakes;
        // Where the velocity would end if only the acceleration were taken back says which way to brake.
        let sign = if d + dd * dd.abs() * 0.5 * per_ddd >= 0.0 { 1.0 } else { -1.0 };
        let (v, a) = (sign * d, sign * dd);
        let quickest = lesser(larger(ddd_max * v + a * a * 0.5, 0.0).sqrt(), dd_max);
        let n1 = larger(rounded_up((a + quickest) * per_ddd - ROUNDING), 1.0);
        let n3 = larger(rounded_up(quickest * per_ddd - ROUNDING), 1.0);
        if n1 + n3 + v.abs() * per_dd > MOST_TICKS {
            return None;
        }
        let (dd_most, ddd_most) = (dd_max * (1.0 + ROUNDING), ddd_max * (1.0 + ROUNDING));
        let plan = |n1: f64, n3: f64, more: f64| {
            let (change, slopes) = (v + a * (n1 - 1.0) * 0.5, (n1 + n3) * 0.5);
            let n2 = larger(rounded_up(change.abs() * per_dd - slopes), 0.0) + more;
            let braking = change / (slopes + n2);
            let within = braking.abs() <= dd_most
                && (braking + a).abs() <= n1 * ddd_most
                && braking.abs() <= n3 * ddd_most;
            (within && n1 >= 1.0 && n3 >= 1.0).then(|| {
                let first = -sign * (braking + a) / n1;
                Self { ticks: [n1, n2, n3], first, last: sign * braking / n3 }
            })
        };
        // What rounding up makes too long is a tick shorter; what only takes the acceleration back has two slopes.
        plan(n1, n3, 0.0).or_else(|| {
            let back = rounded_up(a.abs() * per_ddd) + 1.0;
            let half = (back / 2.0).floor();
            let tries = [
                (n1, n3 - 1.0, 0.0),
                (n1 + 1.0, n3 - 1.0, 0.0),
                (n1 + 2.0, n3 - 1.0, 0.0),
                (half, back - half, 0.0),
                (half + 1.0, back - half, 0.0),
                (n1, n3, 1.0),
                (n1 + 1.0, n3, 0.0),
            ];
            tries.into_iter().find_map(|(n1, n3, more)| plan(n1, n3, more))
        })
    }

    /// The second difference of the next tick, when the present one is `dd`, and what is left of the plan.
    pub(super) fn next(self, dd: f64) -> (f64, Self) {
        let (run, jerk) = match self.ticks {
            [n, _, _] if n > 0.0 => (0, self.first),
            [_, n, _] if n > 0.0 => (1, 0.0),
            [_, _, n] if n > 0.0 => (2, self.last),
            _ => return (0.0, self),
        };
        let mut left = self;
        left.ticks[run] -= 1.0;
        (dd + jerk, left)
    }

    /// Whether it has come to rest.
    pub(super) fn is_done(&self) -> bool {
        self.ticks == [0.0; 3]
    }

    /// Where it rests from `from`.
    pub(super) fn end(&self, from: Motion) -> f64 {
        self.end_behind(from.after(self.first, self.ticks[0]))
    }

    /// Where it rests when its first run ends at `first`.
    fn end_behind(&self, first: Motion) -> f64 {
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
        widen(&mut reach.d, 0.0);
        reach.turn(from, self.first, n);
        reach
    }
}

impl Reach {
    /// Takes in where `n` ticks from `from` of the same third difference `u` turn. Their ends are in it.
    fn turn(&mut self, from: Motion, u: f64, n: f64) {
        // The first difference turns where the second changes sign.
        if (from.dd > 0.0) != (from.dd + n * u > 0.0) {
            self.take_within(from, u, n, -from.dd / u);
        }
        // The position turns where the first difference does: that of tick k is the quadratic u/2 k^2 + b k + d.
        if self.d[0] < 0.0 && self.d[1] > 0.0 {
            let b = from.dd + u / 2.0;
            let q = -0.5 * (b + larger(b * b - 2.0 * u * from.d, 0.0).sqrt().copysign(b));
            self.take_within(from, u, n, 2.0 * q / u);
            self.take_within(from, u, n, from.d / q);
        }
    }

    /// Takes in the last tick that is not after `k` of them, if that lies between `from` and `n` ticks of the same third
    /// difference `u` from there.
    fn take_within(&mut self, from: Motion, u: f64, n: f64, k: f64) {
        if k > 0.0 && k < n {
            self.take(from.after(u, k as i64 as f64));
        }
    }

    fn take(&mut self, at: Motion) {
        widen(&mut self.p, at.p);
        widen(&mut self.d, at.d);
    }
}

fn widen([least, most]: &mut [f64; 2], value: f64) {
    (*least, *most) = (lesser(value, *least), larger(value, *most));
}

/// `min` and `max` of numbers of which none is NaN: an instruction each.
pub(super) fn lesser(one: f64, other: f64) -> f64 {
    if one < other { one } else { other }
}

pub(super) fn larger(one: f64, other: f64) -> f64 {
    if one > other { one } else { other }
}

/// `ceil` of fewer ticks than 2^63, without the call that it is on processors that may lack the instruction.
fn rounded_up(ticks: f64) -> f64 {
    let towards_zero = ticks as i64 as f64;
    if towards_zero < ticks { towards_zero + 1.0 } else { towards_zero }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every plan comes to rest within its limits, and its reach is that of its ticks one by one.
    #[test]
    fn a_plan_comes_to_rest_and_its_reach_is_what_its_ticks_come_by() {
        let mut seed = 1;
        let mut random = || {
            seed = nudge_control::split_mix_64(seed);
            (seed >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        };
        let mut ticks = 0.0_f64;
        for _ in 0..20_000 {
            let dd_max = 10_f64.powf(2.0 * random());
            let ddd_max = dd_max * 10_f64.powf(-1.0 + 1.3 * random());
            let from = Motion { p: random(), d: dd_max * 20.0 * random() * random(), dd: dd_max * random() };
            let plan = StopPlan::new(from.d, from.dd, &Brakes::new(dd_max, ddd_max)).unwrap();
            let reach = plan.reach(from);
            let mut walked = Reach { p: [from.p; 2], d: [from.d; 2] };
            let (mut at, mut left) = (from, plan);
            while !left.is_done() {
                let (dd, rest) = left.next(at.dd);
                assert!(dd.abs() <= dd_max * (1.0 + 1e-9), "{from:?} {plan:?}");
                assert!((dd - at.dd).abs() <= ddd_max * (1.0 + 1e-9), "{from:?} {plan:?}");
                (at, left) = (at.stepped(dd), rest);
                walked.take(at);
                ticks += 1.0;
            }
            let scale = dd_max.max(from.d.abs()) * (10.0 + plan.ticks.iter().sum::<f64>());
            assert!(at.d.abs() < 1e-12 * scale && at.dd.abs() < 1e-12 * scale, "{from:?} {plan:?} {at:?}");
            let near =
                |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).abs() + (a[1] - b[1]).abs() < 1e-11 * (1.0 + scale);
            assert!(near(reach.p, walked.p) && near(reach.d, walked.d), "{from:?} {reach:?} {walked:?}");
            assert!((plan.end(from) - at.p).abs() < 1e-11 * (1.0 + scale));
        }
        assert!(ticks > 100_000.0);
    }
}
