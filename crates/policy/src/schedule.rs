//! How much noise each diffusion step adds. All arithmetic in f64.

use serde::{Deserialize, Serialize};

/// The closed forms of beta, as `diffusers` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaCurve {
    /// Nichol and Dhariwal 2021, eq. 17: the cosine schedule, with beta at most 0.999.
    SquaredcosCapV2,
    /// Ho et al. 2020, section 4.
    Linear,
    /// Rombach et al. 2022: linear in the square root.
    ScaledLinear,
}

/// A noise schedule, as a config states it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    pub curve: BetaCurve,
    /// Diffusion steps in training.
    pub train_steps: usize,
    /// First beta; the cosine curve has none.
    #[serde(default = "default_beta_start")]
    pub beta_start: f64,
    /// Last beta; the cosine curve has none.
    #[serde(default = "default_beta_end")]
    pub beta_end: f64,
}

fn default_beta_start() -> f64 {
    1e-4
}

fn default_beta_end() -> f64 {
    0.02
}

/// The cumulative products that everything else is computed from.
#[derive(Clone, Debug)]
pub struct NoiseSchedule {
    betas: Vec<f64>,
    alphas_cumprod: Vec<f64>,
}

impl ScheduleConfig {
    /// # Errors
    /// The field out of range, and its range.
    pub fn build(&self) -> Result<NoiseSchedule, String> {
        if !(1..=100_000).contains(&self.train_steps) {
            return Err(format!("`schedule.train_steps` is {}, not in 1..=100000", self.train_steps));
        }
        let in_order = 0.0 < self.beta_start && self.beta_start <= self.beta_end && self.beta_end < 1.0;
        if !in_order {
            return Err(format!(
                "`schedule.beta_start` {} and `schedule.beta_end` {} must satisfy 0 < start <= end < 1",
                self.beta_start, self.beta_end
            ));
        }
        let n = self.train_steps;
        let line = |from: f64, to: f64, step: usize| {
            if n == 1 { from } else { from + (to - from) * step as f64 / (n - 1) as f64 }
        };
        let alpha_bar = |step: usize| {
            let t = step as f64 / n as f64;
            ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
        };
        let betas: Vec<f64> = (0..n)
            .map(|step| match self.curve {
                BetaCurve::SquaredcosCapV2 => (1.0 - alpha_bar(step + 1) / alpha_bar(step)).min(0.999),
                BetaCurve::Linear => line(self.beta_start, self.beta_end, step),
                BetaCurve::ScaledLinear => line(self.beta_start.sqrt(), self.beta_end.sqrt(), step).powi(2),
            })
            .collect();
        let alphas_cumprod = betas
            .iter()
            .scan(1.0, |product, beta| {
                *product *= 1.0 - beta;
                Some(*product)
            })
            .collect();
        Ok(NoiseSchedule { betas, alphas_cumprod })
    }
}

impl NoiseSchedule {
    /// A schedule recorded elsewhere, with that place's rounding.
    #[cfg(test)]
    pub(crate) fn recorded(betas: Vec<f64>, alphas_cumprod: Vec<f64>) -> Self {
        Self { betas, alphas_cumprod }
    }

    /// Diffusion steps in training.
    pub fn train_steps(&self) -> usize {
        self.betas.len()
    }

    /// `beta_t`.
    pub fn beta(&self, timestep: usize) -> f64 {
        self.betas[timestep]
    }

    /// `alpha_bar_t`, the share of signal variance left; 1 before the first step (`None`).
    pub fn alpha_cumprod(&self, timestep: Option<usize>) -> f64 {
        timestep.map_or(1.0, |timestep| self.alphas_cumprod[timestep])
    }

    /// Factors of signal and noise in `q(x_t | x_0)`: `sqrt(alpha_bar)`, `sqrt(1 - alpha_bar)` (Ho et al. 2020, eq. 4).
    pub fn signal_and_noise(&self, timestep: usize) -> (f64, f64) {
        let alpha = self.alphas_cumprod[timestep];
        (alpha.sqrt(), (1.0 - alpha).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_curve_follows_its_closed_form() {
        let config = ScheduleConfig {
            curve: BetaCurve::SquaredcosCapV2,
            train_steps: 100,
            beta_start: 1e-4,
            beta_end: 0.02,
        };
        let schedule = config.build().unwrap();
        let f = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
        for step in 0..99 {
            let expected = f((step + 1) as f64 / 100.0) / f(0.0);
            assert!((schedule.alpha_cumprod(Some(step)) - expected).abs() < 1e-12, "step {step}");
        }
        assert_eq!(schedule.beta(99), 0.999);
        assert!((schedule.alpha_cumprod(Some(99)) - 2.4e-7).abs() < 1e-8);
        assert_eq!(schedule.alpha_cumprod(None), 1.0);
    }

    #[test]
    fn bad_ranges_name_their_field() {
        let good =
            ScheduleConfig { curve: BetaCurve::Linear, train_steps: 10, beta_start: 0.1, beta_end: 0.2 };
        assert!(ScheduleConfig { train_steps: 0, ..good }.build().unwrap_err().contains("train_steps"));
        assert!(ScheduleConfig { beta_start: 0.3, ..good }.build().unwrap_err().contains("beta_start"));
        assert!(ScheduleConfig { beta_end: f64::NAN, ..good }.build().unwrap_err().contains("beta_end"));
    }
}
