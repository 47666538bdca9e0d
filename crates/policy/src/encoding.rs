//! From physical numbers to those of the network, before they are normalised, and back: what actions are relative to, and
//! angles as sine and cosine.

use nudge_control::Interface;

use crate::Normalizer;
use crate::angles::{AngleMap, branch};
use crate::config::PolicyConfig;
use crate::relative::References;

/// How a policy's observations and actions look to its network.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    pub observed: AngleMap,
    pub acted: AngleMap,
    pub references: References,
    /// Lower and upper bound of each number of the action.
    limits: Vec<(f64, f64)>,
}

impl Encoding {
    /// # Errors
    /// When the configuration names what the interface does not have.
    pub fn new(policy: &PolicyConfig, interface: &Interface) -> Result<Self, String> {
        let observed = AngleMap::observed(&policy.angles, interface);
        let acted = AngleMap::acted(&policy.angles, interface);
        let references = References::new(&policy.relative, interface)?.seen_through(&observed);
        let (low, high) = interface.action_limits();
        Ok(Self { observed, acted, references, limits: low.into_iter().zip(high).collect() })
    }

    /// Appends one observation as the network sees it.
    pub fn see(&self, observation: &[f64], normalizer: &Normalizer, condition: &mut Vec<f32>) {
        let before = condition.len();
        condition.extend(normalizer.normalise(self.observed.encode(observation.iter().copied())));
        self.references.hide(&mut condition[before..]);
    }

    /// Writes an action as the network has it, when `newest` is what was last observed: the inverse of [`act`](Self::act).
    pub fn commit(&self, action: &[f64], normalizer: &Normalizer, newest: &[f64], row: &mut [f32]) {
        let mut action = action.to_vec();
        self.references.subtract(&mut action, newest);
        let numbers = normalizer.normalise(self.acted.encode(action));
        row.iter_mut().zip(numbers).for_each(|(to, number)| *to = number);
    }

    /// The actions of consecutive `rows` of the network's, in physical units, behind those that are there already, when
    /// `newest` is what was last observed.
    ///
    /// An angle that is relative to an observed one comes out within half a turn of it. Any other is taken within the
    /// action's limits, where it can be: the first one nearest to their middle, each later one to the one before it.
    pub fn act<'a>(
        &self,
        rows: impl Iterator<Item = &'a [f32]>,
        normalizer: &Normalizer,
        newest: &[f64],
        mut actions: Vec<Vec<f64>>,
    ) -> Vec<Vec<f64>> {
        for row in rows {
            let mut action = Vec::with_capacity(self.limits.len());
            action.extend(self.acted.decode(normalizer.unnormalise(row.iter().copied())));
            self.references.add(&mut action, newest);
            for (number, limits) in self.limits.iter().enumerate() {
                if self.acted.is_angle(number) && !self.references.about(number) {
                    let near = actions.last().map_or_else(|| middle(*limits), |before| before[number]);
                    action[number] = branch(action[number], near, *limits);
                }
            }
            actions.push(action);
        }
        actions
    }

    /// The sum of squared differences of two of the network's rows, in physical units; of angles the short way round.
    pub fn squared_distance(&self, one: &[f32], two: &[f32], normalizer: &Normalizer) -> f64 {
        let physical = |row: &[f32]| -> Vec<f64> {
            self.acted.decode(normalizer.unnormalise(row.iter().copied())).collect()
        };
        let pairs = physical(one).into_iter().zip(physical(two)).enumerate();
        let distance = |(number, (one, two)): (usize, (f64, f64))| {
            let unbounded = (f64::NEG_INFINITY, f64::INFINITY);
            if self.acted.is_angle(number) { branch(one, two, unbounded) - two } else { one - two }
        };
        pairs.map(|pair| distance(pair).powi(2)).sum()
    }
}

fn middle((low, high): (f64, f64)) -> f64 {
    let middle = low + (high - low) / 2.0;
    if middle.is_finite() { middle } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{PI, TAU};

    use nudge_control::{ActionFeature, ActionMode, Feature, FeatureKind, Horizon, Limits};

    use super::*;
    use crate::{Angles, Objective, Relative, SamplerConfig, TrainConfig};

    fn interface(limits: (f64, f64)) -> Interface {
        let action = ActionFeature {
            name: "heading".into(),
            kind: FeatureKind::Vector,
            shape: vec![2],
            unit: "m,rad".into(),
            mode: ActionMode::Absolute,
            limits: Limits { low: vec![-9.0, limits.0], high: vec![9.0, limits.1] },
        };
        Interface {
            observation: vec![Feature::vector("pose", 2, "m,rad"), Feature::vector("rest", 1, "")],
            action: vec![action],
            control_hz: 10.0,
        }
    }

    fn encoding(limits: (f64, f64), relative: bool) -> (Encoding, Normalizer) {
        let mut policy = TrainConfig::from_toml(include_str!("../../../configs/push_t.toml")).unwrap().policy;
        policy.horizon = Horizon { observed: 1, predicted: 8, executed: 8 };
        (policy.objective, policy.sampler) = (Objective::Epsilon, SamplerConfig::ddim(5));
        let angles = |feature: &str| Angles { feature: feature.into(), numbers: vec![1] };
        policy.angles = vec![angles("pose"), angles("heading")];
        if relative {
            policy.relative = vec![Relative {
                action: "heading".into(),
                numbers: vec![1],
                to: "pose".into(),
                to_numbers: vec![1],
                hidden: true,
            }];
        }
        let normalizer = Normalizer { low: vec![-9.0, -1.0, -1.0], high: vec![9.0, 1.0, 1.0] };
        (Encoding::new(&policy, &interface(limits)).unwrap(), normalizer)
    }

    /// Headings as the network has them.
    fn rows(encoding: &Encoding, normalizer: &Normalizer, headings: &[f64]) -> Vec<Vec<f32>> {
        let row = |heading: &f64| normalizer.normalise(encoding.acted.encode([0.5, *heading])).collect();
        headings.iter().map(row).collect()
    }

    #[test]
    fn a_heading_turns_on_where_its_limits_let_it() {
        let headings = [3.0, 3.1, 3.2, 3.3];
        for (limits, expected) in
            [((-9.0, 9.0), headings), ((-PI, PI), [3.0, 3.1, 3.2 - TAU, 3.3 - TAU]), ((0.0, TAU), headings)]
        {
            let (encoding, normalizer) = encoding(limits, false);
            let rows = rows(&encoding, &normalizer, &headings);
            let actions = encoding.act(rows.iter().map(Vec::as_slice), &normalizer, &[0.0; 3], Vec::new());
            for (action, expected) in actions.iter().zip(expected) {
                assert!((action[0] - 0.5).abs() < 1e-6, "{actions:?}");
                assert!((action[1] - expected).abs() < 1e-6, "{limits:?}: {actions:?}, not {expected}");
            }
        }
    }

    #[test]
    fn a_relative_heading_is_near_the_observed_one_whatever_its_turns() {
        let (encoding, normalizer) = encoding((-9.0, 9.0), true);
        let rows = rows(&encoding, &normalizer, &[0.2, -0.3]);
        for observed in [1.0, 3.1, 1.0 + TAU, -7.0] {
            let actions =
                encoding.act(rows.iter().map(Vec::as_slice), &normalizer, &[0.0, observed, 0.0], Vec::new());
            assert!((actions[0][1] - (observed + 0.2)).abs() < 1e-6, "{actions:?}");
            assert!((actions[1][1] - (observed - 0.3)).abs() < 1e-6, "{actions:?}");
        }
        // Both numbers of what is hidden are, and nothing else.
        let mut seen = Vec::new();
        let plain = Normalizer { low: vec![-1.0; 4], high: vec![1.0; 4] };
        encoding.see(&[0.7, 1.0, 0.9], &plain, &mut seen);
        assert_eq!(seen, [0.0, 0.0, 0.0, 0.9]);
    }

    #[test]
    fn a_heading_goes_on_from_the_turn_that_is_committed() {
        let (encoding, normalizer) = encoding((-9.0, 9.0), false);
        let rows = rows(&encoding, &normalizer, &[0.2, 0.3]);
        let committed = vec![0.5, TAU + 0.1];
        let mut row = [0.0; 3];
        encoding.commit(&committed, &normalizer, &[0.0; 3], &mut row);
        let back = encoding.act([&row[..]].into_iter(), &normalizer, &[0.0; 3], Vec::new());
        assert!((back[0][1] - 0.1).abs() < 1e-6, "{back:?}");
        let actions =
            encoding.act(rows.iter().map(Vec::as_slice), &normalizer, &[0.0; 3], vec![committed.clone()]);
        assert_eq!(actions[0], committed);
        for (action, expected) in actions[1..].iter().zip([TAU + 0.2, TAU + 0.3]) {
            assert!((action[1] - expected).abs() < 1e-6, "{actions:?}");
        }
    }

    #[test]
    fn the_distance_of_two_headings_is_the_short_way_round() {
        let (encoding, normalizer) = encoding((-9.0, 9.0), false);
        let rows = rows(&encoding, &normalizer, &[3.1, -3.1]);
        let distance = encoding.squared_distance(&rows[0], &rows[1], &normalizer).sqrt();
        assert!((distance - (TAU - 6.2)).abs() < 1e-6, "{distance}");
    }
}
