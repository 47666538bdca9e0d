//! The stages in an ideal world: the tool goes where it is sent, and what is squeezed is held.

use std::f64::consts::PI;

use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector3};

use super::motion::Motion;
use super::stages::{Situation, goal};
use crate::numpy::Pcg64;
use crate::pick_place::objects::{Object, ObjectKind, yaw};

const DT: f64 = 0.1;

struct Ideal {
    now: Situation,
    tool_from_object: Option<Isometry3<f64>>,
    lifted: bool,
    steps: usize,
}

fn upright(x: f64, y: f64, z: f64, yaw: f64) -> Isometry3<f64> {
    Isometry3::from_parts(
        Translation3::new(x, y, z),
        UnitQuaternion::from_axis_angle(&Vector3::z_axis(), yaw),
    )
}

fn tool([x, y, z, yaw]: [f64; 4]) -> Isometry3<f64> {
    upright(x, y, z, yaw) * Isometry3::rotation(Vector3::x() * PI)
}

impl Ideal {
    fn new(seed: u64) -> Self {
        let mut stream = Pcg64::new(seed);
        let mut place = |z: f64| {
            upright(stream.uniform(0.35, 0.65), stream.uniform(-0.25, 0.25), z, stream.uniform(-1.5, 1.5))
        };
        let (world_from_object, world_from_target) = (place(0.025), place(0.0));
        let kinds = [ObjectKind::Cube, ObjectKind::Cylinder, ObjectKind::Box];
        let object = Object {
            kind: kinds[(seed % 3) as usize],
            size_m: [0.04, 0.04, 0.05],
            mass_kg: 0.1,
            friction: 0.5,
        };
        let commanded = [0.45, 0.0, 0.3, 0.2];
        let now = Situation {
            world_from_tool: tool(commanded),
            commanded,
            opening_m: 0.08,
            both_fingers_touch: false,
            object,
            world_from_object,
            world_from_target,
            in_zone: false,
            max_opening_m: 0.08,
            obstacles: Vec::new(),
        };
        Self { now, tool_from_object: None, lifted: false, steps: 0 }
    }

    fn placed(&self) -> bool {
        let error = self.now.world_from_target.translation.vector.xy()
            - self.now.world_from_object.translation.vector.xy();
        let turn = yaw(&self.now.world_from_target) - yaw(&self.now.world_from_object);
        let low = self.now.object.bottom_m(&self.now.world_from_object) < 0.004;
        self.lifted && low && error.norm() < 0.01 && self.now.object.kind.nearest_turn(turn).abs() < 0.17
    }

    fn step(&mut self, pose: [f64; 4], opening_m: f64) {
        self.steps += 1;
        self.now.commanded = pose;
        self.now.world_from_tool = tool(pose);
        if let Some(tool_from_object) = self.tool_from_object {
            self.now.world_from_object = self.now.world_from_tool * tool_from_object;
            let bottom = self.now.object.bottom_m(&self.now.world_from_object);
            self.lifted |= bottom > 0.03;
            self.now.world_from_object.translation.z -= bottom.min(0.0);
        }
        let width = self.now.object.size_m[0];
        let offset =
            self.now.world_from_object.translation.vector - self.now.world_from_tool.translation.vector;
        let between = offset.norm() < 0.015;
        let wanted = if between { opening_m.max(width) } else { opening_m };
        self.now.opening_m += (wanted - self.now.opening_m).clamp(-0.01, 0.01);
        self.now.both_fingers_touch = between && self.now.opening_m <= width + 1e-9 && opening_m < width;
        if self.now.both_fingers_touch {
            let held = self.now.world_from_tool.inverse() * self.now.world_from_object;
            self.tool_from_object.get_or_insert(held);
        } else {
            self.tool_from_object = None;
            self.now.world_from_object.translation.z -= self.now.object.bottom_m(&self.now.world_from_object);
        }
        self.now.in_zone = self.placed();
    }

    fn done(&self) -> bool {
        let above =
            self.now.world_from_tool.translation.z - self.now.object.top_m(&self.now.world_from_object);
        self.placed() && !self.now.both_fingers_touch && above > 0.06
    }
}

/// Acts until all is done, and says how often the tool stood still while it was not closing or opening.
fn act(world: &mut Ideal, mut between: impl FnMut(&mut Ideal)) -> usize {
    let mut motion = Motion::default();
    let mut idle = 0;
    while !world.done() && world.steps < 200 {
        motion.resume(world.now.commanded);
        let goal = goal(&world.now);
        let (pose, opening) = (motion.pose, world.now.opening_m);
        motion.advance(&goal, DT);
        let still = pose.iter().zip(motion.pose).all(|(before, after)| (before - after).abs() < 1e-3);
        world.step(motion.pose, goal.opening_m);
        idle += usize::from(still && (opening - world.now.opening_m).abs() < 1e-4);
        between(world);
    }
    idle
}

#[test]
fn any_object_goes_to_any_target_without_dawdling() {
    let mut lengths = Vec::new();
    for seed in 0..300 {
        let mut world = Ideal::new(seed);
        let idle = act(&mut world, |_| {});
        assert!(world.done(), "seed {seed}: {:?}", world.now);
        assert!(idle <= 6, "seed {seed} idles {idle} steps");
        lengths.push(world.steps);
    }
    lengths.sort_unstable();
    // 0.3 m down, 0.2 m there, 8 cm up and down twice and 0.2 m on, at 0.2 and 0.28 m/s, is 4 s.
    assert!((30..60).contains(&lengths[150]), "{}", lengths[150]);
}

#[test]
fn an_object_snatched_away_is_fetched_again() {
    for seed in 0..30 {
        let mut world = Ideal::new(seed);
        let mut snatched = false;
        act(&mut world, |world| {
            if !snatched && world.lifted {
                snatched = true;
                world.tool_from_object = None;
                world.now.both_fingers_touch = false;
                world.now.world_from_object = upright(0.4, 0.1, 0.025, 0.3);
            }
        });
        assert!(snatched && world.done(), "seed {seed}: {:?}", world.now);
    }
}

#[test]
fn a_target_that_moves_is_followed() {
    for seed in 0..30 {
        let mut world = Ideal::new(seed);
        act(&mut world, |world| {
            if world.steps == 25 {
                world.now.world_from_target = upright(0.5, -0.2, 0.0, 0.4);
                world.now.in_zone = world.placed();
            }
        });
        assert!(world.done() && world.steps > 25, "seed {seed}: {:?}", world.now);
    }
}
