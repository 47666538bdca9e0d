//! Demonstrates Push-T, seeing the whole world.

use nudge_control::{Action, Expert};

use super::PushT;
use super::geometry::GOAL;

/// Pushes the block towards the goal.
#[derive(Default)]
pub(crate) struct PushTExpert;

impl Expert<PushT> for PushTExpert {
    fn act(&mut self, task: &PushT) -> Action {
        let [x, y, _] = task.state().block;
        Action(vec![0.5 * (x + GOAL[0]), 0.5 * (y + GOAL[1])])
    }
}
