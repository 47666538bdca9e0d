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
fn delays_and_seams_are_evaluated_in_one_table_and_each_as_if_alone() {
    let sweep = report(&["--episodes", "4", "--latency-steps", "0,2", "--seam", "switch,ensemble"]);
    let rows = sweep["rows"].as_array().unwrap();
    let pairs: Vec<_> = rows
        .iter()
        .map(|row| (row["latency_steps"].as_u64().unwrap(), row["seam"].as_str().unwrap()))
        .collect();
    assert_eq!(pairs, [(0, "switch"), (0, "ensemble"), (2, "switch"), (2, "ensemble")]);
    for (row, (latency, seam)) in rows.iter().zip(pairs) {
        let alone = report(&["--episodes", "4", "--latency-steps", &latency.to_string(), "--seam", seam]);
        for figure in ["per_episode", "smoothness", "held_steps", "score"] {
            assert_eq!(row[figure], alone[figure], "{figure} of {seam} with a delay of {latency}");
        }
        let jerk = &row["smoothness"][0]["jerk"];
        assert_eq!(jerk["unit"], "px/s^3");
        for place in ["seams", "inside"] {
            let [median, p99] = ["median", "p99"].map(|q| jerk[place][q].as_f64().unwrap());
            assert!(0.0 < median && median <= p99, "{row}");
        }
        assert_eq!(row.get("against_no_delay").is_some(), latency > 0);
    }
    // Without delay nothing is committed.
    let undelayed = report(&["--episodes", "4", "--latency-steps", "0", "--seam", "inpaint,switch"]);
    assert_eq!(undelayed["rows"][0]["per_episode"], undelayed["rows"][1]["per_episode"]);
    assert_eq!(undelayed["rows"][0]["per_episode"], rows[0]["per_episode"]);
    assert_ne!(
        rows[2]["per_episode"], rows[3]["per_episode"],
        "plans overlap, so their mean is none of them"
    );
    let printed = eval(&["checkpoints/push_t", "--episodes", "2", "--seam", "all", "--max-steps", "30"]);
    let text = String::from_utf8_lossy(&printed.stdout);
    assert!(text.contains("jerk at seams") && text.contains("ensemble"), "{text}");
}

#[test]
fn a_delay_beyond_half_of_the_executed_steps_is_bridged_by_the_rest_of_the_plan() {
    for (latency, holds) in [("7", false), ("8", true)] {
        let late = report(&["--episodes", "2", "--max-steps", "80", "--latency-steps", latency]);
        let held = late["held_steps"].as_u64().unwrap();
        // At 8 one step in eight, of 72 after the first plan of an episode.
        assert_eq!(held, if holds { 2 * 72 / 8 } else { 0 }, "delay {latency}");
    }
}

#[test]
fn an_alarm_is_calibrated_beside_the_checkpoint_and_told_by_evaluations_like_it() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["checkpoint.json", "weights.safetensors", "golden.safetensors", "SHA256SUMS"] {
        let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoints/push_t").join(file);
        std::fs::copy(shipped, folder.path().join(file)).unwrap();
    }
    let copy = folder.path().to_str().unwrap();
    let calibrate = |alpha: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_nudge"));
        program.args(["calibrate", copy, "--episodes", "50", "--alpha", alpha, "--json"]).output().unwrap()
    };
    let few = calibrate("0.001");
    let text = String::from_utf8_lossy(&few.stderr);
    assert!(!few.status.success() && text.contains("takes 999: run more episodes"), "{text}");

    let output = calibrate("0.2");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let alarm: Value = serde_json::from_slice(&output.stdout).unwrap();
    let written = std::fs::read(folder.path().join("alarm.json")).unwrap();
    assert_eq!(alarm, serde_json::from_slice::<Value>(&written).unwrap());
    let threshold = alarm["thresholds"]["inconsistency"].as_f64().unwrap();
    assert!(threshold > 0.0 && alarm["thresholds"].get("spread").is_none(), "{alarm}");

    let output = eval(&[copy, "--episodes", "12", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let above = |row: &&Value| row["largest"]["inconsistency"].as_f64().unwrap() > threshold;
    let alarmed = told["per_episode"].as_array().unwrap().iter().filter(above).count();
    let raised = ["successes", "failures"].map(|kind| told["alarms"][kind]["alarmed"].as_u64().unwrap());
    assert_eq!(raised[0] + raised[1], alarmed as u64);
    let output = eval(&[copy, "--episodes", "2", "--samples", "2", "--json"]);
    let other: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(other.get("alarms").is_none(), "calibrated for plans of one sample");
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
    let cases: [(&[&str], &str); 9] = [
        (&["no/such/folder"], "no/such/folder"),
        (&["configs"], "is this a checkpoint?"),
        (&[shipped, "--latency-steps", "15"], "leaves nothing of plans of 15 steps"),
        (&[shipped, "--seam", "all", "--out", "nowhere"], "one delay and one seam"),
        (&[shipped, "--seam", "prefix"], "policy.prefix"),
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
