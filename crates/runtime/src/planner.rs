//! The thread that owns the policy, so that planning delays nothing and its failures end nothing.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, TrySendError, bounded, unbounded};
use nudge_control::{Action, ActionChunk, Confidence, Horizon, Interface, Judge, PlanRequest, Policy};

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

/// A policy on its own thread, which plans for any number of robots: whatever of them waits is one batch.
pub struct PlannerThread {
    about: About,
    seats: Option<Sender<Seat>>,
    thread: Option<JoinHandle<()>>,
}

/// What has to be known of a policy to ask it: see [`Policy`].
#[derive(Clone, Debug)]
pub struct About {
    interface: Interface,
    horizon: Horizon,
    max_committed: usize,
}

impl About {
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    pub fn horizon(&self) -> Horizon {
        self.horizon
    }

    pub fn max_committed(&self) -> usize {
        self.max_committed
    }
}

/// The planner as one robot knows it. One of its jobs is in work and one may wait: a newer one takes its place.
pub struct Planner {
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    plans: Receiver<Plan>,
}

/// A robot as the thread knows it.
struct Seat {
    jobs: Receiver<Job>,
    done: Sender<Plan>,
    outdated: Receiver<Plan>,
    published: Box<dyn FnMut(&Plan) + Send>,
}

impl PlannerThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(policy: Box<dyn Policy>) -> Result<Self, RuntimeError> {
        let about = About {
            interface: policy.interface().clone(),
            horizon: policy.horizon(),
            max_committed: policy.max_committed(),
        };
        let (seats, newcomers) = unbounded();
        let thread = std::thread::Builder::new()
            .name("planner".into())
            .spawn(move || plan_for_all(policy, &newcomers))
            .map_err(|problem| RuntimeError::Start { what: "the planner thread", problem })?;
        Ok(Self { about, seats: Some(seats), thread: Some(thread) })
    }

    pub fn about(&self) -> &About {
        &self.about
    }

    /// Plans for one robot more, for as long as what this answers lives. `published` is shown every plan after it was
    /// handed over, on the planner's thread.
    pub fn seat(&self, published: impl FnMut(&Plan) + Send + 'static) -> Planner {
        let (jobs, waiting) = bounded(1);
        let (done, plans) = bounded(2);
        let published = Box::new(published);
        let seat = Seat { jobs: waiting.clone(), done, outdated: plans.clone(), published };
        if let Some(seats) = &self.seats {
            // The thread ends only after this.
            drop(seats.send(seat));
        }
        Planner { jobs, waiting, plans }
    }
}

impl Drop for PlannerThread {
    fn drop(&mut self) {
        self.seats = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the planner thread ended in a panic outside the policy");
        }
    }
}

impl Planner {
    /// Asks for a plan; a job that still waits is dropped.
    pub fn ask(&self, job: Job) {
        newest_wins(&self.jobs, &self.waiting, job);
    }

    /// Where plans arrive.
    pub fn plans(&self) -> &Receiver<Plan> {
        &self.plans
    }
}

/// Plans until nobody can come any more and nobody is left. What waits is taken at once: nobody's job waits for another
/// robot's to come.
fn plan_for_all(mut policy: Box<dyn Policy>, newcomers: &Receiver<Seat>) {
    let judge = Judge::new(policy.interface(), policy.horizon());
    let mut seats: Vec<Seat> = Vec::new();
    let mut closed = false;
    while !(closed && seats.is_empty()) {
        let mut ready = Select::new();
        for seat in &seats {
            ready.recv(&seat.jobs);
        }
        if !closed {
            ready.recv(newcomers);
        }
        ready.ready();
        loop {
            match newcomers.try_recv() {
                Ok(seat) => seats.push(seat),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    closed = true;
                    break;
                }
            }
        }
        let mut batch = Vec::new();
        let mut index = 0;
        seats.retain(|seat| match seat.jobs.try_recv() {
            Ok(job) => {
                batch.push((index, job));
                index += 1;
                true
            }
            Err(TryRecvError::Empty) => {
                index += 1;
                true
            }
            Err(TryRecvError::Disconnected) => false,
        });
        let (askers, jobs): (Vec<usize>, Vec<Job>) = batch.into_iter().unzip();
        let plans = plan(policy.as_mut(), &judge, &jobs);
        for (asker, plan) in askers.into_iter().zip(plans) {
            let seat = &mut seats[asker];
            newest_wins(&seat.done, &seat.outdated, plan.clone());
            (seat.published)(&plan);
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

/// Makes the plans of several jobs as one batch, and chooses each; when the batch fails, each alone, so that nobody's
/// broken observation fails another's plan.
fn plan(policy: &mut dyn Policy, judge: &Judge, jobs: &[Job]) -> Vec<Plan> {
    let begun = Instant::now();
    let requests: Cow<'_, [PlanRequest]> = match jobs {
        [job] => Cow::Borrowed(&job.requests),
        jobs => jobs.iter().flat_map(|job| job.requests.iter().cloned()).collect(),
    };
    if requests.is_empty() {
        return Vec::new();
    }
    let mut chunks = match (ask(policy, &requests), jobs) {
        (Ok(chunks), _) => chunks.into_iter(),
        (Err(problem), [job]) => {
            let (outcome, confidence) = (Err(problem), Confidence::default());
            let took = begun.elapsed();
            return vec![Plan { epoch: job.epoch, sequence: job.sequence, took, outcome, confidence }];
        }
        (Err(_), jobs) => {
            return jobs.iter().flat_map(|job| plan(policy, judge, std::slice::from_ref(job))).collect();
        }
    };
    let took = begun.elapsed();
    let mut finish = |job: &Job| {
        let mut own: Vec<ActionChunk> = chunks.by_ref().take(job.requests.len()).collect();
        let (chosen, confidence) = judge.choose(&own[..job.chosen_from.min(own.len())], &job.last);
        own.swap(0, chosen);
        Plan { epoch: job.epoch, sequence: job.sequence, took, outcome: Ok(own), confidence }
    };
    jobs.iter().map(&mut finish).collect()
}

/// Asks the policy, catching its panics, and checks that the answer can be what was asked for.
fn ask(policy: &mut dyn Policy, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, String> {
    let dim = policy.interface().action_dim();
    let asked = AssertUnwindSafe(|| policy.predict(requests));
    match std::panic::catch_unwind(asked) {
        Ok(Ok(chunks)) => check(&chunks, requests, dim).map(|()| chunks),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!("the policy panicked: {}", panic_text(panic.as_ref()))),
    }
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
