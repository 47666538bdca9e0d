//! MCAP files: whatever was on the wire is read again to the bit, whatever is cut off or damaged is told, and what came when it
//! came becomes frames at one rate.

use std::fs;
use std::path::Path;
use std::process::Command;

use nudge_control::split_mix_64;
use nudge_dataset::mcap::{
    Direction, GAP_TOPIC, McapConversion, McapLog, Resampling, TopicFeature, WireMessage, convert_mcap,
    inspect_mcap, read_mcap,
};
use nudge_dataset::{Dataset, DatasetError};
use nudge_wire::{Attachment, Float64MultiArray, JointState, Message as _};

const FLOATS: &str = "application/cdr;std_msgs/msg/Float64MultiArray";
const JOINTS: &str = "application/cdr;sensor_msgs/msg/JointState";
const SECOND: u64 = 1_000_000_000;
const BEGUN: u64 = 1_790_000_000 * SECOND;

fn attached(sequence: i64, source_time_ns: i64, sender: u8) -> Option<Vec<u8>> {
    Some(Attachment { sequence, source_time_ns, gid: [sender; 16] }.encode().to_vec())
}

fn message(
    key: &str,
    encoding: &str,
    payload: Vec<u8>,
    attachment: Option<Vec<u8>>,
    time_ns: u64,
) -> WireMessage {
    let direction = if key.contains("act") { Direction::Sent } else { Direction::Received };
    WireMessage { direction, key: key.into(), encoding: encoding.into(), payload, attachment, time_ns }
}

/// Sound and unsound messages of many kinds.
fn traffic(count: u64) -> Vec<WireMessage> {
    let of = |number: u64| {
        let random = split_mix_64(number);
        let payload: Vec<u8> = (0..random % 90).map(|i| split_mix_64(random ^ i) as u8).collect();
        let (key, encoding) = [
            ("arm/obs/observation.state", FLOATS),
            ("arm/act/cmd", FLOATS),
            ("arm/ctl/status", "application/json"),
            ("0/joint_states/sensor_msgs::msg::dds_::JointState_/RIHS01_a13e", JOINTS),
            ("arm/odd", "text/plain;charset=utf-8"),
            ("arm/bare", "application/cdr"),
            ("arm/none", ""),
        ][random as usize % 7];
        let source = i64::try_from(BEGUN + number).unwrap();
        let attachment = match random >> 8 & 15 {
            0 => None,
            1 => Some(Vec::new()),
            2 => Some(vec![7; 12]),
            3 => attached(1 << 40, source, 1),
            4 => attached(3, -5, 1),
            5 => Some(vec![255; 33]),
            sender => attached(1 + number as i64, source, sender as u8 % 3),
        };
        message(key, encoding, payload, attachment, BEGUN + number * 1_000_003)
    };
    (0..count).map(of).collect()
}

fn write(path: &Path, messages: &[WireMessage]) {
    let mut log = McapLog::create(path).unwrap();
    for (number, message) in messages.iter().enumerate() {
        log.wire(message).unwrap();
        if number % 7 == 6 {
            log.flush().unwrap();
        }
    }
    log.finish().unwrap();
}

type Reading = Result<(Vec<WireMessage>, Option<String>), DatasetError>;

fn read(path: &Path) -> Reading {
    let mut messages = Vec::new();
    let damage = read_mcap(path, &mut |message| {
        messages.extend(message.on_the_wire());
        Ok(())
    })?;
    Ok((messages, damage))
}

#[test]
fn nothing_that_was_on_the_wire_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/run.mcap");
    let messages = traffic(2000);
    write(&path, &messages);
    let (again, damage) = read(&path).unwrap();
    assert_eq!((again.len(), damage), (messages.len(), None));
    assert!(again == messages);
    assert!(matches!(McapLog::create(&path), Err(DatasetError::Exists { .. })));
}

#[test]
fn what_was_flushed_is_there_when_the_program_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.mcap");
    let messages = traffic(200);
    let mut log = McapLog::create(&path).unwrap();
    messages[..150].iter().for_each(|message| log.wire(message).unwrap());
    log.flush().unwrap();
    messages[150..].iter().for_each(|message| log.wire(message).unwrap());
    // As a program that is killed leaves it.
    let left = folder.path().join("left.mcap");
    fs::copy(&path, &left).unwrap();
    let (again, damage) = read(&left).unwrap();
    assert!(again == messages[..150] && damage.unwrap().contains("cut off"));
    log.finish().unwrap();
    assert!(read(&path).unwrap().0 == messages);
}

/// A folder in memory where there is one: thousands of files are written.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Messages of every kind in a file of few bytes.
fn small(path: &Path) -> Vec<WireMessage> {
    let mut messages = traffic(16);
    messages.iter_mut().for_each(|message| message.payload.truncate(12));
    write(path, &messages);
    messages
}

#[test]
fn cut_off_anywhere_it_is_told_and_what_comes_before_is_right() {
    let folder = scratch();
    let (path, cut) = (folder.path().join("run.mcap"), folder.path().join("cut.mcap"));
    let messages = small(&path);
    let bytes = fs::read(&path).unwrap();
    let mut most = 0;
    for length in 0..bytes.len() {
        fs::write(&cut, &bytes[..length]).unwrap();
        match read(&cut) {
            Err(DatasetError::NotADataset { .. }) => assert_eq!(most, 0),
            Err(error) => panic!("{error}"),
            Ok((again, damage)) => {
                assert!(damage.is_some(), "{length} of {} bytes pass for the whole", bytes.len());
                assert!(again.len() >= most && again == messages[..again.len()], "{length}");
                most = again.len();
            }
        }
    }
    assert_eq!(most, messages.len());
}

#[test]
fn a_flipped_bit_is_never_taken_for_another_message() {
    let folder = scratch();
    let (path, flipped) = (folder.path().join("run.mcap"), folder.path().join("flipped.mcap"));
    let messages = small(&path);
    let bytes = fs::read(&path).unwrap();
    let mut noticed = 0;
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1 << (split_mix_64(at as u64) % 8);
        fs::write(&flipped, other).unwrap();
        match read(&flipped) {
            Err(_) => noticed += 1,
            Ok((again, None)) => {
                assert!(again == messages, "byte {at} makes other messages, and nobody says so")
            }
            Ok((again, Some(_))) => {
                assert!(
                    messages.starts_with(&again),
                    "byte {at} of {}: {} messages",
                    bytes.len(),
                    again.len()
                );
                noticed += 1;
            }
        }
    }
    assert!(noticed * 100 >= bytes.len() * 99, "{noticed} of {} flips were noticed", bytes.len());
}

/// Joints at 50 Hz and commands at 20 Hz on straight lines, with a silence in the middle.
fn drive(path: &Path) {
    let mut log = McapLog::create(path).unwrap();
    let mut all = Vec::new();
    for tick in 0..500_i64 {
        let time = tick as u64 * SECOND / 50;
        // The joints fall silent from 4 s to 6 s.
        if (200..300).contains(&tick) {
            continue;
        }
        let secs = tick as f64 / 50.0;
        let (a, b) = (("a".to_owned(), secs), ("b".to_owned(), 10.0 - secs));
        let joints = if tick % 2 == 0 { [a, b] } else { [b, a] };
        let state = JointState {
            name: joints.iter().map(|(name, _)| name.clone()).collect(),
            position: joints.iter().map(|(_, position)| *position).collect(),
            velocity: joints.iter().map(|(name, _)| if name == "a" { 1.0 } else { -1.0 }).collect(),
            ..JointState::default()
        };
        // One in the sequence is lost.
        let sequence = tick + 1 + i64::from(tick > 100);
        let attachment = attached(sequence, (BEGUN + time) as i64, 1);
        all.push(message("joint_states", JOINTS, state.encode(), attachment, BEGUN + time));
    }
    for tick in 0..200_i64 {
        let time = tick as u64 * SECOND / 20;
        let payload = Float64MultiArray::of(vec![tick as f64]).encode();
        all.push(message("arm/act/cmd", FLOATS, payload, attached(tick + 1, 0, 2), BEGUN + time));
    }
    all.push(message("joint_states", JOINTS, vec![1, 2, 3], attached(9999, 0, 3), BEGUN + SECOND));
    all.sort_by_key(|message| message.time_ns);
    all.iter().for_each(|message| log.wire(message).unwrap());
    log.gap(BEGUN + 9 * SECOND, 17).unwrap();
    log.finish().unwrap();
}

fn conversion() -> McapConversion {
    let topic = |topic: &str, field: Option<&str>, feature: &str, resampling| TopicFeature {
        topic: topic.into(),
        field: field.map(str::to_owned),
        feature: feature.into(),
        resampling,
    };
    McapConversion {
        fps: 10.0,
        topics: vec![
            topic("/joint_states", None, "observation.state", Resampling::Linear),
            topic("/joint_states", Some("velocity"), "observation.velocity", Resampling::Previous),
            topic("/arm/act/cmd", None, "action", Resampling::Previous),
        ],
        task: "drive".into(),
        robot_type: None,
        max_gap_secs: 0.5,
        salvage: false,
    }
}

#[test]
fn topics_of_many_rates_become_frames_of_one_and_gaps_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("run.mcap"), folder.path().join("set"));
    drive(&path);
    let report = inspect_mcap(&path).unwrap();
    assert_eq!((report.not_recorded, &report.damage), (17, &None));
    let names: Vec<&str> = report.topics.iter().map(|topic| topic.topic.as_str()).collect();
    assert_eq!(names, ["/arm/act/cmd", "/joint_states", GAP_TOPIC]);
    let joints = &report.topics[1];
    assert_eq!(
        (joints.messages, joints.lost, joints.message.as_str()),
        (401, 101, "sensor_msgs/msg/JointState")
    );
    assert!(
        (joints.largest_gap_secs - 2.02).abs() < 1e-9 && (joints.largest_gap_at_secs - 3.98).abs() < 1e-9
    );
    assert!((report.topics[0].hz - 20.0).abs() < 1e-9);

    let converted = convert_mcap(&path, &out, &conversion()).unwrap();
    assert_eq!((converted.episodes, converted.frames), (2, 40 + 40));
    assert_eq!(converted.malformed["/joint_states"].0, 1);
    let set = Dataset::open(&out).unwrap();
    assert_eq!(set.info().fps, Some(10.0));
    assert_eq!(set.info().features[0].names, ["a", "b"]);
    let tables = set.read_all(&["observation.state", "observation.velocity", "action"]).unwrap();
    for (episode, begin) in [(0, 0.0), (1, 6.0)] {
        let [state, velocity, action] = [0, 1, 2].map(|feature| &tables[episode][feature]);
        for frame in 0..state.rows {
            let secs = begin + frame as f32 / 10.0;
            assert!((state.row(frame)[0] - secs).abs() < 1e-5, "{episode} {frame}: {:?}", state.row(frame));
            assert!((state.row(frame)[1] - (10.0 - secs)).abs() < 1e-5);
            assert_eq!(velocity.row(frame), [1.0, -1.0]);
            assert_eq!(
                action.row(frame)[0],
                (secs * 20.0).round(),
                "the command before, and never one to come"
            );
        }
    }
}

#[test]
fn what_cannot_be_a_set_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (path, cut, out) =
        (folder.path().join("run.mcap"), folder.path().join("cut.mcap"), folder.path().join("set"));
    drive(&path);
    let refused = |path: &Path, how: &McapConversion, word: &str| {
        let error = convert_mcap(path, &out, how).unwrap_err().to_string();
        assert!(error.contains(word) && !out.exists(), "{error}");
    };
    let with = |change: &dyn Fn(&mut McapConversion)| {
        let mut how = conversion();
        change(&mut how);
        how
    };
    refused(&path, &with(&|how| how.fps = 0.0), "above 0");
    refused(&path, &with(&|how| how.topics[0].topic = "/nothing".into()), "/arm/act/cmd, /joint_states");
    refused(&path, &with(&|how| how.topics[1].field = Some("torque".into())), "no `torque`");
    refused(&path, &with(&|how| how.max_gap_secs = 0.001), "longer gap");
    let bytes = fs::read(&path).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 9]).unwrap();
    refused(&cut, &conversion(), "--salvage");
    convert_mcap(&cut, &out, &with(&|how| how.salvage = true)).unwrap();
}

#[test]
fn pythons_read_the_file() {
    let Some(python) = ["../../tests/python/.venv/bin/python", "python3"].into_iter().find(|python| {
        let tried = Command::new(python).args(["-c", "import mcap, rosbags"]).output();
        tried.is_ok_and(|output| output.status.success())
    }) else {
        println!("skipped: no python with mcap and rosbags");
        return;
    };
    const SCRIPT: &str = r#"
import sys
from mcap.reader import make_reader
from rosbags.typesys import Stores, get_typestore, get_types_from_msg
store = get_typestore(Stores.ROS2_JAZZY)
with open(sys.argv[1], "rb") as file:
    reader = make_reader(file, validate_crcs=True)
    assert reader.get_header().profile == "ros2", reader.get_header()
    print(reader.get_summary().statistics.message_count)
    total = 0.0
    for schema, channel, message in reader.iter_messages(topics=["/joint_states"]):
        assert (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
        get_types_from_msg(schema.data.decode(), schema.name)
        if len(message.data) > 3:
            joints = store.deserialize_cdr(message.data, schema.name)
            total += dict(zip(joints.name, joints.position))["a"]
    print(round(total, 6))
"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.mcap");
    drive(&path);
    let output = Command::new(python).args(["-c", SCRIPT]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected: f64 =
        (0..500).filter(|tick| !(200..300).contains(tick)).map(|tick| f64::from(tick) / 50.0).sum();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<f64> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers[0] == 602.0 && (numbers[1] - expected).abs() < 1e-6, "{text} {expected}");
}
