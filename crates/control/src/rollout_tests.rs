use super::*;
use crate::{
    ActionFeature, ActionMode, Feature, FeatureKind, Horizon, Interface, Limits, PlanRequest, Scene,
};

fn interface() -> Interface {
    Interface {
        observation: vec![Feature::vector("count", 1, "")],
        action: vec![ActionFeature {
            name: "action".into(),
            kind: FeatureKind::Vector,
            shape: vec![1],
            unit: String::new(),
            mode: ActionMode::Absolute,
            limits: Limits { low: vec![-1e9], high: vec![1e9] },
        }],
        control_hz: 10.0,
    }
}

/// Observes how many steps have passed since the reset, and lasts `seed` steps.
struct Counter(Interface, u64, u64);

impl Task for Counter {
    fn name(&self) -> &str {
        "counter"
    }
    fn interface(&self) -> &Interface {
        &self.0
    }
    fn reset(&mut self, seed: u64) -> Observation {
        (self.1, self.2) = (0, seed);
        Observation(vec![0.0])
    }
    fn step(&mut self, _: &Action) -> Step {
        self.1 += 1;
        let done = self.1 == self.2;
        Step { observation: Observation(vec![self.1 as f64]), reward: 0.5, success: done, done }
    }
    fn hold_action(&self) -> Action {
        Action(vec![-1.0])
    }
    fn max_steps(&self) -> usize {
        self.2 as usize
    }
    fn scene(&self) -> Scene {
        Scene { size: [1.0; 2], shapes: Vec::new() }
    }
}

/// Answers with the steps that its actions are meant for, and counts its batches.
struct Ahead(Interface, Vec<usize>);

impl Policy for Ahead {
    fn interface(&self) -> &Interface {
        &self.0
    }
    fn horizon(&self) -> Horizon {
        Horizon { observed: 2, predicted: 8, executed: 4 }
    }
    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        self.1.push(requests.len());
        let chunk = |request: &PlanRequest| {
            let now = request.window.0[1].0[0];
            ActionChunk {
                first_step: request.step,
                actions: (0..4).map(|ahead| Action(vec![now + f64::from(ahead)])).collect(),
            }
        };
        Ok(requests.iter().map(chunk).collect())
    }
}

fn run(seeds: &[u64], latency_steps: usize, threads: usize) -> (Vec<Episode>, RolloutStats, Vec<usize>) {
    let mut tasks: Vec<(Box<dyn Task>, u64)> =
        seeds.iter().map(|seed| (Box::new(Counter(interface(), 0, 0)) as Box<dyn Task>, *seed)).collect();
    let mut policy = Ahead(interface(), Vec::new());
    let options = RolloutOptions { latency_steps, threads, ..RolloutOptions::default() };
    let (episodes, stats) =
        rollout(&mut policy, &mut tasks, options, &|| Duration::ZERO, &mut |_| ()).unwrap();
    (episodes, stats, policy.1)
}

#[test]
fn every_action_belongs_to_the_step_it_is_executed_in() {
    for latency in 0..=2 {
        for episode in run(&[9, 3, 14], latency, 2).0 {
            assert_eq!(episode.frames.len() as u64, episode.seed.unwrap());
            for (step, frame) in episode.frames.iter().enumerate() {
                let expected = if step < latency { -1.0 } else { step as f64 };
                assert_eq!(frame.action.0, [expected], "latency {latency}");
                assert_eq!(frame.observation.0, [step as f64]);
            }
            assert!(episode.success());
        }
    }
}

#[test]
fn plans_are_batched_and_episodes_do_not_depend_on_company_or_threads() {
    let (episodes, stats, batches) = run(&[9, 3, 14], 0, 1);
    assert_eq!(batches, [3, 2, 2, 1]);
    assert_eq!((stats.plans, stats.steps), (8, 26));
    assert_eq!(episodes, run(&[9, 3, 14], 0, 3).0);
    assert_eq!(episodes[1..2], run(&[3], 0, 1).0);
}

#[test]
fn a_policy_for_another_interface_is_refused() {
    let mut other = interface();
    other.control_hz = 20.0;
    let mut tasks: Vec<(Box<dyn Task>, u64)> = vec![(Box::new(Counter(interface(), 0, 0)), 3)];
    let options = RolloutOptions::default();
    let result = rollout(&mut Ahead(other, Vec::new()), &mut tasks, options, &|| Duration::ZERO, &mut |_| ());
    assert!(matches!(result, Err(RolloutError::Interface(_))));
}

/// Plans of 7 actions that stand still at a place drawn from the noise, after what was committed. Keeps its plans.
struct Wandering(Interface, Vec<(Vec<Action>, ActionChunk)>);

impl Policy for Wandering {
    fn interface(&self) -> &Interface {
        &self.0
    }
    fn horizon(&self) -> Horizon {
        Horizon { observed: 2, predicted: 8, executed: 4 }
    }
    fn max_committed(&self) -> usize {
        3
    }
    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        let chunk = |request: &PlanRequest| {
            assert!(!request.hurried, "hurrying wins nothing where the delay is given");
            let place = (request.noise_seed % 1000) as f64;
            let own = std::iter::repeat_n(Action(vec![place]), 7);
            let actions = request.committed.iter().cloned().chain(own).take(7).collect();
            ActionChunk { first_step: request.step, actions }
        };
        let chunks: Vec<_> = requests.iter().map(chunk).collect();
        self.1.extend(requests.iter().map(|request| request.committed.clone()).zip(chunks.clone()));
        Ok(chunks)
    }
}

fn wander(options: RolloutOptions) -> (Episode, RolloutStats, Vec<(Vec<Action>, ActionChunk)>) {
    let mut policy = Wandering(interface(), Vec::new());
    let mut tasks: Vec<(Box<dyn Task>, u64)> = vec![(Box::new(Counter(interface(), 0, 0)), 60)];
    let (mut episodes, stats) =
        rollout(&mut policy, &mut tasks, options, &|| Duration::ZERO, &mut |_| ()).unwrap();
    (episodes.remove(0), stats, policy.1)
}

#[test]
fn a_policy_that_continues_plans_what_is_then_executed() {
    for latency_steps in 1..=3 {
        let options = RolloutOptions { latency_steps, seam: Seam::Continue, ..RolloutOptions::default() };
        let (episode, stats, plans) = wander(options);
        for (index, (committed, plan)) in plans.iter().enumerate().skip(1) {
            assert_eq!(committed.len(), latency_steps, "plan {index}");
            let executed = episode.frames.iter().skip(plan.first_step as usize).take(latency_steps);
            for (frame, planned) in executed.zip(&plan.actions) {
                assert_eq!(frame.action, *planned, "latency {latency_steps}, plan {index}");
            }
        }
        assert_eq!((stats.held_steps, stats.short_commits), (0, 0));
        let (_, switched, plans) = wander(RolloutOptions { seam: Seam::Switch, ..options });
        assert!(plans.iter().all(|(committed, _)| committed.is_empty()));
        assert_eq!((switched.held_steps, switched.short_commits), (0, 0));
    }
}

#[test]
fn steps_without_a_plan_are_held_and_counted_once_there_was_one() {
    let options = RolloutOptions { latency_steps: 4, seam: Seam::Continue, ..RolloutOptions::default() };
    let (episode, stats, _) = wander(options);
    let held = |frame: &&Frame| frame.action.0 == [-1.0];
    assert_eq!(episode.frames.iter().take_while(held).count(), 4);
    assert_eq!(episode.frames[4..].iter().filter(held).count(), stats.held_steps);
    // Seven actions, four of which have passed, last three of four steps.
    assert_eq!(stats.held_steps, 56 / 4);
    // Three of the three that were left could be committed.
    assert_eq!(stats.short_commits, 0);
}

#[test]
fn a_commitment_that_the_policy_cannot_take_whole_is_counted() {
    struct Short(Wandering);
    impl Policy for Short {
        fn interface(&self) -> &Interface {
            self.0.interface()
        }
        fn horizon(&self) -> Horizon {
            self.0.horizon()
        }
        fn max_committed(&self) -> usize {
            1
        }
        fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
            self.0.predict(requests)
        }
    }
    let mut policy = Short(Wandering(interface(), Vec::new()));
    let mut tasks: Vec<(Box<dyn Task>, u64)> = vec![(Box::new(Counter(interface(), 0, 0)), 60)];
    let options = RolloutOptions { latency_steps: 2, seam: Seam::Continue, ..RolloutOptions::default() };
    let (_, stats) = rollout(&mut policy, &mut tasks, options, &|| Duration::ZERO, &mut |_| ()).unwrap();
    // All but the first, which nothing was committed for, and the last, which the episode's end came before.
    assert!(stats.short_commits >= stats.plans - 2 && stats.short_commits < stats.plans, "{stats:?}");
}

#[test]
fn of_several_samples_the_one_closest_to_the_last_plan_is_executed() {
    let one = wander(RolloutOptions::default());
    assert_eq!(wander(RolloutOptions { samples: 0, ..RolloutOptions::default() }).0, one.0);
    let (episode, stats, plans) = wander(RolloutOptions { samples: 8, ..RolloutOptions::default() });
    assert_eq!((plans.len(), stats.plans), (8 * one.2.len(), 8 * one.1.plans));
    for (fan, frames) in plans.chunks(8).zip(episode.frames.chunks(4)).skip(1) {
        let before = episode.frames[fan[0].1.first_step as usize - 1].action.0[0];
        let closest =
            fan.iter().map(|(_, plan)| (plan.actions[0].0[0] - before).abs()).fold(f64::INFINITY, f64::min);
        assert_eq!((frames[0].action.0[0] - before).abs(), closest);
    }
    let jerk = |stats: &RolloutStats| stats.smoothness.summary()[0].jerk.seams.median;
    assert!(jerk(&stats) < jerk(&one.1));
    assert!(stats.confidence[0].spread.is_some() && one.1.confidence[0].spread.is_none());
}
