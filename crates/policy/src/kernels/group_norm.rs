//! Group normalisation followed by Mish, in one pass over each group, forward and backward.
//!
//! Wu and He 2018, eq. 1 (with PyTorch's epsilon, 1e-5, and biased variance), and Misra 2019:
//! `mish(x) = x tanh(softplus(x))`.

/// PyTorch's default.
pub(crate) const EPSILON: f32 = 1e-5;

/// Shape of the signal `[B, C, L]` and its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    pub channels: usize,
    pub length: usize,
    pub groups: usize,
}

/// `mish(scale * normalised + shift)` for `[B, C, L]`, with `scale` and `shift` per channel.
pub(crate) fn forward(shape: Groups, input: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; input.len()];
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        // SAFETY: the features were detected just above.
        unsafe { forward_avx2(shape, input, scale, shift, &mut output) };
        return output;
    }
    forward_body::<false>(shape, input, scale, shift, &mut output);
    output
}

/// Gradients of input, scale and shift.
pub(crate) fn backward(
    shape: Groups,
    input: &[f32],
    scale: &[f32],
    shift: &[f32],
    grad: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut grads = (vec![0.0; input.len()], vec![0.0; shape.channels], vec![0.0; shape.channels]);
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        // SAFETY: the features were detected just above.
        unsafe { backward_avx2(shape, input, scale, shift, grad, &mut grads) };
        return grads;
    }
    backward_body::<false>(shape, input, scale, shift, grad, &mut grads);
    grads
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn forward_avx2(shape: Groups, input: &[f32], scale: &[f32], shift: &[f32], output: &mut [f32]) {
    forward_body::<true>(shape, input, scale, shift, output);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn backward_avx2(
    shape: Groups,
    input: &[f32],
    scale: &[f32],
    shift: &[f32],
    grad: &[f32],
    grads: &mut (Vec<f32>, Vec<f32>, Vec<f32>),
) {
    backward_body::<true>(shape, input, scale, shift, grad, grads);
}

#[inline(always)]
fn forward_body<const FMA: bool>(
    shape: Groups,
    input: &[f32],
    scale: &[f32],
    shift: &[f32],
    output: &mut [f32],
) {
    let per_group = shape.channels / shape.groups;
    let size = per_group * shape.length;
    for (index, (input, output)) in input.chunks_exact(size).zip(output.chunks_exact_mut(size)).enumerate() {
        let (mean, inverse_deviation) = moments(input);
        let first = index % shape.groups * per_group;
        let runs = input.chunks_exact(shape.length).zip(output.chunks_exact_mut(shape.length));
        for (channel, (input, output)) in (first..).zip(runs) {
            let gain = scale[channel] * inverse_deviation;
            let offset = shift[channel] - mean * gain;
            for (output, input) in output.iter_mut().zip(input) {
                *output = mish::<FMA>(input * gain + offset).0;
            }
        }
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(
    shape: Groups,
    input: &[f32],
    scale: &[f32],
    shift: &[f32],
    grad: &[f32],
    (input_grad, scale_grad, shift_grad): &mut (Vec<f32>, Vec<f32>, Vec<f32>),
) {
    let per_group = shape.channels / shape.groups;
    let size = per_group * shape.length;
    let mut normalised = vec![0.0; size];
    let groups = input.chunks_exact(size).zip(grad.chunks_exact(size)).zip(input_grad.chunks_exact_mut(size));
    for (index, ((input, grad), input_grad)) in groups.enumerate() {
        let (mean, inverse_deviation) = moments(input);
        let first = index % shape.groups * per_group;
        // With n = (x - mean) / deviation and g = dloss/dn: dloss/dx = (g - mean(g) - n mean(g n)) / deviation.
        let (mut sum_g, mut sum_gn) = (0.0, 0.0);
        for (row, channel) in (first..first + per_group).enumerate() {
            let range = row * shape.length..(row + 1) * shape.length;
            let normalised = &mut normalised[range.clone()];
            let affine_grad = &mut input_grad[range.clone()];
            for (((n, out), x), g) in
                normalised.iter_mut().zip(affine_grad.iter_mut()).zip(&input[range.clone()]).zip(&grad[range])
            {
                *n = (x - mean) * inverse_deviation;
                *out = g * mish::<FMA>(*n * scale[channel] + shift[channel]).1;
            }
            let sum = lanes_sum(affine_grad.iter().copied());
            let product = lanes_sum(affine_grad.iter().zip(normalised.iter()).map(|(g, n)| g * n));
            shift_grad[channel] += sum;
            scale_grad[channel] += product;
            sum_g += sum * scale[channel];
            sum_gn += product * scale[channel];
        }
        let (mean_g, mean_gn) = (sum_g / size as f32, sum_gn / size as f32);
        for (row, channel) in (first..first + per_group).enumerate() {
            let range = row * shape.length..(row + 1) * shape.length;
            for (out, n) in input_grad[range.clone()].iter_mut().zip(&normalised[range]) {
                *out = (*out * scale[channel] - mean_g - n * mean_gn) * inverse_deviation;
            }
        }
    }
}

/// Mean and reciprocal standard deviation of a group.
#[inline(always)]
fn moments(values: &[f32]) -> (f32, f32) {
    let count = values.len() as f32;
    let mean = lanes_sum(values.iter().copied()) / count;
    let variance = lanes_sum(values.iter().map(|value| (value - mean) * (value - mean))) / count;
    (mean, 1.0 / (variance + EPSILON).sqrt())
}

/// A sum in eight interleaved parts: vectorises, and always adds in the same order.
#[inline(always)]
fn lanes_sum(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (index, value) in values.enumerate() {
        lanes[index % 8] += value;
    }
    ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
}

/// Mish and its derivative.
///
/// With e = exp(x): tanh(softplus(x)) = n / (n + 2) for n = e (e + 2), and the derivative is
/// t + x (1 - t^2) e / (1 + e) for t = tanh(softplus(x)).
#[inline(always)]
pub(crate) fn mish<const FMA: bool>(x: f32) -> (f32, f32) {
    // Beyond 20, t is 1 to the last bit of an f32, and below -80, e is 0 for all that follows.
    let e = exp::<FMA>(x.clamp(-80.0, 20.0));
    let n = e * (e + 2.0);
    let t = n / (n + 2.0);
    (x * t, t + x * (1.0 - t * t) * (e / (1.0 + e)))
}

/// exp for |x| < 87, to 2 units in the last place: 2^k times a polynomial over |r| <= ln 2 / 2 (Cephes' `expf`).
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    let fused = |a: f32, b: f32, c: f32| if FMA { a.mul_add(b, c) } else { a * b + c };
    // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let rounded = fused(x, std::f32::consts::LOG2_E, ROUND);
    let k = rounded - ROUND;
    let r = fused(k, -0.693_359_4, x);
    let r = fused(k, 2.121_944_4e-4, r);
    let mut p = fused(1.987_569_1e-4, r, 1.398_199_9e-3);
    p = fused(p, r, 8.333_452e-3);
    p = fused(p, r, 4.166_579_6e-2);
    p = fused(p, r, 1.666_666_5e-1);
    p = fused(p, r, 0.5);
    let y = fused(p * r, r, r) + 1.0;
    // The last bits of the rounded number are those of k; what is not a number stays one, because Mish multiplies by it.
    f32::from_bits(y.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mish_and_its_derivative_agree_with_double_precision() {
        let exact = |x: f64| x * x.exp().ln_1p().tanh();
        for i in -4000..4000 {
            let x = f64::from(i) * 0.01;
            let slope = (exact(x + 1e-6) - exact(x - 1e-6)) / 2e-6;
            for (value, derivative) in [mish::<false>(x as f32), mish::<true>(x as f32)] {
                assert!((f64::from(value) - exact(x)).abs() <= 4e-7 * (1.0 + x.abs()), "{x}: {value}");
                assert!((f64::from(derivative) - slope).abs() <= 2e-6, "{x}: {derivative} {slope}");
            }
        }
        for extreme in [-1e30, -1e4, 1e4, 1e30] {
            let (value, derivative) = mish::<true>(extreme);
            assert!(value.is_finite() && derivative.is_finite(), "{extreme}: {value} {derivative}");
        }
        assert!(mish::<true>(f32::NAN).0.is_nan());
    }
}
