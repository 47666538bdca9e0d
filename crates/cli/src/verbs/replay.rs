//! `nudge replay`: recorded actions executed again, and a policy asked again what it once did.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nudge_control::{Episode, Interface, Playback, RolloutOptions, Step, Task, rollout};
use nudge_dataset::{Dataset, read_recorded, recording_note};
use nudge_policy::DiffusionPolicy;
use serde::{Deserialize, Serialize};

use crate::output::{self, say};
use crate::verbs::checkpoint::{DeviceArgs, cores};
#[cfg(feature = "zenoh")]
use crate::verbs::dataset::is_mcap;
use crate::verbs::record::{PolicySetup, Setup, reproducible};
#[cfg(feature = "zenoh")]
use crate::verbs::replay_incident;
use crate::verbs::replay_view::{ReplayView, ViewArgs};

/// Execute recorded actions again, and ask a policy again what it once did
///
/// Each episode begins from its recorded seed; what is then observed is compared with what was recorded. The same
/// program on the same kind of machine gives the same numbers, so any deviation is worth a look.
///
/// Of an incident log, as `nudge serve --mcap` makes it, every plan is made again with --checkpoint, and compared to the bit; the
/// exit status says whether all came out the same.
#[derive(Args)]
pub struct Replay {
    /// A data set that this program recorded, or an incident log (MCAP)
    dir: PathBuf,

    /// Replay one episode, numbered from 0, instead of all
    #[arg(long, value_name = "N")]
    episode: Option<usize>,

    /// Also ask this policy again, with the recorded observations and seeds, and compare what it does
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArgs,

    #[command(flatten)]
    view: ViewArgs,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What came of one episode.
#[derive(Serialize)]
struct Replayed {
    episode: usize,
    seed: Option<u64>,
    frames: usize,
    /// `None` when it was not recorded in a simulation.
    execution: Option<Execution>,
    /// Absent without a checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Again>,
}

/// The recorded actions, executed again.
#[derive(Serialize)]
struct Execution {
    /// Of any observed number, in its unit, from what was recorded.
    largest_deviation: f64,
    /// Where it is; `None` when there is none.
    at: Option<Place>,
    /// Of the last state, then and now. In Push-T, the covered share of the goal divided by 0.95, at most 1.
    recorded_reward: f64,
    reward: f64,
}

#[derive(Clone, Serialize)]
struct Place {
    frame: usize,
    feature: String,
}

/// The policy, asked again.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Again {
    Identical,
    /// The first frame in which it does something else, and the largest difference of any number in all of them.
    Differs {
        frame: usize,
        recorded: Vec<f64>,
        planned: Vec<f64>,
        largest: f64,
    },
}

impl Replay {
    pub fn run(self) -> Result<ExitCode> {
        #[cfg(feature = "zenoh")]
        if is_mcap(&self.dir) {
            return replay_incident::run(&self.dir, self.checkpoint.as_deref(), &self.device, self.json);
        }
        let dataset = Dataset::open(&self.dir)?;
        let note = recording_note(&dataset)?;
        let numbers: Vec<usize> = match self.episode {
            Some(episode) => vec![episode],
            None => (0..dataset.episode_count()).collect(),
        };
        let episodes: Vec<Episode> =
            numbers.iter().map(|number| read_recorded(&dataset, *number)).collect::<Result<_, _>>()?;
        // A set recorded on a robot has another setup, or none.
        let setup = Setup::deserialize(&note.setup).ok();
        if setup.is_none() && self.checkpoint.is_none() {
            bail!(
                "{} was not recorded in a simulated task, so its actions cannot be executed again; with --checkpoint \
                 a policy can be asked again",
                self.dir.display()
            );
        }
        let mut view = ReplayView::new(&self.view, &episodes)?;
        let mut replayed = Vec::with_capacity(episodes.len());
        for (number, episode) in numbers.iter().zip(&episodes) {
            let execute = |setup: &Setup| {
                execute(episode, *number, setup.task.build().as_mut(), &mut view)
                    .with_context(|| format!("episode {number} of {}", self.dir.display()))
            };
            replayed.push(Replayed {
                episode: *number,
                seed: episode.seed,
                frames: episode.frames.len(),
                execution: setup.as_ref().map(execute).transpose()?,
                policy: None,
            });
        }
        view.finish(note.interface.control_hz)?;
        if let Some(checkpoint) = &self.checkpoint {
            let mut policy = DiffusionPolicy::load(checkpoint, self.device.options())
                .with_context(|| format!("cannot plan with {}", checkpoint.display()))?;
            if let Some(PolicySetup { sampler, executed, .. }) = setup.and_then(|setup| setup.policy) {
                policy = policy.with_sampler(sampler)?.with_executed(executed)?;
            }
            for (replayed, again) in replayed.iter_mut().zip(ask_again(policy, &episodes)?) {
                replayed.policy = Some(again);
            }
        }
        if self.json {
            output::print_json(&replayed)?;
        } else {
            print(&replayed, &note.interface);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Executes the recorded actions from the recorded seed. Numbers are compared as a recording holds them, in 32 bits.
fn execute(
    episode: &Episode,
    number: usize,
    task: &mut dyn Task,
    view: &mut ReplayView,
) -> Result<Execution> {
    if task.interface() != &episode.interface {
        bail!("the simulated task has another interface now than when the episode was recorded");
    }
    let seed = episode.seed.context("it has no seed, so where it began is unknown")?;
    let mut observation = task.reset(seed);
    view.begin(number, seed);
    let (mut largest_deviation, mut at, mut reward) = (0.0, None, 0.0);
    for (index, frame) in episode.frames.iter().enumerate() {
        let deviations = observation.0.iter().zip(&frame.observation.0).map(|(now, then)| {
            let now = f64::from(*now as f32);
            // NaN that was recorded and comes again is no deviation.
            if now.to_bits() == then.to_bits() { 0.0 } else { (now - then).abs() }
        });
        for (place, deviation) in deviations.enumerate() {
            if deviation > largest_deviation || deviation.is_nan() {
                largest_deviation = if deviation.is_nan() { f64::INFINITY } else { deviation };
                at = Some(Place { frame: index, feature: feature_at(&episode.interface, place) });
            }
        }
        view.step(index, task, &observation, &frame.action, reward)?;
        let Step { observation: next, reward: now, .. } = task.step(&frame.action);
        (observation, reward) = (next, now);
    }
    let recorded_reward = episode.frames.last().map_or(0.0, |frame| frame.reward);
    Ok(Execution { largest_deviation, at, recorded_reward, reward })
}

fn feature_at(interface: &Interface, place: usize) -> String {
    let holds = |name: &str| interface.observation_range(name).is_some_and(|range| range.contains(&place));
    let feature = interface.observation.iter().find(|feature| holds(&feature.name));
    feature.map_or_else(String::new, |feature| feature.name.clone())
}

/// What the policy does in the recorded states, compared with what was done.
fn ask_again(policy: DiffusionPolicy, episodes: &[Episode]) -> Result<Vec<Again>> {
    let threads = cores();
    let mut policy = reproducible(policy);
    let mut tasks: Vec<(Box<dyn Task>, u64)> = Vec::with_capacity(episodes.len());
    for episode in episodes {
        let seed = episode.seed.context("an episode has no seed, so the noise of its plans is unknown")?;
        let playback = Playback::new(episode.clone()).context("an episode has no frames")?;
        tasks.push((Box::new(playback), seed));
    }
    let options = RolloutOptions { threads, ..RolloutOptions::default() };
    let begun = Instant::now();
    let bar = output::progress(episodes.len() as u64, "episodes planned");
    let mut progress = |done: usize| bar.set_position(done as u64);
    let (again, _) = rollout(&mut policy, &mut tasks, options, &|| begun.elapsed(), &mut progress)?;
    bar.finish_and_clear();
    let compare = |(then, now): (&Episode, &Episode)| {
        let pairs = || then.frames.iter().zip(&now.frames).map(|(then, now)| (&then.action.0, &now.action.0));
        let Some(frame) = pairs().position(|(then, now)| then != now) else {
            return Again::Identical;
        };
        let differences = pairs().flat_map(|(then, now)| then.iter().zip(now).map(|(a, b)| (a - b).abs()));
        Again::Differs {
            frame,
            recorded: then.frames[frame].action.0.clone(),
            planned: now.frames[frame].action.0.clone(),
            largest: differences.fold(0.0, f64::max),
        }
    };
    Ok(episodes.iter().zip(&again).map(compare).collect())
}

fn print(replayed: &[Replayed], interface: &Interface) {
    let mut table =
        output::table(["episode", "seed", "frames", "largest deviation", "end reward", "recorded", "policy"]);
    for episode in replayed {
        let seed = episode.seed.map_or_else(String::new, |seed| seed.to_string());
        let mut row = vec![episode.episode.to_string(), seed, episode.frames.to_string()];
        match &episode.execution {
            Some(Execution { largest_deviation, at, recorded_reward, reward }) => row.extend([
                match at {
                    None => "none".to_owned(),
                    Some(Place { frame, feature }) => {
                        let unit = interface.observation.iter().find(|known| known.name == *feature);
                        let unit = unit.map_or("", |feature| feature.unit.as_str());
                        format!("{largest_deviation:.2e} {unit} ({feature}, frame {frame})")
                    }
                },
                format!("{reward:.4}"),
                format!("{recorded_reward:.4}"),
            ]),
            None => row.extend(["not simulated".to_owned(), String::new(), String::new()]),
        }
        row.push(match &episode.policy {
            None => String::new(),
            Some(Again::Identical) => "does the same".to_owned(),
            Some(Again::Differs { frame, recorded, planned, largest }) => format!(
                "differs from frame {frame} on by up to {largest:.2e}: {planned:.3?}, recorded {recorded:.3?}"
            ),
        });
        table.add_row(row);
    }
    say!("{table}");
}
