//! `nudge serve`: a policy drives a robot on the bus.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, value_parser};
use nudge_control::{Policy, Thresholds};
use nudge_dataset::Recording;
use nudge_policy::DiffusionPolicy;
use nudge_runtime::{Quantiles, RobotFile, Rule, ServeOptions, ServeReport, load_fleet, serve_fleet};
use serde_json::json;

use crate::interrupt::stop_on_ctrl_c;
use crate::output::{self, say};
use crate::verbs::alarm::Alarm;
use crate::verbs::checkpoint::PolicyArgs;
use crate::verbs::incident::{self, IncidentConfig, IncidentLog, Witness, Witnessed, planned_on};
use crate::verbs::record::PolicySetup;
use crate::verbs::seam::SeamChoice;
use crate::verbs::serve_log::Log;

/// Drive a robot on the bus with a policy
///
/// Waits for the robot of the robot file, refuses one that the checkpoint was not trained for, and drives it until
/// Ctrl-C. Every command passes the guard: limits, stale observations, late plans and the emergency stop.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    policy: PolicyArgs,

    /// The robot as a TOML file, for example configs/robots/push_t.toml
    #[arg(long, value_name = "FILE", required_unless_present = "fleet")]
    robot: Option<PathBuf>,

    /// Drive all robots of a fleet with the one policy, as a TOML file, for example configs/fleets/push_t_16.toml
    ///
    /// Each has its own loop, guard and deadlines; plans that wait together are made in one batch. --record then keeps a
    /// set for each robot in the folder.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["robot", "connect"])]
    fleet: Option<PathBuf>,

    /// Connect to this zenoh endpoint instead of the robot file's, for example tcp/192.168.1.5:7447
    #[arg(long, value_name = "ENDPOINT")]
    connect: Option<String>,

    /// The zenoh configuration of this end: user and password, certificates, access control (see configs/zenoh)
    ///
    /// Where the robot file says to listen is then passed over.
    #[arg(long, value_name = "FILE")]
    zenoh: Option<PathBuf>,

    /// Record the episodes driven into this data set, each as it ends; one that was recorded in the same way grows
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,

    /// Keep everything on the wire, every plan and every verdict of the guard in this MCAP file, for `nudge replay`; of a
    /// fleet not the verdicts
    #[arg(long, value_name = "FILE")]
    mcap: Option<PathBuf>,

    /// Show observations, plans, commands and timings in this rerun recording
    #[cfg(feature = "rerun")]
    #[arg(long, value_name = "FILE", conflicts_with = "fleet")]
    rrd: Option<PathBuf>,

    /// Plans drawn each time to be shown beside the one that is executed, which counts among them
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = value_parser!(u64).range(1..=64))]
    fan: u64,

    /// How a new plan takes over from the present one [default: continue it, if the policy was trained for it, or switch]
    #[arg(long, value_enum)]
    seam: Option<SeamChoice>,

    /// Plans drawn each time, of which the one that agrees best with the last plan is executed
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = value_parser!(u64).range(1..=64))]
    samples: u64,

    /// End after so many seconds
    #[arg(long, value_name = "SECS", value_parser = value_parser!(u64).range(1..))]
    duration_secs: Option<u64>,

    /// Print one JSON object at the end instead of a table
    #[arg(long)]
    json: bool,
}

/// What is kept of a robot while it is driven.
struct Kept {
    prefix: String,
    log: Option<Arc<Mutex<Log>>>,
    #[cfg(feature = "rerun")]
    view: Option<nudge_runtime::View>,
}

impl Serve {
    pub fn run(self) -> Result<ExitCode> {
        let mut robots = match (&self.robot, &self.fleet) {
            (Some(file), _) => vec![RobotFile::load(file)?],
            (None, Some(file)) => load_fleet(file)?,
            (None, None) => bail!("name the robot with --robot, or several with --fleet"),
        };
        let policy = self.policy.load()?;
        let seam = self.seam.unwrap_or_else(|| SeamChoice::of(&policy));
        let policy = seam.prepare(policy)?;
        let alarm = self.alarm(&policy, seam)?;
        let (incident, witness) = self.incident(&robots, &policy)?.unzip();
        let stop = stop_on_ctrl_c()?;
        let mut kept = Vec::with_capacity(robots.len());
        let mut driven = Vec::with_capacity(robots.len());
        for mut robot in robots.drain(..) {
            if robot.hold_on_alarm && alarm == Thresholds::default() {
                bail!(
                    "robot `{}` says `hold_on_alarm`, and no alarm is calibrated for plans made in this way: `nudge \
                     calibrate {}`",
                    robot.prefix,
                    self.policy.checkpoint.display()
                );
            }
            if let Some(file) = &self.zenoh {
                robot.session.controller.secure_with(file.clone());
            }
            let keep = self.kept(&robot, &policy)?;
            let prefix = robot.prefix.clone();
            let options = ServeOptions {
                connect: self.connect.clone(),
                stop: stop.clone(),
                fan_samples: usize::try_from(self.fan)?,
                samples: usize::try_from(self.samples)?,
                alarm,
                seam: Some(seam.seam()),
                duration: self.duration_secs.map(Duration::from_secs),
                max_wait: None,
                on_episode: keep.log.as_ref().map(Log::taker),
                on_plan: None,
                on_wire: witness.as_ref().map(Witness::wire_tap),
                // Verdicts are told again in one row, so they are those of one robot.
                on_guard: witness.as_ref().filter(|_| self.fleet.is_none()).map(Witness::on_guard),
                on_trouble: Some(Box::new(|problems| eprintln!("{problems}"))),
                on_ready: Some(Box::new(move || eprintln!("driving robot `{prefix}`; Ctrl-C ends it"))),
                #[cfg(feature = "rerun")]
                view: keep.view.clone(),
            };
            let endpoints =
                self.connect.clone().unwrap_or_else(|| robot.session.controller.connect.join(", "));
            eprintln!("looking for robot `{}` at {endpoints}", robot.prefix);
            kept.push(keep);
            driven.push((robot, options));
        }
        let policy: Box<dyn Policy> = match witness {
            Some(witness) => Box::new(Witnessed { policy: Box::new(policy), witness }),
            None => Box::new(policy),
        };
        let outcomes = serve_fleet(policy, driven)?;
        let mut reports = Vec::with_capacity(outcomes.len());
        for (kept, outcome) in kept.into_iter().zip(outcomes) {
            // However it ended, what was driven is to be a finished set.
            let (prefix, finished) = kept.finish();
            let report = outcome.map_err(anyhow::Error::from);
            reports.push((prefix, report.and_then(|report| finished.map(|()| report))));
        }
        incident.map_or(Ok(()), IncidentLog::finish)?;
        if self.fleet.is_some() { self.tell_fleet(reports) } else { self.tell(reports) }
    }

    /// What is to be kept of the wire and the plans, if anything is.
    fn incident(
        &self,
        robots: &[RobotFile],
        policy: &DiffusionPolicy,
    ) -> Result<Option<(IncidentLog, Witness)>> {
        let Some(path) = &self.mcap else { return Ok(None) };
        let names: Vec<&str> = robots.iter().map(|robot| robot.name.as_str()).collect();
        let config = IncidentConfig {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            checkpoint: self.policy.name(),
            sampler: policy.manifest().policy.sampler,
            executed: policy.horizon().executed,
            continuation: policy.continuation(),
            planned_on: planned_on(&self.policy.plan.device),
            robot: names.join(", "),
        };
        incident::record(path, &config).map(Some)
    }

    fn tell(&self, reports: Vec<(String, Result<ServeReport>)>) -> Result<ExitCode> {
        for (_, report) in reports {
            let report = report?;
            if self.json { output::print_json(&report)? } else { print_report(&report) }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A row or an entry for each robot; one that could not be driven makes it a failure.
    fn tell_fleet(&self, reports: Vec<(String, Result<ServeReport>)>) -> Result<ExitCode> {
        let mut failed = false;
        let mut told = serde_json::Map::new();
        let mut rows =
            output::table(["robot", "commands", "plans", "plan p50, ms", "p99", "tick p99", "held late"]);
        for (prefix, report) in reports {
            let report = match report {
                Ok(report) => report,
                Err(error) => {
                    failed = true;
                    eprintln!("error: robot `{prefix}`: {error:#}");
                    told.insert(prefix, json!({ "error": format!("{error:#}") }));
                    continue;
                }
            };
            let late = report
                .counters
                .get(Rule::PlanUsedUp.name())
                .and_then(serde_json::Value::as_u64)
                .unwrap_or_default();
            let timings = &report.timings_ms;
            rows.add_row([
                prefix.clone(),
                report.commands.to_string(),
                report.plans.to_string(),
                format!("{:.2}", timings.plan.p50),
                format!("{:.2}", timings.plan.p99),
                format!("{:.2}", timings.tick_jitter.p99),
                late.to_string(),
            ]);
            told.insert(prefix, serde_json::to_value(&report)?);
        }
        if self.json {
            output::print_json(&json!({ "robots": told }))?
        } else {
            say!("{rows}")
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Opens what is to be kept of `robot`: in a folder of its own, where there are several.
    fn kept(&self, robot: &RobotFile, policy: &DiffusionPolicy) -> Result<Kept> {
        let own = |path: &PathBuf| match self.fleet {
            Some(_) => path.join(robot.prefix.replace('/', "_")),
            None => path.clone(),
        };
        let log = match self.record.as_ref().map(own) {
            Some(dir) => {
                let file = self.robot.as_ref().or(self.fleet.as_ref());
                let recording = Recording {
                    instruction: format!("driven by {}", self.policy.checkpoint.display()),
                    robot_type: Some(robot.name.clone()),
                    setup: json!({ "robot": file.map(|file| file.display().to_string()) }),
                };
                Some(Arc::new(Mutex::new(Log::open(&dir, &robot.name, policy.interface(), recording)?)))
            }
            None => None,
        };
        #[cfg(feature = "rerun")]
        let view = {
            let options = nudge_runtime::ViewOptions::new("nudge serve", policy.interface().clone());
            self.rrd.as_ref().map(|path| nudge_runtime::View::to_file(path, options)).transpose()?
        };
        Ok(Kept {
            prefix: robot.prefix.clone(),
            log,
            #[cfg(feature = "rerun")]
            view,
        })
    }

    /// The thresholds beside the checkpoint, if they are for plans that are made as these will be.
    fn alarm(&self, policy: &DiffusionPolicy, seam: SeamChoice) -> Result<Thresholds> {
        let how = PolicySetup {
            checkpoint: self.policy.name(),
            sampler: policy.manifest().policy.sampler,
            executed: policy.horizon().executed,
        };
        let Some(alarm) = Alarm::beside(&self.policy.checkpoint)? else { return Ok(Thresholds::default()) };
        if !alarm.fits(&how, seam, self.samples) {
            eprintln!(
                "the checkpoint's alarm is off: it was calibrated for other plans ({} samples, seam {}); calibrate again \
                 with the options given here",
                alarm.samples,
                alarm.seam.name()
            );
            return Ok(Thresholds::default());
        }
        Ok(alarm.thresholds)
    }
}

impl Kept {
    /// The robot's prefix, and whether all could be kept.
    fn finish(self) -> (String, Result<()>) {
        let log = self
            .log
            .and_then(Arc::into_inner)
            .map(|log| log.into_inner().unwrap_or_else(PoisonError::into_inner));
        let logged = log.map_or(Ok(()), Log::finish);
        #[cfg(feature = "rerun")]
        let shown = self.view.map_or(Ok(()), |view| view.finish().map(drop).map_err(anyhow::Error::from));
        #[cfg(not(feature = "rerun"))]
        let shown = Ok(());
        (self.prefix, logged.and(shown))
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
