//! Commands at a higher rate than the policy's, over real zenoh on loopback.
#![cfg(feature = "zenoh")]

mod common;

use std::time::Duration;

use common::{Behaviour, RawRobot, Serving, count, fast_robot_file, free_endpoint, until};
use serde_json::json;

const TICK: Duration = Duration::from_millis(50);

#[test]
fn a_plan_at_20_hz_is_commanded_at_200_hz_held_when_nobody_is_seen_and_stopped_at_once() {
    let robot = fast_robot_file(&free_endpoint());
    let raw = RawRobot::open(&robot);
    let serving = Serving::start(&robot, &Behaviour::default());
    raw.reset(&json!({ "seed": 5, "episode": 0 }));
    raw.observe_until([1.0, 0.0], TICK, "commands at 200 Hz", || raw.commands_heard() > 200);
    let heard = raw.commands.lock().unwrap().clone();
    let secs = (heard[199].at - heard[0].at).as_secs_f64();
    assert!(secs < 5.0, "200 commands took {secs} s, and at the policy's rate would take 10");
    // In order, and each a step of its own: 5 ms at the greatest speed.
    for pair in heard.windows(2) {
        assert!(pair[1].sequence > pair[0].sequence);
        let skipped = (pair[1].sequence - pair[0].sequence) as f64;
        for (before, after) in pair[0].values.iter().zip(&pair[1].values) {
            assert!((after - before).abs() <= 2.0 * skipped + 1e-9, "{pair:?}");
        }
    }
    until("holding", || raw.state() == "Hold");
    assert_eq!(raw.status()["reason"], "observation_stale");
    until("rest", || {
        let heard = raw.commands.lock().unwrap();
        heard.windows(2).last().is_some_and(|pair| pair[0].values == pair[1].values)
    });
    until("stopped", || {
        raw.estop(1);
        raw.state() == "Stopped"
    });
    let silent_from = raw.commands_heard();
    assert!(raw.call("rpc/release", &json!({}))["error"].is_string());
    let mut seen = 0;
    raw.observe_until([1.0, 2.0], TICK, "observing", || {
        seen += 1;
        seen > 100
    });
    assert_eq!(raw.commands_heard(), silent_from);
    raw.observe_until([1.0, 2.0], TICK, "released", || {
        raw.call("rpc/release", &json!({}))["ok"] == json!(true)
    });
    raw.observe_until([1.0, 2.0], TICK, "commands", || raw.commands_heard() > silent_from + 50);
    let report = serving.end();
    assert!(count(&report, "observation_stale") > 0 && report.commands > 250, "{report:?}");
    assert!(report.timings_ms.tick_jitter.count >= report.commands, "{report:?}");
}
