//! Updates as rerun entities, on the timelines `episode`, `step` and `time`.

use std::collections::VecDeque;
use std::time::Duration;

use nudge_control::{Action, ActionChunk, Confidence, FeatureKind, Observation};
use rerun::components::Radius;
use rerun::{
    Clear, Color, EntityPath, LineStrips2D, Points2D, RecordingStream, RecordingStreamResult, Scalars,
    SeriesLines, StateChange, TextLog,
};

use super::scene::show_scene;
use super::{Stamped, Update, ViewOptions};

pub(super) const WORLD: &str = "world";
pub(super) const REWARD: &str = "reward";
pub(super) const ACTION: &str = "action";
pub(super) const OBSERVATION: &str = "observation";
pub(super) const TIMING: &str = "timing";
pub(super) const CONFIDENCE: &str = "confidence";
pub(super) const GUARD: &str = "guard";
pub(super) const EVENTS: &str = "events";

/// Commands of the executed path that stay visible.
const PATH_STEPS: usize = 256;

const PATH_COLOR: [u8; 4] = [0, 170, 255, 255];
const PLAN_COLOR: [u8; 4] = [255, 140, 0, 255];
const SAMPLE_COLOR: [u8; 4] = [255, 190, 90, 90];
/// Above every shape of a scene, whose order is counted from 0.
const DRAW_ABOVE: f32 = 1000.0;

/// Turns updates into entities; lives on the logging thread.
pub(super) struct Logger {
    recording: RecordingStream,
    options: ViewOptions,
    episode: Option<u64>,
    /// Positions commanded in this episode, the newest last.
    path: VecDeque<[f32; 2]>,
    state: String,
    shapes: Vec<EntityPath>,
}

impl Logger {
    pub(super) fn new(recording: RecordingStream, options: ViewOptions) -> Self {
        Self {
            recording,
            options,
            episode: None,
            path: VecDeque::with_capacity(PATH_STEPS),
            state: String::new(),
            shapes: Vec::new(),
        }
    }

    /// Names every curve, once for the whole recording.
    pub(super) fn log_names(&self) -> RecordingStreamResult<()> {
        let interface = &self.options.interface;
        for feature in &interface.observation {
            if feature.kind == FeatureKind::Vector {
                self.name_curves(&child(OBSERVATION, &feature.name), &feature.name, feature.dim())?;
            }
        }
        for feature in &interface.action {
            if feature.kind == FeatureKind::Vector {
                self.name_curves(&child(ACTION, &feature.name), &feature.name, feature.dim())?;
            }
        }
        self.recording.log_static(REWARD, &SeriesLines::new().with_names(["reward"]))
    }

    fn name_curves(&self, path: &EntityPath, name: &str, dim: usize) -> RecordingStreamResult<()> {
        let names = (0..dim).map(|i| if dim == 1 { name.to_owned() } else { format!("{name}[{i}]") });
        self.recording.log_static(path.clone(), &SeriesLines::new().with_names(names))
    }

    pub(super) fn log(&mut self, stamped: &Stamped) -> RecordingStreamResult<()> {
        let sequence = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let seconds = stamped.total_steps as f64 / self.options.interface.control_hz;
        self.recording.set_time_sequence("episode", sequence(stamped.episode));
        self.recording.set_time_sequence("step", sequence(stamped.step));
        self.recording.set_duration_secs("time", seconds);
        // Not only at `Update::Episode`, which a full queue may have dropped.
        if self.episode.replace(stamped.episode) != Some(stamped.episode) {
            self.path.clear();
            self.state.clear();
            self.recording.log(format!("{WORLD}/executed"), &Clear::recursive())?;
            self.recording.log(format!("{WORLD}/plan"), &Clear::recursive())?;
        }
        match &stamped.update {
            Update::Episode { seed } => {
                self.event(&format!("episode {} begins, seed {seed}", stamped.episode))
            }
            Update::World { scene, reward } => {
                self.recording.log(REWARD, &Scalars::single(*reward))?;
                show_scene(&self.recording, WORLD, &mut self.shapes, scene)
            }
            Update::Observation(observation) => self.observation(observation),
            Update::Plan(samples) => self.plan(samples),
            Update::Command { action, state } => self.command(stamped.step, action, state),
            Update::Timings(stages) => stages.iter().try_for_each(|(stage, milliseconds)| {
                self.recording.log(child(TIMING, stage), &Scalars::single(*milliseconds))
            }),
            Update::Confidence(Confidence { spread, inconsistency }) => {
                let figures = [("spread", spread), ("inconsistency", inconsistency)];
                figures.into_iter().filter_map(|(name, figure)| Some((name, (*figure)?))).try_for_each(
                    |(name, figure)| self.recording.log(child(CONFIDENCE, name), &Scalars::single(figure)),
                )
            }
        }
    }

    /// Waits until everything is written or sent.
    pub(super) fn flush(&self, timeout: Duration) -> Result<(), String> {
        self.recording.flush_with_timeout(timeout).map_err(|error| error.to_string())
    }

    fn event(&self, text: &str) -> RecordingStreamResult<()> {
        self.recording.log(EVENTS, &TextLog::new(text).with_level("INFO"))
    }

    fn observation(&self, observation: &Observation) -> RecordingStreamResult<()> {
        let interface = &self.options.interface;
        for feature in interface.observation.iter().filter(|feature| feature.kind == FeatureKind::Vector) {
            let range = interface.observation_range(&feature.name);
            if let Some(values) = range.and_then(|range| observation.0.get(range)) {
                let path = child(OBSERVATION, &feature.name);
                self.recording.log(path, &Scalars::new(values.iter().copied()))?;
            }
        }
        Ok(())
    }

    /// The fan: samples dim below, the executed plan bright above them with a point for each step.
    fn plan(&self, samples: &[ActionChunk]) -> RecordingStreamResult<()> {
        let positions = |chunk: &ActionChunk| {
            chunk.actions.iter().filter_map(|action| self.position(action)).collect::<Vec<_>>()
        };
        let Some((executed, others)) = samples.split_first() else {
            return Ok(());
        };
        let fan = LineStrips2D::new(others.iter().map(positions))
            .with_colors([color(SAMPLE_COLOR)])
            .with_radii([Radius::new_ui_points(1.0)])
            .with_draw_order(DRAW_ABOVE);
        self.recording.log(format!("{WORLD}/plan/samples"), &fan)?;
        let executed = positions(executed);
        let line = LineStrips2D::new([executed.clone()])
            .with_colors([color(PLAN_COLOR)])
            .with_radii([Radius::new_ui_points(2.0)])
            .with_draw_order(DRAW_ABOVE + 2.0);
        self.recording.log(format!("{WORLD}/plan/executed"), &line)?;
        let steps = Points2D::new(executed)
            .with_colors([color(PLAN_COLOR)])
            .with_radii([Radius::new_ui_points(3.0)])
            .with_draw_order(DRAW_ABOVE + 3.0);
        self.recording.log(format!("{WORLD}/plan/steps"), &steps)
    }

    fn command(&mut self, step: u64, action: &Action, state: &str) -> RecordingStreamResult<()> {
        let mut values = action.0.as_slice();
        for feature in &self.options.interface.action {
            let Some((own, rest)) = values.split_at_checked(feature.dim()) else { break };
            values = rest;
            if feature.kind == FeatureKind::Vector {
                let path = child(ACTION, &feature.name);
                self.recording.log(path, &Scalars::new(own.iter().copied()))?;
            }
        }
        if self.state != state {
            state.clone_into(&mut self.state);
            self.recording.log(GUARD, &StateChange::single(state))?;
            self.event(&format!("step {step}: {state}"))?;
        }
        let Some(position) = self.position(action) else {
            return Ok(());
        };
        if self.path.len() == PATH_STEPS {
            self.path.pop_front();
        }
        self.path.push_back(position);
        let line = LineStrips2D::new([self.path.iter().copied().collect::<Vec<_>>()])
            .with_colors([color(PATH_COLOR)])
            .with_radii([Radius::new_ui_points(1.5)])
            .with_draw_order(DRAW_ABOVE + 1.0);
        self.recording.log(format!("{WORLD}/executed"), &line)
    }

    /// Where in the scene an action leads; `None` without a plane, or when the numbers are missing or not finite.
    fn position(&self, action: &Action) -> Option<[f32; 2]> {
        let [x, y] = self.options.plane?;
        let position = [*action.0.get(x)? as f32, *action.0.get(y)? as f32];
        position.iter().all(|value| value.is_finite()).then_some(position)
    }
}

fn child(parent: &str, name: &str) -> EntityPath {
    EntityPath::from(vec![parent.into(), name.into()])
}

fn color([r, g, b, a]: [u8; 4]) -> Color {
    Color::from_unmultiplied_rgba(r, g, b, a)
}
