//! Windows of physical numbers, as the network is shown them.

use std::ops::Range;

use nudge_control::{Horizon, Interface};

use super::rows::{EpisodeRows, Rows};
use crate::angles::AngleMap;
use crate::augmentation::RowMirror;
use crate::encoding::Encoding;
use crate::normalizer::Scaling;
use crate::ranges::Ranges;
use crate::{Normalizer, PolicyFailure, TrainConfig};

/// What happens to rows between an episode and a batch.
pub(crate) struct Encoder {
    horizon: Horizon,
    encoding: Encoding,
    /// Of observations and of actions, when the task has a symmetry.
    mirrors: Option<[RowMirror; 2]>,
    observation: Scaling,
    action: Scaling,
}

/// A window: where it begins, and whether its mirror image is meant.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    pub episode: EpisodeRows<'a>,
    pub start: i64,
    pub mirrored: bool,
}

/// Rows on their way, kept from one window to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    row: Vec<f32>,
    newest: Vec<f32>,
}

impl Encoder {
    /// One that does not know its normalisers yet.
    ///
    /// # Errors
    /// When the configuration names what the interface does not have.
    pub fn new(config: &TrainConfig) -> Result<Self, PolicyFailure> {
        let interface = &config.interface;
        let encoding = Encoding::new(&config.policy, interface).map_err(PolicyFailure::Config)?;
        let mirrors = config.data.symmetry.as_ref().map(|symmetry| {
            let observed = interface.observation.iter().map(|feature| (feature.name.as_str(), feature.dim()));
            let acted = interface.action.iter().map(|feature| (feature.name.as_str(), feature.dim()));
            [symmetry.of_rows(observed), symmetry.of_rows(acted)]
        });
        let (observation, action) = Default::default();
        Ok(Self { horizon: config.policy.horizon, encoding, mirrors, observation, action })
    }

    pub fn normalise_with(&mut self, observation: &Normalizer, action: &Normalizer) {
        (self.observation, self.action) = (observation.scaling(), action.scaling());
    }

    /// Whether half of the windows are to be mirrored.
    pub fn mirrors(&self) -> bool {
        self.mirrors.is_some()
    }

    /// Whether what is learned of an action depends on the window that it is in.
    pub fn acts_by_window(&self) -> bool {
        !self.encoding.references.is_empty()
    }

    /// Names of the observed and of the acted features, and how many numbers the network has of each.
    pub fn feature_dims<'a>(&self, interface: &'a Interface) -> [Vec<(&'a str, usize)>; 2] {
        let widths = |angles: &AngleMap, features: &mut dyn Iterator<Item = (&'a String, usize)>| {
            let mut first = 0;
            let width = |(name, dim): (&'a String, usize)| {
                first += dim;
                (name.as_str(), angles.range(first - dim..first).len())
            };
            features.map(width).collect()
        };
        let mut observed = interface.observation.iter().map(|feature| (&feature.name, feature.dim()));
        let mut acted = interface.action.iter().map(|feature| (&feature.name, feature.dim()));
        [widths(&self.encoding.observed, &mut observed), widths(&self.encoding.acted, &mut acted)]
    }

    /// Numbers of a window: `[To * Do, Tp * Da]`, as the network has them.
    pub fn window_dims(&self) -> [usize; 2] {
        let Horizon { observed, predicted, .. } = self.horizon;
        [observed * self.encoding.observed.dim(), predicted * self.encoding.acted.dim()]
    }

    /// `Da`, as the network has it.
    pub fn action_dim(&self) -> usize {
        self.encoding.acted.dim()
    }

    /// Writes a normalised window, `[To, Do]` and `[Tp, Da]`.
    pub fn write(&self, window: Window, scratch: &mut Scratch, condition: &mut [f32], action: &mut [f32]) {
        let encoding = &self.encoding;
        for (frame, out) in (window.start..).zip(condition.chunks_exact_mut(encoding.observed.dim())) {
            let row = self.observed(window, frame, &mut scratch.row);
            normalise(row, &encoding.observed, &self.observation, out);
            encoding.references.hide(out);
        }
        let Scratch { row, newest } = scratch;
        let newest = self.newest(window, newest);
        for (frame, out) in (window.start..).zip(action.chunks_exact_mut(encoding.acted.dim())) {
            normalise(self.acted(window, frame, newest, row), &encoding.acted, &self.action, out);
        }
    }

    /// Takes an episode, and its mirror image, into account: its observations, and its actions, or those of the windows
    /// that begin at `starts` where what is learned depends on the window.
    pub fn learn_ranges(
        &self,
        episode: EpisodeRows,
        starts: Range<i64>,
        observation: &mut Ranges,
        action: &mut Ranges,
    ) {
        let Scratch { mut row, mut newest } = Scratch::default();
        let mut encoded = Vec::new();
        let mut add = |ranges: &mut Ranges, angles: &AngleMap, row: &[f32]| {
            encoded.clear();
            let row = row.iter().map(|value| f64::from(*value));
            if angles.is_empty() {
                encoded.extend(row)
            } else {
                encoded.extend(angles.encode(row))
            }
            ranges.add(&encoded);
        };
        let frames = 0..episode.frames() as i64;
        for mirrored in [false, true].into_iter().take(1 + usize::from(self.mirrors())) {
            let window = |start: i64| Window { episode, start, mirrored };
            for frame in frames.clone() {
                add(observation, &self.encoding.observed, self.observed(window(0), frame, &mut row));
            }
            let acted = &self.encoding.acted;
            if !self.acts_by_window() {
                frames
                    .clone()
                    .for_each(|frame| add(action, acted, self.acted(window(0), frame, &[], &mut row)));
                continue;
            }
            for start in starts.clone() {
                let newest = self.newest(window(start), &mut newest);
                for frame in start..start + self.horizon.predicted as i64 {
                    add(action, acted, self.acted(window(start), frame, newest, &mut row));
                }
            }
        }
    }

    /// The window's newest observation, where actions are relative to it.
    fn newest<'a>(&self, window: Window<'a>, row: &'a mut Vec<f32>) -> &'a [f32] {
        let frame = window.start + self.horizon.observed as i64 - 1;
        if self.acts_by_window() { self.observed(window, frame, row) } else { &[] }
    }

    fn observed<'a>(&self, window: Window<'a>, frame: i64, row: &'a mut Vec<f32>) -> &'a [f32] {
        let seen = window.episode.observation(frame);
        match self.mirrors.as_ref().filter(|_| window.mirrored) {
            Some([mirror, _]) => mirror.write(seen, row),
            None => seen,
        }
    }

    /// An action, less what is observed in `newest` where it is relative to it.
    fn acted<'a>(&self, window: Window<'a>, frame: i64, newest: &[f32], row: &'a mut Vec<f32>) -> &'a [f32] {
        let done = window.episode.action(frame);
        match self.mirrors.as_ref().filter(|_| window.mirrored) {
            Some([_, mirror]) => _ = mirror.write(done, row),
            None if !self.acts_by_window() => return done,
            None => {
                row.clear();
                row.extend_from_slice(done);
            }
        }
        self.encoding.references.subtract(row, newest);
        row
    }
}

/// Where the windows of an episode of `frames` begin.
pub(crate) fn starts(frames: usize, horizon: Horizon, pad_after: usize) -> Range<i64> {
    let windows = nudge_dataset::Windows::new(&[frames], horizon, pad_after);
    match windows.get(0) {
        Some((_, first)) => first..first + windows.len() as i64,
        None => 0..0,
    }
}

/// Windows over all episodes of these rows.
pub(crate) fn windows_of(rows: &Rows, horizon: Horizon, pad_after: usize) -> nudge_dataset::Windows {
    nudge_dataset::Windows::new(&rows.lengths(), horizon, pad_after)
}

fn normalise(row: &[f32], angles: &AngleMap, scaling: &Scaling, out: &mut [f32]) {
    let scaling = scaling.offsets.iter().zip(&scaling.factors);
    let row = row.iter().map(|value| f64::from(*value));
    if angles.is_empty() {
        for ((out, value), (offset, factor)) in out.iter_mut().zip(row).zip(scaling) {
            *out = ((value - offset) * factor) as f32;
        }
    } else {
        for ((out, value), (offset, factor)) in out.iter_mut().zip(angles.encode(row)).zip(scaling) {
            *out = ((value - offset) * factor) as f32;
        }
    }
}
