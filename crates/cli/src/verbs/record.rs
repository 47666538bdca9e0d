//! `nudge record`: demonstrations of a task's expert, or episodes of a policy, kept as a data set.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use nudge_control::{Episode, Policy as _, Reproducible, RolloutOptions, Task, rollout};
use nudge_dataset::{
    Dataset, Recorded, Recorder, Recording, Request, ShardNote, shard_folder, shard_note, unfinished,
};
use nudge_policy::{DiffusionPolicy, SamplerConfig};
use nudge_sim::TaskConfig;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::output::{self, say};
use crate::verbs::checkpoint::{PlanArgs, cores};
use crate::verbs::demonstrate::demonstrate;
use crate::verbs::record_report::{Report, Tally};
use crate::verbs::shard::{Shard, ShardArgs};
use crate::verbs::task::{TaskArgs, TaskName, instruction};
use crate::verbs::write_behind::WriteBehind;

/// Episodes of a policy that run side by side, a core and at least: as many are in progress when a recording is cut off.
/// What is recorded does not depend on it.
const SIDE_BY_SIDE: usize = 4;
const SIDE_BY_SIDE_AT_LEAST: usize = 32;

/// Record demonstrations in simulation as a LeRobot v3.0 data set
///
/// The task's own expert demonstrates, on all cores; with --checkpoint, a policy acts instead. Only episodes that
/// achieve the task are kept, as demonstrations are, unless --all. What is recorded is exactly what was done, so
/// `nudge replay` gives it back to the bit, and the same command gives the same set.
///
/// Episodes are on the disk as the progress bar says, within a second of their end. Kill the command, and it goes on from there
/// when it is run again: the set is the same, to the byte, as that of a command that was never killed. Many machines can share
/// the work: see --shard.
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

    /// The folder to write; it must not exist, but for what the same command has begun there
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
        let wanted = self.wanted(&setup);
        let note = shard.map(|shard| self.note(shard, &wanted));
        if let Some(note) = &note
            && unfinished(&dir)?.is_none()
            && let Some(there) = shard_note(&dir)?
        {
            return self.recorded_before(&dir, &there, note);
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
        let command = command_without_shard(std::env::args());
        let command = note.as_ref().map_or(command, |note| note.command_of(note.shard));
        let request = Request { seeds: self.seeds(shard)?, recording: wanted, command };
        let Some(recorder) = Recorder::open(&dir, &name, &interface, recording, request)? else {
            return self.nothing_to_do(&dir, None);
        };
        let mut tally = Tally::new(&task);
        if !recorder.note().episodes.is_empty() {
            tally.go_on(&Dataset::open(&dir)?, &recorder.note().episodes)?;
        }
        tally.count_left_out(recorder.scores_left_out());
        let (before, left) = (tally.recorded.run, recorder.left());
        let bar = self.bar(shard, before);
        let on_disk = {
            let bar = bar.clone();
            move |more: u64| bar.set_message(format!("{} on disk", before as u64 + more))
        };
        let mut disk = WriteBehind::start(recorder, on_disk)?;
        let mut take = |episode: Episode| -> Result<()> {
            let keep = self.all || episode.success();
            tally.count(&episode, keep);
            disk.take(episode, keep)
        };
        let plans = match policy {
            Some(policy) => Some(self.roll_out(reproducible(policy), &task, left, begun, &bar, &mut take)?),
            None => {
                let threads = self.threads.map_or_else(cores, |threads| threads as usize);
                demonstrate(&task, left, threads, &|| bar.inc(1), &mut take)?;
                None
            }
        };
        let recorder = disk.finish()?;
        bar.finish_and_clear();
        if note.is_none() && tally.recorded.kept == 0 {
            bail!(
                "none of {} episodes achieved the task (mean score {:.3}), so there is nothing to keep; --all keeps \
                 failures too",
                tally.recorded.run,
                tally.mean_score()
            );
        }
        let part = note.map(|note| ShardNote { recorded: tally.recorded, ..note });
        let frames = recorder.finish(part.as_ref())?;
        let report = Report::new(name, self.seed, shard, tally, before, frames, plans, begun.elapsed(), dir);
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

    /// All that what is recorded depends on.
    fn wanted(&self, setup: &serde_json::Value) -> serde_json::Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "setup": setup,
            "seed": self.seed,
            "episodes": self.episodes,
            "all": self.all,
        })
    }

    /// What a part says about itself, before it is recorded.
    fn note(&self, shard: Shard, wanted: &serde_json::Value) -> ShardNote {
        ShardNote {
            shard: shard.index,
            shards: shard.count,
            recording: wanted.clone(),
            command: command_without_shard(std::env::args()),
            recorded: Recorded::default(),
        }
    }

    /// A part that was recorded before is not recorded again.
    fn recorded_before(&self, dir: &Path, there: &ShardNote, wanted: &ShardNote) -> Result<ExitCode> {
        if let Some(difference) = there.difference(wanted) {
            bail!(
                "{} is there already and holds another recording: {difference}; choose another --out, or remove it \
                 first",
                dir.display()
            );
        }
        self.nothing_to_do(dir, Some(there.recorded))
    }

    fn nothing_to_do(&self, dir: &Path, recorded: Option<Recorded>) -> Result<ExitCode> {
        if self.json {
            output::print_json(&json!({ "already_recorded": recorded, "out": dir }))?;
            return Ok(ExitCode::SUCCESS);
        }
        let counts = recorded.map_or_else(String::new, |Recorded { run, kept, .. }| {
            format!(" ({kept} of {run} episodes kept)")
        });
        say!("{} is recorded already{counts}: nothing to do", dir.display());
        Ok(ExitCode::SUCCESS)
    }

    /// The bar of this part, of which so many episodes were run before.
    fn bar(&self, shard: Option<Shard>, before: usize) -> ProgressBar {
        let length = shard.map_or(0..self.episodes, |shard| shard.episodes(self.episodes));
        let bar = output::progress(length.end - length.start, "episodes");
        bar.set_position(before as u64);
        bar.reset_eta();
        bar
    }

    /// Runs the policy's episodes; how many plans it made.
    fn roll_out(
        &self,
        mut policy: Reproducible,
        task: &TaskConfig,
        seeds: Range<u64>,
        begun: Instant,
        bar: &ProgressBar,
        take: &mut dyn FnMut(Episode) -> Result<()>,
    ) -> Result<usize> {
        let options = RolloutOptions { threads: cores(), ..RolloutOptions::default() };
        let before = bar.position();
        let (mut plans, mut finished) = (0, 0);
        let seeds: Vec<u64> = seeds.collect();
        for seeds in seeds.chunks(SIDE_BY_SIDE_AT_LEAST.max(SIDE_BY_SIDE * cores())) {
            let mut tasks: Vec<(Box<dyn Task>, u64)> =
                seeds.iter().map(|seed| (task.build(), *seed)).collect();
            let mut progress = |done: usize| bar.set_position(before + (finished + done) as u64);
            let (episodes, stats) =
                rollout(&mut policy, &mut tasks, options, &|| begun.elapsed(), &mut progress)?;
            finished += episodes.len();
            plans += stats.plans;
            episodes.into_iter().try_for_each(&mut *take)?;
        }
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
