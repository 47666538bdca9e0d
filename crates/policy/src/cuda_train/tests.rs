//! Agreement with the gradient graph, which is the reference. bf16 has 8 significant bits, so a number that went through a
//! chain of layers is right to about a percent.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::CudaUpdates;
use crate::config::{EmaConfig, OptimizerConfig, TrainingConfig};
use crate::cuda::Gpu;
use crate::data::Batch;
use crate::engine::HostNetwork;
use crate::kernels::Kernels;
use crate::updates::{GraphUpdates, Updates};
use crate::{BetaCurve, DeviceChoice, Objective, ScheduleConfig, UnetConfig};

const ACTION_DIM: usize = 2;
const CONDITION_DIM: usize = 36;
const PREDICTED: usize = 16;

pub(super) fn network(down_dims: &[usize], embed: usize, cond_predict_scale: bool) -> HostNetwork {
    let config = UnetConfig {
        down_dims: down_dims.to_vec(),
        diffusion_step_embed_dim: embed,
        kernel_size: 5,
        n_groups: 8,
        cond_predict_scale,
    };
    let (_, list) = config.build(Kernels::Cpu, ACTION_DIM, CONDITION_DIM);
    let values = list.initialise(&mut ChaCha8Rng::seed_from_u64(1));
    HostNetwork {
        config,
        predicted: PREDICTED,
        action_dim: ACTION_DIM,
        condition_dim: CONDITION_DIM,
        list,
        values,
    }
}

/// Random numbers where a task's would be; a network can learn them by heart. Of odd seeds, with rows that stay clean.
pub(super) fn batch(size: usize, seed: u64) -> Batch {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |count: usize| (0..count).map(|_| rng.sample(StandardNormal)).collect::<Vec<f32>>();
    let numbers = size * PREDICTED * ACTION_DIM;
    let (condition, action, noise) = (draw(size * CONDITION_DIM), draw(numbers), draw(numbers));
    let curve = BetaCurve::SquaredcosCapV2;
    let schedule =
        ScheduleConfig { curve, train_steps: 100, beta_start: 1e-4, beta_end: 0.02 }.build().unwrap();
    let timesteps = (0..size).map(|_| rng.random_range(0..100)).collect();
    let batch =
        Batch::from_parts(ACTION_DIM, condition, action, &noise, timesteps, (&schedule, Objective::Epsilon));
    if seed.is_multiple_of(2) {
        batch
    } else {
        batch.keep((0..size).map(|sample| 1..1 + sample % 9).collect())
    }
}

pub(super) fn training(batch_size: usize) -> TrainingConfig {
    let optimizer = OptimizerConfig {
        learning_rate: 1e-3,
        betas: [0.95, 0.999],
        epsilon: 1e-8,
        weight_decay: 1e-2,
        warmup_steps: 0,
    };
    TrainingConfig {
        steps: 100,
        batch_size,
        shards: 1,
        optimizer,
        ema: EmaConfig { power: 0.75, max_decay: 0.99 },
        validate_every: 100,
        checkpoint_every: 100,
        keep: 1,
    }
}

fn distance(is: &[f32], want: &[f32]) -> (f64, f64) {
    let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
    let difference = is.iter().zip(want).map(|(is, want)| f64::from(*is) - f64::from(*want));
    (square(&mut { difference }), square(&mut want.iter().map(|want| f64::from(*want))))
}

/// The gradients of one step with the batch of seed `first`, which are the first moments after it; and what `more` steps on
/// from there give.
pub(super) fn agrees_with_the_graph(
    network: &HostNetwork,
    (size, first): (usize, u64),
    more: u64,
    ours: &mut dyn Updates,
) {
    let mut reference =
        GraphUpdates::new(network.clone(), &training(size), DeviceChoice::Cpu.into()).unwrap();
    let first_batch = batch(size, first);
    for updates in [&mut reference, &mut *ours] {
        updates.step(&first_batch, 1e-3, 0.5).unwrap();
    }
    let (is, want) = (ours.learned().unwrap(), reference.learned().unwrap());
    assert_eq!(is.moments.updates, 1);
    let (mut apart, mut all) = (0.0, 0.0);
    for (parameter, (is, want)) in network.list.iter().zip(is.moments.first.iter().zip(&want.moments.first)) {
        let (difference, norm) = distance(is, want);
        let error = (difference / norm).sqrt();
        println!("{error:.4} {}", parameter.name);
        assert!(error < 0.05, "the gradient of {} is {error:.3} of itself off", parameter.name);
        (apart, all) = (apart + difference, all + norm);
    }
    let error = (apart / all).sqrt();
    assert!(error < 0.025, "the gradient is {error:.4} of itself off");
    // AdamW's first step is the gradient's sign: where a gradient is about 0, so is the way it goes. The weights' own size
    // hides that; their decay would show.
    for (is, want) in [(&is.weights, &want.weights), (&is.average, &want.average)] {
        let (difference, norm) = is
            .iter()
            .zip(want)
            .map(|(is, want)| distance(is, want))
            .fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
        assert!(
            (difference / norm).sqrt() < 0.01,
            "weights are {:.5} of themselves off",
            (difference / norm).sqrt()
        );
    }
    for seed in first + 1..=first + more {
        for updates in [&mut reference, &mut *ours] {
            updates.step(&batch(size, seed), 1e-3, 0.5).unwrap();
        }
    }
    let (is, want) = (ours.losses(true).unwrap(), reference.losses(true).unwrap());
    assert_eq!(is.len() as u64, 1 + more);
    for (is, want) in is.iter().zip(&want) {
        assert!((is / want - 1.0).abs() < 0.01, "a loss of {is}, not {want}");
    }
    let unseen = batch(size + 3, 9);
    let (is, want) = (ours.validate(&unseen).unwrap(), reference.validate(&unseen).unwrap());
    assert!((is / want - 1.0).abs() < 0.01, "a validation loss of {is}, not {want}");
}

fn gpu() -> Option<Gpu> {
    let gpu = Gpu::open(0);
    if let Err(problem) = &gpu {
        eprintln!("SKIPPED: {problem}");
    }
    gpu.ok()
}

#[test]
fn a_gpu_learns_what_the_graph_learns() {
    let Some(gpu) = gpu() else { return };
    for (dims, size, scales) in
        [([64, 128, 256].as_slice(), 24, true), (&[32, 64, 128], 5, false), (&[256, 512], 70, true)]
    {
        let network = network(dims, 64, scales);
        let mut ours = CudaUpdates::new(gpu.clone(), &network, &training(size)).unwrap();
        agrees_with_the_graph(&network, (size, u64::from(size != 5)), 3, &mut ours);
    }
}

#[test]
fn a_gpu_learns_the_same_twice_and_goes_on_where_it_was_stopped() {
    let Some(gpu) = gpu() else { return };
    let network = network(&[64, 128], 32, true);
    let open = || CudaUpdates::new(gpu.clone(), &network, &training(40)).unwrap();
    let run = |updates: &mut CudaUpdates, steps: std::ops::Range<u64>| {
        steps.for_each(|step| updates.step(&batch(40, step), 1e-3, 0.9).unwrap());
    };
    let [mut straight, mut again, mut resumed] = [open(), open(), open()];
    run(&mut straight, 0..12);
    run(&mut again, 0..7);
    resumed.restore(again.learned().unwrap()).unwrap();
    run(&mut again, 7..12);
    run(&mut resumed, 7..12);
    let want = straight.learned().unwrap();
    for updates in [&mut again, &mut resumed] {
        let is = updates.learned().unwrap();
        assert!(is.weights == want.weights && is.average == want.average);
        assert!(is.moments.first == want.moments.first && is.moments.second == want.moments.second);
    }
    let losses = straight.losses(true).unwrap();
    assert_eq!(losses.len(), 12);
    assert_eq!(losses[7..], resumed.losses(true).unwrap());
}

#[test]
fn a_gpu_learns_one_batch_by_heart() {
    let Some(gpu) = gpu() else { return };
    let mut updates = CudaUpdates::new(gpu, &network(&[64, 128], 32, true), &training(32)).unwrap();
    let batch = batch(32, 0);
    (0..400).for_each(|_| updates.step(&batch, 1e-3, 0.9).unwrap());
    let losses = updates.losses(true).unwrap();
    assert!(losses[399] < 0.05 * losses[0], "from {} to {}", losses[0], losses[399]);
}
