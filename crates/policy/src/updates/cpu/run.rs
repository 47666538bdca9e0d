//! Running the program over some samples, forwards and backwards, in memory that is allocated once.

use std::ops::Range;

use super::buffer::Buffer;
use super::layers::Phase;
use super::norm::{self, Film, Norm, NormGradients};
use super::product::{Rows, multiply, multiply_transposed, panels_len};
use super::program::{Flow, NormPlaces, Operation, Program};
use super::shape::Shape;
use crate::data::Batch;
use crate::unet::sinusoidal_embedding;

/// Signals, their gradients and what norms remember, for up to `capacity` samples.
pub(super) struct Run {
    capacity: usize,
    values: Vec<Buffer>,
    grads: Vec<Buffer>,
    /// `[B, moments]`
    moments: Vec<f32>,
    /// Working memory of a norm.
    room: Vec<f32>,
}

/// All weights as the program places them, and those that gradients flow back through.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    pub values: &'a [f32],
    pub turned: &'a [f32],
}

impl Run {
    pub fn new(program: &Program, capacity: usize) -> Self {
        let signals = || program.signals.iter().map(|shape| Buffer::zeros(shape.len(capacity))).collect();
        let widest = program.signals.iter().map(|shape| shape.channels).max().unwrap_or(0);
        Self {
            capacity,
            values: signals(),
            grads: signals(),
            moments: vec![0.0; capacity * program.moments],
            room: vec![0.0; 4 * widest],
        }
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Predicts for some samples of a batch, and returns the sum of their squared errors where they count.
    pub fn forward(
        &mut self,
        program: &Program,
        weights: Placed,
        batch: &Batch,
        samples: Range<usize>,
    ) -> f64 {
        let count = samples.len();
        assert!(count <= self.capacity, "more samples than there is memory for");
        let part = |values: &[f32]| {
            let width = values.len() / batch.len();
            samples.start * width..samples.end * width
        };
        let embed = program.signals[program.embedding].channels;
        let embedding = sinusoidal_embedding(&batch.timesteps[samples.clone()], embed);
        self.fill(program, program.embedding, &embedding);
        self.fill(program, program.condition, &batch.condition[part(&batch.condition)]);
        self.fill(program, program.noisy, &batch.noisy[part(&batch.noisy)]);
        for operation in &program.operations {
            self.operate(program, weights, *operation, count);
        }
        let shape = program.signals[program.prediction];
        let target = batch.target[part(&batch.target)].chunks_exact(shape.inside(0).len());
        let error = |(sample, target): (usize, &[f32])| {
            let prediction = &self.values[program.prediction][shape.inside(sample)];
            let kept = batch.kept(samples.start + sample);
            let before = prediction[..kept.start].iter().zip(&target[..kept.start]);
            let behind = prediction[kept.end..].iter().zip(&target[kept.end..]);
            let squares = before.chain(behind).map(|(is, want)| (is - want) * (is - want));
            f64::from(squares.sum::<f32>())
        };
        target.enumerate().map(error).sum()
    }

    /// Adds the gradients of the squared errors of the samples last predicted for, times `factor`, to `sums`; or puts
    /// them there when not `add`.
    pub fn backward(
        &mut self,
        program: &Program,
        weights: Placed,
        (batch, samples): (&Batch, Range<usize>),
        factor: f32,
        sums: &mut [f32],
        add: bool,
    ) {
        let (count, shape) = (samples.len(), program.signals[program.prediction]);
        let width = shape.inside(0).len();
        for (sample, index) in samples.enumerate() {
            let grad = &mut self.grads[program.prediction][shape.inside(sample)];
            let prediction = &self.values[program.prediction][shape.inside(sample)];
            let target = &batch.target[index * width..(index + 1) * width];
            for ((grad, is), want) in grad.iter_mut().zip(prediction).zip(target) {
                *grad = 2.0 * factor * (is - want);
            }
            grad[batch.kept(index)].fill(0.0);
        }
        for operation in program.operations.iter().rev() {
            self.retrace(program, weights, *operation, count, (&mut *sums, add));
        }
    }

    /// Fills the samples of a signal.
    fn fill(&mut self, program: &Program, signal: usize, numbers: &[f32]) {
        let shape = program.signals[signal];
        for (sample, numbers) in numbers.chunks_exact(shape.inside(0).len()).enumerate() {
            self.values[signal][shape.inside(sample)].copy_from_slice(numbers);
        }
    }

    fn operate(&mut self, program: &Program, weights: Placed, operation: Operation, count: usize) {
        let shape_of = |signal: usize| program.signals[signal];
        let to = operation.output();
        // Out of its place while it is written, so that the others can be read.
        let mut output = std::mem::take(&mut self.values[to]);
        match operation {
            Operation::Layer { layer, input, .. } => {
                let layer = &program.layers[layer];
                let bias = &weights.values[layer.bias..layer.bias + layer.output];
                let mut begin = layer.weight;
                for phase in &layer.forward {
                    let depth = phase.taps.len() * layer.input;
                    let panels = &weights.values[begin..begin + panels_len(depth, layer.output)];
                    begin += panels.len();
                    let [read, write] = phase.rows(shape_of(input), shape_of(to), count);
                    let input = (&*self.values[input], read);
                    multiply(input, depth, panels, Some(bias), (&mut output, write), layer.output, false);
                }
            }
            Operation::Norm { norm, input, film, add, .. } => {
                let shape = shape_of(input);
                for sample in 0..count {
                    let film = film.map(|film| {
                        let numbers = &self.values[film][shape_of(film).inside(sample)];
                        Film::new(numbers, shape.channels)
                    });
                    norm::forward(
                        norm_of(program, weights, norm, shape.channels),
                        &self.values[input][shape.inside(sample)],
                        film,
                        &mut output[shape.inside(sample)],
                        add,
                        &mut self.moments[moments_of(program, norm, sample)],
                        &mut self.room,
                    );
                }
            }
            Operation::Mish { input, .. } => {
                let len = shape_of(input).len(count);
                norm::mish_forward(&self.values[input][..len], &mut output[..len]);
            }
            Operation::Copy { input, .. } => {
                let len = shape_of(input).len(count);
                output[..len].copy_from_slice(&self.values[input][..len]);
            }
            Operation::Join { inputs, .. } => {
                let width = shape_of(to).channels;
                let mut first = 0;
                for input in inputs {
                    let shape = shape_of(input);
                    let rows = self.values[input][..shape.len(count)].chunks_exact(shape.channels);
                    for (row, joined) in rows.zip(output.chunks_exact_mut(width)) {
                        joined[first..first + shape.channels].copy_from_slice(row);
                    }
                    first += shape.channels;
                }
            }
        }
        self.values[to] = output;
    }

    /// Takes the gradient of an operation's output back to its inputs and its weights.
    fn retrace(
        &mut self,
        program: &Program,
        weights: Placed,
        operation: Operation,
        count: usize,
        (sums, add): (&mut [f32], bool),
    ) {
        let shape_of = |signal: usize| program.signals[signal];
        let from = operation.output();
        let grad = std::mem::take(&mut self.grads[from]);
        match operation {
            Operation::Layer { layer, input, flow, .. } => {
                let (layer, numbers) = (&program.layers[layer], &*self.values[input]);
                let mut begin = layer.weight;
                for phase in &layer.forward {
                    let depth = phase.taps.len() * layer.input;
                    let panels = &mut sums[begin..begin + panels_len(depth, layer.output)];
                    begin += panels.len();
                    let [read, write] = phase.rows(shape_of(input), shape_of(from), count);
                    multiply_transposed((numbers, read), depth, (&grad, write), layer.output, panels, add);
                }
                let bias = fresh(&mut sums[layer.bias..layer.bias + layer.output], add);
                for sample in 0..count {
                    for row in grad[shape_of(from).inside(sample)].chunks_exact(layer.output) {
                        bias.iter_mut().zip(row).for_each(|(sum, grad)| *sum += grad);
                    }
                }
                if flow == Flow::Stop {
                    self.grads[from] = grad;
                    return;
                }
                let mut begin = layer.turned;
                for phase in &layer.backward {
                    let depth = phase.taps.len() * layer.output;
                    let panels = &weights.turned[begin..begin + panels_len(depth, layer.input)];
                    begin += panels.len();
                    let [read, write] = phase.rows(shape_of(from), shape_of(input), count);
                    let output = (&mut *self.grads[input], write);
                    multiply((&grad, read), depth, panels, None, output, layer.input, flow == Flow::Add);
                }
            }
            Operation::Norm { norm, input, film, .. } => {
                let shape = shape_of(input);
                let (before, after) = sums.split_at_mut(norm.shift);
                let scale = fresh(&mut before[norm.scale..norm.scale + shape.channels], add);
                let shift = fresh(&mut after[..shape.channels], add);
                let mut input_grad = std::mem::take(&mut self.grads[input]);
                for sample in 0..count {
                    let of_film = |film: usize| shape_of(film).inside(sample);
                    let by = film.map(|film| Film::new(&self.values[film][of_film(film)], shape.channels));
                    let film_grad = film.map(|film| &mut self.grads[film][of_film(film)]);
                    norm::backward(
                        norm_of(program, weights, norm, shape.channels),
                        &self.values[input][shape.inside(sample)],
                        by,
                        &grad[shape.inside(sample)],
                        &self.moments[moments_of(program, norm, sample)],
                        (
                            &mut input_grad[shape.inside(sample)],
                            NormGradients { scale, shift, film: film_grad },
                        ),
                        &mut self.room,
                    );
                }
                self.grads[input] = input_grad;
            }
            Operation::Mish { input, .. } => {
                let len = shape_of(input).len(count);
                norm::mish_backward(&self.values[input][..len], &grad[..len], &mut self.grads[input][..len]);
            }
            Operation::Copy { input, flow, .. } => {
                let len = shape_of(input).len(count);
                pass_on(flow, &grad[..len], &mut self.grads[input][..len]);
            }
            Operation::Join { inputs, flows, .. } => {
                let width = shape_of(from).channels;
                let mut first = 0;
                for (input, flow) in inputs.into_iter().zip(flows) {
                    let shape = shape_of(input);
                    let rows = self.grads[input][..shape.len(count)].chunks_exact_mut(shape.channels);
                    for (row, joined) in rows.zip(grad.chunks_exact(width)) {
                        pass_on(flow, &joined[first..first + shape.channels], row);
                    }
                    first += shape.channels;
                }
            }
        }
        self.grads[from] = grad;
    }
}

impl Phase {
    /// The rows that are read and written, from and to signals of these shapes.
    fn rows(&self, from: Shape, to: Shape, samples: usize) -> [Rows; 2] {
        let steps = to.length / self.stride;
        [
            from.rows(samples, self.input_start, self.input_stride, steps),
            to.rows(samples, self.start as isize, self.stride, steps),
        ]
    }
}

impl<'a> Film<'a> {
    /// From a sample's row: scale, if there is one, then bias.
    fn new(row: &'a [f32], channels: usize) -> Self {
        let (scale, bias) = row.split_at(row.len() - channels);
        Self { scale: (!scale.is_empty()).then_some(scale), bias }
    }
}

fn norm_of<'a>(program: &Program, weights: Placed<'a>, norm: NormPlaces, channels: usize) -> Norm<'a> {
    Norm {
        groups: program.groups,
        scale: &weights.values[norm.scale..norm.scale + channels],
        shift: &weights.values[norm.shift..norm.shift + channels],
    }
}

fn moments_of(program: &Program, norm: NormPlaces, sample: usize) -> Range<usize> {
    let start = sample * program.moments + norm.moments;
    start..start + 2 * program.groups
}

/// Sums to be added to: from 0 on, when not `add`.
fn fresh(sums: &mut [f32], add: bool) -> &mut [f32] {
    if !add {
        sums.fill(0.0);
    }
    sums
}

fn pass_on(flow: Flow, grad: &[f32], to: &mut [f32]) {
    match flow {
        Flow::Stop => {}
        Flow::Set => to.copy_from_slice(grad),
        Flow::Add => to.iter_mut().zip(grad).for_each(|(to, grad)| *to += grad),
    }
}
