//! Where parameters lie on the device, and in which order their numbers: a convolution's weights as `[taps, outputs,
//! inputs]`, which both the product forward and the one backward read along whole rows.

use std::collections::HashMap;

use crate::parameters::ParameterList;

/// Numbers of a row are copied 8 at a time.
pub(super) fn padded(count: usize) -> usize {
    count.next_multiple_of(8)
}

/// One parameter's place in a flat array of all of them; sizes are padded, and what pads is 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// In the parameter list.
    pub id: usize,
    /// Of the first number.
    pub index: usize,
    pub taps: usize,
    pub outputs: usize,
    pub inputs: usize,
    /// Inputs before outputs in the list's shape.
    transposed: bool,
}

impl Place {
    /// Numbers, padding included.
    pub fn len(&self) -> usize {
        self.taps * self.outputs * self.inputs
    }
}

/// Places of all parameters.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// In the order of the list.
    places: Vec<Place>,
    shapes: Vec<Vec<usize>>,
    names: HashMap<String, usize>,
    /// FiLM encoders, in the order in which their outputs lie side by side.
    films: Vec<String>,
    /// Numbers in all.
    pub len: usize,
}

impl Layout {
    pub fn new(list: &ParameterList) -> Self {
        let mut places: Vec<Place> =
            list.iter().enumerate().map(|(id, p)| place(id, &p.name, &p.shape)).collect();
        let names: HashMap<_, _> = list.iter().enumerate().map(|(id, p)| (p.name.clone(), id)).collect();
        let films: Vec<String> = list
            .iter()
            .filter_map(|p| p.name.strip_suffix(".cond_encoder.1.weight").map(str::to_owned))
            .collect();
        let of_films =
            |part: &str| films.iter().map(|film| names[&format!("{film}.cond_encoder.1.{part}")]).collect();
        let (weights, biases): (Vec<usize>, Vec<usize>) = (of_films("weight"), of_films("bias"));
        // The encoders are one product, so they lie in one piece.
        let first = [weights, biases].concat();
        let rest = (0..places.len()).filter(|id| !first.contains(id));
        let mut len = 0;
        for id in first.iter().copied().chain(rest) {
            places[id].index = len;
            len += places[id].len();
        }
        let shapes = list.iter().map(|p| p.shape.clone()).collect();
        Self { places, shapes, names, films, len }
    }

    /// # Panics
    /// When the network has no such parameter.
    pub fn place(&self, name: &str) -> Place {
        self.places[*self.names.get(name).unwrap_or_else(|| panic!("the network has no parameter `{name}`"))]
    }

    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(&format!("{name}.weight"))
    }

    /// Blocks with FiLM.
    pub fn films(&self) -> &[String] {
        &self.films
    }

    /// First column and columns of a block's FiLM among those of all blocks.
    pub fn film(&self, block: &str) -> (usize, usize) {
        let columns = |film: &String| self.place(&format!("{film}.cond_encoder.1.weight")).outputs;
        let before = self.films.iter().take_while(|film| *film != block).map(columns).sum();
        (before, columns(&block.to_owned()))
    }

    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The flat array of values in the order of the list.
    pub fn pack(&self, values: &[Vec<f32>]) -> Vec<f32> {
        let mut flat = vec![0.0; self.len];
        for ((place, shape), values) in self.places.iter().zip(&self.shapes).zip(values) {
            each(place, shape, |packed, listed| flat[packed] = values[listed]);
        }
        flat
    }

    /// And back.
    pub fn unpack(&self, flat: &[f32]) -> Vec<Vec<f32>> {
        let unpack = |(place, shape): (&Place, &Vec<usize>)| {
            let mut values = vec![0.0; shape.iter().product()];
            each(place, shape, |packed, listed| values[listed] = flat[packed]);
            values
        };
        self.places.iter().zip(&self.shapes).map(unpack).collect()
    }
}

fn place(id: usize, name: &str, shape: &[usize]) -> Place {
    let transposed = name.starts_with("up_modules.") && name.ends_with(".2.conv.weight");
    let [outputs, inputs, taps] = match *shape {
        [inputs, outputs, taps] if transposed => [outputs, inputs, taps],
        [outputs, inputs, taps] => [outputs, inputs, taps],
        [outputs, inputs] => [outputs, inputs, 1],
        _ => [shape.iter().product(), 1, 1],
    };
    let inputs = if shape.len() == 1 { 1 } else { padded(inputs) };
    Place { id, index: 0, taps, outputs: padded(outputs), inputs, transposed }
}

/// Calls with the index in the flat array and that in the list's order.
fn each(place: &Place, shape: &[usize], mut visit: impl FnMut(usize, usize)) {
    let [outputs, inputs, taps] = match *shape {
        [a, b, taps] => [a, b, taps],
        [outputs, inputs] => [outputs, inputs, 1],
        _ => [shape.iter().product(), 1, 1],
    };
    for a in 0..outputs {
        for b in 0..inputs {
            let (output, input) = if place.transposed { (b, a) } else { (a, b) };
            for tap in 0..taps {
                let packed = place.index + (tap * place.outputs + output) * place.inputs + input;
                visit(packed, (a * inputs + b) * taps + tap);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnetConfig;
    use crate::kernels::Kernels;

    #[test]
    fn packing_loses_nothing_and_keeps_tensors_apart() {
        let config = UnetConfig {
            down_dims: vec![32, 64],
            diffusion_step_embed_dim: 16,
            kernel_size: 5,
            n_groups: 8,
            cond_predict_scale: true,
        };
        let (_, list) = config.build(Kernels::Cpu, 2, 10);
        let layout = Layout::new(&list);
        let mut next = 0.0;
        let mut count = |p: &crate::parameters::Parameter| {
            let values: Vec<f32> = (0..p.shape.iter().product()).map(|i| next + i as f32 + 1.0).collect();
            next += values.len() as f32;
            values
        };
        let values: Vec<_> = list.iter().map(&mut count).collect();
        let flat = layout.pack(&values);
        assert_eq!(layout.unpack(&flat), values);
        let mut kept: Vec<f32> = flat.into_iter().filter(|value| *value != 0.0).collect();
        kept.sort_by(f32::total_cmp);
        assert_eq!(kept, (1..=list.count()).map(|i| i as f32).collect::<Vec<_>>());
    }
}
