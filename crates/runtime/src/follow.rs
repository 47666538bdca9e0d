//! A simulated robot that follows somebody's hand: whatever is asked for passes the guard before it is done.

use std::time::Duration;

use nudge_control::{Action, ActionMode};

use crate::guard::{Guard, Missing};
use crate::robot_file::RobotFile;

/// The guard of a robot whose commands come from a person, a script or a leader arm. Pure: time is an argument.
///
/// It keeps to the limits of position and speed, counted from the last command, or from where the robot is held when
/// there was none; without a command the robot is held.
pub struct Follower {
    guard: Guard,
}

impl Follower {
    /// For the actions of `robot`. `speed` (`[Da]`, units per second) bounds each number that the file states no
    /// `velocity` for; a file without `measured_by` is held where [`follow`](Self::follow) is told.
    pub fn new(robot: &RobotFile, speed: &[f64]) -> Self {
        let mut robot = robot.clone();
        let mut first = 0;
        for feature in &mut robot.action {
            let next = first + feature.limits.low.len();
            feature.velocity.get_or_insert_with(|| speed[first..next].to_vec());
            if feature.mode == ActionMode::Absolute {
                feature.measured_by = Some(first.to_string());
            }
            first = next;
        }
        Self { guard: Guard::new(&robot, |place| place.parse().ok()) }
    }

    /// A new episode: what was commanded before counts no longer.
    pub fn begin(&mut self) {
        self.guard.reset();
    }

    /// The action of one control step at `now`: `command` (`[Da]`) as far as the guard lets it through, or `held`
    /// (`[Da]`), the action that keeps the robot where it is.
    pub fn follow(&mut self, now: Duration, held: &Action, command: Option<&[f64]>) -> Action {
        self.guard.observe(now, &held.0);
        let verdict = self.guard.tick(now, command.ok_or(Missing::UsedUp));
        Action(verdict.command.unwrap_or(&held.0).to_vec())
    }

    /// Steps in which each rule of the guard acted.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.guard.counters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROBOT: &str = r#"
        name = "arm"
        prefix = "arm"
        pace = "clock"
        control_hz = 10.0

        [session]
        robot = {}
        controller = {}

        [[observation]]
        name = "state"
        shape = [1]

        [[action]]
        name = "action"
        shape = [2]
        limits = { low = [-1.0, 0.0], high = [1.0, 0.08] }
    "#;

    fn follower() -> Follower {
        Follower::new(&RobotFile::parse(ROBOT).unwrap(), &[2.0, 0.1])
    }

    fn at(step: u64) -> Duration {
        Duration::from_millis(100 * step)
    }

    #[test]
    fn a_far_command_is_approached_at_the_speed_limit_and_no_farther_than_the_position_limit() {
        let mut follower = follower();
        let held = Action(vec![0.5, 0.04]);
        let mut last = held.clone();
        for step in 0..20 {
            let action = follower.follow(at(step), &held, Some(&[-9.0, 9.0]));
            assert!((action.0[0] - last.0[0]).abs() <= 0.2 + 1e-12, "{action:?} from {last:?}");
            assert!((action.0[1] - last.0[1]).abs() <= 0.01 + 1e-12, "{action:?} from {last:?}");
            last = action;
        }
        assert_eq!(last.0, [-1.0, 0.08]);
    }

    #[test]
    fn without_a_command_the_robot_is_held_and_what_is_no_command_is_never_executed() {
        let mut follower = follower();
        let held = Action(vec![0.5, 0.04]);
        assert_eq!(follower.follow(at(0), &held, None), held);
        for (step, bad) in [&[f64::NAN, 0.0][..], &[0.1], &[0.1, f64::INFINITY], &[]].into_iter().enumerate()
        {
            assert_eq!(follower.follow(at(step as u64 + 1), &held, Some(bad)), held, "{bad:?}");
        }
        let counters: std::collections::BTreeMap<_, _> = follower.counters().collect();
        assert_eq!((counters["proposal_not_finite"], counters["plan_used_up"]), (4, 1));
    }

    #[test]
    fn an_episode_begins_where_the_robot_is() {
        let mut follower = follower();
        for step in 0..20 {
            follower.follow(at(step), &Action(vec![0.0, 0.0]), Some(&[1.0, 0.08]));
        }
        follower.begin();
        let action = follower.follow(at(0), &Action(vec![-1.0, 0.0]), Some(&[1.0, 0.08]));
        assert!((action.0[0] + 0.8).abs() < 1e-12, "{action:?}");
    }
}
