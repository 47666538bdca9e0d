//! A robot on the bus around any `Task`: what a real robot's driver would be, for demonstrations and tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nudge_control::{Action, Observation, Step, Task};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::RuntimeError;
use crate::bus::{Bus, HEARTBEAT, STATUS};
use crate::describe::{Description, Physics};
use crate::inbox::ROBOT;
use crate::robot_file::{Endpoints, Pace, RobotFile};
use crate::robot_line::Line;
use crate::service;

/// Is shown the world as an episode begins, and its seed.
pub type OnBegin = Box<dyn FnMut(&dyn Task, u64) + Send>;

/// Is shown every step: the world after it, what came of it, and the action that was executed.
pub type OnStep = Box<dyn FnMut(&dyn Task, &Step, &Action) + Send>;

/// How [`simulated_robot`] is run.
pub struct RobotOptions {
    /// An endpoint to listen at in place of the robot file's.
    pub listen: Option<String>,
    pub episodes: usize,
    /// The first episode's seed; the others count on from it.
    pub first_seed: u64,
    /// Set it to end after the present step.
    pub stop: Arc<AtomicBool>,
    /// How long a controller is waited for, before an episode and (lockstep) for a command.
    pub max_wait: Duration,
    /// Is shown the world as each episode begins.
    pub on_episode: Option<OnBegin>,
    pub on_step: Option<OnStep>,
    /// Called once the robot listens.
    pub on_ready: Option<Box<dyn FnOnce() + Send>>,
}

/// One episode as the robot saw it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RobotEpisode {
    pub seed: u64,
    /// The largest reward reached.
    pub score: f64,
    pub success: bool,
    pub steps: usize,
    /// Steps for which no command had come, and the robot held.
    pub steps_without_command: usize,
}

/// What the robot saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RobotReport {
    pub episodes: Vec<RobotEpisode>,
    pub observations_resent: u64,
    pub counters: serde_json::Map<String, serde_json::Value>,
}

/// Puts `task` on the bus as `robot` and runs its episodes with whatever controller comes.
///
/// # Errors
/// When the task does not offer what the robot file says, when no controller comes or it falls silent, or when the bus
/// fails.
pub fn simulated_robot(
    mut task: Box<dyn Task>,
    robot: &RobotFile,
    mut options: RobotOptions,
) -> Result<RobotReport, RuntimeError> {
    if robot.ros2.is_some() {
        return Err(RuntimeError::NotSimulated { robot: robot.name.clone() });
    }
    let differs = |mismatch| RuntimeError::TaskDiffers {
        robot: robot.name.clone(),
        task: task.name().to_owned(),
        mismatch,
    };
    robot.interface().accepts(task.interface()).map_err(differs)?;
    let mut endpoints = robot.session.robot.clone();
    if let Some(endpoint) = options.listen.take() {
        endpoints = Endpoints { listen: vec![endpoint], ..endpoints };
    }
    let bus = Bus::open(&endpoints, &robot.prefix)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .map_err(|problem| RuntimeError::Start { what: "tokio", problem })?;
    let heartbeat = bus.outlet("ctl/heartbeat", HEARTBEAT)?;
    let status = bus.outlet("ctl/status", STATUS)?;
    let latest = service::LatestStatus::default();
    let mut description = Description::new(ROBOT, &robot.name, robot.interface(), robot.pace);
    description.physics = (robot.pace == Pace::Clock).then_some(Physics::Tick);
    let text = serde_json::to_string(&description).expect("a description is plain data");
    let _questions = service::answer_questions(&bus, text, &latest)?;
    let (snapshots, snapshots_due) = mpsc::channel(64);
    let line = Line::open(&bus, robot, task.interface(), snapshots)?;
    if let Some(on_ready) = options.on_ready.take() {
        on_ready();
    }

    let mut report = RobotReport::default();
    let outcome = std::thread::scope(|scope| {
        let beat = service::run(ROBOT, &bus, (&heartbeat, &status), &latest, snapshots_due);
        scope.spawn(|| runtime.block_on(beat));
        // The line holds the sender of snapshots: when it goes, so does the service.
        run_episodes(task.as_mut(), line, &mut options, &mut report)
    });
    report.counters = bus.counters.iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    bus.close();
    outcome.map(|()| report)
}

fn run_episodes(
    task: &mut dyn Task,
    mut line: Line<'_>,
    options: &mut RobotOptions,
    report: &mut RobotReport,
) -> Result<(), RuntimeError> {
    for number in 0..options.episodes {
        let seed = options.first_seed + number as u64;
        let first = task.reset(seed);
        if let Some(on_episode) = &mut options.on_episode {
            on_episode(task, seed);
        }
        if !line.begin_episode(seed, number, &options.stop, options.max_wait)? {
            return Ok(());
        }
        let mut episode =
            RobotEpisode { seed, score: 0.0, success: false, steps: 0, steps_without_command: 0 };
        let ended = run_episode(task, first, &mut line, options, &mut episode);
        report.observations_resent = line.resent;
        report.episodes.push(episode);
        if !ended? {
            return Ok(());
        }
    }
    Ok(())
}

/// Runs one episode; false when it was stopped before its end.
fn run_episode(
    task: &mut dyn Task,
    mut observation: Observation,
    line: &mut Line<'_>,
    options: &mut RobotOptions,
    episode: &mut RobotEpisode,
) -> Result<bool, RuntimeError> {
    let mut deadline = Instant::now();
    for _ in 0..task.max_steps() {
        if options.stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        // A robot that was late itself goes on from now: no step is denied its time.
        deadline = (deadline + line.period).max(Instant::now() + line.period / 2);
        let command = line.exchange(&observation, deadline, &options.stop, options.max_wait)?;
        episode.steps_without_command += usize::from(command.is_none());
        let action = command.map_or_else(|| task.hold_action(), Action);
        let step = task.step(&action);
        episode.steps += 1;
        episode.score = episode.score.max(step.reward);
        episode.success |= step.success;
        if let Some(on_step) = &mut options.on_step {
            on_step(task, &step, &action);
        }
        if step.done {
            break;
        }
        observation = step.observation;
    }
    Ok(true)
}
