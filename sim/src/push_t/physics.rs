//! The block of Push-T, moved by what touches it.

use rapier3d::math::{Pose as BodyPose, Rotation, Vector};

use super::contact::Touch;
use super::engine::{Engine, PAIRING_REACH};
use super::geometry::{AGENT_RADIUS, BOXES, Pose, WALL_RADIUS, WALLS};
use super::solver::{Contact, Solver};

/// Room for the rounding of f32 positions: nothing touches at more than this, px.
const CLEARANCE: f64 = 0.01;

/// The block among the walls. The agent is an input: nothing ever moves it.
pub(crate) struct World {
    pose: Pose,
    /// The pose as rapier holds it.
    body: BodyPose,
    /// There from the first touch of a wall until the block is well away from all of them: the engine remembers
    /// contacts between boxes, and in which order they came about.
    engine: Option<Box<Engine>>,
    /// The engine has seen that no wall touches any more, so steps without it leave nothing stale in it.
    walls_forgotten: bool,
    touch: Touch,
    solver: Solver,
    /// Kept for their memory only.
    contacts: Vec<Contact>,
}

impl World {
    pub(crate) fn new(block: [f64; 3]) -> Self {
        let [x, y, angle] = block;
        let rotation = Rotation::from_scaled_axis(Vector::new(0.0, 0.0, angle as f32));
        let body = BodyPose::from_parts(planar([x, y]), rotation);
        Self {
            pose: Pose::new(block),
            body,
            engine: None,
            walls_forgotten: false,
            touch: Touch::default(),
            solver: Solver::default(),
            contacts: Vec::new(),
        }
    }

    pub(crate) fn block(&self) -> &Pose {
        &self.pose
    }

    /// Moves the block by one physics step, with the agent at `position` (px) and moving at `velocity` (px/s).
    pub(crate) fn step(&mut self, position: [f64; 2], velocity: [f64; 2]) {
        let from_walls = distance_from_walls(&self.pose);
        let parts = parts_near(&self.pose, position);
        let touches_walls = from_walls < CLEARANCE;
        let Some(rounds) = rounds(parts, touches_walls) else {
            return;
        };
        let (agent, velocity) = (planar(position), planar(velocity));
        if touches_walls && self.engine.is_none() {
            self.engine = Some(Box::new(Engine::new(self.body, agent)));
        }
        if from_walls > PAIRING_REACH {
            self.engine = None;
        }
        let on_agent = self.touch.contacts(&self.body, agent, velocity);
        self.contacts.clear();
        match &mut self.engine {
            Some(engine) if touches_walls || !self.walls_forgotten => {
                engine.contacts(self.body, agent, on_agent, &mut self.contacts);
                self.walls_forgotten = !touches_walls;
            }
            _ => self.contacts.extend(on_agent.into_iter().flatten()),
        }
        self.body = self.solver.step(&self.body, &self.contacts, rounds);
        let (translation, rotation) = (self.body.translation, self.body.rotation);
        let angle = 2.0 * f64::from(rotation.z).atan2(f64::from(rotation.w));
        self.pose = Pose::new([f64::from(translation.x), f64::from(translation.y), angle]);
    }
}

fn planar([x, y]: [f64; 2]) -> Vector {
    Vector::new(x as f32, y as f32, 0.0)
}

/// How often the contact solver goes round; `None` when nothing touches, which is quick, and free of its rounding.
fn rounds(parts: usize, touches_walls: bool) -> Option<usize> {
    match (parts, touches_walls) {
        (0, false) => None,
        // One contact is solved at once.
        (1, false) => Some(1),
        // Fewer show when the block is jammed.
        _ => Some(20),
    }
}

/// How far the nearest wall is from the nearest corner, px; negative where they overlap.
fn distance_from_walls(block: &Pose) -> f64 {
    let (low, high) = (WALLS[0] + WALL_RADIUS, WALLS[1] - WALL_RADIUS);
    let distance = |coordinate: &f64| (coordinate - low).min(high - coordinate);
    block.corners().as_flattened().iter().map(distance).fold(f64::INFINITY, f64::min)
}

/// How many of the block's two boxes the agent may touch.
fn parts_near(block: &Pose, agent: [f64; 2]) -> usize {
    let [x, y] = block.body_from_world(agent);
    let near = |(center, half): &([f64; 2], [f64; 2])| {
        let beyond_x = ((x - center[0]).abs() - half[0]).max(0.0);
        let beyond_y = ((y - center[1]).abs() - half[1]).max(0.0);
        beyond_x * beyond_x + beyond_y * beyond_y <= (AGENT_RADIUS + CLEARANCE) * (AGENT_RADIUS + CLEARANCE)
    };
    BOXES.iter().filter(|part| near(part)).count()
}

#[cfg(test)]
mod tests {
    use nudge_control::Task;

    use super::*;
    use crate::push_t::{PushT, PushTConfig};

    /// Episodes of pushing the block around and against walls, beside an engine that runs in all of them.
    #[test]
    fn the_block_moves_as_in_an_engine_that_never_rests() {
        let mut task = PushT::new(PushTConfig::default());
        let (mut against_walls, mut away) = (0, 0);
        for seed in 0..8 {
            task.reset(seed);
            let mut engine = None;
            for step in 0..1500 {
                let (block, body, state) = (*task.world.block(), task.world.body, task.state());
                let middle =
                    [0, 1].map(|axis| block.corners().map(|corner| corner[axis]).iter().sum::<f64>() / 8.0);
                let turn = f64::from(step / 10) / 7.0;
                task.physics_step([middle[0] + 60.0 * turn.cos(), middle[1] + 60.0 * turn.sin()]);

                let touches_walls = distance_from_walls(&block) < CLEARANCE;
                let Some(rounds) = rounds(parts_near(&block, state.agent), touches_walls) else {
                    assert_eq!(task.world.body, body);
                    continue;
                };
                let (agent, velocity) = (planar(state.agent), planar(state.agent_velocity));
                let engine = engine.get_or_insert_with(|| Engine::new(body, agent));
                let expected = engine.step(body, agent, velocity, rounds);
                assert_eq!(task.world.body, expected, "seed {seed}, step {step}");
                *(if touches_walls { &mut against_walls } else { &mut away }) += 1;
            }
        }
        assert!(
            against_walls > 500 && away > 5000,
            "{against_walls} steps against walls, {away} away from them"
        );
    }
}
