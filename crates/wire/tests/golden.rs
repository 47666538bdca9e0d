//! Messages of other writers, to the byte.

use nudge_wire::{
    Float64MultiArray, Header, JointState, JointTrajectory, Message, Point, Pose, PoseStamped, Quaternion,
    Time, TrajectoryPoint,
};
use serde_json::Value;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden/cdr.json");

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// That the golden message of this type is this one, in both directions, and its type is named and hashed alike.
fn is<T: Message + PartialEq + std::fmt::Debug>(golden: &Value, message: &T) {
    let row = &golden[T::TYPE.name()];
    let payload = bytes(row["cdr_le"].as_str().unwrap());
    assert_eq!(T::decode(&payload).as_ref(), Ok(message));
    assert_eq!(message.encode(), payload, "{}", T::TYPE.name());
    assert_eq!(row["rihs01"], T::TYPE.hash());
    assert_eq!(row["dds"], T::TYPE.dds_name());
}

#[test]
fn the_known_array_is_read_and_written_to_the_byte() {
    let known =
        bytes("00010000000000000000000003000000000000009a9999999999b93f9a9999999999c93f333333333333d33f");
    let array = Float64MultiArray::of(vec![0.1, 0.2, 0.3]);
    assert_eq!(Float64MultiArray::decode(&known).as_ref(), Ok(&array));
    assert_eq!(array.encode(), known);
}

#[test]
fn golden_messages_of_other_writers_are_read_and_written_to_the_byte() {
    let Ok(text) = std::fs::read_to_string(PATH) else {
        println!("skipped: {PATH} is not here");
        return;
    };
    let golden: Value = serde_json::from_str(&text).unwrap();
    let header = Header::new(5_000_000_007, "base");
    is(&golden, &Float64MultiArray::of(vec![0.1, 0.2, 0.3]));
    is(
        &golden,
        &JointState {
            header: header.clone(),
            name: vec!["j1".into(), "joint22".into()],
            position: vec![1.0, 2.0],
            velocity: vec![],
            effort: vec![3.0],
        },
    );
    is(
        &golden,
        &PoseStamped {
            header: header.clone(),
            pose: Pose { position: Point { x: 1.0, y: 2.0, z: 3.0 }, orientation: Quaternion::default() },
        },
    );
    let point = TrajectoryPoint {
        positions: vec![1.0, 2.0],
        time_from_start: Time { sec: 0, nanosec: 100_000_000 },
        ..TrajectoryPoint::default()
    };
    is(&golden, &JointTrajectory { header, joint_names: vec!["a".into(), "bc".into()], points: vec![point] });
}
