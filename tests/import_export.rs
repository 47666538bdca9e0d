//! A policy leaves for another program and comes back, by the program's own commands.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn nudge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nudge"))
        .current_dir(ROOT)
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// What a verb that must succeed prints with `--json`.
fn json_of(arguments: &[&str]) -> Value {
    let output = nudge(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON and nothing else on standard output")
}

#[test]
fn a_policy_that_came_back_scores_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().expect("a plain name").to_owned();
    let score = |checkpoint: &str| {
        let mut report = json_of(&["eval", checkpoint, "--episodes", "2", "--json"]);
        report["per_episode"].take()
    };
    let before = score("checkpoints/push_t");
    assert!(before.as_array().is_some_and(|episodes| episodes.len() == 2), "{before}");
    for names in ["diffusion-policy", "lerobot"] {
        let (there, back) = (path(names), path(&format!("{names}-back")));
        let report = json_of(&["export", "checkpoints/push_t", "--names", names, "--out", &there, "--json"]);
        let parameters = report["parameters"].clone();
        let report = json_of(&["import", &there, "--out", &back, "--json"]);
        assert_eq!((&report["parameters"], &report["task"]), (&parameters, &Value::from("push_t")));
        assert_eq!(score(&back), before);
    }
    // Another's state dict, told by the configuration that it was trained with.
    let (file, out) = (path("plain.safetensors"), path("plain"));
    std::fs::copy(Path::new(ROOT).join("checkpoints/push_t/weights.safetensors"), &file).unwrap();
    let refused = nudge(&["import", &file, "--config", "configs/push_t.toml", "--out", &out]);
    assert!(!refused.status.success() && !Path::new(&out).exists());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("[normaliser]"));
    let ranges = format!(
        "{}\n[normaliser]\nobservation = {{ low = {:?}, high = {:?} }}\naction = {{ low = {:?}, high = {:?} }}\n",
        std::fs::read_to_string(Path::new(ROOT).join("configs/push_t.toml")).unwrap(),
        [0.0; 18],
        [512.0; 18],
        [0.0; 2],
        [512.0; 2]
    );
    std::fs::write(path("ranges.toml"), ranges).unwrap();
    let output = nudge(&["import", &file, "--config", &path("ranges.toml"), "--out", &out]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1386146 parameters") && text.contains(&format!("nudge eval {out}")), "{text}");
}
