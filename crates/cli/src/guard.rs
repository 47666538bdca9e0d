//! `nudge guard`: holds a robot when its controller dies.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, value_parser};
use nudge_runtime::{GuardOptions, GuardReport, RobotFile, guard_robot};

use crate::interrupt::stop_on_ctrl_c;
use crate::output::{self, say};

/// Stand between a controller and its robot, on the robot's own computer
///
/// Every command of the controller passes the guard here too, at the robot's `command_hz`: position, velocity,
/// acceleration, jerk, the tool's speed and workspace. When commands or the controller's heartbeat end, because its
/// process or computer died or the link is down, the robot is slowed down within its limits and held. Needs no GPU and no
/// checkpoint: `cargo build --release -p nudge --no-default-features --features zenoh` builds a program with this verb alone.
///
/// The controller drives what it finds at --listen under --prefix as if it were the robot:
///
///     nudge guard --robot arm.toml --listen tcp/0.0.0.0:7450
///     nudge serve --robot arm_guarded.toml CHECKPOINT      (prefix "arm/guarded", connects to tcp/ROBOT:7450)
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct GuardVerb {
    /// The robot as a TOML file, for example configs/robots/push_t.toml
    #[arg(long, value_name = "FILE")]
    robot: PathBuf,

    /// Before the keys that the controller uses; by default `guarded` behind the robot's own prefix
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,

    /// Listen for the controller at this zenoh endpoint
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp/127.0.0.1:7450")]
    listen: String,

    /// Connect to this zenoh endpoint instead of the robot file's to find the robot
    #[arg(long, value_name = "ENDPOINT")]
    connect: Option<String>,

    /// The zenoh configuration towards the robot: this end is a controller there (see configs/zenoh)
    #[arg(long, value_name = "FILE")]
    zenoh: Option<PathBuf>,

    /// The zenoh configuration towards the controller: this end is a robot there; by default that of the robot file's robot
    #[arg(long, value_name = "FILE")]
    listen_zenoh: Option<PathBuf>,

    /// End after so many seconds
    #[arg(long, value_name = "SECS", value_parser = value_parser!(u64).range(1..))]
    duration_secs: Option<u64>,

    /// Print one JSON object at the end instead of a table
    #[arg(long)]
    json: bool,
}

impl GuardVerb {
    pub fn run(self) -> Result<ExitCode> {
        let mut robot = RobotFile::load(&self.robot)?;
        if let Some(file) = self.zenoh {
            robot.session.controller.secure_with(file);
        }
        robot.session.robot.config = self.listen_zenoh.or(robot.session.robot.config);
        let inner = self.prefix.clone().unwrap_or_else(|| format!("{}/guarded", robot.prefix));
        let ready =
            format!("guarding robot `{}` as `{inner}` at {}; Ctrl-C ends it", robot.prefix, self.listen);
        let options = GuardOptions {
            prefix: Some(inner),
            listen: self.listen,
            connect: self.connect,
            stop: stop_on_ctrl_c()?,
            duration: self.duration_secs.map(Duration::from_secs),
            max_wait: None,
            on_trouble: Some(Box::new(|trouble: &str| eprintln!("{trouble}"))),
            on_ready: Some(Box::new(move || eprintln!("{ready}"))),
        };
        eprintln!("looking for robot `{}`", robot.prefix);
        let report = guard_robot(robot, options)?;
        if self.json {
            output::print_json(&report)?;
        } else {
            print_report(&report);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_report(report: &GuardReport) {
    let timings = &report.timings_ms;
    let mut stages = output::table(["stage, ms", "count", "p50", "p99", "p99.9", "max"]);
    for (name, times) in
        [("tick jitter", timings.tick_jitter), ("guard", timings.guard), ("publish", timings.publish)]
    {
        let ms = |value: f64| format!("{value:.3}");
        let count = times.count.to_string();
        stages.add_row([name, &count, &ms(times.p50), &ms(times.p99), &ms(times.p999), &ms(times.max)]);
    }
    say!("{stages}");
    let acted = report.counters.iter().filter(|(_, count)| count.as_u64() != Some(0));
    let counted: Vec<String> = acted.map(|(name, count)| format!("{name} {count}")).collect();
    let counted = if counted.is_empty() { "none".into() } else { counted.join(", ") };
    say!("{} commands; held, limited or refused: {counted}", report.commands);
}
