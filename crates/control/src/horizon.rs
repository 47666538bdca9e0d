//! The receding horizon: observe, plan, execute the first part, observe again.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{Action, ActionChunk, Observation, ObservationWindow, PlanRequest, noise_seed};

/// How far a policy looks back and ahead, in control steps.
///
/// Prediction `0..Tp` is aligned with the oldest observed step, so the executed part starts at index `To - 1`, the step
/// of the newest observation (Chi et al. 2023, section 3.1, and the reference implementation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Horizon {
    /// `To`
    pub observed: usize,
    /// `Tp`
    pub predicted: usize,
    /// `Ta`
    pub executed: usize,
}

impl Horizon {
    /// # Errors
    /// When a length is 0, or the executed part does not fit behind the observed part. The text names the field.
    pub fn check(&self) -> Result<(), String> {
        if self.observed == 0 || self.predicted == 0 || self.executed == 0 {
            return Err("`horizon`: observed, predicted and executed must each be at least 1".into());
        }
        let room = (self.predicted + 1).saturating_sub(self.observed);
        if self.executed > room {
            return Err(format!(
                "`horizon.executed` is {}, but a prediction of {} steps with {} observed leaves room for {room}",
                self.executed, self.predicted, self.observed
            ));
        }
        Ok(())
    }
}

/// Why a chunk was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    #[error("the plan begins at step {first_step}, which is not the step it was asked for")]
    NotAsked { first_step: u64 },
    #[error("all {length} actions of the plan made from step {first_step} had passed by step {step}")]
    AllPassed { first_step: u64, length: usize, step: u64 },
}

/// The state machine between observations, plans and actions; simulation and robot drive the same one.
///
/// Each control step: [`observe`](Self::observe), [`accept`](Self::accept) a chunk that has arrived, then if
/// [`wants_plan`](Self::wants_plan) a [`request`](Self::request), whose chunk may be accepted at once or in a later
/// step, then [`next_action`](Self::next_action), which ends the step. It owns the history and the plan, counts the
/// steps, and drops the part of a late plan whose steps have passed.
#[derive(Clone, Debug)]
pub struct RecedingHorizon {
    horizon: Horizon,
    latency_steps: usize,
    episode_seed: u64,
    step: u64,
    history: VecDeque<Observation>,
    /// The actions still to be executed, the first of them at `step`.
    plan: VecDeque<Action>,
    asked_at: Option<u64>,
}

impl RecedingHorizon {
    /// `latency_steps` is how many steps before the plan is used up the next one is asked for; `episode_seed` seeds
    /// the noise of every plan, through [`noise_seed`].
    ///
    /// # Errors
    /// When the horizon does not hold together, or plans that late would be used up before the next one came.
    pub fn new(horizon: Horizon, latency_steps: usize, episode_seed: u64) -> Result<Self, String> {
        horizon.check()?;
        // A plan that lost its first d actions must last until the next one, asked for when it came, is there.
        if 2 * latency_steps > horizon.executed {
            return Err(format!(
                "a latency of {latency_steps} steps needs plans of at least {} executed steps, and these have {}",
                2 * latency_steps,
                horizon.executed
            ));
        }
        Ok(Self {
            horizon,
            latency_steps,
            episode_seed,
            step: 0,
            history: VecDeque::with_capacity(horizon.observed),
            plan: VecDeque::with_capacity(horizon.executed),
            asked_at: None,
        })
    }

    /// Begins a new episode: history, plan and any plan still being made are dropped.
    pub fn reset(&mut self, episode_seed: u64) {
        self.episode_seed = episode_seed;
        self.step = 0;
        self.history.clear();
        self.plan.clear();
        self.asked_at = None;
    }

    /// Drops history, plan and any plan still being made, as when observations before and after do not belong
    /// together; the episode and its steps go on.
    pub fn forget(&mut self) {
        self.history.clear();
        self.plan.clear();
        self.asked_at = None;
    }

    /// Changes how many steps before the plan is used up the next one is asked for; at most half of the executed steps
    /// are taken, for the reason in [`new`](Self::new).
    pub fn set_latency_steps(&mut self, latency_steps: usize) {
        self.latency_steps = latency_steps.min(self.horizon.executed / 2);
    }

    /// The control step that is now being decided.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Actions left of the present plan.
    pub fn remaining(&self) -> usize {
        self.plan.len()
    }

    /// Takes this step's observation.
    pub fn observe(&mut self, observation: Observation) {
        while self.history.len() >= self.horizon.observed {
            self.history.pop_front();
        }
        self.history.push_back(observation);
    }

    /// Whether a plan should be asked for now: something was seen, none is under way, and what is left of the present
    /// one lasts no longer than a plan takes.
    pub fn wants_plan(&self) -> bool {
        !self.history.is_empty() && self.asked_at.is_none() && self.plan.len() <= self.latency_steps
    }

    /// The request for a plan from this step, and a note that it is under way. `None` before the first observation.
    pub fn request(&mut self) -> Option<PlanRequest> {
        let first = self.history.front()?;
        let missing = self.horizon.observed - self.history.len();
        let mut window = vec![first.clone(); missing];
        window.extend(self.history.iter().cloned());
        self.asked_at = Some(self.step);
        Some(PlanRequest {
            step: self.step,
            window: ObservationWindow(window),
            committed: self.plan.iter().take(self.latency_steps).cloned().collect(),
            hurried: false,
            noise_seed: noise_seed(self.episode_seed, self.step),
        })
    }

    /// Takes the plan that was asked for; it replaces what is left of the present one. A plan from step k that arrives
    /// at step k + d loses its first d actions.
    ///
    /// # Errors
    /// When another plan was asked for, or every step of this one has passed. The present plan then stays; in the
    /// second case a new plan may be asked for.
    pub fn accept(&mut self, chunk: ActionChunk) -> Result<(), ReceiveError> {
        if self.asked_at != Some(chunk.first_step) {
            return Err(ReceiveError::NotAsked { first_step: chunk.first_step });
        }
        self.asked_at = None;
        let passed = (self.step - chunk.first_step) as usize;
        let length = chunk.actions.len().min(self.horizon.executed);
        if passed >= length {
            return Err(ReceiveError::AllPassed { first_step: chunk.first_step, length, step: self.step });
        }
        self.plan.clear();
        self.plan.extend(chunk.actions.into_iter().take(length).skip(passed));
        Ok(())
    }

    /// Gives up the plan under way (it failed, or its answer is no longer wanted), so that another may be asked for.
    pub fn abandon(&mut self) {
        self.asked_at = None;
    }

    /// What the plan holds from this step on.
    pub fn upcoming(&self) -> impl Iterator<Item = &Action> {
        self.plan.iter()
    }

    /// This step's action, and the end of the step. `None` when the plan is used up: the robot must hold.
    pub fn next_action(&mut self) -> Option<Action> {
        self.step += 1;
        self.plan.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HORIZON: Horizon = Horizon { observed: 2, predicted: 16, executed: 8 };

    fn chunk(first_step: u64) -> ActionChunk {
        let actions = (0..8).map(|i| Action(vec![(first_step + i) as f64])).collect();
        ActionChunk { first_step, actions }
    }

    /// Runs `steps` steps with plans that arrive `delay` steps late; the actions are the steps they were meant for.
    fn run(latency_steps: usize, delay: u64, steps: u64) -> (Vec<Option<f64>>, Vec<u64>) {
        let mut horizon = RecedingHorizon::new(HORIZON, latency_steps, 7).unwrap();
        let (mut pending, mut actions, mut asked) = (None, Vec::new(), Vec::new());
        for step in 0..steps {
            horizon.observe(Observation(vec![step as f64]));
            let deliver = |horizon: &mut RecedingHorizon, pending: &mut Option<u64>| {
                if let Some(from) = pending.take_if(|from| *from + delay <= step) {
                    horizon.accept(chunk(from)).unwrap();
                }
            };
            deliver(&mut horizon, &mut pending);
            if horizon.wants_plan() {
                asked.push(step);
                pending = horizon.request().map(|request| request.step);
                deliver(&mut horizon, &mut pending);
            }
            actions.push(horizon.next_action().map(|action| action.0[0]));
        }
        (actions, asked)
    }

    #[test]
    fn a_late_plan_drops_exactly_the_steps_that_have_passed() {
        for delay in 0..=4 {
            let (actions, _) = run(delay as usize, delay, 60);
            for (step, action) in actions.iter().enumerate() {
                let expected = (step as u64 >= delay).then_some(step as f64);
                assert_eq!(*action, expected, "delay {delay}, step {step}");
            }
        }
    }

    #[test]
    fn without_delay_a_plan_is_made_every_executed_part() {
        assert_eq!(run(0, 0, 33).1, [0, 8, 16, 24, 32]);
        assert_eq!(run(2, 2, 21).1, [0, 6, 12, 18]);
    }

    #[test]
    fn a_plan_later_than_foreseen_leaves_a_hole_and_not_a_stale_action() {
        let (actions, _) = run(1, 3, 20);
        for (step, action) in actions.iter().enumerate() {
            assert!(action.is_none_or(|action| action == step as f64));
        }
        assert!(actions[9..12].contains(&None));
    }

    #[test]
    fn the_window_repeats_the_first_observation_and_then_slides() {
        let mut horizon = RecedingHorizon::new(HORIZON, 0, 7).unwrap();
        assert!(horizon.request().is_none());
        horizon.observe(Observation(vec![1.0]));
        let window = |request: PlanRequest| request.window.0.iter().map(|o| o.0[0]).collect::<Vec<_>>();
        assert_eq!(window(horizon.request().unwrap()), [1.0, 1.0]);
        horizon.abandon();
        horizon.observe(Observation(vec![2.0]));
        horizon.observe(Observation(vec![3.0]));
        assert_eq!(window(horizon.request().unwrap()), [2.0, 3.0]);
    }

    #[test]
    fn plans_that_were_not_asked_for_or_are_over_change_nothing() {
        let mut horizon = RecedingHorizon::new(HORIZON, 0, 7).unwrap();
        assert_eq!(horizon.accept(chunk(0)), Err(ReceiveError::NotAsked { first_step: 0 }));
        horizon.observe(Observation(vec![0.0]));
        horizon.request().unwrap();
        for _ in 0..8 {
            assert_eq!(horizon.next_action(), None);
        }
        let error = ReceiveError::AllPassed { first_step: 0, length: 8, step: 8 };
        assert_eq!(horizon.accept(chunk(0)), Err(error));
        assert!(horizon.wants_plan());
    }

    #[test]
    fn committed_actions_are_those_executed_while_planning() {
        let mut horizon = RecedingHorizon::new(HORIZON, 3, 7).unwrap();
        horizon.observe(Observation(vec![0.0]));
        horizon.request().unwrap();
        horizon.accept(chunk(0)).unwrap();
        for _ in 0..5 {
            horizon.next_action().unwrap();
        }
        assert!(horizon.wants_plan());
        let committed = horizon.request().unwrap().committed;
        assert_eq!(committed, [5.0, 6.0, 7.0].map(|value| Action(vec![value])));
    }

    #[test]
    fn forgetting_drops_everything_but_the_count_of_steps() {
        let mut horizon = RecedingHorizon::new(HORIZON, 0, 7).unwrap();
        horizon.observe(Observation(vec![0.0]));
        horizon.request().unwrap();
        horizon.accept(chunk(0)).unwrap();
        horizon.next_action().unwrap();
        horizon.forget();
        assert_eq!((horizon.step(), horizon.remaining()), (1, 0));
        assert!(!horizon.wants_plan() && horizon.request().is_none());
        horizon.observe(Observation(vec![1.0]));
        let request = horizon.request().unwrap();
        assert_eq!((request.step, request.window.0.len()), (1, 2));
        horizon.forget();
        assert_eq!(horizon.accept(chunk(1)), Err(ReceiveError::NotAsked { first_step: 1 }));
    }

    #[test]
    fn a_plan_is_asked_for_as_early_as_the_latency_set_and_at_most_half_of_one_before_its_end() {
        for (latency_steps, asked) in [(0, 8), (3, 5), (4, 4), (9, 4)] {
            let mut horizon = RecedingHorizon::new(HORIZON, 0, 7).unwrap();
            horizon.observe(Observation(vec![0.0]));
            horizon.request().unwrap();
            horizon.accept(chunk(0)).unwrap();
            horizon.set_latency_steps(latency_steps);
            while !horizon.wants_plan() {
                horizon.next_action().unwrap();
            }
            assert_eq!(horizon.step(), asked);
        }
    }

    #[test]
    fn horizons_that_do_not_hold_together_are_refused() {
        let bad = [(0, 16, 8), (2, 0, 8), (2, 16, 0), (2, 16, 16), (17, 16, 1)];
        for (observed, predicted, executed) in bad {
            assert!(Horizon { observed, predicted, executed }.check().is_err());
        }
        assert!(Horizon { observed: 2, predicted: 16, executed: 15 }.check().is_ok());
        assert!(RecedingHorizon::new(HORIZON, 5, 0).is_err());
    }
}
