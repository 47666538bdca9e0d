//! Several robots and one policy: one TOML file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{RobotFile, RuntimeError};

/// A fleet as its file states it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetFile {
    #[serde(default)]
    robot: Vec<Member>,
}

/// A robot of a fleet: a robot file, and what is different about this one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    /// A robot file, seen from the folder of the fleet's.
    file: PathBuf,
    /// Before every key, in place of the robot file's.
    prefix: Option<String>,
    /// Where both ends meet, in place of the robot file's: the robot listens there, and the controller connects.
    endpoint: Option<String>,
}

/// Reads a fleet's file and the robot files that it names; each robot has a prefix of its own.
///
/// # Errors
/// When a file cannot be read or says something that cannot be, when there is no robot, or two have one prefix.
pub fn load_fleet(path: &Path) -> Result<Vec<RobotFile>, RuntimeError> {
    let bad = |problem: String| RuntimeError::RobotFile { file: path.display().to_string(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let fleet: FleetFile = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if fleet.robot.is_empty() {
        return Err(bad("a fleet has at least one [[robot]]".into()));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut robots = Vec::with_capacity(fleet.robot.len());
    let mut prefixes = HashSet::new();
    for member in fleet.robot {
        let mut robot = RobotFile::load(&folder.join(&member.file))?;
        if let Some(prefix) = member.prefix {
            robot.prefix = prefix;
        }
        if let Some(endpoint) = member.endpoint {
            robot.session.robot.listen = vec![endpoint.clone()];
            robot.session.controller.connect = vec![endpoint];
        }
        robot.check().map_err(|problem| bad(format!("[[robot]] {}: {problem}", robots.len() + 1)))?;
        if !prefixes.insert(robot.prefix.clone()) {
            return Err(bad(format!("two robots have the prefix `{}`: give each its own", robot.prefix)));
        }
        robots.push(robot);
    }
    Ok(robots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<RobotFile>, String> {
        let folder = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/robots/push_t.toml");
        std::fs::copy(shipped, folder.path().join("push_t.toml")).unwrap();
        std::fs::write(folder.path().join("fleet.toml"), text).unwrap();
        load_fleet(&folder.path().join("fleet.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn each_robot_is_its_file_and_what_is_different_about_it() {
        let robots = read(
            "[[robot]]\nfile = \"push_t.toml\"\n[[robot]]\nfile = \"push_t.toml\"\nprefix = \"cell/2\"\nendpoint = \"tcp/10.0.0.2:7447\"",
        )
        .unwrap();
        assert_eq!(
            robots.iter().map(|robot| robot.prefix.as_str()).collect::<Vec<_>>(),
            ["push_t", "cell/2"]
        );
        assert_eq!(robots[1].session.robot.listen, ["tcp/10.0.0.2:7447"]);
        assert_eq!(robots[1].session.controller.connect, ["tcp/10.0.0.2:7447"]);
        assert_eq!(robots[0].session.controller.connect, ["tcp/127.0.0.1:7447"]);
    }

    #[test]
    fn every_mistake_is_named() {
        let one = "[[robot]]\nfile = \"push_t.toml\"\n";
        for (text, place) in [
            ("", "[[robot]]"),
            ("[[robot]]\nfile = \"absent.toml\"", "absent.toml"),
            (&format!("{one}{one}"), "two robots have the prefix `push_t`"),
            (&format!("{one}prefix = \"a//b\""), "`prefix`"),
            (&format!("{one}colour = 1"), "colour"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(place), "{text}: {error}");
        }
    }
}
