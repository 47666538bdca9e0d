//! `nudge teleop`: a person, a script or a leader arm drives the simulated robot, and what is done is recorded.

mod keyboard;
mod motion;
mod screen;
mod session;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, value_parser};
use nudge_dataset::{EpisodeAppender, Recording};
use nudge_runtime::{CommandedFeature, RobotFile};
use nudge_sim::TaskConfig;
use serde_json::json;

use crate::interrupt::stop_on_ctrl_c;
use crate::output::say;
use crate::verbs::record::Setup;
use crate::verbs::robot::{PaceChoice, shipped_robot};
use crate::verbs::task::{TaskArgs, TaskName, instruction};
use session::{Outcome, Session};

/// Drive a simulated robot yourself, and record what you do as demonstrations
///
/// The world is drawn in the terminal, so it works over ssh too; wide terminals show more. Arrow keys or WASD move,
/// R and F go up and down, Q and E turn, space grips, shift is finer. An episode begins with your first key. One that
/// achieves the task is saved and the next begins; Enter saves at once, Backspace starts again, Tab goes on to another
/// start, Esc ends. Every saved episode is on the disk at once, whatever comes after, and the same command goes on where it ended.
///
/// With --bus, commands come from the zenoh key `PREFIX/teleop/cmd` instead: all numbers of an action in order, as a
/// JSON array or a Float64MultiArray in CDR. The newest counts for half a second; then the robot is held. All commands
/// are kept to the limits of position and speed. `PREFIX/teleop/state` tells how things are, as JSON. See
/// examples/python/leader_arm.py.
#[derive(Args)]
pub struct Teleop {
    /// The simulated task
    #[arg(value_enum)]
    task: TaskName,

    #[command(flatten)]
    options: TaskArgs,

    /// The data set to write; one that the same command wrote grows
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// End when the data set holds this many episodes
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    episodes: Option<u64>,

    /// Seed of the first start; the next ones count up, and those already in the data set are left out
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,

    /// Save episodes that run out of steps, too
    #[arg(long)]
    all: bool,

    /// Speed of the world's clock: 0.5 is half as fast as real time
    #[arg(long, default_value_t = 1.0, value_parser = rate)]
    rate: f64,

    /// Take commands from the bus; the robot file names endpoints and prefix (by default the one that comes with the
    /// program)
    #[arg(long, value_name = "ROBOT.toml", num_args = 0..=1)]
    bus: Option<Option<PathBuf>>,

    /// Listen at this zenoh endpoint instead of the robot file's
    #[arg(long, value_name = "ENDPOINT", requires = "bus")]
    listen: Option<String>,

    /// Show it in this rerun recording, too
    #[cfg(feature = "rerun")]
    #[arg(long, value_name = "FILE", conflicts_with = "connect")]
    rrd: Option<PathBuf>,

    /// Show it live in the rerun viewer at this address (start it with `rerun`)
    #[cfg(feature = "rerun")]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:9876")]
    connect: Option<String>,
}

impl Teleop {
    pub fn run(self) -> Result<ExitCode> {
        let task = self.options.config(self.task)?;
        let setup = serde_json::to_value(Setup { task, policy: None })?;
        let (name, interface) = {
            let world = task.build();
            (world.name().to_owned(), world.interface().clone())
        };
        let recording = Recording {
            instruction: instruction(&task).to_owned(),
            robot_type: Some("simulated".into()),
            setup: with_source(setup),
        };
        let mut set = EpisodeAppender::open(&self.out, &name, &interface, recording)?;
        let driven = self.drive(&task, &mut set);
        // However it ended, what was saved is to be a finished set.
        set.finish()?;
        driven?;
        Ok(ExitCode::SUCCESS)
    }

    fn drive(&self, task: &TaskConfig, set: &mut EpisodeAppender) -> Result<()> {
        let robot = match &self.bus {
            Some(file) => Some(robot_file(file.as_deref(), task)?),
            None => None,
        };
        let mut seeds: Vec<u64> = set.note().episodes.iter().filter_map(|episode| episode.seed).collect();
        let wanted = self.episodes.map(usize::try_from).transpose()?;
        if wanted.is_some_and(|wanted| seeds.len() >= wanted) {
            say!("{} holds {} episodes already; raise --episodes for more", self.out.display(), seeds.len());
            return Ok(());
        }
        let before = seeds.len();
        #[cfg(feature = "rerun")]
        let view = self.view(task)?;
        let mut session = Session::open(
            task,
            robot.as_ref(),
            session::Options {
                listen: self.listen.clone(),
                all: self.all,
                rate: self.rate,
                stop: stop_on_ctrl_c()?,
                #[cfg(feature = "rerun")]
                view: view.clone(),
            },
        )?;
        let mut next = self.seed;
        while wanted.is_none_or(|wanted| seeds.len() < wanted) {
            while seeds.contains(&next) {
                next = next.checked_add(1).context("there is no larger seed")?;
            }
            match session.episode(next)? {
                Outcome::Save(episode) => {
                    let count = set.push(&episode).with_context(|| format!("saving seed {next}"))?;
                    let steps = episode.frames.len();
                    let how = if episode.success() { "success" } else { "no success" };
                    session.say(format!("saved episode {count}: seed {next}, {how}, {steps} steps"));
                    seeds.push(next);
                }
                Outcome::Again => session.say("again".into()),
                Outcome::Next => next = next.checked_add(1).context("there is no larger seed")?,
                Outcome::End => break,
            }
        }
        let refused = session.close();
        #[cfg(feature = "rerun")]
        if let Some(view) = view {
            view.finish()?;
        }
        say!("{} episodes saved, {} in {}", seeds.len() - before, seeds.len(), self.out.display());
        if !refused.is_empty() {
            say!("held, limited or refused: {}", refused.join(", "));
        }
        Ok(())
    }

    #[cfg(feature = "rerun")]
    fn view(&self, task: &TaskConfig) -> Result<Option<nudge_runtime::View>> {
        use nudge_runtime::{View, ViewOptions};
        let options = || ViewOptions::new("nudge teleop", task.build().interface().clone());
        let file = self.rrd.as_ref().map(|path| View::to_file(path, options()));
        let viewer = self.connect.as_ref().map(|address| View::connect(address, options()));
        Ok(file.or(viewer).transpose()?)
    }
}

/// Marks a setup as driven by hand, so that such a set never mixes with an expert's.
fn with_source(mut setup: serde_json::Value) -> serde_json::Value {
    setup["by"] = json!("teleoperation");
    setup
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.05..=100.0).contains(&rate) => Ok(rate),
        _ => Err("a number from 0.05 to 100".into()),
    }
}

/// The robot that is driven over the bus, with the task's own actions where no file says otherwise.
fn robot_file(path: Option<&Path>, task: &TaskConfig) -> Result<RobotFile> {
    let interface = task.build().interface().clone();
    if let Some(path) = path {
        let robot = RobotFile::load(path)?;
        let (own, offered) = (robot.interface().action, interface.action);
        if own.len() != offered.len()
            || own
                .iter()
                .zip(&offered)
                .any(|(own, offered)| (&own.name, &own.shape) != (&offered.name, &offered.shape))
        {
            bail!("{}: its actions are not those of the task; see `nudge teleop --help`", path.display());
        }
        return Ok(robot);
    }
    let mut robot = shipped_robot(task, PaceChoice::Clock)?;
    robot.action = interface
        .action
        .into_iter()
        .map(|feature| CommandedFeature {
            name: feature.name,
            shape: feature.shape,
            unit: feature.unit,
            mode: feature.mode,
            limits: feature.limits,
            velocity: None,
            acceleration: None,
            jerk: None,
            measured_by: None,
            topic: None,
            message: None,
        })
        .collect();
    Ok(robot)
}
