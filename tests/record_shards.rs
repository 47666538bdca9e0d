//! A recording shared among many programs: some are killed, some run twice, and the set is the same.

#[path = "../crates/dataset/tests/files/mod.rs"]
mod files;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use files::files;
use serde_json::Value;

/// Episodes of the recording, of the task whose setup and interface have the most to say.
const RECORDING: [&str; 8] =
    ["record", "pick_place", "--variant", "stack", "--episodes", "16", "--seed", "40"];
const SHARDS: usize = 8;
/// Far more than a worker takes to begin.
const DEADLINE: Duration = Duration::from_secs(60);

/// The program, in an environment of no scheduler.
fn nudge(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nudge"));
    command.args(arguments);
    for variable in ["ID", "COUNT", "MIN", "STEP"] {
        command.env_remove(format!("SLURM_ARRAY_TASK_{variable}"));
    }
    command.env_remove("JOB_COMPLETION_INDEX");
    command
}

fn record(out: &Path, more: &[&str]) -> Command {
    nudge(&[&RECORDING[..], &["--out", text(out)], more].concat())
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What a program that must fail says.
fn refusal(mut command: Command) -> String {
    let output = command.output().expect("the program starts");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn assert_same_files(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (path, bytes) in &one {
        assert!(other[path] == *bytes, "{} differs", path.display());
    }
}

/// Names in `folder` that begin with `prefix`.
fn named(folder: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Starts the worker of a part and kills it, as a machine does that goes down, once it has begun to write.
fn kill_in_the_middle(parts: &Path, shard: usize) {
    let part = format!("{shard}/{SHARDS}");
    let mut worker = record(parts, &["--shard", &part]).stdout(Stdio::null()).spawn().unwrap();
    let begun_in = format!("shard-{shard:05}-of-");
    let begun = Instant::now();
    while named(parts, &begun_in).is_empty() {
        assert!(begun.elapsed() < DEADLINE, "part {shard} does not begin");
        std::thread::yield_now();
    }
    worker.kill().unwrap();
    assert_eq!(worker.wait().unwrap().signal(), Some(9), "part {shard} was over before it could be killed");
    assert_eq!(named(parts, &begun_in).len(), 1);
}

#[test]
fn parts_of_killed_and_repeated_workers_make_the_set_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts, merged] = ["whole", "parts", "merged"].map(|name| folder.path().join(name));
    succeed(record(&whole, &["--threads", "1"]));

    for shard in [1, 4, 6] {
        kill_in_the_middle(&parts, shard);
    }
    for shard in (0..SHARDS).filter(|shard| ![4, 6].contains(shard)) {
        succeed(record(&parts, &["--shard", &format!("{shard}/{SHARDS}")]));
    }
    let merge = || nudge(&["dataset", "merge", text(&parts), "--out", text(&merged), "--json"]);
    let error = refusal(merge());
    assert!(error.contains("missing: 4, 6"), "{error}");
    assert!(!merged.exists());

    // The command that makes a missing part is told; it is run as it stands, but for the program's place.
    for shard in [4, 6] {
        let command =
            error.lines().find(|line| line.ends_with(&format!("--shard {shard}/{SHARDS}"))).unwrap();
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        succeed(nudge(&words));
    }
    assert_eq!(named(&parts, "."), [""; 0], "what killed workers left is gone");
    let again = succeed(record(&parts, &["--shard", "4/8"]));
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to do"));

    let report: Value = serde_json::from_slice(&succeed(merge()).stdout).unwrap();
    assert_eq!(report["recorded"]["run"], 16);
    assert!(report["episodes"].as_u64() > Some(12), "the expert has hardly learned to fail: {report}");
    assert_same_files(&whole, &merged);
}

#[test]
fn the_scheduler_chooses_the_part() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("parts");
    let mut slurm = record(&parts, &[]);
    slurm.envs([
        ("SLURM_ARRAY_TASK_ID", "8"),
        ("SLURM_ARRAY_TASK_COUNT", "8"),
        ("SLURM_ARRAY_TASK_MIN", "1"),
    ]);
    let mut kubernetes = record(&parts, &["--shards", "8"]);
    kubernetes.env("JOB_COMPLETION_INDEX", "2");
    for (command, name) in [(slurm, "shard-00007-of-00008"), (kubernetes, "shard-00002-of-00008")] {
        succeed(command);
        assert!(parts.join(name).join("meta/shard.json").is_file(), "{name}");
    }
    let mut kubernetes = record(&parts, &[]);
    kubernetes.env("JOB_COMPLETION_INDEX", "2");
    let error = refusal(kubernetes);
    assert!(error.contains("--shards N"), "{error}");

    let other = record(&parts, &["--shard", "2/8", "--max-steps", "150"]);
    let error = refusal(other);
    assert!(error.contains("another recording") && error.contains("max_steps"), "{error}");
}

#[test]
fn a_part_may_be_empty_but_a_set_not() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("parts");
    let never = ["record", "push_t", "--episodes", "2", "--max-steps", "1", "--out", text(&parts)];
    for part in ["0/2", "1/2"] {
        succeed(nudge(&[&never[..], &["--shard", part]].concat()));
    }
    let merged = folder.path().join("merged");
    let error = refusal(nudge(&["dataset", "merge", text(&parts), "--out", text(&merged)]));
    assert!(error.contains("no episode to merge"), "{error}");
}

#[test]
fn sets_that_are_not_alike_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, both] = ["first", "second", "both"].map(|name| folder.path().join(name));
    for (seed, out) in [("1", &first), ("2", &second)] {
        let run = ["record", "push_t", "--episodes", "1", "--max-steps", "5", "--all", "--seed", seed];
        succeed(nudge(&[&run[..], &["--out", text(out)]].concat()));
    }
    succeed(nudge(&["dataset", "merge", text(&first), text(&second), "--out", text(&both)]));
    let replayed = succeed(nudge(&["replay", text(&both), "--json"]));
    let replayed: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    for (episode, seed) in [(0, 1), (1, 2)] {
        assert_eq!(replayed[episode]["seed"], seed);
        assert_eq!(replayed[episode]["execution"]["largest_deviation"], 0.0, "{replayed}");
    }

    let info = second.join("meta/info.json");
    let renamed = fs::read_to_string(&info).unwrap().replace("observation.keypoints", "observation.corners");
    fs::write(&info, renamed).unwrap();
    let again = folder.path().join("again");
    let error = refusal(nudge(&["dataset", "merge", text(&first), text(&second), "--out", text(&again)]));
    assert!(error.contains("info.json") && error.contains("SHA256SUMS") && !again.exists(), "{error}");
    fs::remove_file(second.join("SHA256SUMS")).unwrap();
    let error = refusal(nudge(&["dataset", "merge", text(&first), text(&second), "--out", text(&again)]));
    assert!(error.contains("no feature `observation.keypoints`") && !again.exists(), "{error}");
}
