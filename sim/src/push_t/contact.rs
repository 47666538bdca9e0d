//! Contacts of the agent with the block, found as rapier finds them.

use std::sync::LazyLock;

use rapier3d::math::{Pose, Vector};
use rapier3d::parry::bounding_volume::{Aabb, BoundingVolume};
use rapier3d::parry::query::ContactManifold;
use rapier3d::parry::query::details::contact_manifold_convex_ball;
use rapier3d::parry::shape::Shape;
use rapier3d::prelude::{Ball, Cuboid};

use super::engine::{BLOCK_HALF_DEPTH, DT, chipmunk_distance};
use super::geometry::{AGENT_RADIUS, BOXES};
use super::solver::{Contact, Other, centre_of_gravity, flat};

/// The block's boxes; the same in every world.
static PARTS: LazyLock<[Part; 2]> = LazyLock::new(|| {
    BOXES.map(|(center, half)| {
        let pose = Pose::translation(center[0] as f32, center[1] as f32, 0.0);
        let shape = Cuboid::new(Vector::new(half[0] as f32, half[1] as f32, BLOCK_HALF_DEPTH));
        Part { pose, shape, bounds: shape.compute_aabb(&pose) }
    })
});

struct Part {
    pose: Pose,
    shape: Cuboid,
    bounds: Aabb,
}

/// The agent's touch.
#[derive(Default)]
pub(super) struct Touch {
    /// Kept for its memory only.
    manifold: ContactManifold<(), ()>,
}

impl Touch {
    /// Where the agent at `agent` (px), moving at `velocity` (px/s), touches the block's two boxes: rapier's own
    /// collision detection, then what its `narrow_phase/pair_update.rs` makes of it.
    pub(super) fn contacts(&mut self, block: &Pose, agent: Vector, velocity: Vector) -> [Option<Contact>; 2] {
        let ball = Ball::new(AGENT_RADIUS as f32);
        let block_from_agent = block.inv_mul(&Pose::from_translation(agent));
        let ball_bounds = ball.aabb(&block_from_agent);
        PARTS.each_ref().map(|part| {
            if !part.bounds.intersects(&ball_bounds) {
                return None;
            }
            contact_manifold_convex_ball(
                &part.pose.inv_mul(&block_from_agent),
                &part.shape,
                &ball,
                None,
                None,
                0.0,
                &mut self.manifold,
                false,
            );
            let point = self.manifold.points.first()?;
            let world_from_part = *block * part.pose;
            let normal = world_from_part.rotation * self.manifold.local_n1;
            if point.dist >= 0.0 && point.dist + velocity.dot(normal) * DT as f32 >= 0.0 {
                return None;
            }
            let dist = chipmunk_distance(point.dist, velocity.dot(normal).max(0.0));
            let on_agent = agent + point.local_p2;
            let on_block = world_from_part * point.local_p1;
            let on_block = on_block + normal * ((on_agent - on_block).dot(normal) - dist);
            let middle = (on_block + on_agent) * 0.5;
            let centre = centre_of_gravity(block);
            Some(Contact {
                normal: flat(normal),
                block_point: flat(centre.inverse_transform_point(on_block)),
                block_arm: flat(middle - centre.translation),
                other: Other { position: flat(agent), velocity: flat(velocity) },
                other_point: flat(on_agent - agent),
                other_arm: flat(middle - agent),
            })
        })
    }
}
