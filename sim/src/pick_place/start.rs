//! Where an episode begins: what lies on the table, how, and where it has to go.

use std::f64::consts::FRAC_PI_4;

use super::config::Variant;
use super::objects::{Object, ObjectKind};
use crate::numpy::Pcg64;

/// The part of the table that objects and targets are put on: x, then y, m.
pub(crate) const AREA_M: [[f64; 2]; 2] = [[0.35, 0.65], [-0.25, 0.25]];
/// Half the side of the pad, m.
pub(crate) const PAD_HALF_M: f64 = 0.075;
/// Half the inner side of the bin, m; half the thickness of its walls and their height.
pub(crate) const BIN_HALF_M: f64 = 0.08;
pub(crate) const BIN_WALL_HALF_M: f64 = 0.004;
pub(crate) const BIN_HEIGHT_M: f64 = 0.05;
/// Room for a finger beside an object, m.
const FINGER_ROOM_M: f64 = 0.035;
/// Middle of the tool's starts, m.
const TOOL_M: [f64; 3] = [0.45, 0.0, 0.3];

/// A thing on the table: x, y (m) and yaw (rad).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) object: Object,
    pub(crate) at: [f64; 3],
}

/// All that a seed decides about an episode.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    pub(crate) object: Placed,
    pub(crate) distractors: [Placed; 2],
    /// The lower cube of [`Variant::Stack`].
    pub(crate) support: Option<Placed>,
    /// x, y (m) and yaw (rad) of the target.
    pub(crate) target: [f64; 3],
    /// The control step before which the target jumps, and whereto.
    pub(crate) jump: Option<(usize, [f64; 3])>,
    /// x, y, z (m) and yaw (rad) of the tool.
    pub(crate) tool: [f64; 4],
}

/// The start of this seed. Nothing overlaps, and there is room for a finger between any two things.
pub(crate) fn start(variant: Variant, seed: u64) -> Start {
    let mut stream = Pcg64::new(seed);
    let object = match variant {
        Variant::Stack => cube(&mut stream, 0.03, 0.045),
        _ => any_object(&mut stream),
    };
    let support = (variant == Variant::Stack).then(|| cube(&mut stream, 0.045, 0.05));
    let distractors = [any_object(&mut stream), any_object(&mut stream)];
    let jump_step = stream.integers(20, 61) as usize;
    let tool = [
        TOOL_M[0] + stream.uniform(-0.08, 0.08),
        TOOL_M[1] + stream.uniform(-0.08, 0.08),
        TOOL_M[2] + stream.uniform(-0.08, 0.08),
        stream.uniform(-0.3, 0.3),
    ];
    let target_radius = match variant {
        Variant::Standard | Variant::MovedTarget => PAD_HALF_M * std::f64::consts::SQRT_2,
        Variant::Bin => (BIN_HALF_M + 2.0 * BIN_WALL_HALF_M) * std::f64::consts::SQRT_2,
        Variant::Tight => object.radius_m() + 0.01,
        Variant::Stack => support.map_or(0.0, |support| support.radius_m()),
    };
    let target_period = match support {
        Some(support) => support.kind.symmetry(),
        None => object.kind.symmetry(),
    };
    // A crowded table is cleared and laid again.
    loop {
        let mut table = Table { stream: &mut stream, circles: Vec::new() };
        let laid = (|| {
            let target = table.put(target_radius, target_radius.min(0.1), target_period, 0.0)?;
            let jump = match variant {
                Variant::MovedTarget => {
                    Some((jump_step, table.put(target_radius, target_radius.min(0.1), target_period, -0.1)?))
                }
                _ => None,
            };
            let at = table.put(object.radius_m(), 0.0, object.kind.symmetry(), FINGER_ROOM_M)?;
            let mut lay = |object: Object| {
                let at = table.put(object.radius_m(), 0.0, object.kind.symmetry(), FINGER_ROOM_M)?;
                Some(Placed { object, at })
            };
            let distractors = [lay(distractors[0])?, lay(distractors[1])?];
            let support = support.map(|object| Placed { object, at: target });
            Some(Start { object: Placed { object, at }, distractors, support, target, jump, tool })
        })();
        if let Some(start) = laid {
            return start;
        }
    }
}

fn any_object(stream: &mut Pcg64) -> Object {
    match stream.integers(0, 3) {
        0 => cube(stream, 0.03, 0.05),
        1 => {
            let diameter = stream.uniform(0.03, 0.055);
            made_of(stream, ObjectKind::Cylinder, |stream| [diameter, diameter, stream.uniform(0.03, 0.06)])
        }
        _ => {
            let width = stream.uniform(0.025, 0.05);
            let length = (width * stream.uniform(1.3, 1.8)).clamp(0.045, 0.08);
            made_of(stream, ObjectKind::Box, |stream| [width, length, stream.uniform(0.03, 0.06)])
        }
    }
}

fn cube(stream: &mut Pcg64, low: f64, high: f64) -> Object {
    made_of(stream, ObjectKind::Cube, |stream| [stream.uniform(low, high); 3])
}

fn made_of(stream: &mut Pcg64, kind: ObjectKind, size: impl Fn(&mut Pcg64) -> [f64; 3]) -> Object {
    let size_m = size(stream);
    Object { kind, size_m, mass_kg: stream.uniform(0.03, 0.4), friction: stream.uniform(0.5, 1.0) }
}

/// A table being laid: the circles already taken, as x, y, radius.
struct Table<'a> {
    stream: &'a mut Pcg64,
    circles: Vec<[f64; 3]>,
}

impl Table<'_> {
    /// A free place for a circle of `radius`, whose middle stays `margin` inside the area, `room` away from all others,
    /// and a turn within `period`; all in m and rad. `None` when many tries find no place.
    fn put(&mut self, radius: f64, margin: f64, period: Option<f64>, room: f64) -> Option<[f64; 3]> {
        let half_turn = period.map_or(FRAC_PI_4, |period| period / 2.0);
        for _ in 0..50 {
            let [x, y] = AREA_M.map(|[low, high]| self.stream.uniform(low + margin, high - margin));
            let free = self
                .circles
                .iter()
                .all(|[other_x, other_y, other]| (x - other_x).hypot(y - other_y) > radius + other + room);
            if free {
                self.circles.push([x, y, radius]);
                return Some([x, y, self.stream.uniform(-half_turn, half_turn)]);
            }
        }
        None
    }
}
