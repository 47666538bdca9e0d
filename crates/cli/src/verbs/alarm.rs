//! The alarm of a checkpoint: above which figures its confidence is out of the ordinary.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nudge_control::{Interval, Thresholds, wilson_interval};
use nudge_policy::SamplerConfig;
use nudge_sim::TaskConfig;
use serde::{Deserialize, Serialize};

use crate::verbs::eval_report::Row;
use crate::verbs::record::PolicySetup;
use crate::verbs::seam::SeamChoice;

/// The file beside the checkpoint's own; their checksums do not cover it.
const FILE: &str = "alarm.json";
const SUMS: &str = "SHA256SUMS";
const WEIGHTS: &str = "weights.safetensors";

/// What `nudge calibrate` writes, and `nudge serve` and `nudge eval` read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    pub thresholds: Thresholds,
    /// A further successful episode raises an alarm with a probability of at most this.
    pub alpha: f64,
    /// Episodes that were run.
    pub episodes: usize,
    /// Those of them that succeeded, of which the thresholds are made.
    pub successes: usize,
    /// Of the first episode; the next ones counted up.
    pub seed: u64,
    pub task: TaskConfig,
    /// Of the policy that was calibrated, as in the checkpoint's own list of checksums.
    pub weights_sha256: String,
    pub sampler: SamplerConfig,
    pub executed: usize,
    pub samples: u64,
    pub seam: SeamChoice,
    pub latency_steps: usize,
}

impl Alarm {
    /// The alarm of a checkpoint folder, if it has one.
    ///
    /// # Errors
    /// When it cannot be read, or is another policy's.
    pub fn beside(checkpoint: &Path) -> Result<Option<Self>> {
        let path = checkpoint.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let alarm: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not what `nudge calibrate` writes", path.display()))?;
        if alarm.weights_sha256 != weights_sha256(checkpoint)? {
            bail!("{} was calibrated for other weights: calibrate again, or remove it", path.display());
        }
        Ok(Some(alarm))
    }

    /// Writes it beside the checkpoint's files, in place of one that is there.
    pub fn write(&self, checkpoint: &Path) -> Result<PathBuf> {
        let path = checkpoint.join(FILE);
        let text = serde_json::to_string_pretty(self)? + "\n";
        let new = path.with_extension("json.new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Whether it was calibrated for plans that are made and taken over in this way. The delay is not looked at.
    pub fn fits(&self, how: &PolicySetup, seam: SeamChoice, samples: u64) -> bool {
        (self.sampler, self.executed, self.seam, self.samples) == (how.sampler, how.executed, seam, samples)
    }

    /// In how many episodes it would have been raised.
    pub fn raised(&self, episodes: &[Row]) -> Raised {
        let share = |success: bool| {
            let of = || episodes.iter().filter(|row| row.success == success);
            let alarmed = of().filter(|row| self.thresholds.exceeded_by(&row.largest)).count();
            Share { alarmed, of: of().count(), share_ci: wilson_interval(alarmed, of().count()) }
        };
        Raised { successes: share(true), failures: share(false) }
    }
}

/// Episodes in which an alarm was raised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Raised {
    /// False alarms.
    pub successes: Share,
    pub failures: Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    pub alarmed: usize,
    pub of: usize,
    pub share_ci: Interval,
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} {}", self.alarmed, self.of, self.share_ci)
    }
}

/// The checksum of a checkpoint's weights, from its list, which loading has held against the file.
///
/// # Errors
/// When the folder is no checkpoint.
pub fn weights_sha256(checkpoint: &Path) -> Result<String> {
    let path = checkpoint.join(SUMS);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("reading {}; give the checkpoint's own folder, not that of a training", path.display())
    })?;
    let sum = text.lines().find_map(|line| line.strip_suffix(WEIGHTS));
    Ok(sum.with_context(|| format!("{} has no checksum of {WEIGHTS}", path.display()))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use nudge_control::Confidence;

    use super::*;

    #[test]
    fn an_alarm_is_that_of_its_weights_and_says_in_which_episodes_it_was_raised() {
        let folder = tempfile::tempdir().unwrap();
        let sums =
            |sum: &str| fs::write(folder.path().join(SUMS), format!("{sum}  {WEIGHTS}\nff  x\n")).unwrap();
        assert!(Alarm::beside(folder.path()).unwrap().is_none());
        sums("0a1b");
        let alarm = Alarm {
            thresholds: Thresholds { spread: None, inconsistency: Some(0.5) },
            alpha: 0.05,
            episodes: 200,
            successes: 68,
            seed: 300_000,
            task: serde_json::from_str(r#"{"name": "push_t"}"#).unwrap(),
            weights_sha256: weights_sha256(folder.path()).unwrap(),
            sampler: SamplerConfig::ddim(10),
            executed: 8,
            samples: 1,
            seam: SeamChoice::Switch,
            latency_steps: 0,
        };
        alarm.write(folder.path()).unwrap();
        assert_eq!(Alarm::beside(folder.path()).unwrap(), Some(alarm.clone()));
        let row = |success: bool, inconsistency: f64| Row {
            seed: 0,
            score: 0.0,
            success,
            steps: 1,
            largest: Confidence { spread: None, inconsistency: Some(inconsistency) },
        };
        let raised = alarm.raised(&[row(true, 0.4), row(true, 0.6), row(false, 0.7), row(true, 0.5)]);
        assert_eq!((raised.successes.alarmed, raised.successes.of), (1, 3));
        assert_eq!((raised.failures.alarmed, raised.failures.of), (1, 1));
        sums("ffff");
        assert!(Alarm::beside(folder.path()).unwrap_err().to_string().contains("other weights"));
    }
}
