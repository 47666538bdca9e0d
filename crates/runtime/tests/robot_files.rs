//! Every robot that is shipped can be used, and no text whatever is read as a robot that cannot.

use std::path::{Path, PathBuf};

use nudge_runtime::{Pace, Protocol, RobotFile};

#[path = "../../../fuzz/laws/robot_file.rs"]
mod robot_file;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

#[test]
fn every_shipped_robot_is_read() {
    let mut ros2 = 0;
    for path in files("configs/robots") {
        let robot = RobotFile::load(&path).unwrap();
        assert!(!robot.session.controller.connect.is_empty(), "{}", path.display());
        if robot.protocol == Protocol::Ros2 {
            ros2 += 1;
            assert_eq!(robot.pace, Pace::Clock, "{}", path.display());
            // Whoever commands positions must know where the robot is: a hold goes there.
            let blind = |action: &&nudge_runtime::CommandedFeature| {
                action.mode == nudge_control::ActionMode::Absolute
                    && (action.measured_by.is_none() || action.velocity.is_none())
            };
            assert!(robot.action.iter().find(blind).is_none(), "{}", path.display());
        }
    }
    assert!(ros2 >= 5, "only {ros2} robots speak ROS 2");
}

#[test]
fn robot_files_keep_their_law() {
    for path in files("configs/robots").into_iter().chain(files("tests/corpus/robot_file")) {
        let text = std::fs::read(&path).unwrap();
        (0..=text.len()).for_each(|length| robot_file::law(&text[..length]));
        for at in (0..text.len()).step_by(7) {
            let mut changed = text.clone();
            changed[at] = changed[at].wrapping_add(1);
            robot_file::law(&changed);
        }
    }
}
