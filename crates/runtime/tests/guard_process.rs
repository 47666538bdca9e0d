//! A controller, a guard and a robot on real zenoh: the robot is held whatever becomes of the controller.
#![cfg(feature = "zenoh")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{
    Behaviour, LONG, PREFIX, RawRobot, Serving, credentials, fast_robot_file, free_endpoint, secure_endpoint,
    until,
};
use nudge_runtime::{GuardOptions, GuardReport, RobotFile, RuntimeError, ServeOptions, guard_robot};
use serde_json::json;

const TICK: Duration = Duration::from_millis(20);

/// The robot, and the same as the controller finds it behind the guard.
fn robots() -> (RobotFile, RobotFile) {
    let robot = fast_robot_file(&free_endpoint());
    let mut guarded = robot.clone();
    guarded.prefix = format!("{PREFIX}/guarded");
    guarded.session.controller.connect = vec![free_endpoint()];
    (robot, guarded)
}

struct Guarding {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<GuardReport, RuntimeError>>,
}

impl Guarding {
    fn start(robot: &RobotFile, guarded: &RobotFile) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let options = GuardOptions {
            prefix: Some(guarded.prefix.clone()),
            listen: guarded.session.controller.connect[0].clone(),
            stop: stop.clone(),
            max_wait: Some(LONG),
            ..GuardOptions::default()
        };
        let robot = robot.clone();
        Self { stop, thread: std::thread::spawn(move || guard_robot(robot, options)) }
    }

    fn end(self) -> GuardReport {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap()
    }
}

#[test]
fn a_guard_lets_in_whom_the_robot_would() {
    for kind in ["lab", "plant"] {
        let Some(folder) = credentials(kind) else { return };
        let file = |user: &str| folder.path().join(kind).join(format!("{user}.json5"));
        let mut robot = fast_robot_file(&secure_endpoint(kind));
        robot.session.robot.config = Some(file("robot"));
        robot.session.controller.secure_with(file("controller"));
        let mut guarded = robot.clone();
        guarded.prefix = format!("{PREFIX}/guarded");
        guarded.session.controller.connect = vec![secure_endpoint(kind)];
        let raw = RawRobot::open(&robot);
        let guarding = Guarding::start(&robot, &guarded);

        let mut stranger = guarded.clone();
        stranger.session.controller.config = None;
        let options = ServeOptions {
            max_wait: Some(Duration::from_secs(1)),
            duration: Some(Duration::from_secs(3)),
            ..ServeOptions::default()
        };
        let serving = Serving::start_with(&stranger, &Behaviour::default(), options);
        assert!(serving.thread.join().unwrap().is_err(), "{kind}: a stranger drives");
        assert_eq!(raw.commands_heard(), 0, "{kind}");

        let serving = Serving::start(&guarded, &Behaviour::default());
        raw.reset(&json!({ "seed": 5, "episode": 0 }));
        raw.observe_until([1.0, 0.0], TICK, "running", || raw.state() == "Run" && raw.commands_heard() > 100);
        serving.end();
        guarding.end();
    }
}

fn is_at_rest(raw: &RawRobot) -> bool {
    let heard = raw.commands.lock().unwrap();
    heard.len() > 3 && heard[heard.len() - 3..].windows(2).all(|pair| pair[0].values == pair[1].values)
}

#[test]
fn a_robot_is_held_when_its_controller_is_gone_and_goes_on_with_the_next_one() {
    let (robot, guarded) = robots();
    let raw = RawRobot::open(&robot);
    let guarding = Guarding::start(&robot, &guarded);
    let serving = Serving::start(&guarded, &Behaviour::default());
    raw.reset(&json!({ "seed": 5, "episode": 0 }));
    raw.observe_until([1.0, 0.0], TICK, "running", || raw.state() == "Run" && raw.commands_heard() > 100);
    serving.end();
    raw.observe_until([1.0, 0.0], TICK, "holding", || raw.state() == "Hold" && is_at_rest(&raw));
    assert_eq!(raw.status()["reason"], "plan_used_up");
    let held = raw.last_command().unwrap();
    let more = raw.commands_heard() + 50;
    raw.observe_until([1.0, 0.0], TICK, "still commanded", || raw.commands_heard() > more);
    assert_eq!(raw.last_command().unwrap().values, held.values);

    let serving = Serving::start(&guarded, &Behaviour::default());
    raw.observe_until([1.0, 0.0], TICK, "running again", || raw.state() == "Run");
    serving.end();
    let report = guarding.end();
    assert!(report.commands > 200 && report.timings_ms.guard.count >= report.commands, "{report:?}");
}

#[test]
fn a_stop_from_either_side_latches_in_the_guard() {
    let (robot, guarded) = robots();
    let raw = RawRobot::open(&robot);
    let guarding = Guarding::start(&robot, &guarded);
    let serving = Serving::start(&guarded, &Behaviour::default());
    raw.reset(&json!({ "seed": 5, "episode": 0 }));
    raw.observe_until([1.0, 0.0], TICK, "running", || raw.state() == "Run");
    until("stopped", || {
        raw.estop(1);
        raw.state() == "Stopped"
    });
    // Commands that were on their way have come.
    let mut seen = 0;
    raw.observe_until([1.0, 0.0], TICK, "observing", || {
        seen += 1;
        seen > 200
    });
    let silent_from = raw.commands_heard();
    raw.observe_until([1.0, 0.0], TICK, "observing on", || {
        seen += 1;
        seen > 500
    });
    assert_eq!((raw.commands_heard(), raw.state()), (silent_from, "Stopped".into()));
    raw.observe_until([1.0, 0.0], TICK, "released", || {
        raw.call("rpc/release", &json!({}))["ok"] == json!(true)
    });
    raw.observe_until([1.0, 0.0], TICK, "held", || raw.commands_heard() > silent_from);
    serving.end();
    guarding.end();
}
