//! Named weights, kept apart from the network that uses them: what is optimised, averaged, saved and loaded.

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    Zero,
    One,
    /// Uniform within `1 / sqrt(fan_in)`: PyTorch's default for linear and convolution layers (He et al. 2015 with
    /// `a = sqrt(5)`).
    Uniform {
        fan_in: usize,
    },
}

/// A place in a [`ParameterList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParameterId(usize);

/// Name, shape and first value of one parameter.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub name: String,
    pub shape: Vec<usize>,
    initial: Initial,
}

/// Every parameter of a network, in the order it was built.
#[derive(Clone, Debug, Default)]
pub(crate) struct ParameterList(Vec<Parameter>);

impl ParameterList {
    pub fn add(&mut self, name: String, shape: &[usize], initial: Initial) -> ParameterId {
        self.0.push(Parameter { name, shape: shape.to_vec(), initial });
        ParameterId(self.0.len() - 1)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.0.iter()
    }

    /// How many numbers there are in all.
    pub fn count(&self) -> usize {
        self.0.iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum()
    }

    /// First values from a seeded generator.
    pub fn initialise(&self, rng: &mut impl Rng) -> Vec<Vec<f32>> {
        let value = |parameter: &Parameter| {
            let count: usize = parameter.shape.iter().product();
            match parameter.initial {
                Initial::Zero => vec![0.0; count],
                Initial::One => vec![1.0; count],
                Initial::Uniform { fan_in } => {
                    let bound = 1.0 / (fan_in as f32).sqrt();
                    (0..count).map(|_| rng.random_range(-bound..bound)).collect()
                }
            }
        };
        self.0.iter().map(value).collect()
    }
}

/// The values of a [`ParameterList`] on a device. Flat tensors beside their shapes: whatever treats all parameters
/// alike need not know ranks.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    tensors: Vec<Tensor<1>>,
    shapes: Vec<Vec<usize>>,
}

impl Weights {
    /// `values` in the order of `list`, each of its parameter's length.
    pub fn new(list: &ParameterList, values: Vec<Vec<f32>>, device: &Device) -> Self {
        let tensor = |values: Vec<f32>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), device)
        };
        Self {
            tensors: values.into_iter().map(tensor).collect(),
            shapes: list.iter().map(|parameter| parameter.shape.clone()).collect(),
        }
    }

    /// The same shapes with other tensors.
    pub fn with(&self, tensors: Vec<Tensor<1>>) -> Self {
        Self { tensors, shapes: self.shapes.clone() }
    }

    pub fn tensors(&self) -> &[Tensor<1>] {
        &self.tensors
    }

    /// The same values on another device.
    pub fn on(&self, device: &Device) -> Self {
        self.with(self.tensors.iter().map(|tensor| tensor.clone().to_device(device)).collect())
    }

    /// The parameter in its shape.
    ///
    /// # Panics
    /// When `D` is not its rank.
    pub fn get<const D: usize>(&self, id: ParameterId) -> Tensor<D> {
        let shape: [usize; D] =
            self.shapes[id.0].as_slice().try_into().expect("a layer asks for the rank it was built with");
        self.tensors[id.0].clone().reshape(shape)
    }

    /// All values on the host.
    pub fn to_host(&self) -> Vec<Vec<f32>> {
        self.tensors.iter().map(|tensor| host(tensor.clone())).collect()
    }

    /// The same values as leaves of a new gradient graph.
    pub fn tracked(&self) -> Self {
        let leaf = |tensor: &Tensor<1>| Tensor::from_inner(tensor.clone()).require_grad();
        self.with(self.tensors.iter().map(leaf).collect())
    }
}

/// A tensor's numbers.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().expect("weights and samples are f32")
}
