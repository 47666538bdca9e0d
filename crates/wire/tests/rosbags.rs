//! The same messages as written by rosbags, to the byte; and its hashes and definitions of their types.

use std::path::Path;
use std::process::Command;

use nudge_wire::{
    Bool, Dimension, Float64MultiArray, Header, JointState, JointTrajectory, Message, MessageType, Point,
    Pose, PoseStamped, Quaternion, Text, Time, TrajectoryPoint, Twist, TwistStamped, Vector3,
};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What rosbags wrote, by type name; `None` where it is not installed.
fn written_by_rosbags() -> Option<Value> {
    let pythons = [Path::new(ROOT).join("tests/python/.venv/bin/python"), "python3".into()];
    let has_rosbags = |python: &&std::path::PathBuf| {
        let imports = Command::new(python).args(["-c", "import rosbags, numpy"]).output();
        imports.is_ok_and(|output| output.status.success())
    };
    let python = pythons.iter().find(has_rosbags)?;
    let output = Command::new(python).arg(Path::new(ROOT).join("tests/python/cdr.py")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn same<T: Message + PartialEq + std::fmt::Debug>(written: &Value, message: &T) {
    let payload = bytes(written[T::TYPE.name()]["cdr"].as_str().unwrap());
    assert_eq!(message.encode(), payload, "{}", T::TYPE.name());
    assert_eq!(T::decode(&payload).as_ref(), Ok(message));
}

#[test]
fn rosbags_and_this_crate_write_the_same() {
    let Some(written) = written_by_rosbags() else {
        println!("skipped: no Python with the packages of tests/python/requirements.txt");
        return;
    };
    for message in MessageType::ALL {
        assert_eq!(written[message.name()]["hash"], message.hash(), "{message:?}");
        assert_eq!(written[message.name()]["definition"], message.definition(), "{message:?}");
    }
    let header = Header::new(1_700_000_000_123_456_789, "base_link");
    let label = |label: &str, size, stride| Dimension { label: label.into(), size, stride };
    let point = |positions: [f64; 2], velocities: [f64; 2], time_from_start| TrajectoryPoint {
        positions: positions.into(),
        velocities: velocities.into(),
        time_from_start,
        ..TrajectoryPoint::default()
    };
    same(&written, &Bool(true));
    same(&written, &Text("grüße".into()));
    let dimensions = vec![label("step", 2, 4), label("action", 2, 2)];
    same(&written, &Float64MultiArray { dimensions, data: vec![0.25, -0.5, 1e300, 4.0] });
    same(
        &written,
        &JointState {
            header: header.clone(),
            name: vec!["shoulder".into(), "elbow".into(), "w".into()],
            position: vec![0.1, 0.2, 0.3],
            velocity: vec![-1.0, -2.0, -3.0],
            effort: vec![],
        },
    );
    same(
        &written,
        &JointTrajectory {
            header: header.clone(),
            joint_names: vec!["shoulder".into(), "elbow".into()],
            points: vec![
                point([1.0, 2.0], [0.5, 0.25], Time { sec: 0, nanosec: 100_000_000 }),
                point([3.0, 4.0], [0.0, 0.0], Time { sec: 1, nanosec: 5 }),
            ],
        },
    );
    let pose = Pose {
        position: Point { x: 1.0, y: 2.0, z: 3.0 },
        orientation: Quaternion { x: 0.1, y: 0.2, z: 0.3, w: 0.9 },
    };
    same(&written, &PoseStamped { header: header.clone(), pose });
    let twist =
        Twist { linear: Vector3 { x: 1.0, y: 2.0, z: 3.0 }, angular: Vector3 { x: 4.0, y: 5.0, z: 6.0 } };
    same(&written, &TwistStamped { header, twist });
}
