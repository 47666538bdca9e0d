//! Episodes that are the same, nearly the same, or share frames.

use std::collections::BTreeMap;

use super::case::Case;
use super::finding::{Fault, Finding, Severity};
use super::layout::Series;
use super::reference::Reference;

/// Places along an episode at which near copies are compared.
const PLACES: usize = 16;
/// One in this many frames is remembered, chosen by its content: shared frames are chosen in both episodes.
const REMEMBERED: u64 = 8;
/// Near copies differ by less than this part of the usual range at every place of every signal.
const NEAR: f32 = 0.01;
/// Neighbours in order that are compared at most; keeps a set of equal starts from taking for ever.
const COMPARED: usize = 64;

/// What is remembered of each episode.
#[derive(Default)]
pub(super) struct Prints {
    prints: Vec<Print>,
    /// Remembered frames: hash, place among the prints, frame.
    frames: Vec<(u64, u32, u32)>,
}

struct Print {
    episode: usize,
    frames: usize,
    remembered: usize,
    hash: u64,
    /// Signals at the places, in spans, and their mean.
    sketch: Vec<f32>,
    key: f32,
}

impl Prints {
    pub(super) fn add(&mut self, reference: &Reference, series: &Series) {
        let moving: Vec<usize> =
            (0..series.signals.len()).filter(|signal| reference.scales[*signal].span() > 0.0).collect();
        let place = self.prints.len() as u32;
        let (mut whole, mut before, mut remembered) = (0, 0, 0);
        for frame in 0..series.frames {
            let bits = moving.iter().map(|signal| series.signals[*signal][frame].to_bits());
            let hash = bits.fold(1, |hash, bits| mix(hash ^ u64::from(bits)));
            whole = mix(whole ^ hash);
            // Frames of a robot at rest are alike in all episodes and say nothing.
            if hash % REMEMBERED == 0 && hash != before {
                self.frames.push((hash, place, frame as u32));
                remembered += 1;
            }
            before = hash;
        }
        let mut sketch = Vec::with_capacity(PLACES * moving.len());
        for signal in &moving {
            let scale = &reference.scales[*signal];
            let values = &series.signals[*signal];
            sketch.extend((0..PLACES).filter_map(|at| {
                let value = values.get(at * series.frames.saturating_sub(1) / (PLACES - 1))?;
                Some((value - scale.median) / scale.span())
            }));
        }
        let key = sketch.iter().sum::<f32>() / sketch.len().max(1) as f32;
        self.prints.push(Print {
            episode: series.episode,
            frames: series.frames,
            remembered,
            hash: whole,
            sketch,
            key,
        });
    }

    pub(super) fn judge(mut self, case: &Case, found: &mut Vec<Finding>) {
        // Later episode -> the earlier one that it repeats.
        let mut exact: BTreeMap<usize, usize> = BTreeMap::new();
        let mut seen: BTreeMap<(u64, usize), usize> = BTreeMap::new();
        for (place, print) in self.prints.iter().enumerate().filter(|(_, print)| print.frames > 0) {
            match seen.get(&(print.hash, print.frames)) {
                Some(first) => drop(exact.insert(place, *first)),
                None => drop(seen.insert((print.hash, print.frames), place)),
            }
        }
        for (later, first) in &exact {
            let (later, first) = (&self.prints[*later], &self.prints[*first]);
            let what =
                format!("episode {} is episode {} once more, bit for bit", later.episode, first.episode);
            let effect = "it counts twice in training; and if one falls into the validation set, that is no \
                          validation";
            found.push(
                Finding::new(Fault::DuplicateEpisode, Severity::Warning, what, effect)
                    .at(later.episode, None)
                    .count(later.frames)
                    .mend(case.filter("--drop-duplicates")),
            );
        }
        let mut near: BTreeMap<(usize, usize), (Option<usize>, String)> = BTreeMap::new();
        for ((first, later), (shared, frame)) in self.shared() {
            let fewest = self.prints[first].remembered.min(self.prints[later].remembered);
            // A fifth of the remembered frames, and three, at one distance: chance has no such run among
            // 64-bit hashes.
            if shared >= 3 && 5 * shared >= fewest && !exact.contains_key(&later) {
                let percent = 100 * shared / fewest.max(1);
                near.insert(
                    (later, first),
                    (Some(frame), format!("shares about {percent} % of its frames with")),
                );
            }
        }
        for (first, later, apart) in self.alike() {
            if !exact.contains_key(&later) && !near.contains_key(&(later, first)) {
                let percent = 100.0 * apart;
                near.insert(
                    (later, first),
                    (None, format!("differs by no more than {percent:.2} % of the usual ranges from")),
                );
            }
        }
        for ((later, first), (frame, how)) in near {
            let (later, first) = (&self.prints[later], &self.prints[first]);
            let what = format!("episode {} {how} episode {}", later.episode, first.episode);
            let effect = "it counts twice in training; and if one falls into the validation set, that is no \
                          validation";
            found.push(
                Finding::new(Fault::NearDuplicate, Severity::Warning, what, effect)
                    .at(later.episode, frame)
                    .mend(case.drop_episode(later.episode)),
            );
        }
    }

    /// Pairs of episodes with remembered frames in common at the same distance in time: how many, and the
    /// first in the later.
    fn shared(&mut self) -> BTreeMap<(usize, usize), (usize, usize)> {
        self.frames.sort_unstable();
        // By pair and distance.
        let mut runs: BTreeMap<(usize, usize, i64), (usize, usize)> = BTreeMap::new();
        for same in self.frames.chunk_by(|one, next| one.0 == next.0) {
            // Found in many episodes, it is a place where the robot rests.
            if same.len() > 4 {
                continue;
            }
            for (nth, (_, first, from)) in same.iter().enumerate() {
                for (_, later, at) in same[nth + 1..].iter().filter(|(_, later, _)| later != first) {
                    let key = (*first as usize, *later as usize, i64::from(*at) - i64::from(*from));
                    let (count, frame) = runs.entry(key).or_insert((0, *at as usize));
                    *count += 1;
                    *frame = (*frame).min(*at as usize);
                }
            }
        }
        let mut best: BTreeMap<(usize, usize), (usize, usize)> = BTreeMap::new();
        for ((first, later, _), run) in runs {
            let known = best.entry((first, later)).or_insert(run);
            if run.0 > known.0 {
                *known = run;
            }
        }
        best
    }

    /// Pairs of episodes of about one length that are nearly alike at all places, and how far apart they are
    /// at most.
    fn alike(&self) -> Vec<(usize, usize, f32)> {
        let mut order: Vec<usize> =
            (0..self.prints.len()).filter(|place| self.prints[*place].frames > 1).collect();
        order.sort_by(|one, two| self.prints[*one].key.total_cmp(&self.prints[*two].key));
        let mut pairs = Vec::new();
        for (nth, one) in order.iter().enumerate() {
            // Where all places differ by less than NEAR, so do their means.
            for two in order[nth + 1..].iter().take(COMPARED) {
                let (a, b) = (&self.prints[*one], &self.prints[*two]);
                if b.key - a.key > NEAR {
                    break;
                }
                let lengths = a.frames.abs_diff(b.frames) * 50 <= a.frames.max(b.frames);
                let both = a.sketch.iter().zip(&b.sketch);
                if lengths && both.clone().all(|(x, y)| (x - y).abs() < NEAR) {
                    let apart = both.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
                    pairs.push(((*one).min(*two), (*one).max(*two), apart));
                }
            }
        }
        pairs.sort_by_key(|pair| (pair.0, pair.1));
        pairs
    }
}

/// The finaliser of SplitMix64 (Steele et al. 2014).
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
