//! A linear model of each observed feature: where it goes from its value, its last step and the action.

use super::layout::{Layout, Role, Series, SignalFeature};
use super::reference::Reference;
use super::summary::Peak;

/// Frames that the model is fitted on.
const FITTED_FRAMES: usize = 20_000;
/// Features of more numbers are not modelled: the fit's cost grows with the cube.
const MOST_NUMBERS: usize = 64;

/// Models of the observed features.
pub(super) struct Models {
    /// By feature of the layout; `None` for actions and what is not modelled.
    models: Vec<Option<Model>>,
    actions: Vec<usize>,
}

/// `(s[t+1] - s[t]) / span` as linear in s[t], s[t] - s[t-1], a[t], all centred and scaled, and 1.
struct Model {
    /// `[outputs, inputs]`
    weights: Vec<f64>,
    inputs: usize,
}

/// Residuals of an episode, a feature at a time, in spans.
#[derive(Clone, Debug, Default)]
pub(super) struct Residuals {
    /// By feature: the largest, and the frame that does not follow from the one before.
    pub(super) worst: Vec<Peak>,
    /// By feature: the signal of the largest.
    pub(super) signal: Vec<usize>,
}

impl Models {
    pub(super) fn fit(layout: &Layout, reference: &Reference, sample: &[Series]) -> Self {
        let mut actions = layout.of_role(Role::Action);
        actions.truncate(MOST_NUMBERS);
        let fit = |feature: &SignalFeature| {
            let fits = feature.role == Role::Observed && feature.signals.len() <= MOST_NUMBERS;
            fits.then(|| Model::fit(feature, &actions, reference, sample)).flatten()
        };
        Self { models: layout.features.iter().map(fit).collect(), actions }
    }

    pub(super) fn residuals(&self, layout: &Layout, reference: &Reference, series: &Series) -> Residuals {
        let mut found = Residuals::default();
        for (feature, model) in layout.features.iter().zip(&self.models) {
            let (mut worst, mut signal) = (Peak::default(), feature.signals.start);
            if let Some(model) = model {
                let mut inputs = Vec::with_capacity(model.inputs);
                for frame in 1..series.frames.saturating_sub(1) {
                    gather(feature, &self.actions, reference, series, frame, &mut inputs);
                    for (output, of) in feature.signals.clone().enumerate() {
                        let weights = &model.weights[output * model.inputs..(output + 1) * model.inputs];
                        let expected: f64 = weights.iter().zip(&inputs).map(|(w, x)| w * x).sum();
                        let residual = (step(reference, series, of, frame) - expected).abs() as f32;
                        if residual > worst.value {
                            signal = of;
                        }
                        worst.raise(residual, frame + 1);
                    }
                }
            }
            found.worst.push(worst);
            found.signal.push(signal);
        }
        found
    }
}

impl Model {
    fn fit(
        feature: &SignalFeature,
        actions: &[usize],
        reference: &Reference,
        sample: &[Series],
    ) -> Option<Self> {
        let outputs = feature.signals.len();
        let inputs = 2 * outputs + actions.len() + 1;
        let mut gram = vec![0.0; inputs * inputs];
        let mut target = vec![0.0; outputs * inputs];
        let mut x = Vec::with_capacity(inputs);
        let frames: usize = sample.iter().map(|series| series.frames).sum();
        let stride = (frames / FITTED_FRAMES).max(1);
        for series in sample {
            for frame in (1..series.frames.saturating_sub(1)).step_by(stride) {
                gather(feature, actions, reference, series, frame, &mut x);
                // Values far beyond the usual range, or steps across half of it, are faults; the model is of
                // the rest.
                if x[..x.len() - 1].iter().any(|value| value.abs() > 1.5)
                    || x[outputs..2 * outputs].iter().any(|step| step.abs() > 0.5)
                {
                    continue;
                }
                for (row, value) in x.iter().enumerate() {
                    for (sum, other) in gram[row * inputs..].iter_mut().zip(&x[..=row]) {
                        *sum += value * other;
                    }
                }
                for (output, signal) in feature.signals.clone().enumerate() {
                    let y = step(reference, series, signal, frame);
                    if y.abs() <= 0.5 {
                        for (sum, value) in target[output * inputs..].iter_mut().zip(&x) {
                            *sum += y * value;
                        }
                    }
                }
            }
        }
        // Numbers of a feature often depend on one another (corners of a body): a ridge of 1e-6 of the mean
        // square.
        let trace: f64 = (0..inputs).map(|i| gram[i * inputs + i]).sum();
        for i in 0..inputs {
            gram[i * inputs + i] += 1e-6 * trace / inputs as f64 + f64::MIN_POSITIVE;
        }
        let root = cholesky(gram, inputs)?;
        let weights = target.chunks_exact(inputs).flat_map(|target| solve(&root, inputs, target)).collect();
        Some(Self { weights, inputs })
    }
}

/// The inputs at `frame`, each about within -1 and 1.
fn gather(
    feature: &SignalFeature,
    actions: &[usize],
    reference: &Reference,
    series: &Series,
    frame: usize,
    inputs: &mut Vec<f64>,
) {
    let scaled = |signal: usize| {
        let scale = &reference.scales[signal];
        let span = f64::from(scale.span());
        if span > 0.0 { f64::from(series.signals[signal][frame] - scale.median) / span } else { 0.0 }
    };
    inputs.clear();
    inputs.extend(feature.signals.clone().map(scaled));
    inputs.extend(feature.signals.clone().map(|signal| step(reference, series, signal, frame - 1)));
    inputs.extend(actions.iter().copied().map(scaled));
    inputs.push(1.0);
}

/// The step of a signal from `frame` to the next, in spans.
fn step(reference: &Reference, series: &Series, signal: usize, frame: usize) -> f64 {
    let span = f64::from(reference.scales[signal].span());
    let values = &series.signals[signal];
    if span > 0.0 { f64::from(values[frame + 1] - values[frame]) / span } else { 0.0 }
}

/// The lower root of a symmetric positive matrix given by its lower half; `None` when it is not positive.
fn cholesky(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for row in 0..n {
        for column in 0..=row {
            let dot: f64 = (0..column).map(|k| a[row * n + k] * a[column * n + k]).sum();
            let rest = a[row * n + column] - dot;
            if row == column {
                if rest.is_nan() || rest <= 0.0 {
                    return None;
                }
                a[row * n + row] = rest.sqrt();
            } else {
                a[row * n + column] = rest / a[column * n + column];
            }
        }
    }
    Some(a)
}

/// Solves `L L' x = b`.
fn solve(root: &[f64], n: usize, b: &[f64]) -> Vec<f64> {
    let mut x = b.to_vec();
    for row in 0..n {
        let dot: f64 = (0..row).map(|k| root[row * n + k] * x[k]).sum();
        x[row] = (x[row] - dot) / root[row * n + row];
    }
    for row in (0..n).rev() {
        let dot: f64 = (row + 1..n).map(|k| root[k * n + row] * x[k]).sum();
        x[row] = (x[row] - dot) / root[row * n + row];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_positive_system_is_solved() {
        // A = [[4, 2], [2, 3]], x = [1, -2].
        let root = cholesky(vec![4.0, 0.0, 2.0, 3.0], 2).unwrap();
        let x = solve(&root, 2, &[0.0, -4.0]);
        assert!((x[0] - 1.0).abs() < 1e-12 && (x[1] + 2.0).abs() < 1e-12, "{x:?}");
        assert!(cholesky(vec![1.0, 0.0, 2.0, 1.0], 2).is_none());
    }
}
