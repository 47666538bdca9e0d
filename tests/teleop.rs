//! `nudge teleop` as people use it: keys in a terminal, and commands of another program's library.
#![cfg(all(unix, feature = "zenoh"))]

mod running;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use running::{Running, free_port};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NUDGE: &str = env!("CARGO_BIN_EXE_nudge");

/// Runs a program in a pseudo-terminal of 80 x 24. `keys` are pressed 50 ms apart once the picture is there; what the
/// terminal got goes to standard output, and the exit code is the program's. The key `KILL` kills it with -9 once it has
/// said that an episode is saved. It ends after a minute in any case.
const TERMINAL: &str = r#"
import fcntl, os, pty, select, struct, sys, termios, time
keys, command = sys.argv[1].encode().decode("unicode_escape").encode("latin-1").split(b"|"), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execv(command[0], command)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
begun, pressed, seen = time.monotonic(), None, b""
while time.monotonic() - begun < 60:
    readable, _, _ = select.select([terminal], [], [], 0.02)
    if readable:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    ready = "▀".encode() in seen and b"Esc ends" in seen
    if ready and keys and (pressed is None or time.monotonic() - pressed > 0.05):
        if keys[0] == b"KILL" and b"saved episode" not in seen:
            continue
        key = keys.pop(0)
        if key == b"KILL":
            os.kill(child, 9)
        else:
            os.write(terminal, key)
        pressed = time.monotonic()
else:
    os.kill(child, 9)
sys.stdout.buffer.write(seen)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xff)
"#;

/// A Python that can do what `code` does.
fn python(code: &str) -> Option<PathBuf> {
    let candidates = [Path::new(ROOT).join("tests/python/.venv/bin/python"), PathBuf::from("python3")];
    candidates.into_iter().find(|python| {
        Command::new(python).args(["-c", code]).output().is_ok_and(|output| output.status.success())
    })
}

fn json_of(arguments: &[&str]) -> Value {
    let output = Command::new(NUDGE).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Presses `keys` (separated by |) in `nudge teleop push_t --out OUT`; what the terminal showed.
fn press(keys: &str, out: &str) -> Option<String> {
    let Some(python) = python("import pty, fcntl, termios") else {
        println!("skipped: no python3 with a module for pseudo-terminals");
        return None;
    };
    let output = Command::new(python)
        .args(["-c", TERMINAL, keys, NUDGE, "teleop", "push_t", "--out", out, "--rate", "4"])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    Some(shown)
}

#[test]
fn keys_drive_the_robot_and_what_was_done_is_a_set_that_replays() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    let out = out.to_str().unwrap();
    let right = r"\x1b[C|".repeat(12);
    let Some(shown) = press(&format!(r"{right}\r|\x1b"), out) else { return };
    // The terminal is as it was: cursor, main screen, no escape codes for keys.
    let rest = shown.rsplit_once("\u{1b}[<u").expect("the keys' escape codes are taken back").1;
    assert!(rest.contains("\u{1b}[?25h") && rest.contains("\u{1b}[?1049l"), "{rest:?}");
    assert!(rest.contains("1 episodes saved"), "{rest:?}");
    let info = json_of(&["dataset", "info", out, "--json"]);
    assert_eq!(info["episodes"], 1);
    let replayed = json_of(&["replay", out, "--json"]);
    assert_eq!(replayed[0]["execution"]["largest_deviation"], 0.0, "{replayed}");
    // The same command goes on; what is started again or left is not kept, and seeds do not come twice.
    press(&format!(r"{right}\x7f|{right}\r|{right}\x1b"), out);
    let replayed = json_of(&["replay", out, "--json"]);
    let seeds: Vec<_> = replayed.as_array().unwrap().iter().map(|episode| episode["seed"].as_u64()).collect();
    assert_eq!(seeds, [Some(0), Some(1)]);
    assert_eq!(replayed[1]["execution"]["largest_deviation"], 0.0, "{replayed}");
}

#[test]
fn what_was_saved_is_there_when_the_program_is_killed_and_nobody_else_records_into_it() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    let out = set.to_str().unwrap();
    let Some(python) = python("import pty, fcntl, termios") else {
        println!("skipped: no python3 with a module for pseudo-terminals");
        return;
    };
    let right = r"\x1b[C|".repeat(8);
    let killed = |keys: &str| {
        let command = ["-c", TERMINAL, keys, NUDGE, "teleop", "push_t", "--out", out, "--rate", "4"];
        let output = Command::new(&python).args(command).output().unwrap();
        // Minus 9, as far as an exit code tells it.
        assert_eq!(output.status.code(), Some(247), "{}", String::from_utf8_lossy(&output.stdout));
    };
    let seeds = || {
        let replayed = json_of(&["replay", out, "--json"]);
        let deviations = replayed.as_array().unwrap().iter().map(|e| &e["execution"]["largest_deviation"]);
        assert!(deviations.into_iter().all(|deviation| *deviation == 0.0), "{replayed}");
        replayed.as_array().unwrap().iter().map(|e| e["seed"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    // One is saved, the next is in progress.
    killed(&format!(r"{right}\r|{right}KILL"));
    assert!(set.join("meta/recording.lock").is_file());
    assert_eq!(seeds(), [0]);
    killed(&format!(r"{right}\r|KILL"));
    assert_eq!(seeds(), [0, 1]);
    press(&format!(r"{right}\r|\x1b"), out);
    assert_eq!(seeds(), [0, 1, 2]);
    assert!(!set.join("meta/recording.lock").exists() && set.join("SHA256SUMS").is_file());

    let other = nudge_dataset::Dataset::open(&set).unwrap();
    let note = nudge_dataset::recording_note(&other).unwrap();
    let recording = nudge_dataset::Recording {
        instruction: "push".into(),
        robot_type: Some("simulated".into()),
        setup: note.setup.clone(),
    };
    let _held = nudge_dataset::EpisodeAppender::open(&set, &note.task, &note.interface, recording).unwrap();
    let output =
        Command::new(NUDGE).args(["teleop", "push_t", "--out", out]).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("another program records into"), "{error}");
}

#[test]
fn without_a_terminal_the_keyboard_is_refused_and_the_bus_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(NUDGE)
        .args(["teleop", "push_t", "--out", folder.path().join("set").to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("--bus"), "{error}");
}

#[test]
fn a_script_drives_over_the_bus_within_limits() {
    let Some(python) = python("import zenoh") else {
        println!("skipped: no Python with eclipse-zenoh (see tests/python/requirements.txt)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    let out = out.to_str().unwrap();
    let endpoint = format!("tcp/127.0.0.1:{}", free_port());
    let _leader = Running(
        Command::new(python)
            .arg(Path::new(ROOT).join("examples/python/leader_arm.py"))
            .args(["--connect", &endpoint, "--seconds", "120"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let output = Command::new(NUDGE)
        .args(["teleop", "push_t", "--out", out, "--bus", "--listen", &endpoint])
        .args(["--all", "--episodes", "2", "--max-steps", "30", "--rate", "3"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let set = nudge_dataset::Dataset::open(Path::new(out)).unwrap();
    assert_eq!((set.episode_count(), set.frame_count()), (2, 60));
    for number in 0..2 {
        let episode = nudge_dataset::read_recorded(&set, number).unwrap();
        let actions: Vec<&[f64]> = episode.frames.iter().map(|frame| frame.action.0.as_slice()).collect();
        // At most 670 px/s, beginning from where the robot is; and it comes round the circle.
        let first = [&episode.frames[0].observation.0[..2]];
        let all: Vec<&[f64]> = first.into_iter().chain(actions.iter().copied()).collect();
        let far = |pair: &[&[f64]]| (0..2).map(|i| (pair[1][i] - pair[0][i]).abs()).fold(0.0, f64::max);
        assert!(all.windows(2).all(|pair| far(pair) <= 67.001), "{actions:?}");
        let [x, y] = [0, 1].map(|i| actions[29][i] - 256.0);
        assert!((x.hypot(y) - 150.0).abs() < 1.0, "{x}, {y}");
    }
    let replayed = json_of(&["replay", out, "--json"]);
    assert_eq!(replayed[1]["execution"]["largest_deviation"], 0.0, "{replayed}");
}
