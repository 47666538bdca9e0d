//! Plans that continue what is being executed, learned with clean prefixes: through the crate's public face.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nudge_control::{Action, Episode, Frame, Observation, ObservationWindow, PlanRequest, Policy as _};
use nudge_dataset::{Recording, write_episodes};
use nudge_policy::{
    Continuation, DeviceChoice, DiffusionPolicy, PolicyFailure, PrefixConfig, TrainConfig, TrainEvent,
    TrainPaths, TrainReport, train,
};

/// Where the point is says nothing of where it goes: only its actions do.
const CONFIG: &str = r#"
task = "test"
seed = 3

[data]
path = "nowhere"
validation_share = 0.0
pad_after = 0

[policy]
objective = "epsilon"
horizon = { observed = 2, predicted = 16, executed = 8 }
schedule = { curve = "squaredcos_cap_v2", train_steps = 50 }
sampler = { kind = "ddim", steps = 10 }
prefix = { max_steps = 8 }

[policy.network]
kind = "conditional_unet_1d"
down_dims = [16, 32]
diffusion_step_embed_dim = 16
kernel_size = 5
n_groups = 8
cond_predict_scale = true

[training]
steps = 24
batch_size = 32
shards = 2
validate_every = 1000
checkpoint_every = 9
keep = 5
optimizer = { learning_rate = 3e-3, betas = [0.95, 0.999], epsilon = 1e-8, weight_decay = 1e-6, warmup_steps = 20 }
ema = { power = 0.75, max_decay = 0.99 }

[interface]
control_hz = 10.0
observation = [{ name = "observation.state", kind = "vector", shape = [1], unit = "m" }]
action = [{ name = "action", kind = "vector", shape = [2], unit = "m", limits = { low = [-2.0, -2.0], high = [2.0, 2.0] } }]
"#;

fn config() -> TrainConfig {
    TrainConfig::from_toml(CONFIG).unwrap()
}

/// What is done in step `step` on a line of this direction.
fn on_line(angle: f64, step: f64) -> Vec<f64> {
    let along = 0.1 * (step - 8.0);
    vec![along * angle.cos(), along * angle.sin()]
}

/// Straight lines in every direction, each of 16 actions, seen from where all look alike.
fn lines(dir: &Path) -> PathBuf {
    let frame = |angle: f64, step: usize| Frame {
        time_secs: step as f64 / 10.0,
        observation: Observation(vec![step as f64]),
        action: Action(on_line(angle, step as f64)),
        reward: 0.0,
        success: false,
        done: step == 15,
    };
    let episodes: Vec<Episode> = (0..40)
        .map(|episode| Episode {
            task: "test".into(),
            interface: config().interface,
            seed: None,
            frames: (0..16)
                .map(|step| frame(0.05 * std::f64::consts::PI * f64::from(episode), step))
                .collect(),
        })
        .collect();
    let recording = Recording { instruction: "go on".into(), ..Recording::default() };
    let path = dir.join("lines");
    write_episodes(&path, &episodes, &recording).unwrap();
    path
}

fn run(
    config: &TrainConfig,
    paths: &TrainPaths,
    stop_at: u64,
    begun: &mut dyn FnMut(&TrainEvent),
) -> Result<TrainReport, PolicyFailure> {
    let stop = AtomicBool::new(false);
    train(config, paths, DeviceChoice::Cpu, &stop, &mut |event| {
        begun(event);
        if matches!(event, TrainEvent::Step { step, .. } if *step == stop_at) {
            stop.store(true, Ordering::Relaxed);
        }
    })
}

fn weights(checkpoint: &Path) -> Vec<u8> {
    fs::read(checkpoint.join("weights.safetensors")).unwrap()
}

fn request(committed: Vec<Action>, noise_seed: u64) -> PlanRequest {
    let window = ObservationWindow(vec![Observation(vec![0.0]), Observation(vec![1.0])]);
    PlanRequest { step: 1, window, committed, hurried: false, noise_seed }
}

/// The largest distance of a plan's action from the line.
fn off_line(policy: &mut DiffusionPolicy, angle: f64, committed: usize) -> f64 {
    let at = |step: usize| on_line(angle, 1.0 + step as f64);
    let given: Vec<Action> = (0..committed).map(|step| Action(at(step))).collect();
    let chunk = policy.predict(&[request(given.clone(), 7)]).unwrap().remove(0);
    assert_eq!(chunk.actions[..committed], given);
    let distance = |(step, action): (usize, &Action)| {
        let expected = at(step);
        (action.0[0] - expected[0]).hypot(action.0[1] - expected[1])
    };
    chunk.actions.iter().enumerate().map(distance).fold(0.0, f64::max)
}

#[test]
fn any_prefix_is_continued_and_without_one_a_plan_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let data = lines(dir.path());
    let mut config = config();
    (config.training.steps, config.training.batch_size) = (2000, 64);
    let out = dir.path().join("run");
    let paths = TrainPaths { data: Some(&data), out: &out, resume: false, init: None };
    let report = run(&config, &paths, u64::MAX, &mut |_| {}).unwrap();
    let load = || DiffusionPolicy::load(&report.checkpoint, DeviceChoice::Cpu).unwrap();
    let mut policy = load();
    assert_eq!((policy.continuation(), policy.max_committed()), (Continuation::Prefix, 8));

    // Directions in between the recorded ones: lines that it has never seen. They reach 0.8 from the middle.
    let angles: Vec<f64> = (0..8).map(|i| 0.1 + 0.7 * f64::from(i)).collect();
    let mean = |policy: &mut DiffusionPolicy, committed: usize| {
        angles.iter().map(|angle| off_line(policy, *angle, committed)).sum::<f64>() / angles.len() as f64
    };
    for committed in [2, 4, 8] {
        let continued = mean(&mut policy, committed);
        // Measured 0.11, 0.07 and 0.04; inpainting by a policy that learned without prefixes is off by 0.24 of two.
        assert!(continued < 0.15, "{committed} committed: {continued}");
    }
    // Nobody told it the direction: it goes another way, and as straight.
    let mut ignoring = load().with_continuation(Continuation::Ignore).unwrap();
    assert!(mean(&mut ignoring, 0) > 0.5);
    let crooked = |seed: u64| {
        let chunk = ignoring.predict(&[request(Vec::new(), seed)]).unwrap().remove(0);
        let last = &chunk.actions[14].0;
        let angle = last[1].atan2(last[0]);
        let expected = (0..15).map(|step| on_line(angle, 1.0 + f64::from(step)));
        let off = chunk.actions.iter().zip(expected);
        off.map(|(is, want)| (is.0[0] - want[0]).hypot(is.0[1] - want[1])).fold(0.0, f64::max)
    };
    // Measured 0.13, and 0.11 of a policy that learned without prefixes.
    let crooked = (0..40).map(crooked).sum::<f64>() / 40.0;
    assert!(crooked < 0.2, "{crooked}");
}

#[test]
fn a_training_with_prefixes_resumes_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (data, config) = (lines(dir.path()), config());
    let go = |name: &str, config: &TrainConfig, resume: bool, stop_at: u64| {
        let out = dir.path().join(name);
        let paths = TrainPaths { data: Some(&data), out: &out, resume, init: None };
        run(config, &paths, stop_at, &mut |_| {}).map(|report| weights(&report.checkpoint))
    };
    let whole = go("whole", &config, false, u64::MAX).unwrap();
    go("parts", &config, false, 11).unwrap();
    assert!(whole == go("parts", &config, true, u64::MAX).unwrap());
    // The prefixes are a part of what is learned: it is not gone on with without them.
    let mut other = config.clone();
    other.policy.prefix = Some(PrefixConfig { max_steps: 4 });
    assert!(go("parts", &other, true, u64::MAX).is_err());
    other.policy.prefix = None;
    assert!(whole != go("plain", &other, false, u64::MAX).unwrap());
}

#[test]
fn a_training_begins_from_a_checkpoint_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let data = lines(dir.path());
    let mut plain = config();
    plain.policy.prefix = None;
    let from = dir.path().join("from");
    let paths = |out, init, resume| TrainPaths { data: Some(&data), out, resume, init };
    let first = run(&plain, &paths(&from, None, false), u64::MAX, &mut |_| {}).unwrap();

    // With other normalisers than the data have: those of the checkpoint are taken.
    let moved = dir.path().join("moved");
    copy_with(&first.checkpoint, &moved, |manifest| manifest["action"]["high"][0] = 2.0.into());
    let out = dir.path().join("out");
    let mut told = None;
    let mut tell = |event: &TrainEvent| {
        if let TrainEvent::Begun { from } = event {
            told = Some(from.clone());
        }
    };
    let mut config = config();
    let stopped = run(&config, &paths(&out, Some(&moved), false), 10, &mut tell).unwrap();
    assert!(!stopped.finished);
    let last = run(&config, &paths(&out, None, true), u64::MAX, &mut |_| {}).unwrap();
    let straight = dir.path().join("straight");
    let whole = run(&config, &paths(&straight, Some(&moved), false), u64::MAX, &mut |_| {}).unwrap();
    assert!(weights(&last.checkpoint) == weights(&whole.checkpoint));
    let policy = DiffusionPolicy::load(&last.checkpoint, DeviceChoice::Cpu).unwrap();
    assert_eq!(policy.manifest().action.high[0], 2.0);
    let initial = policy.manifest().trained.initial.clone().unwrap();
    assert_eq!((initial.steps, initial.normalizers), (24, true));
    assert_eq!(told, Some(initial));

    // The first steps are small ones from there.
    let short = dir.path().join("short");
    let two = run(&config, &paths(&short, Some(&first.checkpoint), false), 2, &mut |_| {}).unwrap();
    let numbers = |checkpoint: &Path| -> Vec<f32> {
        let bytes = weights(checkpoint);
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
        bytes[8 + header..].chunks_exact(4).map(number).collect()
    };
    let (is, was) = (numbers(&two.checkpoint), numbers(&first.checkpoint));
    let furthest = is.iter().zip(&was).map(|(is, was)| (is - was).abs()).fold(0.0, f32::max);
    assert!(furthest > 0.0 && furthest < 1e-3, "{furthest}");

    // Another network is no beginning.
    let nudge_policy::NetworkConfig::ConditionalUnet1d(network) = &mut config.policy.network;
    network.down_dims = vec![16, 24];
    let other = dir.path().join("other");
    let refused = run(&config, &paths(&other, Some(&first.checkpoint), false), 1, &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("cannot begin from its weights"), "{refused}");
}

/// Copies a checkpoint with another manifest, its checksum put right.
fn copy_with(from: &Path, to: &Path, change: impl Fn(&mut serde_json::Value)) {
    use sha2::Digest as _;
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let path = to.join("checkpoint.json");
    let sum = |path: &Path| -> String {
        sha2::Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let was = sum(&path);
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(&path, serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
    let sums = fs::read_to_string(to.join("SHA256SUMS")).unwrap().replace(&was, &sum(&path));
    fs::write(to.join("SHA256SUMS"), sums).unwrap();
}
