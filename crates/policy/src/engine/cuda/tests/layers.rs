//! The list of layers and their packed weights, on the CPU.

use super::super::film::FilmTables;
use super::super::layers::{Input, Kind, Layers, Shortcut, Tap};
use super::*;

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
        let convolve = |name: &str, taps: &dyn Fn(usize) -> Vec<Tap>| {
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
        let one = |_| vec![Tap { shift: 0, tap: 0 }];
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
