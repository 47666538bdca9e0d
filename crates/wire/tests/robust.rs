//! Whatever comes from outside is refused or read, and never more than that.

use nudge_wire::{
    Bool, CdrError, Dimension, Float64MultiArray, Header, JointState, JointTrajectory, Message, Point, Pose,
    PoseStamped, Quaternion, Text, Time, TrajectoryPoint, Twist, TwistStamped, Vector3,
};

type Recode = fn(&[u8]) -> Result<Vec<u8>, CdrError>;

/// Reads as `T` and writes again.
fn recode<T: Message>(payload: &[u8]) -> Result<Vec<u8>, CdrError> {
    T::decode(payload).map(|message| message.encode())
}

/// One message of each type, and how it is read and written again.
fn every_message() -> Vec<(Vec<u8>, Recode)> {
    let header = Header::new(5_000_000_007, "base");
    let label = |label: &str, size, stride| Dimension { label: label.into(), size, stride };
    let array = Float64MultiArray {
        dimensions: vec![label("step", 2, 6), label("action", 3, 3)],
        data: vec![1.5, f64::NAN, f64::INFINITY, -0.0, f64::MIN_POSITIVE, 6.0],
    };
    let joints = JointState {
        header: header.clone(),
        name: vec!["j1".into(), "joint22".into(), "ä 本".into()],
        position: vec![1.0, 2.0, 3.0],
        velocity: vec![],
        effort: vec![3.0],
    };
    let point = |secs: f64| TrajectoryPoint {
        positions: vec![1.0, secs],
        velocities: vec![0.0; 2],
        accelerations: vec![],
        effort: vec![],
        time_from_start: Time::from_ns((secs * 1e9) as i64),
    };
    let trajectory = JointTrajectory {
        header: header.clone(),
        joint_names: vec!["a".into(), "bc".into()],
        points: vec![point(0.1), point(0.25), point(-1.5)],
    };
    let pose = Pose {
        position: Point { x: 1.0, y: -2.0, z: 3.0 },
        orientation: Quaternion { x: 0.5, y: 0.5, z: -0.5, w: 0.5 },
    };
    let twist =
        Twist { linear: Vector3 { x: 1.0, y: 2.0, z: 3.0 }, angular: Vector3 { x: 4.0, y: 5.0, z: 6.0 } };
    vec![
        (Bool(true).encode(), recode::<Bool>),
        (Bool(false).encode(), recode::<Bool>),
        (array.encode(), recode::<Float64MultiArray>),
        (Float64MultiArray::default().encode(), recode::<Float64MultiArray>),
        (joints.encode(), recode::<JointState>),
        (JointState::default().encode(), recode::<JointState>),
        (trajectory.encode(), recode::<JointTrajectory>),
        (JointTrajectory::default().encode(), recode::<JointTrajectory>),
        (PoseStamped { header: header.clone(), pose }.encode(), recode::<PoseStamped>),
        (TwistStamped { header, twist }.encode(), recode::<TwistStamped>),
        (Text("controller".into()).encode(), recode::<Text>),
        (Text(String::new()).encode(), recode::<Text>),
    ]
}

#[test]
fn what_is_written_is_read_back() {
    for (whole, recode) in every_message() {
        assert_eq!(recode(&whole), Ok(whole));
    }
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    for (whole, recode) in every_message() {
        for length in 0..whole.len() {
            assert!(recode(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}

#[test]
fn up_to_three_zero_bytes_may_follow_and_nothing_else() {
    for (whole, recode) in every_message() {
        for count in 0..=4 {
            let padded = [whole.clone(), vec![0; count]].concat();
            assert_eq!(recode(&padded).is_ok(), count <= 3);
        }
        let other = [whole, vec![1]].concat();
        assert_eq!(recode(&other), Err(CdrError::Trailing(1)));
    }
}

#[test]
fn other_encapsulations_are_refused_and_option_bytes_ignored() {
    for (mut whole, recode) in every_message() {
        whole[3] = 3;
        assert!(recode(&whole).is_ok());
        for (first, second) in [(0, 0), (0, 2), (0, 3), (1, 1), (0, 7)] {
            whole[..2].copy_from_slice(&[first, second]);
            assert_eq!(recode(&whole), Err(CdrError::NotLittleEndian(first, second)));
        }
    }
}

#[test]
fn truth_values_and_strings_are_what_they_must_be() {
    for other in 2..=255 {
        assert_eq!(Bool::decode(&[0, 1, 0, 0, other]), Err(CdrError::BadBool(other)));
    }
    let text = |body: &[u8]| Text::decode(&[&[0, 1, 0, 0], body].concat());
    assert!(matches!(text(&[0, 0, 0, 0]), Err(CdrError::BadString { .. })));
    assert!(matches!(text(&[1, 0, 0, 0, 65]), Err(CdrError::BadString { .. })));
    assert!(matches!(text(&[2, 0, 0, 0, 0xff, 0]), Err(CdrError::BadString { .. })));
    assert!(matches!(text(&[0xff; 8]), Err(CdrError::TooLong { .. })));
}

#[test]
fn every_flipped_bit_is_read_or_refused_and_never_more() {
    for (whole, recode) in every_message() {
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(again) = recode(&flipped) {
                // Padding and option bytes are not kept; the length is.
                assert!(again.len() <= flipped.len(), "bit {bit}");
            }
        }
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let mut state = 1_u64;
    for (whole, recode) in every_message() {
        for _ in 0..50_000 {
            let mut fuzzed = whole.clone();
            for _ in 0..3 {
                // Knuth's constants of a linear congruential generator.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % fuzzed.len();
                fuzzed[at] = (state >> 24) as u8;
            }
            fuzzed.truncate((state >> 40) as usize % (whole.len() + 1));
            if let Ok(again) = recode(&fuzzed) {
                assert!(again.len() <= fuzzed.len());
            }
        }
    }
}
