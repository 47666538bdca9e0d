//! `nudge dataset filter`: some episodes of a data set.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use nudge_dataset::{Conversion, Dataset, Selection};

use super::edits::{self, EditArgs, List, Sets, command_line, list, new_folder};

/// Make a data set of some episodes of another
///
/// An episode is taken when every option given allows it. Lengths are those after the edits. What is known about the
/// recording (seeds, successes, units, limits) goes with the episodes that stay.
#[derive(Args)]
#[command(after_help = "Examples:
  nudge dataset filter raw --drop 3,17-20 --min-frames 20 --out clean
  nudge dataset filter raw --successful --trim-idle --out clean")]
pub struct Filter {
    #[command(flatten)]
    sets: Sets,

    /// Take only these episodes, numbered from 0, for example 0-49,60
    #[arg(long, value_name = "EPISODES", value_parser = list)]
    keep: Option<List>,

    /// Leave out these episodes
    #[arg(long, value_name = "EPISODES", value_parser = list)]
    drop: Option<List>,

    /// Leave out shorter episodes
    #[arg(long, value_name = "N")]
    min_frames: Option<usize>,

    /// Leave out longer episodes
    #[arg(long, value_name = "N")]
    max_frames: Option<usize>,

    /// Leave out episodes that did not achieve their task (next.success, or meta/nudge.json)
    #[arg(long)]
    successful: bool,

    /// Leave out episodes that were begun from a seed, which are those of a simulation
    #[arg(long)]
    seed_free: bool,

    #[command(flatten)]
    edits: EditArgs,
}

impl Filter {
    pub fn run(self) -> Result<ExitCode> {
        let Sets { set, out, fps, json } = &self.sets;
        let out = new_folder(out)?;
        let set = Dataset::open(set)?;
        let selection = Selection {
            keep: self.keep.map(|list| list.0),
            drop: self.drop.map(|list| list.0).unwrap_or_default(),
            min_frames: self.min_frames,
            max_frames: self.max_frames,
            successful: self.successful,
            seed_free: self.seed_free,
            ..Selection::default()
        };
        let mut conversion =
            Conversion { fps: *fps, selection, command: command_line(), ..Conversion::default() };
        self.edits.add_to(&mut conversion);
        edits::run(&set, out, &conversion, *json)
            .with_context(|| format!("cannot filter {}", set.root().display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
