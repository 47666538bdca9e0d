//! `nudge eval` as a program: its figures, what they do not depend on, and what it refuses.

use std::process::{Command, Output};

use serde_json::Value;

fn eval(arguments: &[&str]) -> Output {
    let root = env!("CARGO_MANIFEST_DIR");
    Command::new(env!("CARGO_BIN_EXE_nudge")).arg("eval").args(arguments).current_dir(root).output().unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = eval(&[&["checkpoints/push_t", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_shipped_policy_solves_push_t_the_same_way_in_any_company() {
    let together = report(&["--episodes", "12"]);
    assert_eq!((&together["episodes"], &together["seed"]), (&12.into(), &100_000.into()));
    for figure in ["score", "success"] {
        let value = together[figure].as_f64().unwrap();
        let interval = together[format!("{figure}_ci")].as_array().unwrap();
        let [low, high] = [&interval[0], &interval[1]].map(|end| end.as_f64().unwrap());
        assert!(low <= value && value <= high && low < high, "{figure}: {value} [{low}, {high}]");
    }
    // Doing nothing scores 0.08; twelve episodes tell that from 0.96 with room to spare.
    assert!(together["score"].as_f64().unwrap() > 0.8, "{}", together["score"]);
    let alone = report(&["--episodes", "12", "--batch", "1"]);
    assert_eq!(together["per_episode"], alone["per_episode"]);
    assert_eq!(together["plans"], alone["plans"]);
}

#[test]
fn seeds_reset_rules_and_latency_change_the_episodes() {
    let plain = report(&["--episodes", "2"]);
    let others: [&[&str]; 4] =
        [&["--seed", "7"], &["--reset-rule", "gym"], &["--latency-steps", "2"], &["--executed", "4"]];
    for change in others {
        let other = report(&[&["--episodes", "2"], change].concat());
        assert_ne!(plain["per_episode"], other["per_episode"], "{change:?}");
    }
}

#[test]
fn an_evaluation_leaves_its_episodes_and_a_picture_of_the_worst() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("results");
    let printed = report(&["--episodes", "12", "--max-steps", "40", "--out", out.to_str().unwrap()]);
    let written: Value = serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap();
    assert_eq!(printed, written);

    let episodes = out.join("episodes");
    let mut replay = Command::new(env!("CARGO_BIN_EXE_nudge"));
    let replayed = replay.args(["replay", episodes.to_str().unwrap(), "--json"]).output().unwrap();
    let replayed: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    for (replayed, row) in replayed.as_array().unwrap().iter().zip(written["per_episode"].as_array().unwrap())
    {
        assert_eq!((&replayed["seed"], &replayed["frames"]), (&row["seed"], &row["steps"]));
        assert_eq!(replayed["execution"]["largest_deviation"], 0.0, "{replayed}");
    }

    let picture =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(out.join("worst.png")).unwrap()));
    let reader = picture.read_info().unwrap();
    let (width, height) = (reader.info().width, reader.info().height);
    assert!(width > 3 * 200 && height > 10 * 200, "ten rows of three frames in {width} x {height} px");

    let root = env!("CARGO_MANIFEST_DIR");
    let again = eval(&[&format!("{root}/checkpoints/push_t"), "--out", out.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
}

#[test]
fn what_cannot_be_evaluated_is_refused_with_the_reason() {
    let shipped = "checkpoints/push_t";
    let cases: [(&[&str], &str); 7] = [
        (&["no/such/folder"], "no/such/folder"),
        (&["configs"], "is this a checkpoint?"),
        (&[shipped, "--latency-steps", "15"], "leaves nothing of plans of 15 steps"),
        (&[shipped, "--sampler", "ddim101"], "sampler.steps"),
        (&[shipped, "--executed", "16"], "horizon.executed"),
        (&[shipped, "--episodes", "0"], "at least 1"),
        (&[shipped, "--variant", "bin"], "--variant is an option of pick_place"),
    ];
    for (arguments, reason) in cases {
        let output = eval(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(reason), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}
