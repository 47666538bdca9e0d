//! What a data set says about itself; LeRobot sets do in `meta/info.json`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{DatasetError, Format};

/// What a data set holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetInfo {
    pub format: Format,
    pub episodes: usize,
    pub frames: usize,
    /// Frames per second, above 0; `None` when the set does not state them.
    pub fps: Option<f64>,
    pub robot_type: Option<String>,
    /// In the order of info.json; by name in formats that keep no order.
    pub features: Vec<FeatureInfo>,
    /// What was to be done, in words, by task index.
    pub tasks: Vec<String>,
    /// Parts that the set names, such as `train` and `valid`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<Split>,
}

/// A part of a set that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Split {
    pub name: String,
    /// In ascending order.
    pub episodes: Vec<usize>,
}

impl Split {
    /// The same part of a set of which only the episodes `kept` are left.
    pub(crate) fn renumbered(self, kept: &[usize]) -> Self {
        let new = |episode: &usize| kept.binary_search(episode).ok();
        Self { episodes: self.episodes.iter().filter_map(new).collect(), ..self }
    }
}

impl DatasetInfo {
    /// The features that are listed and not read: pictures, videos, text.
    pub fn passed_over(&self) -> impl Iterator<Item = &FeatureInfo> {
        self.features.iter().filter(|feature| !feature.is_numeric())
    }
}

/// One feature as the set states it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureInfo {
    pub name: String,
    /// A numpy name such as `float32`, or `image`, `video`, `string`.
    pub dtype: String,
    pub shape: Vec<usize>,
    /// A name for each number; empty when the set gives none. Lists inside lists and dictionaries are flattened.
    pub names: Vec<String>,
}

impl FeatureInfo {
    /// Of an array `[T, ...]` of such numbers, in formats that say no more. A frame of three dimensions and more is a picture.
    pub(crate) fn of_array(name: String, shape: &[usize], dtype: &str) -> Self {
        let dtype = match shape {
            [_, _, _, _, ..] => "image",
            _ if shape.iter().skip(1).any(|size| *size == 0) => "empty",
            _ => dtype,
        };
        let shape = if shape.len() <= 1 { vec![1] } else { shape[1..].to_vec() };
        Self { name, dtype: dtype.to_owned(), shape, names: Vec::new() }
    }

    /// `D`: how many numbers a frame holds.
    pub fn dim(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether frames hold numbers, and not pictures or text.
    pub fn is_numeric(&self) -> bool {
        let numeric = ["float16", "float32", "float64", "bool"];
        numeric.contains(&self.dtype.as_str()) || ["int", "uint"].iter().any(|t| self.dtype.starts_with(t))
    }
}

/// A layout of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    V2,
    V3,
}

/// Everything of info.json that reading needs. `tasks` of the public part are filled in by the index.
pub(crate) struct Info {
    pub(crate) public: DatasetInfo,
    pub(crate) layout: Layout,
    pub(crate) data_path: String,
    pub(crate) chunks_size: usize,
}

#[derive(Deserialize)]
struct Raw {
    robot_type: Option<String>,
    total_episodes: usize,
    total_frames: usize,
    #[serde(default = "default_chunks_size")]
    chunks_size: usize,
    fps: f64,
    data_path: Option<String>,
    features: Map<String, Value>,
}

fn default_chunks_size() -> usize {
    1000
}

#[derive(Deserialize)]
struct RawFeature {
    dtype: String,
    shape: Vec<usize>,
    #[serde(default)]
    names: Value,
}

/// Reads `meta/info.json` below `root`.
pub(crate) fn read(root: &Path) -> Result<Info, DatasetError> {
    let path = root.join("meta/info.json");
    let bad = |problem: String| DatasetError::Metadata { path: path.clone(), problem };
    let text = fs::read_to_string(&path).map_err(DatasetError::io(&path))?;
    // The version is asked first: an older layout may lack the other keys.
    let value: Value =
        serde_json::from_str(&text).map_err(|error| bad(format!("not valid JSON: {error}")))?;
    let (format, layout, default_path) = match value.get("codebase_version").and_then(Value::as_str) {
        Some("v3.0") => (Format::LeRobotV3, Layout::V3, V3_DATA_PATH),
        Some("v2.1") => (Format::LeRobotV21, Layout::V2, V2_DATA_PATH),
        Some("v2.0") => (Format::LeRobotV20, Layout::V2, V2_DATA_PATH),
        Some(version) => {
            return Err(bad(format!(
                "codebase_version `{version}` is not read; v3.0, v2.1 and v2.0 are. Older sets become v2.0 with \
                 LeRobot's convert_dataset_v1_to_v2.py; newer ones need a newer reader"
            )));
        }
        None => return Err(bad("it has no `codebase_version`, so the layout is unknown".into())),
    };
    let raw: Raw = serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
    if !(raw.fps.is_finite() && raw.fps > 0.0) {
        return Err(bad(format!("`fps` is {}, but must be above 0", raw.fps)));
    }
    if raw.chunks_size == 0 {
        return Err(bad("`chunks_size` is 0, but must be at least 1".into()));
    }
    let features = raw.features.into_iter().map(|(name, value)| {
        feature(&name, value).map_err(|problem| bad(format!("feature `{name}`: {problem}")))
    });
    Ok(Info {
        public: DatasetInfo {
            format,
            episodes: raw.total_episodes,
            frames: raw.total_frames,
            fps: Some(raw.fps),
            robot_type: raw.robot_type,
            features: features.collect::<Result<_, _>>()?,
            tasks: Vec::new(),
            splits: Vec::new(),
        },
        layout,
        data_path: raw.data_path.unwrap_or_else(|| default_path.to_owned()),
        chunks_size: raw.chunks_size,
    })
}

/// Where LeRobot v3.0 puts the frames.
pub(crate) const V3_DATA_PATH: &str = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet";
/// Where LeRobot v2.x puts an episode.
pub(crate) const V2_DATA_PATH: &str = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet";

fn feature(name: &str, value: Value) -> Result<FeatureInfo, String> {
    let raw: RawFeature = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if raw.shape.iter().try_fold(1usize, |dim, size| dim.checked_mul(*size)).is_none_or(|dim| dim == 0) {
        return Err(format!("the shape {:?} holds no sensible count of numbers", raw.shape));
    }
    let mut names = Vec::new();
    flatten_names(&raw.names, &mut names);
    Ok(FeatureInfo { name: name.to_owned(), dtype: raw.dtype, shape: raw.shape, names })
}

/// `names` may be a list, lists in a list, a dictionary of lists, a dictionary from name to place, or null.
fn flatten_names(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::String(name) => names.push(name.clone()),
        Value::Array(parts) => parts.iter().for_each(|part| flatten_names(part, names)),
        Value::Object(parts) => {
            for (key, part) in parts {
                match part {
                    Value::Array(_) | Value::Object(_) => flatten_names(part, names),
                    _ => names.push(key.clone()),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_form_in_the_field_become_a_list() {
        for (form, expected) in [
            (serde_json::json!(["x", "y"]), vec!["x", "y"]),
            (serde_json::json!([["x", "y"]]), vec!["x", "y"]),
            (serde_json::json!({"motors": ["x", "y"]}), vec!["x", "y"]),
            (serde_json::json!({"x": 0, "y": 1}), vec!["x", "y"]),
            (Value::Null, vec![]),
        ] {
            let mut names = Vec::new();
            flatten_names(&form, &mut names);
            assert_eq!(names, expected, "{form}");
        }
    }
}
