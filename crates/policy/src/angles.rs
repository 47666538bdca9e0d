//! Angles as sine and cosine: a full turn apart they are the same to the network, however a recording counted its turns.

use std::f64::consts::TAU;
use std::ops::Range;

use nudge_control::Interface;
use serde::{Deserialize, Serialize};

/// Numbers of a feature that are angles in radians, and go through the network as sine and cosine. Inside the network
/// only: what is observed and what is planned stay angles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Angles {
    /// A feature of the interface, observed or acted, and which of its numbers.
    pub feature: String,
    pub numbers: Vec<usize>,
}

impl Angles {
    /// # Errors
    /// When an entry does not fit the interface, or a number is named twice.
    pub(crate) fn check(entries: &[Self], interface: &Interface) -> Result<(), String> {
        let mut known: Vec<(&str, usize)> = Vec::new();
        for Self { feature, numbers } in entries {
            let observed = interface.observation.iter().map(|feature| (&feature.name, feature.dim()));
            let acted = interface.action.iter().map(|feature| (&feature.name, feature.dim()));
            let Some((_, dim)) = observed.chain(acted).find(|(name, _)| *name == feature) else {
                return Err(format!("`policy.angles`: the interface has no feature `{feature}`"));
            };
            if numbers.is_empty() {
                return Err(format!("`policy.angles` `{feature}`: `numbers` is empty; name at least one"));
            }
            for number in numbers {
                if *number >= dim {
                    return Err(format!(
                        "`policy.angles` `{feature}`: it has {dim} numbers, so none with index {number}"
                    ));
                }
                if known.contains(&(feature, *number)) {
                    return Err(format!("`policy.angles` `{feature}`: number {number} is named twice"));
                }
                known.push((feature, *number));
            }
        }
        Ok(())
    }
}

/// Which numbers of a flat row are angles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AngleMap {
    /// One for each number of the row.
    angles: Vec<bool>,
    count: usize,
}

impl AngleMap {
    /// Of an observation.
    pub fn observed(entries: &[Angles], interface: &Interface) -> Self {
        Self::new(entries, interface.observation.iter().map(|feature| (feature.name.as_str(), feature.dim())))
    }

    /// Of an action.
    pub fn acted(entries: &[Angles], interface: &Interface) -> Self {
        Self::new(entries, interface.action.iter().map(|feature| (feature.name.as_str(), feature.dim())))
    }

    fn new<'a>(entries: &[Angles], features: impl Iterator<Item = (&'a str, usize)>) -> Self {
        let is_angle = |name: &str, number: usize| {
            entries.iter().any(|entry| entry.feature == name && entry.numbers.contains(&number))
        };
        let angles: Vec<bool> =
            features.flat_map(|(name, dim)| (0..dim).map(move |number| is_angle(name, number))).collect();
        Self { count: angles.iter().filter(|angle| **angle).count(), angles }
    }

    /// Numbers of a row as the network has them: two for an angle.
    pub fn dim(&self) -> usize {
        self.angles.len() + self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn is_angle(&self, number: usize) -> bool {
        self.angles[number]
    }

    /// Where a range of a row's numbers lies in the network's row.
    pub fn range(&self, range: Range<usize>) -> Range<usize> {
        let at = |number: usize| number + self.angles[..number].iter().filter(|angle| **angle).count();
        at(range.start)..at(range.end)
    }

    /// The network's row, before normalising: sine and cosine in the place of an angle.
    pub fn encode(&self, row: impl IntoIterator<Item = f64>) -> impl Iterator<Item = f64> {
        row.into_iter().zip(&self.angles).flat_map(|(value, angle)| {
            let (sine, cosine) = if *angle { value.sin_cos() } else { (value, 0.0) };
            std::iter::once(sine).chain(angle.then_some(cosine))
        })
    }

    /// The inverse of [`encode`](Self::encode), up to whole turns: angles lie in -pi..=pi.
    pub fn decode(&self, row: impl IntoIterator<Item = f64>) -> impl Iterator<Item = f64> {
        let mut row = row.into_iter();
        self.angles.iter().map_while(move |angle| {
            let value = row.next()?;
            if *angle { Some(value.atan2(row.next()?)) } else { Some(value) }
        })
    }
}

/// `angle` and whole turns: of those within `low..=high` the one nearest to `near`, and the nearest of all where none
/// lies within.
pub(crate) fn branch(angle: f64, near: f64, (low, high): (f64, f64)) -> f64 {
    let nearest = angle + TAU * ((near - angle) / TAU).round();
    let within = if nearest < low {
        nearest + TAU * ((low - nearest) / TAU).ceil()
    } else if nearest > high {
        nearest - TAU * ((nearest - high) / TAU).ceil()
    } else {
        nearest
    };
    if (low..=high).contains(&within) { within } else { nearest }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use nudge_control::Feature;

    use super::*;

    fn interface() -> Interface {
        let observation = vec![Feature::vector("pose", 3, "m,m,rad"), Feature::vector("joints", 2, "rad")];
        Interface { observation, action: Vec::new(), control_hz: 10.0 }
    }

    fn angles(feature: &str, numbers: &[usize]) -> Angles {
        Angles { feature: feature.into(), numbers: numbers.to_vec() }
    }

    #[test]
    fn what_is_encoded_comes_back_but_for_whole_turns() {
        let map = AngleMap::observed(&[angles("pose", &[2]), angles("joints", &[0])], &interface());
        assert_eq!((map.dim(), map.is_empty()), (7, false));
        for turns in [-2.0, 0.0, 1.0] {
            let row = [3.5, -4.0, 2.5 + turns * TAU, -1.2 - turns * TAU, 100.0];
            let encoded: Vec<f64> = map.encode(row).collect();
            assert_eq!(encoded.len(), 7);
            let back: Vec<f64> = map.decode(encoded).collect();
            assert!(back.iter().zip([3.5, -4.0, 2.5, -1.2, 100.0]).all(|(a, b)| (a - b).abs() < 1e-12));
        }
        assert_eq!(map.range(3..5), 4..7);
        let none = AngleMap::observed(&[], &interface());
        assert!(none.is_empty() && none.encode([1.0; 5]).eq([1.0; 5]) && none.decode([1.0; 5]).eq([1.0; 5]));
    }

    #[test]
    fn the_branch_is_the_nearest_one_that_may_be_taken() {
        let near = |angle: f64, near: f64, limits: (f64, f64)| branch(angle, near, limits);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        let wide = (-100.0, 100.0);
        close(near(-3.0, 3.1, wide), TAU - 3.0);
        close(near(1.0, 50.0, wide), 1.0 + 8.0 * TAU);
        // Beyond the limit the other way round is taken; where no way leads, the nearest is left to the guard.
        close(near(-3.0, 3.1, (-PI, PI)), -3.0);
        close(near(0.5, 6.2, (0.0, TAU)), 0.5);
        close(near(-0.5, 0.2, (0.0, TAU)), TAU - 0.5);
        close(near(3.0, 0.0, (-1.0, 1.0)), 3.0);
        close(near(3.0, 0.0, (f64::NEG_INFINITY, f64::INFINITY)), 3.0);
    }

    #[test]
    fn entries_that_do_not_fit_are_named() {
        for (entries, problem) in [
            (vec![angles("pose", &[3])], "index 3"),
            (vec![angles("hand", &[0])], "`hand`"),
            (vec![angles("pose", &[])], "empty"),
            (vec![angles("pose", &[1]), angles("pose", &[1])], "twice"),
        ] {
            let error = Angles::check(&entries, &interface()).unwrap_err();
            assert!(error.contains("policy.angles") && error.contains(problem), "{error}");
        }
    }
}
