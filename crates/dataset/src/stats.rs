//! Statistics of features, in LeRobot's conventions: population standard deviation, quantiles interpolated linearly.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nudge_control::quantile;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::index::{json_lines, parquet_files_below};
use crate::parquet_file::{ParquetFile, column};
use crate::{DatasetError, FeatureInfo, columns};

/// Statistics of each of the `D` numbers of a feature. Lists are empty where a set does not state them; what came
/// from NaN is NaN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeatureStats {
    #[serde(deserialize_with = "numbers")]
    pub min: Vec<f64>,
    #[serde(deserialize_with = "numbers")]
    pub max: Vec<f64>,
    #[serde(deserialize_with = "numbers")]
    pub mean: Vec<f64>,
    #[serde(deserialize_with = "numbers")]
    pub std: Vec<f64>,
    /// One number: frames, or pixels for pictures.
    #[serde(deserialize_with = "counts")]
    pub count: Vec<u64>,
    #[serde(deserialize_with = "numbers")]
    pub q01: Vec<f64>,
    #[serde(deserialize_with = "numbers")]
    pub q10: Vec<f64>,
    #[serde(deserialize_with = "numbers")]
    pub q50: Vec<f64>,
    #[serde(deserialize_with = "numbers")]
    pub q90: Vec<f64>,
    #[serde(deserialize_with = "numbers")]
    pub q99: Vec<f64>,
}

impl FeatureStats {
    /// Of row-major `[T, dim]` values.
    pub(crate) fn of(values: &[f64], dim: usize) -> Self {
        let count = values.len() / dim;
        let mut stats = Self { count: vec![count as u64], ..Self::default() };
        for number in 0..dim {
            let mut column: Vec<f64> = values.iter().skip(number).step_by(dim).copied().collect();
            let mean = column.iter().sum::<f64>() / count as f64;
            let variance = column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
            column.sort_by(f64::total_cmp);
            // numpy answers NaN as soon as one value is.
            let at = |q: f64| if mean.is_nan() { f64::NAN } else { quantile(&column, q) };
            stats.mean.push(mean);
            stats.std.push(variance.sqrt());
            for (list, q) in [
                (&mut stats.min, 0.0),
                (&mut stats.max, 1.0),
                (&mut stats.q01, 0.01),
                (&mut stats.q10, 0.1),
                (&mut stats.q50, 0.5),
                (&mut stats.q90, 0.9),
                (&mut stats.q99, 0.99),
            ] {
                list.push(at(q));
            }
        }
        stats
    }

    /// Of row-major `[T, shape]` values. As LeRobot has it, tables share their statistics over all sizes but the last.
    pub(crate) fn of_frames(values: &[f64], shape: &[usize]) -> Self {
        let frames = values.len() / shape.iter().product::<usize>();
        let last = shape.last().copied().unwrap_or(1);
        Self { count: vec![frames as u64], ..Self::of(values, last) }
    }

    /// The lists of numbers by LeRobot's names; `count` comes between `std` and `q01` there.
    pub(crate) fn lists(&self) -> [(&'static str, &Vec<f64>); 9] {
        [
            ("min", &self.min),
            ("max", &self.max),
            ("mean", &self.mean),
            ("std", &self.std),
            ("q01", &self.q01),
            ("q10", &self.q10),
            ("q50", &self.q50),
            ("q90", &self.q90),
            ("q99", &self.q99),
        ]
    }

    /// Statistics of two parts taken together, as LeRobot aggregates them: exact but for the quantiles, which are the
    /// parts' own weighted by their frames, and left out where a part states none.
    pub(crate) fn merge(&self, other: &Self) -> Self {
        let (n, m) = (self.frames(), other.frames());
        let (of_self, of_other) = (n / (n + m), m / (n + m));
        let zip = |one: &[f64], two: &[f64], f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            one.iter().zip(two).map(|(one, two)| f(*one, *two)).collect()
        };
        let weighted = |one: &[f64], two: &[f64]| zip(one, two, &|one, two| of_self * one + of_other * two);
        let spread = zip(&self.mean, &other.mean, &|one, two| of_self * of_other * (one - two).powi(2));
        let within = zip(&self.std, &other.std, &|one, two| of_self * one.powi(2) + of_other * two.powi(2));
        Self {
            min: zip(&self.min, &other.min, &|one, two| if one <= two || one.is_nan() { one } else { two }),
            max: zip(&self.max, &other.max, &|one, two| if one >= two || one.is_nan() { one } else { two }),
            mean: weighted(&self.mean, &other.mean),
            std: zip(&within, &spread, &|within, spread| (within + spread).sqrt()),
            count: vec![(n + m) as u64],
            q01: weighted(&self.q01, &other.q01),
            q10: weighted(&self.q10, &other.q10),
            q50: weighted(&self.q50, &other.q50),
            q90: weighted(&self.q90, &other.q90),
            q99: weighted(&self.q99, &other.q99),
        }
    }

    /// Sets the list of this name, as LeRobot names them; others are passed over.
    fn set(&mut self, name: &str, values: Vec<f64>) {
        let list = match name {
            "min" => &mut self.min,
            "max" => &mut self.max,
            "mean" => &mut self.mean,
            "std" => &mut self.std,
            "q01" => &mut self.q01,
            "q10" => &mut self.q10,
            "q50" => &mut self.q50,
            "q90" => &mut self.q90,
            "q99" => &mut self.q99,
            "count" => {
                self.count = values.into_iter().map(|count| count as u64).collect();
                return;
            }
            _ => return,
        };
        *list = values;
    }

    /// Whether nothing is left out.
    fn is_whole(&self) -> bool {
        !self.count.is_empty() && self.lists().iter().all(|(_, list)| !list.is_empty())
    }

    fn frames(&self) -> f64 {
        self.count.first().copied().unwrap_or(0) as f64
    }
}

/// Reads the statistics that the set in `root` states: `meta/stats.json`, or those of its episodes merged.
///
/// # Errors
/// When it states none, or they cannot be read.
pub(crate) fn read(root: &Path) -> Result<BTreeMap<String, FeatureStats>, DatasetError> {
    let path = root.join("meta/stats.json");
    if path.is_file() {
        let text = fs::read_to_string(&path).map_err(DatasetError::io(&path))?;
        return serde_json::from_str(&text).map_err(|error| DatasetError::metadata(&path, error.to_string()));
    }
    let lines = root.join("meta/episodes_stats.jsonl");
    let merged = if lines.is_file() { of_lines(&lines)? } else { of_episodes(&root.join("meta/episodes"))? };
    if merged.is_empty() {
        let problem = "there is no such file, and the list of episodes states no statistics either; `nudge dataset stats \
                       SET` computes them";
        return Err(DatasetError::metadata(&path, problem));
    }
    Ok(merged)
}

/// Those of v2.1, in which a line is an episode.
fn of_lines(path: &Path) -> Result<BTreeMap<String, FeatureStats>, DatasetError> {
    #[derive(Deserialize)]
    struct Line {
        stats: BTreeMap<String, FeatureStats>,
    }
    let mut merged = BTreeMap::new();
    for line in json_lines::<Line>(path)? {
        line.stats.into_iter().for_each(|(feature, stats)| add(&mut merged, feature, stats));
    }
    Ok(merged)
}

/// Those of v3.0 in `meta/episodes/`, whose columns are named `stats/{feature}/{statistic}`.
fn of_episodes(folder: &Path) -> Result<BTreeMap<String, FeatureStats>, DatasetError> {
    let mut merged = BTreeMap::new();
    for path in if folder.is_dir() { parquet_files_below(folder)? } else { Vec::new() } {
        let file = ParquetFile::open(&path)?;
        let mut episodes: Vec<BTreeMap<String, FeatureStats>> = vec![BTreeMap::new(); file.row_count()];
        for column in file.column_names() {
            let Some((feature, name)) = column.strip_prefix("stats/").and_then(|rest| rest.rsplit_once('/'))
            else {
                continue;
            };
            for (episode, values) in episodes.iter_mut().zip(file.lists(column)?) {
                // Quantiles of parts cannot be merged.
                if ["min", "max", "mean", "std", "count"].contains(&name) {
                    episode.entry(feature.to_owned()).or_default().set(name, values);
                }
            }
        }
        episodes.into_iter().flatten().for_each(|(feature, stats)| add(&mut merged, feature, stats));
    }
    Ok(merged)
}

/// Those of the first `episodes` in `meta/episodes/` of the set in `root`, merged one by one like those of a set that is
/// written in one go; `None` where an episode states too little.
///
/// # Errors
/// When the list cannot be read.
pub(crate) fn of_list(
    root: &Path,
    episodes: usize,
) -> Result<Option<BTreeMap<String, FeatureStats>>, DatasetError> {
    let mut listed: BTreeMap<i64, BTreeMap<String, FeatureStats>> = BTreeMap::new();
    for path in parquet_files_below(&root.join("meta/episodes"))? {
        let file = ParquetFile::open(&path)?;
        let numbers = file.integers("episode_index")?;
        for column in file.column_names() {
            let Some((feature, name)) = column.strip_prefix("stats/").and_then(|rest| rest.rsplit_once('/'))
            else {
                continue;
            };
            for (number, values) in numbers.iter().zip(file.lists(column)?) {
                let stats = listed.entry(*number).or_default().entry(feature.to_owned()).or_default();
                stats.set(name, values);
            }
        }
    }
    let mut merged = BTreeMap::new();
    for number in 0..episodes {
        let stats = i64::try_from(number).ok().and_then(|number| listed.remove(&number));
        let Some(stats) = stats.filter(|stats| stats.values().all(FeatureStats::is_whole)) else {
            return Ok(None);
        };
        stats.into_iter().for_each(|(feature, stats)| add(&mut merged, feature, stats));
    }
    Ok(Some(merged))
}

fn add(merged: &mut BTreeMap<String, FeatureStats>, feature: String, stats: FeatureStats) {
    match merged.get_mut(&feature) {
        Some(known) => *known = known.merge(&stats),
        None => drop(merged.insert(feature, stats)),
    }
}

/// Sets of more frames have the statistics that are aggregated episode by episode: exact quantiles need every value of a
/// feature at once.
pub(crate) const EXACT_FRAMES: usize = 1_000_000;

/// The statistics of each feature over all rows of `files`, one feature after another.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn exact(features: &[FeatureInfo], files: &[PathBuf]) -> Result<Vec<FeatureStats>, DatasetError> {
    let of = |feature: &FeatureInfo| {
        let mut values = Vec::new();
        for path in files {
            let file = ParquetFile::open(path)?;
            for batch in file.read(&[&feature.name], 0..file.row_count())? {
                columns::append(column(&batch, &feature.name), feature.dim(), &mut values)
                    .map_err(|problem| DatasetError::metadata(path, problem.text))?;
            }
        }
        Ok(FeatureStats::of_frames(&values, &feature.shape))
    };
    features.iter().map(of).collect()
}

/// Numbers nested to any depth (statistics of pictures are `[3, 1, 1]`), bare, or null for NaN.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    fn collect(value: &Value, out: &mut Vec<f64>) -> Result<(), String> {
        match value {
            Value::Array(parts) => return parts.iter().try_for_each(|part| collect(part, out)),
            Value::Null => out.push(f64::NAN),
            Value::Bool(flag) => out.push(f64::from(u8::from(*flag))),
            Value::Number(number) => out.push(number.as_f64().ok_or("a number beyond f64")?),
            other => return Err(format!("expected numbers, found {other}")),
        }
        Ok(())
    }
    let mut out = Vec::new();
    collect(&Value::deserialize(deserializer)?, &mut out).map_err(serde::de::Error::custom)?;
    Ok(out)
}

fn counts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    Ok(numbers(deserializer)?.into_iter().map(|count| count as u64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_parts_have_the_statistics_of_the_whole() {
        let values: Vec<f64> = (0..40).map(|i| f64::from((i * 7919) % 101)).collect();
        let (whole, parts) = (FeatureStats::of(&values, 2), values.split_at(14));
        let merged = FeatureStats::of(parts.0, 2).merge(&FeatureStats::of(parts.1, 2));
        assert_eq!((&merged.min, &merged.max, &merged.count), (&whole.min, &whole.max, &whole.count));
        for (one, two) in merged.mean.iter().chain(&merged.std).zip(whole.mean.iter().chain(&whole.std)) {
            assert!((one - two).abs() < 1e-12, "{one} {two}");
        }
    }

    #[test]
    fn closed_forms_and_nan() {
        let stats = FeatureStats::of(&(0..101).map(f64::from).collect::<Vec<_>>(), 1);
        assert_eq!((stats.mean[0], stats.q01[0], stats.q90[0], stats.count[0]), (50.0, 1.0, 90.0, 101));
        // Variance of 0..n uniform: (n^2 - 1) / 12.
        assert!((stats.std[0] - (10_200.0_f64 / 12.0).sqrt()).abs() < 1e-12);
        let stats = FeatureStats::of(&[1.0, f64::NAN], 1);
        assert!(stats.lists().iter().all(|(_, list)| list[0].is_nan()));
    }
}
