//! What the Push-T expert does: `cargo run --release -p nudge-sim --example push_t_expert -- [FIRST_SEED [N [THREADS]]]`.
//!
//! Prints success, coverage, lengths and speeds of N demonstrations, and how long each took to make.

use std::time::Instant;

use nudge_control::{Episode, Task, quantile, wilson_interval};
use nudge_sim::TaskConfig;
use nudge_sim::push_t::{PushT, PushTConfig};
use rayon::prelude::*;

/// Below this the agent is still, px/s.
const STILL_PX_PER_SEC: f64 = 5.0;

fn main() {
    let numbers: Result<Vec<u64>, _> = std::env::args().skip(1).map(|text| text.parse()).collect();
    let (first, count, threads) = match numbers.as_deref() {
        Ok([]) => (0, 20, 1),
        Ok([first]) => (*first, 20, 1),
        Ok([first, count]) => (*first, *count, 1),
        Ok([first, count, threads]) => (*first, *count, *threads as usize),
        _ => {
            eprintln!("usage: push_t_expert [FIRST_SEED [N [THREADS]]]");
            std::process::exit(2);
        }
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    let shown: Vec<Shown> = pool.install(|| (first..first + count).into_par_iter().map(show).collect());
    report(&shown);
}

/// What one demonstration shows.
struct Shown {
    seed: u64,
    success: bool,
    frames: usize,
    speeds: Vec<f64>,
    action_changes: Vec<f64>,
    action_jerks: Vec<f64>,
    longest_still: usize,
    final_coverage: f64,
    secs: f64,
}

fn show(seed: u64) -> Shown {
    let begun = Instant::now();
    let episode = TaskConfig::PushT(PushTConfig::default()).demonstrate(seed);
    let secs = begun.elapsed().as_secs_f64();
    let hz = episode.interface.control_hz;
    let agents: Vec<Vec<f64>> =
        episode.frames.iter().map(|frame| frame.observation.0[..2].to_vec()).collect();
    let actions: Vec<Vec<f64>> = episode.frames.iter().map(|frame| frame.action.0.clone()).collect();
    let speeds: Vec<f64> = changes(&agents).iter().map(|change| hz * length(change)).collect();
    let stills = speeds.split(|speed| *speed >= STILL_PX_PER_SEC);
    Shown {
        seed,
        success: episode.success(),
        frames: episode.frames.len(),
        longest_still: stills.map(<[f64]>::len).max().unwrap_or(0),
        speeds,
        action_changes: changes(&actions).iter().map(|change| length(change)).collect(),
        action_jerks: changes(&changes(&actions)).iter().map(|change| length(change)).collect(),
        final_coverage: final_coverage(&episode, seed),
        secs,
    }
}

fn changes(values: &[Vec<f64>]) -> Vec<Vec<f64>> {
    values
        .windows(2)
        .map(|pair| pair[1].iter().zip(&pair[0]).map(|(after, before)| after - before).collect())
        .collect()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Rewards end at 0.95, so the coverage is that of a world that takes the same actions.
fn final_coverage(episode: &Episode, seed: u64) -> f64 {
    let mut task = PushT::new(PushTConfig::default());
    task.reset(seed);
    for frame in &episode.frames {
        task.step(&frame.action);
    }
    task.coverage()
}

fn report(shown: &[Shown]) {
    let count = shown.len();
    let successes = shown.iter().filter(|shown| shown.success).count();
    let interval = wilson_interval(successes, count);
    println!("success {successes}/{count}, 95% interval {interval:?}");
    let failed: Vec<u64> = shown.iter().filter(|shown| !shown.success).map(|shown| shown.seed).collect();
    println!("failed seeds {failed:?}");
    let mean = |value: &dyn Fn(&Shown) -> f64| shown.iter().map(value).sum::<f64>() / count as f64;
    println!("final coverage: mean {:.4}", mean(&|shown| shown.final_coverage));
    println!("seconds for each: mean {:.2}", mean(&|shown| shown.secs));
    let pooled = |name: &str, mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let at = |share| quantile(&values, share);
        println!("{name}: {:.1} {:.1} {:.1} {:.1}", at(0.05), at(0.5), at(0.99), at(1.0));
    };
    println!("5%, median, 99%, largest of");
    pooled("frames", shown.iter().map(|shown| shown.frames as f64).collect());
    pooled("agent speed, px/s", shown.iter().flat_map(|shown| shown.speeds.clone()).collect());
    pooled("action change, px", shown.iter().flat_map(|shown| shown.action_changes.clone()).collect());
    pooled("action second change, px", shown.iter().flat_map(|shown| shown.action_jerks.clone()).collect());
    pooled("longest still, frames", shown.iter().map(|shown| shown.longest_still as f64).collect());
}
