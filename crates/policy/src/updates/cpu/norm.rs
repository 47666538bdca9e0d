//! Group norm, Mish, FiLM and the sum with a shortcut in one pass over a sample `[L, C]`, forward and backward.
//!
//! Wu and He 2018, eq. 1; Misra 2019; Perez et al. 2018, as `scale * x + bias`.

use super::lanes::{Block, LANES, each, for_each_block, fused};
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
/// `moments`, `[2, groups]`; `room` is working memory of `2 C`.
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
/// to. `room` is working memory of `4 C`.
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
    let [mean, inverse] = split(room, channels);
    measure::<FMA>(norm, input, moments, mean, inverse);
    for_each_block!(channels, block => {
        let (mean, inverse) = (block.get(mean, 0), block.get(inverse, 0));
        let (scale, shift) = (block.get(norm.scale, 0), block.get(norm.shift, 0));
        let gain = each(|i| inverse[i] * scale[i]);
        let offset = each(|i| shift[i] - mean[i] * gain[i]);
        let film_scale = film.and_then(|film| film.scale).map_or([1.0; LANES], |scale| block.get(scale, 0));
        let film_bias = film.map_or([0.0; LANES], |film| block.get(film.bias, 0));
        for row in 0..input.len() / channels {
            let x = block.get(input, row);
            let before = if add { block.get(output, row) } else { film_bias };
            let value = each(|i| mish::<FMA>(fused::<FMA>(x[i], gain[i], offset[i])).0);
            block.put(output, row, each(|i| fused::<FMA>(value[i], film_scale[i], before[i])));
        }
    });
}

#[inline(always)]
fn backward_body<const FMA: bool>(
    norm: Norm,
    input: &[f32],
    film: Option<Film>,
    grad: &[f32],
    moments: &[f32],
    (input_grad, mut sums): (&mut [f32], NormGradients),
    room: &mut [f32],
) {
    let channels = norm.scale.len();
    let rows = input.len() / channels;
    let [mean, inverse, mean_g, mean_gn] = split(room, channels);
    spread(norm.groups, moments, mean, inverse);
    for_each_block!(channels, block => {
        let (mean, inverse) = (block.get(mean, 0), block.get(inverse, 0));
        let (scale, shift) = (block.get(norm.scale, 0), block.get(norm.shift, 0));
        let by = film.and_then(|film| film.scale).map_or([1.0; LANES], |scale| block.get(scale, 0));
        let [mut sum_g, mut sum_gn, mut film_scale, mut film_bias] = [[0.0; LANES]; 4];
        for row in 0..rows {
            let (x, g) = (block.get(input, row), block.get(grad, row));
            let n = each(|i| (x[i] - mean[i]) * inverse[i]);
            let (mut value, mut slope) = ([0.0; LANES], [0.0; LANES]);
            for i in 0..LANES {
                (value[i], slope[i]) = mish::<FMA>(fused::<FMA>(n[i], scale[i], shift[i]));
            }
            film_scale = each(|i| fused::<FMA>(g[i], value[i], film_scale[i]));
            film_bias = each(|i| film_bias[i] + g[i]);
            let out = each(|i| g[i] * by[i] * slope[i]);
            sum_g = each(|i| sum_g[i] + out[i]);
            sum_gn = each(|i| fused::<FMA>(out[i], n[i], sum_gn[i]));
            block.put(input_grad, row, out);
        }
        let (before_scale, before_shift) = (block.get(sums.scale, 0), block.get(sums.shift, 0));
        block.put(sums.scale, 0, each(|i| before_scale[i] + sum_gn[i]));
        block.put(sums.shift, 0, each(|i| before_shift[i] + sum_g[i]));
        if let Some(row) = &mut sums.film {
            let (to_scale, to_bias) = row.split_at_mut(row.len() - channels);
            if !to_scale.is_empty() {
                block.put(to_scale, 0, film_scale);
            }
            block.put(to_bias, 0, film_bias);
        }
        block.put(mean_g, 0, each(|i| sum_g[i] * scale[i]));
        block.put(mean_gn, 0, each(|i| sum_gn[i] * scale[i]));
    });
    // With n = (x - mean) / deviation and g = dloss/dn: dloss/dx = (g - mean(g) - n mean(g n)) / deviation.
    let per_group = channels / norm.groups;
    for sums in [&mut *mean_g, &mut *mean_gn] {
        for sums in sums.chunks_exact_mut(per_group) {
            sums.fill(sums.iter().sum::<f32>() / (per_group * rows) as f32);
        }
    }
    for_each_block!(channels, block => {
        let (mean, inverse) = (block.get(mean, 0), block.get(inverse, 0));
        let (mean_g, mean_gn) = (block.get(mean_g, 0), block.get(mean_gn, 0));
        let scale = block.get(norm.scale, 0);
        for row in 0..rows {
            let (x, g) = (block.get(input, row), block.get(input_grad, row));
            let n = each(|i| (x[i] - mean[i]) * inverse[i]);
            let out = each(|i| (g[i] * scale[i] - mean_g[i] - n[i] * mean_gn[i]) * inverse[i]);
            block.put(input_grad, row, out);
        }
    });
}

/// Mean and reciprocal deviation of every group, to `moments` and, repeated for each channel, to `mean` and `inverse`.
#[inline(always)]
fn measure<const FMA: bool>(
    norm: Norm,
    input: &[f32],
    moments: &mut [f32],
    mean: &mut [f32],
    inverse: &mut [f32],
) {
    let channels = norm.scale.len();
    let rows = input.len() / channels;
    let per_group = channels / norm.groups;
    let count = (per_group * rows) as f32;
    let (means, inverses) = moments.split_at_mut(norm.groups);
    for_each_block!(channels, block => {
        let mut sum = [0.0; LANES];
        for row in 0..rows {
            let x = block.get(input, row);
            sum = each(|i| sum[i] + x[i]);
        }
        block.put(mean, 0, sum);
    });
    for (to, sums) in means.iter_mut().zip(mean.chunks_exact_mut(per_group)) {
        *to = sums.iter().sum::<f32>() / count;
        sums.fill(*to);
    }
    for_each_block!(channels, block => {
        let (mean, mut sum) = (block.get(mean, 0), [0.0; LANES]);
        for row in 0..rows {
            let x = block.get(input, row);
            sum = each(|i| fused::<FMA>(x[i] - mean[i], x[i] - mean[i], sum[i]));
        }
        block.put(inverse, 0, sum);
    });
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
