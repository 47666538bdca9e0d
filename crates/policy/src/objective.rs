//! What the network is trained to predict.

use serde::{Deserialize, Serialize};

/// The training target at a diffusion step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The noise (Ho et al. 2020, eq. 14).
    Epsilon,
    /// The clean sample.
    Sample,
    /// `sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0` (Salimans and Ho 2022, section 4).
    Velocity,
}

impl Objective {
    /// The factors `(of x_0, of noise)` that make the target, given the [`signal_and_noise`] factors of the step.
    ///
    /// [`signal_and_noise`]: crate::NoiseSchedule::signal_and_noise
    pub fn target_factors(self, (signal, noise): (f64, f64)) -> (f64, f64) {
        match self {
            Self::Epsilon => (0.0, 1.0),
            Self::Sample => (1.0, 0.0),
            Self::Velocity => (-noise, signal),
        }
    }

    /// The clean sample and the noise that an output stands for, as factors `(of x_t, of the output)` of each.
    pub(crate) fn estimates(self, (signal, noise): (f64, f64)) -> ((f64, f64), (f64, f64)) {
        match self {
            Self::Epsilon => ((1.0 / signal, -noise / signal), (0.0, 1.0)),
            Self::Sample => ((0.0, 1.0), (1.0 / noise, -signal / noise)),
            Self::Velocity => ((signal, -noise), (noise, signal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_their_inverses_are_inverse() {
        let factors = (0.8, 0.6);
        let (x0, noise) = (1.7, -0.4);
        let noisy = factors.0 * x0 + factors.1 * noise;
        for objective in [Objective::Epsilon, Objective::Sample, Objective::Velocity] {
            let (of_x0, of_noise) = objective.target_factors(factors);
            let output = of_x0 * x0 + of_noise * noise;
            let (clean, epsilon) = objective.estimates(factors);
            assert!((clean.0 * noisy + clean.1 * output - x0).abs() < 1e-12, "{objective:?}");
            assert!((epsilon.0 * noisy + epsilon.1 * output - noise).abs() < 1e-12, "{objective:?}");
        }
    }
}
