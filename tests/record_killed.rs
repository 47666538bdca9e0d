//! `nudge record` is killed with -9 at many moments and run again: the set always opens, holds every episode that was said to be
//! on the disk, and is in the end the set that was recorded in one go, to the byte.
#![cfg(unix)]

#[path = "../crates/dataset/tests/files/mod.rs"]
mod files;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use files::files;
use nudge_control::split_mix_64;
use nudge_dataset::Dataset;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NUDGE: &str = env!("CARGO_BIN_EXE_nudge");
const RECORDING: [&str; 8] = ["record", "push_t", "--episodes", "30", "--seed", "7", "--max-steps", "150"];
/// Of more episodes than anybody waits for.
const ENDLESS: [&str; 8] = ["record", "push_t", "--episodes", "100000", "--seed", "7", "--max-steps", "150"];
const KILLS: usize = 24;

/// Runs a program in a pseudo-terminal, where there is a progress bar, and kills it with -9 after so many seconds. What the
/// terminal got goes to standard output; the exit code is 0 when the program came to its end, and 9 when it was killed.
const TERMINAL: &str = r#"
import os, pty, select, sys, time
after, command = float(sys.argv[1]), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execv(command[0], command)
begun, seen, killed = time.monotonic(), b"", False
while True:
    left = after - (time.monotonic() - begun)
    if left <= 0 and not killed:
        os.kill(child, 9)
        killed = True
    readable, _, _ = select.select([terminal], [], [], max(left, 0.01))
    if readable:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.stdout.buffer.write(seen)
sys.stdout.flush()
sys.exit(9 if status == -9 else status)
"#;

fn python() -> Option<PathBuf> {
    let candidates = [Path::new(ROOT).join("tests/python/.venv/bin/python"), PathBuf::from("python3")];
    candidates.into_iter().find(|python| {
        Command::new(python).args(["-c", "import pty"]).output().is_ok_and(|output| output.status.success())
    })
}

/// A folder in memory where there is one: a busy disk takes its time over what is to be on it for sure.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn nudge(arguments: &[&str]) -> Output {
    Command::new(NUDGE).args(arguments).output().unwrap()
}

/// How many episodes, kept or not, the set in `dir` knows of.
fn known(dir: &Path) -> usize {
    let note = fs::read_to_string(dir.join("meta/record.json")).map_or(Value::Null, |text| {
        serde_json::from_str(&text).expect("the note is whole, whenever it is read")
    });
    let left_out = note["left_out"].as_array().map_or(0, Vec::len);
    let kept = if dir.join("meta/info.json").is_file() {
        let set = Dataset::open(dir).unwrap();
        assert_eq!(set.read_all(&["action"]).unwrap().len(), set.episode_count());
        set.episode_count()
    } else {
        0
    };
    kept + left_out
}

#[test]
fn killed_at_many_moments_nothing_that_was_said_is_lost_and_the_set_is_that_of_one_go() {
    let Some(python) = python() else {
        println!("skipped: no python3 with a module for pseudo-terminals");
        return;
    };
    let folder = scratch();
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    let [whole_out, killed_out] = [&whole, &killed].map(|path| path.to_str().unwrap());
    let begun = std::time::Instant::now();
    let output = nudge(&[&RECORDING[..], &["--out", whole_out]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Long enough for an episode or two, short enough for all kills to come before the end.
    let longest = begun.elapsed().as_secs_f64() / 6.0;
    let (mut kills, mut told, mut ended) = (0, 0, 0);
    for moment in 0.. {
        // After all kills, the last recording is let to its end.
        let share = if kills >= KILLS { 1e4 } else { (split_mix_64(moment) % 1000) as f64 / 1000.0 };
        let after = longest * share;
        let output = Command::new(&python)
            .args(["-c", TERMINAL, &after.to_string(), NUDGE])
            .args(RECORDING)
            .args(["--out", killed_out])
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = shown.rfind(" on disk").and_then(|end| shown[..end].rsplit(' ').next());
        let said: usize = said.and_then(|text| text.parse().ok()).unwrap_or(told);
        assert!(said >= told, "{said} after {told}");
        if output.status.code() == Some(0) {
            assert!(files(&killed) == files(&whole), "recorded in pieces, it is another set");
            fs::remove_dir_all(&killed).unwrap();
            (told, ended) = (0, ended + 1);
        } else {
            assert_eq!(output.status.code(), Some(9), "{shown}{}", String::from_utf8_lossy(&output.stderr));
            kills += 1;
            let held = if killed.is_dir() { known(&killed) } else { 0 };
            assert!(held >= said, "{held} of {said} episodes that were on the disk");
            told = held;
        }
        if kills >= KILLS && told == 0 && ended > 0 {
            break;
        }
    }
    println!("{kills} kills in {ended} recordings");
}

#[test]
fn another_command_does_not_go_on_with_a_recording_that_was_cut_off() {
    let Some(python) = python() else {
        println!("skipped: no python3 with a module for pseudo-terminals");
        return;
    };
    let folder = scratch();
    let dir = folder.path().join("set");
    let out = dir.to_str().unwrap();
    // Killed as soon as something is there.
    for tenths in 1.. {
        assert!(tenths < 100, "no episode in ten seconds");
        let after = (f64::from(tenths) / 10.0).to_string();
        let mut command = Command::new(&python);
        command.args(["-c", TERMINAL, &after, NUDGE]).args(ENDLESS).args(["--out", out]);
        assert_eq!(command.output().unwrap().status.code(), Some(9));
        if dir.join("meta/info.json").is_file() {
            break;
        }
    }
    let before = files(&dir);
    for (place, value, word) in [(3, "30", "episodes"), (5, "8", "seed"), (7, "151", "max_steps")] {
        let mut other = ENDLESS;
        other[place] = value;
        let other = nudge(&[&other[..], &["--out", out]].concat());
        let error = String::from_utf8_lossy(&other.stderr);
        assert!(!other.status.success() && error.contains("another") && error.contains(word), "{error}");
        assert!(error.contains("nudge record push_t"), "the command that goes on is told: {error}");
    }
    let merged = folder.path().join("merged");
    let merge = nudge(&["dataset", "merge", out, "--out", merged.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&merge.stderr).contains("was cut off"));
    assert!(files(&dir) == before);
}
