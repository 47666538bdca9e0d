//! LeRobot's folders: what is taken, and what is refused with which reason.

use super::*;
use crate::{BetaCurve, Objective, SamplerConfig};

#[test]
fn a_folder_says_all_but_the_rate() {
    let (report, stored) = LeRobotPolicy::small().import().unwrap();
    assert_eq!(
        (report.scheme, report.task.as_str(), report.interface.control_hz),
        (Scheme::LeRobot, "imported", 20.0)
    );
    let manifest = &stored.manifest;
    let names: Vec<&str> =
        manifest.interface.observation.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["observation.state", "observation.environment_state"]);
    assert_eq!(manifest.policy.sampler, SamplerConfig::ddim(2));
    assert_eq!(manifest.policy.schedule.curve, BetaCurve::SquaredcosCapV2);
    assert_eq!(manifest.policy.objective, Objective::Epsilon);
    // MIN_MAX of the state, MEAN_STD of the environment, in the order of the condition.
    let seen: Vec<f32> = manifest.observation.normalise([256.0, 256.0, 1.5, 2.0, -1.0]).collect();
    for (is, want) in seen.iter().zip([0.0, 1.0, 1.0, 0.0, -2.0]) {
        assert!((is - want).abs() < 1e-6, "{seen:?}");
    }
    assert_eq!(manifest.action.unnormalise([-1.0, 1.0]).collect::<Vec<_>>(), [-1.0, 512.0]);
    let limits = &manifest.interface.action[0].limits;
    assert_eq!((&limits.low[..], &limits.high[..]), (&[-1.0, 0.0][..], &[3.0, 512.0][..]));
    for unknown in ["limits", "units"] {
        assert!(report.notes.iter().any(|note| note.contains(unknown)), "{:?}", report.notes);
    }
    let values: Vec<Vec<f32>> = weights().into_iter().map(|(.., values)| values).collect();
    assert_eq!(stored.values, values);
}

#[test]
fn a_configuration_gives_units_and_limits() {
    let options = ImportOptions { config: Some(SETTINGS), ..Default::default() };
    let (report, stored) = LeRobotPolicy::small().import_with(&options).unwrap();
    assert_eq!(
        (report.task.as_str(), stored.manifest.interface.observation[0].unit.as_str()),
        ("push_t", "px")
    );
    assert!(report.notes.iter().any(|note| note.contains("left aside")), "{:?}", report.notes);
    let swapped = SETTINGS.replace("observation.state", "observation.other");
    let options = ImportOptions { config: Some(&swapped), ..Default::default() };
    refused(LeRobotPolicy::small().import_with(&options), &["observation.other", "observation.state"]);
    let both = format!("{SETTINGS}{RANGES}");
    let options = ImportOptions { config: Some(&both), ..Default::default() };
    refused(LeRobotPolicy::small().import_with(&options), &["two normalisers"]);
    refused(LeRobotPolicy::small().import_with(&ImportOptions::default()), &["--control-hz"]);
}

#[test]
fn the_form_of_2024_keeps_its_normaliser_among_the_weights() {
    let mut policy = LeRobotPolicy::small();
    (policy.before, policy.after) = (Value::Null, Value::Null);
    let config = policy.config.as_object_mut().unwrap();
    for field in
        ["type", "input_features", "output_features", "normalization_mapping", "noise_scheduler_type"]
    {
        config.remove(field);
    }
    let shapes = json!({ "observation.state": [2], "observation.environment_state": [3] });
    config.insert("input_shapes".into(), shapes);
    config.insert("output_shapes".into(), json!({ "action": [2] }));
    let modes = json!({ "observation.state": "min_max", "observation.environment_state": "mean_std" });
    config.insert("input_normalization_modes".into(), modes);
    config.insert("output_normalization_modes".into(), json!({ "action": "min_max" }));
    for (group, feature, statistic, values) in [
        ("normalize_inputs", "observation_state", "min", &[0.0, 10.0][..]),
        ("normalize_inputs", "observation_state", "max", &[512.0, 256.0]),
        ("normalize_inputs", "observation_environment_state", "mean", &[1.0, 2.0, 3.0]),
        ("normalize_inputs", "observation_environment_state", "std", &[0.5, 1.0, 2.0]),
        ("normalize_targets", "action", "min", &[-1.0, 0.0]),
        ("unnormalize_outputs", "action", "min", &[-1.0, 0.0]),
        ("unnormalize_outputs", "action", "max", &[3.0, 512.0]),
    ] {
        policy.weights.push(vector(&format!("{group}.buffer_{feature}.{statistic}"), values));
    }
    let (report, old) = policy.import().unwrap();
    let (_, new) = LeRobotPolicy::small().import().unwrap();
    assert_eq!(
        (&old.manifest.observation, &old.manifest.action),
        (&new.manifest.observation, &new.manifest.action)
    );
    assert_eq!(report.sampler, SamplerConfig::ddpm(2));
    // A statistic that was never set.
    policy.weights.last_mut().unwrap().2 = vec![f32::INFINITY; 2];
    refused(policy.import(), &["unnormalize_outputs.buffer_action.max", "inf"]);
    policy.weights.retain(|(name, ..)| name.starts_with("diffusion."));
    refused(policy.import(), &["no normaliser", "policy_preprocessor.json"]);
}

#[test]
fn every_way_to_normalise_is_a_range() {
    for (mode, low, high) in [("QUANTILES", "q01", "q99"), ("QUANTILE10", "q10", "q90")] {
        let mut policy = LeRobotPolicy::small();
        policy.before["steps"][3]["config"]["norm_map"]["STATE"] = json!(mode);
        policy.statistics.push(vector(&format!("observation.state.{low}"), &[1.0, 2.0]));
        refused(policy.import(), &[high]);
        policy.statistics.push(vector(&format!("observation.state.{high}"), &[3.0, 6.0]));
        let (_, stored) = policy.import().unwrap();
        assert_eq!(stored.manifest.observation.low[..2], [1.0, 2.0]);
        assert_eq!(stored.manifest.observation.high[..2], [3.0, 6.0]);
    }
    // LeRobot's own default names no mode for the environment, which then goes in as it is.
    let mut policy = LeRobotPolicy::small();
    policy.before["steps"][3]["config"]["norm_map"].as_object_mut().unwrap().remove("ENV");
    let (report, stored) = policy.import().unwrap();
    assert_eq!(stored.manifest.observation.low[2..], [-1.0; 3]);
    assert!(report.normaliser.contains("observation.environment_state IDENTITY"), "{}", report.normaliser);
}

#[test]
fn samples_are_clipped_where_lerobot_clips_them() {
    let mut policy = LeRobotPolicy::small();
    policy.config["clip_sample_range"] = json!(2.5);
    assert_eq!(policy.import().unwrap().1.manifest.clip_range, 2.5);
    policy.config["clip_sample"] = json!(false);
    let manifest = policy.import().unwrap().1.manifest;
    let unclipped = SamplerConfig::Ddim {
        steps: 2,
        eta: 0.0,
        clip: false,
        spacing: crate::Spacing::Leading,
        renoise_clipped: false,
        hurried_steps: None,
    };
    assert_eq!((manifest.clip_range, manifest.policy.sampler), (1.0, unclipped));
}

#[test]
fn what_we_cannot_do_as_lerobot_does_it_is_refused() {
    let config = |field: &str, value: Value, words: &[&str]| {
        let mut policy = LeRobotPolicy::small();
        policy.config[field] = value;
        refused(policy.import(), words);
    };
    config("type", json!("act"), &["`act`"]);
    config("clip_sample_range", json!(-2.0), &["clip_sample_range", "-2"]);
    config("beta_schedule", json!("sigmoid"), &["beta_schedule", "sigmoid"]);
    config("prediction_type", json!("flow"), &["prediction_type", "flow"]);
    config("noise_scheduler_type", json!("EDM"), &["noise_scheduler_type", "EDM"]);
    config("num_inference_steps", json!(1000), &["sampler.steps"]);
    config("num_train_timesteps", json!(0), &["train_steps"]);
    config("n_groups", json!(4), &["n_groups"]);
    config("n_obs_steps", json!(1), &["10 numbers"]);
    config("horizon", json!(17), &["horizon.predicted"]);
    config("horizon", json!(1u64 << 40), &["steps long"]);
    config("down_dims", json!([8, 16, 32]), &["down_dims"]);
    config("use_film_scale_modulation", json!(false), &["cond_predict_scale"]);
    config("horizon", json!("sixteen"), &["config.json"]);
    config("output_features", json!({}), &["no output `action`"]);
    let with = |name: &str, kind: &str, shape: Value| {
        let mut policy = LeRobotPolicy::small();
        policy.config["input_features"][name] = json!({ "type": kind, "shape": shape });
        policy.import()
    };
    refused(with("observation.image", "VISUAL", json!([3, 96, 96])), &["images", "`observation.image`"]);
    refused(with("observation.state", "STATE", json!([2, 2])), &["must be a vector"]);
    let (report, _) = with("observation.effort", "STATE", json!([2])).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("`observation.effort`")), "{:?}", report.notes);
    let mut policy = LeRobotPolicy::small();
    policy.config["input_features"].as_object_mut().unwrap().remove("observation.state");
    refused(policy.import(), &["no input `observation.state`"]);
    let mut policy = LeRobotPolicy::small();
    policy.weights.push(vector("diffusion.rgb_encoder.out.bias", &[0.0]));
    refused(policy.import(), &["images", "rgb_encoder"]);
    let mut policy = LeRobotPolicy::small();
    policy.weights.pop();
    refused(policy.import(), &["lacks", "model.safetensors"]);
}

#[test]
fn pipelines_that_do_more_than_normalise_are_refused() {
    let before = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut policy = LeRobotPolicy::small();
        change(&mut policy.before);
        refused(policy.import(), words);
    };
    before(&|pipeline| pipeline["steps"][1]["registry_name"] = json!("delta_action"), &["`delta_action`"]);
    before(&|pipeline| pipeline["steps"][0]["config"]["rename_map"] = json!({ "a": "b" }), &["renames"]);
    before(&|pipeline| pipeline["steps"] = json!([]), &["no step `normalizer_processor`"]);
    before(&|pipeline| pipeline["steps"][3]["state_file"] = Value::Null, &["state_file"]);
    for path in ["../statistics.safetensors", "/etc/passwd", "..", ""] {
        before(&|pipeline| pipeline["steps"][3]["state_file"] = json!(path), &["not the name of a file"]);
    }
    before(&|pipeline| pipeline["steps"][3]["state_file"] = json!("gone"), &["gone"]);
    before(&|pipeline| pipeline["steps"][3]["config"]["norm_map"]["STATE"] = json!("LOG"), &["LOG"]);
    let mut policy = LeRobotPolicy::small();
    policy.statistics[0].2 = vec![0.0];
    policy.statistics[0].1 = vec![1];
    refused(policy.import(), &["`observation.state` has 2 numbers"]);
}

#[test]
fn a_policy_is_found_from_around_it() {
    let place = Place::new();
    let options = ImportOptions { control_hz: Some(10.0), task: Some("push_t"), ..Default::default() };
    let inside = place.path("run/checkpoints/last/pretrained_model");
    LeRobotPolicy::small().write(&inside);
    for (index, source) in
        [&inside, &inside.join("model.safetensors"), &place.path("run"), &place.path("run/checkpoints/last")]
            .into_iter()
            .enumerate()
    {
        let report = import(source, &place.path(&format!("out{index}")), &options).unwrap();
        assert_eq!(report.task, "push_t");
    }
    std::fs::remove_file(inside.join("config.json")).unwrap();
    refused(import(&inside, &place.out, &options), &["no `config.json` in it"]);
    refused(
        import(&inside.join("model.safetensors"), &place.out, &options),
        &["LeRobot's", "no `config.json`"],
    );
    refused(import(&place.path("out0"), &place.out, &options), &["already"]);
}
