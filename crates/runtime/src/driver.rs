//! One robot being driven: observations into the horizon, plans out of the planner, every command through the guard.
//!
//! Both paces drive this: `control_loop` by the clock, `lockstep` by the observations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nudge_control::{Action, Observation, RecedingHorizon, Thresholds, noise_seed};
use tokio::sync::mpsc;

use crate::counters::{Count, Counters};
use crate::episode_log::EpisodeLog;
use crate::events::Watch;
use crate::gate::Gate;
use crate::guard::{Guard, Missing, Rule, State, Verdict};
use crate::planner::{Job, Plan, Planner, Samples};
use crate::status::{PlanConfidence, Snapshot, StageTimings, Timings};

/// Seeds the noise when the robot's reset brings no seed.
const DEFAULT_SEED: u64 = 0;
/// Plans whose slowest stands for the next one.
const PLANS_REMEMBERED: usize = 8;
/// What a plan may take more than the slowest of late.
const PLAN_TIME_MARGIN: f64 = 1.25;

/// Where commands go: the sequence of the observation answered (lockstep) or `None`, and the command.
pub(crate) type SendCommand = Box<dyn FnMut(Option<i64>, &[f64]) -> bool + Send>;

/// Sends the command just sent, and what the guard would let through behind it.
pub(crate) type SendPlan = Box<dyn FnMut(&[f64], &[Action]) -> bool + Send>;

/// Where whole plans go, their actions a period apart.
pub(crate) struct Onward {
    pub send: SendPlan,
    pub period: Duration,
}

/// What the loop drives with, and where it tells what it does.
pub(crate) struct Outlets {
    /// None when the guard's thread sends.
    pub send: Option<SendCommand>,
    /// For a robot that is sent whole plans.
    pub onward: Option<Onward>,
    pub snapshots: mpsc::Sender<Snapshot>,
    pub log: EpisodeLog,
    pub watch: Watch,
    pub counters: Arc<Counters>,
}

/// The newest observation.
#[derive(Debug)]
struct Seen {
    sequence: i64,
    /// Everything that is needed, the policy's numbers first.
    values: Vec<f64>,
}

pub(crate) struct Driver {
    pub gate: Gate,
    pub timings: Timings,
    out: Outlets,
    planner: Planner,
    horizon: RecedingHorizon,
    /// `Do` of the policy.
    observed_dim: usize,
    samples: Samples,
    alarm: Thresholds,

    seen: Option<Seen>,
    /// Whether something was observed in this run of steps, so that steps count.
    started: bool,
    failure: Option<String>,
    /// Of the plan that is executed.
    confidence: Option<PlanConfidence>,
    epoch: u64,
    asked: Option<Instant>,
    plan_times: [Duration; PLANS_REMEMBERED],
    plans: u64,
    commands: u64,
    last_command: Vec<f64>,
    /// Whether the robot was sent more than a command.
    ahead: bool,
    told: Option<(State, String)>,
    told_at: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(
        gate: Gate,
        planner: Planner,
        mut horizon: RecedingHorizon,
        observed_dim: usize,
        (samples, alarm): (Samples, Thresholds),
        out: Outlets,
    ) -> Self {
        horizon.reset(noise_seed(DEFAULT_SEED, 0));
        Self {
            gate,
            timings: Timings::default(),
            out,
            planner,
            horizon,
            observed_dim,
            samples,
            alarm,
            seen: None,
            started: false,
            failure: None,
            confidence: None,
            epoch: 0,
            asked: None,
            plan_times: [Duration::ZERO; PLANS_REMEMBERED],
            plans: 0,
            commands: 0,
            last_command: Vec::new(),
            ahead: false,
            told: None,
            told_at: None,
        }
    }

    /// Commands sent, and plans made.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let fast = self.gate.fast_link().and_then(|link| link.told());
        (fast.map_or(self.commands, |told| told.commands), self.plans)
    }

    /// How long things took; of the guard's thread what is its own.
    pub(crate) fn stage_timings(&self) -> StageTimings {
        let timings = self.timings.quantiles();
        match self.gate.fast_link() {
            None => timings,
            Some(link) => StageTimings {
                guard: link.guard.quantiles(),
                publish: link.publish.quantiles(),
                tick_jitter: link.tick_jitter.quantiles(),
                ..timings
            },
        }
    }

    pub(crate) fn planner(&self) -> &Planner {
        &self.planner
    }

    /// A new episode begins; an error while the emergency stop is latched. Either way older commands are void.
    pub(crate) fn begin_episode(&mut self, seed: Option<u64>, episode: u64) -> Result<(), String> {
        self.gate.reset();
        self.seen = None;
        self.horizon.reset(seed.unwrap_or_else(|| noise_seed(DEFAULT_SEED, episode)));
        self.interrupt();
        self.failure = None;
        if self.gate.is_stopped() {
            return Err("the emergency stop is latched: ask rpc/release first".into());
        }
        self.out.log.begin(seed);
        self.out.watch.episode(episode, seed);
        self.tell(State::Init, None);
        Ok(())
    }

    /// Releases the emergency stop, if fresh observations allow it at `now`.
    pub(crate) fn release(&mut self, now: Duration) -> Result<(), String> {
        self.gate.release(now)?;
        self.tell(State::Ready, None);
        Ok(())
    }

    /// Latches the emergency stop; history and plan go.
    pub(crate) fn stop(&mut self) {
        self.gate.stop();
        self.interrupt();
        self.tell(State::Stopped, Some(Rule::EmergencyStop));
    }

    /// Another robot process took over.
    pub(crate) fn publisher_changed(&mut self) {
        self.gate.publisher_changed();
        self.interrupt();
    }

    /// Takes an observation received at `received`, stamped `skew_secs` ahead of the wall clock; whether it may be planned
    /// from.
    pub(crate) fn observe(
        &mut self,
        received: Duration,
        skew_secs: f64,
        sequence: i64,
        values: Vec<f64>,
    ) -> bool {
        let taken = self.gate.observe(received, skew_secs, &values);
        match taken {
            Ok(()) => self.out.watch.observation(self.horizon.step(), &values[..self.observed_dim]),
            Err(Rule::StampSkew) => return false,
            Err(_) => self.interrupt(),
        }
        self.seen = Some(Seen { sequence, values });
        taken.is_ok()
    }

    /// The last observation has come again and is looked at as if it were new.
    pub(crate) fn observe_again(&mut self, received: Duration) -> bool {
        match self.seen.take() {
            Some(seen) => self.observe(received, 0.0, seen.sequence, seen.values),
            None => false,
        }
    }

    /// Puts the newest observation into the history of this control step.
    pub(crate) fn step_observed(&mut self) {
        if let Some(seen) = &self.seen {
            self.horizon.observe(Observation(seen.values[..self.observed_dim].to_vec()));
            self.started = true;
        }
    }

    /// Asks for a plan from this step, if one is wanted. `ahead` chooses how many steps before the end of the present
    /// plan that is, from the time a plan takes; whether a plan was asked for.
    pub(crate) fn plan_if_wanted(&mut self, ahead: impl Fn(Duration) -> usize) -> bool {
        let slowest = self.plan_times.iter().max().copied().unwrap_or_default();
        self.horizon.set_latency_steps(ahead(slowest.mul_f64(PLAN_TIME_MARGIN)));
        if !self.horizon.wants_plan() {
            return false;
        }
        let (Some(request), Some(seen)) = (self.horizon.request(), &self.seen) else { return false };
        let Samples { chosen_from, shown } = self.samples;
        self.planner.ask(Job {
            epoch: self.epoch,
            sequence: seen.sequence,
            requests: request.fan(chosen_from.max(shown)),
            chosen_from,
            last: self.horizon.upcoming().cloned().collect(),
        });
        self.asked = Some(Instant::now());
        true
    }

    /// Takes a plan from the planner; one for an earlier run of steps, or whose steps have passed, is dropped.
    pub(crate) fn take_plan(&mut self, plan: Plan) {
        if plan.epoch != self.epoch {
            // The one that was asked for is still to come.
            self.out.counters.add(Count::PlanDropped, 1);
            return;
        }
        // What counts is how long the loop waited, the queue and the hand-over included.
        let waited = self.asked.take().map_or(plan.took, |asked| asked.elapsed());
        self.timings.plan.record(waited);
        self.plan_times[self.plans as usize % PLANS_REMEMBERED] = waited;
        self.plans += 1;
        let chunk = match plan.outcome {
            Ok(chunks) => chunks.into_iter().next(),
            Err(text) => {
                self.out.counters.add(Count::PlanFailed, 1);
                self.horizon.abandon();
                self.failure = Some(text);
                return;
            }
        };
        self.failure = None;
        match chunk.map(|chunk| self.horizon.accept(chunk)) {
            Some(Ok(accepted)) => {
                let alarm = self.alarm.exceeded_by(&plan.confidence);
                self.confidence = Some(PlanConfidence { figures: plan.confidence, alarm });
                self.gate.alarm(alarm);
                self.out.counters.add(Count::ConfidenceAlarm, u64::from(alarm));
                self.out.counters.add(Count::CommitTooShort, u64::from(accepted.commit_too_short));
            }
            _ => self.out.counters.add(Count::PlanDropped, 1),
        }
    }

    /// Waits for the plan that was asked for.
    pub(crate) fn wait_for_plan(&mut self) {
        while self.asked.is_some() {
            let Ok(plan) = self.planner.plans().recv() else {
                self.failure = Some("the planner thread has ended".into());
                return;
            };
            self.take_plan(plan);
        }
    }

    /// Ends a control step: the command of `now` is decided and sent, as the answer to observation `answers` in lockstep.
    /// The answer is whether one was sent, and the rule that held, if one did.
    pub(crate) fn command(&mut self, now: Duration, answers: Option<i64>) -> (bool, Option<Rule>) {
        let step = self.horizon.step();
        let action: Option<Action> = if self.started { self.horizon.next_action() } else { None };
        let proposed = match &action {
            Some(action) => Ok(action.0.as_slice()),
            None if self.failure.is_some() => Err(Missing::Failed),
            None if self.horizon.has_planned() => Err(Missing::UsedUp),
            None => Err(Missing::FirstPlan),
        };
        let begun = Instant::now();
        let upcoming = self.horizon.upcoming().map(|action| action.0.as_slice());
        let stepped = self.gate.step(now, proposed, upcoming);
        let guarded = begun.elapsed();
        self.timings.guard.record(guarded);
        let (state, reason, sends) = (stepped.state, stepped.reason, stepped.command.is_some());
        if let Some(command) = stepped.command {
            let begun = Instant::now();
            if let Some(send) = &mut self.out.send
                && !send(answers, command)
            {
                self.out.counters.add(Count::SendFailed, 1);
            }
            let sent = begun.elapsed();
            self.timings.publish.record(sent);
            self.commands += 1;
            self.last_command.clear();
            self.last_command.extend_from_slice(command);
            if let Some(seen) = &self.seen
                && self.started
            {
                self.out.log.step(&seen.values[..self.observed_dim], command);
            }
            self.out.watch.command(step, command, state);
            self.out.watch.timings(step, &[("guard", guarded), ("publish", sent)]);
        }
        self.send_onward(now, state, sends);
        if reason.is_some_and(Rule::breaks_history) {
            self.interrupt();
        }
        self.tell(state, reason);
        (sends, reason)
    }

    /// Sends what the plan holds behind the command of `now`, for a robot that takes whole plans. When there is nothing
    /// more to send, not even a command, a plan sent before is called back: the robot stays at the last command.
    fn send_onward(&mut self, now: Duration, state: State, sends: bool) {
        let Some(onward) = &mut self.out.onward else { return };
        let plan = match &self.seen {
            Some(seen) if state == State::Run => match &self.gate {
                Gate::Inline(guard) => {
                    let guard = guard.guard().clone();
                    foresee(guard, now, onward.period, &seen.values, self.horizon.upcoming())
                }
                // Such a robot is sent what the guard's thread decides, and nothing ahead of it.
                Gate::Fast(_) => Vec::new(),
            },
            _ => Vec::new(),
        };
        if (sends || self.ahead) && !(onward.send)(&self.last_command, &plan) {
            self.out.counters.add(Count::SendFailed, 1);
        }
        self.ahead = !plan.is_empty();
    }

    /// Serving ends: a plan sent before is called back, and the robot stays at the last command.
    pub(crate) fn end(&mut self) {
        if let Some(onward) = &mut self.out.onward
            && std::mem::take(&mut self.ahead)
            && !(onward.send)(&self.last_command, &[])
        {
            self.out.counters.add(Count::SendFailed, 1);
        }
    }

    /// Sends the last command again, as the answer to the observation `sequence` that it answered.
    pub(crate) fn resend(&mut self, sequence: i64) {
        if let Some(send) = &mut self.out.send
            && !send(Some(sequence), &self.last_command)
        {
            self.out.counters.add(Count::SendFailed, 1);
        }
    }

    /// The history no longer belongs to what comes: it goes, and the plans with it.
    fn interrupt(&mut self) {
        self.horizon.forget();
        self.epoch += 1;
        self.asked = None;
        self.started = false;
        self.confidence = None;
        self.gate.alarm(false);
    }

    /// Hands the status over when it has changed or a second has passed.
    fn tell(&mut self, state: State, reason: Option<Rule>) {
        let same = self
            .told
            .as_ref()
            .is_some_and(|(told, why)| *told == state && why.starts_with(reason_name(state, reason)));
        if same && self.told_at.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return;
        }
        let mut why = reason_name(state, reason).to_owned();
        if let (Some(Rule::PlannerFailed), Some(text)) = (reason, &self.failure) {
            why = format!("{why}: {text}");
        }
        let snapshot = Snapshot {
            state,
            reason: why.clone(),
            counters: self.gate.counters(),
            log: self.gate.log(),
            timings: self.stage_timings(),
            confidence: self.confidence,
        };
        // A full queue is told again at the next tick.
        if self.out.snapshots.try_send(snapshot).is_ok() {
            self.told = Some((state, why));
            self.told_at = Some(Instant::now());
        }
    }
}

/// What `guard` would make of the `upcoming` actions at its next ticks, if it kept on seeing what it sees; up to the first
/// that it would not let through.
fn foresee<'a>(
    mut guard: Guard,
    now: Duration,
    period: Duration,
    observed: &[f64],
    upcoming: impl Iterator<Item = &'a Action>,
) -> Vec<Action> {
    let mut foreseen = Vec::new();
    let mut at = now;
    for action in upcoming {
        at += period;
        guard.observe(at, observed);
        match guard.tick(at, Ok(&action.0)) {
            Verdict { state: State::Run, command: Some(command), .. } => {
                foreseen.push(Action(command.to_vec()))
            }
            _ => break,
        }
    }
    foreseen
}

/// Why, in a word; empty when everything runs.
pub(crate) fn reason_name(state: State, reason: Option<Rule>) -> &'static str {
    match (state, reason) {
        (_, Some(rule)) => rule.name(),
        (State::Init, None) => "no_observation",
        (State::Ready, None) => "awaiting_first_plan",
        _ => "",
    }
}
