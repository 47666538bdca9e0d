//! Commands at a higher rate than the policy's, over real zenoh on loopback.
#![cfg(feature = "zenoh")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nudge_runtime::{Guard, GuardConfig, GuardEvent, GuardInput, ServeOptions, State};

use common::{Behaviour, RawRobot, Serving, count, fast_robot_file, free_endpoint, until};
use serde_json::json;

const TICK: Duration = Duration::from_millis(50);

#[test]
fn a_plan_at_20_hz_is_commanded_at_200_hz_held_when_nobody_is_seen_and_stopped_at_once() {
    let robot = fast_robot_file(&free_endpoint());
    let raw = RawRobot::open(&robot);
    let witness = Witness::default();
    let options = ServeOptions { on_guard: Some(witness.on_guard()), ..ServeOptions::default() };
    let serving = Serving::start_with(&robot, &Behaviour::default(), options);
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
    assert_eq!(count(&report, "record_dropped"), 0);
    witness.check(report.commands);
}

/// Told of a verdict: state, reason and the bits of the command.
type Answer = (State, Option<&'static str>, Option<Vec<u64>>);

/// What the guard was built from and told, and what it answered.
#[derive(Default)]
struct Shown {
    config: Option<GuardConfig>,
    inputs: Vec<(GuardInput<'static>, Option<Answer>)>,
}

#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Shown>>);

impl Witness {
    fn on_guard(&self) -> nudge_runtime::OnGuard {
        let shown = self.0.clone();
        Box::new(move |config| {
            shown.lock().unwrap().config = Some(config.clone());
            Box::new(move |event| match event {
                GuardEvent::Told(input, verdict) => {
                    shown.lock().unwrap().inputs.push((input.to_static(), verdict.map(answer)));
                }
                GuardEvent::Lost(events) => panic!("{events} were lost"),
            })
        })
    }

    /// A guard that is told the same answers the same, bit for bit.
    fn check(&self, commands: u64) {
        let shown = self.0.lock().unwrap();
        let mut guard = Guard::with(shown.config.clone().unwrap());
        let mut sent = 0;
        for (index, (input, answered)) in shown.inputs.iter().enumerate() {
            assert_eq!(guard.apply(input).map(answer), *answered, "input {index}");
            sent += u64::from(answered.as_ref().is_some_and(|(_, _, command)| command.is_some()));
        }
        // The thread may have gone on after the report.
        assert!(sent >= commands, "{sent} commands shown, {commands} sent");
        assert!(shown.inputs.iter().any(|(input, _)| matches!(input, GuardInput::Release { .. })));
    }
}

fn answer(verdict: nudge_runtime::Verdict<'_>) -> Answer {
    let bits = |command: &[f64]| command.iter().map(|value| value.to_bits()).collect();
    (verdict.state, verdict.reason.map(|rule| rule.name()), verdict.command.map(bits))
}
