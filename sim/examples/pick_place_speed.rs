//! How many pick-place control steps a second: `cargo run --release -p nudge-sim --example pick_place_speed -- [SECONDS]`.
//!
//! Prints JSON: on one core, an arm that stays where it is, and the expert at work in every variant in turn.

use std::time::{Duration, Instant};

use nudge_control::{Action, Expert, Task};
use nudge_sim::pick_place::{PickPlace, PickPlaceConfig, PickPlaceExpert, Variant};

const VARIANTS: [Variant; 5] =
    [Variant::Standard, Variant::Bin, Variant::Tight, Variant::Stack, Variant::MovedTarget];

fn main() {
    let seconds = std::env::args().nth(1).map_or(Ok(5.0), |text| text.parse());
    let Some(duration) = seconds.ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) else {
        eprintln!("usage: pick_place_speed [SECONDS]");
        std::process::exit(2);
    };
    println!("{{\"still\": {},", play(duration, |task, _| task.hold_action()));
    println!("  \"expert\": {}}}", play(duration, |task, expert| expert.act(task)));
}

/// Plays episodes one after the other for so long; a JSON object.
fn play(duration: Duration, act: impl Fn(&PickPlace, &mut PickPlaceExpert) -> Action) -> String {
    let (mut steps, mut control_hz) = (0_usize, 0.0);
    let begun = Instant::now();
    for seed in 0.. {
        let variant = VARIANTS[seed as usize % VARIANTS.len()];
        let mut task = PickPlace::new(PickPlaceConfig { variant, ..PickPlaceConfig::default() });
        let mut expert = PickPlaceExpert::default();
        task.reset(seed);
        control_hz = task.interface().control_hz;
        let mut done = false;
        while !done && begun.elapsed() < duration {
            let action = act(&task, &mut expert);
            done = task.step(&action).done;
            steps += 1;
        }
        if begun.elapsed() >= duration {
            break;
        }
    }
    let per_second = steps as f64 / begun.elapsed().as_secs_f64();
    let times_real_time = per_second / control_hz;
    format!("{{\"control_steps_per_second\": {per_second:.0}, \"times_real_time\": {times_real_time:.1}}}")
}
