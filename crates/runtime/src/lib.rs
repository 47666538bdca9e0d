//! The real-time side: a policy on its planner thread, the control loop, the guard, and the bus to the robot.
//!
//! It receives a `Box<dyn Policy>` and a robot file and drives the robot on the bus (the native protocol, or ROS 2
//! over zenoh); it also puts any `Task` on the bus as a simulated robot. It must never know burn or rapier. Threads: the control loop, which
//! waits for nobody; the planner, which owns the policy; the bus side, a tokio runtime around zenoh.

#![cfg_attr(not(feature = "zenoh"), allow(dead_code, reason = "without the bus there is nothing to drive"))]

mod assembly;
#[cfg(feature = "zenoh")]
mod bus;
mod control_loop;
mod counters;
mod describe;
mod driver;
mod episode_log;
mod error;
mod events;
mod fast_link;
mod fast_loop;
mod feature_message;
mod fleet;
mod follow;
mod gate;
mod guard;
#[cfg(feature = "zenoh")]
mod guard_process;
mod guard_ring;
mod guard_watch;
#[cfg(feature = "zenoh")]
mod handshake;
#[cfg(feature = "zenoh")]
mod inbox;
#[cfg(feature = "zenoh")]
mod leader;
mod lockstep;
mod planner;
mod realtime;
#[cfg(feature = "zenoh")]
mod robot;
mod robot_file;
#[cfg(feature = "zenoh")]
mod robot_line;
#[cfg(feature = "zenoh")]
mod ros2;
#[cfg(feature = "zenoh")]
mod ros2_command;
#[cfg(feature = "zenoh")]
mod ros2_diagnosis;
mod ros2_file;
#[cfg(feature = "zenoh")]
mod ros2_meet;
#[cfg(feature = "zenoh")]
mod ros2_newest;
mod schedule;
#[cfg(feature = "zenoh")]
mod serve;
#[cfg(feature = "zenoh")]
mod service;
mod slot;
mod status;
mod tick_bench;
mod timing;
#[cfg(feature = "rerun")]
mod view;

#[cfg(feature = "zenoh")]
pub use bus::{OnWire, WireTap};
pub use describe::{Description, PROTOCOL, Physics};
pub use episode_log::OnEpisode;
pub use error::RuntimeError;
pub use events::OnPlan;
pub use fleet::load_fleet;
pub use follow::Follower;
pub use guard::{
    AxisConfig, Frame, Guard, GuardConfig, GuardInput, JointFrame, LOG_LINES, LogLine, Missing, NotFresh,
    Proposal, Rule, State, ToolConfig, ToolLimits, Verdict,
};
#[cfg(feature = "zenoh")]
pub use guard_process::{GuardOptions, GuardReport, guard_robot};
#[cfg(feature = "zenoh")]
pub use guard_watch::{GuardEvent, GuardTap, OnGuard};
#[cfg(feature = "zenoh")]
pub use leader::{COMMAND_STALE, Leader};
#[cfg(feature = "zenoh")]
pub use robot::{OnBegin, OnStep, RobotEpisode, RobotOptions, RobotReport, simulated_robot};
pub use robot_file::{
    CommandedFeature, Endpoints, JointField, Message, ObservedFeature, Pace, RobotFile, SessionMode, Sessions,
};
pub use ros2_file::{Bridge, CommandMessage, Protocol, Ros2, StopMessage, StopTopic, TrajectorySend};
#[cfg(feature = "zenoh")]
pub use ros2_meet::OnTrouble;
#[cfg(feature = "zenoh")]
pub use serve::{ServeOptions, ServeReport, serve, serve_fleet};
pub use status::StageTimings;
pub use tick_bench::{TickTimes, time_guard_thread};
pub use timing::Quantiles;
#[cfg(feature = "rerun")]
pub use view::{Signal, SignalView, View, ViewError, ViewOptions, ViewReport};
