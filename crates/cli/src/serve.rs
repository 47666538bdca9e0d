//! `nudge serve`: a policy drives a robot on the bus.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, value_parser};
use nudge_control::Episode;
use nudge_dataset::{Recording, write_episodes};
use nudge_runtime::{Quantiles, RobotFile, ServeOptions, ServeReport, serve};
use serde_json::json;

use crate::checkpoint::PolicyArgs;
use crate::output::{self, say};
use crate::robot::stop_on_ctrl_c;

/// Drive a robot on the bus with a policy
///
/// Waits for the robot of the robot file, refuses one that the checkpoint was not trained for, and drives it until
/// Ctrl-C. Every command passes the guard: limits, stale observations, late plans and the emergency stop.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    policy: PolicyArgs,

    /// The robot as a TOML file, for example configs/robots/push_t.toml
    #[arg(long, value_name = "FILE")]
    robot: PathBuf,

    /// Connect to this zenoh endpoint instead of the robot file's, for example tcp/192.168.1.5:7447
    #[arg(long, value_name = "ENDPOINT")]
    connect: Option<String>,

    /// Write the episodes driven as a data set into this folder, which must not exist
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,

    /// Show observations, plans, commands and timings in this rerun recording
    #[cfg(feature = "rerun")]
    #[arg(long, value_name = "FILE")]
    rrd: Option<PathBuf>,

    /// Plans drawn each time to be shown; the first one is executed
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = value_parser!(u64).range(1..=64))]
    fan: u64,

    /// End after so many seconds
    #[arg(long, value_name = "SECS", value_parser = value_parser!(u64).range(1..))]
    duration_secs: Option<u64>,

    /// Print one JSON object at the end instead of a table
    #[arg(long)]
    json: bool,
}

impl Serve {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(dir) = self.record.as_ref().filter(|dir| dir.exists()) {
            bail!("{} exists already: name a new folder to record into", dir.display());
        }
        let robot = RobotFile::load(&self.robot)?;
        let policy = self.policy.load()?;
        #[cfg(feature = "rerun")]
        let view = {
            use nudge_control::Policy as _;
            let options = nudge_runtime::ViewOptions::new("nudge serve", policy.interface().clone());
            self.rrd.as_ref().map(|path| nudge_runtime::View::to_file(path, options)).transpose()?
        };
        let episodes: Arc<Mutex<Vec<Episode>>> = Arc::default();
        let log = episodes.clone();
        let keep = move |episode| log.lock().unwrap_or_else(PoisonError::into_inner).push(episode);
        let prefix = robot.prefix.clone();
        let options = ServeOptions {
            connect: self.connect.clone(),
            stop: stop_on_ctrl_c()?,
            fan_samples: usize::try_from(self.fan)?,
            duration: self.duration_secs.map(Duration::from_secs),
            max_wait: None,
            on_episode: self.record.is_some().then(|| Box::new(keep) as _),
            on_plan: None,
            on_ready: Some(Box::new(move || eprintln!("driving robot `{prefix}`; Ctrl-C ends it"))),
            #[cfg(feature = "rerun")]
            view: view.clone(),
        };
        let endpoints = self.connect.clone().unwrap_or_else(|| robot.session.controller.connect.join(", "));
        eprintln!("looking for robot `{}` at {endpoints}", robot.prefix);
        let report = serve(Box::new(policy), robot, options)?;
        #[cfg(feature = "rerun")]
        if let Some(view) = view {
            view.finish()?;
        }
        self.write_log(&episodes.lock().unwrap_or_else(PoisonError::into_inner))?;
        if self.json {
            output::print_json(&report)?;
        } else {
            print_report(&report);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn write_log(&self, episodes: &[Episode]) -> Result<()> {
        let Some(dir) = &self.record else { return Ok(()) };
        if episodes.is_empty() {
            eprintln!("nothing was driven, so there is nothing to record");
            return Ok(());
        }
        let recording = Recording {
            instruction: format!("driven by {}", self.policy.checkpoint.display()),
            robot_type: Some(episodes[0].task.clone()),
            setup: json!({ "robot": self.robot.display().to_string() }),
        };
        let frames = write_episodes(dir, episodes, &recording)?;
        eprintln!("{} episodes, {frames} frames recorded in {}", episodes.len(), dir.display());
        Ok(())
    }
}

/// Timings, and every counter that is not 0.
pub fn print_report(report: &ServeReport) {
    let timings = &report.timings_ms;
    let mut stages = output::table(["stage, ms", "count", "p50", "p99", "p99.9", "max"]);
    let named: [(&str, Quantiles); 5] = [
        ("tick jitter", timings.tick_jitter),
        ("observe", timings.observe),
        ("plan", timings.plan),
        ("guard", timings.guard),
        ("publish", timings.publish),
    ];
    for (name, times) in named.into_iter().filter(|(_, times)| times.count > 0) {
        let ms = |value: f64| format!("{value:.3}");
        let count = times.count.to_string();
        stages.add_row([name, &count, &ms(times.p50), &ms(times.p99), &ms(times.p999), &ms(times.max)]);
    }
    say!("{stages}");
    let counted: Vec<String> = report
        .counters
        .iter()
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let counted = if counted.is_empty() { "none".into() } else { counted.join(", ") };
    say!("{} commands, {} plans; held, limited or refused: {counted}", report.commands, report.plans);
}
