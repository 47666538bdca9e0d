//! Group norm, Mish, FiLM and the sum with a shortcut in one pass over a sample `[L, C]`, forward and backward.
//!
//! Wu and He 2018, eq. 1; Misra 2019; Perez et al. 2018, as `scale * x + bias`.

use crate::kernels::group_norm::{EPSILON, mish};

/// A norm's shape and weights.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub groups: usize,
    /// `[C]`
    pub scale: &'a [f32],
    /// `[C]`
    pub shift: &'a [f32],
}

/// One sample's FiLM `[C]`; without a scale it only shifts.
#[derive(Clone, Copy)]
pub(super) struct Film<'a> {
    pub scale: Option<&'a [f32]>,
    pub bias: &'a [f32],
}

/// Where gradients of a norm's weights and of a sample's FiLM are added.
pub(super) struct NormGradients<'a> {
    pub scale: &'a mut [f32],
    pub shift: &'a mut [f32],
    /// As one row: scale, if there is one, then bias.
    pub film: Option<&'a mut [f32]>,
}

/// `output = film(mish(norm(input)))`, or `output += ..` when `add`. Mean and reciprocal deviation of every group go to
/// `moments`, `[2, groups]`; `room` is working memory of `4 C`.
pub(super) fn forward(
    norm: Norm,
    input: &[f32],
    film: Option<Film>,
    output: &mut [f32],
    add: bool,
    moments: &mut [f32],
    room: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the feature was detected just above, and every such processor has AVX2 and FMA.
        return unsafe { forward_avx512(norm, input, film, output, add, moments, room) };
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the features were detected just above.
        return unsafe { forward_avx2(norm, input, film, output, add, moments, room) };
    }
    forward_body::<false>(norm, input, film, output, add, moments, room);
}

/// From the gradient of the output to that of the input, which is overwritten, and those of the weights, which are added
/// to. `room` is working memory of `7 C`.
pub(super) fn backward(
    norm: Norm,
    input: &[f32],
    film: Option<Film>,
    grad: &[f32],
    moments: &[f32],
    (input_grad, sums): (&mut [f32], NormGradients),
    room: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the feature was detected just above, and every such processor has AVX2 and FMA.
        return unsafe { backward_avx512(norm, input, film, grad, moments, (input_grad, sums), room) };
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the features were detected just above.
        return unsafe { backward_avx2(norm, input, film, grad, moments, (input_grad, sums), room) };
    }
    backward_body::<false>(norm, input, film, grad, moments, (input_grad, sums), room);
}

/// `output = mish(input)`, number by number.
pub(super) fn mish_forward(input: &[f32], output: &mut [f32]) {
    for (output, input) in output.iter_mut().zip(input) {
        *output = mish::<false>(*input).0;
    }
}

/// `input_grad = grad * mish'(input)`, number by number.
pub(super) fn mish_backward(input: &[f32], grad: &[f32], input_grad: &mut [f32]) {
    for ((result, grad), input) in input_grad.iter_mut().zip(grad).zip(input) {
        *result = grad * mish::<false>(*input).1;
    }
}

macro_rules! vectorised {
    ($forward:ident, $backward:ident, $features:literal) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        fn $forward(
            norm: Norm,
            input: &[f32],
            film: Option<Film>,
            output: &mut [f32],
            add: bool,
            moments: &mut [f32],
            room: &mut [f32],
        ) {
            forward_body::<true>(norm, input, film, output, add, moments, room);
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        fn $backward(
            norm: Norm,
            input: &[f32],
            film: Option<Film>,
            grad: &[f32],
            moments: &[f32],
            results: (&mut [f32], NormGradients),
            room: &mut [f32],
        ) {
            backward_body::<true>(norm, input, film, grad, moments, results, room);
        }
    };
}
vectorised!(forward_avx512, backward_avx512, "avx512f,avx2,fma");
vectorised!(forward_avx2, backward_avx2, "avx2,fma");

#[inline(always)]
fn forward_body<const FMA: bool>(
    norm: Norm,
    input: &[f32],
    film: Option<Film>,
    output: &mut [f32],
    add: bool,
    moments: &mut [f32],
    room: &mut [f32],
) {
    let channels = norm.scale.len();
    let [mean, gain, offset, _] = split(room, channels);
    measure(norm, input, moments, mean, gain);
    for (((offset, gain), mean), (scale, shift)) in
        offset.iter_mut().zip(&mut *gain).zip(&*mean).zip(norm.scale.iter().zip(norm.shift))
    {
        *gain *= scale;
        *offset = shift - mean * *gain;
    }
    for (input, output) in input.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
        let numbers = output.iter_mut().zip(input).zip(gain.iter().zip(&*offset));
        match film {
            None if add => {
                numbers.for_each(|((out, x), (gain, offset))| *out += mish::<FMA>(x * gain + offset).0);
            }
            None => numbers.for_each(|((out, x), (gain, offset))| *out = mish::<FMA>(x * gain + offset).0),
            Some(Film { scale: Some(scale), bias }) => {
                for (((out, x), (gain, offset)), (scale, bias)) in numbers.zip(scale.iter().zip(bias)) {
                    *out = mish::<FMA>(x * gain + offset).0 * scale + bias;
                }
            }
            Some(Film { scale: None, bias }) => {
                for (((out, x), (gain, offset)), bias) in numbers.zip(bias) {
                    *out = mish::<FMA>(x * gain + offset).0 + bias;
                }
            }
        }
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(
    norm: Norm,
    input: &[f32],
    film: Option<Film>,
    grad: &[f32],
    moments: &[f32],
    (input_grad, sums): (&mut [f32], NormGradients),
    room: &mut [f32],
) {
    let channels = norm.scale.len();
    let [mean, inverse, sum_g, sum_gn, film_scale, film_bias, _] = split(room, channels);
    spread(norm.groups, moments, mean, inverse);
    for sums in [&mut *sum_g, &mut *sum_gn, &mut *film_scale, &mut *film_bias] {
        sums.fill(0.0);
    }
    let film_by = film.and_then(|film| film.scale);
    for ((input, grad), out) in input
        .chunks_exact(channels)
        .zip(grad.chunks_exact(channels))
        .zip(input_grad.chunks_exact_mut(channels))
    {
        let moments = mean.iter().zip(&*inverse);
        let weights = norm.scale.iter().zip(norm.shift);
        let sums = sum_g.iter_mut().zip(sum_gn.iter_mut());
        let numbers = out.iter_mut().zip(input).zip(grad).zip(moments).zip(weights).zip(sums);
        let affine = |x: f32, mean: f32, inverse: f32, scale: f32, shift: f32| {
            let n = (x - mean) * inverse;
            (n, mish::<FMA>(n * scale + shift))
        };
        match film_by {
            None => {
                for (((((out, x), g), (mean, inverse)), (scale, shift)), (sum_g, sum_gn)) in numbers {
                    let (n, (_, slope)) = affine(*x, *mean, *inverse, *scale, *shift);
                    *out = g * slope;
                    *sum_g += *out;
                    *sum_gn += *out * n;
                }
            }
            Some(by) => {
                for ((((((out, x), g), (mean, inverse)), (scale, shift)), (sum_g, sum_gn)), (by, film)) in
                    numbers.zip(by.iter().zip(film_scale.iter_mut()))
                {
                    let (n, (value, slope)) = affine(*x, *mean, *inverse, *scale, *shift);
                    *film += g * value;
                    *out = g * by * slope;
                    *sum_g += *out;
                    *sum_gn += *out * n;
                }
            }
        }
        if film.is_some() {
            film_bias.iter_mut().zip(grad).for_each(|(sum, grad)| *sum += grad);
        }
    }
    sums.shift.iter_mut().zip(&*sum_g).for_each(|(sum, part)| *sum += part);
    sums.scale.iter_mut().zip(&*sum_gn).for_each(|(sum, part)| *sum += part);
    if let Some(row) = sums.film {
        let (scale, bias) = row.split_at_mut(row.len() - channels);
        scale.copy_from_slice(&film_scale[..scale.len()]);
        bias.copy_from_slice(film_bias);
    }
    // With n = (x - mean) / deviation and g = dloss/dn: dloss/dx = (g - mean(g) - n mean(g n)) / deviation.
    let per_group = channels / norm.groups;
    let count = (per_group * input.len() / channels) as f32;
    for sums in [&mut *sum_g, &mut *sum_gn] {
        for (sums, scale) in sums.chunks_exact_mut(per_group).zip(norm.scale.chunks_exact(per_group)) {
            let mean = sums.iter().zip(scale).map(|(sum, scale)| sum * scale).sum::<f32>() / count;
            sums.fill(mean);
        }
    }
    for (input, out) in input.chunks_exact(channels).zip(input_grad.chunks_exact_mut(channels)) {
        let numbers = out.iter_mut().zip(input).zip(mean.iter().zip(&*inverse));
        for (((out, x), (mean, inverse)), (scale, (mean_g, mean_gn))) in
            numbers.zip(norm.scale.iter().zip(sum_g.iter().zip(&*sum_gn)))
        {
            let n = (x - mean) * inverse;
            *out = (*out * scale - mean_g - n * mean_gn) * inverse;
        }
    }
}

/// Mean and reciprocal deviation of every group, to `moments` and, repeated for each channel, to `mean` and `inverse`.
#[inline(always)]
fn measure(norm: Norm, input: &[f32], moments: &mut [f32], mean: &mut [f32], inverse: &mut [f32]) {
    let channels = norm.scale.len();
    let per_group = channels / norm.groups;
    let count = (per_group * input.len() / channels) as f32;
    let (means, inverses) = moments.split_at_mut(norm.groups);
    inverse.fill(0.0);
    for row in input.chunks_exact(channels) {
        inverse.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    for ((to, group), sums) in
        means.iter_mut().zip(mean.chunks_exact_mut(per_group)).zip(inverse.chunks_exact(per_group))
    {
        *to = sums.iter().sum::<f32>() / count;
        group.fill(*to);
    }
    inverse.fill(0.0);
    for row in input.chunks_exact(channels) {
        for ((sum, x), mean) in inverse.iter_mut().zip(row).zip(&*mean) {
            *sum += (x - mean) * (x - mean);
        }
    }
    for (to, sums) in inverses.iter_mut().zip(inverse.chunks_exact_mut(per_group)) {
        let variance = sums.iter().sum::<f32>() / count;
        *to = 1.0 / (variance + EPSILON).sqrt();
        sums.fill(*to);
    }
}

/// Every group's moments, repeated for its channels.
#[inline(always)]
fn spread(groups: usize, moments: &[f32], mean: &mut [f32], inverse: &mut [f32]) {
    let per_group = mean.len() / groups;
    let (means, inverses) = moments.split_at(groups);
    for (values, spread) in [(means, mean), (inverses, inverse)] {
        for (group, value) in spread.chunks_exact_mut(per_group).zip(values) {
            group.fill(*value);
        }
    }
}

#[inline(always)]
fn split<const N: usize>(room: &mut [f32], channels: usize) -> [&mut [f32]; N] {
    let mut parts = room.chunks_exact_mut(channels);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}
