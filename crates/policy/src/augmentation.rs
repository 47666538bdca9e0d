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
    pub scale: Scale,
    #[serde(default)]
    pub offset: f64,
}

/// Factors of a feature's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scale {
    /// The same for all.
    All(f64),
    /// One for each.
    Each(Vec<f64>),
}

impl Scale {
    fn of(&self, number: usize) -> Option<f64> {
        match self {
            Self::All(scale) => Some(*scale),
            Self::Each(scales) => scales.get(number).copied(),
        }
    }
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
            let whole = mirror.source.len() == dim
                && mirror.source.iter().all(|source| *source < dim)
                && !matches!(&mirror.scale, Scale::Each(scales) if scales.len() != dim);
            let gives_back = |number: usize| {
                let source = mirror.source[number];
                let (Some(here), Some(there)) = (mirror.scale.of(number), mirror.scale.of(source)) else {
                    return false;
                };
                let unmoved = here * mirror.offset + mirror.offset == 0.0;
                mirror.source[source] == number && here * there == 1.0 && unmoved
            };
            let twice = whole && (0..dim).all(gives_back);
            if !twice {
                return Err(format!(
                    "`data.symmetry.features` `{name}`: applied twice it does not give its {dim} numbers back"
                ));
            }
        }
        Ok(())
    }

    /// The mirror of whole rows, in which these features lie side by side.
    pub(crate) fn of_rows<'a>(&self, features: impl Iterator<Item = (&'a str, usize)>) -> RowMirror {
        let mut row = RowMirror { numbers: Vec::new() };
        for (name, dim) in features {
            let first = row.numbers.len();
            let mirror = self.features.iter().find(|mirror| mirror.name == name);
            let mirror = mirror.expect("the symmetry was checked against the interface");
            row.numbers.extend((0..dim).map(|number| {
                let scale = mirror.scale.of(number).unwrap_or(1.0);
                (first + mirror.source[number], scale, mirror.offset)
            }));
        }
        row
    }
}

/// A mirror of rows of several features.
#[derive(Clone, Debug)]
pub(crate) struct RowMirror {
    /// Of each number: what it is made from, the factor, and what is added.
    numbers: Vec<(usize, f64, f64)>,
}

impl RowMirror {
    /// The mirror image of `row`, in `out`.
    pub(crate) fn write<'a>(&self, row: &[f32], out: &'a mut Vec<f32>) -> &'a [f32] {
        let number =
            |&(source, scale, offset): &(usize, f64, f64)| (scale * f64::from(row[source]) + offset) as f32;
        out.clear();
        out.extend(self.numbers.iter().map(number));
        out
    }
}

#[cfg(test)]
mod tests {
    use nudge_control::Feature;

    use super::*;

    fn symmetry(source: &[usize], scale: Scale, offset: f64) -> Symmetry {
        Symmetry { features: vec![Mirror { name: "pose".into(), source: source.to_vec(), scale, offset }] }
    }

    fn check(symmetry: &Symmetry) -> Result<(), String> {
        let observation = vec![Feature::vector("pose", 3, "m")];
        symmetry.check(&Interface { observation, action: Vec::new(), control_hz: 10.0 })
    }

    #[test]
    fn a_mirror_applied_twice_is_no_mirror() {
        for symmetry in [
            symmetry(&[1, 0, 2], Scale::All(-1.0), 512.0),
            symmetry(&[0, 1, 2], Scale::Each(vec![1.0, -1.0, 1.0]), 0.0),
            symmetry(&[2, 1, 0], Scale::Each(vec![-1.0, 1.0, -1.0]), 0.0),
        ] {
            check(&symmetry).unwrap();
            let (before, mut once, mut twice) = ([3.0, 40.0, 500.0], Vec::new(), Vec::new());
            let mirror = symmetry.of_rows([("pose", 3)].into_iter());
            assert_ne!(mirror.write(&before, &mut once), before);
            assert_eq!(mirror.write(&once, &mut twice), before);
        }
    }

    #[test]
    fn what_is_no_mirror_is_refused() {
        for symmetry in [
            symmetry(&[1, 2, 0], Scale::All(1.0), 0.0),
            symmetry(&[0, 1, 2], Scale::All(1.0), 1.0),
            symmetry(&[0, 1, 2], Scale::All(2.0), 0.0),
            symmetry(&[1, 0, 2], Scale::Each(vec![1.0, -1.0, 1.0]), 0.0),
            symmetry(&[0, 1, 2], Scale::Each(vec![1.0, -1.0, 1.0]), 5.0),
            symmetry(&[0, 1, 2], Scale::Each(vec![1.0, -1.0]), 0.0),
            symmetry(&[0, 1], Scale::All(1.0), 0.0),
            symmetry(&[0, 1, 3], Scale::All(1.0), 0.0),
        ] {
            assert!(check(&symmetry).unwrap_err().contains("`pose`"));
        }
    }
}
