//! Actions learned as differences from what was last observed.
//!
//! Where a robot is sent depends on where it is: a policy that predicts the way to go from the tool's last observed position
//! moves with the scene, and learns from fewer demonstrations (the relative trajectories of UMI, Chi et al. 2024).

use std::ops::{Range, SubAssign};

use nudge_control::Interface;
use serde::{Deserialize, Serialize};

use crate::angles::AngleMap;

/// Numbers of an action feature that are predicted less numbers of the newest observation of the plan's window. Inside the
/// network only: a plan's actions are absolute again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relative {
    /// An action feature, and which of its numbers.
    pub action: String,
    pub numbers: Vec<usize>,
    /// The observation feature they are taken from, and as many of its numbers, in the same units.
    pub to: String,
    pub to_numbers: Vec<usize>,
    /// Whether the network does not see the feature `to` itself: what it plans is then the same wherever that lies.
    #[serde(default)]
    pub hidden: bool,
}

impl Relative {
    /// # Errors
    /// When a feature or a number of it does not exist, or one is named twice.
    pub(crate) fn check(&self, interface: &Interface) -> Result<(), String> {
        let Self { action, numbers, to, to_numbers, hidden: _ } = self;
        let acted = interface.action.iter().find(|feature| feature.name == *action);
        let acted = acted.ok_or(format!("`policy.relative`: there is no action feature `{action}`"))?;
        let seen = interface.observation.iter().find(|feature| feature.name == *to);
        let seen = seen.ok_or(format!("`policy.relative`: there is no observation feature `{to}`"))?;
        if numbers.is_empty() || numbers.len() != to_numbers.len() {
            return Err(format!(
                "`policy.relative`: {} numbers of `{action}` and {} of `{to}`: give as many of each, and at least one",
                numbers.len(),
                to_numbers.len()
            ));
        }
        for (name, dim, numbers) in [(action, acted.dim(), numbers), (to, seen.dim(), to_numbers)] {
            if let Some(number) = numbers.iter().find(|number| **number >= dim) {
                return Err(format!(
                    "`policy.relative`: `{name}` has {dim} numbers, so none with index {number}"
                ));
            }
        }
        Ok(())
    }
}

/// What is taken from every number of an action, given the newest observation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// Index in the action, index in the observation.
    pairs: Vec<(usize, usize)>,
    /// Parts of the observation that the network does not see.
    hidden: Vec<Range<usize>>,
}

impl References {
    /// # Errors
    /// When an entry does not fit the interface, or two are about the same number of an action.
    pub fn new(relative: &[Relative], interface: &Interface) -> Result<Self, String> {
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        let hidden = relative.iter().filter(|entry| entry.hidden);
        let hidden = hidden.filter_map(|entry| interface.observation_range(&entry.to)).collect();
        for entry in relative {
            entry.check(interface)?;
            let before = interface.action.iter().take_while(|feature| feature.name != entry.action);
            let first: usize = before.map(|feature| feature.dim()).sum();
            let seen = interface.observation_range(&entry.to).map_or(0, |range| range.start);
            for (number, to) in entry.numbers.iter().zip(&entry.to_numbers) {
                if pairs.iter().any(|(index, _)| *index == first + number) {
                    return Err(format!(
                        "`policy.relative`: number {number} of `{}` is named twice",
                        entry.action
                    ));
                }
                pairs.push((first + number, seen + to));
            }
        }
        Ok(Self { pairs, hidden })
    }

    /// The same for observations in which angles are two numbers.
    pub fn seen_through(mut self, observed: &AngleMap) -> Self {
        self.hidden.iter_mut().for_each(|range| *range = observed.range(range.clone()));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Whether this number of an action is relative to what is observed.
    pub fn about(&self, number: usize) -> bool {
        self.pairs.iter().any(|(index, _)| *index == number)
    }

    /// Takes the reference from one action.
    pub fn subtract<T: Copy + SubAssign>(&self, action: &mut [T], observation: &[T]) {
        self.pairs.iter().for_each(|(index, seen)| action[*index] -= observation[*seen]);
    }

    /// Hides what the network is not to see from one normalised observation.
    pub fn hide(&self, observation: &mut [f32]) {
        self.hidden.iter().for_each(|range| observation[range.clone()].fill(0.0));
    }

    /// Gives it back.
    pub fn add(&self, action: &mut [f64], observation: &[f64]) {
        self.pairs.iter().for_each(|(index, seen)| action[*index] += observation[*seen]);
    }
}

#[cfg(test)]
mod tests {
    use nudge_control::{ActionFeature, ActionMode, Feature, FeatureKind, Limits};

    use super::*;

    fn interface() -> Interface {
        let action = |name: &str, dim: usize| ActionFeature {
            name: name.into(),
            kind: FeatureKind::Vector,
            shape: vec![dim],
            unit: "m".into(),
            mode: ActionMode::Absolute,
            limits: Limits { low: vec![0.0; dim], high: vec![1.0; dim] },
        };
        Interface {
            observation: vec![Feature::vector("joints", 2, "rad"), Feature::vector("tool", 3, "m")],
            action: vec![action("gripper", 1), action("tool", 3)],
            control_hz: 10.0,
        }
    }

    fn relative(numbers: &[usize], to_numbers: &[usize]) -> Relative {
        let (numbers, to_numbers) = (numbers.to_vec(), to_numbers.to_vec());
        Relative { action: "tool".into(), numbers, to: "tool".into(), to_numbers, hidden: false }
    }

    #[test]
    fn what_is_taken_is_given_back() {
        let references = References::new(&[relative(&[0, 2], &[1, 0])], &interface()).unwrap();
        let observation = [9.0, 9.0, 1.0, 2.0, 4.0];
        let mut action = [0.5f32, 10.0, 20.0, 30.0];
        references.subtract(&mut action, &observation.map(|value| value as f32));
        assert_eq!(action, [0.5, 8.0, 20.0, 29.0]);
        let mut action = action.map(f64::from);
        references.add(&mut action, &observation);
        assert_eq!(action, [0.5, 10.0, 20.0, 30.0]);
    }

    #[test]
    fn what_is_hidden_is_not_seen_and_still_counts() {
        let hidden = Relative { hidden: true, ..relative(&[0], &[1]) };
        let references = References::new(&[hidden], &interface()).unwrap();
        let mut observation = [9.0, 9.0, 1.0, 2.0, 4.0];
        references.hide(&mut observation);
        assert_eq!(observation, [9.0, 9.0, 0.0, 0.0, 0.0]);
        let mut action = [0.0; 4];
        references.add(&mut action, &[9.0, 9.0, 1.0, 2.0, 4.0]);
        assert_eq!(action, [0.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn entries_that_do_not_fit_are_named() {
        for (entries, problem) in [
            (vec![relative(&[3], &[0])], "index 3"),
            (vec![relative(&[0], &[3])], "index 3"),
            (vec![relative(&[0, 1], &[0])], "as many"),
            (vec![relative(&[], &[])], "at least one"),
            (vec![relative(&[0], &[0]), relative(&[0], &[1])], "twice"),
            (vec![Relative { action: "hand".into(), ..relative(&[0], &[0]) }], "`hand`"),
            (vec![Relative { to: "hand".into(), ..relative(&[0], &[0]) }], "`hand`"),
        ] {
            let error = References::new(&entries, &interface()).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
