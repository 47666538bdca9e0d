//! Demonstrates Push-T, seeing the whole world.
//!
//! The expert plans with a model of pushing ([`push`]): few long pushes along the block's faces that bring it to the goal
//! soonest ([`search`]). The best plans are then driven on copies of the world ([`drive`]), and the one that does best
//! there is what the expert demonstrates, with a small slip now and then ([`slip`]). Nothing is left to chance: the same
//! state gives the same demonstration.

mod drive;
mod push;
mod search;
mod slip;
mod walk;

use nudge_control::{Action, Expert, Task};

use super::{PushT, PushTState};
use drive::Drive;
use push::Place;
use search::Plan;

/// Coverage that a demonstration is content with.
const CONTENT_COVERAGE: f64 = 0.975;
/// Plans that are tried on copies of the world.
const TRIED_PLANS: usize = 12;
/// What the loss of one share of coverage costs, s: 0.01 is worth half a second.
const SECS_PER_COVERAGE: f64 = 50.0;
/// From one action to the next a target moves at most this far, px, or the plan pays for every px more, s.
const SMOOTH_CHANGE_PX: f64 = 36.0;
const SECS_PER_ROUGH_PX: f64 = 0.1;

/// Demonstrates Push-T. It plans the whole episode when it first sees a world, and again when the world is not where
/// the plan led.
#[derive(Default)]
pub(crate) struct PushTExpert {
    /// Actions to come, the last one first, with the state in which each is to be taken.
    plan: Vec<(PushTState, [f64; 2])>,
    planned: bool,
}

impl PushTExpert {
    /// Whether the expert still has something to do.
    pub(crate) fn goes_on(&self) -> bool {
        !self.plan.is_empty()
    }
}

impl Expert<PushT> for PushTExpert {
    fn act(&mut self, task: &PushT) -> Action {
        let state = task.state();
        let expected = self.plan.last().is_some_and(|(expected, _)| *expected == state);
        let finished = self.planned && self.plan.is_empty();
        if !expected && !finished {
            self.plan = plan(task);
            self.planned = true;
        }
        match self.plan.pop() {
            Some((_, target)) => Action(target.to_vec()),
            None => task.hold_action(),
        }
    }
}

fn copy(of: &PushT) -> PushT {
    let mut copy = PushT::new(of.config);
    copy.set_state(of.state());
    copy
}

fn plan(task: &PushT) -> Vec<(PushTState, [f64; 2])> {
    let most_actions = task.config.max_steps.saturating_sub(task.steps);
    let mut actions: Vec<[f64; 2]> = Vec::new();
    while actions.len() < most_actions {
        let drive = driven(task, &actions, most_actions);
        if drive.world.coverage() > CONTENT_COVERAGE {
            break;
        }
        let before = actions.len();
        actions = best_continuation(task, &drive);
        if actions.len() == before {
            break;
        }
    }
    let mut world = copy(task);
    let mut plan: Vec<(PushTState, [f64; 2])> = actions
        .into_iter()
        .map(|target| {
            let state = world.state();
            world.step(&Action(target.to_vec()));
            (state, target)
        })
        .collect();
    plan.reverse();
    plan
}

/// A copy of the world after these actions.
fn driven(task: &PushT, actions: &[[f64; 2]], most_actions: usize) -> Drive {
    let mut world = copy(task);
    for target in actions {
        world.step(&Action(target.to_vec()));
    }
    Drive { world, actions: actions.to_vec(), most_actions, stopped: false, slips: false }
}

/// The actions so far and those of the plan that does best from there.
fn best_continuation(task: &PushT, drive: &Drive) -> Vec<[f64; 2]> {
    let state = drive.world.state();
    let plans = search::plans(drive.world.world.block(), state.agent, TRIED_PLANS);
    let mut best: Option<(f64, Plan)> = None;
    for plan in plans {
        let mut attempt = driven(task, &drive.actions, drive.most_actions);
        follow(&mut attempt, &plan);
        let lost = (CONTENT_COVERAGE - attempt.world.coverage()).max(0.0);
        let new_actions = &attempt.actions[drive.actions.len().saturating_sub(1)..];
        let secs = 0.1 * attempt.actions.len() as f64
            + SECS_PER_COVERAGE * lost
            + SECS_PER_ROUGH_PX * roughness_px(new_actions);
        if best.as_ref().is_none_or(|(least, _)| secs < *least) {
            best = Some((secs, plan));
        }
    }
    // Plans are compared without slips, which would favour those that have none.
    let mut attempt = driven(task, &drive.actions, drive.most_actions);
    attempt.slips = true;
    if let Some((_, plan)) = best {
        follow(&mut attempt, &plan);
    }
    attempt.actions
}

/// How far targets move beyond what is smooth, px.
fn roughness_px(actions: &[[f64; 2]]) -> f64 {
    let change = |pair: &[[f64; 2]]| (pair[1][0] - pair[0][0]).hypot(pair[1][1] - pair[0][1]);
    actions.windows(2).map(|pair| (change(pair) - SMOOTH_CHANGE_PX).max(0.0)).sum()
}

fn follow(drive: &mut Drive, plan: &Plan) {
    let mut place = Place::of(drive.world.world.block());
    for push in &plan.pushes {
        place = push.end(&place);
        if !drive.push(push, &place) {
            break;
        }
    }
}
