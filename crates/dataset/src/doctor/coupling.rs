//! Which observed number each number of the action drives, and how many frames later.

use super::layout::{Layout, Role, Series};
use super::robust::{correlation, median};

/// How an action drives its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drive {
    /// It is a target, and the state goes there: steps follow steps.
    Target,
    /// It is a displacement or a velocity: steps follow values.
    Motion,
}

/// A number of the action and the observed number that follows it.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) action: usize,
    pub(super) state: usize,
    pub(super) drive: Drive,
    /// Frames by which the state follows, and the median over the episodes of the correlation there.
    pub(super) lag: i32,
    pub(super) r: f64,
    /// The same at each lag from `-reach` to `reach`.
    pub(super) curve: Vec<f64>,
}

/// What drives what in a set.
pub(super) struct Coupling {
    pub(super) pairs: Vec<Pair>,
    /// Largest lag that is looked at, in frames.
    pub(super) reach: i32,
    /// Frames over which steps are taken: as many as a tenth of a second has, so that they stand out of the
    /// noise.
    stride: usize,
}

/// What is measured of the pairs in one episode.
#[derive(Clone, Debug, Default)]
pub(super) struct Coupled {
    /// `[pair][lag]` correlation; empty for a pair of which one does not move.
    pub(super) curves: Vec<Vec<f64>>,
    /// `[pair of the action][pair of the state]` correlation at the latter's lag, NaN where there is none.
    pub(super) cross: Vec<Vec<f64>>,
}

/// Correlations below this are no coupling: pure noise over the 50 frames of a short episode exceeds it once
/// in 4,000.
pub(super) const COUPLED: f64 = 0.5;
/// What nine of ten episodes must reach, with one sign: motions of a task go together by habit, and then now with
/// one sign and now with the other.
const AGREED: f64 = 0.3;
/// Pairs that are looked at closely; a humanoid has fewer than 64.
const MOST_PAIRS: usize = 64;
/// Frames of the sample in which partners are looked for.
const SEARCHED_FRAMES: usize = 6_000;

impl Coupling {
    /// Looks for each action's partner in a sample of the episodes.
    pub(super) fn of(layout: &Layout, sample: &[Series], fps: f64) -> Self {
        // Delays of a robot's control are well below a second.
        let reach = fps.round().clamp(5.0, 30.0) as i32;
        let stride = (0.1 * fps).round().clamp(1.0, 5.0) as usize;
        let mut coupling = Self { pairs: Vec::new(), reach, stride };
        let mut frames = 0;
        let searched: Vec<&Series> = sample
            .iter()
            .take_while(|series| {
                frames += series.frames;
                frames - series.frames < SEARCHED_FRAMES
            })
            .collect();
        let states = layout.of_role(Role::Observed);
        for action in layout.of_role(Role::Action).into_iter().take(MOST_PAIRS) {
            if let Some((state, drive)) = coupling.partner(&searched, action, &states) {
                let pair = Pair { action, state, drive, lag: 0, r: 0.0, curve: Vec::new() };
                coupling.pairs.extend(coupling.with_lag(sample, pair));
            }
        }
        coupling
    }

    /// By signal: the other one of its pair. An observed number that several actions drive has the one that it
    /// follows most closely.
    pub(super) fn partners(&self, signals: usize) -> Vec<Option<usize>> {
        let mut pairs: Vec<&Pair> = self.pairs.iter().collect();
        pairs.sort_by(|one, two| one.r.abs().total_cmp(&two.r.abs()));
        let mut partners = vec![None; signals];
        for pair in pairs {
            partners[pair.action] = Some(pair.state);
            partners[pair.state] = Some(pair.action);
        }
        partners
    }

    /// The observed number that follows `action` best at one of a few delays; what comes before its cause is asked
    /// only where nothing follows it, as motions that are always made one after the other resemble each other.
    fn partner(&self, sample: &[&Series], action: usize, states: &[usize]) -> Option<(usize, Drive)> {
        let after = [0, 1, 2, self.reach / 4, self.reach / 2];
        let before = [-self.reach / 4, -self.reach / 2];
        let partner = |lags: &[i32]| self.partner_at(sample, action, states, lags);
        partner(&after).or_else(|| partner(&before))
    }

    fn partner_at(
        &self,
        sample: &[&Series],
        action: usize,
        states: &[usize],
        lags: &[i32],
    ) -> Option<(usize, Drive)> {
        let mut best = (AGREED, None);
        for drive in [Drive::Target, Drive::Motion] {
            // Slow swings look like their own derivative a quarter of a period later: a target is the simpler reading.
            let margin = if drive == Drive::Motion && best.1.is_some() { 0.1 } else { 0.0 };
            let mut least = best.0 + margin;
            let causes: Vec<Vec<f32>> =
                sample.iter().map(|series| self.cause(&series.signals[action], drive)).collect();
            for state in states {
                let effects: Vec<Vec<f32>> =
                    sample.iter().map(|series| self.effect(&series.signals[*state], drive)).collect();
                for lag in lags {
                    let at = causes.iter().zip(&effects).filter_map(|(x, y)| shifted(x, y, *lag));
                    let r = agreed(at.collect());
                    if r > least {
                        least = r;
                        best = (r, Some((*state, drive)));
                    }
                }
            }
        }
        best.1
    }

    /// The pair with what the whole sample says of its lag; `None` when the episodes do not agree that it is
    /// one.
    fn with_lag(&self, sample: &[Series], mut pair: Pair) -> Option<Pair> {
        let curves: Vec<Vec<f64>> = sample.iter().filter_map(|series| self.curve(series, &pair)).collect();
        pair.curve = (0..=2 * self.reach as usize)
            .map(|at| median(curves.iter().map(|curve| curve[at]).collect()))
            .collect();
        let best = peak(&pair.curve)?;
        pair.lag = best as i32 - self.reach;
        pair.r = pair.curve[best];
        let agreed = agreed(curves.iter().map(|curve| curve[best]).collect());
        (pair.r.abs() >= COUPLED && agreed >= AGREED).then_some(pair)
    }

    /// Correlation of a pair at every lag.
    fn curve(&self, series: &Series, pair: &Pair) -> Option<Vec<f64>> {
        let cause = self.cause(&series.signals[pair.action], pair.drive);
        let effect = self.effect(&series.signals[pair.state], pair.drive);
        let lags = -self.reach..=self.reach;
        lags.map(|lag| shifted(&cause, &effect, lag)).collect()
    }

    /// What one episode says.
    pub(super) fn measure(&self, series: &Series) -> Coupled {
        let mut found = Coupled::default();
        let causes: Vec<Vec<f32>> =
            self.pairs.iter().map(|pair| self.cause(&series.signals[pair.action], pair.drive)).collect();
        for pair in &self.pairs {
            found.curves.push(self.curve(series, pair).unwrap_or_default());
        }
        for (of, cause) in self.pairs.iter().zip(&causes) {
            let row = self.pairs.iter().map(|by| {
                if of.drive != by.drive {
                    return f64::NAN;
                }
                let effect = self.effect(&series.signals[by.state], by.drive);
                shifted(cause, &effect, by.lag).unwrap_or(f64::NAN)
            });
            found.cross.push(row.collect());
        }
        found
    }

    fn cause(&self, values: &[f32], drive: Drive) -> Vec<f32> {
        match drive {
            Drive::Target => steps(values, self.stride),
            Drive::Motion => values.to_vec(),
        }
    }

    fn effect(&self, values: &[f32], drive: Drive) -> Vec<f32> {
        match drive {
            Drive::Target => steps(values, self.stride),
            Drive::Motion => steps(values, 1),
        }
    }
}

/// The size of correlation that nine of ten episodes reach with one sign; 0 when they do not agree on one.
fn agreed(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let tenth = values.len().div_ceil(10).min(values.len().saturating_sub(1));
    let low = values.get(tenth).copied().unwrap_or(0.0);
    let high = values.iter().rev().nth(tenth).copied().unwrap_or(0.0);
    low.max(-high).max(0.0)
}

/// Place of the largest size; `None` of nothing.
pub(super) fn peak(curve: &[f64]) -> Option<usize> {
    (0..curve.len()).max_by(|one, two| curve[*one].abs().total_cmp(&curve[*two].abs()))
}

/// `x[t] - x[t - stride]`, 0 for the first.
fn steps(values: &[f32], stride: usize) -> Vec<f32> {
    let stride = stride.min(values.len());
    let later = values[stride..].iter().zip(values).map(|(now, before)| now - before);
    std::iter::repeat_n(0.0, stride).chain(later).collect()
}

/// Correlation of `y[t + lag]` with `x[t]`.
fn shifted(x: &[f32], y: &[f32], lag: i32) -> Option<f64> {
    let by = lag.unsigned_abs() as usize;
    let (r, _) = match lag {
        0.. => correlation(x, y.get(by..)?),
        _ => correlation(x.get(by..)?, y),
    }?;
    Some(r)
}
