//! How well the scripted expert does pick-place:
//! `cargo run --release -p nudge-sim --example pick_place_expert -- [VARIANT [FIRST_SEED [EPISODES [THREADS [joint]]]]]`.
//!
//! Prints success with its interval, the seeds that failed, lengths and speeds of the successes, the worst overlap and
//! limit over all episodes, and how much faster than real time one core simulates.

use std::time::Instant;

use nudge_control::{Expert, Task, quantile, wilson_interval};
use nudge_sim::pick_place::{
    ActionKind, LimitUse, Penetration, PickPlace, PickPlaceConfig, PickPlaceExpert, Stage, Variant,
};
use rayon::prelude::*;

struct Report {
    seed: u64,
    success: bool,
    stage: Stage,
    steps: usize,
    /// Speed of the tool over each control period, m/s.
    speeds: Vec<f64>,
    penetration: Penetration,
    limit_use: LimitUse,
    wall_secs: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Err(reason) = report(&arguments) {
        eprintln!("{reason}\nusage: pick_place_expert [VARIANT [FIRST_SEED [EPISODES [THREADS [joint]]]]]");
        std::process::exit(2);
    }
}

fn report(arguments: &[String]) -> Result<(), String> {
    let text = |index: usize, default: &'static str| arguments.get(index).map_or(default, String::as_str);
    let number = |index: usize, default: &'static str| {
        let text = text(index, default);
        text.parse::<u64>().map_err(|error| format!("{text}: {error}"))
    };
    let variant: Variant =
        serde_json::from_value(text(0, "standard").into()).map_err(|error| error.to_string())?;
    let (first, episodes, threads) = (number(1, "0")?, number(2, "100")?, number(3, "1")?);
    let action = if text(4, "pose") == "joint" { ActionKind::Joint } else { ActionKind::Pose };
    let config = PickPlaceConfig { variant, action, ..PickPlaceConfig::default() };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build();
    let pool = pool.map_err(|error| error.to_string())?;
    let reports: Vec<Report> = pool
        .install(|| (first..first + episodes).into_par_iter().map(|seed| episode(config, seed)).collect());
    print(config, first, &reports);
    Ok(())
}

fn episode(config: PickPlaceConfig, seed: u64) -> Report {
    let mut task = PickPlace::new(config);
    let mut expert = PickPlaceExpert::default();
    let begin = Instant::now();
    task.reset(seed);
    let mut at = task.state().world_from_tool.translation.vector;
    let mut speeds = Vec::new();
    loop {
        let action = expert.act(&task);
        let step = task.step(&action);
        let state = task.state();
        let next = state.world_from_tool.translation.vector;
        speeds.push((next - at).norm() * task.interface().control_hz);
        at = next;
        if step.done {
            let wall_secs = begin.elapsed().as_secs_f64();
            return Report {
                seed,
                success: step.success,
                stage: state.stage,
                steps: state.steps,
                speeds,
                penetration: task.worst_penetration(),
                limit_use: task.limit_use(),
                wall_secs,
            };
        }
    }
}

fn print(config: PickPlaceConfig, first: u64, reports: &[Report]) {
    let successes = reports.iter().filter(|report| report.success).count();
    let interval = wilson_interval(successes, reports.len());
    println!("{config:?}, seeds {first}..{}", first + reports.len() as u64);
    println!(
        "success {successes} of {} = {:.2} % [{:.2}, {:.2}]",
        reports.len(),
        100.0 * successes as f64 / reports.len() as f64,
        100.0 * interval.low,
        100.0 * interval.high
    );
    for report in reports.iter().filter(|report| !report.success) {
        println!("  failed: seed {} reached {:?}", report.seed, report.stage);
    }
    let of_successes = || reports.iter().filter(|report| report.success);
    let mut steps: Vec<f64> = of_successes().map(|report| report.steps as f64).collect();
    let mut speeds: Vec<f64> = of_successes().flat_map(|report| report.speeds.iter().copied()).collect();
    steps.sort_by(f64::total_cmp);
    speeds.sort_by(f64::total_cmp);
    let at = |sorted: &[f64], share: f64| quantile(sorted, share);
    println!("steps: p5 {:.0} p50 {:.0} p95 {:.0}", at(&steps, 0.05), at(&steps, 0.5), at(&steps, 0.95));
    println!("tool speed, m/s: p50 {:.3} p99 {:.3}", at(&speeds, 0.5), at(&speeds, 0.99));
    let worst = |name: &str, value: fn(&Report) -> f64| {
        if let Some(report) = reports.iter().max_by(|a, b| value(a).total_cmp(&value(b))) {
            println!("worst {name}: {:.4} (seed {})", value(report), report.seed);
        }
    };
    worst("overlap of finger and object, mm", |report| 1e3 * report.penetration.finger_m);
    worst("overlap of object and surroundings, mm", |report| 1e3 * report.penetration.object_m);
    worst("joint position, share of limit", |report| report.limit_use.position);
    worst("joint velocity, share of limit", |report| report.limit_use.velocity);
    worst("joint torque, share of limit", |report| report.limit_use.effort);
    let simulated: f64 = reports.iter().map(|report| report.steps as f64 * 0.1).sum();
    let wall: f64 = reports.iter().map(|report| report.wall_secs).sum();
    println!("{:.1} times real time on one core", simulated / wall);
}
