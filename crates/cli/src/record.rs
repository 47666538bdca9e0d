//! `nudge record`: demonstrations of a task's expert, or episodes of a policy, kept as a data set.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, value_parser};
use nudge_control::{Episode, Policy as _, Reproducible, RolloutOptions, Task, rollout};
use nudge_dataset::{DatasetError, EpisodeWriter, Recorded, Recording, ShardNote, shard_folder, shard_note};
use nudge_policy::{DiffusionPolicy, SamplerConfig};
use nudge_sim::TaskConfig;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::checkpoint::{PlanArgs, cores};
use crate::demonstrate::demonstrate;
use crate::output::{self, say};
use crate::record_report::{Report, Tally};
use crate::shard::{Shard, ShardArgs};
use crate::task::{TaskArgs, TaskName, instruction};

/// Episodes of a policy that run side by side; what is recorded does not depend on it.
const SIDE_BY_SIDE: usize = 256;

/// Record demonstrations in simulation as a LeRobot v3.0 data set
///
/// The task's own expert demonstrates, on all cores; with --checkpoint, a policy acts instead. Only episodes that
/// achieve the task are kept, as demonstrations are, unless --all. What is recorded is exactly what was done, so
/// `nudge replay` gives it back to the bit, and the same command gives the same set.
///
/// The folder appears when it is whole: a command that was killed leaves nothing, and is run again. Many machines can share
/// the work, and what is killed is one part then: see --shard.
#[derive(Args)]
pub struct Record {
    /// The simulated task
    #[arg(value_enum)]
    task: TaskName,

    #[command(flatten)]
    options: TaskArgs,

    /// Let this policy act instead of the expert: a checkpoint folder
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,

    #[command(flatten)]
    plan: PlanArgs,

    /// Episodes to run, each from a seed of its own
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    episodes: u64,

    /// Seed of the first episode; the next ones count up
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,

    /// The folder to write; it must not exist, but for the parts of a recording
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Keep failures too
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    shard: ShardArgs,

    /// Threads that demonstrate; all cores by default. What is recorded does not depend on it
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=4096))]
    threads: Option<u64>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// How a set was recorded, as its `meta/nudge.json` keeps it for `nudge replay`.
#[derive(Serialize, Deserialize)]
pub struct Setup {
    pub task: TaskConfig,
    /// The policy that acted, if one did.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicySetup>,
}

/// A policy that acted, and how it planned.
#[derive(Clone, Serialize, Deserialize)]
pub struct PolicySetup {
    /// Name of the checkpoint.
    pub checkpoint: String,
    pub sampler: SamplerConfig,
    pub executed: usize,
}

impl Record {
    pub fn run(self) -> Result<ExitCode> {
        let shard = self.shard.resolve(&|name| std::env::var(name).ok())?;
        let dir =
            shard.map_or(self.out.clone(), |Shard { index, count }| shard_folder(&self.out, index, count));
        if let (None, Some(option)) = (&self.checkpoint, self.plan.given()) {
            bail!(
                "{option} says how a policy plans, but the expert is to act: leave it out, or give --checkpoint"
            );
        }
        let begun = Instant::now();
        let task = self.options.config(self.task)?;
        let policy = self.checkpoint.as_ref().map(|checkpoint| self.plan.load(checkpoint)).transpose()?;
        let setup = Setup { task, policy: self.policy_setup(policy.as_ref()) };
        let setup = serde_json::to_value(&setup)?;
        let note = shard.map(|shard| self.note(shard, &setup));
        if dir.symlink_metadata().is_ok() {
            return match note {
                Some(note) => self.recorded_before(&dir, &note),
                None => Err(DatasetError::Exists { path: dir }.into()),
            };
        }
        let (name, interface) = {
            let world = task.build();
            (world.name().to_owned(), world.interface().clone())
        };
        let recording = Recording {
            instruction: instruction(&task).to_owned(),
            robot_type: Some("simulated".into()),
            setup,
        };
        let mut writer = EpisodeWriter::create(&dir, &name, &interface, recording)?;
        let mut tally = Tally::new(&task);
        let mut take = |episode: Episode| -> Result<()> {
            let keep = self.all || episode.success();
            if keep {
                writer.push(&episode)?;
            }
            tally.count(&episode, keep);
            Ok(())
        };
        let seeds = self.seeds(shard)?;
        let plans = match policy {
            Some(policy) => Some(self.roll_out(reproducible(policy), &task, seeds, begun, &mut take)?),
            None => {
                self.demonstrate(&task, seeds, &mut take)?;
                None
            }
        };
        let frames = match note {
            Some(note) => writer.finish_shard(&ShardNote { recorded: tally.recorded, ..note })?,
            None if tally.recorded.kept == 0 => bail!(
                "none of {} episodes achieved the task (mean score {:.3}), so there is nothing to keep; --all keeps \
                 failures too",
                tally.recorded.run,
                tally.mean_score()
            ),
            None => writer.finish()?,
        };
        let report = Report::new(name, self.seed, shard, tally, frames, plans, begun.elapsed(), dir);
        if self.json {
            output::print_json(&report)?
        } else {
            report.print()
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The seeds of this part.
    fn seeds(&self, shard: Option<Shard>) -> Result<Range<u64>> {
        self.seed.checked_add(self.episodes).context("--seed and --episodes pass the largest seed")?;
        let share = shard.map_or(0..self.episodes, |shard| shard.episodes(self.episodes));
        Ok(self.seed + share.start..self.seed + share.end)
    }

    fn policy_setup(&self, policy: Option<&DiffusionPolicy>) -> Option<PolicySetup> {
        let (policy, checkpoint) = policy.zip(self.checkpoint.as_ref())?;
        Some(PolicySetup {
            checkpoint: checkpoint.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sampler: policy.manifest().policy.sampler,
            executed: policy.horizon().executed,
        })
    }

    /// What a part says about itself, before it is recorded.
    fn note(&self, shard: Shard, setup: &serde_json::Value) -> ShardNote {
        ShardNote {
            shard: shard.index,
            shards: shard.count,
            recording: json!({
                "version": env!("CARGO_PKG_VERSION"),
                "setup": setup,
                "seed": self.seed,
                "episodes": self.episodes,
                "all": self.all,
            }),
            command: command_without_shard(std::env::args()),
            recorded: Recorded::default(),
        }
    }

    /// A part that was recorded before is not recorded again.
    fn recorded_before(&self, dir: &Path, wanted: &ShardNote) -> Result<ExitCode> {
        let Some(there) = shard_note(dir)? else {
            return Err(DatasetError::Exists { path: dir.to_owned() }.into());
        };
        if let Some(difference) = there.difference(wanted) {
            bail!(
                "{} is there already and holds another recording: {difference}; choose another --out, or remove it \
                 first",
                dir.display()
            );
        }
        if self.json {
            output::print_json(&json!({ "already_recorded": there.recorded, "out": dir }))?;
        } else {
            let Recorded { run, kept, .. } = there.recorded;
            say!("{} is recorded already ({kept} of {run} episodes kept): nothing to do", dir.display());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn demonstrate(
        &self,
        task: &TaskConfig,
        seeds: Range<u64>,
        take: &mut dyn FnMut(Episode) -> Result<()>,
    ) -> Result<()> {
        let threads = self.threads.map_or_else(cores, |threads| threads as usize);
        let bar = output::progress(seeds.end - seeds.start, "episodes");
        demonstrate(task, seeds, threads, &|| bar.inc(1), take)?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Runs the policy's episodes; how many plans it made.
    fn roll_out(
        &self,
        mut policy: Reproducible,
        task: &TaskConfig,
        seeds: Range<u64>,
        begun: Instant,
        take: &mut dyn FnMut(Episode) -> Result<()>,
    ) -> Result<usize> {
        let options = RolloutOptions { threads: cores(), ..RolloutOptions::default() };
        let bar = output::progress(seeds.end - seeds.start, "episodes");
        let (mut plans, mut finished) = (0, 0);
        let seeds: Vec<u64> = seeds.collect();
        for seeds in seeds.chunks(SIDE_BY_SIDE) {
            let mut tasks: Vec<(Box<dyn Task>, u64)> =
                seeds.iter().map(|seed| (task.build(), *seed)).collect();
            let mut progress = |done: usize| bar.set_position((finished + done) as u64);
            let (episodes, stats) =
                rollout(&mut policy, &mut tasks, options, &|| begun.elapsed(), &mut progress)?;
            finished += episodes.len();
            plans += stats.plans;
            episodes.into_iter().try_for_each(&mut *take)?;
        }
        bar.finish_and_clear();
        Ok(plans)
    }
}

/// A policy whose plans come out the same whoever asks beside it: it plans one request a core, so each is a batch of
/// its own.
pub fn reproducible(policy: DiffusionPolicy) -> Reproducible {
    Reproducible { policy: Box::new(policy.with_threads(cores())), at_once: cores() }
}

/// The command line without its choice of a part, to be given to a shell.
fn command_without_shard(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["nudge".to_owned()];
    let mut arguments = arguments.skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--shard" | "--shards" => drop(arguments.next()),
            _ if argument.starts_with("--shard=") || argument.starts_with("--shards=") => {}
            _ => words.push(quoted(argument)),
        }
    }
    words.join(" ")
}

/// A word as a shell reads it.
pub fn quoted(word: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word;
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_other_parts_is_this_one_without_its_part() {
        let words = ["/bin/nudge", "record", "push_t", "--shard", "1/8", "--out", "my data", "--shards=8"];
        let command = command_without_shard(words.into_iter().map(str::to_owned));
        assert_eq!(command, "nudge record push_t --out 'my data'");
    }
}
