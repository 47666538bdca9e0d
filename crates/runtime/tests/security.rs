//! The shipped zenoh configurations: who may drive a robot does, and nobody else's message reaches it.
#![cfg(all(feature = "zenoh", unix))]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{
    Behaviour, LONG, PREFIX, Point, Serving, array, attachment, credentials, free_endpoint, robot_options,
    secure_endpoint, until, zenoh_folder,
};
use nudge_runtime::{RobotFile, simulated_robot};
use zenoh::Wait;

/// How long an end that cannot connect is given to find that out.
const NO_CONNECTION: Duration = Duration::from_millis(1000);

/// A session of its own at one end of `endpoint`.
fn session(config: Option<&Path>, listen: bool, endpoint: &str) -> zenoh::Result<zenoh::Session> {
    let mut settings = match config {
        Some(file) => zenoh::Config::from_file(file)?,
        None => zenoh::Config::default(),
    };
    let key = if listen { "listen/endpoints" } else { "connect/endpoints" };
    settings.insert_json5("scouting/multicast/enabled", "false")?;
    settings.insert_json5("listen/endpoints", "[]")?;
    settings.insert_json5(key, &format!("[{endpoint:?}]"))?;
    settings.insert_json5("connect/exit_on_failure", "false")?;
    settings.insert_json5("connect/timeout_ms", "0")?;
    zenoh::open(settings).wait()
}

/// A robot that counts what reaches it and is always observed.
struct Target {
    commands: Arc<AtomicUsize>,
    stops: Arc<AtomicUsize>,
    observed: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Target {
    fn open(config: Option<&Path>, endpoint: &str) -> Self {
        let session = session(config, true, endpoint).unwrap();
        let (commands, stops): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        for (key, count) in [("act/cmd", &commands), ("ctl/estop", &stops)] {
            let count = count.clone();
            session
                .declare_subscriber(format!("{PREFIX}/{key}"))
                .callback(move |_| {
                    count.fetch_add(1, Ordering::SeqCst);
                })
                .background()
                .wait()
                .unwrap();
        }
        let (observed, end): (Arc<AtomicUsize>, Arc<AtomicBool>) = Default::default();
        let (sent, over) = (observed.clone(), end.clone());
        let publish = move || {
            while !over.load(Ordering::SeqCst) {
                session.put(format!("{PREFIX}/obs/place"), array(&[0.0; 2])).wait().unwrap();
                sent.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        Self { commands, stops, observed, end, thread: Some(std::thread::spawn(publish)) }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        drop(self.thread.take().map(std::thread::JoinHandle::join));
    }
}

/// What somebody got done.
#[derive(Debug, Default, PartialEq)]
struct Reached {
    sees: bool,
    commands: bool,
    stops: bool,
}

/// Lets somebody look, command and stop, and tells what of it came about.
fn attempt(target: &Target, config: Option<&Path>, endpoint: &str) -> Reached {
    let (commands, stops) = (target.commands.load(Ordering::SeqCst), target.stops.load(Ordering::SeqCst));
    // One who cannot connect at all may be told so when opening.
    let Ok(session) = session(config, false, endpoint) else { return Reached::default() };
    let seen: Arc<AtomicUsize> = Arc::default();
    let sees = seen.clone();
    session
        .declare_subscriber(format!("{PREFIX}/obs/*"))
        .callback(move |_| {
            sees.fetch_add(1, Ordering::SeqCst);
        })
        .background()
        .wait()
        .unwrap();
    let send = |sequence: i64| {
        for (key, payload) in [("act/cmd", array(&[999.0, 999.0])), ("ctl/estop", vec![0, 1, 0, 0, 1])] {
            let put = session.put(format!("{PREFIX}/{key}"), payload);
            put.attachment(attachment(sequence, [9; 16])).wait().unwrap();
        }
    };
    let begun = Instant::now();
    let mut sequence = 0;
    let reached = || Reached {
        sees: seen.load(Ordering::SeqCst) > 0,
        commands: target.commands.load(Ordering::SeqCst) > commands,
        stops: target.stops.load(Ordering::SeqCst) > stops,
    };
    // As long as nothing has come about; then for as long again as fifty observations take.
    until("something to come about", || {
        sequence += 1;
        send(sequence);
        std::thread::sleep(Duration::from_millis(5));
        reached() != Reached::default() || begun.elapsed() > NO_CONNECTION
    });
    let from = target.observed.load(Ordering::SeqCst);
    until("fifty observations", || {
        sequence += 1;
        send(sequence);
        std::thread::sleep(Duration::from_millis(5));
        target.observed.load(Ordering::SeqCst) > from + 50
    });
    reached()
}

#[test]
fn without_a_configuration_anybody_on_this_computer_reaches_the_robot() {
    let endpoint = free_endpoint();
    let target = Target::open(Some(&zenoh_folder().join("development.json5")), &endpoint);
    let all = Reached { sees: true, commands: true, stops: true };
    assert_eq!(attempt(&target, None, &endpoint), all);
}

#[test]
fn with_users_each_reaches_what_is_theirs_and_strangers_nothing() {
    each_reaches_what_is_theirs("lab");
}

#[test]
fn with_certificates_each_reaches_what_is_theirs_and_strangers_nothing() {
    each_reaches_what_is_theirs("plant");
}

fn each_reaches_what_is_theirs(kind: &str) {
    let (Some(folder), Some(others)) = (credentials(kind), credentials(kind)) else { return };
    let file = |user: &str| folder.path().join(kind).join(format!("{user}.json5"));
    let endpoint = secure_endpoint(kind);
    let target = Target::open(Some(&file("robot")), &endpoint);
    let expected = [
        ("controller", Reached { sees: true, commands: true, stops: true }),
        ("operator", Reached { sees: true, commands: false, stops: true }),
        ("viewer", Reached { sees: true, commands: false, stops: false }),
    ];
    for (user, reached) in expected {
        assert_eq!(attempt(&target, Some(&file(user)), &endpoint), reached, "{kind}: {user}");
    }
    // Without credentials, and with those of another lab or plant.
    let stranger = others.path().join(kind).join("controller.json5");
    for config in [None, Some(stranger.as_path())] {
        assert_eq!(attempt(&target, config, &endpoint), Reached::default(), "{kind}: {config:?}");
    }
}

#[test]
fn a_controller_with_its_credentials_drives_the_robot() {
    for kind in ["lab", "plant"] {
        let Some(folder) = credentials(kind) else { return };
        let file = |user: &str| folder.path().join(kind).join(format!("{user}.json5"));
        let mut robot: RobotFile = common::robot_file("clock", 50.0, &secure_endpoint(kind));
        robot.session.robot.config = Some(file("robot"));
        robot.session.controller.secure_with(file("controller"));
        let serving = Serving::start(&robot, &Behaviour::default());
        let mut options = robot_options(1);
        options.max_wait = LONG;
        let report = simulated_robot(Point::new(&robot, 100), &robot, options).unwrap();
        let driven = serving.end();
        assert_eq!((report.episodes.len(), report.episodes[0].steps), (1, 100), "{kind}");
        assert!(driven.commands >= 90, "{kind}: {} commands", driven.commands);
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    let mut robot = common::robot_file("clock", 50.0, &free_endpoint());
    for (text, file) in [(None, "absent.json5"), (Some("{ mode: \"parrot\" }"), "bad.json5")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        robot.session.robot.config = Some(path);
        let error = simulated_robot(Point::new(&robot, 1), &robot, robot_options(1)).unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
    }
}
