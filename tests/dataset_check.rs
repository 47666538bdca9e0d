//! `nudge dataset check`: what it says of sound and of broken sets, and its exit status.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn nudge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nudge")).args(arguments).output().unwrap()
}

fn shipped(name: &str) -> String {
    format!("{}/datasets/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A copy of a shipped set.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_sound_set_may_be_trained_on_and_the_last_line_says_so() {
    let output = nudge(&["dataset", "check", &shipped("push_t")]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.lines().last().unwrap().contains("Training can go ahead"), "{text}");
    assert!(text.contains("angle-wrap") && text.contains("--unwrap observation.block_pose:2"), "{text}");
}

#[test]
fn a_set_that_claims_more_than_it_holds_is_refused_with_the_command_that_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    copy(Path::new(&shipped("push_t")), &set);
    let info = set.join("meta/info.json");
    let text = fs::read_to_string(&info).unwrap();
    fs::write(&info, text.replacen("\"total_episodes\": 200", "\"total_episodes\": 305", 1)).unwrap();
    let set = set.to_str().unwrap();
    let output = nudge(&["dataset", "check", set]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    for part in ["count-mismatch", "305", "200", "convert", "--salvage", "should not go ahead"] {
        assert!(text.contains(part), "expected `{part}` in: {text}");
    }
    let output = nudge(&["dataset", "check", set, "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["sound"], &report["errors"]), (&Value::Bool(false), &Value::from(1)));
    assert_eq!(report["findings"][0]["fault"], "count-mismatch");
    // Another fault alone is not there.
    let output = nudge(&["dataset", "check", set, "--only", "non-finite"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_is_no_set_and_what_is_no_fault_are_told_so() {
    let output = nudge(&["dataset", "check", "no/such/set", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["findings"][0]["fault"]), (Some(3), &"unreadable".into()));
    let output = nudge(&["dataset", "check", "no/such/set", "--only", "tremor"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("tremor") && text.contains("jerk"), "{text}");
}
