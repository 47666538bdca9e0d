//! What is usual in a set: the scale of each signal, from a sample of its episodes.

use super::layout::{Layout, Series};

/// Values of a signal that quantiles are taken from.
const QUANTILE_VALUES: usize = 10_000;

/// What is usual of one signal.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    /// The usual range: what all but a tenth of the episodes keep above, and all but a tenth below.
    pub(super) low: f32,
    pub(super) high: f32,
    pub(super) median: f32,
    /// The 90 % point of the steps from frame to frame, among frames where it moves.
    pub(super) lively: f32,
    /// A few values only: a switch, a gripper that is told open or closed.
    pub(super) discrete: bool,
}

impl Scale {
    fn of(series: &[Series], signal: usize) -> Self {
        let frames: usize = series.iter().map(|series| series.frames).sum();
        let stride = (frames / QUANTILE_VALUES).max(1);
        let values = series.iter().flat_map(|series| &series.signals[signal]).step_by(stride);
        let mut values: Vec<f32> = values.copied().collect();
        values.sort_unstable_by(f32::total_cmp);
        let steps = series.iter().flat_map(|series| series.signals[signal].windows(2)).step_by(stride);
        let mut steps: Vec<f32> =
            steps.map(|pair| (pair[1] - pair[0]).abs()).filter(|step| *step > 0.0).collect();
        steps.sort_unstable_by(f32::total_cmp);
        let distinct = values.chunk_by(|one, next| one == next).count();
        let at = |sorted: &[f32], q: f64| {
            let last = sorted.len().saturating_sub(1);
            sorted.get((q * last as f64).round() as usize).copied().unwrap_or(0.0)
        };
        let extremes = |best: fn(f32, f32) -> f32| {
            let each = series.iter().filter_map(|series| series.signals[signal].iter().copied().reduce(best));
            let mut each: Vec<f32> = each.collect();
            each.sort_unstable_by(f32::total_cmp);
            each
        };
        let (least, greatest) = (extremes(f32::min), extremes(f32::max));
        let tenth = greatest.len().div_ceil(10).min(greatest.len().saturating_sub(1));
        let (mut low, mut high) = (
            least.get(tenth).copied().unwrap_or(0.0),
            greatest.iter().rev().nth(tenth).copied().unwrap_or(0.0),
        );
        if low >= high {
            // It is the same in most episodes.
            (low, high) = (at(&least, 0.0), at(&greatest, 1.0));
        }
        Self { low, high, median: at(&values, 0.5), lively: at(&steps, 0.9), discrete: distinct <= 8 }
    }

    /// The usual range.
    pub(super) fn span(&self) -> f32 {
        self.high - self.low
    }
}

/// What is usual in a set.
pub(super) struct Reference {
    pub(super) scales: Vec<Scale>,
    /// First signals of quaternions: four numbers of a feature whose squares sum to 1 in every frame.
    pub(super) quaternions: Vec<usize>,
}

impl Reference {
    pub(super) fn of(layout: &Layout, sample: &[Series]) -> Self {
        let scales = (0..layout.signals()).map(|signal| Scale::of(sample, signal)).collect();
        let mut quaternions: Vec<usize> = Vec::new();
        for feature in &layout.features {
            for first in feature.signals.clone() {
                let apart = quaternions.last().is_none_or(|last| first >= last + 4);
                if apart && first + 4 <= feature.signals.end && is_quaternion(sample, first) {
                    quaternions.push(first);
                }
            }
        }
        Self { scales, quaternions }
    }

    /// How lively each frame is: the largest step of any signal to it from the frame before, beside the
    /// signal's lively step. The first frame counts as the second.
    pub(super) fn activity(&self, series: &Series) -> Vec<f32> {
        let mut activity = vec![0.0f32; series.frames];
        for (values, scale) in series.signals.iter().zip(&self.scales).filter(|(_, scale)| scale.lively > 0.0)
        {
            for (most, pair) in activity.iter_mut().skip(1).zip(values.windows(2)) {
                *most = most.max((pair[1] - pair[0]).abs() / scale.lively);
            }
        }
        if let [first, second, ..] = activity.as_mut_slice() {
            *first = *second;
        }
        activity
    }
}

/// Squares of unit quaternions in 32 bits sum to 1 within 1e-6; recorded with three decimals, within 2e-3. A
/// set that keeps four numbers on the unit sphere by chance, frame after frame, is not to be expected; four
/// constants are none.
fn is_quaternion(sample: &[Series], first: usize) -> bool {
    let mut moves = false;
    for series in sample {
        for frame in 0..series.frames {
            let q = [0, 1, 2, 3].map(|i| series.signals[first + i][frame]);
            if (q.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() > 2e-3 {
                return false;
            }
        }
        // A rotation about one axis moves two numbers at least.
        let moving = (first..first + 4)
            .filter(|signal| series.signals[*signal].windows(2).any(|pair| pair[0] != pair[1]));
        moves |= moving.count() >= 2;
    }
    moves
}
