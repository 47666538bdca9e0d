//! How many Push-T control steps a second: `cargo run --release -p nudge-sim --example push_t_speed -- [SECONDS]`.
//!
//! Prints JSON, for one core and for all of rayon's threads. A scripted agent keeps pushing the block about.

use std::time::{Duration, Instant};

use nudge_control::{Action, Observation, Task};
use nudge_sim::push_t::{PushT, PushTConfig, step_many};

const WORLDS: usize = 256;

fn main() {
    let seconds = std::env::args().nth(1).map_or(Ok(5.0), |text| text.parse());
    let Some(duration) = seconds.ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) else {
        eprintln!("usage: push_t_speed [SECONDS]");
        std::process::exit(2);
    };
    let one_by_one = measure(duration, |worlds, actions| {
        worlds.iter_mut().zip(actions).map(|(world, action)| world.step(action).observation).collect()
    });
    let together = measure(duration, |worlds, actions| {
        let steps = step_many(worlds, actions).expect("there is one action for each world");
        steps.into_iter().map(|step| step.observation).collect()
    });
    println!(
        "{{\"worlds\": {WORLDS}, \"physics_steps_per_control_step\": 10, \"one_core\": {one_by_one}, \
         \"threads\": {}, \"all_threads\": {together}}}",
        rayon::current_num_threads()
    );
}

/// Plays episodes in many worlds for so long; a JSON object.
fn measure(duration: Duration, step: impl Fn(&mut [PushT], &[Action]) -> Vec<Observation>) -> String {
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
            seen.iter().map(|observation| chase(steps / WORLDS, observation)).collect();
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

/// Sends the agent through the block and round it.
fn chase(step: usize, observation: &Observation) -> Action {
    let corners = &observation.0[2..18];
    let turn = step as f64 / 7.0;
    let middle = |axis: usize| corners.iter().skip(axis).step_by(2).sum::<f64>() / 8.0;
    Action(vec![middle(0) + 60.0 * turn.cos(), middle(1) + 60.0 * turn.sin()])
}
