//! How numbers are distributed, in one line.

use nudge_dataset::{Dataset, FeatureSummary};

/// Parts of a number's range that are told apart.
pub const BINS: usize = 8;

/// Numbers that are read for a sketch; of larger sets some episodes are.
const NUMBERS: usize = 24 << 20;
/// Features of more numbers are sketched as a whole.
const APART: usize = 4;

/// The episodes from which a set is sketched: all, or some evenly spread ones that together hold not too many numbers.
pub fn sampled(set: &Dataset) -> Vec<usize> {
    let numeric = set.info().features.iter().filter(|feature| feature.is_numeric());
    let dim: usize = numeric.map(|feature| feature.dim()).sum();
    let count = set.episode_count();
    let every = (set.frame_count().saturating_mul(dim)).div_ceil(NUMBERS).max(1);
    (0..count).step_by(every).collect()
}

/// One histogram for each number, or one of all for a feature of many: each number counts by its place in its own range.
pub fn of_feature(summary: &FeatureSummary) -> String {
    let constant = |number: usize| summary.stats.min.get(number) == summary.stats.max.get(number);
    if summary.histograms.len() <= APART {
        let numbers = summary.histograms.iter().enumerate();
        return numbers.map(|(number, bins)| line(bins, constant(number))).collect::<Vec<_>>().join(" ");
    }
    let mut all = vec![0; BINS];
    let moving = (0..summary.histograms.len()).filter(|number| !constant(*number));
    for bins in moving.map(|number| &summary.histograms[number]) {
        all.iter_mut().zip(bins).for_each(|(all, count)| *all += count);
    }
    line(&all, false)
}

/// One number's histogram: a mark for each part of its range, the higher the more often the number lies there.
pub fn line(bins: &[u64], constant: bool) -> String {
    const MARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = bins.iter().copied().max().unwrap_or(0);
    if constant || most == 0 {
        return "constant".into();
    }
    let mark = |count: &u64| match count {
        0 => '·',
        count => MARKS[((count * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
    };
    bins.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_part_is_the_highest() {
        assert_eq!(line(&[0, 1, 4, 8], false), "·▁▄█");
        assert_eq!(line(&[1, 1_000_000], false), "▁█");
        assert_eq!((line(&[5, 0], true), line(&[0, 0], false)), ("constant".into(), "constant".into()));
    }
}
