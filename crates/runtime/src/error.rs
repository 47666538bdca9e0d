//! Why the robot is not driven.

use nudge_control::InterfaceMismatch;

use crate::robot_file::Pace;

/// Why [`serve`](crate::serve) or [`simulated_robot`](crate::simulated_robot) did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("robot file {file}: {problem}")]
    RobotFile { file: String, problem: String },
    #[error("robot file of `{robot}`: {mismatch}")]
    FileDiffers { robot: String, mismatch: InterfaceMismatch },
    #[error("robot file of `{robot}` against the task `{task}`: {mismatch}")]
    TaskDiffers { robot: String, task: String, mismatch: InterfaceMismatch },
    #[error("the horizon of the checkpoint does not hold together: {0}")]
    Horizon(String),
    #[error("the robot on `{key}` is not the one that is served: {problem}")]
    RobotDiffers { key: String, problem: String },
    #[error("the robot on `{key}` has pace {robot:?}, and the robot file says {file:?}")]
    PaceDiffers { key: String, robot: Pace, file: Pace },
    #[error("another controller serves `{prefix}` already: stop it first")]
    SecondController { prefix: String },
    #[error(
        "no robot answered on `{key}` within {secs:.0} s: is it running, and does it listen at {endpoints}?"
    )]
    NoRobot { key: String, secs: f64, endpoints: String },
    #[error(
        "no controller answered on `{key}` within {secs:.0} s: start `nudge serve`. The last answer was: {last}"
    )]
    NoController { key: String, secs: f64, last: String },
    #[error("the controller stopped commanding: no command to observation {sequence} within {secs:.0} s")]
    ControllerSilent { sequence: i64, secs: f64 },
    #[error("the ROS 2 robot `{robot}` is not the one of its file:\n{problems}")]
    Ros2Differs { robot: String, problems: String },
    #[error("the ROS 2 robot `{robot}` cannot be driven after {secs:.0} s:\n{problems}")]
    Ros2Missing { robot: String, secs: f64, problems: String },
    #[error(
        "the robot file of `{robot}` is of a robot that speaks ROS 2, and only native ones are simulated: take one \
         without `protocol = \"ros2\"`"
    )]
    NotSimulated { robot: String },
    #[error("zenoh: {doing}: {problem}")]
    Bus { doing: String, problem: String },
    #[error("starting {what}: {problem}")]
    Start { what: &'static str, problem: std::io::Error },
    #[error("the {thread} thread ended in a panic; this is a defect of Nudge")]
    ThreadDied { thread: &'static str },
}
