//! The Push-T expert achieves the task from the starts of the reset rules, as a person could, and always alike.

use nudge_control::{Episode, Task};
use nudge_sim::TaskConfig;
use nudge_sim::push_t::{PushT, PushTConfig, ResetRule};

/// More than the fastest human demonstration (592 px/s), and what demonstrations may not exceed, px/s.
const FASTEST_PX_PER_SEC: f64 = 670.0;
/// Frames in which the agent may be still: half a second.
const LONGEST_STILL_FRAMES: usize = 5;
const STILL_PX_PER_SEC: f64 = 5.0;
/// The 99.9th percentile of how far a person moves the target from one step to the next, px.
const FARTHEST_CHANGE_PX: f64 = 68.0;

fn demonstrate(reset_rule: ResetRule, seed: u64) -> Episode {
    TaskConfig::PushT(PushTConfig { reset_rule, ..PushTConfig::default() }).demonstrate(seed)
}

fn distance(one: &[f64], other: &[f64]) -> f64 {
    (one[0] - other[0]).hypot(one[1] - other[1])
}

#[test]
fn starts_of_all_rules_are_solved_and_left_better_than_success_asks() {
    // Each rule, and with seed 138 a start that needs many pushes.
    let starts =
        [(ResetRule::DpLegacy, 0), (ResetRule::DpLegacy, 138), (ResetRule::Dp, 1), (ResetRule::Gym, 2)];
    for (reset_rule, seed) in starts {
        let episode = demonstrate(reset_rule, seed);
        assert!(episode.success() && episode.frames.len() <= 300, "{reset_rule:?}, seed {seed}");
        assert_eq!(episode.seed, Some(seed));
        let last = episode.frames.len() - 1;
        assert!(episode.frames.iter().enumerate().all(|(index, frame)| frame.done == (index == last)));

        // A world that takes the recorded actions sees what was recorded.
        let mut task = PushT::new(PushTConfig { reset_rule, ..PushTConfig::default() });
        let mut observation = task.reset(seed);
        for frame in &episode.frames {
            assert_eq!(frame.observation, observation);
            let step = task.step(&frame.action);
            assert_eq!((frame.reward, frame.success), (step.reward, step.success));
            observation = step.observation;
        }
        assert!(task.coverage() > 0.97, "{reset_rule:?}, seed {seed}: {}", task.coverage());
    }
}

#[test]
fn the_agent_moves_as_a_person_moves_it() {
    for seed in [1, 35, 102] {
        let episode = demonstrate(ResetRule::DpLegacy, seed);
        let limits = &episode.interface.action[0].limits;
        let mut still_frames = 0;
        for pair in episode.frames.windows(2) {
            let [before, after] = pair else { unreachable!() };
            let speed = 10.0 * distance(&before.observation.0, &after.observation.0);
            assert!(speed <= FASTEST_PX_PER_SEC, "seed {seed}, {:.1} s: {speed} px/s", after.time_secs);
            let change = distance(&before.action.0, &after.action.0);
            assert!(change <= FARTHEST_CHANGE_PX, "seed {seed}, {:.1} s: {change} px", after.time_secs);
            still_frames = if speed < STILL_PX_PER_SEC { still_frames + 1 } else { 0 };
            assert!(
                still_frames <= LONGEST_STILL_FRAMES,
                "seed {seed} stands still at {:.1} s",
                after.time_secs
            );
        }
        for (axis, (low, high)) in limits.low.iter().zip(&limits.high).enumerate() {
            assert!(episode.frames.iter().all(|frame| (*low..=*high).contains(&frame.action.0[axis])));
        }
    }
}

#[test]
fn a_demonstration_is_the_same_again_and_in_another_thread() {
    let other = std::thread::spawn(|| demonstrate(ResetRule::DpLegacy, 7));
    let one = demonstrate(ResetRule::DpLegacy, 7);
    assert_eq!(one, demonstrate(ResetRule::DpLegacy, 7));
    assert_eq!(one, other.join().unwrap());
    assert_ne!(one.frames, demonstrate(ResetRule::DpLegacy, 8).frames);
}

#[test]
fn an_expert_without_time_ends_with_the_task() {
    let config = TaskConfig::PushT(PushTConfig { max_steps: 12, ..PushTConfig::default() });
    let episode = config.demonstrate(3);
    assert_eq!(episode.frames.len(), 12);
    assert!(!episode.success() && episode.frames[11].done);
}
