//! Chooses the pushes that bring the block to the goal soonest.
//!
//! All but the last push are sampled, on fixed sequences that fill their ranges evenly, and then improved; the last one is
//! solved for, so that it ends at the goal. The same place gives the same pushes.

use std::sync::LazyLock;

use super::push::{FACES, Face, Free, Place, Push};
use super::walk::{EDGE_PX, WALK_PX, Ways, distance_and_outward, in_world, stepped_back};
use crate::push_t::geometry::{AGENT_RADIUS, Pose, WALL_RADIUS, WALLS, WORLD_PX};

/// Speeds and times by which plans are compared: what a demonstration takes.
const WALK_PX_PER_SEC: f64 = 150.0;
const PUSH_PX_PER_SEC: f64 = 70.0;
const SECS_PER_PUSH: f64 = 1.0;
/// Steering costs a little: straight pushes are easier to learn.
const SECS_PER_STEERED_PX: f64 = 0.01;
/// Last pushes shorter than this leave no room for corrections, px.
const SHORT_LAST_PUSH_PX: f64 = 30.0;
const SECS_PER_SHORT_PX: f64 = 0.03;
/// Distance of the block's corners from the walls below which a plan pays, px.
const WALL_MARGIN_PX: f64 = 6.0;
const SECS_PER_WALL_PX: f64 = 0.05;
const SECS_PER_EDGE_PX: f64 = 1.0;

/// An end this near the goal is there, px.
const SOLVED_PX: f64 = 0.3;
const STATIONS_PER_FACE: usize = 5;
const LONGEST_SAMPLE_PX: f64 = 260.0;

/// Pushes one after another, and what they cost.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) pushes: Vec<Push>,
    pub(super) secs: f64,
}

/// The best plans found from here, best first; at most one for each sequence of faces and `count` in all.
pub(super) fn plans(block: &Pose, agent: [f64; 2], count: usize) -> Vec<Plan> {
    let from = Place::of(block);
    let search = Search { from, first_walk_px: first_walk(block, agent), goal: Place::goal() };
    let mut best: Vec<Plan> = Vec::new();
    for first in 0..FACES.len() {
        best.extend(search.finished(&[], first));
        for second in (0..FACES.len()).filter(|&second| second != first) {
            let samples = (1..=140).map(|index| [sampled(first, index, 0)].to_vec());
            best.extend(search.best_of(samples, second));
        }
        for second in (0..FACES.len()).filter(|&second| second != first) {
            for third in (0..FACES.len()).filter(|&third| third != second) {
                let samples = (1..=40).map(|index| vec![sampled(first, index, 0), sampled(second, index, 3)]);
                best.extend(search.best_of(samples, third));
            }
        }
    }
    sort(&mut best);
    best.truncate(3 * count);
    let mut best: Vec<Plan> = best.into_iter().map(|plan| search.improved(plan)).collect();
    sort(&mut best);
    best.truncate(count);
    best
}

fn sort(plans: &mut [Plan]) {
    plans.sort_by(|one, other| one.secs.total_cmp(&other.secs));
}

struct Search {
    from: Place,
    /// How far the agent walks to each station.
    first_walk_px: Vec<f64>,
    goal: Place,
}

impl Search {
    fn best_of(&self, samples: impl Iterator<Item = Vec<Push>>, last: usize) -> Option<Plan> {
        samples
            .filter_map(|pushes| self.finished(&pushes, last))
            .min_by(|one, other| one.secs.total_cmp(&other.secs))
    }

    /// These pushes and then one along the `last` face that ends at the goal, if there is one.
    fn finished(&self, pushes: &[Push], last: usize) -> Option<Plan> {
        let from = pushes.iter().fold(self.from, |place, push| push.end(&place));
        let face = &FACES[last];
        // A push along the normal: how far, and whether it goes towards the goal at all.
        let pose =
            Place { angle: 0.5 * (from.angle + nearest_turn(self.goal.angle, from.angle)), ..from }.pose();
        let [inward, origin] = [face.inward(), [0.0; 2]].map(|point| pose.world_from_body(point));
        let ahead = (self.goal.x - from.x) * (inward[0] - origin[0])
            + (self.goal.y - from.y) * (inward[1] - origin[1]);
        if ahead < 2.0 {
            return None;
        }
        let [low, high] = face.contacts;
        let middle = 0.5 * (low + high);
        let guess = Push::straight(last, middle, middle, ahead);
        let push = guess.toward(&from, &self.goal, Free::Ends, 10);
        if push.end(&from).distance(&self.goal) > SOLVED_PX {
            return None;
        }
        let pushes: Vec<Push> = pushes.iter().copied().chain([push]).collect();
        let secs = self.secs(&pushes);
        secs.is_finite().then_some(Plan { pushes, secs })
    }

    /// Climbs from this plan with ever smaller changes of all pushes but the last.
    fn improved(&self, plan: Plan) -> Plan {
        const ROUNDS: u64 = 160;
        let mut best = plan;
        let Some((last, sampled)) = best.pushes.split_last().map(|(last, rest)| (last.face, rest.len()))
        else {
            return best;
        };
        if sampled == 0 {
            return best;
        }
        for round in 1..=ROUNDS {
            let reach = 1.0 - 0.95 * round as f64 / ROUNDS as f64;
            let mut pushes = best.pushes[..sampled].to_vec();
            for (index, push) in pushes.iter_mut().enumerate() {
                let face = &FACES[push.face];
                let [low, high] = face.contacts;
                let change =
                    |base: usize| reach * (2.0 * radical_inverse(round, PRIMES[3 * index + base]) - 1.0);
                let [begin, _, end] = push.contacts;
                let width = 0.5 * (high - low);
                *push = Push::straight(
                    push.face,
                    face.clamp(begin + width * change(0)),
                    face.clamp(end + width * change(1)),
                    (push.length_px + 60.0 * change(2)).max(2.0),
                );
            }
            best = self.finished(&pushes, last).filter(|plan| plan.secs < best.secs).unwrap_or(best);
        }
        best
    }

    fn secs(&self, pushes: &[Push]) -> f64 {
        let mut secs = 0.0;
        let mut place = self.from;
        let mut left: Option<usize> = None;
        for push in pushes {
            let begin = station(push.face, push.contacts[0]);
            let walk = match left {
                None => self.first_walk_px[begin],
                Some(left) => STATIONS.1.length_px(left, begin),
            };
            left = Some(station(push.face, push.contacts[2]));
            secs += walk / WALK_PX_PER_SEC + push.travel_px() / PUSH_PX_PER_SEC + SECS_PER_PUSH;
            secs += SECS_PER_STEERED_PX * (push.contacts[2] - push.contacts[0]).abs();
            secs += wall_secs(push, &place);
            if !secs.is_finite() {
                return secs;
            }
            place = push.end(&place);
        }
        let short = pushes.last().map_or(0.0, |push| SHORT_LAST_PUSH_PX - push.length_px);
        secs + SECS_PER_SHORT_PX * short.max(0.0)
    }
}

/// What it costs to push near the walls and, for the agent, beyond the world's edge.
fn wall_secs(push: &Push, from: &Place) -> f64 {
    let mut secs = 0.0;
    let beyond = |coordinate: f64, low: f64, high: f64| (low - coordinate).max(coordinate - high).max(0.0);
    let margin = WALL_RADIUS + WALL_MARGIN_PX;
    let begin = from.pose();
    let agent = begin.world_from_body(FACES[push.face].agent(push.contacts[0], WALK_PX - AGENT_RADIUS));
    let edge = |agent: [f64; 2]| {
        agent
            .map(|coordinate| SECS_PER_EDGE_PX * beyond(coordinate, EDGE_PX, WORLD_PX - EDGE_PX))
            .iter()
            .sum::<f64>()
    };
    secs += edge(agent);
    push.trace(from, |pose, agent| {
        secs += edge(agent);
        for corner in pose.corners() {
            for coordinate in corner {
                secs += SECS_PER_WALL_PX * beyond(coordinate, WALLS[0] + margin, WALLS[1] - margin);
            }
        }
    });
    secs
}

/// Places beside the block from which pushes begin, and the ways between them.
static STATIONS: LazyLock<(Vec<[f64; 2]>, Ways)> = LazyLock::new(|| {
    let points: Vec<[f64; 2]> = FACES.iter().flat_map(stations_of).collect();
    let ways = Ways::new(&points, |_| true);
    (points, ways)
});

fn stations_of(face: &Face) -> [[f64; 2]; STATIONS_PER_FACE] {
    let [low, high] = face.contacts;
    std::array::from_fn(|index| {
        let contact = low + (high - low) * index as f64 / (STATIONS_PER_FACE - 1) as f64;
        face.agent(contact, WALK_PX - AGENT_RADIUS)
    })
}

/// The station nearest to a contact.
fn station(face: usize, contact: f64) -> usize {
    let [low, high] = FACES[face].contacts;
    let share = ((contact - low) / (high - low)).clamp(0.0, 1.0);
    face * STATIONS_PER_FACE + (share * (STATIONS_PER_FACE - 1) as f64).round() as usize
}

fn first_walk(block: &Pose, agent: [f64; 2]) -> Vec<f64> {
    let here = block.body_from_world(agent);
    let begin = stepped_back(here);
    let mut points = vec![begin];
    points.extend(&STATIONS.0);
    let ways = Ways::new(&points, |bend| in_world(block.world_from_body(bend)));
    let back = distance_and_outward(begin).0 - distance_and_outward(here).0;
    (1..points.len()).map(|to| back.max(0.0) + ways.length_px(0, to)).collect()
}

/// `angle` plus whole turns, nearest to `to`.
fn nearest_turn(angle: f64, to: f64) -> f64 {
    angle - std::f64::consts::TAU * ((angle - to) / std::f64::consts::TAU).round()
}

/// A push along a face from Halton's sequence, which fills the ranges of its numbers evenly.
fn sampled(face: usize, index: u64, dimension: usize) -> Push {
    let [low, high] = FACES[face].contacts;
    let draw = |offset: usize| radical_inverse(index, PRIMES[dimension + offset]);
    let length = draw(2);
    Push::straight(
        face,
        low + (high - low) * draw(0),
        low + (high - low) * draw(1),
        3.0 + LONGEST_SAMPLE_PX * length * length,
    )
}

const PRIMES: [u64; 6] = [2, 3, 5, 7, 11, 13];

/// The digits of `index` in this base, mirrored at the point.
fn radical_inverse(mut index: u64, base: u64) -> f64 {
    let mut inverse = 0.0;
    let mut digit = 1.0 / base as f64;
    while index > 0 {
        inverse += digit * (index % base) as f64;
        index /= base;
        digit /= base as f64;
    }
    inverse
}
