//! Several robots on one policy: each is driven as if it were alone.
#![cfg(feature = "zenoh")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use common::{
    Behaviour, Counting, HORIZON, LONG, Point, RawRobot, count, free_endpoint, robot_file, robot_options,
    until,
};
use nudge_control::{Action, ActionChunk, Horizon, Interface, PlanRequest, Policy, PolicyError};
use nudge_runtime::{RobotFile, RuntimeError, ServeOptions, ServeReport, serve_fleet, simulated_robot};
use serde_json::json;

/// Robots that each have an endpoint of their own.
fn robots(pace: &str, number: usize) -> Vec<RobotFile> {
    (0..number).map(|_| robot_file(pace, 50.0, &free_endpoint())).collect()
}

type Reports = Result<Vec<Result<ServeReport, RuntimeError>>, RuntimeError>;

fn serve(policy: Box<dyn Policy>, robots: &[RobotFile]) -> (Arc<AtomicBool>, JoinHandle<Reports>) {
    let stop = Arc::new(AtomicBool::new(false));
    let options = || ServeOptions { stop: stop.clone(), max_wait: Some(LONG), ..ServeOptions::default() };
    let robots = robots.iter().map(|robot| (robot.clone(), options())).collect();
    let serving = std::thread::spawn(move || serve_fleet(policy, robots));
    (stop, serving)
}

/// What each robot executed in an episode of `steps` steps, with the policy served to all of them.
fn executed(robots: &[RobotFile], steps: usize) -> Vec<Vec<Action>> {
    let (stop, serving) = serve(Counting::new(&robots[0], &Behaviour::default()), robots);
    let running: Vec<JoinHandle<Vec<Action>>> = robots
        .iter()
        .cloned()
        .map(|robot| {
            std::thread::spawn(move || {
                let actions: Arc<Mutex<Vec<Action>>> = Arc::default();
                let taken = actions.clone();
                let mut options = robot_options(1);
                options.on_step =
                    Some(Box::new(move |_, _, action| taken.lock().unwrap().push(action.clone())));
                simulated_robot(Point::new(&robot, steps), &robot, options).unwrap();
                std::mem::take(&mut *actions.lock().unwrap())
            })
        })
        .collect();
    let executed = running.into_iter().map(|robot| robot.join().unwrap()).collect();
    stop.store(true, Ordering::Relaxed);
    serving.join().unwrap().unwrap().into_iter().for_each(|report| drop(report.unwrap()));
    executed
}

#[test]
fn each_robot_executes_what_it_would_alone() {
    let robots = robots("observation", 5);
    let together = executed(&robots, 60);
    let alone = executed(&robots[..1], 60);
    assert_eq!(together[0].len(), 60);
    assert!(together.iter().all(|actions| *actions == alone[0]));
}

/// Fails for a robot that is beyond 500, and counts how many are asked for at once.
struct Picky {
    counting: Box<Counting>,
    most: Arc<AtomicUsize>,
}

impl Policy for Picky {
    fn interface(&self) -> &Interface {
        self.counting.interface()
    }

    fn horizon(&self) -> Horizon {
        HORIZON
    }

    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        self.most.fetch_max(requests.len(), Ordering::Relaxed);
        if let Some(request) = requests.iter().position(|request| request.window.0[1].0[0] > 500.0) {
            return Err(PolicyError::BadRequest { request, problem: "too far".into() });
        }
        self.counting.predict(requests)
    }
}

#[test]
fn a_robot_whose_plans_fail_or_that_falls_silent_keeps_nobody_waiting() {
    let robots = robots("clock", 3);
    let (behaviour, most) = (Behaviour::default(), Arc::<AtomicUsize>::default());
    *behaviour.delay.lock().unwrap() = std::time::Duration::from_millis(5);
    let policy = Box::new(Picky { counting: Counting::new(&robots[0], &behaviour), most: most.clone() });
    let (stop, serving) = serve(policy, &robots);
    let raw: Vec<RawRobot> = robots.iter().map(RawRobot::open).collect();
    raw.iter().for_each(|robot| robot.reset(&json!({ "seed": 1, "episode": 0 })));
    // The first robot is where no plan is made, the second soon says nothing more, the third is sound.
    let (mut rounds, mut failed) = (0, false);
    let period = std::time::Duration::from_millis(20);
    raw[2].observe_until([1.0, 2.0], period, "the sound one to be driven", || {
        rounds += 1;
        raw[0].observe([900.0, 0.0]);
        if rounds < 100 {
            raw[1].observe([1.0, 0.0]);
        }
        failed |= raw[0].status()["reason"].to_string().contains("too far");
        failed && raw[2].commands_heard() > 150
    });
    until("the silent one to be held", || raw[1].status()["reason"] == "observation_stale");
    stop.store(true, Ordering::Relaxed);
    let reports: Vec<ServeReport> =
        serving.join().unwrap().unwrap().into_iter().map(Result::unwrap).collect();
    assert!(count(&reports[0], "plan_failed") > 0);
    let late = count(&reports[2], "plan_used_up") + count(&reports[2], "planner_failed");
    assert!(late <= 5, "the sound one was late in {late} of {} ticks", reports[2].commands);
    assert!(most.load(Ordering::Relaxed) > 1, "plans are made together");
}

#[test]
fn a_robot_that_is_refused_leaves_the_others_driven() {
    let mut robots = robots("observation", 2);
    let behaviour = Behaviour::default();
    let policy = Counting::new(&robots[0], &behaviour);
    robots[1].observation[1].unit = "s".into();
    let (stop, serving) = serve(policy, &robots);
    let report = simulated_robot(Point::new(&robots[0], 30), &robots[0], robot_options(1)).unwrap();
    assert_eq!(report.episodes[0].steps, 30);
    stop.store(true, Ordering::Relaxed);
    let reports = serving.join().unwrap().unwrap();
    assert!(reports[0].is_ok());
    assert!(matches!(reports[1], Err(RuntimeError::FileDiffers { .. })));
}
