//! From the policy's rate to the robot's: a smooth path through a plan's actions.

/// A twice continuously differentiable path through the actions of a plan, one a control period: a quintic from each to
/// the next, whose velocity and acceleration there follow from its neighbours. It begins with a given position, velocity
/// and acceleration, so that a new plan takes over without a jump in any of them, and it ends at rest at the last action.
///
/// All memory is set aside when it is made. Times are seconds on any one clock.
#[derive(Clone, Debug)]
pub struct Interpolation {
    dim: usize,
    capacity: usize,
    period_secs: f64,
    begins_secs: f64,
    /// `[knots, 3 * dim]`: position, velocity and acceleration of each number; the first is where the path begins.
    knots: Vec<f64>,
    count: usize,
}

/// Position, velocity and acceleration of one number of a path, in its unit and seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PathPoint {
    pub position: f64,
    pub velocity: f64,
    pub acceleration: f64,
}

impl Interpolation {
    /// For actions of `dim` numbers, `period_secs` apart; at most `capacity` of them.
    pub fn new(dim: usize, capacity: usize, period_secs: f64) -> Self {
        Self {
            dim,
            capacity,
            period_secs,
            begins_secs: 0.0,
            knots: vec![0.0; (capacity + 1) * 3 * dim],
            count: 0,
        }
    }

    /// A path that is at `from(number)` at `begins_secs` and at each of `actions` (`[n, dim]`, one behind the other) a period
    /// later than at the one before. Actions beyond the capacity are left out; none at all make no path.
    pub fn begin(&mut self, begins_secs: f64, from: impl Fn(usize) -> PathPoint, actions: &[f64]) {
        let count = (actions.len() / self.dim.max(1)).min(self.capacity);
        self.begins_secs = begins_secs;
        self.count = count;
        for number in 0..self.dim {
            let from = from(number);
            // Of the knots, the first is where the path begins.
            let place = |knot: usize| match knot.checked_sub(1) {
                None => from.position,
                Some(action) => actions[action * self.dim + number],
            };
            for knot in 0..=count {
                let point = if knot == 0 {
                    from
                } else if knot == count {
                    PathPoint { position: place(knot), ..PathPoint::default() }
                } else {
                    let (before, here, after) = (place(knot - 1), place(knot), place(knot + 1));
                    PathPoint {
                        position: here,
                        velocity: (after - before) / (2.0 * self.period_secs),
                        acceleration: (after - 2.0 * here + before) / self.period_secs.powi(2),
                    }
                };
                let first = (knot * self.dim + number) * 3;
                self.knots[first..first + 3].copy_from_slice(&[
                    point.position,
                    point.velocity,
                    point.acceleration,
                ]);
            }
        }
    }

    /// No path.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// When it comes to rest; `None` without a path.
    pub fn ends_secs(&self) -> Option<f64> {
        (self.count > 0).then_some(self.begins_secs + self.count as f64 * self.period_secs)
    }

    /// One number of the path at `at_secs`: where it begins before its time, at rest where it ends after it. `None` without
    /// a path.
    pub fn at(&self, at_secs: f64, number: usize) -> Option<PathPoint> {
        if self.count == 0 {
            return None;
        }
        let periods = ((at_secs - self.begins_secs) / self.period_secs).clamp(0.0, self.count as f64);
        let segment = (periods as usize).min(self.count - 1);
        let knot = |index: usize| {
            let first = (index * self.dim + number) * 3;
            (self.knots[first], self.knots[first + 1], self.knots[first + 2])
        };
        Some(quintic(knot(segment), knot(segment + 1), self.period_secs, periods - segment as f64))
    }
}

/// The quintic with these positions, velocities and accelerations at both ends, a share `s` of `period_secs` on its way.
fn quintic(from: (f64, f64, f64), to: (f64, f64, f64), period_secs: f64, s: f64) -> PathPoint {
    let h = period_secs;
    let (p0, v0, a0) = (from.0, from.1 * h, from.2 * h * h);
    let (p1, v1, a1) = (to.0, to.1 * h, to.2 * h * h);
    let way = p1 - p0;
    // p0 + v0 s + a0/2 s² + c3 s³ + c4 s⁴ + c5 s⁵
    let c3 = 10.0 * way - 6.0 * v0 - 4.0 * v1 - 1.5 * a0 + 0.5 * a1;
    let c4 = -15.0 * way + 8.0 * v0 + 7.0 * v1 + 1.5 * a0 - a1;
    let c5 = 6.0 * way - 3.0 * (v0 + v1) - 0.5 * (a0 - a1);
    PathPoint {
        position: p0 + s * (v0 + s * (a0 / 2.0 + s * (c3 + s * (c4 + s * c5)))),
        velocity: (v0 + s * (a0 + s * (3.0 * c3 + s * (4.0 * c4 + s * 5.0 * c5)))) / h,
        acceleration: (a0 + s * (6.0 * c3 + s * (12.0 * c4 + s * 20.0 * c5))) / (h * h),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: f64 = 0.1;

    fn path(from: PathPoint, actions: &[f64]) -> Interpolation {
        let mut path = Interpolation::new(1, 16, PERIOD);
        path.begin(5.0, |_| from, actions);
        path
    }

    #[test]
    fn it_begins_as_it_is_told_passes_through_every_action_and_ends_at_rest() {
        let from = PathPoint { position: 1.0, velocity: -2.0, acceleration: 3.0 };
        let actions = [1.5, 1.4, -0.3, 0.2];
        let path = path(from, &actions);
        assert_eq!(path.at(5.0, 0), Some(from));
        assert_eq!(path.at(4.0, 0), Some(from));
        for (index, action) in actions.iter().enumerate() {
            let point = path.at(5.0 + PERIOD * (index + 1) as f64, 0).unwrap();
            assert!((point.position - action).abs() < 1e-12, "{point:?}");
        }
        assert_eq!(path.ends_secs(), Some(5.0 + 4.0 * PERIOD));
        for late in [5.4, 5.5, 1e9] {
            let rest = path.at(late, 0).unwrap();
            assert!((rest.position - 0.2).abs() < 1e-12, "{rest:?}");
            assert!(rest.velocity.abs() < 1e-10 && rest.acceleration.abs() < 1e-8, "{rest:?}");
        }
    }

    #[test]
    fn velocity_and_acceleration_are_the_derivatives_and_have_no_jumps() {
        let from = PathPoint { position: 0.0, velocity: 0.5, acceleration: -1.0 };
        let path = path(from, &[0.1, 0.3, 0.2, 0.2, -0.4]);
        // A jump would be of the order of the accelerations, which are tens.
        let step = 1e-6;
        let at = |secs: f64| path.at(secs, 0).unwrap();
        for tick in 1..4999 {
            let secs = 5.0 + f64::from(tick) * 1e-4;
            let (before, here, after) = (at(secs - step), at(secs), at(secs + step));
            let velocity = (after.position - before.position) / (2.0 * step);
            let acceleration = (after.velocity - before.velocity) / (2.0 * step);
            assert!((velocity - here.velocity).abs() < 1e-5, "{secs}: {velocity} {here:?}");
            assert!((acceleration - here.acceleration).abs() < 0.05, "{secs}: {acceleration} {here:?}");
            assert!((after.acceleration - before.acceleration).abs() < 0.1, "{secs}");
        }
    }

    #[test]
    fn a_plan_that_is_set_again_a_period_later_goes_on_along_the_same_path() {
        let actions: Vec<f64> = (0..12).map(|step| (f64::from(step) * 0.4).sin()).collect();
        let from = PathPoint { position: -0.4, velocity: 4.0, acceleration: 0.0 };
        let whole = path(from, &actions);
        let mut again = Interpolation::new(1, 16, PERIOD);
        let now = 5.0 + PERIOD;
        again.begin(now, |number| whole.at(now, number).unwrap(), &actions[1..]);
        for tick in 0..110 {
            let secs = now + f64::from(tick) * 0.01;
            let apart = whole.at(secs, 0).unwrap().position - again.at(secs, 0).unwrap().position;
            assert!(apart.abs() < 1e-12, "{apart} at {secs}");
        }
    }

    #[test]
    fn without_actions_there_is_no_path_and_beyond_its_capacity_none_is_kept() {
        let path = path(PathPoint::default(), &[]);
        assert_eq!((path.at(5.0, 0), path.ends_secs()), (None, None));
        let mut short = Interpolation::new(2, 2, PERIOD);
        short.begin(0.0, |_| PathPoint::default(), &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        assert_eq!(short.ends_secs(), Some(2.0 * PERIOD));
        assert_eq!(short.at(9.0, 1).unwrap().position, 20.0);
        short.clear();
        assert_eq!(short.ends_secs(), None);
    }
}
