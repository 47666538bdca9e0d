//! What must never happen, over real zenoh on loopback, with a robot that sends whatever it likes.
#![cfg(feature = "zenoh")]

mod common;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{
    Behaviour, PREFIX, RawRobot, Serving, array, attachment, count, description, free_endpoint, robot_file,
    until,
};
use nudge_runtime::RuntimeError;
use serde_json::json;

const TICK: Duration = Duration::from_millis(20);

fn clock() -> (nudge_runtime::RobotFile, RawRobot, Behaviour, Serving) {
    start("clock")
}

/// A raw robot that was reset, and a controller that drives it.
fn start(pace: &str) -> (nudge_runtime::RobotFile, RawRobot, Behaviour, Serving) {
    let robot = robot_file(pace, 50.0, &free_endpoint());
    let (raw, behaviour) = (RawRobot::open(&robot), Behaviour::default());
    let serving = Serving::start(&robot, &behaviour);
    raw.reset(&json!({ "seed": 5, "episode": 0 }));
    (robot, raw, behaviour, serving)
}

/// Sends an observation and gives the command that answers it in lockstep.
fn exchange(raw: &RawRobot, place: [f64; 2]) -> Vec<f64> {
    let sequence = raw.observe(place);
    until("the command", || raw.last_command().is_some_and(|command| command.sequence == sequence));
    raw.last_command().unwrap().values
}

#[test]
fn an_emergency_stop_latches_until_it_is_released_with_fresh_observations() {
    for pace in ["clock", "observation"] {
        let (_, raw, _, serving) = start(pace);
        raw.observe_until([1.0, 2.0], TICK, "running", || raw.commands_heard() > 5);
        until("stopped", || {
            raw.estop(1);
            raw.state() == "Stopped"
        });
        assert_eq!(raw.status()["reason"], "emergency_stop");
        // Neither a false, nor what is no truth value, nor a release without observations, nor a reset releases.
        raw.estop(0);
        raw.estop(7);
        raw.put("ctl/estop", vec![9], Some(raw.attachment(2)));
        assert!(raw.call("rpc/reset", &json!({ "seed": 6, "episode": 1 }))["error"].is_string());
        assert!(raw.call("rpc/release", &json!({}))["error"].is_string());
        let silent_from = raw.commands_heard();
        let mut seen = 0;
        raw.observe_until([1.0, 2.0], TICK, "observing", || {
            seen += 1;
            seen > 200
        });
        assert_eq!((raw.commands_heard(), raw.state()), (silent_from, "Stopped".into()), "{pace}");
        raw.observe_until([1.0, 2.0], TICK, "released", || {
            raw.call("rpc/release", &json!({}))["ok"] == json!(true)
        });
        raw.observe_until([1.0, 2.0], TICK, "running again", || raw.commands_heard() > silent_from + 5);
        let report = serving.end();
        assert!(count(&report, "payload_refused") >= 2, "{report:?}");
    }
}

#[test]
fn an_emergency_stop_before_anything_was_observed_latches_too() {
    for pace in ["clock", "observation"] {
        let (_, raw, _, serving) = start(pace);
        raw.estop(1);
        until("stopped", || raw.state() == "Stopped");
        raw.observe([0.0; 2]);
        raw.observe_until([0.0; 2], TICK, "released", || {
            raw.call("rpc/release", &json!({}))["ok"] == json!(true)
        });
        assert_eq!(raw.commands_heard(), 0);
        raw.observe_until([0.0; 2], TICK, "commands", || raw.commands_heard() > 0);
        serving.end();
    }
}

#[test]
fn a_publisher_that_stops_is_held_within_the_limit_and_resumes_after_three_observations() {
    let (_, raw, _, serving) = clock();
    raw.observe_until([1.0, 2.0], TICK, "running", || raw.state() == "Run");
    raw.observe([3.0, 4.0]);
    let last = Instant::now();
    until("holding", || raw.last_command().is_some_and(|command| command.values == [3.0, 4.0]));
    // Stale after 100 ms, noticed a tick later; the rest is the machine.
    let held_after = raw.last_command().unwrap().at - last;
    assert!(held_after < Duration::from_millis(300), "held after {held_after:?}");
    until("the status", || raw.status()["reason"] == "observation_stale");
    // While it holds it keeps commanding that place.
    let holding = raw.commands_heard();
    until("more of it", || raw.commands_heard() > holding + 3);
    assert_eq!(raw.last_command().unwrap().values, [3.0, 4.0]);
    raw.observe_until([5.0, 6.0], TICK, "running again", || raw.state() == "Run");
    assert!(count(&serving.end(), "awaiting_fresh_observations") > 0);
}

#[test]
fn what_is_not_finite_is_never_planned_from() {
    let (_, raw, behaviour, serving) = start("observation");
    exchange(&raw, [1.0, 2.0]);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let asked = behaviour.asked.lock().unwrap().len();
        assert_eq!(exchange(&raw, [bad, 2.0]), [1.0, 2.0]);
        assert_eq!(behaviour.asked.lock().unwrap().len(), asked);
        until("the status", || raw.status()["reason"] == "observation_not_finite");
        let command = exchange(&raw, [1.0, 2.0]);
        assert!((2.0..2.1).contains(&command[0]), "{command:?}");
    }
    assert_eq!(count(&serving.end(), "observation_not_finite"), 3);
    let (_, raw, _, serving) = clock();
    raw.observe_until([1.0, 2.0], TICK, "running", || raw.state() == "Run");
    raw.observe_until([f64::NAN, 2.0], TICK, "holding", || raw.state() == "Hold");
    raw.observe_until([1.0, 2.0], TICK, "running again", || raw.state() == "Run");
    assert!(count(&serving.end(), "observation_not_finite") > 0);
}

#[test]
fn a_policy_that_fails_or_panics_holds_and_the_process_lives() {
    for pace in ["clock", "observation"] {
        let (_, raw, behaviour, serving) = start(pace);
        for (fault, text) in [(&behaviour.fail, "told to fail"), (&behaviour.panic, "told to panic")] {
            fault.store(true, Ordering::Relaxed);
            let told = || raw.status()["reason"].as_str().unwrap_or_default().contains(text);
            raw.observe_until([1.0, 2.0], TICK, "holding", || told() && raw.state() == "Hold");
            assert_eq!(raw.last_command().unwrap().values, [1.0, 2.0]);
            fault.store(false, Ordering::Relaxed);
            raw.observe_until([1.0, 2.0], TICK, "running", || raw.state() == "Run");
        }
        assert!(count(&serving.end(), "plan_failed") >= 2);
    }
}

#[test]
fn a_robot_that_differs_is_refused_with_the_reason() {
    let robot = robot_file("clock", 50.0, &free_endpoint());
    let cases = [
        ("/interface/observation/0/shape", json!([3]), "`place`"),
        ("/interface/observation/0/unit", json!("mm"), "`place`"),
        ("/interface/observation/1/name", json!("clock"), "`time`"),
        ("/interface/control_hz", json!(20.0), "20 Hz"),
        ("/interface/action/0/mode", json!("delta"), "`place`"),
        ("/interface/action/0/limits/low", json!([0.0]), "limits"),
        ("/interface/action/0/limits/low", json!([1000.5, 0.0]), "limits"),
        ("/pace", json!("observation"), "pace"),
        ("/protocol", json!(2), "protocol"),
        ("/interface", json!(7), "description"),
    ];
    for (place, value, reason) in cases {
        let mut differing = description(&robot);
        *differing.pointer_mut(place).unwrap() = value;
        let mut robot = robot.clone();
        let endpoint = free_endpoint();
        robot.session.robot.listen = vec![endpoint.clone()];
        robot.session.controller.connect = vec![endpoint];
        let _raw = RawRobot::describing(&robot, differing);
        let error = Serving::start(&robot, &Behaviour::default()).thread.join().unwrap().unwrap_err();
        assert!(error.to_string().contains(reason), "{place}: {error}");
    }
}

#[test]
fn a_policy_that_the_robot_file_does_not_fit_is_refused_before_the_bus() {
    let robot = robot_file("clock", 50.0, &free_endpoint());
    let mut other = robot.clone();
    other.observation[1].unit = "s".into();
    let policy = common::Counting::new(&robot, &Behaviour::default());
    let error = nudge_runtime::serve(policy, other, Default::default()).unwrap_err();
    assert!(error.to_string().contains("`time`"), "{error}");
}

#[test]
fn a_second_controller_refuses_and_the_first_stays() {
    let (robot, raw, behaviour, serving) = clock();
    raw.observe_until([1.0, 2.0], TICK, "running", || raw.state() == "Run");
    let second = Serving::start(&robot, &behaviour);
    let mut ended = false;
    raw.observe_until([1.0, 2.0], TICK, "the second's end", || {
        ended |= second.thread.is_finished();
        ended
    });
    let error = second.thread.join().unwrap().unwrap_err();
    assert!(matches!(error, RuntimeError::SecondController { .. }), "{error}");
    raw.observe_until([1.0, 2.0], TICK, "still running", || raw.state() == "Run");
    serving.end();
}

#[test]
fn of_two_controllers_that_start_together_at_most_one_stays() {
    let robot = robot_file("clock", 50.0, &free_endpoint());
    let raw = RawRobot::open(&robot);
    let both = [0, 1].map(|_| Serving::start(&robot, &Behaviour::default()));
    raw.observe_until([1.0, 2.0], TICK, "one's end", || both.iter().any(|one| one.thread.is_finished()));
    let mut ended = 0;
    for one in both {
        one.stop.store(true, Ordering::Relaxed);
        let outcome = one.thread.join().unwrap();
        ended += usize::from(matches!(outcome, Err(RuntimeError::SecondController { .. })));
    }
    assert!(ended >= 1);
}

#[test]
fn shuffled_and_repeated_sequences_are_taken_once_and_in_order() {
    let (_, raw, behaviour, serving) = start("observation");
    // Parts of 1..=8 in a wild order: 8 completes first and makes the others worthless.
    let mut parts: Vec<(i64, &str)> =
        (1..=7).flat_map(|sequence| [(sequence, "obs/place"), (sequence, "obs/time")]).collect();
    parts.rotate_left(5);
    parts.swap(1, 8);
    raw.observe_as(8, [0.0; 2]);
    until("the answer", || raw.commands_heard() == 1);
    for (sequence, key) in parts {
        let values: &[f64] = if key == "obs/place" { &[0.0, 0.0] } else { &[0.0] };
        raw.put(key, array(values), Some(raw.attachment(sequence)));
    }
    // The same again, whole: the same command, without planning.
    let asked = behaviour.asked.lock().unwrap().len();
    for _ in 0..3 {
        let heard = raw.commands_heard();
        raw.observe_as(8, [0.0; 2]);
        until("the same answer", || raw.commands_heard() > heard);
    }
    let commands = raw.commands.lock().unwrap().clone();
    assert_eq!(commands.len(), 4);
    assert!(commands.iter().all(|command| command.sequence == 8 && command.values == commands[0].values));
    assert_eq!(behaviour.asked.lock().unwrap().len(), asked);
    let report = serving.end();
    assert_eq!(count(&report, "sequence_old"), 14);
    assert_eq!((report.commands, report.plans), (1, 1));
}

#[test]
fn a_resent_part_completes_an_observation() {
    let (_, raw, _, serving) = start("observation");
    raw.put("obs/place", array(&[1.0, 2.0]), Some(raw.attachment(1)));
    raw.put("obs/place", array(&[1.0, 2.0]), Some(raw.attachment(1)));
    raw.put("obs/time", array(&[0.0]), Some(raw.attachment(1)));
    until("the answer", || raw.last_command().is_some_and(|command| command.sequence == 1));
    assert_eq!(count(&serving.end(), "part_repeated"), 1);
}

#[test]
fn malformed_messages_are_counted_and_change_nothing() {
    let (_, raw, _, serving) = start("observation");
    exchange(&raw, [1.0, 2.0]);
    let good = array(&[1.0, 2.0]);
    let attached = raw.attachment(1000);
    // Attachments: none, cut at every length, too long, another gid length.
    raw.put("obs/place", good.clone(), None);
    for length in 0..33 {
        raw.put("obs/place", good.clone(), Some(attached[..length].to_vec()));
    }
    raw.put("obs/place", good.clone(), Some([attached.clone(), vec![0]].concat()));
    let mut other_gid = attached.clone();
    other_gid[16] = 15;
    raw.put("obs/place", good.clone(), Some(other_gid));
    // Payloads: cut at every length, big endian, a length that lies, trailing bytes.
    for length in 0..good.len() {
        raw.put("obs/place", good[..length].to_vec(), Some(attached.clone()));
    }
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    for bytes in [changed(1, 0), changed(15, 0xff), changed(8, 1), [good.clone(), vec![0; 4]].concat()] {
        raw.put("obs/place", bytes, Some(attached.clone()));
    }
    // Three numbers for two, another process, an encoding that contradicts.
    raw.put("obs/place", array(&[1.0, 2.0, 3.0]), Some(attached.clone()));
    raw.put("obs/place", good.clone(), Some(attachment(1000, [9; 16])));
    let contradicting = raw.session.put(format!("{PREFIX}/obs/place"), good.clone());
    zenoh::Wait::wait(contradicting.encoding("application/cdr;std_msgs/msg/Bool").attachment(attached))
        .unwrap();
    // None of them completed or began an observation: 1000 would make the next ones old.
    let command = exchange(&raw, [1.0, 2.0]);
    assert_eq!(command.len(), 2);
    let report = serving.end();
    assert_eq!(count(&report, "attachment_refused"), 36);
    assert_eq!(count(&report, "payload_refused"), good.len() as u64 + 4);
    assert_eq!(count(&report, "shape_refused"), 1);
    assert_eq!(count(&report, "foreign_publisher"), 1);
    assert_eq!(count(&report, "encoding_refused"), 1);
}

#[test]
fn a_plan_that_is_late_holds_and_then_begins_at_the_step_that_is_due() {
    let (_, raw, behaviour, serving) = clock();
    *behaviour.delay.lock().unwrap() = TICK * 7 / 2;
    // Each command says which step it is for: in a run the steps count up, and holds repeat the place.
    raw.observe_until([500.0, -7.0], TICK, "plans", || {
        raw.commands.lock().unwrap().iter().filter(|command| command.values[1] != -7.0).count() > 20
    });
    let commands = raw.commands.lock().unwrap().clone();
    assert_eq!(commands[0].values, [500.0, -7.0], "held until the first plan came");
    let mut before: Option<(i64, f64)> = None;
    for command in commands.iter().filter(|command| command.values[1] != -7.0) {
        let step = command.values[1];
        assert!(step >= 3.0, "the first three steps had passed when the first plan came: {command:?}");
        if let Some((sequence, last)) = before {
            assert_eq!(command.sequence - sequence, (step - last) as i64, "a step a command: {commands:?}");
        }
        before = Some((command.sequence, step));
    }
    serving.end();
}

#[test]
fn a_restarted_robot_is_followed_from_a_hold_and_only_after_fresh_observations() {
    let (_, mut raw, _, serving) = clock();
    raw.observe_until([1.0, 2.0], TICK, "running", || raw.state() == "Run");
    until("holding", || raw.state() == "Hold");
    raw.gid = [8; 16];
    raw.observe_until([900.0, 2.0], TICK, "running", || raw.state() == "Run");
    let report = serving.end();
    assert_eq!(count(&report, "publisher_replaced"), 1);
    assert!(count(&report, "awaiting_fresh_observations") > 0);
}

#[test]
fn an_episode_drops_what_was_before_it() {
    let (_, raw, behaviour, serving) = start("observation");
    for _ in 0..5 {
        exchange(&raw, [1.0, 2.0]);
    }
    raw.reset(&json!({ "seed": 5, "episode": 1 }));
    exchange(&raw, [1.0, 2.0]);
    raw.reset(&json!({ "seed": null, "episode": 2 }));
    exchange(&raw, [1.0, 2.0]);
    let asked = behaviour.asked.lock().unwrap().clone();
    let seeds: Vec<u64> = asked.iter().map(|request| request.noise_seed).collect();
    assert_eq!(asked.iter().map(|request| request.step).collect::<Vec<_>>(), [0, 0, 0]);
    assert!(seeds[0] == seeds[1] && seeds[0] != seeds[2], "the seed is the robot's, where it gives one");
    for bad in [json!({ "seed": -1 }), json!(7), json!({ "episode": "one" })] {
        assert!(raw.call("rpc/reset", &bad)["error"].as_str().unwrap().contains("a reset is"));
    }
    serving.end();
}
