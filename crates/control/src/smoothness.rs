//! How smoothly commanded actions move where one plan takes over from another, and inside plans.

use std::ops::Range;

use serde::Serialize;

use crate::{ActionMode, Episode, FeatureKind, Interface, quantile};

/// Accelerations and jerks of what was commanded, gathered over episodes.
///
/// They are finite differences over 3 and 4 successive commands, as a length over the numbers of a feature that share a
/// unit. A difference over commands of more than one plan, or over a hold between two, lies at a seam; all others lie
/// inside a plan. What was held before an episode's first plan is left out.
#[derive(Clone, Debug, Default)]
pub struct Smoothness {
    parts: Vec<Part>,
}

/// Numbers of one feature with one unit.
#[derive(Clone, Debug)]
struct Part {
    name: String,
    unit: String,
    numbers: Range<usize>,
    mode: ActionMode,
    acceleration: Places,
    jerk: Places,
}

#[derive(Clone, Debug, Default)]
struct Places {
    seams: Vec<f64>,
    inside: Vec<f64>,
}

/// What [`Smoothness`] comes to for one feature, or those of its numbers that share a unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureSmoothness {
    pub feature: String,
    pub acceleration: Compared,
    pub jerk: Compared,
}

/// One derivative at seams and inside plans.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    pub unit: String,
    pub seams: Magnitudes,
    pub inside: Magnitudes,
}

/// Quantiles of `n` magnitudes; NaN when there are none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Magnitudes {
    pub n: usize,
    pub median: f64,
    pub p99: f64,
}

impl Smoothness {
    /// Takes an episode. `plans` tells for each frame the number of the plan that took over last, `None` where the robot
    /// held.
    pub fn add_episode(&mut self, episode: &Episode, plans: &[Option<usize>]) {
        if self.parts.is_empty() {
            self.parts = parts(&episode.interface);
        }
        let Some(first) = plans.iter().position(Option::is_some) else { return };
        let (frames, plans) = (&episode.frames[first..], &plans[first..]);
        for part in &mut self.parts {
            let mut path: Vec<Vec<f64>> =
                frames.iter().map(|frame| frame.action.0[part.numbers.clone()].to_vec()).collect();
            if part.mode == ActionMode::Delta {
                accumulate(&mut path);
            }
            let hz = episode.interface.control_hz;
            part.acceleration.add(&path, plans, &[1.0, -2.0, 1.0], hz.powi(2));
            part.jerk.add(&path, plans, &[-1.0, 3.0, -3.0, 1.0], hz.powi(3));
        }
    }

    /// Takes in what was gathered of other episodes with the same interface.
    pub fn add(&mut self, other: Self) {
        if self.parts.is_empty() {
            *self = other;
            return;
        }
        for (part, other) in self.parts.iter_mut().zip(other.parts) {
            part.acceleration.extend(other.acceleration);
            part.jerk.extend(other.jerk);
        }
    }

    /// The figures, in the order of the interface.
    pub fn summary(&self) -> Vec<FeatureSmoothness> {
        let figures = |part: &Part| {
            let unit = if part.unit.is_empty() { "1" } else { &part.unit };
            FeatureSmoothness {
                feature: part.name.clone(),
                acceleration: part.acceleration.compared(format!("{unit}/s^2")),
                jerk: part.jerk.compared(format!("{unit}/s^3")),
            }
        };
        self.parts.iter().map(figures).collect()
    }
}

impl Places {
    fn add(&mut self, path: &[Vec<f64>], plans: &[Option<usize>], stencil: &[f64], scale: f64) {
        for (points, plans) in path.windows(stencil.len()).zip(plans.windows(stencil.len())) {
            let difference = |number: usize| -> f64 {
                points.iter().zip(stencil).map(|(point, weight)| weight * point[number]).sum()
            };
            let squares = (0..points[0].len()).map(|number| difference(number).powi(2));
            let magnitude = squares.sum::<f64>().sqrt() * scale;
            if plans.iter().any(|plan| *plan != plans[0]) {
                self.seams.push(magnitude);
            } else if plans[0].is_some() {
                self.inside.push(magnitude);
            }
        }
    }

    fn extend(&mut self, other: Self) {
        self.seams.extend(other.seams);
        self.inside.extend(other.inside);
    }

    fn compared(&self, unit: String) -> Compared {
        Compared { unit, seams: magnitudes(&self.seams), inside: magnitudes(&self.inside) }
    }
}

fn magnitudes(values: &[f64]) -> Magnitudes {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Magnitudes { n: sorted.len(), median: quantile(&sorted, 0.5), p99: quantile(&sorted, 0.99) }
}

/// Sums changes up to a path.
fn accumulate(path: &mut [Vec<f64>]) {
    for step in 1..path.len() {
        let (before, after) = path.split_at_mut(step);
        after[0].iter_mut().zip(&before[step - 1]).for_each(|(number, before)| *number += before);
    }
}

/// The features that move, each cut where its unit changes (`m,m,m,rad`).
fn parts(interface: &Interface) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for feature in &interface.action {
        let dim = feature.dim();
        let mut units: Vec<&str> = feature.unit.split(',').collect();
        if units.len() != dim {
            units = vec![&feature.unit; dim];
        }
        let mut first = 0;
        for run in units.chunk_by(|one, next| one == next) {
            let numbers = first..first + run.len();
            first = numbers.end;
            let whole = run.len() == dim;
            if feature.kind == FeatureKind::Vector {
                parts.push(Part {
                    name: if whole { feature.name.clone() } else { format!("{}[{numbers:?}]", feature.name) },
                    unit: run[0].trim().to_owned(),
                    numbers: begin + numbers.start..begin + numbers.end,
                    mode: feature.mode,
                    acceleration: Places::default(),
                    jerk: Places::default(),
                });
            }
        }
        begin += dim;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, ActionFeature, Frame, Limits, Observation};

    fn episode(mode: ActionMode, unit: &str, actions: &[Vec<f64>]) -> Episode {
        let dim = actions[0].len();
        let action = ActionFeature {
            name: "arm".into(),
            kind: FeatureKind::Vector,
            shape: vec![dim],
            unit: unit.into(),
            mode,
            limits: Limits { low: vec![-1e9; dim], high: vec![1e9; dim] },
        };
        let frame = |action: &Vec<f64>| Frame {
            time_secs: 0.0,
            observation: Observation(vec![]),
            action: Action(action.clone()),
            reward: 0.0,
            success: false,
            done: false,
        };
        Episode {
            task: "line".into(),
            interface: Interface { observation: vec![], action: vec![action], control_hz: 10.0 },
            seed: None,
            frames: actions.iter().map(frame).collect(),
        }
    }

    fn summary(episode: &Episode, plans: &[Option<usize>]) -> Vec<FeatureSmoothness> {
        let mut smoothness = Smoothness::default();
        smoothness.add_episode(episode, plans);
        smoothness.summary()
    }

    #[test]
    fn a_parabola_has_one_acceleration_and_no_jerk() {
        // 3 t^2 and 4 t^2 in metres, at 10 Hz: accelerations of 6 and 8, 10 together.
        let path: Vec<_> =
            (0..20).map(|i| f64::from(i) / 10.0).map(|t| vec![3.0 * t * t, 4.0 * t * t]).collect();
        let found = summary(&episode(ActionMode::Absolute, "m", &path), &[Some(1); 20]).remove(0);
        assert_eq!((found.feature.as_str(), found.acceleration.unit.as_str()), ("arm", "m/s^2"));
        assert_eq!((found.acceleration.inside.n, found.jerk.inside.n, found.jerk.seams.n), (18, 17, 0));
        assert!((found.acceleration.inside.p99 - 10.0).abs() < 1e-9, "{found:?}");
        assert!(found.jerk.inside.p99 < 1e-9 && found.acceleration.seams.p99.is_nan());
        // The same, told as changes.
        let changes: Vec<_> =
            path.windows(2).map(|two| vec![two[1][0] - two[0][0], two[1][1] - two[0][1]]).collect();
        let found = summary(&episode(ActionMode::Delta, "m", &changes), &[Some(1); 19]).remove(0);
        assert!((found.acceleration.inside.median - 10.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_jump_between_two_plans_is_told_at_their_seam_and_nowhere_else() {
        let path: Vec<_> = (0..20).map(|i| vec![if i < 10 { 0.0 } else { 1.0 }]).collect();
        let plans: Vec<_> = (0..20).map(|i| Some(1 + usize::from(i >= 10))).collect();
        let found = summary(&episode(ActionMode::Absolute, "", &path), &plans).remove(0);
        assert_eq!(found.acceleration.unit, "1/s^2");
        // 1 in a hundredth of a second squared; three times that in jerk, where the jump is in the middle.
        assert_eq!((found.acceleration.seams.n, found.acceleration.seams.median), (2, 100.0));
        assert_eq!((found.jerk.seams.n, found.jerk.seams.median), (3, 1000.0));
        assert_eq!((found.acceleration.inside.p99, found.jerk.inside.p99), (0.0, 0.0));
    }

    #[test]
    fn a_hold_between_plans_is_a_seam_and_one_before_the_first_plan_is_nothing() {
        let path: Vec<_> = (0..12).map(|i| vec![f64::from(i * i)]).collect();
        let plans: Vec<_> =
            [None, None, None].into_iter().chain([Some(1); 4]).chain([None]).chain([Some(2); 4]).collect();
        let found = summary(&episode(ActionMode::Absolute, "rad", &path), &plans).remove(0);
        assert_eq!((found.acceleration.inside.n, found.acceleration.seams.n), (4, 3));
        let never = summary(&episode(ActionMode::Absolute, "rad", &path), &[None; 12]);
        assert_eq!(never[0].acceleration.inside.n, 0);
    }

    #[test]
    fn numbers_of_different_units_are_told_apart() {
        let path: Vec<_> = (0..5).map(|i| vec![0.0, 0.0, 0.0, f64::from(i * i), 0.0]).collect();
        let one = episode(ActionMode::Absolute, "m,m,m,rad,m", &path);
        let mut smoothness = Smoothness::default();
        smoothness.add_episode(&one, &[Some(1); 5]);
        let mut both = Smoothness::default();
        both.add(smoothness.clone());
        both.add(smoothness);
        let found = both.summary();
        let names: Vec<_> = found.iter().map(|part| part.feature.as_str()).collect();
        assert_eq!(names, ["arm[0..3]", "arm[3..4]", "arm[4..5]"]);
        assert_eq!((found[1].acceleration.inside.n, found[1].acceleration.inside.median), (6, 200.0));
        assert_eq!(found[2].acceleration.inside.median, 0.0);
    }
}
