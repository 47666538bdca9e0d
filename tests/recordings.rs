//! Episodes recorded in simulation, looked into and replayed by the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nudge_control::{Action, Episode, Frame, Task};
use nudge_dataset::{Dataset, Recording, read_recorded, write_episodes};
use nudge_policy::SamplerConfig;
use nudge_sim::TaskConfig;
use nudge_sim::push_t::PushTConfig;
use serde_json::{Value, json};

fn nudge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nudge")).args(arguments).output().expect("the program starts")
}

/// What a verb that must succeed prints with `--json`.
fn json_of(arguments: &[&str]) -> Value {
    let output = nudge(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON and nothing else on standard output")
}

/// An episode of an agent that circles through the block, in numbers of 32 bits.
fn circling(config: &TaskConfig, seed: u64, frames: usize) -> Episode {
    let mut task: Box<dyn Task> = config.build();
    let mut observation = task.reset(seed);
    let mut recorded = Vec::new();
    for index in 0..frames {
        let angle = index as f64 * 0.3;
        let place = [256.0 + 120.0 * angle.cos(), 256.0 + 120.0 * angle.sin()];
        let action = Action(place.map(|value| f64::from(value as f32)).to_vec());
        let step = task.step(&action);
        let seen = std::mem::replace(&mut observation, step.observation);
        recorded.push(Frame {
            time_secs: index as f64 / 10.0,
            observation: seen,
            action,
            reward: step.reward,
            success: step.success,
            done: step.done,
        });
    }
    Episode { task: "push_t".into(), interface: task.interface().clone(), seed: Some(seed), frames: recorded }
}

fn write(dir: &Path, episodes: &[Episode], config: &TaskConfig) {
    let setup =
        json!({"task": config, "checkpoint": "none", "sampler": SamplerConfig::ddim(10), "executed": 8});
    let recording = Recording { instruction: "circle".into(), robot_type: None, setup };
    write_episodes(dir, episodes, &recording).unwrap();
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

#[test]
fn replay_reproduces_a_recording_and_notices_another() {
    let folder = tempfile::tempdir().unwrap();
    let config = TaskConfig::PushT(PushTConfig::default());
    let mut episodes = [circling(&config, 3, 80), circling(&config, 4, 60)];
    let (same, other) = (folder.path().join("same"), folder.path().join("other"));
    write(&same, &episodes, &config);
    let gif = folder.path().join("replay.gif");
    let replayed = json_of(&["replay", path(&same), "--json", "--gif", path(&gif)]);
    assert_eq!(replayed.as_array().unwrap().len(), 2);
    for (episode, replayed) in episodes.iter().zip(replayed.as_array().unwrap()) {
        assert_eq!(replayed["seed"].as_u64(), episode.seed);
        assert_eq!(replayed["execution"]["largest_deviation"], 0.0, "{replayed}");
        let reward = replayed["execution"]["reward"].as_f64().unwrap();
        assert_eq!(reward, episode.frames.last().unwrap().reward);
    }
    let animation = fs::read(&gif).unwrap();
    assert!(animation.starts_with(b"GIF89a") && animation.len() > 10_000);

    episodes[1].frames[30].action.0[0] += 5.0;
    write(&other, &episodes, &config);
    let replayed = json_of(&["replay", path(&other), "--episode", "1", "--json"]);
    let execution = &replayed[0]["execution"];
    assert!(execution["largest_deviation"].as_f64().unwrap() > 0.1, "{replayed}");
    assert!(execution["at"]["frame"].as_u64().unwrap() > 30, "{replayed}");
}

#[test]
fn dataset_info_tells_what_is_there_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    let config = TaskConfig::PushT(PushTConfig::default());
    let mut episode = circling(&config, 3, 20);
    episode.frames[7].observation.0[1] = f64::NAN;
    write(&dir, &[episode], &config);
    let info = json_of(&["dataset", "info", path(&dir), "--json"]);
    assert_eq!((info["episodes"].as_u64(), info["frames"].as_u64()), (Some(1), Some(20)));
    assert_eq!(info["fps"].as_f64(), Some(10.0));
    assert_eq!(info["features"][0]["name"], "observation.state");
    let checked = nudge(&["dataset", "check", path(&dir), "--only", "non-finite", "--json"]);
    assert_eq!(checked.status.code(), Some(3));
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let finding = &checked["findings"][0];
    assert_eq!((&finding["feature"], &finding["number"]), (&json!("observation.state"), &json!(1)));
    assert_eq!(
        (&finding["episode"], &finding["frame"], &finding["count"]),
        (&json!(0), &json!(7), &json!(1))
    );

    let broken = nudge(&["dataset", "info", path(folder.path())]);
    let error = String::from_utf8_lossy(&broken.stderr);
    assert!(!broken.status.success() && error.contains("no meta/info.json"), "{error}");
    fs::remove_file(dir.join("meta/nudge.json")).unwrap();
    let foreign = nudge(&["replay", path(&dir)]);
    let error = String::from_utf8_lossy(&foreign.stderr);
    assert!(!foreign.status.success() && error.contains("nudge.json"), "{error}");
}

/// A checkpoint that ships with the program, or `None` (said aloud) when there is none.
fn shipped() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoints");
    let entries = fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
    let found = entries.map(|entry| entry.path()).find(|path| path.join("checkpoint.json").is_file());
    if found.is_none() {
        println!("SKIPPED: no checkpoint in {}", folder.display());
    }
    found
}

#[test]
fn what_an_expert_demonstrates_is_recorded_and_replays() {
    let folder = tempfile::tempdir().unwrap();
    for (task, option, unit) in
        [("push_t", ["--reset-rule", "gym"], "px/s"), ("pick_place", ["--actions", "joint"], "m/s")]
    {
        let dir = folder.path().join(task);
        let record = ["record", task, option[0], option[1], "--episodes", "3", "--out", path(&dir), "--json"];
        let report = json_of(&record);
        let kept = report["kept"].as_u64().unwrap();
        assert!(kept > 0 && report["episodes"] == 3, "{report}");
        assert_eq!(report["expert_success"].as_f64().unwrap(), kept as f64 / 3.0);
        assert_eq!(report["speed"]["unit"], unit);
        let length = |name: &str| report["length"][name].as_u64().unwrap();
        assert!(0 < length("min") && length("min") <= length("median") && length("median") <= length("max"));
        let replayed = json_of(&["replay", path(&dir), "--json"]);
        assert_eq!(replayed.as_array().unwrap().len() as u64, kept);
        for episode in replayed.as_array().unwrap() {
            assert_eq!(episode["execution"]["largest_deviation"], 0.0, "{episode}");
        }
    }
    let out = folder.path().join("none");
    let astray = nudge(&["record", "push_t", "--sampler", "ddim10", "--out", path(&out)]);
    assert!(String::from_utf8_lossy(&astray.stderr).contains("--sampler says how a policy plans"));
    assert!(!out.exists());
}

#[test]
fn what_a_policy_did_is_recorded_and_it_does_the_same_again() {
    let Some(checkpoint) = shipped() else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    let (checkpoint, out) = (path(&checkpoint), path(&dir));
    let report = json_of(&[
        "record",
        "push_t",
        "--checkpoint",
        checkpoint,
        "--episodes",
        "3",
        "--seed",
        "500",
        "--out",
        out,
        "--all",
        "--json",
    ]);
    assert_eq!((report["episodes"].as_u64(), report["kept"].as_u64()), (Some(3), Some(3)));
    let dataset = Dataset::open(&dir).unwrap();
    assert_eq!(report["frames"].as_u64(), Some(dataset.frame_count() as u64));
    assert_eq!(read_recorded(&dataset, 2).unwrap().seed, Some(502));
    let replayed = json_of(&["replay", out, "--checkpoint", checkpoint, "--json"]);
    for episode in replayed.as_array().unwrap() {
        assert_eq!(episode["execution"]["largest_deviation"], 0.0, "{episode}");
        assert_eq!(episode["policy"], "identical", "{episode}");
    }
    let again = nudge(&["record", "push_t", "--checkpoint", checkpoint, "--out", out]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("exists already"));
}
