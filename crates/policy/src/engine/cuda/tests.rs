//! The kernel against the graph, where there is a GPU.

mod layers;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::engine::cpu::reference;
use crate::engine::{CLEAN, GraphEngine, Kept};
use crate::{BetaCurve, DeviceChoice, Objective, SamplerConfig, ScheduleConfig, UnetConfig};

pub(super) fn network(down_dims: &[usize], action_dim: usize, cond_predict_scale: bool) -> HostNetwork {
    let config = UnetConfig {
        down_dims: down_dims.to_vec(),
        diffusion_step_embed_dim: 32,
        kernel_size: 5,
        n_groups: 8,
        cond_predict_scale,
    };
    let (predicted, condition_dim) = (16, 10);
    let (_, list) = config.build(crate::kernels::Kernels::Stock, action_dim, condition_dim);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut values = list.initialise(&mut rng);
    // Norms that do something, so that a swapped or forgotten one is seen.
    for (parameter, values) in list.iter().zip(&mut values) {
        if parameter.shape.len() == 1 {
            values.iter_mut().for_each(|value| *value += rng.random_range(-0.3..0.3));
        }
    }
    HostNetwork { config, predicted, action_dim, condition_dim, list, values }
}

fn steps(sampler: SamplerConfig) -> Vec<SamplerStep> {
    let curve = BetaCurve::SquaredcosCapV2;
    let schedule = ScheduleConfig { curve, train_steps: 100, beta_start: 1e-4, beta_end: 0.02 };
    sampler.steps_of(&schedule.build().unwrap(), Objective::Epsilon)
}

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.5..1.5)).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn on_gpu(network: &HostNetwork, precision: Precision) -> Option<CudaEngine> {
    match CudaEngine::new(network, precision) {
        Ok(engine) => Some(engine),
        Err(failure) => {
            eprintln!("SKIPPED: {failure}");
            None
        }
    }
}

/// For several samplers and batches, by one launch or by those of large batches.
pub(super) fn plans_as_the_graph_does(
    network: &HostNetwork,
    engine: &mut dyn PlanEngine,
    samplers: &[SamplerConfig],
    batches: &[usize],
) {
    let (precision, largest) = (engine.precision(), engine.largest_batch());
    // Untrained networks far from the data: what trained ones are held to is room enough.
    let bound = if precision == Precision::F32 { 1e-4 } else { precision.tolerance() };
    let mut graph = GraphEngine::new(network.clone(), DeviceChoice::Cpu).unwrap();
    for &sampler in samplers {
        let steps = steps(sampler);
        engine.set_steps(&steps).unwrap();
        graph.set_steps(&steps).unwrap();
        for &batch in batches.iter().filter(|batch| **batch <= largest) {
            let sample = batch * 16 * network.action_dim;
            let (conditions, noise) = (numbers(4, batch * 10), numbers(5, draws(&steps) * sample));
            let (mut is, mut again, mut want) = (vec![9.0; sample], vec![8.0; sample], vec![0.0; sample]);
            engine.plan(Asked::new(&conditions, &noise), &mut is).unwrap();
            engine.plan(Asked::new(&conditions, &noise), &mut again).unwrap();
            graph.plan(Asked::new(&conditions, &noise), &mut want).unwrap();
            let error = largest_difference(&is, &want);
            let dims = &network.config.down_dims;
            eprintln!("{dims:?} {precision:?} {sampler:?} batch {batch}: largest error {error:.2e}");
            assert!(error < bound, "{dims:?} {precision:?} {sampler:?} batch {batch}: {error}");
            assert_eq!(is, again, "a plan made twice differs");
        }
    }
}

/// Clean by the first sampler, and as noisy as each step has it by the second.
pub(super) fn keeps_rows_as_the_graph_does(
    network: &HostNetwork,
    engine: &mut dyn PlanEngine,
    samplers: [SamplerConfig; 2],
    batches: &[usize],
) {
    let (precision, largest) = (engine.precision(), engine.largest_batch());
    let bound = if precision == Precision::F32 { 1e-4 } else { precision.tolerance() };
    let mut graph = GraphEngine::new(network.clone(), DeviceChoice::Cpu).unwrap();
    for (sampler, clean) in samplers.into_iter().zip([true, false]) {
        let mut steps = steps(sampler);
        if clean {
            steps.iter_mut().for_each(|step| step.kept = CLEAN);
        }
        engine.set_steps(&steps).unwrap();
        graph.set_steps(&steps).unwrap();
        for &batch in batches.iter().filter(|batch| **batch <= largest) {
            let sample = batch * 32;
            let (conditions, noise) = (numbers(4, batch * 10), numbers(5, draws(&steps) * sample));
            let clean = numbers(6, sample);
            // From none of some to all of others.
            let rows: Vec<_> = (0..batch).map(|b| b % 3..b % 3 + (5 * b + 4) % 14).collect();
            let asked =
                Asked { kept: Kept { rows: &rows, clean: &clean }, ..Asked::new(&conditions, &noise) };
            let [mut is, mut free, mut again, mut want] = [0.0; 4].map(|zero| vec![zero; sample]);
            engine.plan(Asked::new(&conditions, &noise), &mut free).unwrap();
            engine.plan(asked, &mut is).unwrap();
            graph.plan(asked, &mut want).unwrap();
            let error = largest_difference(&is, &want);
            eprintln!("{precision:?} {sampler:?} batch {batch}, rows kept: largest error {error:.2e}");
            assert!(error < bound, "{precision:?} {sampler:?} batch {batch}: {error}");
            for numbers in asked.kept.numbers(2) {
                assert_eq!(is[numbers.clone()], clean[numbers]);
            }
            // What was kept is forgotten.
            engine.plan(Asked::new(&conditions, &noise), &mut again).unwrap();
            assert_eq!(again, free);
        }
    }
}

#[test]
fn the_kernel_plans_as_the_graph_does() {
    for (dims, action_dim, scale) in [
        (&[16, 32, 64][..], 2, true),
        (&[64, 128, 256], 2, true),
        (&[64, 128], 7, false),
        (&[256, 512, 1024], 2, true),
    ] {
        let network = network(dims, action_dim, scale);
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let Some(mut engine) = on_gpu(&network, precision) else { return };
            let samplers = [SamplerConfig::ddim(1), SamplerConfig::ddim(10), SamplerConfig::ddpm(5)];
            plans_as_the_graph_does(&network, &mut engine, &samplers, &[1, 2, 7, 64]);
        }
    }
}

#[test]
fn the_kernel_keeps_rows_as_the_graph_does() {
    let network = network(&[64, 128, 256], 2, true);
    for precision in [Precision::F32, Precision::Bf16] {
        let Some(mut engine) = on_gpu(&network, precision) else { return };
        let samplers = [SamplerConfig::ddim(10), SamplerConfig::ddpm(5)];
        keeps_rows_as_the_graph_does(&network, &mut engine, samplers, &[1, 2, 7, 64]);
    }
}

/// One pass of the network: a step that returns its output.
fn output_at(timestep: usize) -> SamplerStep {
    SamplerStep {
        timestep,
        clean: [0.0; 2],
        of_clean: 0.0,
        of_x: 0.0,
        of_output: 1.0,
        deviation: 0.0,
        kept: [0.0; 2],
    }
}

#[test]
fn one_pass_is_that_of_double_precision() {
    for dims in [&[64, 128, 256][..], &[256, 512, 1024]] {
        let network = network(dims, 2, true);
        // Rounding a weight, uniform within its row, to bf16 or to 8 bits moves it by 0.1 or by 0.4 % of its size, and rounding
        // what it is multiplied with by 0.1 %, thirty layers in a row.
        for (precision, batch, bound) in [
            (Precision::F32, 1, 1e-5),
            (Precision::Bf16, 1, 1e-2),
            (Precision::Bf16, 16, 2e-2),
            (Precision::Int8, 1, 2e-2),
            (Precision::Int8, 2, 2e-2),
        ] {
            let Some(mut engine) = on_gpu(&network, precision) else { return };
            if batch > engine.largest_batch() {
                continue;
            }
            engine.set_steps(&[output_at(37)]).unwrap();
            let (conditions, noise) = (numbers(4, batch * 10), numbers(5, batch * 32));
            let mut is = vec![0.0; batch * 32];
            engine.plan(Asked::new(&conditions, &noise), &mut is).unwrap();
            let samples = is.chunks_exact(32).zip(noise.chunks_exact(32)).zip(conditions.chunks_exact(10));
            let (mut errors, mut squares) = (0.0, 0.0);
            for ((is, noise), condition) in samples {
                let noise: Vec<f64> = noise.iter().map(|value| f64::from(*value)).collect();
                for (is, want) in is.iter().zip(reference::forward(&network, &noise, 37, condition)) {
                    errors += (f64::from(*is) - want).powi(2);
                    squares += want.powi(2);
                }
            }
            let error = (errors / squares).sqrt();
            eprintln!("{dims:?} {precision:?} batch {batch}: relative error {error:.1e}");
            assert!(error < bound, "{dims:?} {precision:?} batch {batch}: {error}");
        }
    }
}

/// `cargo test --release --features cuda-kernels -- --ignored --nocapture how_long_plans_take`
#[test]
#[ignore = "measures"]
fn how_long_plans_take() {
    for dims in [&[64, 128, 256][..], &[256, 512, 1024]] {
        let network = network(dims, 2, true);
        for precision in [Precision::Bf16, Precision::Int8, Precision::F32] {
            let Some(mut engine) = on_gpu(&network, precision) else { return };
            engine.set_steps(&steps(SamplerConfig::ddim(10))).unwrap();
            for batch in [1, 2, 8, 32, 256] {
                if batch > engine.largest_batch() {
                    continue;
                }
                let (conditions, noise) = (numbers(4, batch * 10), numbers(5, batch * 32));
                let mut samples = vec![0.0; batch * 32];
                let mut times: Vec<f64> = (0..300)
                    .map(|_| {
                        let begun = std::time::Instant::now();
                        engine.plan(Asked::new(&conditions, &noise), &mut samples).unwrap();
                        begun.elapsed().as_secs_f64() * 1e3
                    })
                    .skip(50)
                    .collect();
                times.sort_by(f64::total_cmp);
                let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize];
                eprintln!(
                    "{dims:?} {precision:?} batch {batch}: median {:.3} ms, p99 {:.3} ms, least {:.3} ms",
                    at(0.5),
                    at(0.99),
                    times[0]
                );
            }
        }
    }
}
