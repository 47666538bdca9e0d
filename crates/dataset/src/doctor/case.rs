//! The set under examination, and the commands that mend it.

use super::layout::Layout;
use crate::DatasetInfo;

/// What every check knows of the set.
pub(super) struct Case<'a> {
    /// As the user named it, ready for a shell.
    pub(super) set: &'a str,
    pub(super) info: &'a DatasetInfo,
    pub(super) layout: &'a Layout,
    /// Frames per second, where the set states it.
    pub(super) fps: Option<f64>,
    /// `Tp`: frames of a training window.
    pub(super) window: usize,
}

/// Frames per second where a set states none: only how long a second is depends on it, nothing that is
/// trained.
const USUAL_HZ: f64 = 10.0;

impl Case<'_> {
    pub(super) fn hz(&self) -> f64 {
        self.fps.unwrap_or(USUAL_HZ)
    }

    /// A copy of the set without an episode.
    pub(super) fn drop_episode(&self, episode: usize) -> String {
        self.filter(&format!("--drop {episode}"))
    }

    pub(super) fn filter(&self, options: &str) -> String {
        command("filter", self.set, options)
    }

    pub(super) fn convert(&self, options: &str) -> String {
        command("convert", self.set, options)
    }

    /// How messages call a number of a feature: its place, and its name where the set gives one.
    pub(super) fn number(&self, signal: usize) -> String {
        let (feature, number) = self.layout.place(signal);
        if feature.signals.len() == 1 {
            return format!("`{}`", feature.name);
        }
        let named = self.info.features.iter().find(|info| info.name == feature.name);
        match named.and_then(|info| info.names.get(number)) {
            Some(name) => format!("number {number} ({name}) of `{}`", feature.name),
            None => format!("number {number} of `{}`", feature.name),
        }
    }

    /// `FEATURE:NUMBER`, as the edits take it.
    pub(super) fn edit_target(&self, signal: usize) -> String {
        let (feature, number) = self.layout.place(signal);
        format!("{}:{number}", feature.name)
    }
}

fn command(verb: &str, set: &str, options: &str) -> String {
    let space = if options.is_empty() { "" } else { " " };
    format!("nudge dataset {verb} {set} --out {}-mended{space}{options}", set.trim_end_matches('/'))
}

/// The command that takes what is whole of a set whose metadata and files disagree.
pub(super) fn salvage(set: &str) -> String {
    command("convert", set, "--salvage")
}

/// The command that computes the statistics anew.
pub(super) fn write_stats(set: &str) -> String {
    format!("nudge dataset stats {set} --write")
}

/// A path as a shell takes it.
pub(super) fn shell(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}
