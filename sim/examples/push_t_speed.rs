//! How many Push-T control steps a second: `cargo run --release -p nudge-sim --example push_t_speed -- [SECONDS]`.
//!
//! Prints JSON: a scripted agent that never stops pushing, and one that also walks round the block, as people do; each
//! on one core and on all of rayon's threads.

use std::time::{Duration, Instant};

use nudge_control::{Action, Observation, Task};
use nudge_sim::push_t::{PushT, PushTConfig, step_many};

const WORLDS: usize = 32;

fn main() {
    let seconds = std::env::args().nth(1).map_or(Ok(5.0), |text| text.parse());
    let Some(duration) = seconds.ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) else {
        eprintln!("usage: push_t_speed [SECONDS]");
        std::process::exit(2);
    };
    println!("{{\"worlds\": {WORLDS}, \"threads\": {},", rayon::current_num_threads());
    println!("  \"pushing_without_pause\": {},", measure(duration, push_without_pause));
    println!("  \"pushing_and_walking\": {}}}", measure(duration, push_and_walk));
}

type Script = fn(usize, [f64; 2]) -> [f64; 2];

/// Circles through the block.
fn push_without_pause(step: usize, [x, y]: [f64; 2]) -> [f64; 2] {
    let turn = step as f64 / 7.0;
    [x + 60.0 * turn.cos(), y + 60.0 * turn.sin()]
}

/// Now and then a push, each time from another side.
fn push_and_walk(step: usize, [x, y]: [f64; 2]) -> [f64; 2] {
    let turn = (step / 20) as f64 * 2.4;
    let reach = if step % 20 < 10 { 140.0 } else { 20.0 };
    [x + reach * turn.cos(), y + reach * turn.sin()]
}

fn measure(duration: Duration, script: Script) -> String {
    let one_core = play(duration, script, |worlds, actions| {
        worlds.iter_mut().zip(actions).map(|(world, action)| world.step(action).observation).collect()
    });
    let all_threads = play(duration, script, |worlds, actions| {
        let steps = step_many(worlds, actions).expect("there is one action for each world");
        steps.into_iter().map(|step| step.observation).collect()
    });
    format!("{{\"one_core\": {one_core}, \"all_threads\": {all_threads}}}")
}

/// Plays episodes in many worlds for so long; a JSON object.
fn play(
    duration: Duration,
    script: Script,
    step: impl Fn(&mut [PushT], &[Action]) -> Vec<Observation>,
) -> String {
    let mut worlds: Vec<PushT> = (0..WORLDS).map(|_| PushT::new(PushTConfig::default())).collect();
    let mut seed = 0;
    let mut reset = |world: &mut PushT| {
        seed += 1;
        world.reset(seed)
    };
    let mut seen: Vec<Observation> = worlds.iter_mut().map(&mut reset).collect();
    let (mut steps, mut moved) = (0_usize, 0_usize);
    let begun = Instant::now();
    while begun.elapsed() < duration {
        let actions: Vec<Action> =
            seen.iter().map(|observation| act(script, steps / WORLDS, observation)).collect();
        let next = step(&mut worlds, &actions);
        moved += seen.iter().zip(&next).filter(|(before, after)| before.0[2..18] != after.0[2..18]).count();
        steps += WORLDS;
        seen = next;
        // Fresh worlds now and then, before the walls have them all.
        if steps.is_multiple_of(100 * WORLDS) {
            seen = worlds.iter_mut().map(&mut reset).collect();
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    format!(
        "{{\"control_steps_per_second\": {:.0}, \"share_of_steps_that_move_the_block\": {:.3}}}",
        steps as f64 / seconds,
        moved as f64 / steps as f64
    )
}

/// Aims relative to the middle of the block's corners.
fn act(script: Script, step: usize, observation: &Observation) -> Action {
    let corners = &observation.0[2..18];
    let middle = [0, 1].map(|axis| corners.iter().skip(axis).step_by(2).sum::<f64>() / 8.0);
    Action(script(step, middle).to_vec())
}
