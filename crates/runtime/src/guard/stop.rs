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
        let (once, twice) = (n * (n + 1.0) / 2.0, n * (n + 1.0) * (n + 2.0) / 6.0);
        Self {
            p: self.p + n * self.d + once * self.dd + twice * u,
            d: self.d + n * self.dd + once * u,
            dd: self.dd + n * u,
        }
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reach {
    pub p: [f64; 2],
    pub d: [f64; 2],
    /// Where it rests.
    pub end: f64,
}

/// Roundings that a plan made to touch a limit may be over it by, as a share of the limit.
const ROUNDING: f64 = 1e-12;
/// A plan of more ticks than this is none; at 1 kHz it is a quarter of an hour.
const MOST_TICKS: f64 = 1e6;

impl StopPlan {
    /// A quick way to rest from first and second differences `d` and `dd`, with second differences up to `dd_max` and
    /// third ones up to `ddd_max`.
    ///
    /// The quickest way with a bounded jerk brakes harder, then as hard as it may, then less and less. Its durations,
    /// rounded up to ticks, leave one number free, the braking b, and the sum of all second differences must be -d:
    /// b = (d + dd (n1 - 1) / 2) / ((n1 + n3) / 2 + n2).
    pub(super) fn new(d: f64, dd: f64, dd_max: f64, ddd_max: f64) -> Option<Self> {
        if d == 0.0 && dd == 0.0 {
            return Some(Self::default());
        }
        // Where the velocity would end if only the acceleration were taken back says which way to brake.
        let sign = if d + dd * dd.abs() / (2.0 * ddd_max) >= 0.0 { 1.0 } else { -1.0 };
        let (v, a) = (sign * d, sign * dd);
        let quickest = (ddd_max * v + a * a / 2.0).max(0.0).sqrt().min(dd_max);
        let n1 = ((a + quickest) / ddd_max - ROUNDING).ceil().max(1.0);
        let n3 = (quickest / ddd_max - ROUNDING).ceil().max(1.0);
        if n1 + n3 + v.abs() / dd_max > MOST_TICKS {
            return None;
        }
        // What rounding up makes too long is a tick shorter; what only takes the acceleration back has two slopes.
        let back = (a.abs() / ddd_max).ceil() + 1.0;
        let half = (back / 2.0).floor();
        let tries = [
            (n1, n3, 0.0),
            (n1, n3 - 1.0, 0.0),
            (n1 + 1.0, n3 - 1.0, 0.0),
            (n1 + 2.0, n3 - 1.0, 0.0),
            (half, back - half, 0.0),
            (half + 1.0, back - half, 0.0),
            (n1, n3, 1.0),
            (n1 + 1.0, n3, 0.0),
        ];
        let (dd_most, ddd_most) = (dd_max * (1.0 + ROUNDING), ddd_max * (1.0 + ROUNDING));
        for (n1, n3, more) in tries {
            let change = v + a * (n1 - 1.0) / 2.0;
            let n2 = (change.abs() / dd_max - (n1 + n3) / 2.0).ceil().max(0.0) + more;
            let braking = change / ((n1 + n3) / 2.0 + n2);
            let within = braking.abs() <= dd_most
                && (braking + a).abs() <= n1 * ddd_most
                && braking.abs() <= n3 * ddd_most;
            if within && n1 >= 1.0 && n3 >= 1.0 {
                let first = -sign * (braking + a) / n1;
                return Some(Self { ticks: [n1, n2, n3], first, last: sign * braking / n3 });
            }
        }
        None
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
        let [n1, n2, n3] = self.ticks;
        from.after(self.first, n1).after(0.0, n2).after(self.last, n3).p
    }

    /// What it comes by from `from`.
    pub(super) fn reach(&self, from: Motion) -> Reach {
        let mut reach = Reach { p: [from.p; 2], d: [from.d; 2], end: from.p };
        let mut at = from;
        for (n, u) in [(self.ticks[0], self.first), (self.ticks[1], 0.0), (self.ticks[2], self.last)] {
            if n > 0.0 {
                reach.run(at, u, n);
                at = at.after(u, n);
            }
        }
        reach.end = at.p;
        reach
    }
}

impl Reach {
    /// Takes in `n` ticks from `from` of the same third difference `u`.
    fn run(&mut self, from: Motion, u: f64, n: f64) {
        self.take(from.after(u, n));
        // The first difference of tick k is a quadratic in k: greatest or smallest where the second one changes sign.
        if u != 0.0 {
            self.around(from, u, n, -from.dd / u - 0.5);
        }
        // The position turns where the first difference changes sign.
        let (a, b, c) = (u / 2.0, from.dd + u / 2.0, from.d);
        if a == 0.0 {
            if b != 0.0 {
                self.around(from, u, n, -c / b);
            }
            return;
        }
        let inside = b * b - 4.0 * a * c;
        if inside >= 0.0 {
            let q = -0.5 * (b + inside.sqrt().copysign(b));
            self.around(from, u, n, q / a);
            if q != 0.0 {
                self.around(from, u, n, c / q);
            }
        }
    }

    /// Takes in the ticks on both sides of `k`, if it lies within the run.
    fn around(&mut self, from: Motion, u: f64, n: f64, k: f64) {
        if k > 0.0 && k < n {
            self.take(from.after(u, k.floor()));
            self.take(from.after(u, k.ceil()));
        }
    }

    fn take(&mut self, at: Motion) {
        self.p = [self.p[0].min(at.p), self.p[1].max(at.p)];
        self.d = [self.d[0].min(at.d), self.d[1].max(at.d)];
    }
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
            let plan = StopPlan::new(from.d, from.dd, dd_max, ddd_max).unwrap();
            let reach = plan.reach(from);
            let mut walked = Reach { p: [from.p; 2], d: [from.d; 2], end: from.p };
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
            assert!((reach.end - at.p).abs() < 1e-11 * (1.0 + scale));
        }
        assert!(ticks > 100_000.0);
    }
}
