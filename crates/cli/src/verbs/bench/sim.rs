//! `nudge bench sim`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use nudge_control::{Action, Expert, Observation, Task};
use nudge_sim::TaskConfig;
use nudge_sim::pick_place::{PickPlace, PickPlaceConfig, PickPlaceExpert};
use nudge_sim::push_t::{PushT, PushTConfig};
use serde::Serialize;

use super::machine;
use super::plan::seconds;
use super::times::cpu_secs;
use crate::output::{self, say};
use crate::verbs::checkpoint::{Device, cores};
use crate::verbs::task::TaskName;

/// Count the control steps that the simulations make in a second
///
/// On one core, and on all of them with one world each at a time. How fast Push-T runs depends on how often the block is
/// touched: an agent that never stops pushing is the harder half.
#[derive(Args)]
pub struct Sim {
    /// Only this task
    #[arg(long, value_enum)]
    task: Option<TaskName>,

    /// Measure each row for so long
    #[arg(long, default_value_t = 3.0, value_name = "SECS", value_parser = seconds)]
    seconds: f64,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    device_name: String,
    cores: usize,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    task: &'static str,
    /// Who acts.
    actions: &'static str,
    steps_per_s_one_core: f64,
    /// On one core, over the processor time that they took: what other programs do hardly counts. Known where there is
    /// `/proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps_per_cpu_s: Option<f64>,
    steps_per_s_all_cores: f64,
    /// One core, over the task's own control rate.
    times_real_time: f64,
}

/// Plays the beginning of a seed's episode, or until the time is up; the control steps made, at least one.
type Play = fn(seed: u64, until: Instant) -> usize;

const PLAYS: [(TaskName, &str, &str, Play); 4] = [
    (TaskName::PushT, "push_t", "pushing without pause", push_without_pause),
    (TaskName::PushT, "push_t", "pushing and walking", push_and_walk),
    (TaskName::PickPlace, "pick_place", "keeping still", keep_still),
    (TaskName::PickPlace, "pick_place", "the expert", expert),
];

impl Sim {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let duration = Duration::from_secs_f64(self.seconds);
        let cores = cores();
        let chosen = PLAYS.iter().filter(|(task, ..)| self.task.is_none_or(|only| only == *task));
        let row = |(task, name, actions, play): &(TaskName, &'static str, &'static str, Play)| {
            let (one, steps_per_cpu_s) = rate(*play, duration, 1);
            Row {
                task: name,
                actions,
                steps_per_s_one_core: one,
                steps_per_cpu_s,
                steps_per_s_all_cores: rate(*play, duration, cores).0,
                times_real_time: one / control_hz(*task),
            }
        };
        let report =
            Report { device_name: machine::name(Device::Cpu), cores, rows: chosen.map(row).collect() };
        if self.json {
            output::print_json(&report)?;
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Control steps a second that `threads` make together, each in a world of its own, and a second of processor time.
fn rate(play: Play, duration: Duration, threads: usize) -> (f64, Option<f64>) {
    // Code and caches.
    play(0, Instant::now() + duration.min(Duration::from_millis(200)));
    let (begun, cpu) = (Instant::now(), cpu_secs());
    let until = begun + duration;
    let steps: usize = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let (mut steps, mut seed) = (0, thread as u64);
                    while steps == 0 || Instant::now() < until {
                        steps += play(seed, until);
                        seed += threads as u64;
                    }
                    steps
                })
            })
            .collect();
        let finished = running.into_iter().map(|thread| thread.join());
        finished.map(|steps| steps.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum()
    });
    let cpu = cpu.zip(cpu_secs()).map(|(before, after)| after - before);
    // Shorter times are not told exactly enough.
    let by_cpu = cpu.filter(|secs| *secs >= 0.2).map(|secs| steps as f64 / secs);
    (steps as f64 / begun.elapsed().as_secs_f64(), by_cpu)
}

fn control_hz(task: TaskName) -> f64 {
    config(task).build().interface().control_hz
}

fn config(task: TaskName) -> TaskConfig {
    match task {
        TaskName::PushT => TaskConfig::PushT(PushTConfig::default()),
        TaskName::PickPlace => TaskConfig::PickPlace(PickPlaceConfig::default()),
    }
}

/// Steps of an episode of Push-T: later, the block often lies where no scripted agent finds it.
const STEPS: usize = 100;

/// The beginning of an episode of Push-T, driven by a function of its step and what is seen.
fn drive(seed: u64, until: Instant, act: impl Fn(usize, &Observation) -> Action) -> usize {
    let mut task = PushT::new(PushTConfig::default());
    let mut seen = task.reset(seed);
    for steps in 0..STEPS {
        let step = task.step(&act(steps, &seen));
        seen = step.observation;
        if step.done || Instant::now() >= until {
            return steps + 1;
        }
    }
    STEPS
}

/// A target this far from the middle of the block's corners, in pixels, in a direction in radians.
fn beside(seen: &Observation, reach: f64, turn: f64) -> Action {
    let corners = &seen.0[2..18];
    let middle = |axis: usize| corners.iter().skip(axis).step_by(2).sum::<f64>() / 8.0;
    Action(vec![middle(0) + reach * turn.cos(), middle(1) + reach * turn.sin()])
}

/// Circles through the block.
fn push_without_pause(seed: u64, until: Instant) -> usize {
    drive(seed, until, |step, seen| beside(seen, 60.0, step as f64 / 7.0))
}

/// Now and then a push, each time from another side.
fn push_and_walk(seed: u64, until: Instant) -> usize {
    let reach = |step: usize| if step % 20 < 10 { 140.0 } else { 20.0 };
    drive(seed, until, |step, seen| beside(seen, reach(step), (step / 20) as f64 * 2.4))
}

fn keep_still(seed: u64, until: Instant) -> usize {
    play_pick_place(seed, until, |task, _| task.hold_action())
}

fn expert(seed: u64, until: Instant) -> usize {
    play_pick_place(seed, until, |task, expert| expert.act(task))
}

fn play_pick_place(
    seed: u64,
    until: Instant,
    act: impl Fn(&PickPlace, &mut PickPlaceExpert) -> Action,
) -> usize {
    let (mut task, mut expert) = (PickPlace::new(PickPlaceConfig::default()), PickPlaceExpert::default());
    task.reset(seed);
    let mut steps = 1;
    while !task.step(&act(&task, &mut expert)).done && Instant::now() < until {
        steps += 1;
    }
    steps
}

fn print(report: &Report) {
    let all = format!("{} cores", report.cores);
    let mut table = output::table(["control steps a second", "one core", &all, "times real time"]);
    for row in &report.rows {
        table.add_row([
            format!("{}, {}", row.task, row.actions),
            format!("{:.0}", row.steps_per_s_one_core),
            format!("{:.0}", row.steps_per_s_all_cores),
            format!("{:.0}", row.times_real_time),
        ]);
    }
    say!("{table}");
    say!("on {}", report.device_name);
}
