//! The list of layers against the graph, on the CPU; the kernel against the graph, where there is a GPU.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::film::FilmTables;
use super::layers::{Input, Kind, Layers, Shortcut};
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

/// One forward pass over the list of layers for one sample `[Tp, Da]`, in plain loops.
fn interpret(network: &HostNetwork, x: &[f32], film: &[f32]) -> Vec<f32> {
    let layers = Layers::new(&network.config, network.predicted, network.action_dim);
    let groups = network.config.n_groups;
    let mut inputs: Vec<Vec<f32>> = Vec::new();
    let mut outputs: Vec<(Vec<f32>, Vec<f32>)> = Vec::new();
    for layer in &layers.layers {
        let mut input = Vec::new();
        for given in &layer.inputs {
            match given {
                Input::Sample => {
                    let dim = network.action_dim;
                    input.extend((0..dim).flat_map(|d| x.iter().skip(d).step_by(dim)));
                }
                Input::Kept { layer } => input.extend(&inputs[*layer]),
                Input::Sums { layer: from, norm, film: encoder, shortcut } => {
                    let mut value = outputs[*from].0.clone();
                    let channels = layers.layers[*from].channels[1];
                    let length = value.len() / channels;
                    if let Some(norm) = norm {
                        let (gamma, beta) =
                            (network.get(&format!("{norm}.weight")), network.get(&format!("{norm}.bias")));
                        let size = channels / groups * length;
                        for (group, values) in value.chunks_exact_mut(size).enumerate() {
                            let mean = values.iter().sum::<f32>() / size as f32;
                            let variance =
                                values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / size as f32;
                            for (i, v) in values.iter_mut().enumerate() {
                                let c = group * channels / groups + i / length;
                                let y = (*v - mean) / (variance + 1e-5).sqrt() * gamma[c] + beta[c];
                                *v = y * (1.0 + y.exp()).ln().tanh();
                            }
                        }
                    }
                    if let Some(encoder) = encoder {
                        let offset = layers.films[*encoder].offset;
                        for (i, v) in value.iter_mut().enumerate() {
                            let c = i / length;
                            *v = *v * film[offset + c] + film[offset + channels + c];
                        }
                    }
                    let along = match shortcut {
                        None => None,
                        Some(Shortcut::Kept { layer }) => Some(&inputs[*layer]),
                        Some(Shortcut::Convolved { layer }) => Some(&outputs[*layer].1),
                    };
                    if let Some(along) = along {
                        value.iter_mut().zip(along).for_each(|(value, along)| *value += along);
                    }
                    input.extend(value);
                }
            }
        }
        let [from, to] = layer.channels;
        assert_eq!(input.len(), from * layer.length, "{}", layer.name);
        let convolve = |name: &str, taps: &dyn Fn(usize) -> Vec<super::layers::Tap>| {
            let (weight, bias) =
                (network.get(&format!("{name}.weight")), network.get(&format!("{name}.bias")));
            let kernel = weight.len() / (from * to);
            let (positions, parities) = (layer.positions(), layer.parities());
            let mut output = vec![0.0; to * positions * parities];
            for out in 0..to {
                for position in 0..positions * parities {
                    let mut sum = bias[out];
                    for tap in taps(position % parities) {
                        let at = (position / parities * layer.stride()) as i32 + tap.shift;
                        if !(0..layer.length as i32).contains(&at) {
                            continue;
                        }
                        for channel in 0..from {
                            let index = match layer.kind {
                                Kind::Up => (channel * to + out) * kernel + tap.tap,
                                _ => (out * from + channel) * kernel + tap.tap,
                            };
                            sum += weight[index] * input[channel * layer.length + at as usize];
                        }
                    }
                    output[out * positions * parities + position] = sum;
                }
            }
            output
        };
        let output = convolve(&layer.name, &|parity| layer.taps(parity));
        let one = |_| vec![super::layers::Tap { shift: 0, tap: 0 }];
        let along = layer.shortcut.as_ref().map_or(Vec::new(), |name| convolve(name, &one));
        inputs.push(input);
        outputs.push((output, along));
    }
    let last = &outputs[outputs.len() - 1].0;
    let (length, dim) = (network.predicted, network.action_dim);
    (0..length * dim).map(|i| last[i % dim * length + i / dim]).collect()
}

#[test]
fn the_list_of_layers_is_the_graph() {
    for scale in [false, true] {
        let network = network(&[16, 32, 64], 3, scale);
        let (x, condition) = (numbers(1, 48), numbers(2, 10));
        let layers = Layers::new(&network.config, 16, 3);
        let tables = FilmTables::new(&network, &layers);
        let mut film = tables.of_steps(&[37]);
        for (column, c) in tables.of_condition.chunks_exact(film.len()).zip(&condition) {
            let c = c * (1.0 + c.exp()).ln().tanh();
            film.iter_mut().zip(column).for_each(|(film, weight)| *film += weight * c);
        }
        let is = interpret(&network, &x, &film);
        let mut graph = GraphEngine::new(network, DeviceChoice::Cpu).unwrap();
        graph.set_steps(&[output_at(37)]).unwrap();
        let mut want = vec![0.0; 48];
        graph.plan(Asked::new(&condition, &x), &mut want).unwrap();
        let error = largest_difference(&is, &want);
        assert!(error < 2e-5, "{scale}: {error}");
    }
}

/// The weights that an item holds, without the zeros that fill it.
fn unpacked(item: &[u8], cut: pack::Cut, form: pack::Form) -> Vec<f64> {
    let (tiles, scales) = item.split_at(cut.tiles() * form.tile_bytes);
    let scales: Vec<f32> =
        scales.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let entries: Vec<&[u8]> = tiles.chunks_exact(cut.range / 16 * form.tile_bytes).collect();
    let mut weights = Vec::new();
    for (index, parts) in entries.chunks_exact(form.parts).enumerate() {
        for place in 0..cut.range * 16 {
            let row = place / 8 % 32 / 4 + place / 2 % 2 * 8;
            let bf16 = |part: &[u8]| u16::from_le_bytes([part[2 * place], part[2 * place + 1]]);
            weights.push(match form.precision {
                Precision::Int8 => {
                    let scale = scales[usize::from(index * form.parts >= cut.entries) * 16 + row];
                    f64::from(parts[0][place] as i8) * f64::from(scale)
                }
                // The parts of a weight are those that the first part of the input is multiplied with.
                _ => (0..form.parts)
                    .filter(|part| form.input_part(*part) == 0)
                    .map(|part| f64::from(f32::from_bits(u32::from(bf16(parts[part])) << 16)))
                    .sum(),
            });
        }
    }
    weights.retain(|weight| *weight != 0.0);
    weights
}

#[test]
fn packed_weights_are_the_weights() {
    let network = network(&[16, 32, 64], 3, true);
    let layers = Layers::new(&network.config, 16, 3);
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let form = pack::Form::of(precision);
        for layer in &layers.layers {
            let cut = pack::Cut::new(layer, &[], form.parts, 8).unwrap();
            let get = |name: &String| network.get(&format!("{name}.weight"));
            let given = [Some(get(&layer.name)), layer.shortcut.as_ref().map(get)];
            let mut is = Vec::new();
            for item in 0..cut.items() {
                let mut packed = Vec::new();
                pack::pack_item(layer, cut, item, given, form, &mut packed);
                assert_eq!(packed.len(), form.item_bytes(cut.tiles()));
                is.extend(unpacked(&packed, cut, form));
            }
            // Every weight is somewhere, and what fills the tiles is zero. A weight of 8 bits is at most half a step off.
            let want: Vec<f64> = given
                .iter()
                .flatten()
                .flat_map(|given| given.iter())
                .map(|weight| match precision {
                    Precision::Bf16 => {
                        f64::from(f32::from_bits(u32::from(crate::engine::bf16(*weight)) << 16))
                    }
                    _ => f64::from(*weight),
                })
                .collect();
            let sum = |weights: &[f64]| weights.iter().map(|weight| weight.abs()).sum::<f64>();
            let largest = want.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
            let bound = match precision {
                Precision::Int8 => want.len() as f64 * largest / 254.0,
                _ => 1e-6 * sum(&want),
            };
            let (is, want) = (sum(&is), sum(&want));
            assert!((is - want).abs() < bound, "{precision:?} {}: {is}, not {want}", layer.name);
        }
    }
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
