//! How a new plan takes over from the present one.

use serde::{Deserialize, Serialize};

use crate::{Action, ActionChunk};

/// What becomes of the present plan when a new one comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Seam {
    /// The new plan replaces it from one step to the next, wherever it leads.
    #[default]
    Switch,
    /// Temporal ensembling (ACT, Zhao et al. 2023, section 4.2): the mean of all plans that have an action for a step,
    /// the i-th oldest of them with weight `exp(-weight * i)`.
    ///
    /// Numbers are averaged as they are. That is right for positions, and for angles and rotations as long as two plans
    /// for one step do not lie on either side of a wrap; no interface states that a number wraps.
    Ensemble { weight: f64 },
    /// The new plan continues the actions that are executed while it is made
    /// ([`PlanRequest::committed`](crate::PlanRequest::committed)), as far as the policy can.
    Continue,
}

impl Seam {
    /// ACT's own weight.
    pub const ENSEMBLE: Self = Self::Ensemble { weight: 0.01 };
}

/// The mean of `plans`, oldest first, for each step from `step` on: of those that have an action for it.
pub(crate) fn ensemble(plans: &[ActionChunk], step: u64, weight: f64) -> impl Iterator<Item = Action> {
    let end = plans.iter().map(|plan| plan.first_step + plan.actions.len() as u64).max().unwrap_or(step);
    (step..end).map_while(move |step| {
        let action = |plan: &ActionChunk| {
            plan.actions.get(usize::try_from(step.checked_sub(plan.first_step)?).ok()?).cloned()
        };
        mean(plans.iter().filter_map(action), weight)
    })
}

fn mean(actions: impl Iterator<Item = Action>, weight: f64) -> Option<Action> {
    let mut weights = 0.0;
    let mut mean: Option<Action> = None;
    for (age, action) in actions.enumerate() {
        let own = (-weight * age as f64).exp();
        weights += own;
        let Some(mean) = &mut mean else {
            mean = Some(action);
            continue;
        };
        for (mean, number) in mean.0.iter_mut().zip(action.0) {
            *mean += (number - *mean) * own / weights;
        }
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_weighted_from_the_oldest_plan_on() {
        let plan = |first_step: u64, numbers: &[f64]| ActionChunk {
            first_step,
            actions: numbers.iter().map(|number| Action(vec![*number, 7.0])).collect(),
        };
        let plans = [plan(2, &[9.0, 9.0, 1.0]), plan(3, &[9.0, 2.0, 5.0]), plan(4, &[4.0])];
        let means: Vec<Action> = ensemble(&plans, 4, 0.5).collect();
        let [w0, w1, w2] = [0.0_f64, -0.5, -1.0].map(f64::exp);
        let expected = (1.0 * w0 + 2.0 * w1 + 4.0 * w2) / (w0 + w1 + w2);
        assert!((means[0].0[0] - expected).abs() < 1e-12, "{means:?}");
        assert!(means.iter().all(|mean| mean.0[1] == 7.0), "plans that agree are followed to the bit");
        assert_eq!(means[1..], [Action(vec![5.0, 7.0])], "one plan alone is followed to its end");
        assert_eq!(ensemble(&plans, 6, 0.5).count(), 0);
    }

    #[test]
    fn seams_are_written_by_name() {
        for (seam, text) in [
            (Seam::Switch, r#"{"kind":"switch"}"#),
            (Seam::ENSEMBLE, r#"{"kind":"ensemble","weight":0.01}"#),
            (Seam::Continue, r#"{"kind":"continue"}"#),
        ] {
            assert_eq!(serde_json::to_string(&seam).unwrap(), text);
            assert_eq!(serde_json::from_str::<Seam>(text).unwrap(), seam);
        }
    }
}
