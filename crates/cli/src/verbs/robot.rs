//! `nudge robot`: a simulated robot on the bus.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum, value_parser};
use indicatif::ProgressBar;
use nudge_control::Achieved;
use nudge_runtime::{RobotFile, RobotOptions, RobotReport, RuntimeError, load_fleet, simulated_robot};
use nudge_sim::TaskConfig;
use serde::Serialize;

use crate::interrupt::stop_on_ctrl_c;
use crate::output::{self, say};
use crate::verbs::task::{TaskArgs, TaskName};

/// Who waits for whom
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PaceChoice {
    /// The robot runs at its own clock, and holds when no command comes
    #[default]
    Clock,
    /// The robot waits for the command to every observation (lockstep)
    Observation,
}

/// Put a simulated robot on the bus, for `nudge serve` or any other controller to drive
///
/// It runs its episodes as soon as a controller answers, prints their scores, and ends.
#[derive(Args)]
pub struct Robot {
    /// The simulated task
    #[arg(value_enum)]
    task: TaskName,

    #[command(flatten)]
    options: TaskArgs,

    /// The robot as a TOML file; by default the one that comes with the program, at the pace of --pace
    #[arg(long, value_name = "FILE", conflicts_with = "pace")]
    robot: Option<PathBuf>,

    /// All robots of a fleet at once, each at its own key and endpoint, as a TOML file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["robot", "pace", "listen"])]
    fleet: Option<PathBuf>,

    /// Who waits for whom
    #[arg(long, value_enum, default_value_t)]
    pace: PaceChoice,

    /// Listen at this zenoh endpoint instead of the robot file's, for example tcp/127.0.0.1:0 for any free port
    #[arg(long, value_name = "ENDPOINT")]
    listen: Option<String>,

    /// The zenoh configuration of this end: users, certificates, access control (see configs/zenoh)
    #[arg(long, value_name = "FILE")]
    zenoh: Option<PathBuf>,

    /// Episodes to run, each from a seed of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    episodes: u64,

    /// Seed of the first episode; the next ones count up
    #[arg(long, default_value_t = 100_000, value_name = "S")]
    seed: u64,

    /// Seconds to wait for a controller before giving up
    #[arg(long, default_value_t = 300, value_name = "SECS")]
    wait_secs: u64,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What came of the episodes.
#[derive(Serialize)]
pub struct Summary {
    pub episodes: usize,
    pub seed: u64,
    #[serde(flatten)]
    pub achieved: Achieved,
    /// Of all steps, those that no command came for.
    pub steps_without_command: usize,
    pub steps: usize,
    #[serde(flatten)]
    report: Details,
}

#[derive(Serialize)]
struct Details {
    per_episode: Vec<nudge_runtime::RobotEpisode>,
    observations_resent: u64,
    counters: serde_json::Map<String, serde_json::Value>,
}

impl Robot {
    pub fn run(self) -> Result<ExitCode> {
        let task = self.options.config(self.task)?;
        let mut robots = match (&self.fleet, &self.robot) {
            (Some(path), _) => load_fleet(path)?,
            (None, Some(path)) => vec![RobotFile::load(path)?],
            (None, None) => vec![shipped_robot(&task, self.pace)?],
        };
        for robot in &mut robots {
            robot.session.robot.config = self.zenoh.clone().or(robot.session.robot.config.take());
        }
        let bar = output::progress(self.episodes * robots.len() as u64, "episodes");
        let stop = stop_on_ctrl_c()?;
        let this = &self;
        let mut summaries = std::thread::scope(|scope| {
            let running: Vec<_> = robots
                .iter()
                .zip(0..)
                .map(|(robot, number)| {
                    let (bar, stop, task) = (bar.clone(), stop.clone(), &task);
                    scope.spawn(move || this.run_one(task, robot, number, bar, stop))
                })
                .collect();
            let died = || RuntimeError::ThreadDied { thread: "robot" };
            let ended = running.into_iter().map(|robot| robot.join().unwrap_or_else(|_| Err(died().into())));
            ended.collect::<Result<Vec<_>>>()
        })?;
        bar.finish_and_clear();
        if self.fleet.is_some() {
            let fleet = FleetSummary { robots: summaries };
            if self.json {
                output::print_json(&fleet)?
            } else {
                fleet.print()
            }
            return Ok(ExitCode::SUCCESS);
        }
        for (_, summary) in summaries.drain(..) {
            if self.json { output::print_json(&summary)? } else { summary.print() }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs the episodes of the robot `number` of the fleet; the prefix of its keys, and what came of it.
    fn run_one(
        &self,
        task: &TaskConfig,
        robot: &RobotFile,
        number: u64,
        bar: ProgressBar,
        stop: Arc<AtomicBool>,
    ) -> Result<(String, Summary)> {
        let listen = self.listen.as_deref().map(with_free_port).transpose()?;
        let endpoints = listen.clone().unwrap_or_else(|| robot.session.robot.listen.join(", "));
        let prefix = robot.prefix.clone();
        let first_seed = self.seed + number * self.episodes;
        let (shown, began) = (bar.clone(), bar);
        let mut score: f64 = 0.0;
        let options = RobotOptions {
            listen,
            episodes: usize::try_from(self.episodes)?,
            first_seed,
            stop,
            max_wait: Duration::from_secs(self.wait_secs),
            on_episode: Some(Box::new(move |_, seed| began.set_message(format!("seed {seed}")))),
            on_step: Some(Box::new(move |_, step, _| {
                score = score.max(step.reward);
                shown.set_message(format!("score {score:.3}"));
                if step.done {
                    score = 0.0;
                    shown.inc(1);
                }
            })),
            on_ready: Some(Box::new(move || {
                eprintln!("robot `{prefix}` listens at {endpoints}; waiting for a controller");
            })),
        };
        let report = simulated_robot(task.build(), robot, options)?;
        Ok((robot.prefix.clone(), Summary::of(report, first_seed)))
    }
}

/// What came of all robots of a fleet, by the prefixes of their keys.
#[derive(Serialize)]
struct FleetSummary {
    robots: Vec<(String, Summary)>,
}

impl FleetSummary {
    fn print(&self) {
        let mut rows =
            output::table(["robot", "episodes", "score", "success", "steps", "steps without command"]);
        for (prefix, summary) in &self.robots {
            rows.add_row([
                prefix.clone(),
                summary.episodes.to_string(),
                format!("{:.3}", summary.achieved.score),
                format!("{:.3}", summary.achieved.success),
                summary.steps.to_string(),
                summary.steps_without_command.to_string(),
            ]);
        }
        say!("{rows}");
    }
}

impl Summary {
    pub fn of(report: RobotReport, seed: u64) -> Self {
        Self {
            episodes: report.episodes.len(),
            seed,
            achieved: Achieved::over(report.episodes.iter().map(|episode| (episode.score, episode.success))),
            steps_without_command: report.episodes.iter().map(|episode| episode.steps_without_command).sum(),
            steps: report.episodes.iter().map(|episode| episode.steps).sum(),
            report: Details {
                per_episode: report.episodes,
                observations_resent: report.observations_resent,
                counters: report.counters,
            },
        }
    }

    pub fn print(&self) {
        let mut rows = output::table(["seed", "score", "success", "steps", "steps without command"]);
        for episode in &self.report.per_episode {
            rows.add_row([
                episode.seed.to_string(),
                format!("{:.3}", episode.score),
                if episode.success { "yes".into() } else { String::new() },
                episode.steps.to_string(),
                episode.steps_without_command.to_string(),
            ]);
        }
        say!("{rows}");
        if self.episodes == 0 {
            say!("no episode was finished");
            return;
        }
        let Achieved { score, score_ci, success, success_ci } = self.achieved;
        say!(
            "score {score:.3} {score_ci}, success {success:.3} {success_ci} over {} episodes (95 % intervals)",
            self.episodes
        );
    }
}

/// The robot of a task that comes with the program.
pub fn shipped_robot(task: &TaskConfig, pace: PaceChoice) -> Result<RobotFile> {
    let text = match (task, pace) {
        (TaskConfig::PushT(_), PaceChoice::Clock) => include_str!("../../../../configs/robots/push_t.toml"),
        (TaskConfig::PushT(_), PaceChoice::Observation) => {
            include_str!("../../../../configs/robots/push_t_lockstep.toml")
        }
        (TaskConfig::PickPlace(_), PaceChoice::Clock) => {
            include_str!("../../../../configs/robots/pick_place.toml")
        }
        (TaskConfig::PickPlace(_), PaceChoice::Observation) => {
            include_str!("../../../../configs/robots/pick_place_lockstep.toml")
        }
    };
    RobotFile::parse(text).map_err(anyhow::Error::msg).context("the robot file that comes with the program")
}

/// An endpoint whose port 0 is replaced by one that is free now, so that it can be told to others.
pub fn with_free_port(endpoint: &str) -> Result<String> {
    let Some(address) = endpoint.strip_prefix("tcp/").filter(|address| address.ends_with(":0")) else {
        return Ok(endpoint.to_owned());
    };
    let port = TcpListener::bind(address)
        .and_then(|listener| listener.local_addr())
        .with_context(|| format!("finding a free port for {endpoint}"))?
        .port();
    Ok(format!("{}:{port}", endpoint.trim_end_matches(":0")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nudge_sim::pick_place::PickPlaceConfig;
    use nudge_sim::push_t::PushTConfig;

    #[test]
    fn the_shipped_robots_are_the_tasks() {
        let tasks =
            [TaskConfig::PushT(PushTConfig::default()), TaskConfig::PickPlace(PickPlaceConfig::default())];
        for task in tasks {
            for pace in [PaceChoice::Clock, PaceChoice::Observation] {
                let robot = shipped_robot(&task, pace).unwrap().interface();
                let world = task.build();
                assert_eq!(robot.accepts(world.interface()), Ok(()));
                assert_eq!(robot.action_limits(), world.interface().action_limits());
            }
        }
    }
}
