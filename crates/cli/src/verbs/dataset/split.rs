//! `nudge dataset split`: a set to train on, and one to validate with.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use nudge_dataset::{Conversion, Converted, Dataset, Division, split};
use serde::Serialize;

use super::edits::{Sets, command_line, new_folder, print};
use crate::output;

/// Divide a data set into one to train on and one to validate with
///
/// Writes DIR/train and DIR/validation. Whole episodes go to one or the other; together they are everything. The same
/// seed gives the same division.
#[derive(Args)]
pub struct Split {
    #[command(flatten)]
    sets: Sets,

    /// Share of the episodes for validation, drawn at random [default: 0.1]
    #[arg(long, value_name = "SHARE", conflicts_with = "at")]
    share: Option<f64>,

    /// What the draw follows from
    #[arg(long, default_value_t = 0, conflicts_with = "at")]
    seed: u64,

    /// Take the episodes from this one on for validation, instead of drawing them
    #[arg(long, value_name = "EPISODE")]
    at: Option<usize>,
}

/// What a division says.
#[derive(Serialize)]
struct Report {
    train: Converted,
    validation: Converted,
    out: PathBuf,
}

impl Split {
    pub fn run(self) -> Result<ExitCode> {
        let Sets { set, out, fps, json } = self.sets;
        new_folder(&out)?;
        let set = Dataset::open(&set)?;
        let division = match self.at {
            Some(at) => Division::At(at),
            None => Division::Share { share: self.share.unwrap_or(0.1), seed: self.seed },
        };
        let conversion = Conversion { fps, command: command_line(), ..Conversion::default() };
        let bar = output::progress(set.frame_count() as u64, "frames");
        let [train, validation] =
            split(&set, &out, division, &conversion, &mut |frames| bar.set_position(frames as u64))
                .with_context(|| format!("cannot split {}", set.root().display()))?;
        bar.finish_and_clear();
        if json {
            output::print_json(&Report { train, validation, out })?;
        } else {
            print(&out.join("train"), &train);
            print(&out.join("validation"), &validation);
        }
        Ok(ExitCode::SUCCESS)
    }
}
