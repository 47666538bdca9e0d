//! Many episodes in lockstep, with one batched plan a step.

use std::time::Duration;

use crate::{
    Action, ActionChunk, Confidence, Episode, Frame, Judge, Observation, Policy, PolicyError,
    RecedingHorizon, Seam, Smoothness, Step, Task,
};

/// How a rollout is run.
#[derive(Clone, Copy, Debug)]
pub struct RolloutOptions {
    /// A plan made from step k is executed from step k + `latency_steps` on.
    pub latency_steps: usize,
    /// Threads that step the worlds; the result does not depend on it.
    pub threads: usize,
    /// How a new plan takes over.
    pub seam: Seam,
    /// Plans drawn each time, of which the one that agrees best with the last plan is executed. 0 counts as 1.
    pub samples: usize,
}

/// Without latency, on one thread, switching from plan to plan, each the only one drawn.
impl Default for RolloutOptions {
    fn default() -> Self {
        Self { latency_steps: 0, threads: 1, seam: Seam::Switch, samples: 1 }
    }
}

/// What a rollout took.
#[derive(Clone, Debug, Default)]
pub struct RolloutStats {
    /// Plans made, counting each request of a batch.
    pub plans: usize,
    /// Control steps executed, over all tasks.
    pub steps: usize,
    /// Steps for which there was no action once an episode had its first plan: the robot held.
    pub held_steps: usize,
    /// Plans that were to continue what was committed, and came later than that.
    pub short_commits: usize,
    pub plan_time: Duration,
    pub smoothness: Smoothness,
    /// The largest figures of each episode, in the order of the tasks.
    pub confidence: Vec<Confidence>,
}

impl RolloutStats {
    /// Takes in what another rollout took.
    pub fn add(&mut self, other: Self) {
        self.plans += other.plans;
        self.steps += other.steps;
        self.held_steps += other.held_steps;
        self.short_commits += other.short_commits;
        self.plan_time += other.plan_time;
        self.smoothness.add(other.smoothness);
        self.confidence.extend(other.confidence);
    }
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
    /// How many plans have come.
    taken: usize,
    /// The number of the plan that each frame's action comes from; `None` where it was held.
    origins: Vec<Option<usize>>,
    confidence: Confidence,
    short_commits: usize,
    done: bool,
}

impl<'a> Run<'a> {
    fn begin(task: &'a mut Box<dyn Task>, seed: u64, horizon: RecedingHorizon) -> Self {
        let observation = task.reset(seed);
        Self {
            task,
            horizon,
            observation,
            arriving: None,
            frames: Vec::new(),
            taken: 0,
            origins: Vec::new(),
            confidence: Confidence::default(),
            short_commits: 0,
            done: false,
        }
    }
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
            .map_err(RolloutError::Horizon)?
            .with_seam(options.seam, policy.max_committed());
        runs.push(Run::begin(task, *seed, horizon));
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

    let mut episodes = Vec::with_capacity(runs.len());
    for (run, seed) in runs.into_iter().zip(seeds) {
        let episode = Episode {
            task: run.task.name().to_owned(),
            interface: run.task.interface().clone(),
            seed: Some(seed),
            frames: run.frames,
        };
        stats.held_steps +=
            run.origins.iter().skip_while(|plan| plan.is_none()).filter(|plan| plan.is_none()).count();
        stats.short_commits += run.short_commits;
        stats.smoothness.add_episode(&episode, &run.origins);
        stats.confidence.push(run.confidence);
        episodes.push(episode);
    }
    Ok((episodes, stats))
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
    let mut askers: Vec<(usize, Vec<Action>)> = Vec::new();
    for (index, run) in runs.iter_mut().enumerate().filter(|(_, run)| !run.done) {
        let seen = policy
            .interface()
            .select(run.task.interface(), &run.observation.0)
            .expect("interfaces were compared before the first step");
        run.horizon.observe(Observation(seen));
        deliver(run);
        if run.horizon.wants_plan()
            && let Some(mut request) = run.horizon.request()
        {
            // The delay is given here: hurrying would cost quality and win nothing.
            request.hurried = false;
            askers.push((index, run.horizon.upcoming().cloned().collect()));
            requests.extend(request.fan(options.samples));
        }
    }
    if requests.is_empty() {
        return Ok(());
    }
    let begun = clock();
    let chunks = policy.predict(&requests)?;
    stats.plan_time += clock().saturating_sub(begun);
    stats.plans += chunks.len();
    let judge = Judge::new(policy.interface(), policy.horizon());
    let mut fans = chunks.chunks_exact(options.samples.max(1));
    for ((index, last), fan) in askers.into_iter().zip(&mut fans) {
        let run = &mut runs[index];
        let (chosen, confidence) = judge.choose(fan, &last);
        run.confidence = run.confidence.max(confidence);
        run.arriving = Some((run.horizon.step() + options.latency_steps as u64, fan[chosen].clone()));
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

/// Hands over the plan under way, if this is the step at which it arrives. One that is shorter than the latency is over
/// by then, and lost.
fn deliver(run: &mut Run) {
    if let Some((_, chunk)) = run.arriving.take_if(|(arrival, _)| *arrival <= run.horizon.step())
        && let Ok(accepted) = run.horizon.accept(chunk)
    {
        run.taken += 1;
        run.short_commits += usize::from(accepted.commit_too_short);
    }
}

fn step_one(run: &mut Run) {
    let step = run.horizon.step();
    let planned = run.horizon.next_action();
    run.origins.push(planned.is_some().then_some(run.taken));
    let action = planned.unwrap_or_else(|| run.task.hold_action());
    let Step { observation, reward, success, done } = run.task.step(&action);
    let time_secs = step as f64 / run.task.interface().control_hz;
    let seen = std::mem::replace(&mut run.observation, observation);
    run.frames.push(Frame { time_secs, observation: seen, action, reward, success, done });
    run.done = done;
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
