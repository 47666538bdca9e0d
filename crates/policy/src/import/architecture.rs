//! A U-Net's sizes, read off the shapes of its parameters.

use std::collections::BTreeMap;

use crate::UnetConfig;
use crate::kernels::Kernels;
use crate::parameters::ParameterList;

/// Groups of the last group norm in both reference implementations, whatever the others have. Shapes do not tell.
pub(crate) const GROUPS: usize = 8;
/// Names that an error lists before it only counts.
const LISTED: usize = 5;

/// Shapes under our names.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

/// What shapes say of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Architecture {
    pub network: UnetConfig,
    /// `Da`.
    pub action_dim: usize,
    /// `To * Do`.
    pub condition_dim: usize,
}

/// The one architecture that has parameters of these shapes, and the list of them.
///
/// # Errors
/// Which tensor does not fit, is missing, or is left over.
pub(crate) fn infer(shapes: &Shapes) -> Result<(Architecture, ParameterList), String> {
    let embedding = matrix(shapes, "diffusion_step_encoder.1.weight")?;
    let (outputs, action_dim, kernel_size) = kernel(shapes, "down_modules.0.0.blocks.0.block.0.weight")?;
    let film = matrix(shapes, "down_modules.0.0.cond_encoder.1.weight")?;
    let [wide, diffusion_step_embed_dim] = embedding;
    if wide != diffusion_step_embed_dim.saturating_mul(4) {
        return Err(format!("`diffusion_step_encoder.1.weight` is {embedding:?}, and must be [4 n, n]"));
    }
    let cond_predict_scale = match film[0] {
        rows if rows == outputs => false,
        rows if rows == 2 * outputs => true,
        rows => {
            return Err(format!(
                "`down_modules.0.0.cond_encoder.1.weight` has {rows} rows, and must have {outputs} (bias alone) or \
                 {} (scale and bias)",
                2 * outputs
            ));
        }
    };
    let condition_dim = film[1].saturating_sub(diffusion_step_embed_dim);
    if condition_dim == 0 {
        return Err("the network takes no condition but the diffusion step: the observation is inpainted \
                    (`obs_as_global_cond: False`), and ours takes it as a global condition"
            .into());
    }
    let mut down_dims = vec![outputs];
    while let Ok((outputs, ..)) =
        kernel(shapes, &format!("down_modules.{}.0.blocks.0.block.0.weight", down_dims.len()))
    {
        down_dims.push(outputs);
    }
    let network =
        UnetConfig { down_dims, diffusion_step_embed_dim, kernel_size, n_groups: GROUPS, cond_predict_scale };
    // The prediction's length is in no shape: whether the resolutions divide it is checked with the horizon.
    network
        .check(0)
        .map_err(|problem| format!("the tensors make a network that we do not have: {problem}"))?;
    let (_, list) = network.build(Kernels::Stock, action_dim, condition_dim);
    compare(shapes, &list)?;
    Ok((Architecture { network, action_dim, condition_dim }, list))
}

fn matrix(shapes: &Shapes, name: &str) -> Result<[usize; 2], String> {
    match shapes.get(name).map(Vec::as_slice) {
        Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok([rows, columns]),
        Some(shape) => Err(format!("`{name}` is {shape:?}, and must be a matrix")),
        None => Err(format!("it lacks `{name}`")),
    }
}

/// Outputs, inputs and taps of a convolution.
fn kernel(shapes: &Shapes, name: &str) -> Result<(usize, usize, usize), String> {
    match shapes.get(name).map(Vec::as_slice) {
        Some(&[outputs, inputs, taps]) if outputs > 0 && inputs > 0 && taps > 0 => {
            Ok((outputs, inputs, taps))
        }
        Some(shape) => Err(format!("`{name}` is {shape:?}, and must be the kernel of a convolution")),
        None => Err(format!("it lacks `{name}`")),
    }
}

/// # Errors
/// Every tensor that is missing, left over, or of another shape than its parameter.
fn compare(shapes: &Shapes, list: &ParameterList) -> Result<(), String> {
    let wanted: BTreeMap<&str, &[usize]> =
        list.iter().map(|parameter| (parameter.name.as_str(), parameter.shape.as_slice())).collect();
    let missing = wanted.keys().filter(|name| !shapes.contains_key(**name)).map(|name| format!("`{name}`"));
    let extra =
        shapes.keys().filter(|name| !wanted.contains_key(name.as_str())).map(|name| format!("`{name}`"));
    let other = shapes.iter().filter_map(|(name, shape)| {
        let want = wanted.get(name.as_str())?;
        (*want != shape).then(|| format!("`{name}` is {shape:?}, not {want:?}"))
    });
    let told: Vec<String> = [
        ("it lacks", missing.collect::<Vec<_>>()),
        ("it has more than the network has parameters:", extra.collect()),
        ("shapes do not fit the first level's:", other.collect()),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(what, names)| format!("{what} {}", listed(&names)))
    .collect();
    if told.is_empty() { Ok(()) } else { Err(told.join("; ")) }
}

fn listed(names: &[String]) -> String {
    let first = names[..names.len().min(LISTED)].join(", ");
    match names.len().checked_sub(LISTED) {
        None | Some(0) => first,
        Some(more) => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(network: &UnetConfig, action_dim: usize, condition_dim: usize) -> Shapes {
        let (_, list) = network.build(Kernels::Stock, action_dim, condition_dim);
        list.iter().map(|parameter| (parameter.name.clone(), parameter.shape.clone())).collect()
    }

    fn network(down_dims: &[usize], cond_predict_scale: bool) -> UnetConfig {
        UnetConfig {
            down_dims: down_dims.to_vec(),
            diffusion_step_embed_dim: 12,
            kernel_size: 3,
            n_groups: GROUPS,
            cond_predict_scale,
        }
    }

    #[test]
    fn every_architecture_is_known_by_its_shapes() {
        for down_dims in [&[16][..], &[16, 16], &[8, 24, 16], &[8, 16, 32, 64]] {
            for scale in [false, true] {
                let network = network(down_dims, scale);
                let (inferred, _) = infer(&shapes(&network, 3, 10)).unwrap();
                assert_eq!(inferred, Architecture { network, action_dim: 3, condition_dim: 10 });
            }
        }
    }

    #[test]
    fn tensors_that_do_not_belong_are_named() {
        let whole = shapes(&network(&[8, 16], true), 3, 10);
        let refused = |change: &dyn Fn(&mut Shapes)| {
            let mut changed = whole.clone();
            change(&mut changed);
            infer(&changed).unwrap_err()
        };
        let set = |name: &str, shape: &[usize]| {
            let (name, shape) = (name.to_owned(), shape.to_vec());
            refused(&move |shapes| drop(shapes.insert(name.clone(), shape.clone())))
        };
        assert!(
            refused(&|shapes| drop(shapes.remove("final_conv.1.bias"))).contains("lacks `final_conv.1.bias`")
        );
        assert!(refused(&|shapes| drop(shapes.remove("diffusion_step_encoder.1.weight"))).contains("lacks"));
        assert!(set("head.weight", &[1]).contains("more than the network has parameters: `head.weight`"));
        assert!(set("mid_modules.0.cond_encoder.1.bias", &[3]).contains("is [3], not [32]"));
        assert!(set("diffusion_step_encoder.1.weight", &[7, 12]).contains("must be [4 n, n]"));
        assert!(set("diffusion_step_encoder.1.weight", &[48]).contains("must be a matrix"));
        assert!(set("down_modules.0.0.cond_encoder.1.weight", &[9, 22]).contains("9 rows"));
        assert!(set("down_modules.0.0.cond_encoder.1.weight", &[16, 12]).contains("inpainted"));
        assert!(set("down_modules.0.0.blocks.0.block.0.weight", &[8, 3, 4]).contains("kernel_size"));
        assert!(
            set("down_modules.0.0.blocks.0.block.0.weight", &[0, 3, 3]).contains("kernel of a convolution")
        );
        let six = refused(&|shapes| shapes.retain(|name, _| !name.starts_with("mid_modules")));
        assert!(six.contains("and 15 more"), "{six}");
        let twelve = network(&[12, 24], true);
        assert!(infer(&shapes(&twelve, 3, 10)).unwrap_err().contains("multiple of `n_groups`"));
    }
}
