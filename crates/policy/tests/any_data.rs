//! Training on sets as people bring them: their ranges, their angles, their size.

use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nudge_control::{Observation, ObservationWindow, PlanRequest, Policy as _};
use nudge_dataset::{Column, DatasetWriter, FeatureInfo, WriteSpec};
use nudge_policy::{
    Angles, DeviceChoice, DiffusionPolicy, Manifest, Normalization, NormalizationKind, Relative, TrainConfig,
    TrainEvent, TrainPaths, TrainReport, train,
};

const CONFIG: &str = r#"
task = "test"
seed = 3

[data]
path = "nowhere"
validation_share = 0.1

[policy]
objective = "epsilon"
horizon = { observed = 2, predicted = 8, executed = 4 }
schedule = { curve = "squaredcos_cap_v2", train_steps = 50 }
sampler = { kind = "ddim", steps = 10 }

[policy.network]
kind = "conditional_unet_1d"
down_dims = [16, 32]
diffusion_step_embed_dim = 16
kernel_size = 3
n_groups = 8
cond_predict_scale = true

[training]
steps = 12
batch_size = 16
shards = 1
validate_every = 5
checkpoint_every = 1000
keep = 2
optimizer = { learning_rate = 1e-3, betas = [0.95, 0.999], epsilon = 1e-8, weight_decay = 1e-6, warmup_steps = 5 }
ema = { power = 0.75, max_decay = 0.99 }

[interface]
control_hz = 10.0
observation = [{ name = "state", kind = "vector", shape = [2], unit = "" }]
action = [{ name = "action", kind = "vector", shape = [2], unit = "", limits = { low = [-9.0, -9.0], high = [9.0, 9.0] } }]
"#;

fn config() -> TrainConfig {
    TrainConfig::from_toml(CONFIG).unwrap()
}

/// A set of 40 frames an episode; `at` gives what is observed at a step, and the action is what is observed next.
fn recorded(dir: &Path, name: &str, episodes: usize, at: impl Fn(usize, usize) -> [f64; 2]) -> PathBuf {
    let feature = |name: &str| FeatureInfo {
        name: name.into(),
        dtype: "float32".into(),
        shape: vec![2],
        names: Vec::new(),
    };
    let features = vec![feature("state"), feature("action")];
    let path = dir.join(name);
    let mut writer =
        DatasetWriter::create(&path, WriteSpec { fps: 10.0, robot_type: None, features }).unwrap();
    for episode in 0..episodes {
        let column = |lead: usize| {
            Column::Float32((0..40).flat_map(|step| at(episode, step + lead).map(|v| v as f32)).collect())
        };
        let times: Vec<f32> = (0..40).map(|step| step as f32 / 10.0).collect();
        writer.push("go on", &times, &[column(0), column(1)]).unwrap();
    }
    writer.finish().unwrap();
    path
}

/// Trains, and tells the losses.
fn trained(config: &TrainConfig, data: &Path, out: &Path) -> (TrainReport, Vec<f64>) {
    let (paths, mut losses) = (TrainPaths { data: Some(data), out, resume: false, init: None }, Vec::new());
    let report = train(config, &paths, DeviceChoice::Cpu, &AtomicBool::new(false), &mut |event| {
        if let TrainEvent::Step { loss, .. } = event {
            losses.push(*loss);
        }
    });
    (report.unwrap(), losses)
}

fn plan(policy: &mut DiffusionPolicy, before: [f64; 2], newest: [f64; 2]) -> Vec<Vec<f64>> {
    let window = ObservationWindow([before, newest].map(|seen| Observation(seen.to_vec())).to_vec());
    let request = PlanRequest { step: 1, window, committed: Vec::new(), hurried: false, noise_seed: 1 };
    let executed = policy.horizon().executed;
    let chunk = policy.predict(&[request]).unwrap().remove(0);
    chunk.actions.into_iter().take(executed).map(|action| action.0).collect()
}

fn both(kind: NormalizationKind) -> Vec<Normalization> {
    let share = |share: f64| (kind == NormalizationKind::Quantiles).then_some(share);
    let of =
        |feature: &str| Normalization { feature: feature.into(), kind, low: share(0.1), high: share(0.9) };
    vec![of("state"), of("action")]
}

/// A point that stays near the middle and makes one wide excursion: the extremes lie many deviations out.
fn excursion(_: usize, step: usize) -> [f64; 2] {
    let far = (-((step as f64 - 20.0) / 3.0).powi(2)).exp();
    [5.0 + 3.0 * far, -2.0 + 0.02 * step as f64]
}

#[test]
fn actions_far_from_the_mean_are_planned_and_nothing_beyond_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = recorded(dir.path(), "data", 2, excursion);
    for (kind, name) in [(NormalizationKind::MeanStd, "mean"), (NormalizationKind::Quantiles, "quantiles")] {
        let mut config = config();
        config.policy.normalization = both(kind);
        config.data.validation_share = 0.0;
        (config.training.steps, config.training.batch_size) = (1000, 64);
        config.training.optimizer.learning_rate = 3e-3;
        let (report, _) = trained(&config, &data, &dir.path().join(name));
        let mut policy = DiffusionPolicy::load(&report.checkpoint, DeviceChoice::Cpu).unwrap();
        let (range, action) = (policy.manifest().clip_range, policy.manifest().action.clone());
        // The top of the excursion, in normalised units.
        let top = f64::from(action.normalise([8.0, -2.0]).next().unwrap());
        assert!((range - top).abs() < 0.05 && top > 1.01, "{name}: {range} and {top}");
        // One recording, learned by heart: the way over the top. What is clipped to 1 cannot get there.
        let plan = plan(&mut policy, excursion(0, 17), excursion(0, 18));
        let limit = f64::from(action.unnormalise([1.0, 1.0]).next().unwrap() as f32);
        let highest = plan.iter().map(|action| action[0]).fold(f64::MIN, f64::max);
        assert!((highest - 8.0).abs() < 0.25 && highest <= 8.0 + 0.05, "{name}: {plan:?}");
        assert!(highest > limit + 0.3, "{name}: {highest} is within {limit}");
    }
}

/// A heading that turns on and on, and a speed.
fn turning(turns: impl Fn(usize) -> f64) -> impl Fn(usize, usize) -> [f64; 2] {
    move |episode, step| {
        let heading = 0.9 * episode as f64 + 0.15 * step as f64;
        [heading + TAU * turns(episode), 0.5 + 0.01 * step as f64]
    }
}

fn with_headings(mut config: TrainConfig) -> TrainConfig {
    let angles = |feature: &str| Angles { feature: feature.into(), numbers: vec![0] };
    config.policy.angles = vec![angles("state"), angles("action")];
    config
}

#[test]
fn whole_turns_of_a_heading_make_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let plain = recorded(dir.path(), "plain", 6, turning(|_| 0.0));
    let turned = recorded(dir.path(), "turned", 6, turning(|episode| episode as f64 % 3.0 - 1.0));
    let losses =
        |config: &TrainConfig, data: &Path, name: &str| trained(config, data, &dir.path().join(name)).1;
    let apart =
        |one: &[f64], two: &[f64]| one.iter().zip(two).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let relative = |mut config: TrainConfig| {
        let (action, to) = ("action".to_owned(), "state".to_owned());
        config.policy.relative =
            vec![Relative { action, numbers: vec![0], to, to_numbers: vec![0], hidden: false }];
        config
    };
    for (config, name) in
        [(with_headings(config()), "angles"), (relative(with_headings(config())), "relative")]
    {
        let one = losses(&config, &plain, &format!("{name}_plain"));
        let two = losses(&config, &turned, &format!("{name}_turned"));
        // Rounding of 2 pi more in f32, through twelve updates; without the angles it is another training.
        assert!(apart(&one, &two) < 1e-3, "{name}: {one:?} {two:?}");
    }
    let (one, two) = (losses(&config(), &plain, "one"), losses(&config(), &turned, "two"));
    assert!(apart(&one, &two) > 1e-2, "{one:?} {two:?}");
}

#[test]
fn a_heading_is_planned_past_half_a_turn() {
    let dir = tempfile::tempdir().unwrap();
    let at = turning(|_| 0.0);
    let data = recorded(dir.path(), "data", 6, &at);
    let mut config = with_headings(config());
    (config.training.steps, config.training.batch_size) = (1500, 64);
    config.training.optimizer.learning_rate = 3e-3;
    let (report, _) = trained(&config, &data, &dir.path().join("run"));
    let mut policy = DiffusionPolicy::load(&report.checkpoint, DeviceChoice::Cpu).unwrap();
    assert_eq!((policy.manifest().action.dim(), policy.interface().action_dim()), (3, 2));
    // At step 19 of the first episode the heading is 2.85, and passes pi within the plan of four actions.
    let actions = plan(&mut policy, at(0, 18), at(0, 19));
    for (step, action) in (20..).zip(&actions) {
        let expected = at(0, step);
        assert!((action[0] - expected[0]).abs() < 0.2, "{actions:?}: not {expected:?}");
    }
    assert!(actions.last().unwrap()[0] > 3.2, "{actions:?}");
    // The same, observed a turn further: the plan is the same to rounding.
    let further = plan(&mut policy, [at(0, 18)[0] - TAU, at(0, 18)[1]], [at(0, 19)[0] - TAU, at(0, 19)[1]]);
    for (one, two) in actions.iter().zip(&further) {
        assert!((one[0] - two[0]).abs() < 1e-3, "{actions:?} {further:?}");
    }
}

#[test]
fn a_streamed_training_that_is_stopped_resumes_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let data = recorded(dir.path(), "data", 30, turning(|_| 0.0));
    let mut config = config();
    // 1,200 frames of 20 bytes; pools of some 220 frames.
    config.data.memory_mib = Some(0.01);
    (config.training.steps, config.training.batch_size, config.training.checkpoint_every) = (60, 32, 25);
    let run = |name: &str, resume: bool, stop_at: u64| {
        let (stop, out) = (AtomicBool::new(false), dir.path().join(name));
        let paths = TrainPaths { data: Some(&data), out: &out, resume, init: None };
        let report = train(&config, &paths, DeviceChoice::Cpu, &stop, &mut |event| {
            if matches!(event, TrainEvent::Step { step, .. } if *step == stop_at) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        report.unwrap()
    };
    let whole = run("whole", false, u64::MAX);
    assert!(!run("parts", false, 7).finished);
    assert!(!run("parts", true, 38).finished);
    let parts = run("parts", true, u64::MAX);
    let weights = |report: &TrainReport| fs::read(report.checkpoint.join("weights.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&parts));
}

#[test]
fn what_older_checkpoints_say_of_themselves_is_written_as_it_was() {
    for name in ["push_t", "push_t_human", "pick_place"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let bytes = fs::read_to_string(root.join("checkpoints").join(name).join("checkpoint.json")).unwrap();
        let manifest: Manifest = serde_json::from_str(&bytes).unwrap();
        assert_eq!(manifest.clip_range, 1.0);
        assert_eq!(serde_json::to_string_pretty(&manifest).unwrap() + "\n", bytes);
    }
}

/// The fixtures of `tests/python/make_format_fixtures.py`: number `n` of frame `f` of episode `e` is `1000 e + 10 f + n`,
/// and the last of three episodes has nine frames.
#[test]
fn one_interface_is_trained_on_from_zarr_and_from_hdf5() {
    let dir = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataset/tests/fixtures");
    // Two numbers of what is observed are as different as the formats' names for them.
    for (file, hz, features) in [
        ("blosc_zstd_bitshuffle.zarr", 10.0, r#"[{ name = "state", from = "keypoint", numbers = [17, 3] }]"#),
        (
            "gzip.hdf5",
            20.0,
            r#"[{ name = "state", from = "obs/eef_pos", numbers = [2, 0] }, { name = "action", from = "actions" }]"#,
        ),
    ] {
        let text =
            CONFIG.replace("path = \"nowhere\"", &format!("path = \"nowhere\"\nfeatures = {features}"));
        let text = text.replace("control_hz = 10.0", &format!("control_hz = {hz}"));
        let config = TrainConfig::from_toml(&text).unwrap();
        let (report, losses) = trained(&config, &fixtures.join(file), &dir.path().join(file));
        assert!(report.finished && losses.len() == 12);
        let policy = DiffusionPolicy::load(&report.checkpoint, DeviceChoice::Cpu).unwrap();
        let Manifest { action, observation, trained, .. } = policy.manifest();
        assert_eq!((trained.episodes, trained.frames), (3, 20));
        assert_eq!((&action.low, &action.high), (&vec![0.0, 1.0], &vec![2080.0, 2081.0]));
        let numbers = if hz == 10.0 { [17.0, 3.0] } else { [2.0, 0.0] };
        assert_eq!(observation.low, numbers);
        assert_eq!(observation.high, numbers.map(|number| number + 2080.0));
        // A set that states its rate is not taken for another's.
        let mut other = config.clone();
        other.interface.control_hz = 15.0;
        let (out, stop) = (dir.path().join(format!("other_{file}")), AtomicBool::new(false));
        let paths = TrainPaths { data: Some(&fixtures.join(file)), out: &out, resume: false, init: None };
        let error = train(&other, &paths, DeviceChoice::Cpu, &stop, &mut |_| {}).err();
        assert_eq!(error.map(|error| error.to_string().contains("20 Hz")), (hz == 20.0).then_some(true));
    }
}
