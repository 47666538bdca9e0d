//! `nudge serve`: a policy drives a robot on the bus.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, value_parser};
use nudge_control::{Episode, Policy, Thresholds};
use nudge_dataset::{DatasetError, EpisodeAppender, Recording};
use nudge_policy::DiffusionPolicy;
use nudge_runtime::{OnEpisode, Quantiles, RobotFile, ServeOptions, ServeReport, serve};
use serde_json::json;

use crate::alarm::Alarm;
use crate::checkpoint::PolicyArgs;
use crate::incident::{self, IncidentConfig, IncidentLog, Witness, Witnessed, planned_on};
use crate::interrupt::stop_on_ctrl_c;
use crate::output::{self, say};
use crate::record::PolicySetup;
use crate::seam::SeamChoice;

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

    /// The zenoh configuration of this end: user and password, certificates, access control (see configs/zenoh)
    #[arg(long, value_name = "FILE")]
    zenoh: Option<PathBuf>,

    /// Record the episodes driven into this data set, each as it ends; one that was recorded in the same way grows
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,

    /// Keep everything on the wire, and every plan as it was asked for, in this MCAP file; `nudge replay` plans again
    #[arg(long, value_name = "FILE")]
    mcap: Option<PathBuf>,

    /// Show observations, plans, commands and timings in this rerun recording
    #[cfg(feature = "rerun")]
    #[arg(long, value_name = "FILE")]
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

impl Serve {
    pub fn run(self) -> Result<ExitCode> {
        let mut robot = RobotFile::load(&self.robot)?;
        robot.session.controller.config = self.zenoh.clone().or(robot.session.controller.config);
        let policy = self.policy.load()?;
        let seam = self.seam.unwrap_or_else(|| SeamChoice::of(&policy));
        let policy = seam.prepare(policy)?;
        let alarm = self.alarm(&policy, seam)?;
        if robot.hold_on_alarm && alarm == Thresholds::default() {
            bail!(
                "{} says `hold_on_alarm`, and no alarm is calibrated for plans made in this way: `nudge calibrate {}`",
                self.robot.display(),
                self.policy.checkpoint.display()
            );
        }
        #[cfg(feature = "rerun")]
        let view = {
            let options = nudge_runtime::ViewOptions::new("nudge serve", policy.interface().clone());
            self.rrd.as_ref().map(|path| nudge_runtime::View::to_file(path, options)).transpose()?
        };
        let log = self.log(&robot, &policy)?.map(|log| Arc::new(Mutex::new(log)));
        let keep = log.clone().map(|log| -> OnEpisode {
            Box::new(move |episode| log.lock().unwrap_or_else(PoisonError::into_inner).add(&episode))
        });
        let config = IncidentConfig {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            checkpoint: self.policy.name(),
            sampler: policy.manifest().policy.sampler,
            executed: policy.horizon().executed,
            continuation: policy.continuation(),
            planned_on: planned_on(&self.policy.plan.device),
            robot: robot.name.clone(),
        };
        let incident = self.mcap.as_deref().map(|path| incident::record(path, &config)).transpose()?;
        let (incident, witness) = incident.unzip();
        let policy: Box<dyn Policy> = match &witness {
            Some(witness) => Box::new(Witnessed { policy: Box::new(policy), witness: witness.clone() }),
            None => Box::new(policy),
        };
        let prefix = robot.prefix.clone();
        let options = ServeOptions {
            connect: self.connect.clone(),
            stop: stop_on_ctrl_c()?,
            fan_samples: usize::try_from(self.fan)?,
            samples: usize::try_from(self.samples)?,
            alarm,
            seam: Some(seam.seam()),
            duration: self.duration_secs.map(Duration::from_secs),
            max_wait: None,
            on_episode: keep,
            on_plan: None,
            on_wire: witness.as_ref().map(Witness::wire_tap),
            on_trouble: Some(Box::new(|problems| eprintln!("{problems}"))),
            on_ready: Some(Box::new(move || eprintln!("driving robot `{prefix}`; Ctrl-C ends it"))),
            #[cfg(feature = "rerun")]
            view: view.clone(),
        };
        let endpoints = self.connect.clone().unwrap_or_else(|| robot.session.controller.connect.join(", "));
        eprintln!("looking for robot `{}` at {endpoints}", robot.prefix);
        let report = serve(policy, robot, options);
        #[cfg(feature = "rerun")]
        if let Some(view) = view {
            view.finish()?;
        }
        // However it ended, what was driven is to be a finished set.
        let log =
            log.and_then(Arc::into_inner).map(|log| log.into_inner().unwrap_or_else(PoisonError::into_inner));
        let logged = log.map_or(Ok(()), Log::finish);
        incident.map_or(Ok(()), IncidentLog::finish)?;
        logged?;
        let report = report?;
        if self.json {
            output::print_json(&report)?;
        } else {
            print_report(&report);
        }
        Ok(ExitCode::SUCCESS)
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

    /// The data set that is to grow, if one is.
    fn log(&self, robot: &RobotFile, policy: &DiffusionPolicy) -> Result<Option<Log>> {
        let Some(dir) = &self.record else { return Ok(None) };
        let recording = Recording {
            instruction: format!("driven by {}", self.policy.checkpoint.display()),
            robot_type: Some(robot.name.clone()),
            setup: json!({ "robot": self.robot.display().to_string() }),
        };
        let set = EpisodeAppender::open(dir, &robot.name, policy.interface(), recording)?;
        Ok(Some(Log { dir: dir.clone(), set, added: 0, lost: None }))
    }
}

/// What was driven, on the disk as each episode ends.
struct Log {
    dir: PathBuf,
    set: EpisodeAppender,
    added: usize,
    /// Why an episode is not in it: the first of them.
    lost: Option<DatasetError>,
}

impl Log {
    fn add(&mut self, episode: &Episode) {
        match self.set.push(episode) {
            Ok(_) => self.added += 1,
            Err(error) => {
                eprintln!("an episode of {} frames is not recorded: {error}", episode.frames.len());
                self.lost.get_or_insert(error);
            }
        }
    }

    fn finish(self) -> Result<()> {
        let Self { dir, set, added, lost } = self;
        let frames = set.finish()?;
        if let Some(error) = lost {
            let problem = format!("{added} episodes are recorded in {}, but not all", dir.display());
            return Err(anyhow::Error::from(error).context(problem));
        }
        match added {
            0 => eprintln!("nothing was driven, so there is nothing to record"),
            _ => eprintln!("{added} episodes recorded in {}, which holds {frames} frames", dir.display()),
        }
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
