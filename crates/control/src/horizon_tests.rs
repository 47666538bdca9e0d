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
    for (seam, max_committed, expected) in [
        (Seam::Continue, 8, &[5.0, 6.0, 7.0][..]),
        (Seam::Continue, 2, &[5.0, 6.0]),
        (Seam::Continue, 0, &[]),
        (Seam::Switch, 8, &[]),
        (Seam::ENSEMBLE, 8, &[]),
    ] {
        let mut horizon = RecedingHorizon::new(HORIZON, 3, 7).unwrap().with_seam(seam, max_committed);
        horizon.observe(Observation(vec![0.0]));
        horizon.request().unwrap();
        horizon.accept(chunk(0)).unwrap();
        for _ in 0..5 {
            horizon.next_action().unwrap();
        }
        assert!(horizon.wants_plan());
        let committed = horizon.request().unwrap().committed;
        let expected: Vec<Action> = expected.iter().map(|value| Action(vec![*value])).collect();
        assert_eq!(committed, expected, "{seam:?}, {max_committed}");
    }
}

/// The actions of `length` steps, each its step and the plan that it comes from.
fn marked(first_step: u64, length: u64) -> ActionChunk {
    let actions = (0..length).map(|i| Action(vec![(first_step + i) as f64, first_step as f64])).collect();
    ActionChunk { first_step, actions }
}

/// `steps` steps with whole plans of 15 actions that are expected and arrive `delay` steps late. `plan` makes them.
fn run_whole(
    seam: Seam,
    (expected, delay): (usize, u64),
    steps: u64,
    plan: impl Fn(&PlanRequest) -> ActionChunk,
) -> (Vec<Option<Action>>, Vec<Accepted>) {
    let mut horizon = RecedingHorizon::new(HORIZON, expected, 7).unwrap().with_seam(seam, 8);
    let (mut pending, mut actions, mut accepted) = (None::<ActionChunk>, Vec::new(), Vec::new());
    for step in 0..steps {
        horizon.observe(Observation(vec![step as f64]));
        for _ in 0..2 {
            if let Some(chunk) = pending.take_if(|chunk| chunk.first_step + delay <= step) {
                accepted.push(horizon.accept(chunk).unwrap());
            }
            if horizon.wants_plan() {
                pending = horizon.request().map(|request| plan(&request));
            }
        }
        actions.push(horizon.next_action());
    }
    (actions, accepted)
}

#[test]
fn what_a_plan_has_beyond_the_executed_part_serves_when_the_next_is_late() {
    for (expected, delay) in [(1, 3), (3, 6), (5, 5), (6, 6), (7, 7)] {
        let (actions, accepted) =
            run_whole(Seam::Switch, (expected, delay), 100, |request| marked(request.step, 15));
        for (step, action) in actions.iter().enumerate().skip(delay as usize) {
            assert_eq!(action.as_ref().map(|action| action.0[0]), Some(step as f64), "delay {delay}");
        }
        assert!(accepted.iter().all(|accepted| accepted.passed == delay as usize));
    }
}

#[test]
fn a_late_plan_executes_its_part_all_the_same() {
    for (delay, executed) in [(0, 8), (1, 8), (4, 8), (7, 8), (8, 7)] {
        let (actions, _) = run_whole(Seam::Switch, (delay as usize, delay), 200, |r| marked(r.step, 15));
        let mut parts = std::collections::BTreeMap::new();
        for action in actions.iter().flatten() {
            *parts.entry(action.0[1] as u64).or_insert(0) += 1;
        }
        parts.pop_last();
        assert!(parts.values().all(|part| *part == executed), "delay {delay}: {parts:?}");
    }
}

#[test]
fn at_eight_steps_of_delay_one_step_in_eight_finds_no_action() {
    let (actions, _) = run_whole(Seam::Switch, (8, 8), 8 + 80, |request| marked(request.step, 15));
    for (step, action) in actions.iter().enumerate().skip(8) {
        assert_eq!(action.is_none(), step % 8 == 7, "step {step}");
        assert!(action.as_ref().is_none_or(|action| action.0[0] == step as f64));
    }
}

#[test]
fn plans_that_continue_begin_with_what_was_executed_while_they_were_made() {
    // Where no plan has committed anything, its actions are its own.
    let continuing = |request: &PlanRequest| {
        let mut chunk = marked(request.step, 15);
        for (action, committed) in chunk.actions.iter_mut().zip(&request.committed) {
            *action = committed.clone();
        }
        chunk
    };
    for delay in 1..=8 {
        let plans = std::cell::RefCell::new(Vec::new());
        let (actions, accepted) = run_whole(Seam::Continue, (delay, delay as u64), 120, |request| {
            let chunk = continuing(request);
            plans.borrow_mut().push((request.committed.len(), chunk.clone()));
            chunk
        });
        let plans = plans.into_inner();
        for (index, (committed, plan)) in plans.iter().enumerate() {
            assert_eq!(*committed, if index == 0 { 0 } else { delay.min(7) }, "delay {delay}");
            let executed = actions.iter().skip(plan.first_step as usize).take(delay.min(*committed));
            for (executed, planned) in executed.zip(&plan.actions) {
                assert_eq!(executed.as_ref(), Some(planned), "delay {delay}, plan {index}");
            }
        }
        assert!(plans.len() >= 120 / 9);
        assert!(accepted.iter().all(|accepted| !accepted.commit_too_short), "delay {delay}");
    }
}

#[test]
fn a_plan_later_than_its_commitment_is_counted_and_one_that_is_not_late_is_not() {
    for (expected, delay, short) in [(2, 4, true), (0, 1, true), (4, 4, false), (4, 2, false)] {
        let (_, accepted) =
            run_whole(Seam::Continue, (expected, delay), 60, |request| marked(request.step, 15));
        // While the first one was made nothing could be committed and nothing was executed.
        assert!(!accepted[0].commit_too_short);
        assert!(
            accepted[1..].iter().all(|accepted| accepted.commit_too_short == short),
            "{expected}, {delay}"
        );
        let (_, switched) =
            run_whole(Seam::Switch, (expected, delay), 60, |request| marked(request.step, 15));
        assert!(switched.iter().all(|accepted| !accepted.commit_too_short));
    }
}

#[test]
fn ensembled_actions_are_the_mean_of_all_plans_for_their_step() {
    let (actions, _) = run_whole(Seam::Ensemble { weight: 0.0 }, (4, 4), 60, |r| marked(r.step, 15));
    // Plans begin at 0, 8, 16, ... and each is taken from its fifth action on.
    for (step, action) in actions.iter().enumerate().skip(20) {
        let newest = (step - 4) / 8 * 8;
        let plans: Vec<f64> =
            (0..=newest).rev().step_by(8).filter(|k| step - k < 15).map(|k| k as f64).collect();
        let mean = plans.iter().sum::<f64>() / plans.len() as f64;
        let action = action.as_ref().unwrap();
        assert_eq!(action.0[0], step as f64, "all plans say the same here");
        assert!((action.0[1] - mean).abs() < 1e-9, "step {step}: {action:?}, not the mean of {plans:?}");
    }
}

#[test]
fn a_plan_is_hurried_when_what_is_left_will_not_last_until_it_comes() {
    let mut horizon = RecedingHorizon::new(HORIZON, 4, 7).unwrap();
    horizon.observe(Observation(vec![0.0]));
    assert!(!horizon.request().unwrap().hurried, "before the first plan nothing is late");
    horizon.accept(marked(0, 15)).unwrap();
    for (left, hurried) in [(11, false), (4, false), (3, true), (0, true)] {
        while horizon.remaining() > left {
            horizon.next_action().unwrap();
        }
        assert_eq!(horizon.request().unwrap().hurried, hurried, "{left} left");
        horizon.abandon();
    }
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
fn a_plan_is_asked_for_as_early_as_the_latency_set() {
    for (latency_steps, asked) in [(0, 8), (3, 5), (4, 4), (9, 0)] {
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
    assert!(RecedingHorizon::new(HORIZON, 14, 0).is_ok());
    assert!(RecedingHorizon::new(HORIZON, 15, 0).unwrap_err().contains("15 steps leaves nothing"));
}
