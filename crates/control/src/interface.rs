//! What a robot or a task offers, and what a checkpoint was trained for.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Whether a feature is a vector of numbers or a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureKind {
    Vector,
    Image,
}

/// One named part of an observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    pub name: String,
    pub kind: FeatureKind,
    pub shape: Vec<usize>,
    /// Unit of every number, for example `px`, `rad`, `m`; empty when dimensionless.
    #[serde(default)]
    pub unit: String,
}

impl Feature {
    /// A vector of `dim` numbers in `unit`.
    pub fn vector(name: &str, dim: usize, unit: &str) -> Self {
        Self { name: name.to_owned(), kind: FeatureKind::Vector, shape: vec![dim], unit: unit.to_owned() }
    }

    /// How many numbers the feature holds.
    pub fn dim(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How an action feature is to be read by the robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionMode {
    /// A target to be reached.
    #[default]
    Absolute,
    /// A change from what is measured now; zero holds.
    Delta,
}

/// Inclusive bounds of each number of an action feature, in its unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub low: Vec<f64>,
    pub high: Vec<f64>,
}

/// One named part of an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionFeature {
    pub name: String,
    pub kind: FeatureKind,
    pub shape: Vec<usize>,
    #[serde(default)]
    pub unit: String,
    #[serde(default)]
    pub mode: ActionMode,
    pub limits: Limits,
}

impl ActionFeature {
    /// How many numbers the feature holds.
    pub fn dim(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What a robot or task offers, and what a checkpoint was trained for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    pub observation: Vec<Feature>,
    pub action: Vec<ActionFeature>,
    pub control_hz: f64,
}

/// The first difference found between what a checkpoint needs and what a robot offers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the checkpoint and the robot disagree on {place}: the checkpoint has {wanted}, the robot has {offered}"
)]
pub struct InterfaceMismatch {
    pub place: String,
    pub wanted: String,
    pub offered: String,
}

impl Interface {
    /// `Do`: numbers in one observation.
    pub fn observation_dim(&self) -> usize {
        self.observation.iter().map(Feature::dim).sum()
    }

    /// `Da`: numbers in one action.
    pub fn action_dim(&self) -> usize {
        self.action.iter().map(ActionFeature::dim).sum()
    }

    /// Where a feature's numbers lie in a flat observation of this interface.
    pub fn observation_range(&self, name: &str) -> Option<Range<usize>> {
        let mut start = 0;
        for feature in &self.observation {
            let end = start + feature.dim();
            if feature.name == name {
                return Some(start..end);
            }
            start = end;
        }
        None
    }

    /// Lower and upper bounds of each of the `Da` action numbers.
    pub fn action_limits(&self) -> (Vec<f64>, Vec<f64>) {
        let low = self.action.iter().flat_map(|feature| feature.limits.low.iter().copied());
        let high = self.action.iter().flat_map(|feature| feature.limits.high.iter().copied());
        (low.collect(), high.collect())
    }

    /// Whether a robot that offers `offered` can be driven by a policy trained for `self`.
    ///
    /// Every observation feature needed must be offered with the same kind, shape and unit (the robot may offer more, in
    /// any order); actions must be the same features in the same order, with the same mode and unit; rates must agree.
    /// Limits are the robot's own and are not compared.
    ///
    /// # Errors
    /// The first difference, with both sides of it.
    pub fn accepts(&self, offered: &Interface) -> Result<(), InterfaceMismatch> {
        let differ = |place: String, wanted: String, offered: String| {
            Err(InterfaceMismatch { place, wanted, offered })
        };
        for want in &self.observation {
            let Some(have) = offered.observation.iter().find(|feature| feature.name == want.name) else {
                let names: Vec<_> = offered.observation.iter().map(|feature| feature.name.as_str()).collect();
                return differ(
                    "the observation features".into(),
                    format!("`{}`", want.name),
                    format!("only {}", names.join(", ")),
                );
            };
            if have != want {
                return differ(
                    format!("observation feature `{}`", want.name),
                    format!("{:?} {:?} in `{}`", want.kind, want.shape, want.unit),
                    format!("{:?} {:?} in `{}`", have.kind, have.shape, have.unit),
                );
            }
        }
        let names = |features: &[ActionFeature]| {
            features.iter().map(|feature| feature.name.clone()).collect::<Vec<_>>().join(", ")
        };
        if names(&self.action) != names(&offered.action) {
            return differ("the action features".into(), names(&self.action), names(&offered.action));
        }
        for (want, have) in self.action.iter().zip(&offered.action) {
            if (want.kind, &want.shape, &want.unit, want.mode)
                != (have.kind, &have.shape, &have.unit, have.mode)
            {
                return differ(
                    format!("action feature `{}`", want.name),
                    format!("{:?} {:?} in `{}`, {:?}", want.kind, want.shape, want.unit, want.mode),
                    format!("{:?} {:?} in `{}`, {:?}", have.kind, have.shape, have.unit, have.mode),
                );
            }
        }
        if (self.control_hz - offered.control_hz).abs() > 1e-9 * self.control_hz.abs() {
            return differ(
                "the control rate".into(),
                format!("{} Hz", self.control_hz),
                format!("{} Hz", offered.control_hz),
            );
        }
        Ok(())
    }

    /// Picks this interface's features, in its order, out of a flat observation of `offered`.
    ///
    /// Call [`Interface::accepts`] first; a feature that is not offered yields `None`.
    pub fn select(&self, offered: &Interface, values: &[f64]) -> Option<Vec<f64>> {
        let mut selected = Vec::with_capacity(self.observation_dim());
        for feature in &self.observation {
            selected.extend_from_slice(values.get(offered.observation_range(&feature.name)?)?);
        }
        Some(selected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface() -> Interface {
        Interface {
            observation: vec![Feature::vector("state", 2, "px"), Feature::vector("corners", 3, "px")],
            action: vec![ActionFeature {
                name: "action".into(),
                kind: FeatureKind::Vector,
                shape: vec![2],
                unit: "px".into(),
                mode: ActionMode::Absolute,
                limits: Limits { low: vec![0.0; 2], high: vec![512.0; 2] },
            }],
            control_hz: 10.0,
        }
    }

    #[test]
    fn a_robot_may_offer_more_in_another_order() {
        let mut robot = interface();
        robot.observation.reverse();
        robot.observation.push(Feature::vector("extra", 7, ""));
        robot.action[0].limits.high = vec![1.0; 2];
        assert_eq!(interface().accepts(&robot), Ok(()));
        let flat: Vec<f64> = (0..12).map(f64::from).collect();
        assert_eq!(interface().select(&robot, &flat), Some(vec![3.0, 4.0, 0.0, 1.0, 2.0]));
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        type Change = fn(&mut Interface);
        let changes: [(Change, &str); 7] = [
            (|robot| robot.observation[0].name = "pose".into(), "observation features"),
            (|robot| robot.observation[0].shape = vec![3], "`state`"),
            (|robot| robot.observation[1].unit = "m".into(), "`corners`"),
            (|robot| robot.action[0].name = "target".into(), "action features"),
            (|robot| robot.action[0].shape = vec![3], "`action`"),
            (|robot| robot.action[0].mode = ActionMode::Delta, "`action`"),
            (|robot| robot.control_hz = 20.0, "control rate"),
        ];
        for (change, place) in changes {
            let mut robot = interface();
            change(&mut robot);
            let error = interface().accepts(&robot).unwrap_err();
            assert!(error.to_string().contains(place), "{error}");
        }
    }
}
