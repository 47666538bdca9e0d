//! Messages exchanged with zenoh-ros2-sdk through a router, and a robot of that package driven by `serve`.
#![cfg(feature = "zenoh")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Behaviour, LONG, Serving, count, free_endpoint};
use nudge_runtime::RobotFile;
use nudge_wire::{Attachment, Dimension, Float64MultiArray, Header, JointState, Message, data_key};
use serde_json::{Value, json};
use zenoh::Wait;
use zenoh::sample::Sample;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const DOMAIN: u32 = 7;

/// A Python with the packages of `tests/python/requirements.txt`; without one, and a word about it, none.
fn python() -> Option<PathBuf> {
    let pythons = [Path::new(ROOT).join("tests/python/.venv/bin/python"), PathBuf::from("python3")];
    let has_sdk = |python: &PathBuf| {
        let imports = Command::new(python).args(["-c", "import zenoh_ros2_sdk, numpy"]).output();
        imports.is_ok_and(|output| output.status.success())
    };
    let found = pythons.into_iter().find(has_sdk);
    if found.is_none() {
        println!("skipped: no Python with the packages of tests/python/requirements.txt");
    }
    found
}

/// A router in this process, as `rmw_zenohd` would be.
fn router(endpoint: &str) -> zenoh::Session {
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("mode", "\"router\"".to_owned()),
        ("scouting/multicast/enabled", "false".to_owned()),
        ("listen/endpoints", json!([endpoint]).to_string()),
    ] {
        config.insert_json5(key, &value).unwrap();
    }
    zenoh::open(config).wait().unwrap()
}

/// A peer of zenoh-ros2-sdk, which is there when this returns.
struct Peer(Child);

impl Peer {
    fn start(python: &Path, role: &str, endpoint: &str) -> Self {
        let port = endpoint.rsplit(':').next().unwrap();
        let script = Path::new(ROOT).join("tests/python/ros2_peer.py");
        let mut child = Command::new(python)
            .arg(script)
            .args([role, "--port", port])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        // One byte at a time, so that nothing behind the line is lost with the reader.
        BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    /// Ends it, and gives what it says of itself.
    fn end(mut self) -> Value {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.0.stdout.as_mut().unwrap().read_to_string(&mut said).unwrap();
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It has ended, or it has to now.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Sends `message` on `/nudge/<topic>` until its echo comes on `/sdk/<topic>`, and compares every byte.
fn exchange<T: Message>(session: &zenoh::Session, topic: &str, message: &T) {
    let echoes: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let heard = echoes.clone();
    let on_echo = move |sample: Sample| {
        // The package counts from 0, and ROS 2 and this house from 1: its first message is dropped.
        if Attachment::decode(&sample.attachment().unwrap().to_bytes()).is_ok() {
            heard.lock().unwrap().push(sample.payload().to_bytes().into_owned());
        }
    };
    let key = data_key(DOMAIN, &format!("/sdk/{topic}"), T::TYPE);
    let _subscriber = session.declare_subscriber(key).callback(on_echo).wait().unwrap();
    let key = data_key(DOMAIN, &format!("/nudge/{topic}"), T::TYPE);
    let payload = message.encode();
    let begun = Instant::now();
    for sequence in 1.. {
        let attachment = Attachment { sequence, source_time_ns: 1, gid: [5; 16] };
        session.put(&key, payload.clone()).attachment(attachment.encode()).wait().unwrap();
        std::thread::sleep(Duration::from_millis(10));
        if let Some(echo) = echoes.lock().unwrap().first() {
            assert_eq!(*echo, payload, "{topic}");
            return;
        }
        assert!(begun.elapsed() < LONG, "no echo of {topic}");
    }
}

#[test]
fn joint_states_and_arrays_go_there_and_back_to_the_byte() {
    let Some(python) = python() else { return };
    let endpoint = free_endpoint();
    let session = router(&endpoint);
    let peer = Peer::start(&python, "echo", &endpoint);
    exchange(
        &session,
        "joint_states",
        &JointState {
            header: Header::new(1_700_000_000_123_456_789, "base_link"),
            name: vec!["shoulder".into(), "elbow".into(), "w".into()],
            position: vec![0.1, -0.2, 1e300],
            velocity: vec![],
            effort: vec![1.0, 2.0, 3.0],
        },
    );
    let dimension = |label: &str, size, stride| Dimension { label: label.into(), size, stride };
    let dimensions = vec![dimension("step", 2, 4), dimension("action", 2, 2)];
    exchange(&session, "array", &Float64MultiArray { dimensions, data: vec![0.25, -0.5, 1e-300, 4.0] });
    let said = peer.end();
    assert!(said["joint_states"].as_u64() >= Some(2) && said["array"].as_u64() >= Some(2), "{said}");
    session.close().wait().unwrap();
}

#[test]
fn a_robot_of_zenoh_ros2_sdk_is_driven_and_lists_the_controllers_topics() {
    let Some(python) = python() else { return };
    let endpoint = free_endpoint();
    let router = router(&endpoint);
    let robot = RobotFile::parse(&format!(
        r#"
        name = "arm"
        prefix = "arm"
        protocol = "ros2"
        pace = "clock"
        control_hz = 20.0
        [ros2]
        domain = {DOMAIN}
        estop = {{ topic = "/estop" }}
        [session]
        robot = {{}}
        controller = {{ connect = ["{endpoint}"], mode = "client" }}
        [[observation]]
        name = "position"
        shape = [2]
        topic = "/arm/joint_states"
        message = {{ type = "joint_state", field = "position", joints = ["shoulder", "elbow"] }}
        [[action]]
        name = "position"
        shape = [2]
        topic = "/arm/commands"
        limits = {{ low = [-1e6, -1e6], high = [1e6, 1e6] }}
        measured_by = "position"
        "#
    ))
    .unwrap();
    let peer = Peer::start(&python, "robot", &endpoint);
    let behaviour = Behaviour::default();
    let serving = Serving::start(&robot, &behaviour);
    // The first number of an action is that of the newest observation and 1 more, so a robot that follows moves on.
    let begun = Instant::now();
    let moved = || behaviour.asked.lock().unwrap().iter().any(|asked| asked.window.0[1].0[0] > 105.0);
    while !moved() {
        assert!(begun.elapsed() < LONG, "the robot does not follow");
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = peer.end();
    let report = serving.end();
    assert!(said["commands"].as_u64() >= Some(5), "{said}");
    let listed = said["topics"].as_array().unwrap();
    for (topic, kind) in [
        ("/arm/commands", "std_msgs/msg/Float64MultiArray"),
        ("/arm/joint_states", "sensor_msgs/msg/JointState"),
        ("/estop", "std_msgs/msg/Bool"),
    ] {
        assert!(listed.contains(&json!([topic, [kind]])), "{topic}: {said}");
    }
    assert_eq!((count(&report, "payload_refused"), count(&report, "foreign_publisher")), (0, 0));
    router.close().wait().unwrap();
}
