//! Where the tool is sent next: towards a goal, as fast as limits of speed and acceleration let it, stopping in it.

use super::stages::Goal;

/// Greatest speeds of the tool in the plane, m/s, up and down, m/s, and about the vertical, rad/s. Together the first
/// two stay below 0.35 m/s.
const PLANE_SPEED: f64 = 0.28;
const HEIGHT_SPEED: f64 = 0.2;
const YAW_SPEED: f64 = 1.6;
/// Greatest accelerations, m/s^2 and rad/s^2.
const PLANE_ACCELERATION: f64 = 1.2;
const HEIGHT_ACCELERATION: f64 = 1.0;
const YAW_ACCELERATION: f64 = 6.0;

/// A commanded pose further than this from the last one, m or rad, is not the one that was sent.
const SAME: f64 = 1e-3;

/// A commanded pose that moves: x, y, z (m) and yaw (rad), and their speeds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Motion {
    pub(super) pose: [f64; 4],
    velocity: [f64; 4],
}

impl Motion {
    /// Goes on from the pose that is commanded now. One that this motion did not send is where it begins anew, at rest.
    pub(super) fn resume(&mut self, commanded: [f64; 4]) {
        let same = self.pose.iter().zip(commanded).all(|(own, other)| (own - other).abs() <= SAME);
        if !same {
            *self = Self { pose: commanded, velocity: [0.0; 4] };
        }
    }

    /// One control period of `dt` seconds towards the goal.
    pub(super) fn advance(&mut self, goal: &Goal, dt: f64) {
        let away: [f64; 4] = std::array::from_fn(|axis| goal.pose[axis] - self.pose[axis]);
        let plane_speed = PLANE_SPEED * goal.plane_speed_share;
        let [vx, vy, vz, turn] = self.velocity;
        let [vx, vy] = accelerate([vx, vy], [away[0], away[1]], plane_speed, PLANE_ACCELERATION, dt);
        let [vz] = accelerate([vz], [away[2]], HEIGHT_SPEED, HEIGHT_ACCELERATION, dt);
        let [turn] = accelerate([turn], [away[3]], YAW_SPEED, YAW_ACCELERATION, dt);
        self.velocity = [vx, vy, vz, turn];
        for (pose, velocity) in self.pose.iter_mut().zip(self.velocity) {
            *pose += velocity * dt;
        }
    }
}

/// The next velocity on the way through `away`: the greatest that can still be braked in time, changed by no more than
/// the acceleration allows.
fn accelerate<const N: usize>(
    velocity: [f64; N],
    away: [f64; N],
    speed: f64,
    acceleration: f64,
    dt: f64,
) -> [f64; N] {
    let distance = norm(&away);
    // v dt + v^2 / (2 a) = distance: one more period at this speed, then braking.
    let brake = acceleration * dt;
    let wanted = speed.min((brake * brake + 2.0 * acceleration * distance).sqrt() - brake);
    let scale = if distance > 0.0 { wanted / distance } else { 0.0 };
    let change: [f64; N] = std::array::from_fn(|axis| scale * away[axis] - velocity[axis]);
    let share = (acceleration * dt / norm(&change).max(f64::MIN_POSITIVE)).min(1.0);
    std::array::from_fn(|axis| velocity[axis] + share * change[axis])
}

fn norm<const N: usize>(vector: &[f64; N]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_within_limits_and_without_overshoot() {
        let dt = 0.1;
        let goal = Goal { pose: [0.3, -0.4, 0.2, 1.5], opening_m: 0.0, plane_speed_share: 1.0 };
        let mut motion = Motion::default();
        let mut before = motion;
        for _ in 0..60 {
            motion.advance(&goal, dt);
            let [vx, vy, vz, turn] = motion.velocity;
            let [ux, uy, uz, spin] = before.velocity;
            assert!(
                vx.hypot(vy) <= PLANE_SPEED + 1e-12 && vz.abs() <= HEIGHT_SPEED && turn.abs() <= YAW_SPEED
            );
            assert!((vx - ux).hypot(vy - uy) <= PLANE_ACCELERATION * dt + 1e-12);
            assert!((vz - uz).abs() <= HEIGHT_ACCELERATION * dt + 1e-12);
            assert!((turn - spin).abs() <= YAW_ACCELERATION * dt + 1e-12);
            for axis in 0..4 {
                assert!(goal.pose[axis].signum() * (goal.pose[axis] - motion.pose[axis]) >= -1e-9);
            }
            before = motion;
        }
        for axis in 0..4 {
            assert!((goal.pose[axis] - motion.pose[axis]).abs() < 1e-4, "{motion:?}");
        }
    }

    #[test]
    fn another_commanded_pose_is_begun_from_at_rest() {
        let goal = Goal { pose: [1.0; 4], opening_m: 0.0, plane_speed_share: 1.0 };
        let mut motion = Motion::default();
        motion.advance(&goal, 0.1);
        let moving = motion;
        // As recordings hold it: rounded to 32 bits.
        motion.resume(moving.pose.map(|value| f64::from(value as f32)));
        assert_eq!(motion, moving);
        motion.resume([0.5, 0.0, 0.0, 0.0]);
        assert_eq!(motion, Motion { pose: [0.5, 0.0, 0.0, 0.0], velocity: [0.0; 4] });
    }
}
