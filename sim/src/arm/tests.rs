use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

use nudge_control::IkOptions;

use super::*;

fn arm() -> ArmDescription {
    ArmDescription::from_urdf(ARM7_URDF).unwrap()
}

#[test]
fn the_arm_has_the_published_kinematics_and_limits() {
    let arm = arm();
    let chain = arm.chain("tool").unwrap();
    assert_eq!(chain.joints.len(), 7);
    let neutral = [0.0, -FRAC_PI_4, 0.0, -3.0 * FRAC_PI_4, 0.0, FRAC_PI_2, FRAC_PI_4];
    let base_from_tool = chain.forward(&neutral);
    // By hand, from the data sheet's lengths: the upper arm leans back 45 degrees, the forearm is level.
    let s = FRAC_PI_4.sin();
    let x = -0.316 * s + 0.0825 * s + 0.384 + 0.088;
    let z = 0.333 + 0.316 * s + 0.0825 * s + 0.0825 - 0.107 - 0.1034;
    assert!((base_from_tool.translation.vector - Vector3::new(x, 0.0, z)).norm() < 1e-9, "{base_from_tool}");
    // Straight down, with the fingers closing along y of the base.
    assert!((base_from_tool * Vector3::z() + Vector3::z()).norm() < 1e-9);
    assert!((base_from_tool * Vector3::y() + Vector3::y()).norm() < 1e-9);
    assert_eq!((chain.joints[3].lower, chain.joints[3].upper), (-3.0718, -0.0698));
    assert_eq!((chain.joints[0].velocity, chain.joints[6].velocity), (2.175, 2.61));
    let effort = |name: &str| arm.joints.iter().find(|joint| joint.name == name).unwrap().effort;
    assert_eq!((effort("joint1"), effort("joint7"), effort("finger_joint2")), (87.0, 12.0, 70.0));
}

#[test]
fn the_finger_pads_meet_in_the_tool_and_open_80_mm() {
    let arm = arm();
    let inner_face = |finger: &str, joint: &str, position: f64| {
        let joint = arm.joints.iter().find(|other| other.name == joint).unwrap();
        assert_eq!((joint.kind, joint.lower, joint.upper), (JointKind::Prismatic, 0.0, 0.04));
        let link = arm.links.iter().find(|link| link.name == finger).unwrap();
        let pad = link.collisions.last().unwrap();
        let CollisionShape::Box { half_extents } = pad.shape else {
            panic!("a pad is a box");
        };
        let middle = joint.parent_from_joint.translation.vector
            + joint.axis.into_inner() * position
            + pad.link_from_shape.translation.vector;
        (middle - joint.axis.component_mul(&half_extents), half_extents)
    };
    let tool = arm.joints.iter().find(|joint| joint.child == "tool").unwrap();
    let tool = tool.parent_from_joint.translation.vector;
    for (finger, joint) in [("left_finger", "finger_joint1"), ("right_finger", "finger_joint2")] {
        let (closed, half_extents) = inner_face(finger, joint, 0.0);
        assert!((closed - tool).norm() < 1e-12, "{closed}");
        assert_eq!(half_extents, Vector3::new(0.01, 0.005, 0.01));
        let (open, _) = inner_face(finger, joint, 0.04);
        assert!(((open - tool).norm() - 0.04).abs() < 1e-12);
    }
}

#[test]
fn masses_and_inertias_are_those_of_real_bodies() {
    for link in arm().links.iter().filter(|link| link.name != "tool") {
        assert!(link.mass_kg > 0.0, "{}", link.name);
        let [a, b, c] = link.inertia.symmetric_eigenvalues().into();
        // The triangle inequality of principal moments.
        assert!(a > 0.0 && a < b + c && b < a + c && c < a + b, "{} {a} {b} {c}", link.name);
        assert!(!link.collisions.is_empty());
    }
}

#[test]
fn what_cannot_be_simulated_is_refused_by_name() {
    for (from, to, words) in [
        ("<robot", "<rabot", ["URDF", ""]),
        ("<box size=\"0.21 0.19 0.14\"/>", "<sphere radius=\"0.1\"/>", ["link0", "cylinders"]),
        ("name=\"joint2\" type=\"revolute\"", "name=\"joint2\" type=\"floating\"", ["joint2", "revolute"]),
        ("lower=\"-3.0718\"", "lower=\"1\"", ["joint4", "below"]),
        ("<axis xyz=\"0 -1 0\"/>", "<axis xyz=\"0 0 0\"/>", ["finger_joint2", "axis"]),
        ("<child link=\"hand\"/>", "<child link=\"head\"/>", ["hand_joint", "head"]),
        ("upper=\"-0.0698\"", "upper=\"wide\"", ["wide", "<limit>"]),
        ("<axis xyz=\"0 -1 0\"/>", "<axis xyz=\"0 -1\"/>", ["0 -1", "three"]),
        ("<child link=\"hand\"/>", "", ["<joint>", "<child>"]),
    ] {
        assert!(ARM7_URDF.contains(from), "{from}");
        let error = ArmDescription::from_urdf(&ARM7_URDF.replace(from, to)).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    let error = arm().chain("left_finger").unwrap_err().to_string();
    assert!(error.contains("finger_joint1"), "{error}");
    assert!(arm().chain("spoon").unwrap_err().to_string().contains("spoon"));
}

#[test]
fn the_whole_table_is_in_reach_of_a_tool_that_points_down() {
    let chain = arm().chain("tool").unwrap();
    let neutral = vec![0.0, -FRAC_PI_4, 0.0, -3.0 * FRAC_PI_4, 0.0, FRAC_PI_2, FRAC_PI_4];
    let options = IkOptions { rest: Some(neutral.clone()), ..IkOptions::default() };
    for x in [0.35, 0.5, 0.65f64] {
        for y in [-0.25, 0.0, 0.25f64] {
            for z in [0.014, 0.1, 0.3] {
                // The wrist turns by azimuth less yaw.
                let low = (y.atan2(x) - 1.9f64).max(-1.95);
                for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
                    let yaw = low + share * (1.95 - low);
                    let rotation = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), yaw)
                        * UnitQuaternion::from_axis_angle(&Vector3::x_axis(), std::f64::consts::PI);
                    let target = Isometry3::from_parts(Translation3::new(x, y, z), rotation);
                    let q = chain.inverse(&target, &neutral, &options).unwrap();
                    assert!(
                        (chain.forward(&q).translation.vector - target.translation.vector).norm() <= 1e-6
                    );
                }
            }
        }
    }
}
