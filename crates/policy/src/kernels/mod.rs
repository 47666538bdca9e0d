//! The denoiser's layers. On a CPU they run kernels of our own, with hand-written gradients, because burn's general
//! ones train several times slower; on any other device they are burn's.

mod convolution;
mod extension;
pub(crate) mod group_norm;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use burn::tensor::activation::tanh;
use burn::tensor::module::{conv_transpose1d, conv1d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use self::extension::{CpuConvolution, CpuGroups, DenoiserOps};

/// PyTorch's default.
const GROUP_NORM_EPSILON: f64 = 1e-5;

/// Whose kernels compute the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// Ours, on the CPU.
    Cpu,
    /// burn's, on any device. On the CPU alone they only serve to test ours.
    #[cfg_attr(not(any(feature = "cuda", test)), allow(dead_code))]
    Stock,
}

/// `[B, Cin, L]`, weight `[Cout, Cin, K]`, bias `[Cout]` to `[B, Cout, (L + 2 padding - K) / stride + 1]`.
pub(crate) fn convolve(
    kernels: Kernels,
    input: Tensor<3>,
    weight: Tensor<3>,
    bias: Tensor<1>,
    stride: usize,
    padding: usize,
) -> Tensor<3> {
    match kernels {
        Kernels::Cpu => {
            cpu_convolve(input, weight, bias, CpuConvolution { stride, padding, transposed: false })
        }
        Kernels::Stock => {
            let options = ConvOptions::new([stride], [padding], [1], 1);
            conv1d(input, weight, Some(bias), options)
        }
    }
}

/// `[B, Cin, L]`, weight `[Cin, Cout, K]`, bias `[Cout]` to `[B, Cout, (L - 1) stride - 2 padding + K]`.
pub(crate) fn convolve_transposed(
    kernels: Kernels,
    input: Tensor<3>,
    weight: Tensor<3>,
    bias: Tensor<1>,
    stride: usize,
    padding: usize,
) -> Tensor<3> {
    match kernels {
        Kernels::Cpu => {
            cpu_convolve(input, weight, bias, CpuConvolution { stride, padding, transposed: true })
        }
        Kernels::Stock => {
            let options = ConvTransposeOptions::new([stride], [padding], [0], [1], 1);
            conv_transpose1d(input, weight, Some(bias), options)
        }
    }
}

/// `[B, in]`, weight `[out, in]`, bias `[out]` to `[B, out]`.
pub(crate) fn linear(kernels: Kernels, input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    match kernels {
        // A convolution of a single tap over a single step.
        Kernels::Cpu => {
            let options = CpuConvolution { stride: 1, padding: 0, transposed: false };
            cpu_convolve(input.unsqueeze_dim(2), weight.unsqueeze_dim(2), bias, options).squeeze_dim(2)
        }
        Kernels::Stock => input.matmul(weight.transpose()) + bias.unsqueeze(),
    }
}

fn cpu_convolve(input: Tensor<3>, weight: Tensor<3>, bias: Tensor<1>, options: CpuConvolution) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as DenoiserOps>::convolve(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        options,
    ))
}

/// Group normalisation (Wu and He 2018, eq. 1), then Mish: `[B, C, L]`, scale and shift `[C]`.
pub(crate) fn group_norm_mish(
    kernels: Kernels,
    input: Tensor<3>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    groups: usize,
) -> Tensor<3> {
    match kernels {
        Kernels::Cpu => Tensor::from_dispatch(<Dispatch as DenoiserOps>::group_norm_mish(
            input.into_dispatch(),
            scale.into_dispatch(),
            shift.into_dispatch(),
            CpuGroups(groups),
        )),
        Kernels::Stock => {
            let [batch, channels, length] = input.dims();
            let grouped = input.reshape([batch, groups, channels / groups * length]);
            let centered = grouped.clone() - grouped.mean_dim(2);
            let variance = centered.clone().square().mean_dim(2);
            let normalised = centered / (variance + GROUP_NORM_EPSILON).sqrt();
            let normalised = normalised.reshape([batch, channels, length]);
            mish(normalised * scale.reshape([1, channels, 1]) + shift.reshape([1, channels, 1]))
        }
    }
}

/// `x tanh(softplus(x))` (Misra 2019), with a softplus that neither overflows nor loses small values.
pub(crate) fn mish<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let softplus = x.clone().clamp_min(0.0) + (x.clone().abs().neg().exp()).log1p();
    x * tanh(softplus)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::*;

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        // Which numbers these are does not matter: both paths see the same ones.
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex().autodiff()).require_grad()
    }

    /// Compares outputs, and gradients of a loss that weighs every output differently.
    fn agree(inputs: (Tensor<3>, Tensor<3>, Tensor<1>), layer: impl Fn(Kernels) -> Tensor<3>) {
        let (ours, stock) = (layer(Kernels::Cpu), layer(Kernels::Stock));
        let tolerance = Tolerance::<f32>::absolute(2e-4).set_relative(2e-4);
        ours.to_data().assert_approx_eq(&stock.to_data(), tolerance);
        let weights = random(ours.dims());
        let [ours, stock] = [ours, stock].map(|output| (output * weights.clone()).sum().backward());
        let (first, second, third) = inputs;
        for pair in [
            (first.grad(&ours).unwrap().to_data(), first.grad(&stock).unwrap().to_data()),
            (second.grad(&ours).unwrap().to_data(), second.grad(&stock).unwrap().to_data()),
            (third.grad(&ours).unwrap().to_data(), third.grad(&stock).unwrap().to_data()),
        ] {
            pair.0.assert_approx_eq(&pair.1, tolerance);
        }
    }

    #[test]
    fn convolutions_agree_with_burn_in_value_and_gradient() {
        for (kernel, stride, padding, length) in
            [(5, 1, 2, 16), (5, 1, 2, 4), (3, 2, 1, 16), (1, 1, 0, 8), (3, 2, 1, 7), (5, 1, 2, 1)]
        {
            let (x, w, b) = (random([3, 6, length]), random([10, 6, kernel]), random([10]));
            agree((x.clone(), w.clone(), b.clone()), |kernels| {
                convolve(kernels, x.clone(), w.clone(), b.clone(), stride, padding)
            });
        }
    }

    #[test]
    fn transposed_convolutions_agree_with_burn_in_value_and_gradient() {
        for length in [1, 4, 9] {
            let (x, w, b) = (random([3, 6, length]), random([6, 10, 4]), random([10]));
            agree((x.clone(), w.clone(), b.clone()), |kernels| {
                convolve_transposed(kernels, x.clone(), w.clone(), b.clone(), 2, 1)
            });
        }
    }

    #[test]
    fn linear_layers_agree_with_burn_in_value_and_gradient() {
        for batch in [1, 5] {
            let (x, w, b) = (random([batch, 7, 1]), random([9, 7, 1]), random([9]));
            agree((x.clone(), w.clone(), b.clone()), |kernels| {
                linear(kernels, x.clone().squeeze_dim(2), w.clone().squeeze_dim(2), b.clone())
                    .unsqueeze_dim(2)
            });
        }
    }

    #[test]
    fn group_norm_and_mish_agree_with_burn_in_value_and_gradient() {
        for (channels, length, groups) in [(16, 16, 8), (8, 3, 8), (24, 5, 2)] {
            let x = random([3, channels, length]);
            let (scale, shift) = (random([channels]), random([channels]));
            let (ours, stock) = (Kernels::Cpu, Kernels::Stock);
            let [ours, stock] = [ours, stock]
                .map(|kernels| group_norm_mish(kernels, x.clone(), scale.clone(), shift.clone(), groups));
            let tolerance = Tolerance::<f32>::absolute(2e-4).set_relative(2e-4);
            ours.to_data().assert_approx_eq(&stock.to_data(), tolerance);
            let weights = random(ours.dims());
            let [ours, stock] = [ours, stock].map(|output| (output * weights.clone()).sum().backward());
            for (ours, stock) in [
                (x.grad(&ours).unwrap().to_data(), x.grad(&stock).unwrap().to_data()),
                (scale.grad(&ours).unwrap().to_data(), scale.grad(&stock).unwrap().to_data()),
                (shift.grad(&ours).unwrap().to_data(), shift.grad(&stock).unwrap().to_data()),
            ] {
                ours.assert_approx_eq(&stock, tolerance);
            }
        }
    }
}
