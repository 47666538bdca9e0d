//! Pick-place: an arm with a parallel gripper takes an object from a table and puts it where it belongs.
//!
//! Base of the arm at the origin, z up, x forward over the table, whose top is z = 0. Nothing is glued: a grasp is
//! contact and friction of two fingers and an object.

mod config;
mod expert;
mod objects;
mod observation;
mod physics;
mod progress;
mod robot;
mod scene;
mod servo;
mod start;

use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector3};
use nudge_control::{Action, Interface, Observation, Scene, Step, Task};

use crate::numpy::Pcg64;
pub use config::{ActionKind, PickPlaceConfig, Variant};
pub use expert::PickPlaceExpert;
pub use objects::{Object, ObjectKind, yaw};
pub use physics::Penetration;
use physics::World;
use progress::Progress;
pub use progress::Stage;
pub use robot::LimitUse;
use robot::{ARM_JOINTS, ArmModel};
pub use servo::pointing_down;
use servo::{NEUTRAL_RAD, Servo, TICKS, joints_for};
use start::{Start, start};

/// Opening of the gripper when an episode begins, m.
const FIRST_OPENING_M: f64 = 0.0795;
/// What separates the stream of the sensors' noise from that of the start.
const NOISE_STREAM: u64 = 0x6e6f_6973_6500_0000;

/// All there is to know about a world, exactly. Poses are in the world's frame.
#[derive(Clone, Debug, PartialEq)]
pub struct PickPlaceState {
    /// Control steps since the episode began.
    pub steps: usize,
    /// rad and rad/s.
    pub joints: [f64; ARM_JOINTS],
    pub joint_velocity: [f64; ARM_JOINTS],
    /// Distance between the fingers' pads, m.
    pub opening_m: f64,
    /// Where the servos are sent at this moment, rad and m.
    pub servo_joints: [f64; ARM_JOINTS],
    pub servo_opening_m: f64,
    pub world_from_tool: Isometry3<f64>,
    pub object: Object,
    pub world_from_object: Isometry3<f64>,
    /// Speed of the object, m/s and rad/s.
    pub object_speed: (f64, f64),
    /// Whether the left and the right finger push the object; both do when it is grasped.
    pub fingers_touch: [bool; 2],
    /// The target: a point of the pad's, mark's or bin's floor, or of the lower cube's top, with the target's yaw.
    pub world_from_target: Isometry3<f64>,
    pub distractors: [(Object, Isometry3<f64>); 2],
    /// The lower cube of [`Variant::Stack`].
    pub support: Option<(Object, Isometry3<f64>)>,
    pub touches_support: bool,
    /// The furthest stage that the episode has reached.
    pub stage: Stage,
}

/// The pick-place task. The observation's features and the action are described by [`Task::interface`]: `action` is
/// [x, y, z (m), yaw (rad), opening (m)] of a tool that points down, or the seven joint angles (rad) and the opening.
///
/// The reward is the share of the five stages reached; success ends the episode.
pub struct PickPlace {
    config: PickPlaceConfig,
    interface: Interface,
    model: ArmModel,
    start: Start,
    /// x, y (m) and yaw (rad) of the target, unless that is the lower cube.
    target: [f64; 3],
    world: World,
    servo: Servo,
    progress: Progress,
    noise: Pcg64,
    steps: usize,
}

impl PickPlace {
    /// A world at the start of seed 0.
    pub fn new(config: PickPlaceConfig) -> Self {
        let model = ArmModel::new();
        let mut limits = [[0.0; 2]; ARM_JOINTS];
        for (limits, joint) in limits.iter_mut().zip(&model.motors) {
            *limits = [joint.lower, joint.upper];
        }
        let start = start(config.variant, 0);
        let servo = first_servo(&model, &start);
        let world = World::new(&model, config.variant, &start, &servo.joints, servo.opening_m);
        Self {
            config,
            interface: config::interface(config.action, &limits),
            model,
            target: start.target,
            start,
            world,
            servo,
            progress: Progress::default(),
            noise: Pcg64::new(NOISE_STREAM),
            steps: 0,
        }
    }

    pub fn config(&self) -> PickPlaceConfig {
        self.config
    }

    /// The arm's joints from its base to its tool.
    pub fn chain(&self) -> &nudge_control::Chain {
        &self.model.chain
    }

    /// The state, as no policy sees it: exact.
    pub fn state(&self) -> PickPlaceState {
        let (positions, velocities) = self.world.joints();
        let [joints, joint_velocity] =
            [positions, velocities].map(|values| std::array::from_fn(|index| values[index]));
        let [one, other] = self.start.distractors.map(|placed| placed.object);
        let support = self.start.support.map(|placed| (placed.object, self.world.pose(3)));
        PickPlaceState {
            steps: self.steps,
            joints,
            joint_velocity,
            opening_m: positions[ARM_JOINTS] + positions[ARM_JOINTS + 1],
            servo_joints: self.servo.joints,
            servo_opening_m: self.servo.opening_m,
            world_from_tool: self.model.chain.forward(&joints),
            object: self.start.object.object,
            world_from_object: self.world.pose(0),
            object_speed: self.world.speed(0),
            fingers_touch: self.world.fingers_touch(),
            world_from_target: self.world_from_target(),
            distractors: [(one, self.world.pose(1)), (other, self.world.pose(2))],
            support,
            touches_support: self.world.touches_support(),
            stage: self.progress.stage,
        }
    }

    /// Puts the object elsewhere, at rest: what a hand that interferes does.
    pub fn place_object(&mut self, world_from_object: &Isometry3<f64>) {
        self.world.place(0, world_from_object);
    }

    /// Deepest overlaps of solid things since the episode began.
    pub fn worst_penetration(&self) -> Penetration {
        self.world.penetration
    }

    /// How far the arm went towards its limits since the episode began.
    pub fn limit_use(&self) -> LimitUse {
        self.world.robot.limit_use
    }

    fn world_from_target(&self) -> Isometry3<f64> {
        if let Some(support) = &self.start.support {
            let up = Translation3::new(0.0, 0.0, support.object.size_m[2] / 2.0);
            return self.world.pose(3) * up;
        }
        let [x, y, yaw] = self.target;
        let turn = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), yaw);
        Isometry3::from_parts(Translation3::new(x, y, 0.0), turn)
    }

    fn observe(&mut self, state: &PickPlaceState) -> Observation {
        Observation(observation::observation(state, &self.model, &mut self.noise))
    }
}

impl Task for PickPlace {
    fn name(&self) -> &str {
        "pick_place"
    }

    fn interface(&self) -> &Interface {
        &self.interface
    }

    fn reset(&mut self, seed: u64) -> Observation {
        self.start = start(self.config.variant, seed);
        self.servo = first_servo(&self.model, &self.start);
        let (joints, opening_m) = (&self.servo.joints, self.servo.opening_m);
        self.world = World::new(&self.model, self.config.variant, &self.start, joints, opening_m);
        self.target = self.start.target;
        self.progress = Progress::default();
        self.noise = Pcg64::new(seed ^ NOISE_STREAM);
        self.steps = 0;
        let state = self.state();
        self.observe(&state)
    }

    /// Numbers beyond an action's are ignored; missing ones, and those that are not finite, hold.
    fn step(&mut self, action: &Action) -> Step {
        if let Some((step, target)) = self.start.jump
            && step == self.steps
        {
            self.target = target;
        }
        self.servo.take(&self.model, self.config.action, &action.0);
        for _ in 0..TICKS {
            let targets = self.servo.tick();
            self.world.step(&self.model, &targets);
        }
        self.steps += 1;
        let mut state = self.state();
        self.progress.note(self.config.variant, &state);
        state.stage = self.progress.stage;
        let success = state.stage == Stage::Placed;
        Step {
            observation: self.observe(&state),
            reward: f64::from(state.stage as u8) / f64::from(Stage::Placed as u8),
            success,
            done: success || self.steps >= self.config.max_steps,
        }
    }

    fn hold_action(&self) -> Action {
        Action(self.servo.hold(&self.model, self.config.action))
    }

    fn max_steps(&self) -> usize {
        self.config.max_steps
    }

    fn scene(&self) -> Scene {
        scene::scene(&self.model, self.config.variant, &self.state())
    }
}

/// The arm at the start of an episode, at rest.
fn first_servo(model: &ArmModel, start: &Start) -> Servo {
    let [x, y, z, yaw] = start.tool;
    let joints = joints_for(model, &pointing_down([x, y, z], yaw), &NEUTRAL_RAD);
    Servo::new(std::array::from_fn(|index| joints[index]), FIRST_OPENING_M)
}
