//! The same seed and actions give the same episode, to the bit: again, in another process, and beside other worlds.

use std::process::Command;

use nudge_control::{Action, Observation, Step, Task};
use nudge_sim::push_t::{PushT, PushTConfig, step_many};

const STEPS: usize = 150;

/// Sends the agent round and through the block, so that contacts of all kinds come and go.
fn chase(step: usize, observation: &Observation) -> Action {
    let corners = &observation.0[2..18];
    let turn = step as f64 / 7.0;
    let middle = |axis: usize| corners.iter().skip(axis).step_by(2).sum::<f64>() / 8.0;
    Action(vec![middle(0) + 60.0 * turn.cos(), middle(1) + 60.0 * turn.sin()])
}

/// An episode of a task that may have played others before.
fn episode(task: &mut PushT, seed: u64) -> Vec<Observation> {
    let mut observations = vec![task.reset(seed)];
    for step in 0..STEPS {
        let action = chase(step, &observations[step]);
        observations.push(task.step(&action).observation);
    }
    observations
}

/// FNV-1a over the bits of every number.
fn digest(observations: &[Observation]) -> u64 {
    observations
        .iter()
        .flat_map(|observation| &observation.0)
        .flat_map(|value| value.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn block_moves(observations: &[Observation]) -> bool {
    observations[0].0[2..18] != observations[STEPS].0[2..18]
}

#[test]
fn the_same_seed_gives_the_same_episode() {
    let mut used = PushT::new(PushTConfig::default());
    for seed in 0..20 {
        let episodes = [episode(&mut used, seed), episode(&mut PushT::new(PushTConfig::default()), seed)];
        assert!(block_moves(&episodes[0]), "nothing was tested by seed {seed}");
        assert_eq!(digest(&episodes[0]), digest(&episodes[1]), "seed {seed}");
    }
    assert_ne!(episode(&mut used, 0), episode(&mut used, 1));
}

/// What the next test has another process print.
#[test]
fn an_episode_has_a_digest() {
    let digest = digest(&episode(&mut PushT::new(PushTConfig::default()), 100_003));
    assert_eq!(digest, self::digest(&episode(&mut PushT::new(PushTConfig::default()), 100_003)));
    println!("digest {digest:016x}");
}

#[test]
fn another_process_gives_the_same_episode() {
    let digest = digest(&episode(&mut PushT::new(PushTConfig::default()), 100_003));
    let expected = format!("digest {digest:016x}");
    for _ in 0..3 {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_episode_has_a_digest", "--nocapture"])
            .output()
            .unwrap();
        let printed = String::from_utf8(child.stdout).unwrap();
        assert!(printed.contains(&expected), "expected {expected} in: {printed}");
    }
}

#[test]
fn worlds_stepped_together_do_as_each_does_alone() {
    let seeds = 0..40_u64;
    let mut alone: Vec<PushT> = seeds.clone().map(|_| PushT::new(PushTConfig::default())).collect();
    let mut together: Vec<PushT> = seeds.clone().map(|_| PushT::new(PushTConfig::default())).collect();
    let mut seen: Vec<Observation> =
        alone.iter_mut().zip(seeds.clone()).map(|(task, seed)| task.reset(seed)).collect();
    together.iter_mut().zip(seeds).for_each(|(task, seed)| {
        task.reset(seed);
    });
    for step in 0..60 {
        let actions: Vec<Action> = seen.iter().map(|observation| chase(step, observation)).collect();
        let expected: Vec<Step> =
            alone.iter_mut().zip(&actions).map(|(task, action)| task.step(action)).collect();
        assert_eq!(step_many(&mut together, &actions).unwrap(), expected);
        seen = expected.into_iter().map(|step| step.observation).collect();
    }
    let error = step_many(&mut together, &[]).unwrap_err();
    assert!(error.to_string().contains("40 worlds"), "{error}");
}
