//! Figures with their uncertainty.

use std::fmt;

use serde::Serialize;

/// A closed interval at 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(into = "[f64; 2]")]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl From<Interval> for [f64; 2] {
    fn from(interval: Interval) -> Self {
        [interval.low, interval.high]
    }
}

/// `[low, high]` with three decimals.
impl fmt::Display for Interval {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{:.3}, {:.3}]", self.low, self.high)
    }
}

/// The normal quantile that leaves 2.5 % on either side.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's score interval for `hits` of `n` (Wilson 1927, eq. 1). The whole of 0..=1 when `n` is 0.
pub fn wilson_interval(hits: usize, n: usize) -> Interval {
    if n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (share, n) = (hits as f64 / n as f64, n as f64);
    let scale = 1.0 + Z * Z / n;
    let center = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    Interval { low: (center - half).max(0.0), high: (center + half).min(1.0) }
}

/// The interval of a mean by percentile bootstrap: 10,000 resamples, seeded by their number, so always the same.
///
/// `None` for an empty sample.
pub fn mean_interval(values: &[f64]) -> Option<Interval> {
    if values.is_empty() {
        return None;
    }
    const RESAMPLES: u64 = 10_000;
    let n = values.len() as u64;
    let mut state = 0u64;
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sum: f64 = (0..n)
                .map(|_| {
                    state = state.wrapping_add(1);
                    // The high half of a product is an unbiased enough index for any n far below 2^32.
                    let pick = (u128::from(crate::split_mix_64(state)) * u128::from(n)) >> 64;
                    values[pick as usize]
                })
                .sum();
            sum / n as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some(Interval { low: quantile(&means, 0.025), high: quantile(&means, 0.975) })
}

/// What policies are judged by, over episodes: the mean score, and the share of successes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Achieved {
    pub score: f64,
    /// By bootstrap over episodes.
    pub score_ci: Interval,
    pub success: f64,
    /// Wilson's.
    pub success_ci: Interval,
}

impl Achieved {
    /// Of one score and one verdict an episode. Without episodes nothing is known: both are 0, anywhere in 0..=1.
    pub fn over(episodes: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let (scores, verdicts): (Vec<f64>, Vec<bool>) = episodes.into_iter().unzip();
        let (n, hits) = (scores.len(), verdicts.iter().filter(|success| **success).count());
        Self {
            score: scores.iter().sum::<f64>() / n.max(1) as f64,
            score_ci: mean_interval(&scores).unwrap_or(Interval { low: 0.0, high: 1.0 }),
            success: hits as f64 / n.max(1) as f64,
            success_ci: wilson_interval(hits, n),
        }
    }
}

/// The `q` quantile of ascending `sorted` values, interpolated; NaN when there are none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    sorted[below] + part * (sorted[(below + 1).min(last)] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_published_values() {
        // 45 % of 200, as quoted in the literature with [38, 52] %.
        let interval = wilson_interval(90, 200);
        assert!((interval.low - 0.3826).abs() < 5e-4, "{interval:?}");
        assert!((interval.high - 0.5192).abs() < 5e-4, "{interval:?}");
        assert_eq!(wilson_interval(0, 0), Interval { low: 0.0, high: 1.0 });
        assert_eq!(wilson_interval(5, 5).high, 1.0);
    }

    #[test]
    fn bootstrap_agrees_with_the_normal_interval_and_repeats() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 20)).collect();
        let interval = mean_interval(&values).unwrap();
        // Standard deviation of 0..20 uniform is 5.766; half-width 1.96 * 5.766 / 20.
        assert!((interval.low - (9.5 - 0.565)).abs() < 0.05, "{interval:?}");
        assert!((interval.high - (9.5 + 0.565)).abs() < 0.05, "{interval:?}");
        assert_eq!(mean_interval(&values), Some(interval));
        assert_eq!(mean_interval(&[]), None);
    }

    #[test]
    fn episodes_are_judged_by_score_and_success() {
        let achieved = Achieved::over([(1.0, true), (0.5, false), (0.75, false), (0.75, true)]);
        assert_eq!((achieved.score, achieved.success), (0.75, 0.5));
        assert_eq!(achieved.success_ci, wilson_interval(2, 4));
        assert_eq!(Some(achieved.score_ci), mean_interval(&[1.0, 0.5, 0.75, 0.75]));
        let nothing = Achieved::over([]);
        assert_eq!((nothing.score, nothing.score_ci), (0.0, Interval { low: 0.0, high: 1.0 }));
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
