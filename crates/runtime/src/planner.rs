//! The thread that owns the policy, so that planning delays nothing and its failures end nothing.

use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use nudge_control::{Action, ActionChunk, Confidence, Judge, PlanRequest, Policy};

use crate::RuntimeError;

/// What is to be planned.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which run of control steps it belongs to; plans for an earlier one are worthless.
    pub epoch: u64,
    /// The observation that is planned from.
    pub sequence: i64,
    /// One plan with several seeds of noise.
    pub requests: Vec<PlanRequest>,
    /// How many of them, from the first on, the executed plan is chosen from; at least 1. The others show what else the
    /// policy might have done.
    pub chosen_from: usize,
    /// The present plan's actions from the step of the requests on.
    pub last: Vec<Action>,
}

/// How many plans are drawn each time.
#[derive(Clone, Copy, Debug)]
pub struct Samples {
    /// Of which one is chosen; at least 1.
    pub chosen_from: usize,
    /// To be looked at, those among them.
    pub shown: usize,
}

/// What came of a job.
#[derive(Clone, Debug)]
pub struct Plan {
    pub epoch: u64,
    pub sequence: i64,
    pub took: Duration,
    /// One chunk a request, the one to be executed first; or why there is none.
    pub outcome: Result<Vec<ActionChunk>, String>,
    pub confidence: Confidence,
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
        let judge = Judge::new(policy.interface(), policy.horizon());
        let run = move || {
            for job in work {
                let plan = plan(policy.as_mut(), &judge, &job);
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

/// Puts `value` into a full channel too, in the place of what waits there.
fn newest_wins<T>(sender: &Sender<T>, waiting: &Receiver<T>, mut value: T) {
    while let Err(TrySendError::Full(back)) = sender.try_send(value) {
        value = back;
        drop(waiting.try_recv());
    }
}

/// Asks the policy, catching its panics, checks that the answer can be what was asked for, and chooses.
fn plan(policy: &mut dyn Policy, judge: &Judge, job: &Job) -> Plan {
    let begun = Instant::now();
    let dim = policy.interface().action_dim();
    let asked = AssertUnwindSafe(|| policy.predict(&job.requests));
    let mut outcome = match std::panic::catch_unwind(asked) {
        Ok(Ok(chunks)) => check(&chunks, &job.requests, dim).map(|()| chunks),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!("the policy panicked: {}", panic_text(panic.as_ref()))),
    };
    let mut confidence = Confidence::default();
    if let Ok(chunks) = &mut outcome {
        let chosen;
        (chosen, confidence) = judge.choose(&chunks[..job.chosen_from.min(chunks.len())], &job.last);
        chunks.swap(0, chosen);
    }
    Plan { epoch: job.epoch, sequence: job.sequence, took: begun.elapsed(), outcome, confidence }
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
