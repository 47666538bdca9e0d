//! AdamW and the average of the weights, in one pass over all numbers.

use crate::config::OptimizerConfig;

/// The numbers of one update (Loshchilov and Hutter 2019, algorithm 2), which are the same for every weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    betas: [f32; 2],
    /// `1 / (1 - beta^time)` of each moment.
    corrections: [f32; 2],
    epsilon: f32,
    rate: f32,
    /// What the weights keep of themselves before the step.
    kept: f32,
    decay: f32,
}

/// A range of weights with all that belongs to them.
pub(super) struct Range<'a> {
    pub weights: &'a mut [f32],
    pub average: &'a mut [f32],
    pub first: &'a mut [f32],
    pub second: &'a mut [f32],
    /// One a shard, to be summed in order.
    pub gradients: Vec<&'a [f32]>,
}

impl Update {
    /// Update number `time`, counted from 1.
    pub fn new(config: &OptimizerConfig, time: u64, rate: f64, decay: f64) -> Self {
        let time = i32::try_from(time).unwrap_or(i32::MAX);
        Self {
            betas: config.betas,
            corrections: config.betas.map(|beta| (1.0 / (1.0 - f64::from(beta).powi(time))) as f32),
            epsilon: config.epsilon,
            rate: rate as f32,
            kept: (1.0 - rate * f64::from(config.weight_decay)) as f32,
            decay: decay as f32,
        }
    }

    pub fn apply(&self, range: Range) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was detected just above, and every such processor has AVX2 and FMA.
            return unsafe { self.apply_avx512(range) };
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features were detected just above.
            return unsafe { self.apply_avx2(range) };
        }
        self.apply_body(range);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    fn apply_avx512(&self, range: Range) {
        self.apply_body(range);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn apply_avx2(&self, range: Range) {
        self.apply_body(range);
    }

    #[inline(always)]
    fn apply_body(&self, range: Range) {
        /// Few enough to stay in the nearest cache, with all that belongs to them.
        const PART: usize = 512;
        let Range { weights, average, first, second, gradients } = range;
        let states = weights
            .chunks_mut(PART)
            .zip(average.chunks_mut(PART))
            .zip(first.chunks_mut(PART).zip(second.chunks_mut(PART)));
        let mut sums = [0.0; PART];
        for (index, ((weights, average), (first, second))) in states.enumerate() {
            let here = index * PART..index * PART + weights.len();
            let sums = &mut sums[..weights.len()];
            sums.fill(0.0);
            for gradient in &gradients {
                sums.iter_mut().zip(&gradient[here.clone()]).for_each(|(sum, gradient)| *sum += gradient);
            }
            let [beta_1, beta_2] = self.betas;
            for ((((weight, average), first), second), gradient) in
                weights.iter_mut().zip(average).zip(first).zip(second).zip(sums)
            {
                *first = beta_1 * *first + (1.0 - beta_1) * *gradient;
                *second = beta_2 * *second + (1.0 - beta_2) * *gradient * *gradient;
                let deviation = (*second * self.corrections[1]).sqrt() + self.epsilon;
                *weight = *weight * self.kept - self.rate * (*first * self.corrections[0] / deviation);
                *average = self.decay * *average + (1.0 - self.decay) * *weight;
            }
        }
    }
}
