//! The list of layers with addresses: what the kernel walks through at one batch size.

use super::layers::{Input, Kind, Layer, Layers, Shortcut};
use super::layout::{ENTRIES, Phase, Source, magic};
use super::machine::Machine;
use super::pack::{Cut, Form, pack_item};
use crate::PolicyFailure;
use crate::cuda::{Buffer, Place};
use crate::engine::HostNetwork;

/// Blocks of a cluster, and how many bytes of weights they stream fast enough for a barrier among few to be worth more than
/// the bandwidth of all.
const CLUSTER: usize = 16;
const CLUSTER_BYTES: usize = 24 << 20;

/// The network on the device, packed: the same for every batch size.
pub(super) struct Packed {
    pub layers: Layers,
    pub cuts: Vec<Cut>,
    pub form: Form,
    /// Blocks that run as one cluster; 0 where the whole device works on a plan.
    pub cluster: usize,
    weights: Buffer<u8>,
    /// Where each layer's weights begin.
    offsets: Vec<usize>,
    /// Biases, and group norms' scales and shifts, by parameter name.
    vectors: Vec<(String, Buffer<f32>)>,
    groups: usize,
    pub action_dim: usize,
    pub predicted: usize,
}

/// What the kernel needs beside the weights, for one batch size.
pub(super) struct Program {
    pub phases: Buffer<Phase>,
    pub count: usize,
    /// Where the last layer's partial sums are, and how many.
    pub output: u64,
    pub output_splits: usize,
    pub x_bytes: usize,
    /// Rounds of loads, of four numbers a thread, that the largest input of an item takes.
    pub rounds: usize,
    /// Partial sums and kept inputs, which the phases point into.
    _sums: Vec<[Buffer<f32>; 3]>,
}

impl Packed {
    /// # Errors
    /// When the network has a shape that the kernel does not take, or the device fails.
    pub fn new(machine: &Machine, network: &HostNetwork, form: Form) -> Result<Self, PolicyFailure> {
        let place = machine.place();
        let layers = Layers::new(&network.config, network.predicted, network.action_dim);
        let groups = network.config.n_groups;
        let bytes = network.list.count() * form.parts * form.tile_bytes / 256;
        let cluster = if machine.clusters(bytes <= CLUSTER_BYTES) { CLUSTER } else { 0 };
        let blocks = if cluster > 0 { cluster } else { machine.multiprocessors() };
        let cuts: Vec<Cut> = layers
            .layers
            .iter()
            .map(|layer| cut(layer, groups, form.parts, blocks))
            .collect::<Result<_, _>>()
            .map_err(PolicyFailure::Device)?;
        let packed = pack(network, &layers.layers, &cuts, form);
        let mut offsets = vec![0];
        for part in &packed {
            offsets.push(offsets[offsets.len() - 1] + part.len());
        }
        let mut weights = Buffer::zeroed(place, offsets[packed.len()])?;
        for (part, offset) in packed.iter().zip(&offsets) {
            weights.write_at(*offset, part)?;
        }
        let vector = |(parameter, values): (&crate::parameters::Parameter, &Vec<f32>)| {
            Ok((parameter.name.clone(), Buffer::from_host(place, values)?))
        };
        let vectors = network.list.iter().zip(&network.values);
        let vectors = vectors.filter(|(parameter, _)| parameter.shape.len() == 1).map(vector);
        Ok(Self {
            vectors: vectors.collect::<Result<_, PolicyFailure>>()?,
            layers,
            cuts,
            form,
            cluster,
            weights,
            offsets,
            groups,
            action_dim: network.action_dim,
            predicted: network.predicted,
        })
    }

    /// The address of a parameter of one dimension.
    pub fn vector(&self, name: &str) -> u64 {
        let found = self.vectors.iter().find(|(known, _)| known == name);
        found.map_or(0, |(_, buffer)| buffer.at(0))
    }

    /// Phases for `batch` samples at once.
    pub fn program(&self, place: Place<'_>, batch: usize) -> Result<Program, PolicyFailure> {
        let columns = |layer: &Layer| batch * layer.positions() * layer.parities();
        // For every layer: its sums, those of the shortcut beside it, and its kept input.
        let sums: Vec<[Buffer<f32>; 3]> = self
            .layers
            .layers
            .iter()
            .zip(&self.cuts)
            .map(|(layer, cut)| {
                let sums = cut.splits * layer.channels[1] * columns(layer);
                let shortcut = if layer.shortcut.is_some() { sums } else { 0 };
                let kept = layer.channels[0] * batch * layer.length;
                Ok([
                    Buffer::zeroed(place, sums)?,
                    Buffer::zeroed(place, shortcut)?,
                    Buffer::zeroed(place, kept)?,
                ])
            })
            .collect::<Result<_, PolicyFailure>>()?;
        let phases: Vec<Phase> = (0..self.cuts.len()).map(|index| self.phase(index, &sums)).collect();
        let last = self.cuts.len() - 1;
        let most = |bytes: &dyn Fn(&Layer, &Cut) -> usize| {
            self.layers.layers.iter().zip(&self.cuts).map(|(layer, cut)| bytes(layer, cut)).max().unwrap_or(0)
        };
        let x_parts = self.form.input_parts();
        Ok(Program {
            phases: Buffer::from_host(place, &phases)?,
            count: phases.len(),
            output: sums[last][0].at(0),
            output_splits: self.cuts[last].splits,
            x_bytes: most(&|layer, cut| x_parts * batch * (layer.length + 4) * (cut.range + 8) * 2)
                .next_multiple_of(16),
            rounds: most(&|layer, cut| batch * layer.length * cut.range).div_ceil(4 * super::CONSUMERS),
            _sums: sums,
        })
    }

    fn phase(&self, index: usize, sums: &[[Buffer<f32>; 3]]) -> Phase {
        let (layer, cut) = (&self.layers.layers[index], self.cuts[index]);
        let mut source = [Source::default(); 2];
        let mut first = 0;
        for (source, input) in source.iter_mut().zip(&layer.inputs) {
            *source = self.source(input, index, sums);
            source.first = first;
            first += source.channels;
        }
        let sampled = matches!(layer.inputs[0], Input::Sample);
        if layer.inputs.len() == 1 && !sampled {
            source[0].keep = sums[index][2].at(0);
        }
        let mut phase = Phase {
            source,
            weights: self.weights.at(self.offsets[index]),
            out: sums[index][0].at(0),
            out_shortcut: if layer.shortcut.is_some() { sums[index][1].at(0) } else { 0 },
            sources: layer.inputs.len() as i32,
            range: cut.range as i32,
            row_tiles: cut.row_tiles as i32,
            items: cut.items() as i32,
            tiles: cut.tiles() as i32,
            rows: layer.channels[1] as i32,
            length: layer.length as i32,
            positions: layer.positions() as i32,
            stride: layer.stride() as i32,
            parities: layer.parities() as i32,
            entries: cut.entries as i32,
            all_entries: cut.all_entries as i32,
            sampled: i32::from(sampled),
            by_quads: magic(layer.length / 4),
            by_group: magic(
                source.iter().map(|source| source.group as usize).max().unwrap_or(1) * layer.length / 4,
            ),
            by_positions: magic(layer.positions()),
            by_blocks: magic(cut.range / 16),
            by_row_tiles: magic(cut.row_tiles),
            shift: [[0; ENTRIES]; 2],
            part: [0; ENTRIES],
        };
        for entry in 0..cut.all_entries {
            phase.part[entry] = self.form.input_part(entry);
        }
        for parity in 0..layer.parities() {
            let taps = layer.taps(parity);
            for entry in 0..cut.entries {
                phase.shift[parity][entry] = taps[entry / self.form.parts].shift as i8;
            }
        }
        phase
    }

    fn source(&self, input: &Input, reader: usize, sums: &[[Buffer<f32>; 3]]) -> Source {
        match input {
            Input::Sample => Source { channels: self.action_dim as i32, ..Source::default() },
            Input::Kept { layer } => {
                let channels = self.layers.layers[*layer].channels[0] as i32;
                Source { partial: sums[*layer][2].at(0), channels, ..Source::default() }
            }
            Input::Sums { layer: index, norm, film, shortcut } => {
                debug_assert!(*index < reader);
                let layer = &self.layers.layers[*index];
                let mut source = Source {
                    partial: sums[*index][0].at(0),
                    bias: self.vector(&format!("{}.bias", layer.name)),
                    splits: self.cuts[*index].splits as i32,
                    channels: layer.channels[1] as i32,
                    ..Source::default()
                };
                if let Some(norm) = norm {
                    source.gamma = self.vector(&format!("{norm}.weight"));
                    source.beta = self.vector(&format!("{norm}.bias"));
                    source.group = (layer.channels[1] / self.groups) as i32;
                }
                if let Some(film) = film {
                    source.film = self.layers.films[*film].offset as i32;
                }
                match shortcut {
                    None => {}
                    Some(Shortcut::Kept { layer }) => {
                        source.shortcut = sums[*layer][2].at(0);
                        source.shortcut_splits = 1;
                    }
                    Some(Shortcut::Convolved { layer }) => {
                        let name = self.layers.layers[*layer].shortcut.as_deref().unwrap_or_default();
                        source.shortcut = sums[*layer][1].at(0);
                        source.shortcut_splits = self.cuts[*layer].splits as i32;
                        source.shortcut_bias = self.vector(&format!("{name}.bias"));
                    }
                }
                source
            }
        }
    }
}

/// How a layer is cut, if the kernel takes it.
fn cut(layer: &Layer, n_groups: usize, parts: usize, blocks: usize) -> Result<Cut, String> {
    let refuse =
        |what: String| Err(format!("the plan kernel does not take this network: `{}` {what}", layer.name));
    let [input, output] = layer.channels;
    let two = layer.inputs.len() == 2;
    let sampled = matches!(layer.inputs[0], Input::Sample);
    if sampled && (input > 16 || layer.shortcut.is_none()) {
        return refuse(format!("reads actions of {input} numbers, not 1 to 16 and other than its output"));
    }
    if two && layer.shortcut.is_none() {
        return refuse("has as many inputs as outputs".into());
    }
    if !sampled && !input.is_multiple_of(16) {
        return refuse(format!("has {input} input channels, not a multiple of 16"));
    }
    if !layer.length.is_multiple_of(4) {
        return refuse(format!("has {} time steps, not a multiple of 4", layer.length));
    }
    if layer.kind != (Kind::Same { taps: 1 }) && layer.taps(0).iter().any(|tap| tap.shift.abs() > 2) {
        return refuse("has more than 5 taps".into());
    }
    let mut first = 0;
    let mut groups = Vec::new();
    for given in &layer.inputs {
        let channels = if two { input / 2 } else { input };
        let group = match given {
            Input::Sums { norm: Some(_), .. } => channels / n_groups,
            _ => 1,
        };
        groups.push((group, first));
        first += channels;
    }
    let cut = Cut::new(layer, &groups, parts, blocks)?;
    if cut.all_entries > ENTRIES || output == 0 {
        return refuse("has too many taps".into());
    }
    Ok(cut)
}

/// Every layer's weights, its items one behind the other; layers are packed side by side on all cores.
fn pack(network: &HostNetwork, layers: &[Layer], cuts: &[Cut], form: Form) -> Vec<Vec<u8>> {
    let mut packed: Vec<Vec<u8>> = vec![Vec::new(); layers.len()];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some((layer, cut)) = layers.get(index).zip(cuts.get(index)) else { return done };
            let weight = network.get(&format!("{}.weight", layer.name));
            let shortcut = layer.shortcut.as_ref().map(|name| network.get(&format!("{name}.weight")));
            let mut weights = Vec::with_capacity(cut.items() * form.item_bytes(cut.tiles()));
            for item in 0..cut.items() {
                pack_item(layer, *cut, item, [Some(weight), shortcut], form, &mut weights);
            }
            done.push((index, weights));
        }
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (index, weights) in done {
                packed[index] = weights;
            }
        }
    });
    packed
}
