//! Slips: small mistakes, made so that what to do about them is demonstrated too.
//!
//! Who imitates faultless demonstrations knows nothing of the states that its own small errors lead to (Laskey et al.
//! 2017, DART: disturb the demonstrator, record how it recovers). So the tool sometimes drifts aside and turns a little on its
//! way down to the object, and on its way down to the target.

use nudge_control::split_mix_64;

use super::stages::Goal;

/// Share of the ways down on which the tool slips.
const WAYS_WITH_A_SLIP: f64 = 0.75;
/// Heights above the end of the way between which a slip begins, m.
const HEIGHTS_M: [f64; 2] = [0.004, 0.07];
/// How far it drifts, at least and at most: m at the end of the way, and more by this share of the height. Open fingers
/// have 12 mm of room on either side of the object.
const DRIFT_M: [f64; 2] = [0.003, 0.007];
const DRIFT_BY_HEIGHT: f64 = 0.2;
/// How far it turns at most, rad.
const TURN: f64 = 0.25;
const SLIP_STEPS: u32 = 3;

/// The slip of one way down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slip {
    below_m: f64,
    /// x, y (m) and yaw (rad) in one control step.
    drift: [f64; 3],
    steps_left: u32,
}

impl Slip {
    /// The slip of a way that is known by a number, if there is one: the same number gives the same slip.
    pub(super) fn of(way: u64) -> Option<Self> {
        let mut bits = way;
        let mut draw = || {
            bits = split_mix_64(bits);
            (bits >> 11) as f64 / (1_u64 << 53) as f64
        };
        let within = |[low, high]: [f64; 2], share: f64| low + share * (high - low);
        let [happens, height, by, towards, turn] = [(); 5].map(|()| draw());
        let below_m = within(HEIGHTS_M, height);
        let by_m = within(DRIFT_M, by) + by * DRIFT_BY_HEIGHT * below_m;
        let (sin, cos) = (towards * std::f64::consts::TAU).sin_cos();
        let drift = [by_m * cos, by_m * sin, within([-TURN, TURN], turn)];
        let drift = drift.map(|whole| whole / f64::from(SLIP_STEPS));
        (happens < WAYS_WITH_A_SLIP).then_some(Self { below_m, drift, steps_left: SLIP_STEPS })
    }

    /// Where the tool goes instead of `goal`, when it is `height_m` above the end of its way and commanded to `pose`.
    pub(super) fn astray(&mut self, goal: &Goal, height_m: f64, pose: [f64; 4]) -> Option<Goal> {
        if height_m > self.below_m || self.steps_left == 0 {
            return None;
        }
        self.steps_left -= 1;
        let [x, y, z, yaw] = pose;
        let [right, ahead, turn] = self.drift;
        Some(Goal { pose: [x + right, y + ahead, z, yaw + turn], plane_speed_share: 1.0, ..*goal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_as_frequent_and_as_large_as_they_should_be() {
        let slips: Vec<Slip> = (0..1000).filter_map(Slip::of).collect();
        // A thousand draws stray from their share by 0.014 (one standard deviation); this is four.
        assert!((slips.len() as f64 / 1000.0 - WAYS_WITH_A_SLIP).abs() < 0.055, "{}", slips.len());
        let goal = Goal { pose: [0.5, 0.0, 0.02, 0.0], opening_m: 0.06, plane_speed_share: 0.3 };
        for mut slip in slips {
            let mut pose = [0.5, 0.0, 0.1, 0.0];
            assert_eq!(slip.astray(&goal, 0.071, pose), None);
            while let Some(astray) = slip.astray(&goal, 0.003, pose) {
                assert_eq!(astray.opening_m, goal.opening_m);
                pose = astray.pose;
            }
            let drift = (pose[0] - 0.5).hypot(pose[1]);
            assert!((0.003..=0.021).contains(&drift) && pose[2] == 0.1 && pose[3].abs() <= TURN, "{pose:?}");
        }
    }
}
