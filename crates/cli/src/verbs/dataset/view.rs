//! `nudge dataset view`: recorded episodes in rerun.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nudge_control::{Scene, Task};
use nudge_dataset::{Dataset, FeatureInfo, RecordingNote, Table, read_recorded, recording_note};
use nudge_runtime::{Signal, SignalView};
use nudge_sim::push_t::scene_from_observation;
use serde::Deserialize as _;

use crate::output::{self, say};
use crate::verbs::record::Setup;

/// Where rerun's viewer listens when it is not told otherwise.
const VIEWER: &str = "127.0.0.1:9876";
/// Frames that are shown when no episode is asked for.
const FRAMES: usize = 100_000;
/// Frames a second of a set that has neither times nor a rate.
const ASSUMED_HZ: f64 = 10.0;
/// Columns that every LeRobot set has; they are no signals.
const FRAME_COLUMNS: [&str; 5] = ["timestamp", "frame_index", "episode_index", "index", "task_index"];

/// Look at recorded episodes in rerun: every signal over time, actions beside observations, and the scene
///
/// Shows in a running viewer (`rerun`), or writes a file that `rerun FILE` opens. Episodes follow one another on the timeline
/// `time`; on the timeline `step` each begins at 0. The scene is shown for Push-T, and for recordings of this program's simulated
/// tasks.
#[derive(Args)]
pub struct View {
    /// The data set: a LeRobot folder, a zarr folder, or an HDF5 file
    #[arg(value_name = "SET")]
    set: PathBuf,

    /// Show this episode, numbered from 0; may be repeated [default: all, or the first of a large set]
    #[arg(long, value_name = "N")]
    episode: Vec<usize>,

    /// Write a rerun recording instead of showing it
    #[arg(long, value_name = "FILE", conflicts_with = "connect")]
    rrd: Option<PathBuf>,

    /// Show in the viewer that listens here [default: 127.0.0.1:9876]
    #[arg(long, value_name = "URL")]
    connect: Option<String>,
}

impl View {
    pub fn run(self) -> Result<ExitCode> {
        let set = Dataset::open(&self.set)?;
        let episodes = self.episodes(&set)?;
        let own =
            |feature: &&FeatureInfo| feature.is_numeric() && !FRAME_COLUMNS.contains(&feature.name.as_str());
        let features: Vec<&FeatureInfo> = set.info().features.iter().filter(own).collect();
        let mut names: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
        if set.has("timestamp") {
            names.push("timestamp");
        } else if set.info().fps.is_none() {
            say!("the set states no rate: {ASSUMED_HZ} frames are shown as a second");
        }
        let mut scenes = Scenes::of(&set, &features);
        let signals = features.iter().map(|feature| signal(feature)).collect();
        let folder = self.set.file_name().unwrap_or(self.set.as_os_str());
        let name = format!("nudge dataset view {}", folder.to_string_lossy());
        let mut view = match &self.rrd {
            Some(path) => SignalView::to_file(path, &name, signals, scenes.are_known())?,
            None => SignalView::connect(self.viewer()?, &name, signals, scenes.are_known())?,
        };
        let bar = output::progress(episodes.len() as u64, "episodes");
        for number in &episodes {
            let tables = set.read_episode(*number, &names)?;
            let (tables, stamps) = tables.split_at(features.len());
            let rows = set.episode_length(*number).unwrap_or(0);
            let times: Vec<f64> = match stamps.first() {
                Some(stamps) => stamps.values.iter().map(|time| f64::from(*time)).collect(),
                None => (0..rows).map(|row| row as f64 / set.info().fps.unwrap_or(ASSUMED_HZ)).collect(),
            };
            let values: Vec<Vec<f64>> =
                tables.iter().map(|table| table.values.iter().copied().map(f64::from).collect()).collect();
            view.episode(*number, &format!("episode {number}: {rows} frames"), &times, &values)?;
            scenes
                .show(&set, *number, tables, &mut |frame, scene| {
                    Ok(view.scene(*number, frame, times[frame], scene)?)
                })
                .with_context(|| format!("the scene of episode {number}"))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        view.finish()?;
        if let Some(path) = &self.rrd {
            let scene = if scenes.are_known() { " with their scene" } else { "" };
            say!("{}: {} episodes{scene}; `rerun {0}` shows them", path.display(), episodes.len());
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The episodes to show.
    fn episodes(&self, set: &Dataset) -> Result<Vec<usize>> {
        let count = set.episode_count();
        if let Some(episode) = self.episode.iter().find(|episode| **episode >= count) {
            bail!("there is no episode {episode}; the data set holds {count}, numbered from 0");
        }
        if !self.episode.is_empty() {
            return Ok(self.episode.clone());
        }
        let mut frames = 0;
        let fit = |episode: &usize| {
            frames += set.episode_length(*episode).unwrap_or(0);
            *episode == 0 || frames <= FRAMES
        };
        let shown: Vec<usize> = (0..count).take_while(fit).collect();
        if shown.len() < count {
            say!("the first {} of {count} episodes are shown; --episode N shows another", shown.len());
        }
        Ok(shown)
    }

    /// The viewer's address. That nobody listens at the usual one is better said at once.
    fn viewer(&self) -> Result<&str> {
        if let Some(address) = &self.connect {
            return Ok(address);
        }
        let address: SocketAddr = VIEWER.parse()?;
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            bail!(
                "no rerun viewer listens at {VIEWER}: start one with `rerun`, name another with --connect, or write a \
                 file with --rrd FILE"
            );
        }
        Ok(VIEWER)
    }
}

fn signal(feature: &FeatureInfo) -> Signal {
    let place = |number: usize| match (feature.names.get(number), feature.dim()) {
        (Some(name), _) => name.clone(),
        (None, 1) => feature.name.clone(),
        (None, _) => format!("[{number}]"),
    };
    Signal { name: feature.name.clone(), numbers: (0..feature.dim()).map(place).collect() }
}

/// Where scenes come from.
enum Scenes {
    /// Nothing is known of what the numbers mean.
    Unknown,
    /// Push-T: places of the agent's, the corners' and the action's features.
    PushT { agent: usize, corners: usize, action: Option<usize> },
    /// A task of this program: the recorded actions are executed again.
    Replayed { task: Box<dyn Task>, note: RecordingNote },
}

impl Scenes {
    fn of(set: &Dataset, features: &[&FeatureInfo]) -> Self {
        let place = |name: &str, dim: usize| {
            features.iter().position(|feature| feature.name == name && feature.dim() == dim)
        };
        let note = recording_note(set).ok();
        let of_push_t = |note: &RecordingNote| note.task == "push_t";
        let described = set.info().tasks.iter().any(|task| task.contains("T-shaped"));
        if note.as_ref().map_or(described, of_push_t)
            && let (Some(agent), Some(corners)) =
                (place("observation.state", 2), place("observation.environment_state", 16))
        {
            return Self::PushT { agent, corners, action: place("action", 2) };
        }
        let Some(note) = note else { return Self::Unknown };
        let Ok(setup) = Setup::deserialize(&note.setup) else { return Self::Unknown };
        let task = setup.task.build();
        if *task.interface() == note.interface { Self::Replayed { task, note } } else { Self::Unknown }
    }

    fn are_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// Tells `show` the scene of each frame of an episode.
    fn show(
        &mut self,
        set: &Dataset,
        number: usize,
        tables: &[Table],
        show: &mut dyn FnMut(usize, &Scene) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Unknown => {}
            Self::PushT { agent, corners, action } => {
                let pair = |row: &[f32]| [f64::from(row[0]), f64::from(row[1])];
                for frame in 0..tables[*agent].rows {
                    let outline = tables[*corners].row(frame);
                    let outline = std::array::from_fn(|place| f64::from(outline[place]));
                    let target = action.map(|action| pair(tables[action].row(frame)));
                    show(frame, &scene_from_observation(pair(tables[*agent].row(frame)), &outline, target))?;
                }
            }
            Self::Replayed { task, note } => {
                // An episode without a seed began nobody knows where.
                let Some(seed) = note.episodes.get(number).and_then(|episode| episode.seed) else {
                    return Ok(());
                };
                task.reset(seed);
                for (frame, recorded) in read_recorded(set, number)?.frames.iter().enumerate() {
                    show(frame, &task.scene())?;
                    task.step(&recorded.action);
                }
            }
        }
        Ok(())
    }
}
