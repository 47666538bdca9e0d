//! What to do next, from what is there now: no clock, no memory. Every decision can be read from a single observation.
//!
//! Heights are funnels: the further the tool (or the object in hand) is from the place it must go down to, the higher it
//! is wanted, and as long as it is lower than that it does not move sideways. Above the object, down, closing, up, above
//! the target, down, opening and up again follow from this, and so does every second try.

use nalgebra::{Isometry3, Vector2};

use super::super::objects::{Object, yaw};

/// All that the decisions depend on.
#[derive(Clone, Debug)]
pub(super) struct Situation {
    pub(super) world_from_tool: Isometry3<f64>,
    /// The pose that the tool is sent to now: x, y, z (m), yaw (rad).
    pub(super) commanded: [f64; 4],
    pub(super) opening_m: f64,
    pub(super) both_fingers_touch: bool,
    pub(super) object: Object,
    pub(super) world_from_object: Isometry3<f64>,
    pub(super) world_from_target: Isometry3<f64>,
    /// Whether the object is where it has to go, and has been lifted on its way.
    pub(super) in_zone: bool,
    pub(super) max_opening_m: f64,
    /// Middle (x, y) and top of whatever else stands on the table, m.
    pub(super) obstacles: Vec<(Vector2<f64>, f64)>,
}

/// Where the tool is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Goal {
    /// x, y, z (m), yaw (rad).
    pub(super) pose: [f64; 4],
    pub(super) opening_m: f64,
    /// Share of the speed in the plane that is safe here, 0..=1.
    pub(super) plane_speed_share: f64,
}

/// Room on both sides together between open fingers and object, m.
const OPEN_ROOM_M: f64 = 0.025;
/// The fingers pass the object when there is this much room, m.
const CLEAR_ROOM_M: f64 = 0.01;
/// How much narrower than the object a closed gripper is commanded, m: what presses.
const SQUEEZE_M: f64 = 0.01;
/// How much closer than they are closing fingers are sent, m: they meet the object gently.
const CLOSING_M: f64 = 0.006;
/// The tool may grasp within these of the object's middle: in the plane and in height, m, and in yaw, rad.
const GRASP_PLANE_M: f64 = 0.005;
const GRASP_HEIGHT_M: f64 = 0.003;
const GRASP_YAW: f64 = 0.06;
/// What a yaw error of 1 rad counts for beside distances, m.
const METRES_PER_RAD: f64 = 0.04;
/// Errors at which the way down begins and at which it is free, m.
const FUNNEL_M: [f64; 2] = [0.025, 0.004];
/// The lowest tool that leaves the pads clear of the table, m.
const LOWEST_TOOL_M: f64 = 0.014;
/// The palm is this high above the tool, less some room, and reaches this far to the sides, m.
const PALM_M: f64 = 0.033;
const PALM_REACH_M: f64 = 0.14;
/// Height that clears whatever lies on the table: 6 cm at most, m.
const OVER_ALL_M: f64 = 0.075;
/// Fingertips below the tool, with room, m.
const TIP_M: f64 = 0.02;
/// An object this low above its target is put down, m, and this much lower is where it is sent, so that it gets there.
const DOWN_M: f64 = 0.002;
const PRESS_M: f64 = 0.002;
/// Nearer than this in the plane, the way to a place is the way down to it, m.
const WAY_DOWN_M: f64 = 0.02;
/// Height of the tool above the object's top when all is done, m.
const RETREAT_M: f64 = 0.1;

pub(super) fn goal(now: &Situation) -> Goal {
    if in_hand(now) {
        carry(now)
    } else if now.in_zone {
        retreat(now)
    } else {
        approach(now)
    }
}

/// Which way down the tool is on: open to the object (0) or with it to the target (1), and how far above its end, m.
pub(super) fn way_down(now: &Situation) -> Option<(usize, f64)> {
    let tool = now.world_from_tool.translation.vector;
    let object = now.world_from_object.translation.vector;
    let target = now.world_from_target.translation.vector;
    let over = |from: Vector2<f64>, to: Vector2<f64>| (to - from).norm() < WAY_DOWN_M;
    if in_hand(now) {
        let height_m = now.object.bottom_m(&now.world_from_object) - target.z;
        over(object.xy(), target.xy()).then_some((1, height_m))
    } else {
        let open = now.opening_m > (width_m(&now.object) + CLEAR_ROOM_M).min(now.max_opening_m - 0.002);
        (open && !now.in_zone && over(tool.xy(), object.xy())).then_some((0, tool.z - grasp_z(now)))
    }
}

/// Between the fingers, and they hold it.
fn in_hand(now: &Situation) -> bool {
    let offset = now.world_from_object.translation.vector - now.world_from_tool.translation.vector;
    let between = offset.xy().norm() < 0.015 && offset.z.abs() < 0.025;
    let closed = now.opening_m < width_m(&now.object) + 0.003;
    let lifted = now.object.bottom_m(&now.world_from_object) > 0.004;
    between && closed && (now.both_fingers_touch || lifted)
}

/// Above the object, turned to it, then down and closing.
fn approach(now: &Situation) -> Goal {
    let tool = now.world_from_tool.translation.vector;
    let object = now.world_from_object.translation.vector;
    let width = width_m(&now.object);
    let grasp_z = grasp_z(now);
    let grasp_yaw = grasp_yaw(now);
    let plane_error = (object.xy() - tool.xy()).norm();
    let yaw_error = (grasp_yaw - yaw(&now.world_from_tool)).abs();
    let open_m = (width + OPEN_ROOM_M).min(now.max_opening_m);

    // Closing fingers may push the object a little before they hold it.
    let slack = if now.opening_m < open_m - 0.004 { 2.0 } else { 1.0 };
    let there = plane_error < slack * GRASP_PLANE_M
        && (tool.z - grasp_z).abs() < slack * GRASP_HEIGHT_M
        && yaw_error < slack * GRASP_YAW;
    let missed = now.opening_m < width - 0.005;
    if there && !missed {
        let opening_m = (width - SQUEEZE_M).max(now.opening_m - CLOSING_M).max(0.0);
        return Goal { pose: now.commanded, opening_m, plane_speed_share: 1.0 };
    }

    let hover_z = (now.object.top_m(&now.world_from_object) + 0.035).max(OVER_ALL_M + TIP_M);
    let clear = now.opening_m > (width + CLEAR_ROOM_M).min(now.max_opening_m - 0.002);
    let above = if clear { funnel(plane_error + METRES_PER_RAD * yaw_error) } else { 1.0 };
    let z = grasp_z + above * (hover_z - grasp_z);
    Goal { pose: [object.x, object.y, z, grasp_yaw], opening_m: open_m, plane_speed_share: free(tool.z - z) }
}

/// Up, above the target, down, and opening.
fn carry(now: &Situation) -> Goal {
    let tool = now.world_from_tool.translation.vector;
    let target = now.world_from_target.translation.vector;
    let bottom = now.object.bottom_m(&now.world_from_object);
    let away: Vector2<f64> = target.xy() - now.world_from_object.translation.vector.xy();
    let place_yaw = place_yaw(now);
    let yaw_error = (place_yaw - yaw(&now.world_from_tool)).abs();
    if bottom < target.z + DOWN_M && away.norm() < 2.0 * FUNNEL_M[1] {
        return Goal { pose: now.commanded, opening_m: open_m(now), plane_speed_share: 1.0 };
    }
    let high = OVER_ALL_M.max(target.z + 0.03);
    let above = funnel(away.norm() + METRES_PER_RAD * yaw_error);
    let wanted = target.z - PRESS_M + above * (high - target.z + PRESS_M);
    Goal {
        pose: [tool.x + away.x, tool.y + away.y, tool.z + wanted - bottom, place_yaw],
        opening_m: (width_m(&now.object) - SQUEEZE_M).max(0.0),
        plane_speed_share: free(bottom - wanted),
    }
}

/// Opening, and straight up when the fingers are clear of the object.
fn retreat(now: &Situation) -> Goal {
    let mut pose = now.commanded;
    if now.opening_m > (width_m(&now.object) + 0.6 * CLEAR_ROOM_M).min(now.max_opening_m - 0.002) {
        pose[2] = now.object.top_m(&now.world_from_object) + RETREAT_M;
    }
    Goal { pose, opening_m: open_m(now), plane_speed_share: 1.0 }
}

/// Height of the tool that grasps: at the object's middle, or as much higher as lets the palm pass over what stands beside
/// the object, or beside where it goes, while the pads still hold its top.
fn grasp_z(now: &Situation) -> f64 {
    let middle = now.world_from_object.translation.vector;
    let places = [middle.xy(), now.world_from_target.translation.vector.xy()];
    let beside = |at: &Vector2<f64>| places.iter().any(|place| (place - at).norm() < PALM_REACH_M);
    let obstacles = now.obstacles.iter().filter(|(at, _)| beside(at));
    let over_all = obstacles.map(|(_, top)| top - PALM_M).fold(LOWEST_TOOL_M, f64::max);
    middle.z.max(over_all.min(now.object.top_m(&now.world_from_object)))
}

/// Extent of the object between the fingers, m.
fn width_m(object: &Object) -> f64 {
    object.size_m[0]
}

fn open_m(now: &Situation) -> f64 {
    (width_m(&now.object) + OPEN_ROOM_M).min(now.max_opening_m)
}

/// Share of the full height that is wanted at this error: 0 near the place, 1 away from it, without a kink.
fn funnel(error_m: f64) -> f64 {
    let [wide, narrow] = FUNNEL_M;
    let share = ((error_m - narrow) / (wide - narrow)).clamp(0.0, 1.0);
    share * share * (3.0 - 2.0 * share)
}

/// Share of the speed in the plane that is free so far above the wanted height, m; below it there is little.
fn free(above_m: f64) -> f64 {
    1.0 - ((-above_m - 0.01) / 0.03).clamp(0.0, 1.0)
}

/// The yaw of the tool nearest to its own at which the fingers close across the object.
fn grasp_yaw(now: &Situation) -> f64 {
    let own = yaw(&now.world_from_tool);
    // The tool's y closes; at yaw 0 it lies along the world's y.
    let across = yaw(&now.world_from_object) + std::f64::consts::FRAC_PI_2;
    match now.object.kind.symmetry() {
        Some(period) => nearest(own, across, period, &now.world_from_object),
        None => 0.0,
    }
}

/// The yaw of the tool nearest to its own at which the object in hand is turned as the target is.
fn place_yaw(now: &Situation) -> f64 {
    let own = yaw(&now.world_from_tool);
    let error = yaw(&now.world_from_target) - yaw(&now.world_from_object);
    match now.object.kind.symmetry() {
        Some(period) => nearest(own, own + error, period, &now.world_from_target),
        None => own,
    }
}

/// The angle nearest to `own` that is `wanted` but for whole periods, out of those that the wrist can turn to there.
fn nearest(own: f64, wanted: f64, period: f64, world_from_place: &Isometry3<f64>) -> f64 {
    // The last joint turns by the azimuth less the yaw from its middle at 45 degrees; its limits leave at least half a
    // turn between these.
    let azimuth = world_from_place.translation.y.atan2(world_from_place.translation.x);
    let [low, high] = [(azimuth - 1.9).max(-1.95), 1.95];
    let nearest = wanted + period * ((own - wanted) / period).round();
    if nearest < low {
        nearest + period * ((low - nearest) / period).ceil()
    } else if nearest > high {
        nearest - period * ((nearest - high) / period).ceil()
    } else {
        nearest
    }
}
