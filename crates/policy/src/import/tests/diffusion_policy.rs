//! State dicts of diffusion_policy: what is taken, and what is refused with which reason.

use super::*;

fn normaliser() -> Named {
    vec![
        vector("normalizer.params_dict.obs.scale", &[2.0 / 512.0, 1.0, 1.0, 0.5, 2.0]),
        vector("normalizer.params_dict.obs.offset", &[-1.0, -7.0, 0.0, 0.0, 0.25]),
        vector("normalizer.params_dict.obs.input_stats.min", &[0.0; 5]),
        vector("normalizer.params_dict.action.scale", &[2.0 / 512.0; 2]),
        vector("normalizer.params_dict.action.offset", &[-1.0; 2]),
        vector("_dummy_variable", &[]),
        vector("mask_generator._dummy_variable", &[]),
    ]
}

fn policy() -> Named {
    [named(Scheme::DiffusionPolicy, weights()), normaliser()].concat()
}

#[test]
fn a_whole_policys_state_dict_brings_its_normaliser() {
    let (report, stored) = import_tensors(&policy(), SETTINGS).unwrap();
    assert_eq!(report.normaliser, "in the file of weights");
    let manifest = &stored.manifest;
    // x * scale + offset, number by number; the second is one that never varied.
    let seen: Vec<f32> = manifest.observation.normalise([128.0, 7.0, 0.5, 2.0, 0.125]).collect();
    assert_eq!(seen, [-0.5, 0.0, 0.5, 1.0, 0.5]);
    assert_eq!(manifest.action.unnormalise([0.0, 1.0]).collect::<Vec<_>>(), [256.0, 512.0]);
    let values: Vec<Vec<f32>> = weights().into_iter().map(|(.., values)| values).collect();
    assert_eq!(stored.values, values);
}

#[test]
fn the_averaged_network_is_taken_and_sixteen_bits_are_widened() {
    let both = ["model.", "ema_model."].iter().flat_map(|prefix| {
        let factor = if *prefix == "model." { 0.0 } else { 1.0 };
        weights().into_iter().map(move |(name, shape, values)| {
            (format!("{prefix}{name}"), shape, values.iter().map(|value| value * factor).collect())
        })
    });
    let (report, stored) = import_tensors(&both.collect(), &format!("{SETTINGS}{RANGES}")).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("`ema_model.`")), "{:?}", report.notes);
    assert_eq!(stored.values[0], weights()[0].2);

    let bf16: Vec<(String, Vec<usize>, Vec<u8>)> = weights()
        .into_iter()
        .map(|(name, shape, values)| {
            let upper =
                values.iter().flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes()).collect();
            (name, shape, upper)
        })
        .collect();
    let views = bf16.iter().map(|(name, shape, bytes)| {
        let dtype = safetensors::tensor::Dtype::BF16;
        (name.as_str(), safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    let place = Place::new();
    let file = place.path("half.safetensors");
    std::fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
    let settings = format!("{SETTINGS}{RANGES}");
    let options = ImportOptions { config: Some(&settings), ..Default::default() };
    let report = import(&file, &place.out, &options).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("widened")), "{:?}", report.notes);
    let stored = Stored::open(&place.out).unwrap();
    for (is, (_, _, was)) in stored.values.iter().zip(weights()) {
        assert!(is.iter().zip(was).all(|(is, was)| is.to_bits() == was.to_bits() & 0xffff_0000));
    }
}

#[test]
fn a_file_for_training_is_a_configuration() {
    let whole = format!(
        "seed = 1\n{SETTINGS}\n[data]\npath = \"anywhere\"\nvalidation_share = 0.0\n[training]\nsteps = 1\n"
    );
    assert!(import_tensors(&policy(), &whole).is_ok());
}

/// An angle is one number of the interface and two of the network's.
#[test]
fn angles_are_counted_as_the_network_has_them() {
    let angles = SETTINGS.replace("shape = [3]", "shape = [2]").replace(
        "objective =",
        "angles = [{ feature = \"observation.environment_state\", numbers = [1] }]\nobjective =",
    );
    let (_, stored) = import_tensors(&policy(), &angles).unwrap();
    let manifest = &stored.manifest;
    assert_eq!((manifest.interface.observation_dim(), manifest.observation.dim()), (4, 5));
}

#[test]
fn what_the_tensors_do_not_say_is_asked_for_and_what_they_say_is_checked() {
    let place = Place::new();
    let file = place.path("policy.safetensors");
    write(&file, &policy());
    refused(import(&file, &place.out, &ImportOptions::default()), &["--config", "configs/push_t.toml"]);
    assert!(!place.out.exists());
    for (from, to, words) in [
        ("[8, 16]", "[8, 24]", &["down_dims", "[8, 24]", "[8, 16]"][..]),
        ("kernel_size = 3", "kernel_size = 5", &["kernel_size", "5", "3"]),
        ("embed_dim = 12", "embed_dim = 14", &["diffusion_step_embed_dim", "14"]),
        ("scale = true", "scale = false", &["cond_predict_scale"]),
        ("n_groups = 8", "n_groups = 4", &["n_groups", "8 groups"]),
        ("observed = 2", "observed = 3", &["10 numbers", "3 observations of 5"]),
        ("shape = [3]", "shape = [4]", &["10 numbers", "2 observations of 6"]),
        ("predicted = 16", "predicted = 8192", &["8192 steps"]),
        ("predicted = 16", "predicted = 15", &["horizon.predicted", "multiple of 2"]),
        ("executed = 8", "executed = 16", &["horizon.executed"]),
        ("kind = \"ddim\", steps = 2", "kind = \"ddim\", steps = 200", &["sampler.steps"]),
        ("control_hz = 10.0", "control_hz = 0.0", &["control_hz"]),
        ("task = \"push_t\"", "tusk = \"push_t\"", &["tusk"]),
    ] {
        refused(import_tensors(&policy(), &SETTINGS.replace(from, to)), words);
    }
    let three = SETTINGS
        .replace("shape = [2]\nunit", "shape = [3]\nunit")
        .replace("[0.0, 0.0]", "[0.0, 0.0, 0.0]")
        .replace("[512.0, 512.0]", "[512.0, 512.0, 512.0]");
    refused(import_tensors(&policy(), &three), &["plans 2 numbers", "add up to 3"]);
    let interface = &SETTINGS[SETTINGS.find("[interface]").unwrap()..];
    refused(import_tensors(&policy(), &format!("task = \"x\"\n{interface}")), &["no `policy`"]);
    refused(import_tensors(&named(Scheme::DiffusionPolicy, weights()), SETTINGS), &["[normaliser]"]);
    let short = RANGES.replace("action = { low = [0.0, 0.0]", "action = { low = [0.0]");
    let bare = named(Scheme::DiffusionPolicy, weights());
    refused(import_tensors(&policy(), &format!("{SETTINGS}{RANGES}")), &["two normalisers"]);
    refused(import_tensors(&bare, &format!("{SETTINGS}{short}")), &["normaliser.action", "2 finite ranges"]);
}

#[test]
fn tensors_that_are_not_those_of_the_policy_are_refused() {
    let with = |extra: &[(String, Vec<usize>, Vec<f32>)]| {
        import_tensors(&[policy(), extra.to_vec()].concat(), SETTINGS)
    };
    let changed = |name: &str, values: &[f32]| {
        let mut named = policy();
        named.iter_mut().find(|(is, ..)| is == name).unwrap().2 = values.to_vec();
        import_tensors(&named, SETTINGS)
    };
    refused(with(&[vector("head.weight", &[0.0])]), &["`head.weight`", "no part of a policy"]);
    refused(with(&[vector("model.more.weight", &[0.0])]), &["more than", "`more.weight`"]);
    refused(with(&[vector("obs_encoder.key_model_map.weight", &[0.0])]), &["images"]);
    refused(with(&[vector("model.local_cond_encoder.0.bias", &[0.0])]), &["obs_as_local_cond"]);
    refused(import_tensors(&vec![vector("model.pos_emb", &[0.0])], SETTINGS), &["conditional 1D U-Net"]);
    refused(
        import_tensors(&vec![vector("model.decoder.layers.0.norm1.bias", &[0.0])], SETTINGS),
        &["transformer"],
    );
    refused(changed("model.final_conv.1.bias", &[0.0, f32::NAN]), &["`model.final_conv.1.bias`", "NaN"]);
    refused(changed("normalizer.params_dict.action.scale", &[0.0, 1.0]), &["`action`", "not above 0"]);
    refused(changed("normalizer.params_dict.action.scale", &[1e6, 1.0]), &["`action`", "too narrow"]);
    // A policy that predicts what it observes along with what it does has no condition.
    let inpainting = weights().into_iter().map(|(name, shape, values)| {
        if !name.ends_with("cond_encoder.1.weight") {
            return (name, shape, values);
        }
        let rows = shape[0];
        (name, vec![rows, 12], vec![0.0; rows * 12])
    });
    refused(import_tensors(&inpainting.collect(), SETTINGS), &["inpainted"]);
    let mut keys = policy();
    keys.retain(|(name, ..)| !name.contains("dict.obs."));
    refused(import_tensors(&keys, SETTINGS), &["params_dict.obs.scale"]);
}

#[test]
fn other_files_are_refused_with_what_to_do() {
    let place = Place::new();
    let options = ImportOptions { config: Some(SETTINGS), ..Default::default() };
    let file = place.path("latest.ckpt");
    for head in [&b"PK\x03\x04\x00\x00"[..], b"\x80\x02}q\x00.", b"\x80\x04\x95"] {
        std::fs::write(&file, head).unwrap();
        refused(import(&file, &place.out, &options), &["pickle", "save_file"]);
    }
    std::fs::write(&file, "a text").unwrap();
    refused(import(&file, &place.out, &options), &["not a whole safetensors file"]);
    refused(import(&place.path("nothing"), &place.out, &options), &["nothing"]);
    let doubles = [("model.diffusion_step_encoder.1.weight", [0u8; 8])];
    let views = doubles.iter().map(|(name, bytes)| {
        (
            *name,
            safetensors::tensor::TensorView::new(safetensors::tensor::Dtype::F64, vec![1], bytes).unwrap(),
        )
    });
    std::fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
    let opened = super::super::tensors::TensorFile::open(&file).unwrap();
    assert!(opened.numbers("model.diffusion_step_encoder.1.weight").unwrap_err().contains("F64"));
}
