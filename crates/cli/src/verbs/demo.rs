//! `nudge demo`: the whole loop on this machine, to look at.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, value_parser};
use nudge_control::{ActionChunk, Policy as _, Scene, Shape, Step, Task};
use nudge_policy::DiffusionPolicy;
use nudge_runtime::{
    RobotFile, RobotOptions, RobotReport, ServeOptions, ServeReport, serve, simulated_robot,
};
use nudge_sim::{TaskConfig, draw};
use serde::Serialize;

use crate::interrupt::stop_on_ctrl_c;
use crate::output::{self, say};
use crate::verbs::animation::write_gif;
use crate::verbs::checkpoint::PlanArgs;
use crate::verbs::robot::{PaceChoice, Summary, shipped_robot, with_free_port};
use crate::verbs::serve::print_report;
use crate::verbs::task::{TaskArgs, TaskName};

/// Width of the animation, px.
const GIF_WIDTH: u32 = 320;
/// Plans drawn each time; the first is executed.
const FAN: usize = 4;
/// How long either end waits for the other.
const MAX_WAIT: Duration = Duration::from_secs(60);

const PLAN_COLOUR: [u8; 4] = [200, 60, 140, 255];
const OTHER_PLAN_COLOUR: [u8; 4] = [240, 170, 205, 255];
const PATH_COLOUR: [u8; 4] = [65, 105, 225, 255];

/// Watch a shipped policy drive the simulated robot over the bus, at 10 Hz wall clock
///
/// Starts robot and controller as two zenoh peers on loopback, runs episodes, prints score and timing, and writes
/// demo.rrd (open it with `rerun demo.rrd`) and demo.gif.
#[derive(Args)]
pub struct Demo {
    /// The simulated task
    #[arg(value_enum, default_value = "push_t")]
    task: TaskName,

    #[command(flatten)]
    options: TaskArgs,

    /// Episodes to run, 5 to 30 s each
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    episodes: u64,

    /// Seed of the first episode; the next ones count up
    #[arg(long, default_value_t = 100_000, value_name = "S")]
    seed: u64,

    /// The policy to watch [default: the task's in checkpoints/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,

    #[command(flatten)]
    plan: PlanArgs,

    /// The folder for demo.rrd and demo.gif
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,

    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    robot: Summary,
    controller: ServeReport,
}

impl Demo {
    pub fn run(self) -> Result<ExitCode> {
        let task = self.options.config(self.task)?;
        let shipped = || Path::new("checkpoints").join(task.build().name());
        let policy = self.plan.load(&self.checkpoint.clone().unwrap_or_else(shipped))?;
        std::fs::create_dir_all(&self.out).with_context(|| format!("creating {}", self.out.display()))?;
        let mut robot = shipped_robot(&task, PaceChoice::Clock)?;
        let endpoint = with_free_port("tcp/127.0.0.1:0")?;
        robot.session.robot.listen = vec![endpoint.clone()];
        robot.session.controller.connect = vec![endpoint];
        let stop = stop_on_ctrl_c()?;

        let film = Film::default();
        #[cfg(feature = "rerun")]
        let view = {
            let options = nudge_runtime::ViewOptions::new("nudge demo", policy.interface().clone());
            nudge_runtime::View::to_file(&self.out.join("demo.rrd"), options)?
        };
        let bar = output::progress(self.episodes, "episodes");
        let serving = ServeOptions {
            fan_samples: FAN,
            max_wait: Some(MAX_WAIT),
            on_plan: Some(film.plan_taker()),
            #[cfg(feature = "rerun")]
            view: Some(view.clone()),
            ..ServeOptions::default()
        };
        let (begun, shown) = (film.clone(), film.clone());
        #[cfg(feature = "rerun")]
        let world = view.clone();
        let driving = RobotOptions {
            listen: None,
            episodes: usize::try_from(self.episodes)?,
            first_seed: self.seed,
            stop,
            max_wait: MAX_WAIT,
            on_episode: Some(Box::new(move |task, _| begun.begin(task))),
            on_step: Some({
                let bar = bar.clone();
                Box::new(move |task, step, _| {
                    let (number, score) = shown.step(task, step);
                    #[cfg(feature = "rerun")]
                    world.world(number, &task.scene(), step.reward);
                    bar.set_message(format!("step {number}, score {score:.3}"));
                    bar.inc(u64::from(step.done));
                })
            }),
            on_ready: None,
        };
        let (driven, served) = run_both(policy, task, &robot, driving, serving)?;
        bar.finish_and_clear();
        #[cfg(feature = "rerun")]
        view.finish()?;
        self.finish(&film, Report { robot: Summary::of(driven, self.seed), controller: served })
    }

    fn finish(&self, film: &Film, report: Report) -> Result<ExitCode> {
        let gif = self.out.join("demo.gif");
        film.write(&gif)?;
        if self.json {
            output::print_json(&report)?;
        } else {
            report.robot.print();
            print_report(&report.controller);
            say!("look at {}", gif.display());
            #[cfg(feature = "rerun")]
            say!("and at {} with `rerun` 0.36.3", self.out.join("demo.rrd").display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The robot on its own thread, the controller on this one; whoever ends first ends the other.
fn run_both(
    policy: DiffusionPolicy,
    task: TaskConfig,
    robot: &RobotFile,
    driving: RobotOptions,
    serving: ServeOptions,
) -> Result<(RobotReport, ServeReport)> {
    let (robot_stop, serve_stop) = (driving.stop.clone(), serving.stop.clone());
    std::thread::scope(|scope| {
        let driven = scope.spawn(move || {
            let report = simulated_robot(task.build(), robot, driving);
            serve_stop.store(true, Ordering::Relaxed);
            report
        });
        let served = serve(Box::new(policy), robot.clone(), serving);
        robot_stop.store(true, Ordering::Relaxed);
        let driven = driven.join().map_err(|_| anyhow::anyhow!("the simulated robot panicked"))?;
        Ok((driven?, served?))
    })
}

/// The scenes of the episode now running and of the best one before it.
#[derive(Clone, Default)]
struct Film(Arc<Mutex<Reel>>);

#[derive(Default)]
struct Reel {
    fan: Vec<ActionChunk>,
    path: Vec<[f64; 2]>,
    scenes: Vec<Scene>,
    score: f64,
    best: Vec<Scene>,
    best_score: f64,
}

impl Film {
    fn lock(&self) -> std::sync::MutexGuard<'_, Reel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan_taker(&self) -> nudge_runtime::OnPlan {
        let film = self.clone();
        Arc::new(move |fan| film.lock().fan = fan.to_vec())
    }

    fn begin(&self, task: &dyn Task) {
        let mut reel = self.lock();
        reel.keep_the_better();
        *reel = Reel {
            best: std::mem::take(&mut reel.best),
            best_score: reel.best_score,
            scenes: vec![task.scene()],
            ..Reel::default()
        };
    }

    /// Films the world after a step; the number of the step and the score so far.
    fn step(&self, task: &dyn Task, step: &Step) -> (u64, f64) {
        let mut reel = self.lock();
        let mut scene = task.scene();
        let interface = task.interface();
        // Where an action is a place in the picture, what was done and what is planned can be drawn into it.
        if interface.action_dim() == 2
            && let Some(range) = interface.observation_range("observation.state")
        {
            let agent = &step.observation.0[range];
            reel.path.push([agent[0], agent[1]]);
            scene.shapes.push(line("path", reel.path.clone(), 2.0, PATH_COLOUR));
            // The newest plan is the last to be painted, and the one that is executed over the others.
            for (index, chunk) in reel.fan.iter().enumerate().rev() {
                let points = chunk.actions.iter().map(|action| [action.0[0], action.0[1]]).collect();
                let (width, colour) = if index == 0 { (3.0, PLAN_COLOUR) } else { (2.0, OTHER_PLAN_COLOUR) };
                scene.shapes.push(line("plan", points, width, colour));
            }
        }
        reel.score = reel.score.max(step.reward);
        reel.scenes.push(scene);
        (reel.scenes.len() as u64 - 1, reel.score)
    }

    /// Writes the best episode.
    fn write(&self, path: &Path) -> Result<()> {
        let mut reel = self.lock();
        reel.keep_the_better();
        let pictures = reel.best.iter().map(|scene| draw(scene, GIF_WIDTH)).collect::<Result<Vec<_>, _>>()?;
        write_gif(path, 10.0, &pictures)
    }
}

impl Reel {
    fn keep_the_better(&mut self) {
        if self.best.is_empty() || self.score > self.best_score {
            self.best_score = self.score;
            self.best = std::mem::take(&mut self.scenes);
        }
    }
}

fn line(name: &'static str, points: Vec<[f64; 2]>, width: f64, rgba: [u8; 4]) -> Shape {
    Shape::Line { name, points, width, rgba }
}
