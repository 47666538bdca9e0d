//! `nudge calibrate`

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, value_parser};
use nudge_control::{Confidence, Policy as _, RolloutOptions, Task, Thresholds, rollout};

use crate::output::{self, say};
use crate::verbs::alarm::{Alarm, weights_sha256};
use crate::verbs::checkpoint::{PolicyArgs, cores};
use crate::verbs::seam::SeamChoice;
use crate::verbs::task::TaskArgs;

/// Episodes that run side by side.
const SIDE_BY_SIDE: usize = 256;

/// Find out how sure a policy seems when all is well, so that `nudge serve` raises an alarm when it is not
///
/// Runs episodes in simulation and looks at those that succeed: how far successive plans disagree, and with --samples how
/// far several plans for one moment lie apart. The thresholds are such that a further successful episode raises an alarm with
/// a probability of at most --alpha, whatever the policy (split conformal prediction). They are written into alarm.json
/// beside the checkpoint's files, for plans that are made with the same options. `nudge eval` then tells in how many
/// episodes an alarm is raised.
#[derive(Args)]
pub struct Calibrate {
    #[command(flatten)]
    policy: PolicyArgs,

    /// Episodes to run, each from a seed of its own; those that succeed count
    #[arg(long, default_value_t = 200)]
    episodes: usize,

    /// Seed of the first episode; the next ones count up
    #[arg(long, default_value_t = 300_000)]
    seed: u64,

    /// The share of successful episodes that may raise a false alarm
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,

    #[command(flatten)]
    options: TaskArgs,

    /// The delay of plans that is to be expected on the robot, in control steps
    #[arg(long, default_value_t = 0, value_name = "STEPS")]
    latency_steps: usize,

    /// How a new plan takes over from the present one [default: continue it, if the policy was trained for it, or switch]
    #[arg(long, value_enum)]
    seam: Option<SeamChoice>,

    /// Plans drawn each time, of which the one that agrees best with the last plan is executed
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = value_parser!(u64).range(1..=64))]
    samples: u64,

    /// Print one JSON object instead of a sentence
    #[arg(long)]
    json: bool,
}

impl Calibrate {
    pub fn run(self) -> Result<ExitCode> {
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            bail!("--alpha is {}, and must lie between 0 and 1", self.alpha);
        }
        let checkpoint = &self.policy.checkpoint;
        let policy = self.policy.load()?;
        let weights_sha256 = weights_sha256(checkpoint)?;
        let manifest = policy.manifest();
        let task = self.options.named(&manifest.task, policy.interface())?;
        let (sampler, executed) = (manifest.policy.sampler, policy.horizon().executed);
        let seam = self.seam.unwrap_or_else(|| SeamChoice::of(&policy));
        let mut policy = seam.prepare(policy)?;
        let options = RolloutOptions {
            latency_steps: self.latency_steps,
            threads: cores(),
            seam: seam.seam(),
            samples: usize::try_from(self.samples)?,
        };

        let bar = output::progress(self.episodes as u64, "episodes");
        let begun = Instant::now();
        let mut finished = 0;
        let mut largest: Vec<Confidence> = Vec::new();
        let seeds: Vec<u64> = (self.seed..).take(self.episodes).collect();
        for seeds in seeds.chunks(SIDE_BY_SIDE) {
            let mut tasks: Vec<(Box<dyn Task>, u64)> =
                seeds.iter().map(|seed| (task.build(), *seed)).collect();
            let mut progress = |done: usize| bar.set_position((finished + done) as u64);
            let (episodes, stats) =
                rollout(&mut policy, &mut tasks, options, &|| begun.elapsed(), &mut progress)
                    .with_context(|| format!("calibrating {}", checkpoint.display()))?;
            finished += episodes.len();
            let judged = episodes.iter().zip(stats.confidence);
            largest.extend(judged.filter(|(episode, _)| episode.success()).map(|(_, confidence)| confidence));
        }
        bar.finish_and_clear();

        let thresholds = Thresholds::calibrate(&largest, self.alpha).map_err(|needed| {
            anyhow!(
                "{} of {} episodes succeeded, and a threshold for --alpha {} takes {needed}: run more episodes",
                largest.len(),
                self.episodes,
                self.alpha
            )
        })?;
        let alarm = Alarm {
            thresholds,
            alpha: self.alpha,
            episodes: self.episodes,
            successes: largest.len(),
            seed: self.seed,
            task,
            weights_sha256,
            sampler,
            executed,
            samples: self.samples,
            seam,
            latency_steps: self.latency_steps,
        };
        let path = alarm.write(checkpoint)?;
        if self.json {
            output::print_json(&alarm)?;
        } else {
            let told = |name: &str, threshold: Option<f64>| {
                threshold.map(|value| format!("{name} above {value:.4}"))
            };
            let figures =
                [told("an inconsistency", thresholds.inconsistency), told("a spread", thresholds.spread)];
            let figures: Vec<String> = figures.into_iter().flatten().collect();
            say!(
                "{} of {} episodes succeeded; {} is an alarm, false in at most {} of successful episodes; written to {}",
                alarm.successes,
                alarm.episodes,
                figures.join(" or "),
                alarm.alpha,
                path.display()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
