//! Samples that came when they came, at the times of a frame rate.

use serde::{Deserialize, Serialize};

/// What a number is between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampling {
    /// That of the sample before: nothing is known before it has come.
    #[default]
    Previous,
    /// On the straight line between both. Half a sample of what comes later is in it; angles that wrap are not looked at.
    Linear,
}

/// Samples of one feature by their time, in ns; each of `dim` numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    pub(super) times_ns: Vec<u64>,
    pub(super) values: Vec<f64>,
    pub(super) dim: usize,
}

impl Samples {
    /// Adds a sample; one that is older than the last takes its place in the order of times, behind those of its own.
    pub(super) fn push(&mut self, time_ns: u64, values: &[f64]) {
        let at = self.times_ns.partition_point(|time| *time <= time_ns);
        self.times_ns.insert(at, time_ns);
        let at = at * self.dim;
        self.values.splice(at..at, values.iter().copied());
    }

    /// The numbers at `time_ns`, which no sample may follow only.
    pub(super) fn at(&self, time_ns: u64, how: Resampling) -> Option<Vec<f64>> {
        let next = self.times_ns.partition_point(|time| *time <= time_ns);
        let before = next.checked_sub(1)?;
        let row = |at: usize| &self.values[at * self.dim..(at + 1) * self.dim];
        match how {
            Resampling::Linear if next < self.times_ns.len() => {
                let (from, to) = (self.times_ns[before], self.times_ns[next]);
                let share = (time_ns - from) as f64 / (to - from) as f64;
                let blend = |(from, to): (&f64, &f64)| from + share * (to - from);
                Some(row(before).iter().zip(row(next)).map(blend).collect())
            }
            _ => Some(row(before).to_vec()),
        }
    }

    /// Runs of samples, from the first time to the last of each, in which none comes later than `max_gap_ns` after the one
    /// before.
    pub(super) fn runs(&self, max_gap_ns: u64) -> Vec<(u64, u64)> {
        let runs = self.times_ns.chunk_by(|one, next| next - one <= max_gap_ns);
        runs.map(|run| (run[0], run[run.len() - 1])).collect()
    }
}

/// The times that lie in a run of each.
pub(super) fn common_runs(all: &[Vec<(u64, u64)>]) -> Vec<(u64, u64)> {
    let Some((first, others)) = all.split_first() else { return Vec::new() };
    others.iter().fold(first.clone(), |common, runs| {
        let both = |(from, to): &(u64, u64)| {
            let (from, to) = (*from, *to);
            runs.iter().map(move |(begin, end)| (from.max(*begin), to.min(*end)))
        };
        common.iter().flat_map(both).filter(|(from, to)| from <= to).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_stays_one_and_steps_stay_steps() {
        let mut samples = Samples { dim: 2, ..Samples::default() };
        // In another order than they were sent in.
        for tenth in [0_u64, 3, 1, 2, 7] {
            samples.push(tenth * 100, &[tenth as f64, 5.0 - tenth as f64]);
        }
        assert_eq!(samples.times_ns, [0, 100, 200, 300, 700]);
        for time in (0..=700).step_by(25) {
            let line = samples.at(time, Resampling::Linear).unwrap();
            assert!((line[0] - time as f64 / 100.0).abs() < 1e-12 && (line[0] + line[1] - 5.0).abs() < 1e-12);
            let before = samples.at(time, Resampling::Previous).unwrap();
            assert_eq!(before[0], [0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 7.0][time as usize / 100]);
        }
        assert_eq!(samples.at(900, Resampling::Linear).unwrap(), [7.0, -2.0]);
        assert_eq!(samples.runs(100), [(0, 300), (700, 700)]);
        assert_eq!(samples.runs(400), [(0, 700)]);
        let late = Samples { times_ns: vec![50], values: vec![1.0], dim: 1 };
        assert_eq!(late.at(49, Resampling::Linear), None);
    }

    #[test]
    fn episodes_lie_where_every_feature_has_samples() {
        let all = [vec![(0, 10), (20, 40)], vec![(5, 30)], vec![(0, 100)]];
        assert_eq!(common_runs(&all), [(5, 10), (20, 30)]);
        assert!(common_runs(&[vec![(0, 1)], vec![(2, 3)]]).is_empty());
    }
}
