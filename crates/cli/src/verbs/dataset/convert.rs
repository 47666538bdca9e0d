//! `nudge dataset convert`: any data set as LeRobot v3.0.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nudge_dataset::mcap::TopicFeature;
use nudge_dataset::{Conversion, Dataset};

use super::edits::{self, EditArgs, Sets, command_line, new_folder, renamed};
use super::wire_log::{self, topic_feature};

/// Make a LeRobot v3.0 data set of any other
///
/// Reads LeRobot v3.0, v2.1 and v2.0 folders, diffusion_policy's zarr replay buffers and robomimic's HDF5 files. Without
/// edits every number keeps its bits. Of zarr and HDF5, `action` or `actions` becomes `action`, rewards and dones become
/// next.reward and next.done, and everything else becomes observation.NAME. Pictures and videos are passed over. The new folder
/// appears when it is complete.
///
/// An MCAP file is made a set with --fps: what came over the wire when it came becomes frames at that rate, each with the
/// messages before it (or on the line between two), and a report of what is missing. Of recordings of `nudge serve`, observations
/// and commands are taken; of others, --topic says what becomes which feature.
#[derive(Args)]
#[command(after_help = "Examples:
  nudge dataset convert pusht.zarr --fps 10 --task 'Push the T.' --out datasets/pusht
  nudge dataset convert lift.hdf5 --rename obs/robot0_eef_pos=observation.state --out datasets/lift
  nudge dataset convert old --trim-idle --degrees action:0-5 --out new
  nudge dataset convert run.mcap --fps 10 --topic /joint_states=observation.state --topic /commands=action --out new")]
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

    /// Of an MCAP file: what a topic becomes; may be repeated. FIELD is position, velocity or effort of a JointState;
    /// `:linear` takes the line between two messages instead of the one before
    #[arg(long, value_name = "TOPIC[:FIELD]=FEATURE[:linear]", value_parser = topic_feature)]
    topic: Vec<TopicFeature>,

    /// Of an MCAP file: a longer silence of a topic ends an episode, and another begins behind it
    #[arg(long, value_name = "SECS", default_value_t = 0.5)]
    max_gap: f64,

    #[command(flatten)]
    edits: EditArgs,
}

impl Convert {
    pub fn run(self) -> Result<ExitCode> {
        let Sets { set, out, fps, json } = &self.sets;
        let out = new_folder(out)?;
        let mut conversion = Conversion {
            fps: *fps,
            task: self.task,
            rename: self.rename,
            drop_features: self.drop_feature,
            command: command_line(),
            ..Conversion::default()
        };
        self.edits.add_to(&mut conversion);
        if wire_log::is_mcap(set) {
            let how = wire_log::conversion(&conversion, &self.topic, self.max_gap, self.salvage)?;
            wire_log::convert(set, out, &how, *json)?;
            return Ok(ExitCode::SUCCESS);
        }
        if !self.topic.is_empty() {
            bail!("--topic is for MCAP files, and {} is none", set.display());
        }
        let set = if self.salvage {
            let (set, lost) = Dataset::salvage(set)?;
            // Beside JSON it is not for standard output.
            lost.iter().for_each(|line| eprintln!("salvage: {line}"));
            set
        } else {
            Dataset::open(set)?
        };
        edits::run(&set, out, &conversion, *json)
            .with_context(|| format!("cannot convert {}", set.root().display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
