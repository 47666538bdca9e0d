//! Checkpoints of ours for others to load: a state dict under diffusion_policy's names, or a folder as LeRobot writes it.
//!
//! The weights are those of the checkpoint, to the bit. Beside them stands what the checkpoint says of itself, so that
//! importing what was exported needs no configuration.

mod diffusion_policy;
mod lerobot;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::checkpoint::{Manifest, Named, Stored, hex, serialize_tensors};
use crate::config::NetworkConfig;
use crate::import::{GROUPS, Scheme};
use crate::{Normalizer, PolicyFailure};

/// Under which text beside the tensors a file keeps the checkpoint's own words.
pub(crate) const REMEMBERED: &str = "nudge.checkpoint";
/// In the name of what is still being written.
const TEMPORARY: &str = "tmp-";

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    pub names: Scheme,
    pub parameters: usize,
    pub out: PathBuf,
    /// Files in the folder `out`, or that file alone.
    pub files: Vec<String>,
    /// What whoever loads it has to know.
    pub notes: Vec<String>,
}

/// Files by name, and what is worth knowing about them.
struct Export {
    files: Vec<(String, Vec<u8>)>,
    notes: Vec<String>,
}

/// Writes a checkpoint for another program, whole or not at all: the file `out` under diffusion_policy's names, the folder
/// `out` under LeRobot's.
///
/// # Errors
/// When the checkpoint cannot be read, `out` exists, or the other program has no such policy. The text says why.
pub fn export(checkpoint: &Path, out: &Path, names: Scheme) -> Result<ExportReport, PolicyFailure> {
    let refused = |problem: String| PolicyFailure::Export { path: out.to_owned(), problem };
    if out.exists() {
        return Err(refused("it exists already: choose another name".into()));
    }
    let stored = Stored::open(checkpoint)?;
    let NetworkConfig::ConditionalUnet1d(network) = &stored.manifest.policy.network;
    if network.n_groups != GROUPS {
        return Err(refused(format!(
            "the network has {} groups in its norms, and both reference implementations have {GROUPS} in the last one \
             whatever they are told: there it would be another network",
            network.n_groups
        )));
    }
    let export = match names {
        Scheme::DiffusionPolicy => diffusion_policy::export(&stored),
        Scheme::LeRobot => lerobot::export(&stored, network),
    };
    let Export { files, notes } = export.map_err(refused)?;
    match names {
        Scheme::DiffusionPolicy => write_file(out, &files[0].1)?,
        Scheme::LeRobot => write_folder(out, &files)?,
    }
    Ok(ExportReport {
        names,
        parameters: stored.list.count(),
        out: out.to_owned(),
        files: files.into_iter().map(|(name, _)| name).collect(),
        notes,
    })
}

/// The network's parameters under the names of a scheme.
fn parameters(stored: &Stored, names: Scheme) -> Named {
    let parameters = stored.list.iter().zip(&stored.values);
    parameters
        .map(|(parameter, values)| (names.theirs(&parameter.name), parameter.shape.clone(), values.clone()))
        .collect()
}

/// Tensors, with what the checkpoint says of itself and a checksum over both.
fn serialize(mut named: Named, manifest: &Manifest) -> Vec<u8> {
    named.sort_by(|(name, ..), (other, ..)| name.cmp(other));
    let text = serde_json::to_string(manifest).expect("a manifest is plain data");
    let bytes: Vec<(&str, Vec<u8>)> = named
        .iter()
        .map(|(name, _, values)| {
            (name.as_str(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let sum = checksum(&text, bytes.iter().map(|(name, bytes)| (*name, bytes.as_slice())));
    serialize_tensors(&named, HashMap::from([(REMEMBERED.to_owned(), format!("{sum}\n{text}"))]))
}

/// The SHA-256 of a text and of tensors in the order of their names: safetensors has no checksum of its own.
pub(crate) fn checksum<'a>(text: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    hash.update(text);
    for (name, bytes) in tensors {
        hash.update(name);
        hash.update(bytes);
    }
    hex(&hash.finalize())
}

/// What goes to -1 and 1, as f32.
///
/// # Errors
/// The number that f32 is too coarse for.
fn bounds(what: &str, normalizer: &Normalizer) -> Result<(Vec<f32>, Vec<f32>), String> {
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for number in 0..normalizer.dim() {
        let (factor, center) = normalizer.scale(number);
        for (list, bound) in [(&mut low, center - 1.0 / factor), (&mut high, center + 1.0 / factor)] {
            let rounded = bound as f32;
            if (f64::from(rounded) - bound).abs() * factor > 1e-4 {
                return Err(format!(
                    "the range of number {number} of `{what}` lies about {center}, where 32 bits cannot tell its numbers \
                     apart"
                ));
            }
            list.push(rounded);
        }
    }
    Ok((low, high))
}

fn write_file(out: &Path, bytes: &[u8]) -> Result<(), PolicyFailure> {
    let temporary = temporary(out);
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).map_err(PolicyFailure::io(parent))?;
    }
    write_and_sync(&temporary, bytes)?;
    fs::rename(&temporary, out).map_err(PolicyFailure::io(out))
}

fn write_folder(out: &Path, files: &[(String, Vec<u8>)]) -> Result<(), PolicyFailure> {
    let temporary = temporary(out);
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(PolicyFailure::io(&temporary))?;
    }
    fs::create_dir_all(&temporary).map_err(PolicyFailure::io(&temporary))?;
    for (name, bytes) in files {
        write_and_sync(&temporary.join(name), bytes)?;
    }
    fs::rename(&temporary, out).map_err(PolicyFailure::io(out))
}

fn temporary(out: &Path) -> PathBuf {
    out.with_extension(format!("{TEMPORARY}{}", std::process::id()))
}

fn write_and_sync(path: &Path, bytes: &[u8]) -> Result<(), PolicyFailure> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(PolicyFailure::io(path))
}

/// What the state dict of a policy has no place for, and its network depends on.
fn notes(manifest: &Manifest) -> Vec<String> {
    let policy = &manifest.policy;
    let relative = policy.relative.first().map(|relative| {
        format!(
            "numbers of `{}` are planned as differences from `{}`: whoever loads the weights has to add them",
            relative.action, relative.to
        )
    });
    let angles = policy.angles.first().map(|angles| {
        format!(
            "angles of `{}` go in and come out as sine and cosine: whoever loads the weights has to make them",
            angles.feature
        )
    });
    let clip = (manifest.clip_range != 1.0).then(|| {
        format!(
            "samples are clipped to {}: the scheduler's `clip_sample_range` has to be that",
            manifest.clip_range
        )
    });
    relative.into_iter().chain(angles).chain(clip).collect()
}
