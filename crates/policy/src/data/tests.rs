use std::path::Path;

use nudge_dataset::{Column, DatasetWriter, FeatureInfo, WriteSpec};
use sha2::{Digest, Sha256};

use super::*;
use crate::checkpoint::hex;
use crate::config::FeatureSource;

fn digest(config: &str, folder: &str, steps: &[u64]) -> String {
    let config = TrainConfig::from_toml(config).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let data = TrainingData::load(&config, Dataset::open(&path).unwrap()).unwrap();
    let schedule = config.policy.schedule.build().unwrap();
    let mut digest = Sha256::new();
    let mut add = |values: &[f32]| values.iter().for_each(|value| digest.update(value.to_le_bytes()));
    for step in steps {
        let batch = data.batch(*step, 256, &schedule, config.policy.objective).unwrap();
        [&batch.condition, &batch.action, &batch.noisy, &batch.target].into_iter().for_each(|part| add(part));
    }
    let batch = data.validation_batch(100, &schedule, config.policy.objective).unwrap().unwrap();
    [&batch.condition, &batch.action, &batch.noisy].into_iter().for_each(|part| add(part));
    format!("{} of {}", hex(&digest.finalize()), data.train_windows())
}

/// What the shipped policies were trained on, batches across the end of an epoch included: whoever changes how batches
/// are made cannot train them again to the bit.
#[test]
fn batches_of_the_shipped_experiments_are_what_they_were() {
    let push_t = include_str!("../../../../configs/push_t.toml");
    assert_eq!(
        digest(push_t, "datasets/push_t", &[0, 1, 54, 155]),
        "59d949c8a866b4000493dc15db570a1d595adee8eb1d61436324cab6252975cd of 13907"
    );
    let pick_place = include_str!("../../../../configs/pick_place.toml");
    assert_eq!(
        digest(pick_place, "datasets/pick_place", &[0, 21, 152]),
        "9b8a600c110b0ef1060ed675846e0dfaf7ef8a5d68db29c45c82f88310758213 of 5387"
    );
}

const CONFIG: &str = r#"
task = "test"
seed = 5

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
down_dims = [8, 16]
diffusion_step_embed_dim = 16
kernel_size = 3
n_groups = 8
cond_predict_scale = true

[training]
steps = 30
batch_size = 16
shards = 1
validate_every = 10
checkpoint_every = 7
keep = 2
optimizer = { learning_rate = 1e-3, betas = [0.95, 0.999], epsilon = 1e-8, weight_decay = 1e-6, warmup_steps = 5 }
ema = { power = 0.75, max_decay = 0.99 }

[interface]
control_hz = 10.0
observation = [{ name = "state", kind = "vector", shape = [3], unit = "" }]
action = [{ name = "action", kind = "vector", shape = [2], unit = "", limits = { low = [-1e6, -1e6], high = [1e6, 1e6] } }]
"#;

/// A set of episodes of these lengths, in which every number tells its place: `1000 episode + frame + number / 10`.
fn numbered(dir: &Path, lengths: &[usize]) -> std::path::PathBuf {
    let feature = |name: &str, dim: usize| FeatureInfo {
        name: name.into(),
        dtype: "float32".into(),
        shape: vec![dim],
        names: Vec::new(),
    };
    let features = vec![feature("state", 3), feature("action", 2)];
    let path = dir.join("numbered");
    let spec = WriteSpec { fps: 10.0, robot_type: None, features };
    let mut writer = DatasetWriter::create(&path, spec).unwrap();
    for (episode, length) in lengths.iter().enumerate() {
        let number = |frame: usize, number: usize| (1000 * episode + frame) as f32 + number as f32 / 10.0;
        let column = |dim: usize| {
            Column::Float32((0..length * dim).map(|index| number(index / dim, index % dim)).collect())
        };
        let times: Vec<f32> = (0..*length).map(|frame| frame as f32 / 10.0).collect();
        writer.push("count", &times, &[column(3), column(2)]).unwrap();
    }
    writer.finish().unwrap();
    path
}

fn load(config: &TrainConfig, path: &Path) -> TrainingData {
    TrainingData::load(config, Dataset::open(path).unwrap()).unwrap()
}

/// The episode and the frame of the newest observation of every window of a batch.
fn newest(data: &TrainingData, step: u64, size: usize) -> Vec<(u64, u64)> {
    let (batch, _) = data.gathered(step, &data.take(step, size).unwrap());
    let width = batch.condition.len() / size;
    let place = |condition: &[f32]| {
        let observation = data.observation.unnormalise(condition[width / 2..].iter().copied());
        let place = observation.map(|value| (value * 10.0).round() / 10.0).next().unwrap_or_default() as u64;
        (place / 1000, place % 1000)
    };
    batch.condition.chunks_exact(width).map(place).collect()
}

fn lengths() -> Vec<usize> {
    (0..60).map(|episode| 10 + episode * 7 % 23).collect()
}

#[test]
fn a_streamed_set_shows_every_window_once_an_epoch_and_can_be_entered_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), &lengths());
    let mut config = TrainConfig::from_toml(CONFIG).unwrap();
    let whole = load(&config, &path);
    // A third of the set: some seven pools.
    config.data.memory_mib = Some(0.01);
    let streamed = load(&config, &path);
    let plan = streamed.supply.stream().expect("the set is larger than the memory").pools(0);
    assert!(plan.len() > 5 && plan.iter().any(|pool| pool.blocks.len() > 2), "{}", plan.len());
    assert!(whole.supply.stream().is_none());

    assert_eq!((&whole.observation, &whole.action), (&streamed.observation, &streamed.action));
    assert_eq!(whole.train_windows(), streamed.train_windows());
    let windows = whole.train_windows();
    let epoch = |data: &TrainingData, epoch: usize| -> Vec<(u64, u64)> {
        (epoch * windows..(epoch + 1) * windows)
            .flat_map(|position| newest(data, position as u64, 1))
            .collect()
    };
    let sorted = |mut places: Vec<(u64, u64)>| {
        places.sort_unstable();
        places
    };
    let (first, second) = (epoch(&streamed, 0), epoch(&streamed, 1));
    assert_ne!(first, second);
    // The same windows, those held out left out alike.
    let all = sorted(epoch(&whole, 0));
    assert_eq!(sorted(first.clone()), all);
    assert_eq!(sorted(second), all);
    assert!(first.windows(2).filter(|pair| pair[0].0 == pair[1].0).count() < windows / 2, "not shuffled");

    // Any batch, by a loader that goes through all of them, by one that begins there, and by one that goes back.
    let schedule = config.policy.schedule.build().unwrap();
    let (again, size) = (load(&config, &path), 48);
    let batch = |data: &TrainingData, step: u64| {
        let batch = data.batch(step, size, &schedule, config.policy.objective).unwrap();
        (batch.condition, batch.noisy, batch.timesteps)
    };
    let steps = 3 * windows as u64 / size as u64;
    let in_order: Vec<_> = (0..steps).map(|step| batch(&again, step)).collect();
    for step in [steps - 1, 3, 4, steps / 2, 0] {
        assert!(batch(&streamed, step) == in_order[step as usize], "step {step}");
    }
    let validation = |data: &TrainingData| {
        let batch = data.validation_batch(50, &schedule, config.policy.objective).unwrap().unwrap();
        (batch.condition, batch.noisy)
    };
    assert!(validation(&whole) == validation(&streamed));
}

#[test]
fn a_prefix_of_any_length_stays_clean_and_nothing_else_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), &lengths());
    let plain = TrainConfig::from_toml(CONFIG).unwrap();
    let mut prefixed = plain.clone();
    prefixed.policy.prefix = Some(crate::PrefixConfig { max_steps: 3 });
    let schedule = plain.policy.schedule.build().unwrap();
    let batch = |config: &TrainConfig, step: u64| {
        load(config, &path).batch(step, 2000, &schedule, config.policy.objective).unwrap()
    };
    let (without, with) = (batch(&plain, 4), batch(&prefixed, 4));
    assert_eq!((&without.timesteps, &without.target), (&with.timesteps, &with.target));
    assert_eq!((&without.condition, &without.action), (&with.condition, &with.action));
    let width = with.action.len() / with.len();
    let mut lengths = [0; 4];
    for sample in 0..with.len() {
        let (rows, numbers) = (with.kept_rows(sample), sample * width..(sample + 1) * width);
        // From the newest observation on, which is the second.
        assert_eq!(rows.start, 1);
        lengths[rows.len()] += 1;
        for (number, at) in numbers.enumerate() {
            let clean = with.kept(sample).contains(&number);
            assert_eq!(with.noisy[at], if clean { with.action[at] } else { without.noisy[at] });
        }
    }
    // 500 of each are expected, with a standard deviation of 19.
    assert!(lengths.iter().all(|count| (400..600).contains(count)), "{lengths:?}");
    let kept: usize = lengths.iter().enumerate().map(|(length, count)| length * count).sum();
    assert_eq!(with.learned(), with.action.len() - kept * width / 8);
    assert_eq!(batch(&prefixed, 4).noisy, with.noisy, "a batch depends on seed and step alone");
}

#[test]
fn a_prefix_that_leaves_nothing_to_plan_is_refused() {
    for (steps, fits) in [(0, false), (1, true), (6, true), (7, false)] {
        let text = CONFIG.replace("[policy]", &format!("[policy]\nprefix = {{ max_steps = {steps} }}"));
        match TrainConfig::from_toml(&text) {
            Ok(config) => assert_eq!((fits, config.policy.prefix.unwrap().max_steps), (true, steps)),
            Err(error) => assert!(!fits && error.to_string().contains("prefix.max_steps"), "{error}"),
        }
    }
}

#[test]
fn a_batch_is_read_where_the_experiment_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), &[20, 20, 20]);
    let plain = TrainConfig::from_toml(CONFIG).unwrap();
    let mut mapped = plain.clone();
    // As another robot names it: the third and the first number of `state`, and its second one as the action.
    mapped.interface.observation[0].name = "pose".into();
    mapped.interface.observation[0].shape = vec![2];
    let source = |name: &str, from: &str, numbers: &[usize]| FeatureSource {
        name: name.into(),
        from: from.into(),
        numbers: Some(numbers.to_vec()),
    };
    mapped.data.features = vec![source("pose", "state", &[2, 0]), source("action", "state", &[1, 1])];
    let (plain, mapped) = (load(&plain, &path), load(&mapped, &path));
    let rows = |data: &TrainingData| {
        let (batch, _) = data.gathered(0, &data.take(0, 30).unwrap());
        let physical = |values: &[f32], normalizer: &Normalizer| -> Vec<Vec<f64>> {
            let rows = values.chunks_exact(normalizer.dim());
            rows.map(|row| normalizer.unnormalise(row.iter().copied()).collect()).collect()
        };
        (physical(&batch.condition, &data.observation), physical(&batch.action, &data.action))
    };
    let ((seen, done), (posed, moved)) = (rows(&plain), rows(&mapped));
    let close = |one: f64, two: f64| assert!((one - two).abs() < 1e-2, "{one} {two}");
    for (seen, posed) in seen.iter().zip(&posed) {
        close(posed[0], seen[2]);
        close(posed[1], seen[0]);
    }
    for (done, moved) in done.iter().zip(&moved) {
        // `action` holds what `state` does.
        close(moved[0], done[1]);
        close(moved[1], done[1]);
    }
}

#[test]
fn what_a_set_does_not_have_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), &[20, 20]);
    for (from, numbers, problem) in [
        ("state", "[0, 1, 5]", "number 5"),
        ("pose", "[0, 1, 2]", "`pose`"),
        ("action", "[0, 1, 2]", "number 2"),
    ] {
        let source = format!("features = [{{ name = \"state\", from = \"{from}\", numbers = {numbers} }}]");
        let text = CONFIG.replace("validation_share = 0.1", &format!("validation_share = 0.1\n{source}"));
        let config = TrainConfig::from_toml(&text).unwrap();
        let error = TrainingData::load(&config, Dataset::open(&path).unwrap()).err().unwrap();
        assert!(error.to_string().contains(problem), "{error}");
    }
    let refused = |features: &str, problem: &str| {
        let line = format!("validation_share = 0.1\n{features}");
        let error = TrainConfig::from_toml(&CONFIG.replace("validation_share = 0.1", &line)).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    };
    refused("features = [{ name = \"pose\", from = \"state\" }]", "data.features");
    refused("features = [{ name = \"action\", from = \"state\", numbers = [0] }]", "`action`");
    refused("memory_mib = 0", "data.memory_mib");
    refused("memory_mib = -3.5", "data.memory_mib");
}
