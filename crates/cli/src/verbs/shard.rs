//! Which part of a recording this program is to make, when many programs make it together.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::ops::Range;
use std::str::FromStr;

/// The choice of a part.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct ShardArgs {
    /// Record part I of N (I from 0) into a folder of its own in --out
    ///
    /// `nudge dataset merge` makes one set of all parts: the very set that one program would have recorded. In a SLURM
    /// job array, and in a Kubernetes indexed Job with --shards, the part is chosen by itself.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,

    /// The number of parts, where only the part's own number is in the environment
    ///
    /// Needed for Kubernetes (the Job's spec.completions). In a SLURM job array, the array's own numbers are then the
    /// parts, so that a few of them can be run again: --array=3,5 with --shards 8.
    #[arg(long, value_name = "N", conflicts_with = "shard", value_parser = clap::value_parser!(u64).range(1..))]
    shards: Option<u64>,
}

/// Part `index`, from 0, of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: u64,
    pub count: u64,
}

impl ShardArgs {
    /// The part to record; `None` for the whole. `variable` reads the environment.
    ///
    /// # Errors
    /// When the environment names a part that there is not, or says too little.
    pub fn resolve(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Shard>> {
        if self.shard.is_some() {
            return Ok(self.shard);
        }
        let number = |name: &str| -> Result<Option<u64>> {
            let Some(text) = variable(name) else { return Ok(None) };
            let number =
                text.parse().with_context(|| format!("{name} is `{text}`, which is not a number"))?;
            Ok(Some(number))
        };
        const SLURM: &str = "SLURM_ARRAY_TASK_ID";
        const KUBERNETES: &str = "JOB_COMPLETION_INDEX";
        let (index, count, name) = if let Some(id) = number(SLURM)? {
            match (self.shards, number("SLURM_ARRAY_TASK_COUNT")?) {
                (Some(count), _) => (id, count, SLURM),
                (None, Some(count)) => {
                    let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
                    let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
                    (id.saturating_sub(first) / step, count, SLURM)
                }
                (None, None) => {
                    bail!(
                        "{SLURM} is {id}, but SLURM_ARRAY_TASK_COUNT is not set: give --shards N or --shard I/N"
                    )
                }
            }
        } else if let Some(index) = number(KUBERNETES)? {
            let Some(count) = self.shards else {
                bail!(
                    "{KUBERNETES} is {index}, but Kubernetes does not say of how many: give --shards N, the Job's \
                     spec.completions, or --shard I/N"
                );
            };
            (index, count, KUBERNETES)
        } else if let Some(count) = self.shards {
            bail!(
                "--shards {count} says how many parts there are, but neither {SLURM} nor {KUBERNETES} is set to say \
                 which this is: give --shard I/{count} instead"
            );
        } else {
            return Ok(None);
        };
        if index >= count {
            bail!(
                "{name} chooses part {index}, but there are {count}, numbered from 0: number the array from 0 without \
                 gaps, or give --shard I/N"
            );
        }
        Ok(Some(Shard { index, count }))
    }
}

impl Shard {
    /// This part's share of `0..episodes`: parts follow one another, and differ by one at most.
    pub fn episodes(self, episodes: u64) -> Range<u64> {
        let at = |part: u64| (u128::from(episodes) * u128::from(part) / u128::from(self.count)) as u64;
        at(self.index)..at(self.index + 1)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            Some((index, count)) => Err(format!("there is no part {index} of {count}: they count from 0")),
            None => Err("parts are named I/N, for example 3/8".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(shards: Option<u64>, variables: &[(&str, &str)]) -> Result<Option<Shard>, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        ShardArgs { shard: None, shards }.resolve(&variable).map_err(|error| error.to_string())
    }

    #[test]
    fn parts_cover_every_episode_once() {
        for (episodes, count) in [(16, 8), (10, 3), (2, 5), (u64::MAX, 7)] {
            let mut next = 0;
            for index in 0..count {
                let part = Shard { index, count }.episodes(episodes);
                assert_eq!(part.start, next);
                assert!(part.end - part.start <= episodes / count + 1);
                next = part.end;
            }
            assert_eq!(next, episodes);
        }
    }

    #[test]
    fn the_environment_chooses_the_part() {
        let slurm = [("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_COUNT", "8")];
        assert_eq!(resolve(None, &slurm), Ok(Some(Shard { index: 7, count: 8 })));
        let from_one = [&slurm[..], &[("SLURM_ARRAY_TASK_MIN", "1")]].concat();
        assert_eq!(resolve(None, &from_one), Ok(Some(Shard { index: 6, count: 8 })));
        assert_eq!(resolve(Some(9), &slurm), Ok(Some(Shard { index: 7, count: 9 })));
        let kubernetes = [("JOB_COMPLETION_INDEX", "2")];
        assert_eq!(resolve(Some(4), &kubernetes), Ok(Some(Shard { index: 2, count: 4 })));
        assert_eq!(resolve(None, &[]), Ok(None));
    }

    #[test]
    fn what_the_environment_leaves_open_is_asked_for() {
        let asked = |shards, variables: &[(&str, &str)], word: &str| {
            let error = resolve(shards, variables).unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        asked(None, &[("JOB_COMPLETION_INDEX", "2")], "spec.completions");
        asked(Some(2), &[("JOB_COMPLETION_INDEX", "2")], "there are 2");
        asked(None, &[("SLURM_ARRAY_TASK_ID", "2")], "SLURM_ARRAY_TASK_COUNT");
        asked(None, &[("SLURM_ARRAY_TASK_ID", "x")], "not a number");
        asked(Some(4), &[], "--shard I/4");
        assert!("8/8".parse::<Shard>().is_err() && "3".parse::<Shard>().is_err());
        assert_eq!("3/8".parse(), Ok(Shard { index: 3, count: 8 }));
    }
}
