use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::sync::Mutex;
use std::time::Instant;

use nudge_control::{ActionFeature, Feature, FeatureKind, Limits, Shape};
use rerun::external::re_log_encoding::DecoderApp;
use rerun::log::{Chunk, LogMsg};
use rerun::sink::CallbackSink;
use rerun::{EntityPath, StoreKind, TimelineName};

use super::*;

fn options() -> ViewOptions {
    let action = ActionFeature {
        name: "action".into(),
        kind: FeatureKind::Vector,
        shape: vec![2],
        unit: "px".into(),
        mode: ActionMode::Absolute,
        limits: Limits { low: vec![0.0; 2], high: vec![512.0; 2] },
    };
    let observation = vec![Feature::vector("observation.state", 2, "px")];
    ViewOptions::new("push_t", Interface { observation, action: vec![action], control_hz: 10.0 })
}

fn world() -> Scene {
    let corners = vec![[100.0, 100.0], [220.0, 100.0], [160.0, 180.0]];
    let shapes = vec![
        Shape::Polygon { name: "block", corners, rgba: [119, 136, 153, 255] },
        Shape::Circle { name: "agent", center: [300.0, 200.0], radius: 15.0, rgba: [65, 105, 225, 255] },
        Shape::Line { name: "trace", points: vec![[0.0, 0.0], [9.0, 9.0]], width: 2.0, rgba: [9; 4] },
    ];
    Scene { size: [512.0; 2], shapes }
}

fn chunk(first_step: u64, start: f64) -> ActionChunk {
    let actions = (0..8).map(|i| Action(vec![start + f64::from(i) * 5.0, 200.0])).collect();
    ActionChunk { first_step, actions }
}

/// Two episodes of four steps, with every kind of update in every step.
fn show(view: &View) -> u64 {
    for episode in 0..2 {
        view.begin_episode(episode, 100 + episode);
        for step in 0..4 {
            view.world(step, &world(), 0.25 * step as f64);
            view.observation(step, &Observation(vec![1.0, 2.0]));
            view.plan(step, &[chunk(step, 100.0), chunk(step, 140.0)]);
            view.command(
                step,
                &Action(vec![100.0 + step as f64, 200.0]),
                if step < 2 { "hold" } else { "run" },
            );
            view.timings(step, &[("plan", 19.5), ("jitter", 0.1)]);
        }
    }
    2 * (1 + 4 * 5)
}

/// Rows of each entity, and the last time of the timeline `time` in nanoseconds; then how many blueprint messages.
pub(super) fn read(path: &Path) -> (BTreeMap<String, usize>, i64, usize) {
    let (mut rows, mut last, mut blueprint) = (BTreeMap::new(), i64::MIN, 0);
    let reader = BufReader::new(File::open(path).unwrap());
    for message in DecoderApp::decode_lazy(reader) {
        let message = message.unwrap();
        if message.store_id().kind() == StoreKind::Blueprint {
            blueprint += 1;
        } else if let LogMsg::ArrowMsg(_, message) = message {
            let chunk = Chunk::from_arrow_msg(&message).unwrap();
            *rows.entry(chunk.entity_path().to_string()).or_default() += chunk.num_rows();
            if let Some(times) = chunk.timelines().get(&TimelineName::from_static_str("time")) {
                last = last.max(times.times_raw().iter().copied().max().unwrap());
                for other in ["episode", "step"] {
                    assert!(chunk.timelines().contains_key(&TimelineName::from_static_str(other)));
                }
            }
        }
    }
    (rows, last, blueprint)
}

#[test]
fn a_recording_holds_everything_that_was_shown_and_its_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("view.rrd");
    let view = View::to_file(&path, options()).unwrap();
    let sent = show(&view);
    assert_eq!(view.finish().unwrap(), ViewReport { logged: sent, dropped: 0 });

    let (rows, last, blueprint) = read(&path);
    let expected = [
        ("/world/scene/block", 8),
        ("/world/scene/agent", 8),
        ("/world/scene/trace", 8),
        ("/world/plan/executed", 8),
        ("/world/plan/samples", 8),
        // Each episode clears it once.
        ("/world/executed", 8 + 2),
        // Its name is a row too, here and below.
        ("/reward", 8 + 1),
        ("/action/action", 8 + 1),
        ("/observation/observation.state", 8 + 1),
        ("/timing/plan", 8),
        ("/timing/jitter", 8),
        // Only changes: two states in each of two episodes, and in the log the two beginnings.
        ("/guard", 4),
        ("/events", 6),
    ];
    for (entity, count) in expected {
        assert_eq!(rows.get(entity), Some(&count), "{entity} in {rows:?}");
    }
    // Eight steps at 10 Hz, one episode after the other; the last is step 7.
    assert_eq!(last, 700_000_000);
    assert!(blueprint > 10, "{blueprint} blueprint messages");
}

#[test]
fn a_sink_that_hangs_never_blocks_the_caller_and_the_newest_updates_win() {
    let gate = Arc::new(Mutex::new(()));
    let events = Arc::new(Mutex::new(0));
    let sink = {
        let (gate, events) = (gate.clone(), events.clone());
        CallbackSink::new(move |messages| {
            drop(gate.lock().unwrap());
            for message in messages {
                if let LogMsg::ArrowMsg(_, message) = message {
                    let chunk = Chunk::from_arrow_msg(message).unwrap();
                    if chunk.entity_path() == &EntityPath::from("reward")
                        && let Some(steps) = chunk.timelines().get(&TimelineName::from_static_str("step"))
                    {
                        let newest = steps.times_raw().iter().copied().max().unwrap();
                        let mut events = events.lock().unwrap();
                        *events = newest.max(*events);
                    }
                }
            }
        })
    };
    // Every row goes to the sink at once, and the pipeline in between holds next to nothing.
    let batches = ChunkBatcherConfig { max_bytes_in_flight: 1, ..ChunkBatcherConfig::ALWAYS_TEST_ONLY };
    let view = View::start(Box::new(sink), batches, ViewOptions { queue: 8, ..options() }).unwrap();

    const UPDATES: u64 = 20_000;
    let closed = gate.lock().unwrap();
    let mut longest = Duration::ZERO;
    for step in 0..UPDATES {
        let begun = Instant::now();
        view.world(step, &world(), 0.5);
        longest = longest.max(begun.elapsed());
    }
    let waiting = view.oldest.len();
    drop(closed);
    // A blocked call would last as long as the gate is closed: for ever.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(waiting <= 8);

    let report = view.finish().unwrap();
    assert_eq!(report.logged + report.dropped, UPDATES);
    assert!(report.dropped > UPDATES / 2, "{report:?}");
    assert_eq!(*events.lock().unwrap(), UPDATES as i64 - 1);
}

#[test]
fn finishing_twice_or_from_another_handle_is_one_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("view.rrd");
    let view = View::to_file(&path, options()).unwrap();
    let other = view.clone();
    let sent = show(&view);
    drop(view);
    let report = other.finish().unwrap();
    assert_eq!(report.logged, sent);
    other.world(99, &world(), 1.0);
    assert_eq!(other.finish().unwrap(), report);
}

#[test]
fn a_recording_is_completed_when_all_handles_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("view.rrd");
    let view = View::to_file(&path, options()).unwrap();
    show(&view);
    let ended = view.ended.clone();
    drop(view);
    assert_eq!(ended.recv_timeout(FINISH_TIMEOUT), Err(RecvTimeoutError::Disconnected));
    assert_eq!(read(&path).0["/events"], 6);
}

#[test]
fn odd_updates_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let view = View::to_file(&folder.path().join("view.rrd"), options()).unwrap();
    view.begin_episode(u64::MAX, 0);
    view.world(0, &Scene { size: [0.0, f64::NAN], shapes: Vec::new() }, f64::NAN);
    view.observation(0, &Observation(Vec::new()));
    view.plan(0, &[]);
    view.plan(0, &[ActionChunk { first_step: 0, actions: vec![Action(vec![f64::INFINITY])] }]);
    view.command(0, &Action(vec![1.0]), "");
    view.timings(0, &[]);
    assert_eq!(view.finish().unwrap(), ViewReport { logged: 7, dropped: 0 });
}

#[test]
fn what_cannot_be_shown_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("view.rrd");
    let text = |result: Result<View, ViewError>| result.err().expect("an error").to_string();
    assert!(text(View::to_file(&missing, options())).contains("missing"));
    let plane = ViewOptions { plane: Some([0, 2]), ..options() };
    assert!(text(View::to_file(&folder.path().join("view.rrd"), plane)).contains("[0, 2]"));
    assert!(text(View::connect("not an address", options())).contains("127.0.0.1:9876"));
}
