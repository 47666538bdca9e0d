//! What happens to the rows that leave a convolution: group norm, Mish, and FiLM or a residual, in one go.

use super::machine::{Arithmetic, Work};
use super::signal::padded;

/// PyTorch's default.
const EPSILON: f32 = 1e-5;

/// What follows Mish.
pub(super) enum After<'a> {
    Nothing,
    /// `scale x + bias`, each the sum of a part that depends on the step and one that depends on the condition; `[2,
    /// padded channels]` (Perez et al. 2018).
    Film([&'a [f32]; 2]),
    /// Another signal's rows.
    Add(&'a [f32]),
}

/// Group normalisation (Wu and He 2018, eq. 1), Mish, and what follows, for one sample.
pub(super) struct Normalise<'a> {
    pub channels: usize,
    pub groups: usize,
    /// `[padded channels]`.
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    /// `[steps, padded channels]`.
    pub rows: &'a [f32],
    pub after: After<'a>,
    pub output: &'a mut [f32],
    /// Four times the padded channels.
    pub scratch: &'a mut [f32],
}

impl Work for Normalise<'_> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        let Self { channels, groups, scale, shift, rows, after, output, scratch } = self;
        let columns = padded(channels);
        let own = channels / groups;
        let count = (own * (rows.len() / columns)) as f32;
        let (sums, scratch) = scratch.split_at_mut(columns);
        let (means, scratch) = scratch.split_at_mut(columns);
        let (first, second) = scratch.split_at_mut(columns);

        // What pads must stay 0, whatever was here before.
        means[channels..].fill(0.0);
        first[channels..].fill(0.0);
        sums.fill(0.0);
        for row in rows.chunks_exact(columns) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        for (means, sums) in means.chunks_exact_mut(own).zip(sums.chunks_exact(own)).take(groups) {
            means.fill(total(sums) / count);
        }
        sums.fill(0.0);
        for row in rows.chunks_exact(columns) {
            for ((sum, value), mean) in sums.iter_mut().zip(row).zip(&*means) {
                *sum = A::multiply_add(value - mean, value - mean, *sum);
            }
        }
        for (sums, all) in sums.chunks_exact_mut(own).zip(first.chunks_exact_mut(own)).take(groups) {
            all.fill(1.0 / (total(sums) / count + EPSILON).sqrt());
        }
        // `first` now holds what deviations are divided by; from here on the norm is `first x + second`.
        for (((first, second), mean), (scale, shift)) in
            first.iter_mut().zip(&mut *second).zip(&*means).zip(scale.iter().zip(shift))
        {
            *first *= scale;
            *second = A::multiply_add(-*mean, *first, *shift);
        }
        let steps = rows.chunks_exact(columns).zip(output.chunks_exact_mut(columns));
        match after {
            After::Nothing => steps.for_each(|(row, output)| {
                for ((value, out), (first, second)) in row.iter().zip(output).zip(first.iter().zip(&*second))
                {
                    *out = mish::<A>(A::multiply_add(*value, *first, *second));
                }
            }),
            After::Film([of_step, of_condition]) => {
                for ((sum, step), condition) in sums.iter_mut().zip(of_step).zip(of_condition) {
                    *sum = step + condition;
                }
                let (of_step, of_condition) = (&of_step[columns..], &of_condition[columns..]);
                for ((sum, step), condition) in means.iter_mut().zip(of_step).zip(of_condition) {
                    *sum = step + condition;
                }
                let (scale, bias) = (&*sums, &*means);
                steps.for_each(|(row, output)| {
                    for (((value, out), (first, second)), (scale, bias)) in
                        row.iter().zip(output).zip(first.iter().zip(&*second)).zip(scale.iter().zip(bias))
                    {
                        let value = mish::<A>(A::multiply_add(*value, *first, *second));
                        *out = A::multiply_add(value, *scale, *bias);
                    }
                });
            }
            After::Add(other) => steps.zip(other.chunks_exact(columns)).for_each(|((row, output), other)| {
                for (((value, out), (first, second)), other) in
                    row.iter().zip(output).zip(first.iter().zip(&*second)).zip(other)
                {
                    *out = mish::<A>(A::multiply_add(*value, *first, *second)) + other;
                }
            }),
        }
    }
}

/// The sum, in eight parts.
#[inline(always)]
fn total(values: &[f32]) -> f32 {
    let mut parts = [0.0; 8];
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        parts.iter_mut().zip(eight).for_each(|(part, value)| *part += value);
    }
    let [a, b, c, d, e, f, g, h] = parts;
    ((a + b) + (c + d)) + ((e + f) + (g + h)) + rest.iter().sum::<f32>()
}

/// `x tanh(ln(1 + e^x))` (Misra 2019), which is `x (e^2x + 2 e^x) / (e^2x + 2 e^x + 2)`.
#[inline(always)]
pub(super) fn mish<A: Arithmetic>(x: f32) -> f32 {
    let power = exp::<A>(x.clamp(-87.0, 20.0));
    let part = power * (power + 2.0);
    x * (part / (part + 2.0))
}

/// `e^x` for -87..=88, within 2e-7 of it: `2^k e^r` with `|r| <= ln(2) / 2`, and a polynomial for `e^r`.
#[inline(always)]
fn exp<A: Arithmetic>(x: f32) -> f32 {
    // Added to this number, a fraction is rounded away, and the integer stands in the lower bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = A::multiply_add(x, std::f32::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = A::multiply_add(k, -355.0 / 512.0, x);
    let r = A::multiply_add(k, 2.121_944_4e-4, r);
    let mut sum = 1.0 / 5040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = A::multiply_add(sum, r, factor);
    }
    sum * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}
