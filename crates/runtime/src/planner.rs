//! The thread that owns the policy, so that planning delays nothing and its failures end nothing.

use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use nudge_control::{ActionChunk, PlanRequest, Policy, split_mix_64};

use crate::RuntimeError;

/// What is to be planned.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which run of control steps it belongs to; plans for an earlier one are worthless.
    pub epoch: u64,
    /// The observation that is planned from.
    pub sequence: i64,
    /// The first is executed; the others show what else the policy might have done.
    pub requests: Vec<PlanRequest>,
}

/// What came of a job.
#[derive(Clone, Debug)]
pub struct Plan {
    pub epoch: u64,
    pub sequence: i64,
    pub took: Duration,
    /// One chunk a request, or why there is none.
    pub outcome: Result<Vec<ActionChunk>, String>,
}

/// A policy on its own thread. One job is in work and one may wait: a newer one takes its place.
pub struct Planner {
    jobs: Option<Sender<Job>>,
    waiting: Receiver<Job>,
    plans: Receiver<Plan>,
    thread: Option<JoinHandle<()>>,
}

impl Planner {
    /// Starts the thread. `published` is shown every plan after it was handed over, on the planner's thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        mut policy: Box<dyn Policy>,
        mut published: impl FnMut(&Plan) + Send + 'static,
    ) -> Result<Self, RuntimeError> {
        let (jobs, waiting) = bounded::<Job>(1);
        let (done, plans) = bounded(2);
        let work = waiting.clone();
        let outdated = plans.clone();
        let run = move || {
            for job in work {
                let plan = plan(policy.as_mut(), &job);
                newest_wins(&done, &outdated, plan.clone());
                published(&plan);
            }
        };
        let thread = std::thread::Builder::new()
            .name("planner".into())
            .spawn(run)
            .map_err(|problem| RuntimeError::Start { what: "the planner thread", problem })?;
        Ok(Self { jobs: Some(jobs), waiting, plans, thread: Some(thread) })
    }

    /// Asks for a plan; a job that still waits is dropped.
    pub fn ask(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            newest_wins(jobs, &self.waiting, job);
        }
    }

    /// Where plans arrive.
    pub fn plans(&self) -> &Receiver<Plan> {
        &self.plans
    }
}

impl Drop for Planner {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the planner thread ended in a panic outside the policy");
        }
    }
}

/// The request itself and `samples - 1` more like it with other noise.
pub fn fan(request: PlanRequest, samples: usize) -> Vec<PlanRequest> {
    let noise_seed = request.noise_seed;
    let other = |index| PlanRequest { noise_seed: split_mix_64(noise_seed ^ index), ..request.clone() };
    let others: Vec<_> = (1..samples.max(1) as u64).map(other).collect();
    std::iter::once(request).chain(others).collect()
}

/// Puts `value` into a full channel too, in the place of what waits there.
fn newest_wins<T>(sender: &Sender<T>, waiting: &Receiver<T>, mut value: T) {
    while let Err(TrySendError::Full(back)) = sender.try_send(value) {
        value = back;
        drop(waiting.try_recv());
    }
}

/// Asks the policy, catching its panics, and checks that the answer can be what was asked for.
fn plan(policy: &mut dyn Policy, job: &Job) -> Plan {
    let begun = Instant::now();
    let dim = policy.interface().action_dim();
    let asked = AssertUnwindSafe(|| policy.predict(&job.requests));
    let outcome = match std::panic::catch_unwind(asked) {
        Ok(Ok(chunks)) => check(&chunks, &job.requests, dim).map(|()| chunks),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!("the policy panicked: {}", panic_text(panic.as_ref()))),
    };
    Plan { epoch: job.epoch, sequence: job.sequence, took: begun.elapsed(), outcome }
}

fn check(chunks: &[ActionChunk], requests: &[PlanRequest], dim: usize) -> Result<(), String> {
    if chunks.len() != requests.len() {
        return Err(format!("the policy answered {} requests with {} plans", requests.len(), chunks.len()));
    }
    for (chunk, request) in chunks.iter().zip(requests) {
        if chunk.first_step != request.step {
            return Err(format!("the policy planned for step {}, not {}", chunk.first_step, request.step));
        }
        if chunk.actions.is_empty() || chunk.actions.iter().any(|action| action.0.len() != dim) {
            return Err(format!("the policy's plan is empty or has actions of other than {dim} numbers"));
        }
    }
    Ok(())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}
