//! The ranges of numbers over a training set, in one pass, and the normalisers that follow from them.

use nudge_control::{Interface, quantile};
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::Normalizer;

/// Rows that quantiles are taken from: all of a set up to here, and of a larger one as many, drawn by the seed.
pub(crate) const QUANTILE_ROWS: u64 = 1 << 18;

/// How a feature's numbers become those of the network; `min_max` where a configuration says nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// A feature of the interface, observed or acted.
    pub feature: String,
    pub kind: NormalizationKind,
    /// Which quantiles become -1 and 1: 0.01 and 0.99 if not given. For `quantiles` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
}

/// See [`Normalization`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormalizationKind {
    /// The least and the greatest value of the training set become -1 and 1.
    #[default]
    MinMax,
    /// The mean becomes 0, a standard deviation from it 1 (LeRobot's `MEAN_STD`).
    MeanStd,
    /// Two quantiles become -1 and 1, what lies beyond them lies beyond (LeRobot's `QUANTILES`). Where both are one
    /// value, and not all values are, as for `min_max`.
    Quantiles,
}

impl Normalization {
    /// # Errors
    /// When an entry does not fit the interface, a feature is named twice, or its quantiles are none.
    pub(crate) fn check(entries: &[Self], interface: &Interface) -> Result<(), String> {
        for (index, entry) in entries.iter().enumerate() {
            let feature = &entry.feature;
            let observed = interface.observation.iter().map(|feature| &feature.name);
            let acted = interface.action.iter().map(|feature| &feature.name);
            if !observed.chain(acted).any(|name| name == feature) {
                return Err(format!("`policy.normalization`: the interface has no feature `{feature}`"));
            }
            if entries[..index].iter().any(|before| before.feature == *feature) {
                return Err(format!("`policy.normalization`: `{feature}` is named twice"));
            }
            let quantiles = entry.kind == NormalizationKind::Quantiles;
            if !quantiles && (entry.low.is_some() || entry.high.is_some()) {
                return Err(format!(
                    "`policy.normalization` `{feature}`: `low` and `high` are for kind = \"quantiles\" alone"
                ));
            }
            let (low, high) = entry.quantiles();
            if !(low >= 0.0 && low < high && high <= 1.0) {
                return Err(format!(
                    "`policy.normalization` `{feature}`: `low` {low} and `high` {high} are not in 0..=1, low below high"
                ));
            }
        }
        Ok(())
    }

    fn quantiles(&self) -> (f64, f64) {
        (self.low.unwrap_or(0.01), self.high.unwrap_or(0.99))
    }
}

/// What is known of each number of a row, once all rows were seen.
pub(crate) struct Ranges {
    low: Vec<f64>,
    high: Vec<f64>,
    /// For each number, how it is normalised.
    kinds: Vec<(NormalizationKind, (f64, f64))>,
    moments: Option<Moments>,
    sample: Option<Sample>,
}

/// Sums of departures from the first row: what is far from 0 loses no digits.
struct Moments {
    first: Vec<f64>,
    sum: Vec<f64>,
    squares: Vec<f64>,
    rows: u64,
}

/// Rows for quantiles, one after another.
struct Sample {
    /// Which rows are taken, descending: the next one is last.
    wanted: Vec<usize>,
    row: usize,
    values: Vec<f64>,
}

impl Ranges {
    /// For rows of the features `(name, numbers)`, `rows` of them in all.
    pub fn new<'a>(
        features: impl IntoIterator<Item = (&'a str, usize)>,
        entries: &[Normalization],
        rows: u64,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let kind = |name: &str| {
            let entry = entries.iter().find(|entry| entry.feature == name);
            entry.map_or((NormalizationKind::MinMax, (0.0, 1.0)), |entry| (entry.kind, entry.quantiles()))
        };
        let kinds: Vec<_> =
            features.into_iter().flat_map(|(name, dim)| std::iter::repeat_n(kind(name), dim)).collect();
        let dim = kinds.len();
        let needs = |needed: NormalizationKind| kinds.iter().any(|(kind, _)| *kind == needed);
        let zeros = || vec![0.0; dim];
        let moments = needs(NormalizationKind::MeanStd).then(|| Moments {
            first: Vec::new(),
            sum: zeros(),
            squares: zeros(),
            rows: 0,
        });
        let sample = needs(NormalizationKind::Quantiles).then(|| {
            let mut wanted = index::sample(rng, rows as usize, rows.min(QUANTILE_ROWS) as usize).into_vec();
            wanted.sort_unstable_by(|one, two| two.cmp(one));
            Sample { wanted, row: 0, values: Vec::new() }
        });
        Self { low: vec![f64::INFINITY; dim], high: vec![f64::NEG_INFINITY; dim], kinds, moments, sample }
    }

    /// Takes a row into account.
    pub fn add(&mut self, row: &[f64]) {
        self.low.iter_mut().zip(row).for_each(|(low, value)| *low = low.min(*value));
        self.high.iter_mut().zip(row).for_each(|(high, value)| *high = high.max(*value));
        if let Some(moments) = &mut self.moments {
            if moments.first.is_empty() {
                moments.first = row.to_vec();
            }
            moments.rows += 1;
            let sums = moments.sum.iter_mut().zip(&mut moments.squares);
            for ((sum, squares), (value, first)) in sums.zip(row.iter().zip(&moments.first)) {
                let departure = value - first;
                *sum += departure;
                *squares += departure * departure;
            }
        }
        if let Some(sample) = &mut self.sample {
            if sample.wanted.last() == Some(&sample.row) {
                sample.wanted.pop();
                sample.values.extend_from_slice(row);
            }
            sample.row += 1;
        }
    }

    /// The normaliser, and how far from 0 the rows reach once it is applied.
    ///
    /// # Errors
    /// When there were no rows.
    pub fn finish(self) -> Result<(Normalizer, f64), String> {
        if self.low.iter().any(|low| low.is_infinite()) {
            return Err("there are no frames to learn a range from".into());
        }
        let mut normalizer = Normalizer { low: self.low.clone(), high: self.high.clone() };
        let dim = self.kinds.len();
        for (number, (kind, (low, high))) in self.kinds.iter().enumerate() {
            let range = match (kind, &self.moments, &self.sample) {
                (NormalizationKind::MeanStd, Some(moments), _) => Some(moments.around_mean(number)),
                (NormalizationKind::Quantiles, _, Some(sample)) => {
                    let mut column: Vec<f64> =
                        sample.values.iter().skip(number).step_by(dim).copied().collect();
                    column.sort_by(f64::total_cmp);
                    let (low, high) = (quantile(&column, *low), quantile(&column, *high));
                    (low < high).then_some((low, high))
                }
                _ => None,
            };
            if let Some((low, high)) = range {
                (normalizer.low[number], normalizer.high[number]) = (low, high);
            }
        }
        let reach = |extremes: &[f64]| {
            let normalised = normalizer.normalise(extremes.iter().copied());
            normalised.zip(&self.kinds).fold(1.0, |reach: f64, (value, (kind, _))| match kind {
                // By definition; a constant's rounding is no reach.
                NormalizationKind::MinMax => reach,
                _ => reach.max(f64::from(value.abs())),
            })
        };
        let reach = reach(&self.low).max(reach(&self.high));
        Ok((normalizer, reach))
    }
}

impl Moments {
    /// Mean less and plus the population's standard deviation.
    fn around_mean(&self, number: usize) -> (f64, f64) {
        let rows = self.rows as f64;
        let departure = self.sum[number] / rows;
        let variance = (self.squares[number] / rows - departure * departure).max(0.0);
        let mean = self.first[number] + departure;
        (mean - variance.sqrt(), mean + variance.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use nudge_control::Feature;
    use rand::SeedableRng;

    use super::*;

    fn entry(feature: &str, kind: NormalizationKind) -> Normalization {
        Normalization { feature: feature.into(), kind, low: None, high: None }
    }

    fn fit(entries: &[Normalization], rows: &[[f64; 3]]) -> (Normalizer, f64) {
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let mut ranges = Ranges::new([("a", 1), ("b", 2)], entries, rows.len() as u64, rng);
        rows.iter().for_each(|row| ranges.add(row));
        ranges.finish().unwrap()
    }

    #[test]
    fn each_kind_has_its_closed_form() {
        // 0, 1, ..., 100: mean 50, variance (101^2 - 1) / 12, quantiles 1 and 99; far from 0 as well.
        let rows: Vec<[f64; 3]> =
            (0..101).map(|i| f64::from(i * 37 % 101)).map(|i| [i, 1e6 + i, 7.0]).collect();
        let (normalizer, reach) = fit(&[], &rows);
        assert_eq!((normalizer.low, normalizer.high), (vec![0.0, 1e6, 7.0], vec![100.0, 1e6 + 100.0, 7.0]));
        assert_eq!(reach, 1.0);

        let entries = ["a", "b"].map(|feature| entry(feature, NormalizationKind::MeanStd));
        let (normalizer, reach) = fit(&entries, &rows);
        let deviation = (10_200.0_f64 / 12.0).sqrt();
        for (number, mean) in [50.0, 1e6 + 50.0].into_iter().enumerate() {
            assert!((normalizer.low[number] - (mean - deviation)).abs() < 1e-7, "{normalizer:?}");
            assert!((normalizer.high[number] - (mean + deviation)).abs() < 1e-7, "{normalizer:?}");
        }
        assert!((reach - 50.0 / deviation).abs() < 1e-6, "{reach}");
        assert_eq!(normalizer.normalise([50.0, 1e6, 7.0]).nth(2), Some(0.0));

        let quantiles = [entry("a", NormalizationKind::Quantiles)];
        let (normalizer, reach) = fit(&quantiles, &rows);
        assert_eq!((normalizer.low[0], normalizer.high[0], normalizer.high[1]), (1.0, 99.0, 1e6 + 100.0));
        assert!((reach - 50.0 / 49.0).abs() < 1e-6, "{reach}");
    }

    #[test]
    fn quantiles_that_are_one_value_fall_back_on_the_extremes() {
        let mut rows = vec![[0.0; 3]; 1000];
        rows[17] = [1.0, 0.0, 0.0];
        let (normalizer, reach) = fit(&[entry("a", NormalizationKind::Quantiles)], &rows);
        assert_eq!((normalizer.low[0], normalizer.high[0], reach), (0.0, 1.0, 1.0));
    }

    #[test]
    fn quantiles_of_many_rows_are_those_of_a_sample() {
        let rows = 2 * QUANTILE_ROWS;
        let fit = |seed: u64| {
            let rng = &mut ChaCha8Rng::seed_from_u64(seed);
            let mut ranges = Ranges::new([("a", 1)], &[entry("a", NormalizationKind::Quantiles)], rows, rng);
            (0..rows).for_each(|row| ranges.add(&[(row * 7919 % rows) as f64 / rows as f64]));
            ranges.finish().unwrap().0
        };
        let (one, again, other) = (fit(1), fit(1), fit(2));
        assert_eq!(one, again);
        assert_ne!(one, other);
        // The standard error of a quantile of uniform numbers is sqrt(q (1 - q) / rows) = 2e-4; five of them.
        assert!((one.low[0] - 0.01).abs() < 1e-3 && (one.high[0] - 0.99).abs() < 1e-3, "{one:?}");
    }

    #[test]
    fn entries_that_do_not_fit_are_named() {
        use NormalizationKind::{MeanStd, Quantiles};
        let observation = vec![Feature::vector("a", 1, "m")];
        let interface = Interface { observation, action: Vec::new(), control_hz: 10.0 };
        let between = |low: f64, high: f64, kind| {
            vec![Normalization { low: Some(low), high: Some(high), ..entry("a", kind) }]
        };
        for (entries, problem) in [
            (vec![entry("c", MeanStd)], "`c`"),
            (vec![entry("a", MeanStd), entry("a", Quantiles)], "twice"),
            (between(0.1, 0.9, MeanStd), "alone"),
            (between(0.9, 0.1, Quantiles), "0..=1"),
            (between(-0.1, 0.9, Quantiles), "0..=1"),
            (between(0.1, f64::NAN, Quantiles), "0..=1"),
        ] {
            let error = Normalization::check(&entries, &interface).unwrap_err();
            assert!(error.contains("policy.normalization") && error.contains(problem), "{error}");
        }
    }
}
