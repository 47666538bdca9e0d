//! The numbers of a command, and those of them that are computed side by side.

use nudge_control::ActionMode;

use super::axes::{Axes, Step, TickLimits};
use super::config::AxisConfig;
use super::four::{Four, LANES, Mask, side_by_side};
use super::stream::Wish;
use super::tool::Tool;

/// One number of a command.
#[derive(Clone, Debug)]
pub(super) struct Number {
    pub config: AxisConfig,
    /// With a limit on acceleration, it is brought to rest ahead of its limits.
    pub limits: Option<TickLimits>,
}

impl Number {
    /// Where a stream begins, as far as it matters; `None` when nothing is known to command.
    pub(super) fn beginning(
        &self,
        index: usize,
        wish: Wish<'_>,
        measured: Option<&[f64]>,
        last: Option<f64>,
    ) -> Option<f64> {
        if self.config.mode == ActionMode::Delta {
            return Some(0.0);
        }
        let measured = self.config.measured_by.and(measured).map(|measured| measured[index]);
        let known = if self.config.measured_by.is_some() { measured } else { last };
        match (known, wish) {
            (Some(from), _) => Some(from),
            (None, Wish::Follow(action)) => {
                Some(self.limits.map_or(action[index], |limits| limits.nearest(action[index])))
            }
            (None, Wish::Hold { .. }) => None,
        }
    }
}

/// Up to four numbers that are brought to rest ahead of their limits.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    /// Theirs in a command; the last one stands in for what is missing.
    indices: [usize; LANES],
    pub deltas: Mask,
    pub axes: Axes,
    /// Of this tick; and one that is tried for the tool's sake, somewhere from the way to rest, of second difference
    /// `safe`, to what is `wished`.
    pub step: Step,
    pub tried: Step,
    pub safe: Four,
    pub wished: Four,
}

impl Numbers {
    /// Those of `numbers` that are brought to rest ahead of their limits; those that move the tool come first, and no
    /// others with them.
    pub(super) fn four_by_four(numbers: &[Number], tool: Option<&Tool>) -> Vec<Self> {
        let joints = tool.map_or(0..0, |tool| tool.first_axis..tool.first_axis + tool.axes);
        let others = |index: &usize| !joints.contains(index) && numbers[*index].limits.is_some();
        let others: Vec<usize> = (0..numbers.len()).filter(others).collect();
        let joints: Vec<usize> = joints.collect();
        joints.chunks(LANES).chain(others.chunks(LANES)).map(|four| Self::new(four, numbers)).collect()
    }

    fn new(of_them: &[usize], numbers: &[Number]) -> Self {
        let indices = std::array::from_fn(|lane| of_them[lane.min(of_them.len() - 1)]);
        let each = indices.map(|index| &numbers[index]);
        let delta = |lane: usize| f64::from(u8::from(each[lane].config.mode == ActionMode::Delta));
        Self {
            indices,
            deltas: side_by_side(delta).simd_gt(Four::ZERO),
            axes: Axes::new(each.map(|number| number.limits.unwrap_or(TickLimits::STILL))),
            step: Step::default(),
            tried: Step::default(),
            safe: Four::ZERO,
            wished: Four::ZERO,
        }
    }

    /// Theirs of `values`.
    pub(super) fn of(&self, values: &[f64]) -> Four {
        side_by_side(|lane| values[self.indices[lane]])
    }

    /// Puts theirs into `values`.
    pub(super) fn put(&self, numbers: Four, values: &mut [f64]) {
        for (index, number) in self.indices.into_iter().zip(numbers.to_array()) {
            values[index] = number;
        }
    }
}
