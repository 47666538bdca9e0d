//! What is measured of one episode, small enough to be kept for all.

use super::layout::{Layout, Role, Series};
use super::reference::{Reference, Scale};

/// A measure at its largest, and the frame where.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Peak {
    pub(super) value: f32,
    pub(super) frame: u32,
}

impl Peak {
    pub(super) fn raise(&mut self, value: f32, frame: usize) {
        if value > self.value {
            *self = Self { value, frame: frame as u32 };
        }
    }
}

/// What is measured of one signal in one episode.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    pub(super) least: f32,
    pub(super) greatest: f32,
    pub(super) mean: f64,
    /// Mean squared distance from the mean.
    pub(super) variance: f64,
    /// Sum of the steps' sizes.
    pub(super) path: f64,
    /// The farthest from the usual range, on either side.
    pub(super) beyond: Peak,
    /// The largest distance from the median of a frame and its two neighbours: 0 for every monotone motion.
    pub(super) spike: Peak,
    /// The longest run of one value: how many of its frames are lively, and its first.
    pub(super) hold: Peak,
    /// The same, counting the frames in which the partner moves: the state that an action drives, or the
    /// action that drives a state.
    pub(super) frozen: Peak,
    /// The same at the episode's least and greatest value.
    pub(super) at_least: Peak,
    pub(super) at_greatest: Peak,
    /// How many frames are at them.
    pub(super) least_frames: u32,
    pub(super) greatest_frames: u32,
    /// Steps of nearly a whole turn, in radians and in degrees, and the first; and steps between the turn and
    /// usual motion.
    pub(super) turns: [(u32, u32); 2],
    pub(super) middling: [u32; 2],
}

/// What is measured of one episode.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) episode: usize,
    pub(super) frames: usize,
    pub(super) signals: Vec<Measured>,
    /// Frames at the beginning and at the end in which nothing moves.
    pub(super) idle_start: usize,
    pub(super) idle_end: usize,
    /// The longest stretch between in which nothing moves.
    pub(super) idle_middle: Peak,
    /// Frames equal to the one before in the midst of motion: how many, and the first.
    pub(super) repeats: (usize, usize),
    /// How random the order of the frames looks in the worst stretch: see [`disorder`].
    pub(super) disorder: Peak,
    /// Changes of sign of each quaternion: how many, and the first.
    pub(super) flips: Vec<(usize, usize)>,
}

/// Motion below this part of a lively step is standing still: an arm that crosses its range in 5 s moves by
/// 1/50 of it in a frame at 10 Hz, and a fiftieth of that again is the noise of an encoder.
pub(super) const STILL: f32 = 0.02;
/// Motion from this part of a lively step on is motion.
pub(super) const BUSY: f32 = 0.2;

/// A whole turn in radians and degrees.
pub(super) const TURN: [f32; 2] = [std::f32::consts::TAU, 360.0];

impl Summary {
    /// `partners` by signal, from [`super::coupling::Coupling::partners`].
    pub(super) fn of(
        layout: &Layout,
        reference: &Reference,
        partners: &[Option<usize>],
        series: &Series,
    ) -> Self {
        let activity = reference.activity(series);
        let signals = (0..layout.signals()).map(|signal| {
            let partner =
                partners[signal].map(|partner| (&reference.scales[partner], &*series.signals[partner]));
            measure(&series.signals[signal], &reference.scales[signal], partner, &activity)
        });
        let (idle_start, idle_end, idle_middle) = idle(&activity);
        Self {
            episode: series.episode,
            frames: series.frames,
            signals: signals.collect(),
            idle_start,
            idle_end,
            idle_middle,
            repeats: repeats(series, &activity),
            disorder: disorder(layout, reference, series),
            flips: reference.quaternions.iter().map(|first| flips(series, *first)).collect(),
        }
    }
}

fn measure(values: &[f32], scale: &Scale, partner: Option<(&Scale, &[f32])>, activity: &[f32]) -> Measured {
    let n = values.len().max(1) as f64;
    let mut found = Measured {
        least: values.iter().copied().reduce(f32::min).unwrap_or(0.0),
        greatest: values.iter().copied().reduce(f32::max).unwrap_or(0.0),
        mean: values.iter().map(|value| f64::from(*value)).sum::<f64>() / n,
        ..Measured::default()
    };
    let squares = values.iter().map(|value| (f64::from(*value) - found.mean).powi(2));
    found.variance = squares.sum::<f64>() / n;
    for (frame, value) in values.iter().enumerate() {
        found.beyond.raise((value - scale.high).max(scale.low - value), frame);
        found.least_frames += u32::from(*value == found.least);
        found.greatest_frames += u32::from(*value == found.greatest);
    }
    for (frame, pair) in values.windows(2).enumerate() {
        let step = (pair[1] - pair[0]).abs();
        found.path += f64::from(step);
        for ((turn, (count, first)), middling) in TURN.iter().zip(&mut found.turns).zip(&mut found.middling) {
            // A step of a tenth of a turn is the fastest that is taken for motion.
            if step > 0.9 * turn {
                *first = if *count == 0 { frame as u32 + 1 } else { *first };
                *count += 1;
            } else if step > 0.1 * turn {
                *middling += 1;
            }
        }
    }
    for (frame, three) in values.windows(3).enumerate() {
        let (low, high) = (three[0].min(three[2]), three[0].max(three[2]));
        found.spike.raise((three[1] - high).max(low - three[1]), frame + 1);
    }
    let mut start = 0;
    for run in values.chunk_by(|one, next| one == next) {
        let frames = start..start + run.len();
        let lively = activity[frames.clone()].iter().filter(|a| **a > BUSY).count() as f32;
        found.hold.raise(lively, start);
        if let Some((scale, partner)) = partner {
            let moves = |pair: &&[f32]| (pair[1] - pair[0]).abs() > BUSY * scale.lively;
            found.frozen.raise(partner[frames].windows(2).filter(moves).count() as f32, start);
        }
        if run[0] == found.greatest {
            found.at_greatest.raise(lively, start);
        }
        if run[0] == found.least {
            found.at_least.raise(lively, start);
        }
        start += run.len();
    }
    found
}

/// Still frames at the beginning, at the end, and the longest stretch of them between.
fn idle(activity: &[f32]) -> (usize, usize, Peak) {
    let (mut first, mut last, mut middle) = (0, 0, Peak::default());
    let mut start = 0;
    for run in activity.chunk_by(|one, next| (*one < STILL) == (*next < STILL)) {
        if run[0] < STILL {
            match (start, start + run.len() == activity.len()) {
                (0, _) => first = run.len(),
                (_, true) => last = run.len(),
                _ => middle.raise(run.len() as f32, start),
            }
        }
        start += run.len();
    }
    (first, last, middle)
}

/// Frames that are the one before, bit for bit, between frames that move. A robot that comes to rest slows
/// down first; one that stops dead, and goes on as fast, was recorded twice.
fn repeats(series: &Series, activity: &[f32]) -> (usize, usize) {
    let (mut count, mut first) = (0, 0);
    let mut start = 0;
    for run in activity.chunk_by(|one, next| (*one == 0.0) == (*next == 0.0)) {
        let end = start + run.len();
        let inside = start > 0 && end < series.frames;
        if run[0] == 0.0 && inside && activity[start - 1] > BUSY && activity[end] > BUSY {
            first = if count == 0 { start } else { first };
            count += run.len();
        }
        start = end;
    }
    (count, first)
}

/// Frames that are looked at together for their order.
const STRETCH: usize = 16;

/// Von Neumann's ratio, half the mean squared step over the variance: near 0 along a smooth motion, 1 in
/// expectation for values in random order. The largest over stretches of the lower quartile over the signals
/// that move by more than a fiftieth of their usual range there (below that, noise is in random order by
/// nature): velocities chatter, but frames in random order disturb every signal.
fn disorder(layout: &Layout, reference: &Reference, series: &Series) -> Peak {
    let observed = layout.of_role(Role::Observed);
    let continuous: Vec<usize> =
        observed.into_iter().filter(|signal| !reference.scales[*signal].discrete).collect();
    let mut worst = Peak::default();
    for start in (0..(series.frames + 1).saturating_sub(STRETCH)).step_by(STRETCH / 2) {
        let ratios = continuous.iter().filter_map(|signal| {
            let values = &series.signals[*signal][start..start + STRETCH];
            let mean = values.iter().sum::<f32>() / STRETCH as f32;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>();
            let steps = values.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f32>();
            let least = 0.02 * reference.scales[*signal].span();
            (variance > STRETCH as f32 * least * least).then(|| 0.5 * steps / variance)
        });
        let mut ratios: Vec<f32> = ratios.collect();
        let quarter = ratios.len() / 4;
        if !ratios.is_empty() {
            worst.raise(*ratios.select_nth_unstable_by(quarter, f32::total_cmp).1, start);
        }
    }
    worst
}

/// Frames in which the quaternion that begins at signal `first` is nearer to the negative of the one before.
fn flips(series: &Series, first: usize) -> (usize, usize) {
    let (mut count, mut at) = (0, 0);
    for frame in 1..series.frames {
        let dot: f32 = (first..first + 4)
            .map(|signal| series.signals[signal][frame - 1] * series.signals[signal][frame])
            .sum();
        if dot < 0.0 {
            at = if count == 0 { frame } else { at };
            count += 1;
        }
    }
    (count, at)
}
