//! Shapes and areas of Push-T, in pixels.

use std::sync::LazyLock;

/// Side of the square world, px.
pub(crate) const WORLD_PX: f64 = 512.0;
/// Radius of the agent, px.
pub(crate) const AGENT_RADIUS: f64 = 15.0;
/// Where the T is to be pushed: x, y of its origin and angle.
pub(crate) const GOAL: [f64; 3] = [256.0, 256.0, std::f64::consts::FRAC_PI_4];
/// Centre of gravity of the T, in its body frame.
pub(crate) const CENTRE_OF_GRAVITY: [f64; 2] = [0.0, 45.0];
/// Centre lines of the walls: low and high coordinate in x and in y, and half their thickness.
pub(crate) const WALLS: [f64; 2] = [5.0, 506.0];
pub(crate) const WALL_RADIUS: f64 = 2.0;

/// Centre and half extents of the bar and of the stem, in the body frame.
pub(crate) const BOXES: [([f64; 2], [f64; 2]); 2] =
    [([0.0, 15.0], [60.0, 15.0]), ([0.0, 75.0], [15.0, 45.0])];

/// Corners of the bar, then of the stem, in the body frame: the order of LeRobot's `observation.environment_state`.
pub(crate) const CORNERS: [[f64; 2]; 8] = [
    [-60.0, 0.0],
    [60.0, 0.0],
    [60.0, 30.0],
    [-60.0, 30.0],
    [-15.0, 30.0],
    [15.0, 30.0],
    [15.0, 120.0],
    [-15.0, 120.0],
];

/// The walk along [`CORNERS`] that outlines the T.
pub(crate) const OUTLINE: [usize; 8] = [0, 1, 2, 5, 6, 7, 4, 3];

/// The nine keypoints of diffusion_policy's low-dimensional observation, in the body frame.
pub(crate) const KEYPOINTS: [[f64; 2]; 9] = [
    [9.2695, 90.0411],
    [-60.9834, -1.1868],
    [60.9128, -1.3932],
    [-0.2705, 25.5436],
    [-14.0650, 122.8159],
    [39.0027, 32.8575],
    [-39.9664, 32.7296],
    [-16.8244, 62.8632],
    [23.5415, -1.7002],
];

/// Position of the T's origin, the middle of the bar's outer edge, and its heading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pose {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) angle: f64,
    cos: f64,
    sin: f64,
}

impl Pose {
    pub(crate) fn new([x, y, angle]: [f64; 3]) -> Self {
        let (sin, cos) = angle.sin_cos();
        Self { x, y, angle, cos, sin }
    }

    /// The world point of a point in the body frame.
    pub(crate) fn world_from_body(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [self.x + self.cos * x - self.sin * y, self.y + self.sin * x + self.cos * y]
    }

    /// The point in the body frame of a world point.
    pub(crate) fn body_from_world(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let (x, y) = (x - self.x, y - self.y);
        [self.cos * x + self.sin * y, self.cos * y - self.sin * x]
    }

    pub(crate) fn corners(&self) -> [[f64; 2]; 8] {
        CORNERS.map(|corner| self.world_from_body(corner))
    }
}

/// Share of the goal T that the block T covers.
pub(crate) fn coverage(block: &Pose) -> f64 {
    static GOAL_PARTS: LazyLock<[Quad; 2]> = LazyLock::new(|| rectangles(&Pose::new(GOAL).corners()));
    let goal_parts = &*GOAL_PARTS;
    let whole: f64 = goal_parts.iter().map(|part| area(part)).sum();
    let block_parts = rectangles(&block.corners());
    let mut shared = 0.0;
    // Bar and stem only share an edge, so the areas of their parts add up.
    for goal_part in goal_parts {
        for block_part in &block_parts {
            shared += area(clip(goal_part, block_part).corners());
        }
    }
    shared / whole
}

type Quad = [[f64; 2]; 4];

/// The bar and the stem.
fn rectangles(corners: &[[f64; 2]; 8]) -> [Quad; 2] {
    let [a, b, c, d, e, f, g, h] = *corners;
    [[a, b, c, d], [e, f, g, h]]
}

/// A polygon of few corners. Four edges make at most 19 of four, even if rounding made all that could be cut zigzag: an
/// edge keeps some corners and puts two new ones beside each of the others, hence 6, 9, 13, 19.
struct Polygon {
    corners: [[f64; 2]; 19],
    len: usize,
}

impl Polygon {
    fn new(corners: &[[f64; 2]]) -> Self {
        let mut polygon = Self { corners: [[0.0; 2]; 19], len: 0 };
        corners.iter().for_each(|corner| polygon.push(*corner));
        polygon
    }

    fn corners(&self) -> &[[f64; 2]] {
        &self.corners[..self.len]
    }

    fn push(&mut self, corner: [f64; 2]) {
        self.corners[self.len] = corner;
        self.len += 1;
    }
}

/// The part of `subject` inside `window` (Sutherland and Hodgman 1974); both turn from x towards y.
fn clip(subject: &Quad, window: &Quad) -> Polygon {
    let (mut subject, mut other) = (Polygon::new(subject), Polygon::new(&[]));
    for (index, &from) in window.iter().enumerate() {
        let to = window[(index + 1) % window.len()];
        // Twice the area of the triangle from, to, point: positive when the point lies inside this edge.
        let inside = |[x, y]: [f64; 2]| (to[0] - from[0]) * (y - from[1]) - (to[1] - from[1]) * (x - from[0]);
        let (uncut, kept) = if index % 2 == 0 { (&subject, &mut other) } else { (&other, &mut subject) };
        kept.len = 0;
        let Some(&last) = uncut.corners().last() else {
            continue;
        };
        let (mut start, mut before) = (last, inside(last));
        for &end in uncut.corners() {
            let after = inside(end);
            if (before >= 0.0) != (after >= 0.0) {
                let part = before / (before - after);
                kept.push([start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])]);
            }
            if after >= 0.0 {
                kept.push(end);
            }
            (start, before) = (end, after);
        }
    }
    // Four edges end where they began.
    subject
}

/// Area of a polygon that turns from x towards y; 0 when it has fewer than three corners.
fn area(corners: &[[f64; 2]]) -> f64 {
    // Relative to a corner, so that the products stay as small as the polygon.
    let Some(&[x0, y0]) = corners.first() else {
        return 0.0;
    };
    let twice: f64 = corners
        .windows(2)
        .map(|edge| (edge[0][0] - x0) * (edge[1][1] - y0) - (edge[1][0] - x0) * (edge[0][1] - y0))
        .sum();
    twice / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_t_covers_6300_square_pixels() {
        let parts = rectangles(&Pose::new([300.0, 100.0, 2.0]).corners());
        assert!((area(&parts[0]) + area(&parts[1]) - 6300.0).abs() < 1e-9);
    }

    #[test]
    fn coverage_is_one_at_the_goal_and_nothing_far_away() {
        assert!((coverage(&Pose::new(GOAL)) - 1.0).abs() < 1e-12);
        assert!((coverage(&Pose::new([256.0, 256.0, GOAL[2] - std::f64::consts::TAU])) - 1.0).abs() < 1e-12);
        assert_eq!(coverage(&Pose::new([60.0, 60.0, 3.0])), 0.0);
    }

    #[test]
    fn coverage_of_a_shifted_t_follows_from_its_edges() {
        // A shift by d along the bar leaves (120 - d) of the bar's length and (30 - d) of the stem's width.
        let goal = Pose::new(GOAL);
        for shift in [1.0, 7.5, 29.0] {
            let [x, y] = goal.world_from_body([shift, 0.0]);
            let expected = ((120.0 - shift) * 30.0 + (30.0 - shift) * 90.0) / 6300.0;
            assert!((coverage(&Pose::new([x, y, GOAL[2]])) - expected).abs() < 1e-12);
        }
        // Along the stem: the bar keeps 30 - d of its height, and the stem, 30 wide, gains nothing and loses nothing
        // but its end, because the moved bar covers its beginning.
        for shift in [1.0, 20.0] {
            let [x, y] = goal.world_from_body([0.0, shift]);
            let expected = ((30.0 - shift) * 120.0 + shift * 30.0 + (90.0 - shift) * 30.0) / 6300.0;
            assert!((coverage(&Pose::new([x, y, GOAL[2]])) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn body_and_world_frames_are_inverse() {
        let pose = Pose::new([100.0, 200.0, 5.0]);
        let [x, y] = pose.body_from_world(pose.world_from_body([12.0, -7.0]));
        assert!((x - 12.0).abs() < 1e-12 && (y + 7.0).abs() < 1e-12);
    }
}
