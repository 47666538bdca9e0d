//! What the numbers of a set are: statistics and distributions, computed from its frames.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Dataset, DatasetError, FeatureStats, sums, write_meta};

/// Numbers held in memory at once, unless one feature has more.
const NUMBERS_AT_ONCE: usize = 16 << 20;
/// Episodes read at once.
const BLOCK_FRAMES: usize = 65_536;

/// The numbers of one feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureSummary {
    pub feature: String,
    pub stats: FeatureStats,
    /// For each number, how often it lies in each of equally wide parts of its range, from least to greatest.
    pub histograms: Vec<Vec<u64>>,
    /// NaN and infinite numbers, which the histograms leave out.
    pub non_finite: usize,
    /// As LeRobot states them: tables share their statistics over all sizes but the last.
    #[serde(skip)]
    pub stated: FeatureStats,
}

/// Where a set states other statistics than its frames have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disagreement {
    pub feature: String,
    /// Place of the number in its feature; `None` when the feature as a whole disagrees.
    pub number: Option<usize>,
    /// `min`, `max`, `mean`, `std` or `count`.
    pub statistic: &'static str,
    /// `None` when it is not stated.
    pub stated: Option<f64>,
    pub computed: f64,
}

/// Summarises every feature of numbers over these episodes, in the set's order, with histograms of `bins` parts. `progress`
/// is told the share done, 0 to 1.
///
/// # Errors
/// As [`Dataset::read_episode`].
pub fn summarise(
    set: &Dataset,
    episodes: &[usize],
    bins: usize,
    progress: &mut dyn FnMut(f64),
) -> Result<Vec<FeatureSummary>, DatasetError> {
    let numeric: Vec<_> = set.info().features.iter().filter(|feature| feature.is_numeric()).collect();
    let frames: usize = episodes.iter().filter_map(|episode| set.episode_length(*episode)).sum();
    let mut summaries = Vec::with_capacity(numeric.len());
    let mut rest = numeric.as_slice();
    while !rest.is_empty() {
        let mut numbers = 0;
        let fits = |feature: &&&crate::FeatureInfo| {
            numbers += frames * feature.dim();
            numbers <= NUMBERS_AT_ONCE
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (group, others) = rest.split_at(count);
        rest = others;
        let names: Vec<&str> = group.iter().map(|feature| feature.name.as_str()).collect();
        let mut columns: Vec<Vec<f64>> = vec![Vec::new(); group.len()];
        for block in set.runs(episodes.iter().copied(), BLOCK_FRAMES) {
            for read in set.read_numbers::<f64>(block, &names)? {
                columns.iter_mut().zip(read).for_each(|(column, read)| column.extend(read));
            }
        }
        for (feature, values) in group.iter().zip(columns) {
            summaries.push(summary(&feature.name, &values, &feature.shape, bins));
            progress(summaries.len() as f64 / numeric.len() as f64);
        }
    }
    Ok(summaries)
}

fn summary(name: &str, values: &[f64], shape: &[usize], bins: usize) -> FeatureSummary {
    let dim = shape.iter().product();
    let histogram = |number: usize| {
        let own = || values.iter().skip(number).step_by(dim).copied().filter(|value| value.is_finite());
        let (low, high) = own().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        let mut counts = vec![0; bins];
        for value in own() {
            // Halved, so that the width of any range is finite.
            let place = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
            let bin = if place.is_nan() { 0 } else { (place * bins as f64) as usize };
            counts[bin.min(bins - 1)] += 1;
        }
        counts
    };
    FeatureSummary {
        feature: name.to_owned(),
        stats: FeatureStats::of(values, dim),
        histograms: (0..dim).map(histogram).collect(),
        non_finite: values.iter().filter(|value| !value.is_finite()).count(),
        stated: FeatureStats::of_frames(values, shape),
    }
}

/// Where the statistics that a set states are not those of its frames. Quantiles are not compared: LeRobot estimates them.
pub fn disagreements(
    stated: &BTreeMap<String, FeatureStats>,
    computed: &[FeatureSummary],
) -> Vec<Disagreement> {
    let mut found = Vec::new();
    for FeatureSummary { feature, stated: own, .. } in computed {
        let empty = FeatureStats::default();
        let stats = stated.get(feature).unwrap_or(&empty);
        for number in 0..own.min.len() {
            // Others compute in 32 bits, and in another order.
            let size = own.min[number].abs().max(own.max[number].abs());
            let tolerance = 1e-4 * size.max(f64::MIN_POSITIVE);
            for (statistic, stated, computed) in [
                ("min", &stats.min, own.min[number]),
                ("max", &stats.max, own.max[number]),
                ("mean", &stats.mean, own.mean[number]),
                ("std", &stats.std, own.std[number]),
            ] {
                let stated = stated.get(number).copied();
                let alike = |stated: f64| {
                    (stated.is_nan() && computed.is_nan()) || (stated - computed).abs() <= tolerance
                };
                if !stated.is_some_and(alike) {
                    let feature = feature.clone();
                    found.push(Disagreement { feature, number: Some(number), statistic, stated, computed });
                }
            }
        }
        let (frames, count) = (own.count.first().copied().unwrap_or(0), stats.count.first().copied());
        // Sets before v2.1 state no counts.
        if count.is_some_and(|count| count != frames) {
            found.push(Disagreement {
                feature: feature.clone(),
                number: None,
                statistic: "count",
                stated: count.map(|count| count as f64),
                computed: frames as f64,
            });
        }
    }
    found
}

/// Puts computed statistics into `meta/stats.json`, and keeps there what it says of pictures. The file is replaced at once.
///
/// # Errors
/// When the set has no such file by its format, or the disk refuses.
pub fn write_stats(set: &Dataset, computed: &[FeatureSummary]) -> Result<(), DatasetError> {
    let path = set.root().join("meta/stats.json");
    if !matches!(set.format(), crate::Format::LeRobotV3 | crate::Format::LeRobotV20) {
        return Err(DatasetError::request(format!(
            "{} is {}, which has no meta/stats.json; `nudge dataset convert` makes a set that has one",
            set.root().display(),
            set.format()
        )));
    }
    if set.is_recording() {
        return Err(DatasetError::request(format!(
            "{} is being recorded, or its recording was cut off; record into it again first, or make another of it with \
             `nudge dataset convert`",
            set.root().display()
        )));
    }
    let known: Map<String, Value> =
        fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let mut stats = Map::new();
    for feature in &set.info().features {
        let own = computed.iter().find(|summary| summary.feature == feature.name);
        let value = own.map(|summary| json!(summary.stated)).or_else(|| known.get(&feature.name).cloned());
        stats.extend(value.map(|value| (feature.name.clone(), value)));
    }
    // Should this be cut off, the set is one without sums. What they say of the other files was checked when they were read.
    let sums = set.root().join(sums::LIST);
    let listed = sums.is_file();
    if listed {
        fs::remove_file(&sums).map_err(DatasetError::io(&sums))?;
    }
    write_meta::replace_json(&path, &stats)?;
    if listed { sums::write_sums(set.root()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_count_every_finite_number_in_its_part() {
        let values = [0.0, 10.0, 1.0, 10.0, 4.9, f64::NAN, 9.9, 10.0, 10.0, 10.0];
        let summary = summary("x", &values, &[2], 5);
        assert_eq!(summary.histograms, [[2, 0, 1, 0, 2], [4, 0, 0, 0, 0]]);
        assert_eq!(summary.non_finite, 1);
        let wide = super::summary("x", &[-f64::MAX, f64::MAX, 0.0], &[1], 2);
        assert_eq!(wide.histograms, [[1, 2]]);
    }

    #[test]
    fn stated_statistics_are_held_against_the_frames() {
        let own = summary("x", &(0..100).map(f64::from).collect::<Vec<_>>(), &[1], 4);
        let stated = |stats: FeatureStats| BTreeMap::from([("x".to_owned(), stats)]);
        let computed = [own.clone()];
        assert!(disagreements(&stated(own.stated.clone()), &computed).is_empty());
        let mut wrong = own.stated.clone();
        wrong.max = vec![98.0];
        wrong.count = vec![99];
        let found = disagreements(&stated(wrong), &computed);
        let what: Vec<_> =
            found.iter().map(|found| (found.statistic, found.stated, found.computed)).collect();
        assert_eq!(what, [("max", Some(98.0), 99.0), ("count", Some(99.0), 100.0)]);
        assert_eq!(disagreements(&BTreeMap::new(), &computed).len(), 4, "nothing is stated");
    }
}
