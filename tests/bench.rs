//! `nudge bench` as a program: what it tells, and what it refuses.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nudge"));
    command.arg("bench").args(arguments).current_dir(root).output().unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = bench(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("`{key}` is no number in {report}"))
}

/// That times are times, and in order.
fn check_times(report: &Value, n: u64) {
    assert_eq!(report["n"], n);
    let ordered = ["min_ms", "median_ms", "p99_ms", "p999_ms"].map(|key| number(report, key));
    assert!(ordered[0] > 0.0 && ordered.is_sorted(), "{ordered:?}");
    assert!((ordered[0]..=ordered[3] * 1.001).contains(&number(report, "mean_ms")), "{report}");
}

#[test]
fn plans_are_timed_beside_what_the_machine_can_do() {
    let plan = report(&["plan", "--plans", "4", "--network", "small", "--device", "cpu"]);
    check_times(&plan, 4);
    assert_eq!((&plan["sampler"], &plan["precision"]), (&"ddim10".into(), &"f32".into()));
    assert_eq!(plan["parameters"], 5_397_826);
    // The limit is made of what is told beside it.
    let reading = number(&plan, "read_gb") / number(&plan, "read_gb_per_s");
    let multiplying = number(&plan, "gflop") / number(&plan, "gflop_per_s");
    let limit = number(&plan, "limit_ms");
    assert!((limit / (1e3 * reading.max(multiplying)) - 1.0).abs() < 1e-9, "{plan}");
    assert!((number(&plan, "ratio_to_limit") * limit / number(&plan, "median_ms") - 1.0).abs() < 1e-9);
    assert!(number(&plan, "first_plan_ms") > number(&plan, "min_ms"));
}

#[test]
fn more_steps_and_larger_batches_cost_what_they_should() {
    let one = report(&["plan", "--plans", "3", "--checkpoint", "checkpoints/push_t"]);
    let more = report(&[
        "plan",
        "--plans",
        "3",
        "--checkpoint",
        "checkpoints/push_t",
        "--sampler",
        "ddpm20",
        "--batch",
        "3",
    ]);
    assert_eq!((&one["network"], &more["sampler"]), (&"checkpoints/push_t".into(), &"ddpm20".into()));
    assert!((number(&more, "gflop") / number(&one, "gflop") - 6.0).abs() < 1e-9);
    assert!((number(&more, "read_gb") / number(&one, "read_gb") - 2.0).abs() < 1e-9);
}

#[test]
fn training_steps_are_timed() {
    let train = report(&["train", "--batch", "4", "--threads", "2", "--steps", "5"]);
    check_times(&train, 5);
    assert_eq!((&train["threads"], &train["batch"]), (&2.into(), &4.into()));
    assert!((number(&train, "samples_per_s") * number(&train, "mean_ms") / 4e3 - 1.0).abs() < 1e-9);
}

#[test]
fn simulations_data_ticks_and_starts_are_timed() {
    let sim = report(&["sim", "--seconds", "0.05"]);
    let rows = sim["rows"].as_array().unwrap();
    let tasks: Vec<&str> = rows.iter().map(|row| row["task"].as_str().unwrap()).collect();
    assert_eq!(tasks, ["push_t", "push_t", "pick_place", "pick_place"]);
    assert!(rows.iter().all(|row| number(row, "steps_per_s_one_core") > 0.0), "{sim}");

    let data = report(&["data", "--seconds", "0.05", "--batch", "32"]);
    let [synthetic, recorded] = data["rows"].as_array().unwrap().as_slice() else { panic!("{data}") };
    assert_eq!((&synthetic["episodes"], &synthetic["frames"]), (&20.into(), &4000.into()));
    assert_eq!(recorded["data"], "datasets/push_t");
    assert!((number(recorded, "windows_per_s") * number(recorded, "median_ms") / 32e3 - 1.0).abs() < 1e-9);

    let large = report(&[
        "data",
        "--frames",
        "6000",
        "--dim",
        "4",
        "--memory-mib",
        "0.05",
        "--seconds",
        "0.05",
        "--batch",
        "64",
    ]);
    assert_eq!((large["frames"].as_u64(), large["streamed"].as_bool()), (Some(6000), Some(true)), "{large}");
    let rows = large["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["windows_per_s"].as_f64().unwrap() > 0.0), "{large}");
    // Episodes of 500 frames, each with 500 - 16 + 1 windows, one more before and seven after: whole epochs of them.
    assert!(rows[..2].iter().all(|row| row["windows"].as_u64().unwrap() >= 12 * 493), "{large}");

    let tick = report(&["tick", "--ticks", "1000"]);
    assert_eq!(
        (&tick["joints"], &tick["guard"]["n"], &tick["tick"]["n"]),
        (&7.into(), &1000.into(), &1000.into())
    );
    // The whole tick holds the guard's.
    assert!(number(&tick["tick"], "median_ns") >= number(&tick["guard"], "median_ns"), "{tick}");

    let start = report(&["start", "--runs", "2", "--checkpoint", "checkpoints/push_t"]);
    check_times(&start, 2);
    assert!(number(&start, "cold_own_ms") < number(&start, "cold_ms"));
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let cases: [(&[&str], &str); 7] = [
        (&["plan", "--network", "huge"], "small, paper"),
        (&["plan", "--network", "small", "--checkpoint", "checkpoints/push_t"], "cannot be used with"),
        (&["plan", "--checkpoint", "no/such"], "no/such"),
        (&["plan", "--sampler", "ddim101"], "not in 1..=100"),
        (&["plan", "--batch", "0"], "0 is not in 1..="),
        (&["train", "--batch", "9", "--threads", "2"], "choose a divisor"),
        (&["data", "--data", "no/such"], "no/such"),
    ];
    for (arguments, reason) in cases {
        let output = bench(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{arguments:?}: {said}");
    }
}

/// Folders of measurements, in a folder for temporary files of their own.
#[cfg(unix)]
#[test]
fn an_interrupted_measurement_leaves_nothing_behind() {
    use std::time::{Duration, Instant};

    let temporary = tempfile::tempdir().unwrap();
    let left = || std::fs::read_dir(temporary.path()).unwrap().count();
    let arguments = ["bench", "data", "--frames", "100000000", "--dim", "32", "--memory-mib", "64"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_nudge"))
        .args(arguments)
        .env("TMPDIR", temporary.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    while left() == 0 && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(left(), 1, "it works in a folder of its own");
    std::thread::sleep(Duration::from_millis(200));
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(left(), 0);
}

#[test]
fn without_pytorch_everything_else_goes_on() {
    let plan = report(&["plan", "--plans", "3", "--vs", "torch", "--python", "no-such-python"]);
    check_times(&plan, 3);
    let problem = plan["torch"]["problem"].as_str().unwrap();
    assert!(problem.contains("no-such-python"), "{problem}");

    let start = report(&["start", "--runs", "1", "--vs", "torch", "--python", "no-such-python"]);
    assert!(start["torch"]["problem"].as_str().unwrap().contains("no-such-python"), "{start}");
}

#[test]
fn pytorch_plans_the_same_from_the_same_weights() {
    let installed = Command::new("python3").args(["-c", "import torch"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3 has no torch");
        return;
    }
    let plan = report(&["plan", "--plans", "3", "--seconds", "1", "--vs", "torch"]);
    // Ten passes through the network in f32, summed in another order.
    assert!(number(&plan["torch"], "deviation") < 1e-4, "{plan}");
    assert!(number(&plan["torch"], "best_median_ms") > 0.0);

    let start = report(&["start", "--runs", "2", "--vs", "torch"]);
    let torch = &start["torch"];
    check_times(&torch["variants"]["eager f32"], 2);
    // What is measured holds what a plan takes, and Python and PyTorch themselves.
    assert!(number(torch, "best_median_ms") > 2.0 * number(&plan["torch"], "best_median_ms"), "{start}");
    assert!(number(torch, "first_ms") > 0.0);
}
