//! The engine against the network in f64, in every precision, on every set of instructions that this machine has.

mod speed;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::machine::Arithmetic;
use super::*;
use crate::checkpoint::parse_tensors;
use crate::engine::{GraphEngine, Kept};
use crate::kernels::Kernels;
use crate::sampling::noise;
use crate::{
    BetaCurve, DeviceChoice, DiffusionPolicy, Objective, PlanOptions, SamplerConfig, ScheduleConfig,
    UnetConfig,
};

/// A network with its first weights.
fn network(
    embed: usize,
    [predicted, action_dim, condition_dim]: [usize; 3],
    down_dims: &[usize],
    [kernel_size, n_groups]: [usize; 2],
    cond_predict_scale: bool,
) -> HostNetwork {
    let config = UnetConfig {
        down_dims: down_dims.to_vec(),
        diffusion_step_embed_dim: embed,
        kernel_size,
        n_groups,
        cond_predict_scale,
    };
    config.check(predicted).unwrap();
    let (_, list) = config.build(Kernels::Stock, action_dim, condition_dim);
    let values = list.initialise(&mut ChaCha8Rng::seed_from_u64(3));
    HostNetwork { config, predicted, action_dim, condition_dim, list, values }
}

/// Push-T's interface.
fn push_t(down_dims: &[usize]) -> HostNetwork {
    network(256, [16, 2, 36], down_dims, [5, 8], true)
}

/// Networks that use every way through the engine.
fn networks() -> Vec<HostNetwork> {
    vec![
        network(32, [16, 2, 36], &[16, 32, 64], [5, 8], true),
        network(32, [16, 2, 36], &[16, 32, 64], [5, 8], false),
        // Channels that fill no vector, an odd number of them, and lengths that fill no tile.
        network(32, [24, 3, 7], &[9, 15, 6], [5, 3], true),
        network(32, [12, 7, 5], &[20, 12], [7, 4], true),
        network(32, [20, 1, 0], &[5, 10, 20], [3, 5], true),
        // One resolution; two inputs as wide together as the output; down to a single step.
        network(32, [6, 2, 4], &[24], [9, 1], false),
        network(32, [8, 2, 4], &[32, 16, 16, 32], [1, 2], true),
        network(32, [64, 2, 4], &[16, 16], [5, 16], true),
    ]
}

fn steps(sampler: SamplerConfig) -> Vec<SamplerStep> {
    let curve = BetaCurve::SquaredcosCapV2;
    let schedule =
        ScheduleConfig { curve, train_steps: 100, beta_start: 1e-4, beta_end: 0.02 }.build().unwrap();
    sampler.steps_of(&schedule, Objective::Epsilon)
}

fn conditions(host: &HostNetwork, batch: usize) -> Vec<f32> {
    (0..batch * host.condition_dim).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// Plans for `batch` conditions, from the noise of seeds 0, 1, ...
fn plans(engine: &mut dyn PlanEngine, host: &HostNetwork, steps: &[SamplerStep], batch: usize) -> Vec<f32> {
    engine.set_steps(steps).unwrap();
    let numbers = host.predicted * host.action_dim;
    let draws = 1 + steps.iter().filter(|step| step.deviation > 0.0).count();
    let seeds: Vec<u64> = (0..batch as u64).collect();
    let mut samples = vec![0.0; batch * numbers];
    engine.plan(Asked::new(&conditions(host, batch), &noise(&seeds, draws, numbers)), &mut samples).unwrap();
    samples
}

/// The root of the mean squared error over that of the plan in f64.
fn relative_error(is: &[f32], want: &[f64]) -> f64 {
    assert_eq!(is.len(), want.len());
    let error: f64 = is.iter().zip(want).map(|(is, want)| (f64::from(*is) - want).powi(2)).sum();
    (error / want.iter().map(|want| want.powi(2)).sum::<f64>()).sqrt()
}

#[test]
fn every_network_plans_as_in_double_precision() {
    // Five steps without clipping, so that no error is cut off. One rounding is 6e-8, 2e-3 or 4e-3 of a number at most;
    // those of many weights mostly cancel, and what remains is a few roundings of the outcome.
    let sampler = SamplerConfig::Ddim {
        steps: 5,
        eta: 0.5,
        clip: false,
        spacing: crate::Spacing::Leading,
        renoise_clipped: false,
        hurried_steps: None,
    };
    let steps = steps(sampler);
    for (precision, bound) in [(Precision::F32, 2e-6), (Precision::Bf16, 1e-2), (Precision::Int8, 1e-2)] {
        for (index, host) in networks().iter().enumerate() {
            let numbers = host.predicted * host.action_dim;
            let draw = noise(&[0], 1 + steps.len(), numbers);
            let want = reference::plan(host, &steps, &conditions(host, 1), &draw);
            for machine in Machine::all(precision) {
                let mut engine = CpuEngine::on(host, precision, machine);
                let error = relative_error(&plans(&mut engine, host, &steps, 1), &want);
                println!("{precision:?} network {index} {:?}: {error:.1e}", machine.instructions);
                assert!(error < bound, "{precision:?}, network {index}, {machine:?}: {error}");
            }
        }
    }
}

#[test]
fn a_plan_is_the_same_in_every_batch_and_after_any_other() {
    let steps = steps(SamplerConfig::ddpm(3));
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        for machine in Machine::all(precision) {
            for host in networks() {
                let numbers = host.predicted * host.action_dim;
                let mut engine = CpuEngine::on(&host, precision, machine);
                let all = plans(&mut engine, &host, &steps, 7);
                for batch in [1, 2, 3, 4, 6] {
                    let mut other = engine.another().unwrap();
                    assert_eq!(
                        plans(&mut engine, &host, &steps, batch),
                        all[..batch * numbers],
                        "{machine:?}"
                    );
                    assert_eq!(
                        plans(other.as_mut(), &host, &steps, batch),
                        all[..batch * numbers],
                        "{machine:?}"
                    );
                }
            }
        }
    }
}

/// Rows of each of `batch` samples, from none to all; in values that differ from one another.
fn kept_rows(host: &HostNetwork, batch: usize) -> (Vec<Range<usize>>, Vec<f32>) {
    let rows =
        (0..batch).map(|sample| sample % 3..sample % 3 + (5 * sample) % (host.predicted - 2)).collect();
    let numbers = batch * host.predicted * host.action_dim;
    (rows, (0..numbers).map(|number| (number as f32 * 0.61).cos()).collect())
}

#[test]
fn kept_rows_come_back_as_they_were_in_any_batch_and_others_follow_them() {
    for (sampler, clean) in [(SamplerConfig::ddim(4), true), (SamplerConfig::ddpm(3), false)] {
        let mut steps = steps(sampler);
        if clean {
            steps.iter_mut().for_each(|step| step.kept = CLEAN);
        }
        for host in networks() {
            let mut engine = CpuEngine::new(&host, Precision::F32);
            engine.set_steps(&steps).unwrap();
            let mut graph = GraphEngine::new(host.clone(), DeviceChoice::Cpu).unwrap();
            graph.set_steps(&steps).unwrap();
            let (width, draws) = (host.predicted * host.action_dim, crate::sampler::draws(&steps));
            let plan = |engine: &mut dyn PlanEngine, samples: Range<usize>, keep: bool| {
                let seeds: Vec<u64> = samples.clone().map(|sample| sample as u64).collect();
                let conditions =
                    conditions(&host, samples.end)[samples.start * host.condition_dim..].to_vec();
                let (rows, clean) = kept_rows(&host, samples.end);
                let kept = Kept { rows: &rows, clean: &clean }.part(samples.clone());
                let kept = if keep { kept } else { Kept::default() };
                let noise = noise(&seeds, draws, width);
                let mut plans = vec![0.0; samples.len() * width];
                engine.plan(Asked { conditions: &conditions, noise: &noise, kept }, &mut plans).unwrap();
                plans
            };
            let together = plan(&mut engine, 0..7, true);
            let free = plan(&mut engine, 0..7, false);
            let (rows, clean) = kept_rows(&host, 7);
            for (sample, rows) in rows.iter().enumerate() {
                let own = sample * width..(sample + 1) * width;
                let kept = own.start + rows.start * host.action_dim..own.start + rows.end * host.action_dim;
                assert_eq!(together[kept.clone()], clean[kept.clone()]);
                // Of none kept: as if nothing had been said.
                assert_eq!(together[own.clone()] == free[own.clone()], kept.is_empty());
                assert_eq!(plan(&mut engine, sample..sample + 1, true), together[own]);
            }
            let reference = plan(&mut graph, 0..7, true);
            let apart = together.iter().zip(&reference).map(|(one, two)| (one - two).abs());
            let apart = apart.fold(0.0, f32::max);
            assert!(apart < 1e-4, "{apart}");
        }
    }
}

#[test]
fn a_plan_is_the_same_on_several_threads() {
    let steps = steps(SamplerConfig::ddpm(3));
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        for host in networks() {
            let mut engine = CpuEngine::new(&host, precision);
            let alone = plans(&mut engine, &host, &steps, 5);
            for threads in [2, 4, 1, 3] {
                engine.use_threads(threads);
                assert_eq!(plans(&mut engine, &host, &steps, 5), alone);
            }
        }
    }
}

#[test]
fn a_plan_allocates_nothing_once_one_as_large_was_made() {
    let host = push_t(&[16, 32, 64]);
    let steps = steps(SamplerConfig::ddpm(4));
    let numbers = host.predicted * host.action_dim;
    let (conditions, noise) = (conditions(&host, 5), noise(&[0, 1, 2, 3, 4], 1 + steps.len(), numbers));
    let mut samples = vec![0.0; 5 * numbers];
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let mut engine = CpuEngine::new(&host, precision);
        engine.set_steps(&steps).unwrap();
        let (rows, clean) = kept_rows(&host, 5);
        let mut allocations = |batch: usize| {
            let before = ALLOCATIONS.get();
            let samples = &mut samples[..batch * numbers];
            let noise = &noise[..5 * samples.len()];
            let kept = Kept { rows: &rows, clean: &clean }.part(0..batch);
            engine.plan(Asked { conditions: &conditions[..batch * 36], noise, kept }, samples).unwrap();
            ALLOCATIONS.get() - before
        };
        assert_ne!(allocations(5), 0, "the counter counts nothing");
        assert_eq!([5, 1, 3, 5].map(&mut allocations), [0; 4]);
    }
}

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does all that is asked.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn mish_agrees_with_double_precision_on_all_instructions() {
    struct All<'a>(&'a mut [f32]);
    impl machine::Work for All<'_> {
        #[inline(always)]
        fn run<A: Arithmetic>(self) {
            self.0.iter_mut().for_each(|value| *value = rows::mish::<A>(*value));
        }
    }
    let inputs: Vec<f32> = (-4000..=4000).map(|i| i as f32 * 0.01).chain([-80.0, 1e-20, 300.0]).collect();
    for machine in Machine::all(Precision::F32) {
        let mut outputs = inputs.clone();
        machine.run(All(&mut outputs));
        for (input, output) in inputs.iter().zip(&outputs) {
            let want = reference::mish(f64::from(*input));
            assert!(
                (f64::from(*output) - want).abs() <= 1e-6 * want.abs() + 1e-38,
                "{input}: {output}, not {want}"
            );
        }
        let mut odd = [f32::NAN, f32::INFINITY];
        machine.run(All(&mut odd));
        assert!(odd[0].is_nan() && odd[1] == f32::INFINITY);
    }
}

#[test]
fn shipped_checkpoints_plan_as_when_they_were_trained() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../checkpoints");
    for name in ["push_t", "push_t_human", "pick_place"] {
        let golden = std::fs::read(folder.join(name).join("golden.safetensors")).unwrap();
        let golden = parse_tensors(&golden).unwrap();
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let options = PlanOptions { device: DeviceChoice::Cpu, precision: Some(precision) };
            // Loading compares the golden plan; what follows says how close it is.
            let mut policy = DiffusionPolicy::load(&folder.join(name), options).unwrap();
            let seed = policy.manifest().trained.seed;
            let plan = policy.sample(&golden["condition"].1, &[seed]).unwrap();
            let errors = plan.iter().zip(&golden["prediction"].1).map(|(is, was)| (is - was).abs());
            println!("{name} {precision:?}: {:.1e} apart at most", errors.fold(0.0, f32::max));
        }
    }
}
