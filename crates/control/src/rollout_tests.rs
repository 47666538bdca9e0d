use super::*;
use crate::{
    Action, ActionFeature, ActionMode, Feature, FeatureKind, Horizon, Interface, Limits, PlanRequest, Scene,
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
