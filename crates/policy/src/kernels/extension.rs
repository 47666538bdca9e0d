//! The door from burn's tensors to the CPU kernels, and their place in its gradient graph.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension, tensor::FloatTensor};
use burn::tensor::TensorData;

use super::convolution::{self, Convolution};
use super::group_norm::{self, Groups};

/// Stride, padding and direction of a convolution on the CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuConvolution {
    pub stride: usize,
    pub padding: usize,
    pub transposed: bool,
}

impl CpuConvolution {
    /// The geometry for an input `[B, C, L]` and a weight `[out, in, K]`, or `[in, out, K]` when transposed.
    fn shape(&self, input: &[usize], weight: &[usize]) -> Convolution {
        let ([batch, _, length], [first, second, kernel]) =
            ([input[0], input[1], input[2]], [weight[0], weight[1], weight[2]]);
        let (input_length, output_length) = if self.transposed {
            ((length - 1) * self.stride + kernel - 2 * self.padding, length)
        } else {
            (length, (length + 2 * self.padding - kernel) / self.stride + 1)
        };
        Convolution {
            batch,
            input_channels: second,
            output_channels: first,
            input_length,
            output_length,
            kernel,
            stride: self.stride,
            padding: self.padding,
        }
    }
}

/// How many groups a signal is normalised in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuGroups(pub usize);

/// Layers that the CPU backend computes with kernels of our own.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait DenoiserOps: Backend {
    /// `[B, Cin, L]`, weight, `[Cout]` to `[B, Cout, Lout]`.
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: CpuConvolution,
    ) -> FloatTensor<Self>;

    /// Group norm, then Mish: `[B, C, L]`, `[C]`, `[C]` to `[B, C, L]`.
    fn group_norm_mish(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        groups: CpuGroups,
    ) -> FloatTensor<Self>;
}

/// The gradients of [`DenoiserOps`], on a backend that computes without a graph.
pub(crate) trait DenoiserGradients: Backend {
    /// Gradients of input (when `with_input`), weight and bias.
    fn convolve_backward(
        saved: [FloatTensor<Self>; 2],
        grad: FloatTensor<Self>,
        options: CpuConvolution,
        with_input: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of input, scale and shift.
    fn group_norm_mish_backward(
        saved: [FloatTensor<Self>; 3],
        grad: FloatTensor<Self>,
        groups: CpuGroups,
    ) -> [FloatTensor<Self>; 3];
}

impl DenoiserOps for Flex {
    fn convolve(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        options: CpuConvolution,
    ) -> FlexTensor {
        let [input, weight, bias] = [input, weight, bias].map(|tensor| tensor.to_contiguous());
        let shape = options.shape(input.layout().shape(), weight.layout().shape());
        let (values, dims) = if options.transposed {
            let values =
                convolution::transposed_forward(&shape, values(&input), values(&weight), values(&bias));
            (values, [shape.batch, shape.input_channels, shape.input_length])
        } else {
            let values = convolution::forward(&shape, values(&input), values(&weight), values(&bias));
            (values, [shape.batch, shape.output_channels, shape.output_length])
        };
        tensor(values, dims)
    }

    fn group_norm_mish(
        input: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        groups: CpuGroups,
    ) -> FlexTensor {
        let [input, scale, shift] = [input, scale, shift].map(|tensor| tensor.to_contiguous());
        let dims = dims_3(&input);
        let shape = Groups { channels: dims[1], length: dims[2], groups: groups.0 };
        tensor(group_norm::forward(shape, values(&input), values(&scale), values(&shift)), dims)
    }
}

impl DenoiserGradients for Flex {
    fn convolve_backward(
        saved: [FlexTensor; 2],
        grad: FlexTensor,
        options: CpuConvolution,
        with_input: bool,
    ) -> (Option<FlexTensor>, FlexTensor, FlexTensor) {
        let [input, weight] = saved.map(|tensor| tensor.to_contiguous());
        let grad = grad.to_contiguous();
        let shape = options.shape(input.layout().shape(), weight.layout().shape());
        let (input_grad, weight_grad, bias_grad) = if options.transposed {
            let (input_grad, weight_grad, bias_grad) =
                convolution::transposed_backward(&shape, values(&input), values(&weight), values(&grad));
            (Some(input_grad), weight_grad, bias_grad)
        } else {
            convolution::backward(&shape, values(&input), values(&weight), values(&grad), with_input)
        };
        let bias_dims = [bias_grad.len()];
        (
            input_grad.map(|values| tensor(values, dims_3(&input))),
            tensor(weight_grad, dims_3(&weight)),
            tensor(bias_grad, bias_dims),
        )
    }

    fn group_norm_mish_backward(
        saved: [FlexTensor; 3],
        grad: FlexTensor,
        groups: CpuGroups,
    ) -> [FlexTensor; 3] {
        let [input, scale, shift] = saved.map(|tensor| tensor.to_contiguous());
        let grad = grad.to_contiguous();
        let dims = dims_3(&input);
        let shape = Groups { channels: dims[1], length: dims[2], groups: groups.0 };
        let (input_grad, scale_grad, shift_grad) =
            group_norm::backward(shape, values(&input), values(&scale), values(&shift), values(&grad));
        [tensor(input_grad, dims), tensor(scale_grad, [dims[1]]), tensor(shift_grad, [dims[1]])]
    }
}

impl<B: DenoiserOps + DenoiserGradients, C: CheckpointStrategy> DenoiserOps for Autodiff<B, C> {
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: CpuConvolution,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Convolve;

        impl<B: DenoiserGradients> Backward<B, 3> for Convolve {
            type State = ([FloatTensor<B>; 2], CpuConvolution);

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let grad = grads.consume::<B>(&ops.node);
                let (saved, options) = ops.state;
                let [input, weight, bias] = ops.parents;
                let (input_grad, weight_grad, bias_grad) =
                    B::convolve_backward(saved, grad, options, input.is_some());
                if let (Some(node), Some(grad)) = (input, input_grad) {
                    grads.register::<B>(node.id, grad);
                }
                if let Some(node) = weight {
                    grads.register::<B>(node.id, weight_grad);
                }
                if let Some(node) = bias {
                    grads.register::<B>(node.id, bias_grad);
                }
            }
        }

        let (input, input_node) = input.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let saved = [input.clone(), weight.clone()];
        let output = B::convolve(input, weight, bias, options);
        match Convolve.prepare::<C>([input_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((saved, options), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn group_norm_mish(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        groups: CpuGroups,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct GroupNormMish;

        impl<B: DenoiserGradients> Backward<B, 3> for GroupNormMish {
            type State = ([FloatTensor<B>; 3], CpuGroups);

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let grad = grads.consume::<B>(&ops.node);
                let (saved, groups) = ops.state;
                let gradients = B::group_norm_mish_backward(saved, grad, groups);
                for (node, grad) in ops.parents.into_iter().zip(gradients) {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, grad);
                    }
                }
            }
        }

        let (input, input_node) = input.into_parts();
        let (scale, scale_node) = scale.into_parts();
        let (shift, shift_node) = shift.into_parts();
        let saved = [input.clone(), scale.clone(), shift.clone()];
        let output = B::group_norm_mish(input, scale, shift, groups);
        match GroupNormMish.prepare::<C>([input_node, scale_node, shift_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((saved, groups), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

/// The numbers of a contiguous tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    let (start, end) =
        tensor.layout().contiguous_offsets().expect("callers pass what `to_contiguous` returned");
    &tensor.storage::<f32>()[start..end]
}

fn dims_3(tensor: &FlexTensor) -> [usize; 3] {
    let shape = tensor.shape();
    [shape[0], shape[1], shape[2]]
}

fn tensor<const D: usize>(values: Vec<f32>, dims: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, dims))
}
