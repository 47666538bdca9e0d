//! Whole episodes over real zenoh on loopback: the simulated robot and the controller.
#![cfg(feature = "zenoh")]

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Behaviour, Counting, Point, Serving, count, free_endpoint, robot_file, robot_options};
use nudge_control::{Action, Episode, RolloutOptions, Task, Thresholds, rollout};
use nudge_runtime::{RobotOptions, RobotReport, RuntimeError, ServeOptions, simulated_robot};

/// Runs episodes of 40 steps and gives their actions too.
fn run_robot(
    robot: &nudge_runtime::RobotFile,
    options: RobotOptions,
) -> (Result<RobotReport, RuntimeError>, Vec<Vec<Action>>) {
    let actions: Arc<Mutex<Vec<Vec<Action>>>> = Arc::default();
    let (begun, stepped) = (actions.clone(), actions.clone());
    let options = RobotOptions {
        on_episode: Some(Box::new(move |_, _| begun.lock().unwrap().push(vec![]))),
        on_step: Some(Box::new(move |_, _, action| {
            stepped.lock().unwrap().last_mut().unwrap().push(action.clone());
        })),
        ..options
    };
    let report = simulated_robot(Point::new(robot, 40), robot, options);
    (report, actions.lock().unwrap().clone())
}

fn logged() -> (Arc<Mutex<Vec<Episode>>>, ServeOptions) {
    let episodes: Arc<Mutex<Vec<Episode>>> = Arc::default();
    let log = episodes.clone();
    let on_episode = Box::new(move |episode| log.lock().unwrap().push(episode));
    (episodes, ServeOptions { on_episode: Some(on_episode), ..ServeOptions::default() })
}

#[test]
fn in_lockstep_the_bus_changes_nothing() {
    let robot = robot_file("observation", 10.0, &free_endpoint());
    let (episodes, options) = logged();
    let serving =
        Serving::start_with(&robot, &Behaviour::default(), ServeOptions { fan_samples: 3, ..options });
    let (report, actions) = run_robot(&robot, robot_options(3));
    let report = report.unwrap();
    let served = serving.end();

    let mut policy = Counting::new(&robot, &Behaviour::default());
    let task = |seed| (Point::new(&robot, 40) as Box<dyn Task>, seed);
    let mut tasks = [task(100), task(101), task(102)];
    let options = RolloutOptions::default();
    let (expected, _) =
        rollout(policy.as_mut(), &mut tasks, options, &Duration::default, &mut |_| {}).unwrap();
    let of = |episode: &Episode| episode.frames.iter().map(|frame| frame.action.clone()).collect::<Vec<_>>();
    assert_eq!(actions, expected.iter().map(of).collect::<Vec<_>>());
    for (episode, expected) in report.episodes.iter().zip(&expected) {
        assert_eq!((episode.score, Some(episode.seed)), (expected.score(), expected.seed));
        assert_eq!(episode.steps_without_command, 0);
    }
    // The controller's own log is the same episode, but for the rewards, which it cannot know.
    let logs = episodes.lock().unwrap();
    assert_eq!(logs.len(), 3);
    for (log, expected) in logs.iter().zip(&expected) {
        let seen = |episode: &Episode| {
            episode.frames.iter().map(|frame| frame.observation.clone()).collect::<Vec<_>>()
        };
        assert_eq!((of(log), seen(log), log.seed), (of(expected), seen(expected), expected.seed));
    }
    assert_eq!((served.commands, served.plans), (120, 15));
    assert!(served.counters.values().all(|count| count == 0), "{:?}", served.counters);
}

#[test]
fn at_the_clocks_pace_every_step_is_commanded_for_its_own_step() {
    let robot = robot_file("clock", 50.0, &free_endpoint());
    let serving = Serving::start(&robot, &Behaviour::default());
    let (report, actions) = run_robot(&robot, robot_options(2));
    let (report, served) = (report.unwrap(), serving.end());
    assert_eq!(report.episodes.len(), 2);
    let mut right = 0;
    for (episode, actions) in report.episodes.iter().zip(&actions) {
        assert_eq!(episode.steps, 40);
        right += actions.iter().enumerate().filter(|(step, action)| action.0[1] == *step as f64).count();
    }
    // A busy machine may cost a step here and there.
    assert!(right >= 60, "{right} of 80 commands were for their own step: {report:?}, {served:?}");
    assert!(served.timings_ms.tick_jitter.count >= 80);
}

#[test]
fn a_robot_whose_controller_dies_holds_and_ends_its_episode() {
    let robot = robot_file("clock", 50.0, &free_endpoint());
    let serving = Serving::start(&robot, &Behaviour::default());
    let stop = serving.stop.clone();
    let steps = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = steps.clone();
    let options = RobotOptions {
        on_step: Some(Box::new(move |_, _, _| {
            if counted.fetch_add(1, Ordering::Relaxed) == 15 {
                stop.store(true, Ordering::Relaxed);
            }
        })),
        ..robot_options(1)
    };
    let report = simulated_robot(Point::new(&robot, 60), &robot, options).unwrap();
    serving.thread.join().unwrap().unwrap();
    assert_eq!(report.episodes[0].steps, 60);
    assert!(report.episodes[0].steps_without_command >= 35, "{report:?}");
}

#[test]
fn a_lockstep_robot_whose_controller_dies_says_so() {
    let robot = robot_file("observation", 50.0, &free_endpoint());
    let serving = Serving::start(&robot, &Behaviour::default());
    let stop = serving.stop.clone();
    let options = RobotOptions {
        max_wait: Duration::from_secs(3),
        on_step: Some(Box::new(move |_, _, action| {
            if action.0[1] == 9.0 {
                stop.store(true, Ordering::Relaxed);
            }
        })),
        ..robot_options(1)
    };
    let error = simulated_robot(Point::new(&robot, 1_000_000), &robot, options).unwrap_err();
    assert!(matches!(error, RuntimeError::ControllerSilent { .. }), "{error}");
    serving.thread.join().unwrap().unwrap();
}

#[test]
fn a_robot_nobody_comes_to_and_a_controller_without_a_robot_say_so() {
    let robot = robot_file("clock", 10.0, &free_endpoint());
    let options = RobotOptions { max_wait: Duration::from_millis(100), ..robot_options(1) };
    let error = simulated_robot(Point::new(&robot, 5), &robot, options).unwrap_err();
    assert!(error.to_string().contains("nudge serve"), "{error}");
    let options = ServeOptions { max_wait: Some(Duration::from_millis(100)), ..ServeOptions::default() };
    let error =
        Serving::start_with(&robot, &Behaviour::default(), options).thread.join().unwrap().unwrap_err();
    assert!(matches!(error, RuntimeError::NoRobot { .. }), "{error}");
}

#[test]
fn slow_plans_are_asked_for_early_and_land_on_their_steps() {
    let robot = robot_file("clock", 20.0, &free_endpoint());
    let behaviour = Behaviour::default();
    *behaviour.delay.lock().unwrap() = Duration::from_millis(90);
    let serving = Serving::start(&robot, &behaviour);
    let (report, actions) = run_robot(&robot, robot_options(1));
    let (report, served) = (report.unwrap(), serving.end());
    // Once the first plan is there, plans of two periods leave no hole.
    let rest = &actions[0][8..];
    let right = rest.iter().zip(8..).filter(|(action, step)| action.0[1] == f64::from(*step)).count();
    assert!(right >= 26, "{right} of 32: {report:?}, {served:?}");
    let asked = behaviour.asked.lock().unwrap();
    assert!(asked.iter().any(|request| !request.committed.is_empty()));
    assert!(count(&served, "plan_used_up") <= 6, "{served:?}");
}

#[test]
fn an_alarm_is_counted_and_holds_where_the_robot_file_says_so() {
    for hold in [false, true] {
        let mut robot = robot_file("observation", 10.0, &free_endpoint());
        robot.hold_on_alarm = hold;
        // Any two samples of this policy differ.
        let alarm = Thresholds { spread: Some(0.0), inconsistency: None };
        let options = ServeOptions { samples: 3, alarm, ..ServeOptions::default() };
        let serving = Serving::start_with(&robot, &Behaviour::default(), options);
        let (report, actions) = run_robot(&robot, robot_options(1));
        report.unwrap();
        let served = serving.end();
        assert_eq!((served.commands, served.plans), (40, 5));
        assert_eq!(count(&served, "confidence_alarm"), 5);
        assert_eq!(count(&served, "policy_alarm"), if hold { 40 } else { 0 });
        // Held, the point stays where it began.
        assert_eq!(actions[0].iter().all(|action| action.0 == [1.0, -1.0]), hold);
    }
}
