//! Statistics that a few wrong episodes cannot bend.

/// How many times the ninth tenth of the other episodes' maxima makes an outlier.
///
/// The largest step, bend or residual of an episode is an extreme value: over the episodes of a sound set its
/// logarithm scatters with a deviation of 0.2 to 0.5. Three times the 90 % point of the others is then 3.5 to
/// 6.8 deviations above the median. The largest such ratio in the human Push-T set and in the recordings
/// shipped here is below 2.
pub(super) const OUTLIER: f64 = 3.0;

/// Fewest episodes that are compared with one another: three others say little enough.
pub(super) const FEWEST: usize = 4;

/// Episodes whose value is at least `floor` and at least `factor` times the 90 % point of all the others'
/// values. None among fewer than [`FEWEST`].
pub(super) fn outliers(values: &[f64], floor: f64, factor: f64) -> Vec<usize> {
    if values.len() < FEWEST {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|one, two| values[*one].total_cmp(&values[*two]));
    let point = (0.9 * (values.len() - 2) as f64).round() as usize;
    let mut found: Vec<usize> = order
        .iter()
        .enumerate()
        .filter(|(rank, episode)| {
            let typical = values[order[if point >= *rank { point + 1 } else { point }]];
            values[**episode] >= floor && values[**episode] >= factor * typical
        })
        .map(|(_, episode)| *episode)
        .collect();
    found.sort_unstable();
    found
}

/// The middle value; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// How many robust deviations (1.4826 times the median distance from the median, at least `least`) each value
/// is from the median.
pub(super) fn deviations(values: &[f64], least: f64) -> Vec<f64> {
    let centre = median(values.to_vec());
    let spread = 1.4826 * median(values.iter().map(|value| (value - centre).abs()).collect());
    values.iter().map(|value| (value - centre) / spread.max(least)).collect()
}

/// Pearson's correlation of pairs, and the slope of `y` over `x`; `None` when either does not vary.
pub(super) fn correlation(x: &[f32], y: &[f32]) -> Option<(f64, f64)> {
    let n = x.len().min(y.len());
    // Below eight pairs a correlation of 0.7 is nothing unusual between noise and noise.
    if n < 8 {
        return None;
    }
    let mean = |values: &[f32]| values[..n].iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (f64::from(*x) - mean_x, f64::from(*y) - mean_y);
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    // Rounding to 32 bits leaves 1e-14 of the mean square.
    let alive = |squares: f64, mean: f64| squares > 1e-12 * n as f64 * mean * mean && squares > 0.0;
    (alive(xx, mean_x) && alive(yy, mean_y)).then(|| (xy / (xx * yy).sqrt(), xy / xx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_far_value_among_many_is_the_outlier_and_a_wide_set_has_none() {
        let mut values: Vec<f64> = (0..20).map(|i| 1.0 + 0.05 * f64::from(i)).collect();
        assert!(outliers(&values, 0.0, OUTLIER).is_empty());
        values[7] = 6.0;
        assert_eq!(outliers(&values, 0.0, OUTLIER), [7]);
        assert!(outliers(&values, 6.5, OUTLIER).is_empty());
        assert!(outliers(&values[5..8], 0.0, OUTLIER).is_empty());
    }

    #[test]
    fn correlation_of_a_line_is_one_with_its_slope() {
        let x: Vec<f32> = (0..30u8).map(f32::from).collect();
        let y: Vec<f32> = x.iter().map(|x| 3.0 - 2.0 * x).collect();
        let (r, slope) = correlation(&x, &y).unwrap();
        assert!((r + 1.0).abs() < 1e-12 && (slope + 2.0).abs() < 1e-12);
        assert_eq!(correlation(&x, &[4.0; 30]), None);
    }
}
