//! How sure a policy seems: how far several plans for one moment lie apart, and how far a plan lies from the one before.

use serde::{Deserialize, Serialize};

use crate::{Action, ActionChunk, Horizon, Interface};

/// How much less each further step of the overlap counts.
const DECAY: f64 = 0.5;

/// What can be said of one plan. Distances are shares of the ranges that the interface's limits leave to each number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// Standard deviation over the samples, as root mean square over the numbers of the executed part. `None` for a single
    /// sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// Weighted root mean square distance between the plan and the one before, over the steps for which both have
    /// actions. `None` where nothing overlaps, as in the first plan of an episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inconsistency: Option<f64>,
}

impl Confidence {
    /// The larger of each figure.
    pub fn max(self, other: Self) -> Self {
        let max = |one: Option<f64>, other: Option<f64>| {
            one.map_or(other, |one| Some(other.map_or(one, |other| one.max(other))))
        };
        Self {
            spread: max(self.spread, other.spread),
            inconsistency: max(self.inconsistency, other.inconsistency),
        }
    }
}

/// What a [`Confidence`] may be before it is an alarm; a figure without a threshold raises none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inconsistency: Option<f64>,
}

impl Thresholds {
    pub fn exceeded_by(&self, confidence: &Confidence) -> bool {
        let above = |value: Option<f64>, threshold: Option<f64>| {
            value.zip(threshold).is_some_and(|(value, threshold)| value > threshold)
        };
        above(confidence.spread, self.spread) || above(confidence.inconsistency, self.inconsistency)
    }

    /// Thresholds that a further episode, exchangeable with these, exceeds with a probability of at most `alpha`. `largest`
    /// holds the largest of each figure in each episode. Where there are two figures each gets half of `alpha`.
    ///
    /// # Errors
    /// How many episodes it takes, when there are too few.
    pub fn calibrate(largest: &[Confidence], alpha: f64) -> Result<Self, usize> {
        let spreads: Vec<f64> = largest.iter().filter_map(|episode| episode.spread).collect();
        // An episode of one plan has nothing to be inconsistent with, and so is as consistent as can be.
        let inconsistencies: Vec<f64> =
            largest.iter().map(|episode| episode.inconsistency.unwrap_or(0.0)).collect();
        let alpha = if spreads.is_empty() { alpha } else { alpha / 2.0 };
        let threshold = |scores: &[f64]| {
            conformal_threshold(scores, alpha).ok_or_else(|| (1.0 / alpha).ceil() as usize - 1)
        };
        Ok(Self {
            spread: if spreads.is_empty() { None } else { Some(threshold(&spreads)?) },
            inconsistency: Some(threshold(&inconsistencies)?),
        })
    }
}

/// The value that a further score, exchangeable with the `n` `scores`, exceeds with a probability of at most `alpha`: the
/// `ceil((n + 1) (1 - alpha))`-th smallest (split conformal prediction: Papadopoulos et al. 2002; Lei et al. 2018,
/// theorem 2.1). `None` when so few scores bound nothing.
pub fn conformal_threshold(scores: &[f64], alpha: f64) -> Option<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Without the correction 20 * (1 - 0.05) would be a little above 19.
    let rank = ((scores.len() + 1) as f64 * (1.0 - alpha) - 1e-9).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Chooses between samples of a plan, and says how sure they seem.
#[derive(Clone, Debug)]
pub struct Judge {
    /// Of each number of an action.
    ranges: Vec<f64>,
    executed: usize,
}

impl Judge {
    /// For plans of this shape. A number whose limits leave no finite range counts as it is.
    pub fn new(interface: &Interface, horizon: Horizon) -> Self {
        let (low, high) = interface.action_limits();
        let range = |(low, high): (f64, f64)| {
            let range = high - low;
            if range > 0.0 && range.is_finite() { range } else { 1.0 }
        };
        Self { ranges: low.into_iter().zip(high).map(range).collect(), executed: horizon.executed }
    }

    /// The sample that agrees best with the last plan, and what all of them say. `last` holds the last plan's actions from the
    /// samples' first step on.
    ///
    /// Backward coherence of Bidirectional Decoding (arXiv 2408.17355, section 4.2): the smallest sum over the overlap of
    /// squared distances, of which each further step counts `DECAY` times as much. Without an overlap, and among equals,
    /// the first sample.
    pub fn choose(&self, samples: &[ActionChunk], last: &[Action]) -> (usize, Confidence) {
        let mut chosen = (0, None);
        for (index, sample) in samples.iter().enumerate() {
            let distance = self.distance(&sample.actions, last);
            if chosen.1.zip(distance).is_none_or(|(best, distance)| distance < best) && distance.is_some() {
                chosen = (index, distance);
            }
        }
        (chosen.0, Confidence { spread: self.spread(samples), inconsistency: chosen.1 })
    }

    fn distance(&self, plan: &[Action], last: &[Action]) -> Option<f64> {
        let (mut squares, mut weights, mut weight) = (0.0, 0.0, 1.0);
        for (one, other) in plan.iter().zip(last) {
            let numbers = one.0.iter().zip(&other.0).zip(&self.ranges);
            squares +=
                weight * numbers.map(|((one, other), range)| ((one - other) / range).powi(2)).sum::<f64>();
            weights += weight * self.ranges.len() as f64;
            weight *= DECAY;
        }
        (weights > 0.0).then(|| (squares / weights).sqrt())
    }

    fn spread(&self, samples: &[ActionChunk]) -> Option<f64> {
        let steps = samples.iter().map(|sample| sample.actions.len()).min()?.min(self.executed);
        if samples.len() < 2 || steps == 0 {
            return None;
        }
        let n = samples.len() as f64;
        let variance = |step: usize, number: usize| {
            let values = || samples.iter().map(|sample| sample.actions[step].0[number] / self.ranges[number]);
            let mean = values().sum::<f64>() / n;
            values().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)
        };
        let numbers = self.ranges.len();
        let sum: f64 =
            (0..steps).flat_map(|step| (0..numbers).map(move |number| variance(step, number))).sum();
        Some((sum / (steps * numbers) as f64).sqrt())
    }
}

#[cfg(test)]
#[path = "confidence_tests.rs"]
mod tests;
