//! FiLM's scales and biases: a linear map of the step's embedding and the condition, so a sum of one part for each.

use super::layers::Layers;
use crate::engine::HostNetwork;
use crate::unet::sinusoidal_embedding;

/// The encoders of all residual blocks as one table.
pub(super) struct FilmTables {
    /// The part of the condition, transposed: `[To * Do][numbers]`.
    pub of_condition: Vec<f32>,
    pub condition_dim: usize,
    numbers: usize,
    /// The part of the step's features: `[numbers][embedding]`, and the biases.
    of_embedding: Vec<f32>,
    biases: Vec<f32>,
    embedding: usize,
    encoder: [(Vec<f32>, Vec<f32>); 2],
}

impl FilmTables {
    pub fn new(network: &HostNetwork, layers: &Layers) -> Self {
        let (embedding, condition) = (network.config.diffusion_step_embed_dim, network.condition_dim);
        let numbers = layers.film_numbers;
        let width = embedding + condition;
        let mut weights = vec![0.0; condition * numbers];
        let mut of_embedding = vec![0.0; numbers * embedding];
        let mut biases = vec![0.0; numbers];
        for film in &layers.films {
            let weight = network.get(&format!("{}.weight", film.name));
            let bias = network.get(&format!("{}.bias", film.name));
            // Without predicted scales the encoder gives biases alone, and every scale is 1.
            let first = if network.config.cond_predict_scale { 0 } else { film.channels };
            biases[film.offset..film.offset + first].fill(1.0);
            for (row, (values, bias)) in weight.chunks_exact(width).zip(bias).enumerate() {
                let number = film.offset + first + row;
                biases[number] = *bias;
                of_embedding[number * embedding..][..embedding].copy_from_slice(&values[..embedding]);
                for (k, value) in values[embedding..].iter().enumerate() {
                    weights[k * numbers + number] = *value;
                }
            }
        }
        let layer = |index: usize| {
            let name = format!("diffusion_step_encoder.{index}");
            (network.get(&format!("{name}.weight")).to_vec(), network.get(&format!("{name}.bias")).to_vec())
        };
        Self {
            of_condition: weights,
            condition_dim: condition,
            numbers,
            of_embedding,
            biases,
            embedding,
            encoder: [layer(1), layer(3)],
        }
    }

    /// The part of the steps with the biases: `[steps][numbers]`.
    pub fn of_steps(&self, timesteps: &[usize]) -> Vec<f32> {
        let mut table = Vec::with_capacity(timesteps.len() * self.numbers);
        for embedding in sinusoidal_embedding(timesteps, self.embedding).chunks_exact(self.embedding) {
            let [first, second] = &self.encoder;
            let hidden: Vec<f32> = linear(embedding, &first.0, &first.1).map(mish).collect();
            let features: Vec<f32> = linear(&hidden, &second.0, &second.1).map(mish).collect();
            table.extend(linear(&features, &self.of_embedding, &self.biases));
        }
        table
    }
}

fn linear(x: &[f32], weight: &[f32], bias: &[f32]) -> impl Iterator<Item = f32> {
    weight.chunks_exact(x.len()).zip(bias).map(move |(row, bias)| {
        // Eight sums side by side: one alone would wait for itself.
        let mut sums = [0.0f32; 8];
        for (row, x) in row.chunks(8).zip(x.chunks(8)) {
            for ((sum, row), x) in sums.iter_mut().zip(row).zip(x) {
                *sum += row * x;
            }
        }
        bias + sums.iter().sum::<f32>()
    })
}

fn mish(x: f32) -> f32 {
    let e = x.min(20.0).exp();
    let n = e * (e + 2.0);
    x * n / (n + 2.0)
}
