//! One-dimensional convolution as one matrix product over the whole batch, forward and backward.
//!
//! Signals are `[B, C, L]`, weights `[Cout, Cin, K]`. The product runs over columns `[C * K, B * Lout]`, whose rows are
//! shifted copies of the signal, so that packing and unpacking move whole runs of `L` numbers.

use gemm::Parallelism;

/// Geometry of a convolution; of a transposed one, read backwards (`input` is then its output).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Convolution {
    pub batch: usize,
    pub input_channels: usize,
    pub output_channels: usize,
    pub input_length: usize,
    pub output_length: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Convolution {
    fn depth(&self) -> usize {
        self.input_channels * self.kernel
    }

    fn columns(&self) -> usize {
        self.batch * self.output_length
    }

    fn input_len(&self) -> usize {
        self.batch * self.input_channels * self.input_length
    }

    fn output_len(&self) -> usize {
        self.batch * self.output_channels * self.output_length
    }

    /// The output steps `t` whose tap `tap` reads inside the signal: `0 <= t * stride + tap - padding < L`.
    fn inside(&self, tap: usize) -> std::ops::Range<usize> {
        let first = self.padding.saturating_sub(tap).div_ceil(self.stride);
        let end = (self.input_length + self.padding).saturating_sub(tap).div_ceil(self.stride);
        first.min(self.output_length)..end.min(self.output_length).max(first.min(self.output_length))
    }
}

/// `[B, Cin, L]`, `[Cout, Cin, K]`, `[Cout]` to `[B, Cout, Lout]`.
pub(crate) fn forward(shape: &Convolution, input: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let columns = unfold(shape, input);
    let mut rows = vec![0.0; shape.output_len()];
    product(shape.output_channels, shape.columns(), shape.depth(), &mut rows, weight, false, &columns, false);
    let mut output = vec![0.0; shape.output_len()];
    rows_to_signal(shape, &rows, Some(bias), &mut output);
    output
}

/// Gradients of input (when `with_input`), weight and bias, from that of the output.
pub(crate) fn backward(
    shape: &Convolution,
    input: &[f32],
    weight: &[f32],
    grad: &[f32],
    with_input: bool,
) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
    let rows = signal_to_rows(shape, grad);
    let bias_grad = rows.chunks_exact(shape.columns()).map(|row| row.iter().sum()).collect();
    let columns = unfold(shape, input);
    let weight_grad = weight_gradient(shape, &rows, &columns);
    let input_grad = with_input.then(|| {
        let mut columns = columns;
        product(
            shape.depth(),
            shape.columns(),
            shape.output_channels,
            &mut columns,
            weight,
            true,
            &rows,
            false,
        );
        fold(shape, &columns, None)
    });
    (input_grad, weight_grad, bias_grad)
}

/// The transposed convolution: `[B, Cout, Lout]`, `[Cout, Cin, K]`, `[Cin]` to `[B, Cin, L]`, in the letters of the
/// convolution whose gradient it is.
pub(crate) fn transposed_forward(
    shape: &Convolution,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
) -> Vec<f32> {
    let rows = signal_to_rows(shape, input);
    let mut columns = vec![0.0; shape.depth() * shape.columns()];
    product(shape.depth(), shape.columns(), shape.output_channels, &mut columns, weight, true, &rows, false);
    fold(shape, &columns, Some(bias))
}

/// Gradients of input, weight and bias of the transposed convolution.
pub(crate) fn transposed_backward(
    shape: &Convolution,
    input: &[f32],
    weight: &[f32],
    grad: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut bias_grad = vec![0.0; shape.input_channels];
    for signal in grad.chunks_exact(shape.input_channels * shape.input_length) {
        for (sum, run) in bias_grad.iter_mut().zip(signal.chunks_exact(shape.input_length)) {
            *sum += run.iter().sum::<f32>();
        }
    }
    let columns = unfold(shape, grad);
    let mut rows = vec![0.0; shape.output_len()];
    product(shape.output_channels, shape.columns(), shape.depth(), &mut rows, weight, false, &columns, false);
    let mut input_grad = vec![0.0; shape.output_len()];
    rows_to_signal(shape, &rows, None, &mut input_grad);
    let rows = signal_to_rows(shape, input);
    let weight_grad = weight_gradient(shape, &rows, &columns);
    (input_grad, weight_grad, bias_grad)
}

/// `[Cout, B * Lout]` times the transpose of `[C * K, B * Lout]`.
fn weight_gradient(shape: &Convolution, rows: &[f32], columns: &[f32]) -> Vec<f32> {
    let mut gradient = vec![0.0; shape.output_channels * shape.depth()];
    product(shape.output_channels, shape.depth(), shape.columns(), &mut gradient, rows, false, columns, true);
    gradient
}

/// `[B, C, L]` to columns `[C * K, B * Lout]`.
fn unfold(shape: &Convolution, input: &[f32]) -> Vec<f32> {
    debug_assert_eq!(input.len(), shape.input_len());
    let mut columns = vec![0.0; shape.depth() * shape.columns()];
    let rows = columns.chunks_exact_mut(shape.columns());
    for (index, row) in rows.enumerate() {
        let (channel, tap) = (index / shape.kernel, index % shape.kernel);
        let inside = shape.inside(tap);
        if inside.is_empty() {
            continue;
        }
        for (sample, run) in row.chunks_exact_mut(shape.output_length).enumerate() {
            let start = (sample * shape.input_channels + channel) * shape.input_length;
            let signal = &input[start..start + shape.input_length];
            if shape.stride == 1 {
                let from = inside.start + tap - shape.padding;
                copy_run(&mut run[inside.clone()], &signal[from..from + inside.len()]);
            } else {
                for step in inside.clone() {
                    run[step] = signal[step * shape.stride + tap - shape.padding];
                }
            }
        }
    }
    columns
}

/// The transpose of [`unfold`]: columns are added up into a signal, over an optional bias per channel.
fn fold(shape: &Convolution, columns: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let mut output = vec![0.0; shape.input_len()];
    if let Some(bias) = bias {
        for (index, run) in output.chunks_exact_mut(shape.input_length).enumerate() {
            run.fill(bias[index % shape.input_channels]);
        }
    }
    for (index, row) in columns.chunks_exact(shape.columns()).enumerate() {
        let (channel, tap) = (index / shape.kernel, index % shape.kernel);
        let inside = shape.inside(tap);
        if inside.is_empty() {
            continue;
        }
        for (sample, run) in row.chunks_exact(shape.output_length).enumerate() {
            let start = (sample * shape.input_channels + channel) * shape.input_length;
            let signal = &mut output[start..start + shape.input_length];
            if shape.stride == 1 {
                let from = inside.start + tap - shape.padding;
                let target = &mut signal[from..from + inside.len()];
                target.iter_mut().zip(&run[inside.clone()]).for_each(|(sum, value)| *sum += value);
            } else {
                for step in inside.clone() {
                    signal[step * shape.stride + tap - shape.padding] += run[step];
                }
            }
        }
    }
    output
}

/// `[Cout, B * Lout]` to `[B, Cout, Lout]`, with a bias per channel.
fn rows_to_signal(shape: &Convolution, rows: &[f32], bias: Option<&[f32]>, output: &mut [f32]) {
    let length = shape.output_length;
    for (sample, signal) in output.chunks_exact_mut(shape.output_channels * length).enumerate() {
        for (channel, run) in signal.chunks_exact_mut(length).enumerate() {
            let start = channel * shape.columns() + sample * length;
            let offset = bias.map_or(0.0, |bias| bias[channel]);
            run.iter_mut().zip(&rows[start..start + length]).for_each(|(out, value)| *out = value + offset);
        }
    }
}

/// `[B, Cout, Lout]` to `[Cout, B * Lout]`.
fn signal_to_rows(shape: &Convolution, signal: &[f32]) -> Vec<f32> {
    let length = shape.output_length;
    let mut rows = vec![0.0; shape.output_len()];
    for (channel, row) in rows.chunks_exact_mut(shape.columns()).enumerate() {
        for (sample, run) in row.chunks_exact_mut(length).enumerate() {
            let start = (sample * shape.output_channels + channel) * length;
            copy_run(run, &signal[start..start + length]);
        }
    }
    rows
}

/// A short copy without the call that `copy_from_slice` makes: the runs here are 4 to 16 numbers long.
#[inline]
fn copy_run(target: &mut [f32], source: &[f32]) {
    target.iter_mut().zip(source).for_each(|(target, source)| *target = *source);
}

/// `out [m, n] = lhs * rhs`, all row-major; a transposed factor is stored as `[k, m]` or `[n, k]`.
///
/// Each column is the same to the last bit whatever the others are, so that a plan does not depend on its batch.
#[allow(clippy::too_many_arguments)]
fn product(
    m: usize,
    n: usize,
    k: usize,
    out: &mut [f32],
    lhs: &[f32],
    lhs_transposed: bool,
    rhs: &[f32],
    rhs_transposed: bool,
) {
    assert!(out.len() == m * n && lhs.len() == m * k && rhs.len() == k * n, "a product of other shapes");
    if n == 1 {
        // `gemm` adds in another order when there is a single column, so it is given two.
        let twice: Vec<f32> = if rhs_transposed {
            [rhs, rhs].concat()
        } else {
            rhs.iter().flat_map(|value| [*value; 2]).collect()
        };
        let mut both = vec![0.0; 2 * m];
        product(m, 2, k, &mut both, lhs, lhs_transposed, &twice, rhs_transposed);
        out.iter_mut().zip(both.chunks_exact(2)).for_each(|(out, both)| *out = both[0]);
        return;
    }
    let (lhs_cs, lhs_rs) = if lhs_transposed { (m as isize, 1) } else { (1, k as isize) };
    let (rhs_cs, rhs_rs) = if rhs_transposed { (k as isize, 1) } else { (1, n as isize) };
    // SAFETY: the lengths were checked just above against the strides given, and `out` is borrowed mutably, so it
    // overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            lhs.as_ptr(),
            lhs_cs,
            lhs_rs,
            rhs.as_ptr(),
            rhs_cs,
            rhs_rs,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_a_product_does_not_depend_on_its_company() {
        const MOST: usize = 1024;
        let number = |i: usize| ((i as f32 * 12.9898).sin() * 43758.547).fract();
        for (m, k) in [(8, 6), (16, 64), (64, 164), (128, 640), (256, 164), (128, 1280), (2, 32), (512, 164)]
        {
            let lhs: Vec<f32> = (0..m * k).map(number).collect();
            let rhs: Vec<f32> = (0..k * MOST).map(|i| number(i + 7)).collect();
            let mut whole = vec![0.0; m * MOST];
            product(m, MOST, k, &mut whole, &lhs, false, &rhs, false);
            for n in [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 100, 256] {
                let part: Vec<f32> = rhs.chunks(MOST).flat_map(|row| row[..n].to_vec()).collect();
                let mut out = vec![0.0; m * n];
                product(m, n, k, &mut out, &lhs, false, &part, false);
                for row in 0..m {
                    let alone = &out[row * n..(row + 1) * n];
                    assert_eq!(alone, &whole[row * MOST..row * MOST + n], "[{m}, {k}] * [{k}, {n}]");
                }
            }
        }
    }
}
