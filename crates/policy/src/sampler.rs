//! From noise to a sample: DDPM and DDIM, with any number of steps.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{NoiseSchedule, Objective};

/// Which of the training timesteps a sampler visits, as `diffusers` names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// From 0 in whole strides; the noisiest step is left out unless all are visited.
    #[default]
    Leading,
    /// Down from the noisiest step.
    Trailing,
    /// Evenly from 0 to the noisiest step.
    Linspace,
}

/// The variance of a DDPM step (Ho et al. 2020, section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variance {
    /// `(1 - alpha_bar_prev) / (1 - alpha_bar) beta`.
    #[default]
    FixedSmall,
    /// `beta`.
    FixedLarge,
}

/// A sampler, as a config states it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SamplerConfig {
    /// Song et al. 2021, eq. 12 and 16.
    Ddim {
        steps: usize,
        /// 0 is deterministic, 1 as noisy as DDPM.
        #[serde(default)]
        eta: f64,
        /// Clip each estimate of the clean sample to the range of the training set, -1..=1 where actions are scaled to it.
        #[serde(default = "yes")]
        clip: bool,
        #[serde(default)]
        spacing: Spacing,
        /// Derive the noise anew from the clipped estimate (Glide; `use_clipped_model_output` in `diffusers`).
        #[serde(default)]
        renoise_clipped: bool,
        /// Steps of a plan that is late already: at least 4, and fewer than `steps`. As many as ever if not given, and on a
        /// GPU, where a plan takes a millisecond or two.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hurried_steps: Option<usize>,
    },
    /// Ho et al. 2020, algorithm 2, also over fewer steps.
    Ddpm {
        steps: usize,
        #[serde(default = "yes")]
        clip: bool,
        #[serde(default)]
        variance: Variance,
        #[serde(default)]
        spacing: Spacing,
    },
}

/// Fewer steps than these are another policy, not a hurried one.
const LEAST_HURRIED_STEPS: usize = 4;

fn yes() -> bool {
    true
}

impl SamplerConfig {
    /// DDIM as the literature runs it: deterministic, clipped.
    pub fn ddim(steps: usize) -> Self {
        let (spacing, renoise_clipped, hurried_steps) = (Spacing::Leading, false, None);
        Self::Ddim { steps, eta: 0.0, clip: true, spacing, renoise_clipped, hurried_steps }
    }

    /// DDPM as the literature runs it: small variance, clipped.
    pub fn ddpm(steps: usize) -> Self {
        Self::Ddpm { steps, clip: true, variance: Variance::FixedSmall, spacing: Spacing::Leading }
    }

    /// # Errors
    /// The field out of range, and its range.
    pub fn check(&self, schedule: &NoiseSchedule) -> Result<(), String> {
        let most = schedule.train_steps();
        if !(1..=most).contains(&self.steps()) {
            return Err(format!("`sampler.steps` is {}, not in 1..={most}", self.steps()));
        }
        match self {
            Self::Ddim { eta, .. } if !(0.0..=1.0).contains(eta) => {
                Err(format!("`sampler.eta` is {eta}, not in 0..=1"))
            }
            Self::Ddim { steps, hurried_steps: Some(hurried), .. }
                if !(LEAST_HURRIED_STEPS..*steps).contains(hurried) =>
            {
                Err(format!(
                    "`sampler.hurried_steps` is {hurried}, not in {LEAST_HURRIED_STEPS}..{steps}: at least \
                     {LEAST_HURRIED_STEPS}, and fewer than `steps`"
                ))
            }
            _ => Ok(()),
        }
    }

    /// The sampler of a plan that is late already, where there is one.
    pub(crate) fn hurried(self) -> Option<Self> {
        match self {
            Self::Ddim { eta, clip, spacing, renoise_clipped, hurried_steps: Some(steps), .. } => {
                Some(Self::Ddim { steps, eta, clip, spacing, renoise_clipped, hurried_steps: None })
            }
            _ => None,
        }
    }

    fn steps(&self) -> usize {
        match self {
            Self::Ddim { steps, .. } | Self::Ddpm { steps, .. } => *steps,
        }
    }

    /// The timesteps visited, noisiest first.
    pub fn timesteps(&self, train_steps: usize) -> Vec<usize> {
        let (Self::Ddim { steps, spacing, .. } | Self::Ddpm { steps, spacing, .. }) = *self;
        let last = (train_steps - 1) as f64;
        // numpy's and Python's `round`, which go to the even neighbour.
        let even = |value: f64| value.round_ties_even() as usize;
        let step_at = |index: usize| match spacing {
            Spacing::Leading => index * (train_steps / steps),
            Spacing::Trailing => {
                even(train_steps as f64 - (steps - 1 - index) as f64 * (train_steps as f64 / steps as f64))
                    - 1
            }
            Spacing::Linspace if steps == 1 => 0,
            Spacing::Linspace => even(last * index as f64 / (steps - 1) as f64),
        };
        (0..steps).rev().map(step_at).collect()
    }

    /// Every step of a plan, noisiest first.
    pub(crate) fn steps_of(&self, schedule: &NoiseSchedule, objective: Objective) -> Vec<SamplerStep> {
        let timesteps = self.timesteps(schedule.train_steps());
        let visit = |(index, &timestep): (usize, &usize)| {
            let previous = timesteps.get(index + 1).copied();
            self.step_at(schedule, objective, Visit { timestep, previous })
        };
        timesteps.iter().enumerate().map(visit).collect()
    }

    /// Denoises `x_T` `[B, Tp, Da]`. `denoise` is the network at one timestep; `noise` draws the standard normal
    /// numbers of one step, and is only called where a step needs them.
    #[cfg(test)]
    pub(crate) fn sample(
        &self,
        schedule: &NoiseSchedule,
        objective: Objective,
        mut x: Tensor<3>,
        mut denoise: impl FnMut(Tensor<3>, usize) -> Tensor<3>,
        mut noise: impl FnMut() -> Tensor<3>,
    ) -> Tensor<3> {
        for step in self.steps_of(schedule, objective) {
            let output = denoise(x.clone(), step.timestep);
            x = step.apply(x, output, &mut noise);
        }
        x
    }

    /// One step back: from the sample at `visit.timestep` to the one at `visit.previous`.
    pub(crate) fn step_at(
        &self,
        schedule: &NoiseSchedule,
        objective: Objective,
        visit: Visit,
    ) -> SamplerStep {
        let alpha = schedule.alpha_cumprod(Some(visit.timestep));
        let alpha_previous = schedule.alpha_cumprod(visit.previous);
        let factors = schedule.signal_and_noise(visit.timestep);
        let step_beta = 1.0 - alpha / alpha_previous;
        let small_variance = (1.0 - alpha_previous) / (1.0 - alpha) * step_beta;
        // Both estimates are linear in x and the output; how the next sample mixes them is decided in f64, because
        // near pure noise their factors are in the thousands and almost cancel.
        let (clean, epsilon) = objective.estimates(factors);
        let (clip, [of_clean, of_x, of_output], deviation) = match *self {
            Self::Ddim { eta, clip, renoise_clipped, .. } => {
                let deviation = eta * small_variance.max(0.0).sqrt();
                let direction = (1.0 - alpha_previous - deviation * deviation).max(0.0).sqrt();
                let signal = alpha_previous.sqrt();
                let mean = match (clip, renoise_clipped) {
                    (false, _) => [
                        0.0,
                        signal * clean.0 + direction * epsilon.0,
                        signal * clean.1 + direction * epsilon.1,
                    ],
                    (true, true) => [signal - direction * factors.0 / factors.1, direction / factors.1, 0.0],
                    (true, false) => [signal, direction * epsilon.0, direction * epsilon.1],
                };
                (clip, mean, deviation)
            }
            Self::Ddpm { clip, variance, .. } => {
                let of_clean = alpha_previous.sqrt() * step_beta / (1.0 - alpha);
                let of_x = (1.0 - step_beta).sqrt() * (1.0 - alpha_previous) / (1.0 - alpha);
                let mean = match clip {
                    true => [of_clean, of_x, 0.0],
                    false => [0.0, of_clean * clean.0 + of_x, of_clean * clean.1],
                };
                let variance = match variance {
                    Variance::FixedSmall => small_variance.max(1e-20),
                    Variance::FixedLarge => step_beta,
                };
                (clip, mean, if visit.timestep == 0 { 0.0 } else { variance.sqrt() })
            }
        };
        let clean = if clip { [clean.0, clean.1] } else { [0.0; 2] };
        let kept = [factors.0, factors.1];
        SamplerStep { timestep: visit.timestep, clean, of_clean, of_x, of_output, deviation, kept }
    }
}

/// One sampler step in numbers, whatever the sampler: with `c = clamp(clean[0] x + clean[1] output, -1, 1)` it goes to
/// `of_clean c + of_x x + of_output output + deviation noise`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SamplerStep {
    pub timestep: usize,
    /// Factors of sample and output in the estimate of the clean sample; 0 where nothing is clipped.
    pub clean: [f64; 2],
    pub of_clean: f64,
    pub of_x: f64,
    pub of_output: f64,
    /// 0 where no noise is drawn.
    pub deviation: f64,
    /// Factors of clean value and noise in rows of the sample that are kept, as the network sees them: those of the timestep
    /// (inpainting: Lugmayr et al. 2022, Janner et al. 2022), or clean where it was trained so.
    pub kept: [f64; 2],
}

/// How often a plan of these steps draws noise: to begin with, and in every step with a deviation.
pub(crate) fn draws(steps: &[SamplerStep]) -> usize {
    1 + steps.iter().filter(|step| step.deviation > 0.0).count()
}

impl SamplerStep {
    /// Clips to `-range..=range` instead of -1..=1: `clamp(v, -r, r)` is `r clamp(v / r, -1, 1)`, so that whoever makes the
    /// steps need not know of it.
    pub fn clipped_to(self, range: f64) -> Self {
        let [of_x, of_output] = self.clean;
        Self { clean: [of_x / range, of_output / range], of_clean: self.of_clean * range, ..self }
    }

    /// From `x` and the network's output `[B, Tp, Da]` to the next sample.
    pub fn apply(&self, x: Tensor<3>, output: Tensor<3>, noise: &mut dyn FnMut() -> Tensor<3>) -> Tensor<3> {
        let mut mean = x.clone() * self.of_x;
        if self.of_clean != 0.0 {
            let clean = (x * self.clean[0] + output.clone() * self.clean[1]).clamp(-1.0, 1.0);
            mean = mean + clean * self.of_clean;
        }
        if self.of_output != 0.0 {
            mean = mean + output * self.of_output;
        }
        if self.deviation > 0.0 { mean + noise() * self.deviation } else { mean }
    }
}

/// A timestep, and the less noisy one it leads to (`None`: the clean sample).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub timestep: usize,
    pub previous: Option<usize>,
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::schedule::{BetaCurve, ScheduleConfig};

    fn schedule() -> NoiseSchedule {
        let curve = BetaCurve::SquaredcosCapV2;
        ScheduleConfig { curve, train_steps: 100, beta_start: 1e-4, beta_end: 0.02 }.build().unwrap()
    }

    #[test]
    fn fed_the_true_noise_every_deterministic_sampler_recovers_the_clean_sample() {
        let device = Device::flex();
        let clean = Tensor::<3>::from_data([[[0.3f32, -0.9], [0.5, 0.0]]], &device);
        let noise = Tensor::<3>::from_data([[[1.3f32, 0.2], [-0.5, -2.0]]], &device);
        let schedule = schedule();
        for objective in [Objective::Epsilon, Objective::Sample, Objective::Velocity] {
            for (steps, spacing) in [
                (1, Spacing::Trailing),
                (7, Spacing::Linspace),
                (10, Spacing::Leading),
                (100, Spacing::Leading),
            ] {
                let sampler = SamplerConfig::Ddim {
                    steps,
                    eta: 0.0,
                    clip: true,
                    spacing,
                    renoise_clipped: false,
                    hurried_steps: None,
                };
                let first = schedule.signal_and_noise(sampler.timesteps(100)[0]);
                let x = clean.clone() * first.0 + noise.clone() * first.1;
                let oracle = |_: Tensor<3>, timestep: usize| {
                    let (of_clean, of_noise) = objective.target_factors(schedule.signal_and_noise(timestep));
                    clean.clone() * of_clean + noise.clone() * of_noise
                };
                let sample = sampler.sample(&schedule, objective, x, oracle, || unreachable!());
                let error: f32 = (sample - clean.clone()).abs().max().into_scalar();
                assert!(error < 1e-3, "{objective:?} {steps} {spacing:?}: {error}");
            }
        }
    }

    #[test]
    fn samples_reach_as_far_as_the_clip_range_and_no_further() {
        let device = Device::flex();
        let schedule = schedule();
        let objective = Objective::Epsilon;
        // One number lies within the range of 3, the other beyond it.
        let clean = Tensor::<3>::from_data([[[2.5f32, -4.0]]], &device);
        let noise = Tensor::<3>::from_data([[[0.3f32, 1.2]]], &device);
        let ddim = |renoise_clipped| SamplerConfig::Ddim {
            steps: 10,
            eta: 0.0,
            clip: true,
            spacing: Spacing::Leading,
            renoise_clipped,
            hurried_steps: None,
        };
        for sampler in [ddim(false), ddim(true), SamplerConfig::ddpm(100)] {
            let first = schedule.signal_and_noise(sampler.timesteps(100)[0]);
            let mut x = clean.clone() * first.0 + noise.clone() * first.1;
            let mut last = 0.0;
            for step in sampler.steps_of(&schedule, objective) {
                // The noise that there is, if `clean` is the clean sample.
                let (signal, of_noise) = schedule.signal_and_noise(step.timestep);
                let output = (x.clone() - clean.clone() * signal) / of_noise;
                x = step.clipped_to(3.0).apply(x, output, &mut || noise.clone());
                last = step.of_clean;
            }
            assert!((last - 1.0).abs() < 1e-3, "the last step goes to the clean sample: {last}");
            let sample = crate::parameters::host(x);
            assert!(
                (sample[0] - 2.5).abs() < 1e-2 && (sample[1] + 3.0).abs() < 1e-2,
                "{sampler:?}: {sample:?}"
            );
        }
    }

    #[test]
    fn step_counts_and_eta_out_of_range_are_refused() {
        let schedule = schedule();
        let hurried = |steps, hurried| SamplerConfig::Ddim {
            steps,
            eta: 0.0,
            clip: true,
            spacing: Spacing::Leading,
            renoise_clipped: false,
            hurried_steps: Some(hurried),
        };
        for (sampler, field) in [
            (SamplerConfig::ddim(0), "steps"),
            (SamplerConfig::ddpm(101), "steps"),
            (
                SamplerConfig::Ddim {
                    steps: 10,
                    eta: 1.5,
                    clip: true,
                    spacing: Spacing::Leading,
                    renoise_clipped: false,
                    hurried_steps: None,
                },
                "eta",
            ),
            (hurried(10, 3), "hurried_steps"),
            (hurried(10, 10), "hurried_steps"),
        ] {
            assert!(sampler.check(&schedule).unwrap_err().contains(field));
        }
        assert!(SamplerConfig::ddim(100).check(&schedule).is_ok());
        assert!(hurried(10, 4).check(&schedule).is_ok());
        assert_eq!(hurried(10, 5).hurried(), Some(SamplerConfig::ddim(5)));
    }
}
