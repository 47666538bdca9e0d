//! `nudge dataset merge`: several data sets as one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nudge_control::{Interval, wilson_interval};
use nudge_dataset::{Merged, Recorded, merge};
use serde::Serialize;

use crate::output::{self, say};

/// Make one data set of several
///
/// For the parts of a recording (`nudge record --shard`), give the folder that holds them: it is checked that none is
/// missing or double, and the set is the very one that one program would have recorded. Other sets are put one
/// after another; they must have the same features.
#[derive(Args)]
pub struct Merge {
    /// Data sets, or folders of parts
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,

    /// The folder to write; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a merge says.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    merged: Merged,
    /// Share of successes among all episodes that the parts of a recording ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success_ci: Option<Interval>,
    out: &'a Path,
}

impl Merge {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let merged = merge(&self.dirs, &self.out)?;
        let Merged { sets, episodes, frames, recorded } = merged;
        let out = &self.out;
        if self.json {
            let success = recorded.map(|recorded| recorded.succeeded as f64 / recorded.run.max(1) as f64);
            let success_ci = recorded.map(|recorded| wilson_interval(recorded.succeeded, recorded.run));
            output::print_json(&Report { merged, success, success_ci, out })?;
            return Ok(ExitCode::SUCCESS);
        }
        say!("{}: {episodes} episodes, {frames} frames, from {sets} sets", out.display());
        if let Some(Recorded { run, succeeded, kept }) = recorded {
            let ci = wilson_interval(succeeded, run);
            say!(
                "nothing is missing: {run} episodes were run, {succeeded} achieved the task (95 % interval {:.3} to \
                 {:.3}), {kept} were kept",
                ci.low,
                ci.high
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
