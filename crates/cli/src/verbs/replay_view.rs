//! What a replay leaves to look at: an animation, and a rerun recording.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use nudge_control::{Action, Episode, Observation, Task};
use nudge_sim::{Picture, draw};

use crate::verbs::animation::write_gif;

/// Width of the animation, px.
const GIF_WIDTH: u32 = 256;

/// Where to leave it.
#[derive(Args)]
pub struct ViewArgs {
    /// Show the replay in this rerun recording
    #[cfg(feature = "rerun")]
    #[arg(long, value_name = "FILE")]
    rrd: Option<PathBuf>,

    /// Show the replay as this animated image
    #[arg(long, value_name = "FILE")]
    gif: Option<PathBuf>,
}

/// What has been seen so far.
pub struct ReplayView<'a> {
    args: &'a ViewArgs,
    pictures: Vec<Picture>,
    #[cfg(feature = "rerun")]
    view: Option<nudge_runtime::View>,
}

impl<'a> ReplayView<'a> {
    /// For these episodes, which are of one interface.
    #[cfg_attr(not(feature = "rerun"), expect(unused_variables))]
    pub fn new(args: &'a ViewArgs, episodes: &[Episode]) -> Result<Self> {
        #[cfg(feature = "rerun")]
        let view = match (&args.rrd, episodes) {
            (Some(path), [first, ..]) => {
                // Nobody waits for a control tick here: room for every update, so that none is dropped.
                let queue = episodes.iter().map(|episode| 3 * episode.frames.len() + 1).sum();
                let options = nudge_runtime::ViewOptions::new("nudge replay", first.interface.clone());
                let options = nudge_runtime::ViewOptions { queue, ..options };
                Some(nudge_runtime::View::to_file(path, options)?)
            }
            _ => None,
        };
        Ok(Self {
            args,
            pictures: Vec::new(),
            #[cfg(feature = "rerun")]
            view,
        })
    }

    #[cfg_attr(not(feature = "rerun"), expect(unused_variables))]
    pub fn begin(&self, episode: usize, seed: u64) {
        #[cfg(feature = "rerun")]
        if let Some(view) = &self.view {
            view.begin_episode(episode as u64, seed);
        }
    }

    /// The world before `action`, and the reward of that state.
    #[cfg_attr(not(feature = "rerun"), expect(unused_variables))]
    pub fn step(
        &mut self,
        frame: usize,
        task: &dyn Task,
        observation: &Observation,
        action: &Action,
        reward: f64,
    ) -> Result<()> {
        if self.args.gif.is_some() {
            self.pictures.push(draw(&task.scene(), GIF_WIDTH)?);
        }
        #[cfg(feature = "rerun")]
        if let Some(view) = &self.view {
            let step = frame as u64;
            view.world(step, &task.scene(), reward);
            view.observation(step, observation);
            view.command(step, action, "replay");
        }
        Ok(())
    }

    /// Writes the files; an animation has `rate_hz` pictures a second.
    pub fn finish(self, rate_hz: f64) -> Result<()> {
        if let Some(path) = &self.args.gif {
            write_gif(path, rate_hz, &self.pictures)?;
        }
        #[cfg(feature = "rerun")]
        if let Some(view) = &self.view {
            view.finish()?;
        }
        Ok(())
    }
}
