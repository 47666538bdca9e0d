//! The bus side of an end: heartbeat, status and remote calls, on tokio.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;
use nudge_wire::{Message as _, Text};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use zenoh::query::Queryable;

use crate::RuntimeError;
use crate::bus::{Bus, Outlet, Question};
use crate::events::Event;
use crate::guard::LogLine;
use crate::status::Snapshot;

const HEARTBEAT_PERIOD: Duration = Duration::from_millis(50);
const STATUS_PERIOD: Duration = Duration::from_secs(1);
/// Calls that may wait; more are left unanswered.
const CALLS_WAITING: usize = 16;

/// The newest status as JSON, for whoever asks.
pub(crate) type LatestStatus = Arc<Mutex<String>>;

/// Sends heartbeats, and the status every second and at each change, until the sender of snapshots is gone.
pub(crate) async fn run(
    role: &'static str,
    bus: &Bus,
    (heartbeat, status): (&Outlet, &Outlet),
    latest: &LatestStatus,
    mut snapshots: mpsc::Receiver<Snapshot>,
) {
    let mut beat = interval(HEARTBEAT_PERIOD);
    let mut second = interval(STATUS_PERIOD);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut now = Snapshot::initial();
    let publish = |snapshot: &Snapshot| {
        let text = status_json(role, snapshot, bus);
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = text.clone();
        status.send(text.into_bytes());
    };
    loop {
        tokio::select! {
            _ = beat.tick() => {
                heartbeat.send(Text(role.to_owned()).encode());
            }
            _ = second.tick() => publish(&now),
            snapshot = snapshots.recv() => {
                let Some(snapshot) = snapshot else { return };
                let changed = (now.state, &now.reason) != (snapshot.state, &snapshot.reason);
                now = snapshot;
                if changed {
                    publish(&now);
                }
            }
        }
    }
}

fn status_json(role: &str, snapshot: &Snapshot, bus: &Bus) -> String {
    let counters: serde_json::Map<_, _> = snapshot
        .counters
        .iter()
        .copied()
        .chain(bus.counters.iter())
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    let line = |line: &LogLine| {
        let happens = if line.begins { "begins" } else { "ends" };
        format!("{:.3} s: {} {happens}", line.at.as_secs_f64(), line.rule.name())
    };
    let log: Vec<_> = snapshot.log.iter().map(line).collect();
    let status = json!({
        "role": role,
        "state": snapshot.state,
        "reason": snapshot.reason,
        "counters": counters,
        "log": log,
        "timings_ms": snapshot.timings,
        "confidence": snapshot.confidence,
    });
    status.to_string()
}

/// Answers `rpc/describe` and `ctl/status`.
pub(crate) fn answer_questions(
    bus: &Bus,
    description: String,
    latest: &LatestStatus,
) -> Result<[Queryable<()>; 2], RuntimeError> {
    let describe = bus.answer("rpc/describe", move |question| question.reply(&description))?;
    let latest = latest.clone();
    let newest = move |question: Question| {
        let text = latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        question.reply(&text);
    };
    Ok([describe, bus.answer("ctl/status", newest)?])
}

/// What `rpc/reset` carries.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct ResetCall {
    #[serde(default)]
    seed: Option<u64>,
    #[serde(default)]
    episode: u64,
}

/// Answers `rpc/reset` and `rpc/release` with what the control loop says; the calls are taken on `runtime`. `begin` drops
/// what was observed before the episode and queues its beginning; false when there is no room.
pub(crate) fn answer_calls(
    bus: &Bus,
    runtime: &tokio::runtime::Handle,
    begin: impl Fn(Event) -> bool + Send + Sync + 'static,
    events: &Sender<Event>,
) -> Result<[Queryable<()>; 2], RuntimeError> {
    let reset = move |question: &Question| {
        let call = parse_reset(&question.payload())?;
        let (answer, answered) = oneshot::channel();
        let event = Event::Reset { seed: call.seed, episode: call.episode, answer };
        if begin(event) { Ok(answered) } else { Err(BUSY.to_owned()) }
    };
    let release_events = events.clone();
    let release = move |_: &Question| {
        let (answer, answered) = oneshot::channel();
        release_events.try_send(Event::Release { answer }).map_err(|_| BUSY.to_owned())?;
        Ok(answered)
    };
    Ok([
        bus.answer("rpc/reset", call_on(runtime, reset))?,
        bus.answer("rpc/release", call_on(runtime, release))?,
    ])
}

const BUSY: &str = "the control loop has too much to do: try again";

type Asked = Result<oneshot::Receiver<Result<(), String>>, String>;

/// Makes a callback that asks the control loop in order and answers when it has.
fn call_on(
    runtime: &tokio::runtime::Handle,
    ask: impl Fn(&Question) -> Asked + Send + Sync + 'static,
) -> impl Fn(Question) + Send + Sync + 'static {
    let (calls, mut waiting) = mpsc::channel::<Question>(CALLS_WAITING);
    runtime.spawn(async move {
        while let Some(question) = waiting.recv().await {
            let outcome = match ask(&question) {
                Ok(answered) => answered.await.unwrap_or_else(|_| Err("the controller is ending".into())),
                Err(problem) => Err(problem),
            };
            let reply = match outcome {
                Ok(()) => json!({ "ok": true }),
                Err(problem) => json!({ "error": problem }),
            };
            question.reply(&reply.to_string());
        }
    });
    move |question| drop(calls.try_send(question))
}

fn parse_reset(payload: &[u8]) -> Result<ResetCall, String> {
    if payload.is_empty() {
        return Ok(ResetCall::default());
    }
    serde_json::from_slice(payload)
        .map_err(|error| format!("a reset is {{\"seed\": int or null, \"episode\": int}}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_says_its_seed_or_not() {
        let call = |seed, episode| Ok(ResetCall { seed, episode });
        assert_eq!(parse_reset(b""), call(None, 0));
        assert_eq!(parse_reset(br#"{"seed": null, "episode": 3}"#), call(None, 3));
        assert_eq!(parse_reset(br#"{"seed": 100000, "episode": 0, "more": 1}"#), call(Some(100_000), 0));
        for bad in ["{", "[]x", r#"{"seed": -1}"#, r#"{"seed": 1.5}"#, r#"{"seed": "1"}"#] {
            assert!(parse_reset(bad.as_bytes()).unwrap_err().contains("a reset is"));
        }
    }
}
