//! The networks that PyTorch recorded, under both naming schemes: imported, they plan as recorded.

use std::path::Path;

use super::*;
use crate::checkpoint::{parse_tensors, weights_from};
use crate::engine::{Asked, CpuEngine, PlanEngine, Precision};
use crate::golden_tests::Golden;
use crate::{DiffusionPolicy, SamplerConfig};

fn settings(scale: bool) -> String {
    let unit = "observation = { low = [-1, -1, -1, -1, -1], high = [1, 1, 1, 1, 1] }\n\
                action = { low = [-1, -1], high = [1, 1] }";
    let settings = SETTINGS
        .replace("[8, 16]", "[16, 32, 64]")
        .replace("embed_dim = 12", "embed_dim = 32")
        .replace("kernel_size = 3", "kernel_size = 5")
        .replace("scale = true", &format!("scale = {scale}"));
    format!("{settings}\n[normaliser]\n{unit}\n")
}

/// A LeRobot policy around recorded weights, whose numbers go in and out as they are.
fn lerobot(scale: bool, bytes: &[u8]) -> LeRobotPolicy {
    let tensors = parse_tensors(bytes).unwrap();
    let recorded = tensors.into_iter().map(|(name, (shape, values))| (name, shape, values)).collect();
    let mut policy = LeRobotPolicy { weights: named(Scheme::LeRobot, recorded), ..LeRobotPolicy::small() };
    for (field, value) in [
        ("down_dims", json!([16, 32, 64])),
        ("diffusion_step_embed_dim", json!(32)),
        ("kernel_size", json!(5)),
        ("use_film_scale_modulation", json!(scale)),
    ] {
        policy.config[field] = value;
    }
    for pipeline in [&mut policy.before, &mut policy.after] {
        let steps = pipeline["steps"].as_array_mut().unwrap();
        for step in steps.iter_mut().filter(|step| !step["config"]["norm_map"].is_null()) {
            step["config"]["norm_map"] = json!({ "STATE": "IDENTITY", "ACTION": "IDENTITY" });
        }
    }
    policy
}

/// The largest distance of an imported network's plans from the recorded ones.
fn error_of(stored: Stored, scale: bool) -> f64 {
    let golden = Golden::open("sampling.safetensors").unwrap();
    let schedule = stored.manifest.policy.schedule.build().unwrap();
    let objective = stored.manifest.policy.objective;
    let mut engine = CpuEngine::new(&stored.manifest.host_network(stored.values), Precision::F32);
    let noise = [golden.f32("x_T"), golden.f32("noise")].concat();
    // As the policy does it: the normaliser is in the way.
    let seen: Vec<f32> = golden.f32("global_cond");
    let seen: Vec<f32> = seen
        .chunks_exact(5)
        .flat_map(|step| stored.manifest.observation.normalise(step.iter().map(|value| f64::from(*value))))
        .collect();
    let mut largest: f64 = 0.0;
    for (name, sampler) in [
        ("ddim10", SamplerConfig::ddim(10)),
        ("ddim16", SamplerConfig::ddim(16)),
        ("ddpm100", SamplerConfig::ddpm(100)),
    ] {
        engine.set_steps(&sampler.steps_of(&schedule, objective)).unwrap();
        let mut sample = vec![0.0; 96];
        engine.plan(Asked::new(&seen, &noise), &mut sample).unwrap();
        let planned =
            sample.chunks_exact(2).flat_map(|row| stored.manifest.action.unnormalise(row.iter().copied()));
        let want = &golden.tensors[&format!("cps{}.{name}.final", u8::from(scale))];
        largest = planned.zip(want).map(|(is, want)| (is - want).abs()).fold(largest, f64::max);
    }
    largest
}

#[test]
fn imported_networks_plan_as_recorded_under_both_schemes() {
    for scale in [false, true] {
        let Some(file) = Golden::open(&format!("unet_cps{}.weights.safetensors", u8::from(scale))) else {
            return;
        };
        let place = Place::new();
        let source = place.path("weights.safetensors");
        std::fs::write(&source, &file.bytes).unwrap();
        let text = settings(scale);
        let options = ImportOptions { config: Some(&text), ..Default::default() };
        let report = import(&source, &place.out, &options).unwrap();
        assert_eq!((report.scheme, report.network.cond_predict_scale), (Scheme::DiffusionPolicy, scale));
        let plain = Stored::open(&place.out).unwrap();
        let (report, lerobot) = lerobot(scale, &file.bytes).import().unwrap();
        assert_eq!((report.scheme, report.parameters), (Scheme::LeRobot, plain.list.count()));
        assert_eq!(plain.values, lerobot.values);
        assert_eq!(plain.values, weights_from(&plain.list, &file.bytes).unwrap());
        for (scheme, stored) in [("diffusion_policy", plain), ("LeRobot", lerobot)] {
            let error = error_of(stored, scale);
            println!("{scheme} names, scale {scale}: at most {error:e} from the recorded plans");
            assert!(error < 1e-4, "{scheme} {scale}: {error}");
        }
    }
}

/// What a checkpoint says of itself is written as it was read: old ones are not changed by being read by this version.
#[test]
fn manifests_of_before_keep_their_bytes() {
    for name in ["push_t", "pick_place", "push_t_human"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../checkpoints")
            .join(name)
            .join("checkpoint.json");
        let text = std::fs::read_to_string(file).unwrap();
        let manifest: crate::Manifest = serde_json::from_str(&text).unwrap();
        assert_eq!(manifest.trained.imported, None);
        assert_eq!(serde_json::to_string_pretty(&manifest).unwrap() + "\n", text);
    }
}

#[test]
fn an_imported_checkpoint_plans_and_says_where_it_came_from() {
    let place = Place::new();
    let file = place.path("policy.safetensors");
    write(&file, &named(Scheme::DiffusionPolicy, weights()));
    let settings = format!("{SETTINGS}{RANGES}");
    import(&file, &place.out, &ImportOptions { config: Some(&settings), ..Default::default() }).unwrap();
    let policy = DiffusionPolicy::load(&place.out, crate::DeviceChoice::Cpu).unwrap();
    let imported = policy.manifest().trained.imported.clone().unwrap();
    assert_eq!((imported.scheme, imported.weights.as_str()), (Scheme::DiffusionPolicy, "policy.safetensors"));
    assert_eq!(imported.sha256.len(), 64);
    assert_eq!(policy.manifest().observation.high, [512.0, 256.0, 1.0, 1.0, 1.0]);
    refused(import(&file, &place.out, &ImportOptions::default()), &["exists already"]);
}
