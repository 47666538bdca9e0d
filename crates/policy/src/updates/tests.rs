//! The ways of training against each other. Agreement with PyTorch is among the golden tests.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::config::{EmaConfig, OptimizerConfig};
use crate::kernels::Kernels;
use crate::schedule::{BetaCurve, ScheduleConfig};
use crate::{NoiseSchedule, Objective, UnetConfig};

const ACTION_DIM: usize = 3;
const CONDITION_DIM: usize = 7;

fn training(shards: usize) -> TrainingConfig {
    let optimizer = OptimizerConfig {
        learning_rate: 1e-3,
        betas: [0.9, 0.99],
        epsilon: 1e-8,
        weight_decay: 1e-3,
        warmup_steps: 0,
    };
    TrainingConfig {
        steps: 3,
        batch_size: 12,
        shards,
        optimizer,
        ema: EmaConfig { power: 0.75, max_decay: 0.9 },
        validate_every: 1,
        checkpoint_every: 1,
        keep: 1,
    }
}

fn network(config: UnetConfig, predicted: usize) -> HostNetwork {
    config.check(predicted).unwrap();
    let (_, list) = config.build(Kernels::Stock, ACTION_DIM, CONDITION_DIM);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // Norms too begin with values of their own here, so that their gradients are not those of 1 and 0.
    let around = |value: f32, rng: &mut ChaCha8Rng| value + rng.random_range(-0.2..0.2);
    let values = list.initialise(&mut rng);
    let values = values.into_iter().map(|values| values.into_iter().map(|v| around(v, &mut rng)).collect());
    let values = values.collect();
    HostNetwork { config, predicted, action_dim: ACTION_DIM, condition_dim: CONDITION_DIM, list, values }
}

fn unet(down_dims: &[usize], kernel_size: usize, n_groups: usize, cond_predict_scale: bool) -> UnetConfig {
    let down_dims = down_dims.to_vec();
    UnetConfig { down_dims, diffusion_step_embed_dim: 12, kernel_size, n_groups, cond_predict_scale }
}

fn batch(predicted: usize, seed: u64) -> Batch {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let size = training(1).batch_size;
    let mut numbers = |count: usize| (0..count).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
    let (condition, action) = (numbers(size * CONDITION_DIM), numbers(size * predicted * ACTION_DIM));
    let noise = numbers(action.len());
    let timesteps = (0..size).map(|index| index * 8).collect();
    let curve = BetaCurve::SquaredcosCapV2;
    let schedule: NoiseSchedule =
        ScheduleConfig { curve, train_steps: 100, beta_start: 1e-4, beta_end: 0.02 }.build().unwrap();
    Batch::from_parts(ACTION_DIM, condition, action, &noise, timesteps, (&schedule, Objective::Epsilon))
}

fn devices(count: usize) -> TrainDevices {
    TrainDevices { device: DeviceChoice::Cpu, count }
}

/// The same, of whose samples 0, 1, 2, ... rows stay clean.
fn batch_with_prefixes(predicted: usize, seed: u64) -> Batch {
    let batch = batch(predicted, seed);
    let kept = (0..batch.len()).map(|sample| 1..1 + sample % (predicted - 1)).collect();
    batch.keep(kept)
}

#[test]
fn gradients_agree_with_burn_in_networks_of_any_shape() {
    for (config, predicted, prefixes) in [
        (unet(&[16, 32, 64], 5, 8, true), 16, false),
        (unet(&[8, 24], 3, 4, false), 6, false),
        (unet(&[40], 1, 2, true), 5, false),
        (unet(&[6, 6, 12], 5, 3, true), 4, false),
        (unet(&[16, 32, 64], 5, 8, true), 16, true),
        (unet(&[8, 24], 3, 4, false), 6, true),
    ] {
        let network = network(config.clone(), predicted);
        let batch = if prefixes { batch_with_prefixes(predicted, 2) } else { batch(predicted, 2) };
        let graph = GraphUpdates::new(network.clone(), &training(2), devices(1)).unwrap();
        let ours = CpuUpdates::new(network.clone(), &training(2));
        let [graph, ours] = [Box::new(graph) as Box<dyn Updates>, Box::new(ours)].map(|mut updates| {
            updates.step(&batch, 1e-3, 0.5).unwrap();
            let validated = updates.validate(&batch).unwrap();
            (updates.losses(true).unwrap()[0], validated, updates.learned().unwrap())
        });
        assert!((ours.0 - graph.0).abs() < 1e-5 * graph.0, "{config:?}: {} and {}", ours.0, graph.0);
        assert!((ours.1 - graph.1).abs() < 1e-3 * graph.1, "{config:?}: {} and {}", ours.1, graph.1);
        // After a single update, the first moment is the gradient times `1 - beta`.
        let gradients = ours.2.moments.first.iter().zip(&graph.2.moments.first);
        for (parameter, (ours, graph)) in network.list.iter().zip(gradients) {
            let largest = graph.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            for (is, want) in ours.iter().zip(graph) {
                let bound = 1e-4 * largest + 1e-7;
                assert!((is - want).abs() < bound, "{config:?} {}: {is}, not {want}", parameter.name);
            }
        }
    }
}

#[test]
fn nothing_is_learned_of_what_stays_clean() {
    let network = network(unet(&[8, 16], 3, 4, true), 8);
    let learned = |batch: &Batch, ours: bool| {
        let mut updates: Box<dyn Updates> = match ours {
            true => Box::new(CpuUpdates::new(network.clone(), &training(2))),
            false => Box::new(GraphUpdates::new(network.clone(), &training(2), devices(1)).unwrap()),
        };
        updates.step(batch, 1e-3, 0.5).unwrap();
        let validated = updates.validate(batch).unwrap();
        (updates.losses(true).unwrap(), validated, updates.learned().unwrap().weights)
    };
    for ours in [true, false] {
        let (plain, batch) = (batch(8, 1), batch_with_prefixes(8, 1));
        let kept: usize = (0..batch.len()).map(|sample| batch.kept(sample).len()).sum();
        assert!(kept > 0 && batch.learned() + kept == batch.target.len());
        let mut other = batch_with_prefixes(8, 1);
        let width = other.target.len() / other.len();
        for sample in 0..other.len() {
            let kept = other.kept(sample);
            for number in kept {
                let at = sample * width + number;
                assert_eq!(batch.noisy[at], batch.action[at]);
                other.target[at] = 100.0;
            }
        }
        assert!(learned(&batch, ours) == learned(&other, ours));
        assert!(learned(&batch, ours) != learned(&plain, ours));
        // Where none is kept it is the same training, to the bit.
        let none = plain.len();
        assert!(learned(&self::batch(8, 1).keep(vec![1..1; none]), true) == learned(&plain, true));
    }
}

#[test]
fn several_devices_learn_what_one_does() {
    let network = network(unet(&[8, 16], 3, 4, true), 8);
    let learned = [1, 2, 4].map(|count| {
        let mut updates = open(network.clone(), &training(4), devices(count)).unwrap();
        if count == 1 {
            // The way that several devices are driven, with one.
            updates = Box::new(GraphUpdates::new(network.clone(), &training(4), devices(1)).unwrap());
        }
        (0..3).for_each(|seed| updates.step(&batch_with_prefixes(8, seed), 1e-3, 0.5).unwrap());
        let learned = updates.learned().unwrap();
        (updates.losses(true).unwrap(), learned.weights, learned.average, learned.moments.second)
    });
    assert!(learned[0] == learned[1] && learned[0] == learned[2]);
    let refused = open(network, &training(4), devices(3)).err().unwrap().to_string();
    assert!(refused.contains("training.shards") && refused.contains('3'), "{refused}");
}

#[test]
fn what_was_learned_can_be_taken_up_again_to_the_bit() {
    let network = network(unet(&[8, 16], 3, 4, true), 8);
    let mut whole = CpuUpdates::new(network.clone(), &training(2));
    let mut parts = CpuUpdates::new(network.clone(), &training(2));
    for seed in 0..4 {
        whole.step(&batch(8, seed), 1e-3, 0.5).unwrap();
        parts.step(&batch(8, seed), 1e-3, 0.5).unwrap();
        let learned = parts.learned().unwrap();
        parts = CpuUpdates::new(network.clone(), &training(2));
        parts.restore(learned).unwrap();
    }
    let [whole, parts] = [whole, parts].map(|mut updates| updates.learned().unwrap());
    assert_eq!(whole.weights, parts.weights);
    assert_eq!(whole.average, parts.average);
    assert_ne!(whole.weights, network.values);
}
