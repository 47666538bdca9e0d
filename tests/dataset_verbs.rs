//! Data sets looked into, converted, mended, filtered and divided by the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nudge_control::{
    Action, ActionFeature, ActionMode, Episode, Feature, FeatureKind, Frame, Interface, Limits, Observation,
};
use nudge_dataset::{Dataset, Recording, recording_note, write_episodes};
use serde_json::Value;

fn nudge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nudge")).args(arguments).output().expect("the program starts")
}

/// What a verb that must succeed prints.
fn told(arguments: &[&str]) -> String {
    let output = nudge(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The same with `--json`.
fn json_of(arguments: &[&str]) -> Value {
    let text = told(&[arguments, &["--json"]].concat());
    serde_json::from_str(&text).expect("JSON and nothing else on standard output")
}

/// What a verb that must fail says.
fn refusal(arguments: &[&str]) -> String {
    let output = nudge(arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// An episode that stands still for three frames, turns more than once around, and stands still for two.
fn episode(number: u64) -> Episode {
    let frames = 30 + 5 * number as usize;
    let interface = Interface {
        observation: vec![Feature::vector("observation.state", 3, "m,m,rad")],
        action: vec![ActionFeature {
            name: "action".into(),
            kind: FeatureKind::Vector,
            shape: vec![2],
            unit: "m".into(),
            mode: ActionMode::Absolute,
            limits: Limits { low: vec![-9.0; 2], high: vec![9.0; 2] },
        }],
        control_hz: 10.0,
    };
    let frame = |index: usize| {
        let moved = index.clamp(3, frames - 3) as f64 - 3.0;
        let turned = 0.4 * moved + number as f64;
        let angle = turned - std::f64::consts::TAU * (turned / std::f64::consts::TAU).round();
        let round = |value: f64| f64::from(value as f32);
        Frame {
            time_secs: index as f64 / 10.0,
            observation: Observation(vec![round(0.1 * moved), 7.0, round(angle)]),
            action: Action(vec![round(0.1 * moved), number as f64]),
            reward: index as f64 / frames as f64,
            success: number.is_multiple_of(2) && index + 1 == frames,
            done: index + 1 == frames,
        }
    };
    Episode {
        task: "turn".into(),
        interface,
        seed: (number != 4).then_some(100 + number),
        frames: (0..frames).map(frame).collect(),
    }
}

/// A set of six episodes of 30, 35, .. 55 frames.
fn recorded(dir: &Path) -> Dataset {
    let recording =
        Recording { instruction: "Turn around.".into(), robot_type: Some("arm".into()), setup: Value::Null };
    let episodes: Vec<Episode> = (0..6).map(episode).collect();
    write_episodes(dir, &episodes, &recording).unwrap();
    Dataset::open(dir).unwrap()
}

/// Every file below a folder with its bytes, but for where a set comes from (and sums, which cover that too).
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap().path();
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            if entry.is_dir() {
                folders.push(entry);
            } else if name != "provenance.json" && name != "SHA256SUMS" {
                found.insert(entry.strip_prefix(dir).unwrap().to_owned(), fs::read(&entry).unwrap());
            }
        }
    }
    found
}

#[test]
fn converting_twice_is_converting_once_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    recorded(&at("set"));
    let report = json_of(&["dataset", "convert", path(&at("set")), "--out", path(&at("once"))]);
    assert_eq!((report["episodes"].as_u64(), report["frames"].as_u64()), (Some(6), Some(255)));
    assert_eq!(report["features"][0]["name"], "observation.state");
    told(&["dataset", "convert", path(&at("once")), "--out", path(&at("twice"))]);
    assert_eq!(files(&at("once")), files(&at("set")), "a set of our own comes out as it was");
    assert_eq!(files(&at("twice")), files(&at("once")));
    let provenance = fs::read_to_string(at("twice/meta/provenance.json")).unwrap();
    let provenance: Value = serde_json::from_str(&provenance).unwrap();
    let steps = provenance["steps"].as_array().unwrap();
    assert_eq!((steps.len(), steps[1]["episodes"].as_str()), (2, Some("0-5")));
    assert_eq!(steps[0]["command"], format!("nudge dataset convert {}", path(&at("set"))));
}

#[test]
fn what_is_split_or_dropped_and_merged_again_is_all_there_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let set = recorded(&at("set"));
    let source = at("set");
    let split = ["dataset", "split", path(&source), "--share", "0.4", "--seed", "7", "--out"];
    for parts in ["parts", "again"] {
        let report = json_of(&[&split[..], &[path(&at(parts))]].concat());
        assert_eq!(
            (report["train"]["episodes"].as_u64(), report["validation"]["episodes"].as_u64()),
            (Some(4), Some(2))
        );
    }
    assert_eq!(files(&at("parts")), files(&at("again")), "the same seed is the same split");
    let (train, validation) = (at("parts/train"), at("parts/validation"));
    told(&["dataset", "merge", path(&train), path(&validation), "--out", path(&at("merged"))]);
    let seeds = |dir: &Path| -> Vec<Option<u64>> {
        let note = recording_note(&Dataset::open(dir).unwrap()).unwrap();
        note.episodes.iter().map(|episode| episode.seed).collect()
    };
    let mut all = seeds(&at("merged"));
    assert_eq!(all, [seeds(&train), seeds(&validation)].concat());
    all.sort_unstable();
    assert_eq!(all, [None, Some(100), Some(101), Some(102), Some(103), Some(105)]);
    assert_eq!(Dataset::open(&at("merged")).unwrap().frame_count(), set.frame_count());

    // At an episode the order is kept, so the whole comes back byte for byte.
    told(&["dataset", "split", path(&at("set")), "--at", "4", "--out", path(&at("cut"))]);
    let (first, second) = (at("cut/train"), at("cut/validation"));
    told(&["dataset", "merge", path(&first), path(&second), "--out", path(&at("whole"))]);
    assert_eq!(files(&at("whole")), files(&at("set")));

    told(&["dataset", "filter", path(&at("set")), "--drop", "1,3-4", "--out", path(&at("dropped"))]);
    told(&["dataset", "filter", path(&at("set")), "--keep", "0,2,5", "--out", path(&at("kept"))]);
    assert_eq!(files(&at("dropped")), files(&at("kept")));
    assert_eq!(seeds(&at("kept")), [Some(100), Some(102), Some(105)]);
}

#[test]
fn episodes_are_filtered_by_what_is_known_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    recorded(&at("set"));
    let mut place = 0;
    let mut left_out = |options: &[&str]| -> Vec<u64> {
        place += 1;
        let out = at(&format!("out{place}"));
        let report =
            json_of(&[&["dataset", "filter", path(&at("set")), "--out", path(&out)], options].concat());
        let left_out = report["left_out"].as_array().unwrap();
        left_out.iter().map(|left_out| left_out["episode"].as_u64().unwrap()).collect()
    };
    assert_eq!(left_out(&["--successful"]), [1, 3, 5]);
    assert_eq!(left_out(&["--min-frames", "40", "--max-frames", "50"]), [0, 1, 5]);
    assert_eq!(left_out(&["--seed-free"]), [0, 1, 2, 3, 5]);
    // Trimmed by six frames each before their lengths are asked.
    assert_eq!(left_out(&["--trim-idle", "--min-frames", "40"]), [0, 1, 2]);
    let printed =
        told(&["dataset", "filter", path(&at("set")), "--successful", "--out", path(&at("printed"))]);
    assert!(
        printed.contains("3 episodes are left out") && printed.contains("episode 1: it did not"),
        "{printed}"
    );
}

#[test]
fn edits_mend_what_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let set = recorded(&at("set"));
    let report = json_of(&[
        "dataset",
        "convert",
        path(&at("set")),
        "--out",
        path(&at("mended")),
        "--unwrap",
        "observation.state:2",
        "--trim-idle",
        "--shift-action",
        "1",
        "--drop-numbers",
        "observation.state:1",
        "--scale",
        "action:0=1000",
        "--rename",
        "next.reward=next.progress",
        "--drop-feature",
        "next.success",
        "--retime",
    ]);
    let mended = Dataset::open(&at("mended")).unwrap();
    assert_eq!(report["removed_frames"].as_u64(), Some((set.frame_count() - mended.frame_count()) as u64));
    assert!(report["remarks"].to_string().contains("meta/nudge.json"), "{report}");
    assert!(!at("mended/meta/nudge.json").exists());
    assert!(mended.has("next.progress") && !mended.has("next.success") && !mended.has("next.reward"));
    for number in 0..6 {
        let tables =
            mended.read_episode(number, &["observation.state", "action", "timestamp", "next.done"]).unwrap();
        let [state, action, time, done] = &tables[..] else { panic!() };
        // Three frames stand still at the beginning and three at the end; one of each stays, and the shift takes one.
        assert_eq!((state.rows, state.dim), (30 + 5 * number - 6, 2));
        for row in 0..state.rows {
            let (moved, next) = (row as f64, (row + 1) as f64);
            let turned = 0.4 * moved + number as f64;
            let whole_turns = std::f64::consts::TAU * (number as f64 / std::f64::consts::TAU).round();
            assert!((f64::from(state.row(row)[0]) - 0.1 * moved).abs() < 1e-5);
            assert!((f64::from(state.row(row)[1]) - (turned - whole_turns)).abs() < 1e-4, "{number} {row}");
            assert!((f64::from(action.row(row)[0]) - 100.0 * next).abs() < 1e-3);
            assert_eq!(time.row(row), [(row as f64 / 10.0) as f32]);
            assert_eq!(done.row(row)[0] != 0.0, row + 1 == state.rows);
        }
    }
}

#[test]
fn info_and_stats_tell_what_the_numbers_are() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    let set = recorded(&dir);
    let text = told(&["dataset", "info", path(&dir)]);
    for word in ["LeRobot v3.0", "6 episodes, 255 frames at 10 Hz", "Turn around.", "constant", "█"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let info = json_of(&["dataset", "info", path(&dir)]);
    assert_eq!((info["format"].as_str(), info["length"]["max"].as_u64()), (Some("lerobot_v3"), Some(55)));
    assert_eq!(info["sketch"]["episodes"], 6);
    for feature in info["sketch"]["features"].as_array().unwrap() {
        for histogram in feature["histograms"].as_array().unwrap() {
            let counted: u64 = histogram.as_array().unwrap().iter().filter_map(Value::as_u64).sum();
            assert_eq!(counted, set.frame_count() as u64, "{feature}");
        }
    }

    let stats = dir.join("meta/stats.json");
    let right = fs::read_to_string(&stats).unwrap();
    assert_eq!(json_of(&["dataset", "stats", path(&dir)])["disagreements"], Value::Array(Vec::new()));
    let mut wrong: Value = serde_json::from_str(&right).unwrap();
    wrong["action"]["max"][1] = 99.0.into();
    wrong["observation.images.top"] = serde_json::json!({"mean": [[[0.5]]]});
    fs::write(&stats, wrong.to_string()).unwrap();
    // Such a set has sums where it was written with them; whoever edits it by hand takes them away.
    let _ = fs::remove_file(dir.join("SHA256SUMS"));
    let report = json_of(&["dataset", "stats", path(&dir)]);
    let found = &report["disagreements"];
    assert_eq!((found.as_array().unwrap().len(), &found[0]["feature"]), (1, &Value::from("action")));
    assert_eq!((&found[0]["number"], &found[0]["statistic"]), (&Value::from(1), &Value::from("max")));
    assert!(told(&["dataset", "stats", path(&dir)]).contains("action[1] max: 99, computed 5"));
    told(&["dataset", "stats", path(&dir), "--write"]);
    assert_eq!(fs::read_to_string(&stats).unwrap(), right);
}

#[test]
fn what_cannot_be_done_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    recorded(&at("set"));
    let (set, out) = (at("set"), at("out"));
    let (set, out) = (path(&set), path(&out));
    for (arguments, words) in [
        (&["convert", set, "--drop-feature", "acton"][..], &["`acton`", "did you mean `action`?"][..]),
        (&["convert", set, "--rename", "action"], &["OLD=NEW"]),
        (&["convert", set, "--rename", "action=observation.state"], &["both"]),
        (&["convert", set, "--unwrap", "observation.state:3"], &["no number 3", "holds 3"]),
        (&["convert", set, "--scale", "action"], &["FEATURE=FACTOR"]),
        (&["convert", set, "--shift-action", "1000"], &["no episode is left"]),
        (&["convert", set, "--fps", "0"], &["above 0"]),
        (&["convert", "nowhere"], &["nowhere", "no such folder"]),
        (&["filter", set, "--keep", "6"], &["no episode 6", "holds 6"]),
        (&["filter", set, "--keep", "a-b"], &["`a-b`"]),
        (&["filter", set, "--drop", "0-5"], &["no episode is left"]),
        (&["filter", set, "--min-frames", "1000"], &["no episode is left", "1000 are asked for"]),
        (&["split", set, "--share", "1"], &["between 0 and 1"]),
        (&["split", set, "--at", "6"], &["from 1 to 5"]),
        (&["split", set, "--at", "3", "--share", "0.5"], &["cannot be used with"]),
    ] {
        let arguments = [&["dataset"], arguments, &["--out", out]].concat();
        let error = refusal(&arguments);
        words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{arguments:?} leaves something");
    }
    for verb in ["convert", "filter", "split"] {
        let error = refusal(&["dataset", verb, set, "--out", set]);
        assert!(error.contains("exists already"), "{error}");
    }
    let error = refusal(&["dataset", "stats", path(folder.path())]);
    assert!(error.contains("is not a data set"), "{error}");
}

#[test]
fn what_is_whole_of_a_damaged_set_is_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    recorded(&at("set"));
    let info = at("set/meta/info.json");
    let claims =
        fs::read_to_string(&info).unwrap().replace("\"total_episodes\": 6", "\"total_episodes\": 60");
    fs::write(&info, claims).unwrap();
    let _ = fs::remove_file(at("set/SHA256SUMS"));
    let (set, out) = (at("set"), at("out"));
    let convert = ["dataset", "convert", path(&set), "--out", path(&out)];
    let error = refusal(&convert);
    assert!(error.contains("60") && error.contains("--salvage"), "{error}");
    assert!(!out.exists());
    let report = json_of(&[&convert[..], &["--salvage"]].concat());
    assert_eq!(report["episodes"], 6);
    assert_eq!(Dataset::open(&out).unwrap().frame_count(), 255);
}

#[test]
fn recorded_episodes_are_seen_in_a_recording_of_rerun() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    recorded(&at("set"));
    let rrd = at("set.rrd");
    let view = ["dataset", "view", path(&at("set")), "--rrd", path(&rrd)].map(str::to_owned);
    let view: Vec<&str> = view.iter().map(String::as_str).collect();
    let text = told(&view);
    assert!(text.contains("6 episodes"), "{text}");
    let whole = fs::read(&rrd).unwrap();
    assert!(whole.starts_with(b"RRF2"));
    told(&[&view[..], &["--episode", "2"]].concat());
    assert!(fs::read(&rrd).unwrap().len() < whole.len());
    let error = refusal(&[&view[..], &["--episode", "6"]].concat());
    assert!(error.contains("no episode 6") && error.contains("holds 6"), "{error}");
    let error = refusal(&["dataset", "view", path(&at("set")), "--connect", "not an address"]);
    assert!(error.contains("127.0.0.1:9876"), "{error}");
}
