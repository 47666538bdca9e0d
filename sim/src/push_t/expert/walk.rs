//! The agent's way around the block, in the block's frame.

use crate::push_t::geometry::{AGENT_RADIUS, BOXES, Pose, WORLD_PX};

/// How far from the block the agent's centre walks, and how near it may come on the way, px.
pub(super) const WALK_PX: f64 = AGENT_RADIUS + 12.0;
const NEAREST_PX: f64 = AGENT_RADIUS + 5.5;
/// How near the edge of the world the agent's centre may be, px.
pub(super) const EDGE_PX: f64 = 4.0;

/// Where ways bend: around the bar's corners and the stem's end.
const BENDS: [[f64; 2]; 6] = [
    [-60.0 - WALK_PX, -WALK_PX],
    [60.0 + WALK_PX, -WALK_PX],
    [60.0 + WALK_PX, 30.0 + WALK_PX],
    [-60.0 - WALK_PX, 30.0 + WALK_PX],
    [15.0 + WALK_PX, 120.0 + WALK_PX],
    [-15.0 - WALK_PX, 120.0 + WALK_PX],
];

/// Distance of a point in the body frame from the block, px, and the direction away from it; negative inside.
pub(super) fn distance_and_outward(point: [f64; 2]) -> (f64, [f64; 2]) {
    BOXES
        .iter()
        .map(|&(center, half)| {
            let offset = [point[0] - center[0], point[1] - center[1]];
            let beyond = [offset[0].abs() - half[0], offset[1].abs() - half[1]];
            let outside = beyond.map(|beyond| beyond.max(0.0));
            let distance = outside[0].hypot(outside[1]);
            if distance > 0.0 {
                (distance, [0, 1].map(|axis| outside[axis] * offset[axis].signum() / distance))
            } else {
                let axis = usize::from(beyond[1] > beyond[0]);
                let mut outward = [0.0; 2];
                outward[axis] = offset[axis].signum();
                (beyond[axis], outward)
            }
        })
        .min_by(|one, other| one.0.total_cmp(&other.0))
        .unwrap_or((f64::INFINITY, [0.0; 2]))
}

/// Whether the agent passes between two points in the body frame without coming too near.
fn is_free(from: [f64; 2], to: [f64; 2]) -> bool {
    let steps = ((to[0] - from[0]).hypot(to[1] - from[1]) / 4.0).ceil().max(1.0) as usize;
    (0..=steps).all(|step| {
        let share = step as f64 / steps as f64;
        let point = [0, 1].map(|axis| from[axis] + share * (to[axis] - from[axis]));
        distance_and_outward(point).0 >= NEAREST_PX
    })
}

/// Shortest ways between any two of `points` in the body frame, around the block. A point that `allowed` refuses is not
/// used; it is still a beginning and an end.
pub(super) struct Ways {
    points: Vec<[f64; 2]>,
    length: Vec<Vec<f64>>,
    /// The first point on the way.
    next: Vec<Vec<usize>>,
}

impl Ways {
    /// Ways among these points; indices count them.
    pub(super) fn new(ends: &[[f64; 2]], allowed: impl Fn([f64; 2]) -> bool) -> Self {
        let mut points = ends.to_vec();
        points.extend(BENDS.into_iter().filter(|&bend| allowed(bend)));
        let count = points.len();
        let mut length = vec![vec![f64::INFINITY; count]; count];
        let mut next: Vec<Vec<usize>> = vec![(0..count).collect(); count];
        for from in 0..count {
            length[from][from] = 0.0;
            for to in 0..from {
                if is_free(points[from], points[to]) {
                    let way = (points[from][0] - points[to][0]).hypot(points[from][1] - points[to][1]);
                    (length[from][to], length[to][from]) = (way, way);
                }
            }
        }
        // Floyd and Warshall; ends lead nowhere, so only bends are passed through.
        for via in ends.len()..count {
            for from in 0..count {
                for to in 0..count {
                    let way = length[from][via] + length[via][to];
                    if way < length[from][to] {
                        length[from][to] = way;
                        next[from][to] = next[from][via];
                    }
                }
            }
        }
        Self { points, length, next }
    }

    /// Length of the way, px; infinite when there is none.
    pub(super) fn length_px(&self, from: usize, to: usize) -> f64 {
        self.length[from][to]
    }

    /// Points of the way without its beginning; nothing when there is none.
    pub(super) fn way(&self, from: usize, to: usize) -> Option<Vec<[f64; 2]>> {
        if !self.length[from][to].is_finite() {
            return None;
        }
        let mut way = Vec::new();
        let mut here = from;
        while here != to {
            here = self.next[here][to];
            way.push(self.points[here]);
        }
        Some(way)
    }
}

/// Whether the agent can be at this point of the world.
pub(super) fn in_world(point: [f64; 2]) -> bool {
    point.iter().all(|coordinate| (EDGE_PX..=WORLD_PX - EDGE_PX).contains(coordinate))
}

/// Where the agent begins to walk: here, or a little away from the block that it stands at. In the body frame.
pub(super) fn stepped_back(agent: [f64; 2]) -> [f64; 2] {
    let mut point = agent;
    // Twice, for the corner between bar and stem.
    for _ in 0..2 {
        let (distance, outward) = distance_and_outward(point);
        let back = (WALK_PX - distance).max(0.0);
        if distance < NEAREST_PX {
            point = [0, 1].map(|axis| point[axis] + back * outward[axis]);
        }
    }
    point
}

/// The way of the agent from its place in the world to a point in the body frame of the block, as points of the world;
/// the agent's own place is not among them.
pub(super) fn way_around(block: &Pose, agent: [f64; 2], to: [f64; 2]) -> Option<Vec<[f64; 2]>> {
    let here = block.body_from_world(agent);
    let begin = stepped_back(here);
    let ways = Ways::new(&[begin, to], |bend| in_world(block.world_from_body(bend)));
    let mut way = ways.way(0, 1)?;
    if begin != here {
        way.insert(0, begin);
    }
    Some(way.into_iter().map(|point| block.world_from_body(point)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_lead_round_the_block_and_are_no_shorter_than_straight_ones() {
        let [left, right] = [[-60.0, 60.0], [60.0, 60.0]];
        let ways = Ways::new(&[left, right], |_| true);
        let way = ways.way(0, 1).unwrap();
        assert_eq!(way.last(), Some(&right));
        let mut here = left;
        let mut length = 0.0;
        for point in way {
            assert!(is_free(here, point));
            length += (point[0] - here[0]).hypot(point[1] - here[1]);
            here = point;
        }
        assert!((length - ways.length_px(0, 1)).abs() < 1e-9 && length > 120.0);
        // Where no bend may be used the stem is in the way.
        assert!(Ways::new(&[left, right], |_| false).way(0, 1).is_none());
    }

    #[test]
    fn an_agent_in_the_block_steps_out_of_it() {
        for agent in [[0.0, 2.0], [50.0, 20.0], [3.0, 100.0], [20.0, 35.0], [-59.0, 15.0]] {
            assert!(distance_and_outward(stepped_back(agent)).0 >= NEAREST_PX, "{agent:?}");
        }
        assert_eq!(stepped_back([-200.0, 0.0]), [-200.0, 0.0]);
    }
}
