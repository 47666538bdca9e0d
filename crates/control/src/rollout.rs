//! Many episodes in lockstep, with one batched plan a step.

use std::time::Duration;

use crate::{ActionChunk, Episode, Frame, Observation, Policy, PolicyError, RecedingHorizon, Step, Task};

/// How a rollout is run.
#[derive(Clone, Copy, Debug)]
pub struct RolloutOptions {
    /// A plan made from step k is executed from step k + `latency_steps` on.
    pub latency_steps: usize,
    /// Threads that step the worlds; the result does not depend on it.
    pub threads: usize,
}

/// What a rollout took.
#[derive(Clone, Copy, Debug, Default)]
pub struct RolloutStats {
    /// Plans made, counting each request of a batch.
    pub plans: usize,
    /// Control steps executed, over all tasks.
    pub steps: usize,
    pub plan_time: Duration,
}

/// Why a rollout ended early.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    #[error(transparent)]
    Interface(#[from] crate::InterfaceMismatch),
    #[error("{0}")]
    Horizon(String),
    #[error("planning at control step {step}: {source}")]
    Policy { step: usize, source: PolicyError },
}

struct Run<'a> {
    task: &'a mut Box<dyn Task>,
    horizon: RecedingHorizon,
    observation: Observation,
    /// A plan under way, and the step at which it arrives.
    arriving: Option<(u64, ActionChunk)>,
    frames: Vec<Frame>,
    done: bool,
}

/// Runs one episode in every task, from the seed beside it, until all are done.
///
/// All tasks step together and their plan requests of a step go to the policy as one batch. `progress` is told how
/// many tasks are done after every step, and how long the policy has been planning is measured by `clock`, which
/// returns the time since any fixed moment: this crate knows no clock.
///
/// # Errors
/// When the policy was trained for another interface, the latency exceeds what it executes, or planning fails.
pub fn rollout(
    policy: &mut dyn Policy,
    tasks: &mut [(Box<dyn Task>, u64)],
    options: RolloutOptions,
    clock: &dyn Fn() -> Duration,
    progress: &mut dyn FnMut(usize),
) -> Result<(Vec<Episode>, RolloutStats), RolloutError> {
    let needed = policy.interface().clone();
    let seeds: Vec<u64> = tasks.iter().map(|(_, seed)| *seed).collect();
    let mut runs = Vec::with_capacity(tasks.len());
    for (task, seed) in tasks.iter_mut() {
        needed.accepts(task.interface())?;
        let horizon = RecedingHorizon::new(policy.horizon(), options.latency_steps, *seed)
            .map_err(RolloutError::Horizon)?;
        let observation = task.reset(*seed);
        runs.push(Run { task, horizon, observation, arriving: None, frames: Vec::new(), done: false });
    }

    let mut stats = RolloutStats::default();
    let mut step = 0;
    while runs.iter().any(|run| !run.done) {
        plan(policy, &mut runs, options, clock, &mut stats)
            .map_err(|source| RolloutError::Policy { step, source })?;
        stats.steps += step_all(&mut runs, options.threads);
        step += 1;
        progress(runs.iter().filter(|run| run.done).count());
    }

    let episodes = runs.into_iter().zip(seeds).map(|(run, seed)| Episode {
        task: run.task.name().to_owned(),
        interface: run.task.interface().clone(),
        seed: Some(seed),
        frames: run.frames,
    });
    Ok((episodes.collect(), stats))
}

/// Observes in every run and makes the plans that are wanted, in one batch.
fn plan(
    policy: &mut dyn Policy,
    runs: &mut [Run],
    options: RolloutOptions,
    clock: &dyn Fn() -> Duration,
    stats: &mut RolloutStats,
) -> Result<(), PolicyError> {
    let mut requests = Vec::new();
    let mut askers = Vec::new();
    for (index, run) in runs.iter_mut().enumerate().filter(|(_, run)| !run.done) {
        let seen = policy
            .interface()
            .select(run.task.interface(), &run.observation.0)
            .expect("interfaces were compared before the first step");
        run.horizon.observe(Observation(seen));
        deliver(run);
        if run.horizon.wants_plan()
            && let Some(request) = run.horizon.request()
        {
            askers.push(index);
            requests.push(request);
        }
    }
    if requests.is_empty() {
        return Ok(());
    }
    let begun = clock();
    let chunks = policy.predict(&requests)?;
    stats.plan_time += clock().saturating_sub(begun);
    stats.plans += chunks.len();
    for (index, chunk) in askers.into_iter().zip(chunks) {
        let run = &mut runs[index];
        run.arriving = Some((run.horizon.step() + options.latency_steps as u64, chunk));
        deliver(run);
    }
    Ok(())
}

/// Executes one control step in every run that is not done; how many there were.
fn step_all(runs: &mut [Run], threads: usize) -> usize {
    let mut active: Vec<&mut Run> = runs.iter_mut().filter(|run| !run.done).collect();
    let count = active.len();
    let share = count.div_ceil(threads.max(1));
    if threads <= 1 || count <= 1 {
        active.into_iter().for_each(step_one);
    } else {
        std::thread::scope(|scope| {
            for part in active.chunks_mut(share) {
                scope.spawn(|| part.iter_mut().for_each(|run| step_one(run)));
            }
        });
    }
    count
}

/// Hands over the plan under way, if this is the step at which it arrives.
fn deliver(run: &mut Run) {
    if let Some((_, chunk)) = run.arriving.take_if(|(arrival, _)| *arrival <= run.horizon.step()) {
        let part_is_left = "the latency is at most half of the executed steps";
        run.horizon.accept(chunk).expect(part_is_left);
    }
}

fn step_one(run: &mut Run) {
    let step = run.horizon.step();
    let action = run.horizon.next_action().unwrap_or_else(|| run.task.hold_action());
    let Step { observation, reward, success, done } = run.task.step(&action);
    let time_secs = step as f64 / run.task.interface().control_hz;
    let seen = std::mem::replace(&mut run.observation, observation);
    run.frames.push(Frame { time_secs, observation: seen, action, reward, success, done });
    run.done = done;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Action, ActionFeature, ActionMode, Feature, FeatureKind, Horizon, Interface, Limits, PlanRequest,
        Scene,
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
        let options = RolloutOptions { latency_steps, threads };
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
        let options = RolloutOptions { latency_steps: 0, threads: 1 };
        let result =
            rollout(&mut Ahead(other, Vec::new()), &mut tasks, options, &|| Duration::ZERO, &mut |_| ());
        assert!(matches!(result, Err(RolloutError::Interface(_))));
    }
}
