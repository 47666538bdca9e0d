//! Symmetries of a task: a mirror image of a demonstration is a demonstration.

use nudge_control::Interface;
use serde::{Deserialize, Serialize};

/// A mirror symmetry in physical units, feature by feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symmetry {
    /// One entry for every feature of the interface, observations and actions.
    pub features: Vec<Mirror>,
}

/// `mirrored[i] = scale[i] * value[source[i]] + offset[i]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    pub name: String,
    pub source: Vec<usize>,
    pub scale: f64,
    pub offset: f64,
}

impl Symmetry {
    /// # Errors
    /// When a feature has no mirror, indices do not fit, or applying it twice is not the identity: then it is no
    /// mirror symmetry, and surely a slip.
    pub(crate) fn check(&self, interface: &Interface) -> Result<(), String> {
        let observed = interface.observation.iter().map(|feature| (&feature.name, feature.dim()));
        let acted = interface.action.iter().map(|feature| (&feature.name, feature.dim()));
        for (name, dim) in observed.chain(acted) {
            let Some(mirror) = self.features.iter().find(|mirror| mirror.name == *name) else {
                return Err(format!("`data.symmetry.features` has no entry for `{name}`"));
            };
            let whole = mirror.source.len() == dim && mirror.source.iter().all(|source| *source < dim);
            let twice = whole && (0..dim).all(|i| mirror.source[mirror.source[i]] == i);
            let affine = mirror.scale == 1.0 && mirror.offset == 0.0 || mirror.scale == -1.0;
            if !twice || !affine {
                return Err(format!(
                    "`data.symmetry.features` `{name}`: applied twice it does not give its {dim} numbers back"
                ));
            }
        }
        Ok(())
    }

    /// Mirrors rows of a feature in place, each of its full width.
    pub(crate) fn apply(&self, name: &str, rows: &mut [f32]) {
        let mirror = self.features.iter().find(|mirror| mirror.name == name);
        let mirror = mirror.expect("the symmetry was checked against the interface");
        let mut before = vec![0.0; mirror.source.len()];
        for row in rows.chunks_exact_mut(mirror.source.len()) {
            before.copy_from_slice(row);
            for (value, source) in row.iter_mut().zip(&mirror.source) {
                *value = (mirror.scale * f64::from(before[*source]) + mirror.offset) as f32;
            }
        }
    }
}
