//! Push-T (Chi et al. 2023): push a T-shaped block onto its goal with a round agent.
//!
//! The world is a square of 512 px; y grows downward in drawings. It behaves as the two public environments do
//! (diffusion_policy's `pusht_env.py` and gym-pusht 0.1.8): demonstrations recorded there replay here.

mod contact;
mod engine;
mod expert;
mod geometry;
mod physics;
mod reset;
mod scene;
mod solver;

use std::f64::consts::TAU;

use nudge_control::{
    Action, ActionFeature, ActionMode, Feature, FeatureKind, Interface, Limits, Observation, Scene, Step,
    Task,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::SimError;
use engine::DT;
pub(crate) use expert::PushTExpert;
use geometry::{KEYPOINTS, WORLD_PX};
use physics::World;
pub use reset::ResetRule;
pub use scene::scene_from_observation;

const CONTROL_HZ: f64 = 10.0;
const PHYSICS_STEPS_PER_ACTION: usize = 10;
/// Coverage beyond which the task is achieved.
const SUCCESS_COVERAGE: f64 = 0.95;
/// Gains of the agent's drive: 1/s^2 on position, 1/s on velocity.
const POSITION_GAIN: f64 = 100.0;
const VELOCITY_GAIN: f64 = 20.0;
/// Targets further out than this are pursued as if they were here, which keeps the agent's motion finite, px.
const FARTHEST_TARGET: f64 = 1e6;

/// What can be chosen about Push-T.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushTConfig {
    pub reset_rule: ResetRule,
    /// Control steps after which an episode is over.
    pub max_steps: usize,
}

impl Default for PushTConfig {
    fn default() -> Self {
        Self { reset_rule: ResetRule::default(), max_steps: 300 }
    }
}

/// All of a world that moves: positions in px, velocity in px/s, the block as x, y of its origin and angle in rad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PushTState {
    pub agent: [f64; 2],
    pub agent_velocity: [f64; 2],
    pub block: [f64; 3],
}

/// The Push-T task. Observations, in the reference's values and this order: `observation.state` (agent x, y),
/// `observation.environment_state` (8 corners), `observation.keypoints` (9 points), `observation.block_pose` (x, y of
/// the origin, angle in 0..2 pi). The action is the position that the agent is sent to.
///
/// The reward is `coverage / 0.95`, at most 1; a coverage beyond 0.95 is success and ends the episode.
pub struct PushT {
    config: PushTConfig,
    interface: Interface,
    world: World,
    agent: [f64; 2],
    agent_velocity: [f64; 2],
    /// The next physics step leaves the block alone, whatever it overlaps.
    block_at_rest: bool,
    target: Option<[f64; 2]>,
    steps: usize,
}

impl PushT {
    /// A world at the start of seed 0.
    pub fn new(config: PushTConfig) -> Self {
        let (agent, block) = reset::start(config.reset_rule, 0);
        Self {
            config,
            interface: interface(),
            world: World::new(block),
            agent,
            agent_velocity: [0.0; 2],
            block_at_rest: false,
            target: None,
            steps: 0,
        }
    }

    pub fn state(&self) -> PushTState {
        let block = self.world.block();
        PushTState {
            agent: self.agent,
            agent_velocity: self.agent_velocity,
            block: [block.x, block.y, block.angle],
        }
    }

    /// Puts the world in the midst of a motion, as [`state`](Self::state) described it: what overlaps is being pushed
    /// apart. The count of steps goes on.
    pub fn set_state(&mut self, state: PushTState) {
        self.world = World::new(state.block);
        self.agent = state.agent;
        self.agent_velocity = state.agent_velocity;
        self.block_at_rest = false;
    }

    /// Begins an episode from a recorded start, with everything at rest: the block stays where it is for the first
    /// physics step even when it overlaps the agent or a wall, as it does in a reference world set up by hand.
    pub fn start_from(&mut self, agent: [f64; 2], block: [f64; 3]) -> Observation {
        self.set_state(PushTState { agent, agent_velocity: [0.0; 2], block });
        self.block_at_rest = true;
        self.target = None;
        self.steps = 0;
        self.observation()
    }

    /// Share of the goal that the block covers, 0..=1.
    pub fn coverage(&self) -> f64 {
        geometry::coverage(self.world.block())
    }

    /// One physics step of 0.01 s, with the agent driven towards `target` (px). A coordinate that is not a number
    /// means the agent's own.
    ///
    /// The block moves by the contacts of the present positions, then the agent moves; this is the reference's order
    /// (drive, move both, collide, solve) seen from the moment after its solver has run.
    pub fn physics_step(&mut self, target: [f64; 2]) {
        if !std::mem::take(&mut self.block_at_rest) {
            self.world.step(self.agent, self.agent_velocity);
        }
        for ((position, velocity), target) in self.agent.iter_mut().zip(&mut self.agent_velocity).zip(target)
        {
            let target =
                if target.is_nan() { *position } else { target.clamp(-FARTHEST_TARGET, FARTHEST_TARGET) };
            *velocity += (POSITION_GAIN * (target - *position) - VELOCITY_GAIN * *velocity) * DT;
            *position += *velocity * DT;
        }
    }

    fn observation(&self) -> Observation {
        let block = self.world.block();
        let mut values = Vec::with_capacity(self.interface.observation_dim());
        values.extend(self.agent);
        values.extend(block.corners().as_flattened());
        values.extend(KEYPOINTS.map(|point| block.world_from_body(point)).as_flattened());
        values.extend([block.x, block.y, block.angle.rem_euclid(TAU)]);
        Observation(values)
    }
}

impl Task for PushT {
    fn name(&self) -> &str {
        "push_t"
    }

    fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The reference runs one physics step after it has placed everything, in which nothing moves yet; what overlaps
    /// begins to be pushed apart with the first action.
    fn reset(&mut self, seed: u64) -> Observation {
        let (agent, block) = reset::start(self.config.reset_rule, seed);
        let observation = self.start_from(agent, block);
        self.block_at_rest = false;
        observation
    }

    /// Numbers beyond the first two of an action are ignored; missing ones hold the agent.
    fn step(&mut self, action: &Action) -> Step {
        let target = [0, 1].map(|axis| action.0.get(axis).copied().unwrap_or(self.agent[axis]));
        for _ in 0..PHYSICS_STEPS_PER_ACTION {
            self.physics_step(target);
        }
        self.target = Some(target);
        self.steps += 1;
        let coverage = self.coverage();
        let success = coverage > SUCCESS_COVERAGE;
        Step {
            observation: self.observation(),
            reward: (coverage / SUCCESS_COVERAGE).clamp(0.0, 1.0),
            success,
            done: success || self.steps >= self.config.max_steps,
        }
    }

    fn hold_action(&self) -> Action {
        Action(self.agent.to_vec())
    }

    fn max_steps(&self) -> usize {
        self.config.max_steps
    }

    fn scene(&self) -> Scene {
        let corners = self.world.block().corners();
        let flat = std::array::from_fn(|i| corners[i / 2][i % 2]);
        scene_from_observation(self.agent, &flat, self.target)
    }
}

/// Executes one action in each world, on all of rayon's threads; the same steps as one after the other.
///
/// # Errors
/// When there are not as many actions as worlds; no world has moved then.
pub fn step_many(worlds: &mut [PushT], actions: &[Action]) -> Result<Vec<Step>, SimError> {
    if worlds.len() != actions.len() {
        return Err(SimError::ActionCount { worlds: worlds.len(), actions: actions.len() });
    }
    Ok(worlds.par_iter_mut().zip(actions).map(|(world, action)| world.step(action)).collect())
}

fn interface() -> Interface {
    Interface {
        observation: vec![
            Feature::vector("observation.state", 2, "px"),
            Feature::vector("observation.environment_state", 16, "px"),
            Feature::vector("observation.keypoints", 18, "px"),
            Feature::vector("observation.block_pose", 3, "px,px,rad"),
        ],
        action: vec![ActionFeature {
            name: "action".into(),
            kind: FeatureKind::Vector,
            shape: vec![2],
            unit: "px".into(),
            mode: ActionMode::Absolute,
            limits: Limits { low: vec![0.0; 2], high: vec![WORLD_PX; 2] },
        }],
        control_hz: CONTROL_HZ,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use geometry::GOAL;

    fn at_rest(block: [f64; 3]) -> PushT {
        let mut task = PushT::new(PushTConfig::default());
        task.start_from([20.0, 20.0], block);
        task
    }

    fn hold(task: &mut PushT) -> Step {
        let action = task.hold_action();
        task.step(&action)
    }

    #[test]
    fn a_block_at_the_goal_is_success_and_ends_the_episode() {
        let step = hold(&mut at_rest(GOAL));
        assert_eq!((step.reward, step.success, step.done), (1.0, true, true));
        // A shift by d along the bar costs 120 d of the T's 6300 square pixels: 2.6 px leave 0.9505, 2.7 px 0.9486.
        for (shift, success) in [(2.6, true), (2.7, false)] {
            let along = shift * GOAL[2].cos();
            let step = hold(&mut at_rest([GOAL[0] + along, GOAL[1] + along, GOAL[2]]));
            assert_eq!((step.success, step.done), (success, success), "{step:?}");
            let coverage = 1.0 - 120.0 * shift / 6300.0;
            assert!((step.reward - (coverage / 0.95).min(1.0)).abs() < 1e-9, "{step:?}");
        }
    }

    #[test]
    fn a_still_agent_changes_nothing_and_does_not_score_one() {
        let mut task = PushT::new(PushTConfig { max_steps: 50, ..PushTConfig::default() });
        let mut scores = Vec::new();
        for seed in 100_000..100_050 {
            task.reset(seed);
            let steps: Vec<Step> = (0..50).map(|_| hold(&mut task)).collect();
            assert!(steps.iter().all(|step| !step.success));
            assert_eq!(steps.iter().position(|step| step.done), Some(49), "an episode lasts max_steps");
            scores.push(steps.iter().map(|step| step.reward).fold(0.0, f64::max));
        }
        // The published floor of doing nothing: 0.076 [0.041, 0.111].
        let mean = scores.iter().sum::<f64>() / 50.0;
        assert!((mean - 0.076).abs() < 5e-4, "score {mean}");
    }

    #[test]
    fn observations_hold_what_the_interface_says() {
        let mut task = PushT::new(PushTConfig::default());
        let Observation(values) = task.start_from([30.0, 40.0], [200.0, 300.0, -std::f64::consts::FRAC_PI_2]);
        let interface = task.interface();
        assert_eq!(values.len(), interface.observation_dim());
        let feature = |name| &values[interface.observation_range(name).unwrap()];
        assert_eq!(feature("observation.state"), [30.0, 40.0]);
        // A quarter turn backwards: the bar's first end, at -60 along x, comes to lie at +60 along y.
        let corners = feature("observation.environment_state");
        assert!((corners[0] - 200.0).abs() < 1e-9 && (corners[1] - 360.0).abs() < 1e-9, "{corners:?}");
        let keypoints = feature("observation.keypoints");
        assert!((keypoints[0] - 290.0411).abs() < 1e-9 && (keypoints[1] - 290.7305).abs() < 1e-9);
        assert_eq!(feature("observation.block_pose"), [200.0, 300.0, 1.5 * std::f64::consts::PI]);
    }

    #[test]
    fn broken_actions_hold_and_far_ones_stay_finite() {
        for action in [vec![], vec![f64::NAN; 2]] {
            let mut task = at_rest(GOAL);
            assert_eq!(task.step(&Action(action)).observation.0[..2], [20.0, 20.0]);
        }
        let mut task = PushT::new(PushTConfig::default());
        for target in [f64::INFINITY, -1e300, 256.0, f64::NAN] {
            for _ in 0..30 {
                let step = task.step(&Action(vec![target; 2]));
                assert!(step.observation.0.iter().all(|value| value.is_finite()), "{target}: {step:?}");
            }
        }
    }

    #[test]
    fn a_scene_can_be_drawn_from_observations_alone() {
        let mut task = PushT::new(PushTConfig::default());
        let Observation(values) = task.reset(3);
        let corners = values[2..18].try_into().unwrap();
        assert_eq!(task.scene(), scene_from_observation([values[0], values[1]], corners, None));
        let Observation(values) = task.step(&Action(vec![100.0, 50.0])).observation;
        let corners = values[2..18].try_into().unwrap();
        let drawn = scene_from_observation([values[0], values[1]], corners, Some([100.0, 50.0]));
        assert_eq!(task.scene(), drawn);
    }
}
