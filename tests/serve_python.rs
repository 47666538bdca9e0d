//! `nudge serve` drives a robot that others' libraries speak for: Python, eclipse-zenoh and rosbags.
#![cfg(feature = "zenoh")]

mod running;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use running::{Running, free_port};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DEADLINE: Duration = Duration::from_secs(240);

/// A Python with the packages of `tests/python/requirements.txt`.
fn python() -> Option<PathBuf> {
    let candidates = [Path::new(ROOT).join("tests/python/.venv/bin/python"), PathBuf::from("python3")];
    candidates.into_iter().find(|python| {
        let imports = Command::new(python).args(["-c", "import zenoh, rosbags, numpy"]).output();
        imports.is_ok_and(|output| output.status.success())
    })
}

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for the end; `None` when it does not come in time.
    fn end(&mut self, deadline: Duration) -> Option<()> {
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            if begun.elapsed() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(())
    }

    fn output(mut self) -> Output {
        let read = |pipe: Option<&mut dyn std::io::Read>| {
            let mut bytes = Vec::new();
            pipe.unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        let stdout = read(self.0.stdout.as_mut().map(|pipe| pipe as _));
        let stderr = read(self.0.stderr.as_mut().map(|pipe| pipe as _));
        Output { status: self.0.wait().unwrap(), stdout, stderr }
    }
}

/// Lets the Python robot be driven; what it says of it, and what the controller does.
fn drive(pace: &str, robot_file: &str) -> Option<(Value, Value)> {
    let checkpoint = Path::new(ROOT).join("checkpoints/push_t");
    if !checkpoint.is_dir() {
        println!("skipped: {} is not here", checkpoint.display());
        return None;
    }
    let Some(python) = python() else {
        println!("skipped: no Python with the packages of tests/python/requirements.txt (see the README)");
        return None;
    };
    let endpoint = format!("tcp/127.0.0.1:{}", free_port());
    let script = Path::new(ROOT).join("tests/python/robot.py");
    let mut robot =
        Running::start(Command::new(python).arg(script).args(["--endpoint", &endpoint, "--pace", pace]));
    let file = Path::new(ROOT).join("configs/robots").join(robot_file);
    let mut serve = Running::start(
        Command::new(env!("CARGO_BIN_EXE_nudge"))
            .arg("serve")
            .arg(checkpoint)
            .arg("--robot")
            .arg(file)
            .args(["--connect", &endpoint, "--json"]),
    );
    let ended = robot.end(DEADLINE);
    // As Ctrl-C does.
    let interrupted = Command::new("kill").args(["-INT", &serve.0.id().to_string()]).status().unwrap();
    assert!(interrupted.success() && serve.end(DEADLINE).is_some(), "serve did not end at Ctrl-C");
    let (robot, serve) = (robot, serve.output());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.is_some(), "the robot did not end; serve said: {}", text(&serve.stderr));
    let robot = robot.output();
    assert!(robot.status.success(), "{}\nserve said: {}", text(&robot.stderr), text(&serve.stderr));
    assert!(serve.status.success(), "{}", text(&serve.stderr));
    let json = |output: &Output| serde_json::from_slice(&output.stdout).unwrap();
    Some((json(&robot), json(&serve)))
}

#[test]
fn in_lockstep() {
    let Some((robot, serve)) = drive("observation", "push_t_lockstep.toml") else { return };
    assert_eq!(robot["missing"], 0);
    assert!(robot["chunks"].as_u64().unwrap() >= 5);
    assert_eq!(serve["counters"]["observation_not_finite"], 1);
    for refusal in ["attachment_refused", "payload_refused", "encoding_refused", "shape_refused"] {
        assert_eq!(serve["counters"][refusal], 0, "{refusal}");
    }
}

#[test]
fn at_the_clocks_pace() {
    let Some((robot, serve)) = drive("clock", "push_t.toml") else { return };
    // A busy machine may miss some.
    assert!(robot["missing"].as_u64().unwrap() <= 10, "{robot}");
    assert!(serve["timings_ms"]["tick_jitter"]["count"].as_u64().unwrap() >= 40);
    for refusal in ["attachment_refused", "payload_refused", "encoding_refused", "shape_refused"] {
        assert_eq!(serve["counters"][refusal], 0, "{refusal}");
    }
}

/// Where the robot is when it next says that it is in `state`.
fn until_said(lines: &mut impl Iterator<Item = std::io::Result<String>>, state: &str) -> Vec<f64> {
    let begun = Instant::now();
    let mut says = lines.map(Result::unwrap).inspect(|line| {
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} for `{state}`, and it says `{line}`");
    });
    let said = says.find_map(|line| line.strip_prefix(state).map(str::to_owned));
    serde_json::from_str(&said.expect("the robot goes on")).unwrap()
}

#[test]
fn the_robot_of_the_examples_is_driven_and_holds_when_commands_end() {
    use std::io::{BufRead, BufReader};
    let checkpoint = Path::new(ROOT).join("checkpoints/push_t");
    let Some(python) = python() else {
        println!("skipped: no Python with the packages of tests/python/requirements.txt (see the README)");
        return;
    };
    let endpoint = format!("tcp/127.0.0.1:{}", free_port());
    let script = Path::new(ROOT).join("examples/python/robot.py");
    let mut robot = Running::start(Command::new(python).arg(script).arg(&endpoint));
    let mut lines = BufReader::new(robot.0.stdout.take().unwrap()).lines();
    let start = until_said(&mut lines, "holding");
    let file = Path::new(ROOT).join("configs/robots/push_t.toml");
    let mut serve = Running::start(
        Command::new(env!("CARGO_BIN_EXE_nudge"))
            .arg("serve")
            .arg(checkpoint)
            .arg("--robot")
            .arg(file)
            .args(["--connect", &endpoint, "--json"]),
    );
    let apart = |place: &[f64]| (place[0] - start[0]).hypot(place[1] - start[1]);
    let mut place = until_said(&mut lines, "driven");
    while apart(&place) < 30.0 {
        place = until_said(&mut lines, "driven");
    }
    let interrupted = Command::new("kill").args(["-INT", &serve.0.id().to_string()]).status().unwrap();
    assert!(interrupted.success() && serve.end(DEADLINE).is_some(), "serve did not end at Ctrl-C");
    let held = until_said(&mut lines, "holding");
    for _ in 0..5 {
        assert_eq!(until_said(&mut lines, "holding"), held);
    }
    let serve: Value = serde_json::from_slice(&serve.output().stdout).unwrap();
    for refusal in ["attachment_refused", "payload_refused", "encoding_refused", "shape_refused"] {
        assert_eq!(serve["counters"][refusal], 0, "{refusal}");
    }
}
