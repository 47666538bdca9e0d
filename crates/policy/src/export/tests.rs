//! What is exported is the same policy: imported again here, and planned with by LeRobot where that is installed.

use std::path::Path;
use std::process::Command;

use super::export;
use crate::checkpoint::{self, Named, Stored, parse_tensors, serialize_tensors, weights_from};
use crate::config::NetworkConfig;
use crate::engine::{Asked, CpuEngine, PlanEngine, Precision};
use crate::import::tests::{Place, RANGES, SETTINGS, weights};
use crate::import::{ImportOptions, Scheme, import};
use crate::{Manifest, Objective, PolicyFailure, Relative, SamplerConfig, Spacing, Variance};

/// A checkpoint of the small network, its manifest changed.
fn small(place: &Place, change: impl Fn(&mut Manifest)) -> Stored {
    let (source, first) = (place.path("policy.safetensors"), place.path("first"));
    std::fs::write(&source, serialize_tensors(&weights(), Default::default())).unwrap();
    let settings = format!("{SETTINGS}{RANGES}");
    import(&source, &first, &ImportOptions { config: Some(&settings), ..Default::default() }).unwrap();
    let mut stored = Stored::open(&first).unwrap();
    change(&mut stored.manifest);
    stored.manifest.trained.imported = None;
    checkpoint::write(&place.path("checkpoint"), &stored.manifest, &stored.list, stored.values.clone(), &[])
        .unwrap();
    stored
}

#[test]
fn there_and_back_it_is_the_same_checkpoint() {
    for scheme in [Scheme::DiffusionPolicy, Scheme::LeRobot] {
        let place = Place::new();
        // Ranges that f32 rounds, a constant, and a sampler of its own.
        let stored = small(&place, |manifest| {
            manifest.observation.low[0] = 0.1;
            manifest.observation.high[1] = manifest.observation.low[1];
            manifest.action.high[1] = 511.7;
            manifest.policy.sampler = SamplerConfig::ddpm(3);
            manifest.clip_range = 1.5;
            manifest.trained.steps = 70;
        });
        let (checkpoint, exported) = (place.path("checkpoint"), place.path("exported"));
        let report = export(&checkpoint, &exported, scheme).unwrap();
        assert_eq!(report.parameters, stored.list.count());
        import(&exported, &place.out, &ImportOptions::default()).unwrap();
        let bytes = |folder: &Path, name: &str| std::fs::read(folder.join(name)).unwrap();
        assert_eq!(bytes(&checkpoint, "weights.safetensors"), bytes(&place.out, "weights.safetensors"));
        let mut back = Stored::open(&place.out).unwrap().manifest;
        assert_eq!(back.trained.imported.take().unwrap().scheme, scheme);
        back.trained.parameters = stored.manifest.trained.parameters;
        assert_eq!(back, stored.manifest);
        let failure = export(&checkpoint, &exported, scheme).unwrap_err();
        assert!(failure.to_string().contains("exists already"), "{failure}");
    }
}

#[test]
fn a_state_dict_holds_all_that_the_reference_loads() {
    let place = Place::new();
    let stored = small(&place, |_| {});
    export(&place.path("checkpoint"), &place.out, Scheme::DiffusionPolicy).unwrap();
    let mut tensors = parse_tensors(&std::fs::read(&place.out).unwrap()).unwrap();
    let mut take = |name: &str| tensors.remove(name).unwrap_or_else(|| panic!("{name}")).1;
    assert_eq!(take("normalizer.params_dict.obs.scale")[..2], [2.0 / 512.0, 2.0 / 256.0]);
    assert_eq!(take("normalizer.params_dict.obs.offset"), [-1.0, -1.0, 0.0, 0.0, 0.0]);
    assert_eq!(take("normalizer.params_dict.action.scale"), [2.0 / 512.0; 2]);
    assert_eq!(take("normalizer.params_dict.action.offset"), [-1.0; 2]);
    assert_eq!(take("normalizer.params_dict.action.input_stats.max"), [512.0; 2]);
    take("_dummy_variable");
    take("mask_generator._dummy_variable");
    tensors.retain(|name, _| name.starts_with("model."));
    assert_eq!(tensors.len(), stored.list.iter().len());
}

#[test]
fn what_the_others_cannot_be_is_refused() {
    let refused = |scheme: Scheme, change: &dyn Fn(&mut Manifest), word: &str| {
        let place = Place::new();
        small(&place, change);
        let result = export(&place.path("checkpoint"), &place.out, scheme);
        let Err(PolicyFailure::Export { problem, .. }) = result else { panic!("exported, without {word}") };
        assert!(problem.contains(word), "{problem}");
        assert!(!place.out.exists());
    };
    let lerobot = |change: &dyn Fn(&mut Manifest), word: &str| refused(Scheme::LeRobot, change, word);
    for scheme in [Scheme::DiffusionPolicy, Scheme::LeRobot] {
        refused(
            scheme,
            &|manifest| {
                let NetworkConfig::ConditionalUnet1d(network) = &mut manifest.policy.network;
                network.n_groups = 4;
            },
            "4 groups",
        );
        refused(
            scheme,
            &|manifest| (manifest.action.low[0], manifest.action.high[0]) = (1e9, 1e9 + 2e3),
            "32 bits",
        );
    }
    lerobot(&|manifest| manifest.policy.objective = Objective::Velocity, "velocities");
    lerobot(&|manifest| manifest.policy.horizon.predicted = 18, "multiple of 4");
    lerobot(&|manifest| manifest.interface.action[0].name = "motors".into(), "`motors`");
    lerobot(&|manifest| manifest.interface.observation.swap(0, 1), "in this order");
    lerobot(
        &|manifest| {
            let action = "action".into();
            let to = "observation.state".into();
            manifest.policy.relative =
                vec![Relative { action, numbers: vec![0], to, to_numbers: vec![0], hidden: false }];
        },
        "differences",
    );
    let (clip, spacing, hurried_steps) = (true, Spacing::Leading, None);
    for sampler in [
        SamplerConfig::Ddim { steps: 2, eta: 0.5, clip, spacing, renoise_clipped: false, hurried_steps },
        SamplerConfig::Ddim { steps: 2, eta: 0.0, clip, spacing, renoise_clipped: true, hurried_steps },
        SamplerConfig::Ddim {
            steps: 2,
            eta: 0.0,
            clip,
            spacing: Spacing::Trailing,
            renoise_clipped: false,
            hurried_steps,
        },
        SamplerConfig::Ddpm { steps: 2, clip, variance: Variance::FixedLarge, spacing },
    ] {
        lerobot(&|manifest| manifest.policy.sampler = sampler, "LeRobot samples");
    }
}

/// A Python in which LeRobot's diffusion policy can be imported.
fn python() -> Option<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let candidates = [root.join("tests/python/.venv/bin/python"), "python3".into()];
    candidates.into_iter().find(|python| {
        let wanted = "import lerobot.policies.diffusion.modeling_diffusion, diffusers";
        Command::new(python).args(["-c", wanted]).output().is_ok_and(|output| output.status.success())
    })
}

/// What LeRobot is given, and what we plan of it: normalised, the executed part.
struct Case {
    stored: Stored,
    seen: Vec<f32>,
    noise: Vec<f32>,
}

/// Exports a checkpoint, and writes observations and noise beside it.
fn prepare(checkpoint: &Path, place: &Place) -> Case {
    let stored = Stored::open(checkpoint).unwrap();
    export(checkpoint, &place.path("exported"), Scheme::LeRobot).unwrap();
    let Manifest { interface, policy, observation, .. } = &stored.manifest;
    let (dim, steps) = (interface.observation_dim(), policy.horizon.observed);
    let wave = |count: usize, rate: f32| (0..count).map(move |i| (i as f32 * rate).sin());
    let seen: Vec<f32> = wave(dim * steps, 0.7)
        .enumerate()
        .map(|(i, value)| {
            let (low, high) = (observation.low[i % dim], observation.high[i % dim]);
            (low + (high - low) * (f64::from(value) + 1.0) / 2.0) as f32
        })
        .collect();
    let noise: Vec<f32> = wave(stored.manifest.sample_len(), 1.3).map(|value| value * 1.5).collect();
    let inputs: Named = vec![
        ("observation".into(), vec![1, steps, dim], seen.clone()),
        ("noise".into(), vec![1, policy.horizon.predicted, interface.action_dim()], noise.clone()),
    ];
    std::fs::write(place.path("input.safetensors"), serialize_tensors(&inputs, Default::default())).unwrap();
    Case { stored, seen, noise }
}

/// The largest distance, in normalised units, of what LeRobot planned in physical ones.
fn error_of(case: Case, place: &Place) -> f32 {
    let Case { stored, seen, noise } = case;
    let Manifest { interface, policy, observation, action, .. } = &stored.manifest;
    let (dim, steps) = (interface.observation_dim(), policy.horizon.observed);
    let output = std::fs::read(place.path("output.safetensors")).unwrap();
    let theirs = parse_tensors(&output).unwrap().remove("actions").unwrap().1;
    let condition: Vec<f32> = seen
        .chunks_exact(dim)
        .flat_map(|step| observation.normalise(step.iter().map(|value| f64::from(*value))))
        .collect();
    let schedule = policy.schedule.build().unwrap();
    let mut engine = CpuEngine::new(&stored.manifest.host_network(stored.values.clone()), Precision::F32);
    engine.set_steps(&policy.sampler.steps_of(&schedule, policy.objective)).unwrap();
    let mut sample = vec![0.0; noise.len()];
    engine.plan(Asked::new(&condition, &noise), &mut sample).unwrap();
    let rows = sample.chunks_exact(interface.action_dim()).skip(steps - 1).take(policy.horizon.executed);
    let ours: Vec<f64> = rows.flat_map(|row| action.unnormalise(row.iter().copied())).collect();
    assert_eq!(ours.len(), theirs.len());
    let normalised = |values: &[f64]| -> Vec<f32> {
        values
            .chunks_exact(interface.action_dim())
            .flat_map(|row| action.normalise(row.iter().copied()))
            .collect()
    };
    let theirs = normalised(&theirs.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
    normalised(&ours).iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// LeRobot's own `from_pretrained` of an exported folder plans from the same noise what we plan.
#[test]
fn lerobot_plans_the_same() {
    let Some(python) = python() else {
        println!("SKIPPED: no Python that has the packages lerobot and diffusers");
        return;
    };
    let [first, second] = [Place::new(), Place::new()];
    small(&first, |manifest| {
        manifest.policy.sampler = SamplerConfig::ddim(10);
        manifest.observation.high[1] = manifest.observation.low[1];
    });
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../checkpoints/push_t");
    let cases = [prepare(&first.path("checkpoint"), &first), prepare(&shipped, &second)];
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/lerobot_plan.py");
    let mut command = Command::new(python);
    command.arg(script);
    for place in [&first, &second] {
        command.args(["exported", "input.safetensors", "output.safetensors"].map(|name| place.path(name)));
    }
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    for ((name, case), place) in ["made here", "shipped"].iter().zip(cases).zip([&first, &second]) {
        let error = error_of(case, place);
        println!("the policy {name}: LeRobot plans the same but for {error:e}, of a range of 2");
        assert!(error < 1e-4, "{name}: {error}");
    }
}

/// The policies that ship go there and back to the bit.
#[test]
fn shipped_weights_survive_both_schemes() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../checkpoints/push_t_human");
    let stored = Stored::open(&shipped).unwrap();
    for scheme in [Scheme::DiffusionPolicy, Scheme::LeRobot] {
        let place = Place::new();
        export(&shipped, &place.path("exported"), scheme).unwrap();
        import(&place.path("exported"), &place.out, &ImportOptions::default()).unwrap();
        let bytes = std::fs::read(place.out.join("weights.safetensors")).unwrap();
        assert_eq!(weights_from(&stored.list, &bytes).unwrap(), stored.values);
        let mut back = Stored::open(&place.out).unwrap().manifest;
        back.trained.imported = None;
        assert_eq!(back, stored.manifest);
    }
}
