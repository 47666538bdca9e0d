//! AdamW over named weights, the learning rate, and the average of the weights that is served.

use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer as _};
use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{EmaConfig, OptimizerConfig};
use crate::parameters::{Weights, host};

/// burn's AdamW, one parameter at a time, with its moments where they can be saved.
pub(crate) struct Optimizer {
    adam: AdamW,
    states: Vec<Option<AdamWState<1>>>,
}

/// AdamW's moments of every parameter on the host, and how many updates made them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moments {
    pub updates: u64,
    pub first: Vec<Vec<f32>>,
    pub second: Vec<Vec<f32>>,
}

impl Optimizer {
    pub fn new(config: &OptimizerConfig, parameters: usize) -> Self {
        let adam = AdamWConfig::new()
            .with_beta_1(config.betas[0])
            .with_beta_2(config.betas[1])
            .with_epsilon(config.epsilon)
            .with_weight_decay(config.weight_decay)
            .build();
        Self { adam, states: (0..parameters).map(|_| None).collect() }
    }

    /// Goes on from saved moments; none yet when no update was made.
    pub fn restore(&mut self, moments: Moments, device: &Device) {
        if moments.updates == 0 {
            self.states.fill_with(|| None);
            return;
        }
        let tensor = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [count]), device)
        };
        for ((state, first), second) in self.states.iter_mut().zip(moments.first).zip(moments.second) {
            *state = Some(AdamWState::new(AdaptiveMomentumState {
                time: moments.updates as usize,
                moment_1: tensor(first),
                moment_2: tensor(second),
                max_moment_2: None,
            }));
        }
    }

    pub fn moments(&self) -> Moments {
        let mut moments = Moments::default();
        for state in self.states.iter().flatten() {
            moments.updates = state.momentum.time as u64;
            moments.first.push(host(state.momentum.moment_1.clone()));
            moments.second.push(host(state.momentum.moment_2.clone()));
        }
        moments
    }

    /// One update of every parameter, and of their average by `decay`. `gradients` are in the order of the weights.
    /// The parameters are shared out among `threads`, which changes no result.
    pub fn step(
        &mut self,
        learning_rate: f64,
        decay: f64,
        weights: &mut Weights,
        average: &mut Weights,
        gradients: Vec<Tensor<1>>,
        threads: usize,
    ) {
        struct Item<'a> {
            state: &'a mut Option<AdamWState<1>>,
            weight: Tensor<1>,
            average: Tensor<1>,
            gradient: Option<Tensor<1>>,
        }
        let mut items: Vec<Item> = self
            .states
            .iter_mut()
            .zip(weights.tensors())
            .zip(average.tensors())
            .zip(gradients)
            .map(|(((state, weight), average), gradient)| Item {
                state,
                weight: weight.clone(),
                average: average.clone(),
                gradient: Some(gradient),
            })
            .collect();
        let adam = &self.adam;
        let update = |item: &mut Item| {
            let Some(gradient) = item.gradient.take() else { return };
            let (weight, state) = adam.step(learning_rate, item.weight.clone(), gradient, item.state.take());
            item.average = item.average.clone() * decay + weight.clone() * (1.0 - decay);
            (item.weight, *item.state) = (weight, state);
        };
        let share = items.len().div_ceil(threads.max(1));
        std::thread::scope(|scope| {
            let update = &update;
            for part in items.chunks_mut(share) {
                scope.spawn(move || part.iter_mut().for_each(update));
            }
        });
        let (updated, averaged) = items.into_iter().map(|item| (item.weight, item.average)).unzip();
        *weights = weights.with(updated);
        *average = average.with(averaged);
    }
}

/// The learning rate of update `step` of `steps`: linear from 0 over the warm-up, then half a cosine to 0
/// (`get_cosine_schedule_with_warmup` of `diffusers`, which rises again past its end; this one stays at 0).
pub(crate) fn learning_rate(config: &OptimizerConfig, step: u64, steps: u64) -> f64 {
    let warmup = config.warmup_steps;
    if step < warmup {
        return config.learning_rate * step as f64 / warmup as f64;
    }
    let progress = (step - warmup) as f64 / (steps.saturating_sub(warmup)).max(1) as f64;
    config.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
}

/// The decay of the average after update `step` (counted from 0): 0 for the first two, as in the reference.
pub(crate) fn ema_decay(config: &EmaConfig, step: u64) -> f64 {
    if step < 2 {
        return 0.0;
    }
    (1.0 - (step as f64).powf(-config.power)).clamp(0.0, config.max_decay)
}
