//! Demonstrations out of nothing, for measuring.

use std::path::Path;

use anyhow::{Context as _, Result};
use nudge_control::{Action, Episode, Frame, Interface, Observation, split_mix_64};
use nudge_dataset::{Recording, write_episodes};
use nudge_policy::TrainConfig;

pub const EPISODES: usize = 20;
pub const FRAMES: usize = 200;

/// Writes a data set for the experiment into a new folder.
///
/// # Errors
/// When the disk refuses.
pub fn write(config: &TrainConfig, dir: &Path) -> Result<()> {
    let episodes: Vec<Episode> = (0..EPISODES as u64).map(|seed| episode(config, seed)).collect();
    let recording = Recording { instruction: "synthetic".into(), ..Recording::default() };
    write_episodes(dir, &episodes, &recording).context("cannot write a synthetic data set")?;
    Ok(())
}

/// Numbers that wander within the action's limits, and anything in -1..1 observed.
fn episode(config: &TrainConfig, seed: u64) -> Episode {
    let interface: &Interface = &config.interface;
    let wave = |frame: usize, number: usize| {
        let phase = split_mix_64(seed << 16 | number as u64) % 1000;
        (frame as f64 / 20.0 + phase as f64).sin()
    };
    let limits =
        interface.action.iter().flat_map(|feature| feature.limits.low.iter().zip(&feature.limits.high));
    let limits: Vec<(&f64, &f64)> = limits.collect();
    let frame = |index: usize| Frame {
        time_secs: index as f64 / interface.control_hz,
        observation: Observation((0..interface.observation_dim()).map(|d| wave(index, d)).collect()),
        action: Action(
            limits
                .iter()
                .enumerate()
                .map(|(d, (low, high))| (*low + *high + (*high - *low) * wave(index, d + 1000)) / 2.0)
                .collect(),
        ),
        reward: 0.0,
        success: false,
        done: index + 1 == FRAMES,
    };
    let frames = (0..FRAMES).map(frame).collect();
    Episode { task: config.task.clone(), interface: interface.clone(), seed: Some(seed), frames }
}
