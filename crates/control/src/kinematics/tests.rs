use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

use nalgebra::{Isometry3, Matrix3, Rotation3, Translation3, UnitQuaternion, Vector3};

use super::*;

const NEUTRAL: [f64; 7] = [0.0, -FRAC_PI_4, 0.0, -3.0 * FRAC_PI_4, 0.0, FRAC_PI_2, FRAC_PI_4];
/// a, d, alpha of the joints (Craig's convention) of a Franka Emika Panda, from the maker's data sheet.
const DH: [(f64, f64, f64); 7] = [
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -FRAC_PI_2),
    (0.0, 0.316, FRAC_PI_2),
    (0.0825, 0.0, FRAC_PI_2),
    (-0.0825, 0.384, -FRAC_PI_2),
    (0.0, 0.0, FRAC_PI_2),
    (0.088, 0.0, FRAC_PI_2),
];
const LIMITS: [(f64, f64); 7] = [
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
];

fn arm() -> Chain {
    let joints = DH.iter().zip(LIMITS).map(|(&(a, d, alpha), (lower, upper))| RevoluteJoint {
        parent_from_joint: Isometry3::rotation(Vector3::x() * alpha) * Translation3::new(a, 0.0, d),
        axis: Vector3::z_axis(),
        lower,
        upper,
        velocity: 2.0,
    });
    let tool =
        Isometry3::translation(0.0, 0.0, 0.107 + 0.1034) * Isometry3::rotation(Vector3::z() * -FRAC_PI_4);
    Chain { joints: joints.collect(), last_from_tool: tool }
}

/// Numbers in 0..1, always the same.
fn numbers() -> impl FnMut() -> f64 {
    let mut state = 7u64;
    move || {
        state = crate::split_mix_64(state);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn random_positions(chain: &Chain, number: &mut impl FnMut() -> f64) -> Vec<f64> {
    chain.joints.iter().map(|joint| joint.lower + number() * (joint.upper - joint.lower)).collect()
}

fn distance(a: &Isometry3<f64>, b: &Isometry3<f64>) -> (f64, f64) {
    ((a.translation.vector - b.translation.vector).norm(), a.rotation.angle_to(&b.rotation))
}

#[test]
fn the_tool_is_where_the_links_add_up_to() {
    // Upright, the hand hangs down 0.088 in front: the elbow's two offsets cancel.
    let up = arm().forward(&[0.0; 7]);
    let expected = Vector3::new(0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107 - 0.1034);
    assert!((up.translation.vector - expected).norm() < 1e-12, "{up}");
    // At the neutral pose, by hand: the shoulder leans back 45 degrees and the elbow brings the forearm level with the
    // ground 45 degrees beyond the vertical, so that the tool points straight down.
    let (s, c) = FRAC_PI_4.sin_cos();
    let elbow = [-0.316 * s + 0.0825 * c, 0.333 + 0.316 * c + 0.0825 * s];
    let wrist = [elbow[0] + 0.0825 * 0.0 + 0.384, elbow[1] + 0.0825];
    let expected = Vector3::new(wrist[0] + 0.088, 0.0, wrist[1] - 0.107 - 0.1034);
    let neutral = arm().forward(&NEUTRAL);
    assert!((neutral.translation.vector - expected).norm() < 1e-12, "{neutral} {expected}");
    let down = Matrix3::from_diagonal(&Vector3::new(1.0, -1.0, -1.0));
    assert!((neutral.rotation.to_rotation_matrix().matrix() - down).norm() < 1e-12, "{neutral}");
}

#[test]
fn the_first_joint_turns_everything_about_the_vertical() {
    let mut q = NEUTRAL;
    q[0] = 0.7;
    let turned = Isometry3::rotation(Vector3::z() * 0.7) * arm().forward(&NEUTRAL);
    let (position, rotation) = distance(&arm().forward(&q), &turned);
    assert!(position < 1e-12 && rotation < 1e-7);
}

#[test]
fn the_jacobian_is_the_derivative_of_the_pose() {
    let (chain, mut number) = (arm(), numbers());
    let step = 1e-6;
    for _ in 0..50 {
        let q = random_positions(&chain, &mut number);
        let jacobian = chain.jacobian(&q);
        for joint in 0..7 {
            let (mut before, mut after) = (q.clone(), q.clone());
            before[joint] -= step;
            after[joint] += step;
            let (before, after) = (chain.forward(&before), chain.forward(&after));
            let velocity = (after.translation.vector - before.translation.vector) / (2.0 * step);
            let spin = (after.rotation * before.rotation.inverse()).scaled_axis() / (2.0 * step);
            assert!((velocity - jacobian.fixed_view::<3, 1>(0, joint)).norm() < 1e-8);
            assert!((spin - jacobian.fixed_view::<3, 1>(3, joint)).norm() < 1e-8);
        }
    }
}

/// Poses over a table with the tool pointing down, as a pick needs them.
fn poses_over_a_table(n: usize) -> Vec<Isometry3<f64>> {
    let mut number = numbers();
    let mut between = |low: f64, high: f64| low + number() * (high - low);
    (0..n)
        .map(|_| {
            let at = Translation3::new(between(0.3, 0.7), between(-0.35, 0.35), between(0.0, 0.4));
            let down =
                UnitQuaternion::from_rotation_matrix(&Rotation3::from_axis_angle(&Vector3::x_axis(), PI));
            let yaw = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), between(-1.6, 1.6));
            Isometry3::from_parts(at, yaw * down)
        })
        .collect()
}

#[test]
fn poses_over_the_table_are_reached_within_limits() {
    let chain = arm();
    let options = IkOptions { rest: Some(NEUTRAL.to_vec()), ..IkOptions::default() };
    for target in poses_over_a_table(300) {
        let q = chain.inverse(&target, &NEUTRAL, &options).unwrap();
        let (position, rotation) = distance(&chain.forward(&q), &target);
        assert!(position <= 1e-6 && rotation <= 1.1e-6, "{position} {rotation}");
        assert_eq!(q, chain.clamp(&q));
    }
}

#[test]
fn most_random_poses_of_the_arm_are_found_again_from_nearby() {
    let (chain, mut number) = (arm(), numbers());
    let found = (0..200).filter(|_| {
        let q = random_positions(&chain, &mut number);
        let start: Vec<f64> = q.iter().map(|position| position + 0.3 * (2.0 * number() - 1.0)).collect();
        chain.inverse(&chain.forward(&q), &start, &IkOptions::default()).is_ok()
    });
    // A start within 0.3 rad can still lie on the wrong side of a joint limit or of a singularity.
    assert!(found.count() >= 190);
}

#[test]
fn a_pose_out_of_reach_is_refused_with_the_closest_that_was_reached() {
    let chain = arm();
    let far = Isometry3::translation(2.0, 0.0, 0.3) * Isometry3::rotation(Vector3::x() * PI);
    let failure = chain.inverse(&far, &NEUTRAL, &IkOptions::default()).unwrap_err();
    // The arm's reach: 2.0 m away leaves at least this much.
    assert!(failure.position_error_m > 2.0 - 1.2, "{failure}");
    assert_eq!(failure.closest, chain.clamp(&failure.closest));
    let (position, rotation) = distance(&chain.forward(&failure.closest), &far);
    assert!((position - failure.position_error_m).abs() < 1e-12);
    assert!((rotation - failure.rotation_error_rad).abs() < 1e-7);
    assert!(failure.to_string().contains("2.000"), "{failure}");
}

#[test]
fn the_posture_goes_where_the_tool_leaves_it_free() {
    let chain = arm();
    let target = chain.forward(&NEUTRAL);
    let mut bent = NEUTRAL.to_vec();
    bent[0] += 0.4;
    bent[2] -= 0.4;
    let far_from_rest = |q: &[f64]| q.iter().zip(NEUTRAL).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let free = chain.inverse(&target, &bent, &IkOptions::default()).unwrap();
    let rest = IkOptions { rest: Some(NEUTRAL.to_vec()), ..IkOptions::default() };
    let pulled = chain.inverse(&target, &bent, &rest).unwrap();
    assert!(far_from_rest(&pulled) < 0.9 * far_from_rest(&free), "{pulled:?} {free:?}");
}
