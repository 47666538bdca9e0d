//! What training needs to go on as if it had never stopped.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use crate::checkpoint::{Named, parse_tensors, serialize_tensors};
use crate::optimizer::Moments;
use crate::parameters::ParameterList;
use crate::updates::Learned;
use crate::{PolicyFailure, TrainConfig};

pub(crate) const FILE: &str = "resume.safetensors";

/// How far training has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Updates made.
    pub step: u64,
    /// Wall-clock seconds they took.
    pub seconds: f64,
}

/// The part of a configuration that must not change: all but where the data lies and how often training reports.
fn fingerprint(config: &TrainConfig) -> String {
    let mut config = config.clone();
    config.data.path.clear();
    let training = &mut config.training;
    (training.validate_every, training.checkpoint_every, training.keep) = (1, 1, 1);
    let text = serde_json::to_string(&config).expect("a configuration is plain data");
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Weights, their average and both moments of every parameter, with the step count and a checksum of the numbers.
pub(crate) fn serialize(
    learned: Learned,
    list: &ParameterList,
    config: &TrainConfig,
    progress: &Progress,
) -> Vec<u8> {
    let Learned { weights, average, moments } = learned;
    let groups =
        [("weight", weights), ("average", average), ("first", moments.first), ("second", moments.second)];
    let mut named = Named::new();
    let mut digest = Sha256::new();
    for (group, values) in groups {
        for (parameter, values) in list.iter().zip(values) {
            values.iter().for_each(|value| digest.update(value.to_le_bytes()));
            named.push((format!("{group}.{}", parameter.name), parameter.shape.clone(), values));
        }
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let metadata = HashMap::from([
        ("step".to_owned(), progress.step.to_string()),
        ("seconds".to_owned(), progress.seconds.to_string()),
        ("updates".to_owned(), moments.updates.to_string()),
        ("config".to_owned(), fingerprint(config)),
        ("sha256".to_owned(), digest),
    ]);
    serialize_tensors(&named, metadata)
}

/// What the checkpoint `folder` had learned, and how far it had come.
///
/// # Errors
/// When the file is missing or damaged, or the configuration has changed since.
pub(crate) fn load(
    folder: &Path,
    config: &TrainConfig,
    list: &ParameterList,
) -> Result<(Learned, Progress), PolicyFailure> {
    let path = folder.join(FILE);
    let bytes = std::fs::read(&path).map_err(PolicyFailure::io(&path))?;
    parse(&bytes, config, list).map_err(|problem| PolicyFailure::checkpoint(&path, problem))
}

fn parse(bytes: &[u8], config: &TrainConfig, list: &ParameterList) -> Result<(Learned, Progress), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let text = |key: &str| metadata.get(key).ok_or_else(|| format!("it states no `{key}`"));
    let number = |key: &str| text(key)?.parse::<u64>().map_err(|error| format!("`{key}`: {error}"));
    if *text("config")? != fingerprint(config) {
        return Err("the configuration has changed since: train it anew in another folder".into());
    }
    let mut tensors = parse_tensors(bytes)?;
    let mut digest = Sha256::new();
    let updates = number("updates")?;
    let mut group = |group: &str| {
        list.iter()
            .map(|parameter| {
                let name = format!("{group}.{}", parameter.name);
                let (shape, values) = tensors.remove(&name).ok_or_else(|| format!("it lacks `{name}`"))?;
                if shape != parameter.shape {
                    return Err(format!("`{name}` is {shape:?}, and must be {:?}", parameter.shape));
                }
                values.iter().for_each(|value| digest.update(value.to_le_bytes()));
                Ok(values)
            })
            .collect::<Result<Vec<_>, String>>()
    };
    let (weights, average) = (group("weight")?, group("average")?);
    let (first, second) =
        if updates == 0 { (Vec::new(), Vec::new()) } else { (group("first")?, group("second")?) };
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != *text("sha256")? {
        return Err("its numbers do not have the checksum that it states: the file is damaged".into());
    }
    let seconds = text("seconds")?.parse().map_err(|error| format!("`seconds`: {error}"))?;
    let learned = Learned { weights, average, moments: Moments { updates, first, second } };
    Ok((learned, Progress { step: number("step")?, seconds }))
}
