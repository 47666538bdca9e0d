//! Recorded episodes to look at: every signal over time, and the scene where one is known.
//!
//! Unlike the live view nothing is dropped here, and the caller waits.

use std::path::Path;

use nudge_control::Scene;
use rerun::blueprint::components::PanelState;
use rerun::blueprint::{
    Blueprint, BlueprintPanel, ContainerLike, Grid, Horizontal, SelectionPanel, Spatial2DView, Tabs,
    TextLogView, TimePanel, TimeSeriesView, Vertical,
};
use rerun::log::ChunkBatcherConfig;
use rerun::sink::LogSink;
use rerun::{
    Clear, EntityPath, RecordingStream, RecordingStreamResult, Scalars, SeriesLines, TextLog, TimeColumn,
};

use super::logger::{EVENTS, WORLD};
use super::scene::show_scene;
use super::{FINISH_TIMEOUT, ViewError, file_sink, recording, viewer_sink};

const SIGNALS: &str = "signals";
const PAIRS: &str = "pairs";

/// Plots that are large enough to be read side by side.
const PLOTS: usize = 8;

/// An action in front of what it moves.
const COMMANDED: [u8; 3] = [255, 140, 0];
const OBSERVED: [u8; 3] = [65, 105, 225];

/// One feature of the episodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// What begins with `action` is shown beside an observation of as many numbers.
    pub name: String,
    /// A name for each of its numbers.
    pub numbers: Vec<String>,
}

/// Episodes in a recording or a viewer, one after another on the timeline `time`, each from 0 on the timeline `step`.
pub struct SignalView {
    recording: RecordingStream,
    signals: Vec<Signal>,
    /// Places of an action and of the observation beside it.
    pairs: Vec<(usize, usize)>,
    shapes: Vec<EntityPath>,
    /// Where on the timeline `time` this episode begins, and the next.
    begins_secs: f64,
    ends_secs: f64,
}

impl SignalView {
    /// Records into the file `path`, which is replaced. Open it with `rerun PATH`, of the same rerun version. `scene` is
    /// whether there will be scenes to see.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn to_file(path: &Path, name: &str, signals: Vec<Signal>, scene: bool) -> Result<Self, ViewError> {
        Self::start(file_sink(path)?, ChunkBatcherConfig::DEFAULT, name, signals, scene)
    }

    /// Shows in the viewer that listens at `address`, as `127.0.0.1:9876` or a whole `rerun+http://` address. A viewer
    /// that never answers is an error of [`finish`](Self::finish).
    ///
    /// # Errors
    /// When the address cannot be read.
    pub fn connect(address: &str, name: &str, signals: Vec<Signal>, scene: bool) -> Result<Self, ViewError> {
        Self::start(viewer_sink(address)?, ChunkBatcherConfig::DEFAULT, name, signals, scene)
    }

    fn start(
        sink: Box<dyn LogSink>,
        batches: ChunkBatcherConfig,
        name: &str,
        signals: Vec<Signal>,
        scene: bool,
    ) -> Result<Self, ViewError> {
        let pairs = pairs(&signals);
        let recording = recording(sink, batches, name, blueprint(&signals, &pairs, scene))?;
        let view = Self { recording, signals, pairs, shapes: Vec::new(), begins_secs: 0.0, ends_secs: 0.0 };
        view.name_curves().map_err(incomplete)?;
        Ok(view)
    }

    fn name_curves(&self) -> RecordingStreamResult<()> {
        for signal in &self.signals {
            let names = SeriesLines::new().with_names(signal.numbers.clone());
            self.recording.log_static(path(SIGNALS, &[&signal.name]), &names)?;
        }
        for (action, observation) in &self.pairs {
            for (place, signal, color, label) in self.halves(*action, *observation) {
                let name = format!("{} ({label})", self.signals[signal].name);
                let line = SeriesLines::new().with_names([name]).with_colors([color]).with_widths([2.0]);
                self.recording.log_static(self.half(*action, place, label), &line)?;
            }
        }
        Ok(())
    }

    /// For each number of a pair both curves: its place, whose it is, the colour, and what it is.
    fn halves(
        &self,
        action: usize,
        observation: usize,
    ) -> impl Iterator<Item = (usize, usize, [u8; 3], &'static str)> + use<> {
        (0..self.signals[action].numbers.len()).flat_map(move |place| {
            [(place, observation, OBSERVED, "observed"), (place, action, COMMANDED, "commanded")]
        })
    }

    fn half(&self, action: usize, place: usize, label: &str) -> EntityPath {
        path(PAIRS, &[&self.signals[action].name, &place.to_string(), label])
    }

    /// Shows an episode: the seconds of its frames since it began, and `[T, D]` values of each signal, row-major.
    ///
    /// # Errors
    /// When a signal holds another count of numbers, or the file or viewer refuses.
    pub fn episode(
        &mut self,
        number: usize,
        title: &str,
        times_secs: &[f64],
        values: &[Vec<f64>],
    ) -> Result<(), ViewError> {
        self.begins_secs = self.ends_secs;
        let mut times: Vec<f64> = times_secs.iter().map(|time| self.begins_secs + time).collect();
        // Where a time is no number the frame is drawn at the time before.
        let mut last = self.begins_secs;
        for time in &mut times {
            last = if time.is_finite() { *time } else { last };
            *time = last;
        }
        let period =
            times_secs.windows(2).map(|pair| pair[1] - pair[0]).find(|step| *step > 0.0).unwrap_or(1.0);
        self.ends_secs = times.iter().copied().fold(self.begins_secs, f64::max) + 2.0 * period;
        self.log_episode(number, title, &times, values).map_err(incomplete)
    }

    fn log_episode(
        &self,
        number: usize,
        title: &str,
        times: &[f64],
        values: &[Vec<f64>],
    ) -> RecordingStreamResult<()> {
        let episode = i64::try_from(number).unwrap_or(i64::MAX);
        let rows = times.len();
        let index = || {
            [
                TimeColumn::new_sequence("episode", std::iter::repeat_n(episode, rows)),
                TimeColumn::new_sequence("step", 0..rows as i64),
                TimeColumn::new_duration_secs("time", times.iter().copied()),
            ]
        };
        let send = |path: EntityPath, values: &mut dyn Iterator<Item = f64>, dim: usize| {
            let columns = Scalars::new(values).columns(std::iter::repeat_n(dim, rows))?;
            self.recording.send_columns(path, index(), columns)
        };
        self.at(number, 0, times.first().copied().unwrap_or(self.begins_secs));
        self.recording.log(EVENTS, &TextLog::new(title).with_level("INFO"))?;
        for (signal, values) in self.signals.iter().zip(values) {
            send(path(SIGNALS, &[&signal.name]), &mut values.iter().copied(), signal.numbers.len())?;
        }
        for (action, observation) in &self.pairs {
            let dim = self.signals[*action].numbers.len();
            for (place, signal, _, label) in self.halves(*action, *observation) {
                let mut own = values[signal].iter().skip(place).step_by(dim).copied();
                send(self.half(*action, place, label), &mut own, 1)?;
            }
        }
        // No line leads from one episode to the next.
        self.at(number, rows, (times.last().copied().unwrap_or(self.begins_secs) + self.ends_secs) / 2.0);
        self.recording.log(SIGNALS, &Clear::recursive())?;
        self.recording.log(PAIRS, &Clear::recursive())
    }

    /// Shows the world at a frame of the episode shown last.
    ///
    /// # Errors
    /// When the file or viewer refuses.
    pub fn scene(
        &mut self,
        number: usize,
        frame: usize,
        time_secs: f64,
        scene: &Scene,
    ) -> Result<(), ViewError> {
        let time = if time_secs.is_finite() { time_secs } else { 0.0 };
        self.at(number, frame, self.begins_secs + time);
        show_scene(&self.recording, WORLD, &mut self.shapes, scene).map_err(incomplete)
    }

    fn at(&self, number: usize, frame: usize, seconds: f64) {
        self.recording.set_time_sequence("episode", i64::try_from(number).unwrap_or(i64::MAX));
        self.recording.set_time_sequence("step", i64::try_from(frame).unwrap_or(i64::MAX));
        self.recording.set_duration_secs("time", seconds);
    }

    /// Completes the recording: everything shown is written or sent. Waits for it, 20 s at most.
    ///
    /// # Errors
    /// When something could not be written or sent, or not in time.
    pub fn finish(self) -> Result<(), ViewError> {
        self.recording
            .flush_with_timeout(FINISH_TIMEOUT)
            .map_err(|error| ViewError::Incomplete(error.to_string()))
    }
}

/// Each action with the observation that it most likely moves: one of as many numbers, of the same names if there is one,
/// else one that is called a state, else the first.
fn pairs(signals: &[Signal]) -> Vec<(usize, usize)> {
    let acts = |signal: &Signal| signal.name.starts_with("action");
    let mut pairs = Vec::new();
    for (action, commanded) in signals.iter().enumerate().filter(|(_, signal)| acts(signal)) {
        let beside = |signal: &Signal| {
            !acts(signal)
                && !signal.name.starts_with("next.")
                && signal.numbers.len() == commanded.numbers.len()
        };
        let likeliness = |(_, signal): &(usize, &Signal)| {
            (signal.numbers == commanded.numbers, signal.name.ends_with("state"))
        };
        let candidates = signals.iter().enumerate().filter(|(_, signal)| beside(signal));
        // The first of equals.
        let best = candidates.rev().max_by_key(likeliness);
        pairs.extend(best.map(|(observation, _)| (action, observation)));
    }
    pairs
}

/// The world at left, if there is one; at right a plot for each number that is commanded and observed, and behind it all
/// features; below what each episode is.
fn blueprint(signals: &[Signal], pairs: &[(usize, usize)], scene: bool) -> Blueprint {
    let plot = |name: &str, origin: EntityPath| TimeSeriesView::new(name).with_origin(origin);
    let mut tabs: Vec<ContainerLike> = Vec::new();
    for (action, observation) in pairs {
        let (action, observation) = (&signals[*action], &signals[*observation]);
        let plots = action
            .numbers
            .iter()
            .enumerate()
            .map(|(place, number)| plot(number, path(PAIRS, &[&action.name, &place.to_string()])));
        pages(&mut tabs, &format!("{} beside {}", action.name, observation.name), plots.collect());
    }
    let all = signals.iter().map(|signal| plot(&signal.name, path(SIGNALS, &[&signal.name])));
    pages(&mut tabs, "features", all.collect());
    let curves: ContainerLike = Tabs::new(tabs).into();
    let upper: ContainerLike = if scene {
        let world = Spatial2DView::new("scene").with_origin(WORLD);
        Horizontal::new([world.into(), curves]).with_column_shares([2.0, 3.0]).into()
    } else {
        curves
    };
    let below = TextLogView::new("Episodes").with_origin(EVENTS);
    let time = TimePanel::new().with_timeline("time");
    Blueprint::new(Vertical::new([upper, below.into()]).with_row_shares([5.0, 1.0]))
        .with_auto_views(false)
        .with_time_panel(time.with_state(PanelState::Collapsed))
        .with_blueprint_panel(BlueprintPanel::from_state(PanelState::Collapsed))
        .with_selection_panel(SelectionPanel::from_state(PanelState::Collapsed))
}

/// Tabs of a few plots each.
fn pages(tabs: &mut Vec<ContainerLike>, name: &str, plots: Vec<TimeSeriesView>) {
    let several = plots.len() > PLOTS;
    let mut plots = plots.into_iter().map(ContainerLike::from).peekable();
    let mut first = 1;
    while plots.peek().is_some() {
        let page: Vec<ContainerLike> = plots.by_ref().take(PLOTS).collect();
        let last = first + page.len() - 1;
        let columns = if page.len() > PLOTS / 2 { 2 } else { 1 };
        let name = if several { format!("{name} {first}-{last}") } else { name.to_owned() };
        tabs.push(Grid::new(page).with_grid_columns(columns).with_name(name).into());
        first = last + 1;
    }
}

/// A path of parts that may hold any characters.
fn path(root: &str, parts: &[&str]) -> EntityPath {
    let parts = std::iter::once(root).chain(parts.iter().copied());
    EntityPath::from(parts.map(Into::into).collect::<Vec<_>>())
}

fn incomplete(error: rerun::RecordingStreamError) -> ViewError {
    ViewError::Incomplete(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;
    use nudge_control::Shape;

    fn signal(name: &str, numbers: &[&str]) -> Signal {
        Signal { name: name.into(), numbers: numbers.iter().map(|number| (*number).to_owned()).collect() }
    }

    #[test]
    fn an_action_is_shown_beside_what_it_moves() {
        let signals = [
            signal("observation.force", &["fx", "fy"]),
            signal("observation.state", &["x", "y"]),
            signal("next.goal", &["u", "v"]),
            signal("action", &["u", "v"]),
            signal("action.gripper", &["opening"]),
        ];
        assert_eq!(pairs(&signals), [(3, 1)]);
        let mut named = signals.to_vec();
        named[0].numbers = vec!["u".into(), "v".into()];
        assert_eq!(pairs(&named), [(3, 0)], "the same names say more");
    }

    #[test]
    fn every_frame_of_every_episode_is_in_the_recording() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("set.rrd");
        let signals = vec![
            signal("observation.state", &["x", "y"]),
            signal("action", &["x", "y"]),
            signal("next.reward", &["r"]),
        ];
        let mut view = SignalView::to_file(&file, "set", signals, true).unwrap();
        let scene = Scene {
            size: [10.0; 2],
            shapes: vec![Shape::Circle { name: "agent", center: [1.0; 2], radius: 1.0, rgba: [9; 4] }],
        };
        for (number, rows) in [(4, 5), (7, 3)] {
            let times: Vec<f64> = (0..rows).map(|row| f64::from(row) / 10.0).collect();
            let values = |dim: usize| (0..rows as usize * dim).map(|value| value as f64).collect::<Vec<_>>();
            view.episode(number, "an episode", &times, &[values(2), values(2), values(1)]).unwrap();
            for (frame, time) in times.iter().enumerate() {
                view.scene(number, frame, *time, &scene).unwrap();
            }
        }
        view.finish().unwrap();
        let (rows, last, blueprint) = read(&file);
        for (entity, count) in [
            // The names are a row too.
            ("/signals/observation.state", 8 + 1),
            ("/signals/next.reward", 8 + 1),
            ("/pairs/action/0/commanded", 8 + 1),
            ("/pairs/action/1/observed", 8 + 1),
            ("/world/scene/agent", 8),
            ("/events", 2),
        ] {
            assert_eq!(rows.get(entity), Some(&count), "{entity} in {rows:?}");
        }
        // The second episode begins two frames after the first ended, at 0.4 s + 0.2 s; it is cleared a frame after its end.
        assert_eq!(last, 900_000_000);
        assert!(blueprint > 10, "{blueprint} blueprint messages");
    }
}
