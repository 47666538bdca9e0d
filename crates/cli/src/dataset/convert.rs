//! `nudge dataset convert`: any data set as LeRobot v3.0.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use nudge_dataset::{Conversion, Dataset};

use super::edits::{self, EditArgs, Sets, command_line, new_folder, renamed};

/// Make a LeRobot v3.0 data set of any other
///
/// Reads LeRobot v3.0, v2.1 and v2.0 folders, diffusion_policy's zarr replay buffers and robomimic's HDF5 files. Without
/// edits every number keeps its bits. Of zarr and HDF5, `action` or `actions` becomes `action`, rewards and dones become
/// next.reward and next.done, and everything else becomes observation.NAME. Pictures and videos are passed over. The new folder
/// appears when it is complete.
#[derive(Args)]
#[command(after_help = "Examples:
  nudge dataset convert pusht.zarr --fps 10 --task 'Push the T.' --out datasets/pusht
  nudge dataset convert lift.hdf5 --rename obs/robot0_eef_pos=observation.state --out datasets/lift
  nudge dataset convert old --trim-idle --degrees action:0-5 --out new")]
pub struct Convert {
    #[command(flatten)]
    sets: Sets,

    /// What was to be done, in words; for every episode, instead of what the set says
    #[arg(long, value_name = "TEXT")]
    task: Option<String>,

    /// Give a feature another name; may be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = renamed)]
    rename: Vec<(String, String)>,

    /// Leave a feature out; may be repeated
    #[arg(long, value_name = "NAME")]
    drop_feature: Vec<String>,

    /// Take the whole episodes of a set whose metadata disagree with its files, and say what was left out
    #[arg(long)]
    salvage: bool,

    #[command(flatten)]
    edits: EditArgs,
}

impl Convert {
    pub fn run(self) -> Result<ExitCode> {
        let Sets { set, out, fps, json } = &self.sets;
        let out = new_folder(out)?;
        let set = if self.salvage {
            let (set, lost) = Dataset::salvage(set)?;
            // Beside JSON it is not for standard output.
            lost.iter().for_each(|line| eprintln!("salvage: {line}"));
            set
        } else {
            Dataset::open(set)?
        };
        let mut conversion = Conversion {
            fps: *fps,
            task: self.task,
            rename: self.rename,
            drop_features: self.drop_feature,
            command: command_line(),
            ..Conversion::default()
        };
        self.edits.add_to(&mut conversion);
        edits::run(&set, out, &conversion, *json)
            .with_context(|| format!("cannot convert {}", set.root().display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
