//! Which columns of a set are signals of the robot, which are its book-keeping, and the frames of an episode
//! by column.

use std::ops::Range;

use crate::{Dataset, DatasetError, DatasetInfo, FeatureInfo, Table};

/// What a feature is to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Observed,
    Action,
}

/// A feature whose numbers are signals: real numbers that the robot sensed or was told.
#[derive(Clone, Debug)]
pub(super) struct SignalFeature {
    pub(super) name: String,
    pub(super) role: Role,
    /// Its numbers among all signals.
    pub(super) signals: Range<usize>,
}

/// The columns to read.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) features: Vec<SignalFeature>,
    /// Book-keeping columns that the set has.
    columns: Vec<&'static str>,
}

const TIME: &str = "timestamp";
const FRAME: &str = "frame_index";
const INDEX: &str = "index";
const TASK: &str = "task_index";
const DONE: [&str; 2] = ["next.done", "dones"];

impl Layout {
    pub(super) fn of(info: &DatasetInfo) -> Self {
        let mut signals = 0;
        let features = info.features.iter().filter_map(|feature| {
            let role = role(feature)?;
            signals += feature.dim();
            Some(SignalFeature {
                name: feature.name.clone(),
                role,
                signals: signals - feature.dim()..signals,
            })
        });
        let features = features.collect();
        let has =
            |name: &&str| info.features.iter().any(|f| f.name == **name && f.is_numeric() && f.dim() == 1);
        let columns = [TIME, FRAME, INDEX, TASK].into_iter().chain(DONE).filter(|name| has(name)).collect();
        Self { features, columns }
    }

    /// How many signals there are.
    pub(super) fn signals(&self) -> usize {
        self.features.last().map_or(0, |feature| feature.signals.end)
    }

    pub(super) fn has(&self, role: Role) -> bool {
        self.features.iter().any(|feature| feature.role == role)
    }

    /// Signals of a role, in order.
    pub(super) fn of_role(&self, role: Role) -> Vec<usize> {
        self.features.iter().filter(|f| f.role == role).flat_map(|f| f.signals.clone()).collect()
    }

    /// Feature of a signal, and the number within it.
    pub(super) fn place(&self, signal: usize) -> (&SignalFeature, usize) {
        let at = self.features.partition_point(|feature| feature.signals.end <= signal);
        (&self.features[at], signal - self.features[at].signals.start)
    }

    /// All columns to read, signals first.
    pub(super) fn names(&self) -> Vec<&str> {
        self.features
            .iter()
            .map(|feature| feature.name.as_str())
            .chain(self.columns.iter().copied())
            .collect()
    }

    /// Bytes that a frame takes.
    pub(super) fn frame_bytes(&self) -> usize {
        4 * (self.signals() + self.columns.len())
    }
}

/// Integers and truth values are labels, not signals; rewards are judged by nobody here.
fn role(feature: &FeatureInfo) -> Option<Role> {
    let name = feature.name.as_str();
    let book = name == TIME || name == "rewards" || name == "dones" || name.starts_with("next");
    if !feature.dtype.starts_with("float") || book || name.starts_with("annotation") {
        return None;
    }
    Some(if name == "actions" || name.starts_with("action") { Role::Action } else { Role::Observed })
}

/// The frames of one episode, column by column.
pub(super) struct Series {
    pub(super) episode: usize,
    pub(super) frames: usize,
    /// By signal. What was not finite is replaced by the value before it, so that one NaN does not hide the
    /// rest.
    pub(super) signals: Vec<Vec<f32>>,
    /// For each feature that had any: its place, the first frame and number, and how many.
    pub(super) non_finite: Vec<(usize, usize, usize, usize)>,
    pub(super) time: Option<Vec<f32>>,
    pub(super) frame_index: Option<Vec<f32>>,
    pub(super) index: Option<Vec<f32>>,
    pub(super) task: Option<Vec<f32>>,
    pub(super) done: Option<Vec<f32>>,
}

impl Series {
    fn of(layout: &Layout, episode: usize, tables: Vec<Table>) -> Self {
        let frames = tables.first().map_or(0, |table| table.rows);
        let mut signals = Vec::with_capacity(layout.signals());
        let mut non_finite = Vec::new();
        for (place, table) in tables.iter().take(layout.features.len()).enumerate() {
            if let Some(((frame, number), count)) = table.non_finite() {
                non_finite.push((place, frame, number, count));
            }
            for number in 0..table.dim {
                let column = table.values.iter().skip(number).step_by(table.dim);
                let mut last = 0.0;
                signals.push(
                    column
                        .map(|value| {
                            last = if value.is_finite() { *value } else { last };
                            last
                        })
                        .collect(),
                );
            }
        }
        let mut book = tables.into_iter().skip(layout.features.len()).map(|table| table.values);
        let mut columns: Vec<(&str, Vec<f32>)> = layout.columns.iter().copied().zip(&mut book).collect();
        let mut take = |name: &str| {
            let at = columns.iter().position(|(column, _)| *column == name)?;
            Some(columns.swap_remove(at).1)
        };
        Self {
            episode,
            frames,
            signals,
            non_finite,
            time: take(TIME),
            frame_index: take(FRAME),
            index: take(INDEX),
            task: take(TASK),
            done: take(DONE[0]).or_else(|| take(DONE[1])),
        }
    }
}

/// Reads `episodes`; what cannot be read comes as an error, and the others nevertheless.
pub(super) fn read(
    dataset: &Dataset,
    layout: &Layout,
    episodes: Range<usize>,
) -> Vec<Result<Series, DatasetError>> {
    let names = layout.names();
    if let Ok(read) = dataset.read_episodes(episodes.clone(), &names) {
        let series = episodes.zip(read).map(|(episode, tables)| Ok(Series::of(layout, episode, tables)));
        return series.collect();
    }
    let one = |episode: usize| {
        dataset.read_episode(episode, &names).map(|tables| Series::of(layout, episode, tables))
    };
    episodes.map(one).collect()
}
