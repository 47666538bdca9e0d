//! The state dict of a `DiffusionUnetLowdimPolicy`, as safetensors: `load_state_dict(load_file(path))` takes it.

use crate::Normalizer;
use crate::checkpoint::{Named, Stored};
use crate::import::Scheme;

use super::{Export, bounds, notes, parameters, serialize};

pub(super) fn export(stored: &Stored) -> Result<Export, String> {
    let manifest = &stored.manifest;
    let mut named = parameters(stored, Scheme::DiffusionPolicy);
    for (field, normalizer) in [("obs", &manifest.observation), ("action", &manifest.action)] {
        named.extend(normaliser(field, normalizer)?);
    }
    // Parameters without numbers, by which its modules know their device.
    for name in ["_dummy_variable", "mask_generator._dummy_variable"] {
        named.push((name.into(), vec![0], Vec::new()));
    }
    Ok(Export {
        files: vec![("policy.safetensors".into(), serialize(named, manifest))],
        notes: notes(manifest),
    })
}

/// `normalised = value * scale + offset`.
fn normaliser(field: &str, normalizer: &Normalizer) -> Result<Named, String> {
    let (low, high) = bounds(field, normalizer)?;
    let factors: Vec<(f64, f64)> = (0..normalizer.dim()).map(|number| normalizer.scale(number)).collect();
    let parts = [
        ("scale", factors.iter().map(|(factor, _)| *factor as f32).collect()),
        ("offset", factors.iter().map(|(factor, center)| (-center * factor) as f32).collect()),
        ("input_stats.min", low),
        ("input_stats.max", high),
    ];
    let name = |part: &str| format!("normalizer.params_dict.{field}.{part}");
    Ok(parts.into_iter().map(|(part, values)| (name(part), vec![normalizer.dim()], values)).collect())
}
