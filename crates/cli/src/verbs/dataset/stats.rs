//! `nudge dataset stats`: the statistics of every number of a data set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use comfy_table::{Cell, CellAlignment};
use nudge_dataset::{
    Dataset, Disagreement, FeatureStats, FeatureSummary, disagreements, summarise, write_stats,
};
use serde::Serialize;

use super::sketch;
use crate::output::{self, say};

/// Disagreements that are shown one by one.
const LINES: usize = 12;

/// Compute the statistics of every number, and compare them with those that the set states
///
/// Reads all frames. The standard deviation is that of the population; quantiles are interpolated linearly. Quantiles are not
/// compared, since LeRobot estimates them.
#[derive(Args)]
pub struct Stats {
    /// The data set: a LeRobot folder, a zarr folder, or an HDF5 file
    #[arg(value_name = "SET")]
    set: PathBuf,

    /// Put the computed statistics into meta/stats.json
    #[arg(long)]
    write: bool,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    features: &'a [FeatureSummary],
    /// `None` when the set states no statistics.
    disagreements: Option<&'a [Disagreement]>,
    written: bool,
}

impl Stats {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let set = Dataset::open(&self.set)?;
        let bar = output::progress(100, "% of the features");
        let all: Vec<usize> = (0..set.episode_count()).collect();
        let mut progress = |share: f64| bar.set_position((100.0 * share) as u64);
        let computed = summarise(&set, &all, sketch::BINS, &mut progress)?;
        bar.finish_and_clear();
        let stated: Option<BTreeMap<String, FeatureStats>> = set.stats().ok();
        let found = stated.map(|stated| disagreements(&stated, &computed));
        if self.write {
            write_stats(&set, &computed)?;
        }
        if self.json {
            output::print_json(&Report {
                features: &computed,
                disagreements: found.as_deref(),
                written: self.write,
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        print(&set, &computed);
        match found.as_deref() {
            None => say!("the set states no statistics"),
            Some([]) => say!("the set states the same"),
            Some(found) => {
                say!("{} stated statistics are not those of the frames:", found.len());
                found.iter().take(LINES).for_each(|found| say!("  {}", told(found)));
                if found.len() > LINES {
                    say!("  and {} more (--json lists all)", found.len() - LINES);
                }
            }
        }
        if self.write {
            say!("meta/stats.json now holds what was computed");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn told(Disagreement { feature, number, statistic, stated, computed }: &Disagreement) -> String {
    let number = number.map_or_else(String::new, |number| format!("[{number}]"));
    let stated = stated.map_or_else(|| "not stated".into(), rounded);
    format!("{feature}{number} {statistic}: {stated}, computed {}", rounded(*computed))
}

fn print(set: &Dataset, computed: &[FeatureSummary]) {
    let mut table =
        output::table(["number", "min", "q01", "q50", "q99", "max", "mean", "std", "from min to max"]);
    for FeatureSummary { feature, stats, histograms, .. } in computed {
        let names = set.info().features.iter().find(|known| known.name == *feature).map(|known| &known.names);
        for number in 0..stats.min.len() {
            let name =
                names.and_then(|names| names.get(number)).map_or_else(String::new, |n| format!(" {n}"));
            let place = if stats.min.len() > 1 { format!("[{number}]{name}") } else { String::new() };
            let mut row = vec![Cell::new(format!("{feature}{place}"))];
            let lists = [&stats.min, &stats.q01, &stats.q50, &stats.q99, &stats.max, &stats.mean, &stats.std];
            row.extend(
                lists.map(|list| Cell::new(rounded(list[number])).set_alignment(CellAlignment::Right)),
            );
            row.push(Cell::new(sketch::line(&histograms[number], stats.min[number] == stats.max[number])));
            table.add_row(row);
        }
    }
    say!("{table}");
}

/// Six digits that matter.
pub fn rounded(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let digits = 5 - value.abs().log10().floor() as i32;
    if !(-9..=12).contains(&digits) {
        return format!("{value:.3e}");
    }
    let scale = 10f64.powi(digits.max(0));
    format!("{}", (value * scale).round() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_digits_matter() {
        for (value, expected) in [
            (0.0, "0"),
            (512.123_456_7, "512.123"),
            (-0.001_234_567_8, "-0.00123457"),
            (25_650.0, "25650"),
            (1.0 / 3.0, "0.333333"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(rounded(value), expected);
        }
    }
}
