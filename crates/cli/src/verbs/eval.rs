//! `nudge eval`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use nudge_control::{Policy, RolloutOptions, RolloutStats, Task, rollout};
use nudge_policy::DiffusionPolicy;
use nudge_sim::TaskConfig;

use crate::output;
use crate::verbs::alarm::Alarm;
use crate::verbs::checkpoint::{PolicyArgs, cores};
use crate::verbs::eval_folder::EvalFolder;
use crate::verbs::eval_report::{Report, Row};
use crate::verbs::eval_sweep::{Pair, Sweep};
use crate::verbs::record::{PolicySetup, Setup, reproducible};
use crate::verbs::seam::SeamChoice;
use crate::verbs::task::TaskArgs;

/// Prove a policy in simulation: score and success with 95 % intervals
///
/// The score is the mean over episodes of the largest reward reached; success is the share of episodes that ever
/// achieved the task. They are different figures. The same command gives the same figures.
///
/// The task is the one that the policy was trained for; its options make it another variant. Several delays or seams are
/// evaluated one after another and shown in one table: `--latency-steps 0,1,2,4,8 --seam all`.
#[derive(Args)]
pub struct Eval {
    #[command(flatten)]
    policy: PolicyArgs,

    /// Episodes, each from a seed of its own
    #[arg(long, default_value_t = 50)]
    episodes: usize,

    /// Seed of the first episode; the next ones count up
    #[arg(long, default_value_t = 100_000)]
    seed: u64,

    #[command(flatten)]
    options: TaskArgs,

    /// Execute every plan this many control steps after what it was made from was seen
    #[arg(long, default_value = "0", value_delimiter = ',', value_name = "STEPS")]
    latency_steps: Vec<usize>,

    /// How a new plan takes over from the present one [default: continue it, if the policy was trained for it, or switch]
    #[arg(long, value_enum, value_delimiter = ',')]
    seam: Vec<SeamArg>,

    /// Plans drawn each time, of which the one that agrees best with the last plan is executed
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    samples: u64,

    /// Episodes that run side by side; the result does not depend on it
    #[arg(long, default_value_t = 256)]
    batch: usize,

    /// Leave the results here, with the episodes, and a picture of the ten worst
    ///
    /// A new folder with results.json, episodes/ (a data set, for `nudge replay` too) and worst.png (first, middle and
    /// last frame of each). So that the episodes can be had again to the bit, the policy then sees and answers in the
    /// 32 bits of a recording: a rare episode may take another course than without.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// How a new plan takes over, or every way that the policy can
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeamArg {
    One(SeamChoice),
    All,
}

impl ValueEnum for SeamArg {
    fn value_variants<'a>() -> &'a [Self] {
        const VARIANTS: [SeamArg; 5] = [
            SeamArg::One(SeamChoice::Switch),
            SeamArg::One(SeamChoice::Ensemble),
            SeamArg::One(SeamChoice::Inpaint),
            SeamArg::One(SeamChoice::Prefix),
            SeamArg::All,
        ];
        &VARIANTS
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self {
            Self::One(choice) => choice.to_possible_value(),
            Self::All => {
                Some(clap::builder::PossibleValue::new("all").help("Each of them that the policy can"))
            }
        }
    }
}

impl Eval {
    pub fn run(self) -> Result<ExitCode> {
        if self.episodes == 0 || self.batch == 0 {
            bail!("--episodes and --batch must each be at least 1");
        }
        let policy = self.policy.load()?;
        let task = self.options.named(&policy.manifest().task, policy.interface())?;
        let seams = self.seams(&policy);
        match (self.latency_steps.as_slice(), seams.as_slice()) {
            ([latency_steps], [seam]) => {
                self.one(policy, task, Pair { latency_steps: *latency_steps, seam: *seam })
            }
            _ => self.sweep(policy, task, &seams),
        }
    }

    /// The seams asked for, each once.
    fn seams(&self, policy: &DiffusionPolicy) -> Vec<SeamChoice> {
        let trained = SeamChoice::of(policy);
        let mut seams = Vec::new();
        let mut add = |seam| {
            if !seams.contains(&seam) {
                seams.push(seam);
            }
        };
        for seam in &self.seam {
            match seam {
                SeamArg::One(seam) => add(*seam),
                SeamArg::All => SeamChoice::ALL
                    .into_iter()
                    .filter(|seam| *seam != SeamChoice::Prefix || trained == SeamChoice::Prefix)
                    .for_each(&mut add),
            }
        }
        if self.seam.is_empty() {
            seams.push(trained);
        }
        seams
    }

    fn one(&self, policy: DiffusionPolicy, task: TaskConfig, pair: Pair) -> Result<ExitCode> {
        let how = self.how(&policy);
        let demonstrations = policy.manifest().trained.episodes;
        let alarm = Alarm::beside(&self.policy.checkpoint)?.filter(|alarm| {
            alarm.fits(&how, pair.seam, self.samples) && alarm.latency_steps == pair.latency_steps
        });
        let policy = pair.seam.prepare(policy)?;
        let mut folder = match &self.out {
            Some(out) => Some(EvalFolder::create(out, &Setup { task, policy: Some(how.clone()) })?),
            None => None,
        };
        let mut policy: Box<dyn Policy> = match &folder {
            Some(_) => Box::new(reproducible(policy)),
            None => Box::new(policy),
        };
        let bar = output::progress(self.episodes as u64, "episodes");
        let done = self.roll_out(policy.as_mut(), task, pair, &bar, &mut folder)?;
        bar.finish_and_clear();
        let mut report =
            Report::new(task, self.policy.checkpoint.display().to_string(), how, pair, self.samples, done);
        report.demonstrations = demonstrations;
        report.alarms = alarm.map(|alarm| alarm.raised(&report.per_episode));
        if let Some(folder) = folder {
            folder.finish(&report)?;
        }
        if self.json {
            output::print_json(&report)?;
        } else {
            report.print();
            if let Some(out) = &self.out {
                output::say!(
                    "look at {}; `nudge replay {}` shows the episodes",
                    out.join("worst.png").display(),
                    out.join("episodes").display()
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn sweep(&self, policy: DiffusionPolicy, task: TaskConfig, seams: &[SeamChoice]) -> Result<ExitCode> {
        if self.out.is_some() {
            bail!("--out takes the episodes of one delay and one seam: leave it out, or choose one of each");
        }
        let how = self.how(&policy);
        let mut sweep =
            Sweep::new(task, self.policy.checkpoint.display().to_string(), how, self.seed, self.samples);
        let pairs: Vec<Pair> = self
            .latency_steps
            .iter()
            .flat_map(|latency_steps| {
                seams.iter().map(|seam| Pair { latency_steps: *latency_steps, seam: *seam })
            })
            .collect();
        let bar = output::progress((self.episodes * pairs.len()) as u64, "episodes");
        let mut policy = Some(policy);
        for (index, pair) in pairs.into_iter().enumerate() {
            bar.set_position((index * self.episodes) as u64);
            bar.set_message(format!("{} with a delay of {}", pair.seam.name(), pair.latency_steps));
            if sweep.again(pair) {
                continue;
            }
            let loaded = policy.take().map_or_else(|| self.policy.load(), Ok)?;
            let mut prepared = pair.seam.prepare(loaded)?;
            sweep.push(pair, self.roll_out(&mut prepared, task, pair, &bar, &mut None)?);
            policy = Some(prepared);
        }
        bar.finish_and_clear();
        if self.json {
            output::print_json(&sweep)?;
        } else {
            sweep.print();
        }
        Ok(ExitCode::SUCCESS)
    }

    fn how(&self, policy: &DiffusionPolicy) -> PolicySetup {
        PolicySetup {
            checkpoint: self.policy.name(),
            sampler: policy.manifest().policy.sampler,
            executed: policy.horizon().executed,
        }
    }

    fn roll_out(
        &self,
        policy: &mut dyn Policy,
        task: TaskConfig,
        pair: Pair,
        bar: &ProgressBar,
        folder: &mut Option<EvalFolder>,
    ) -> Result<Done> {
        let options = RolloutOptions {
            latency_steps: pair.latency_steps,
            threads: cores(),
            seam: pair.seam.seam(),
            samples: usize::try_from(self.samples)?,
        };
        let begun = Instant::now();
        let before = bar.position();
        let (mut rows, mut stats) = (Vec::with_capacity(self.episodes), RolloutStats::default());
        let seeds: Vec<u64> = (self.seed..).take(self.episodes).collect();
        for seeds in seeds.chunks(self.batch) {
            let mut tasks: Vec<(Box<dyn Task>, u64)> =
                seeds.iter().map(|seed| (task.build(), *seed)).collect();
            let finished = before + rows.len() as u64;
            let mut progress = |done: usize| bar.set_position(finished + done as u64);
            let (batch, part) = rollout(policy, &mut tasks, options, &|| begun.elapsed(), &mut progress)
                .with_context(|| format!("evaluating {}", self.policy.checkpoint.display()))?;
            rows.extend(batch.iter().zip(&part.confidence).map(|(episode, sure)| Row::of(episode, *sure)));
            stats.add(part);
            if let Some(folder) = folder {
                folder.keep(batch)?;
            }
        }
        Ok(Done { rows, stats, wall: begun.elapsed() })
    }
}

/// Episodes that were run.
pub struct Done {
    pub rows: Vec<Row>,
    pub stats: RolloutStats,
    pub wall: Duration,
}
