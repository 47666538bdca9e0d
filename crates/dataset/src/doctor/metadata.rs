//! What the metadata say beside the numbers: tasks and statistics.

use super::case::{Case, write_stats};
use super::finding::{Fault, Finding, Severity};
use super::layout::Series;
use super::summary::Summary;
use crate::{Dataset, FeatureStats};

/// Frames of a task that is not listed.
pub(super) fn task_of(case: &Case, series: &Series, found: &mut Vec<Finding>) {
    let Some(task) = &series.task else { return };
    let count = case.info.tasks.len();
    let unlisted = |task: &f32| !(0.0..count.max(1) as f32).contains(task);
    let Some(frame) = task.iter().position(unlisted) else { return };
    let what = format!(
        "frame {frame} of episode {} belongs to task {}, but {count} are listed",
        series.episode, task[frame]
    );
    let effect = "nobody knows what was to be done; a policy that is told its task cannot be";
    found.push(
        Finding::new(Fault::TaskMissing, Severity::Error, what, effect)
            .of("task_index", None)
            .at(series.episode, Some(frame))
            .count(task.iter().filter(|task| unlisted(task)).count())
            .mend(case.drop_episode(series.episode)),
    );
}

/// Tasks without a text. Only LeRobot sets have a place for one.
pub(super) fn tasks(case: &Case, found: &mut Vec<Finding>) {
    if !case.info.format.is_lerobot() {
        return;
    }
    let effect = "no harm to a policy of one task; one that is told its task in words has none to learn";
    let mend = || case.convert("--task 'what is to be done'");
    if case.info.tasks.is_empty() {
        let what = "no task is written down".to_owned();
        found.push(Finding::new(Fault::TaskMissing, Severity::Warning, what, effect).mend(mend()));
    }
    for (task, _) in case.info.tasks.iter().enumerate().filter(|(_, text)| text.trim().is_empty()) {
        let what = format!("task {task} has no text");
        found.push(Finding::new(Fault::TaskMissing, Severity::Warning, what, effect).mend(mend()));
    }
}

/// Compares the statistics that the set states with those of its numbers. `skipped` features hold NaN.
pub(super) fn stats(
    case: &Case,
    dataset: &Dataset,
    summaries: &[Summary],
    skipped: &[String],
    found: &mut Vec<Finding>,
) {
    let Ok(stated) = dataset.stats() else { return };
    let frames: usize = summaries.iter().map(|summary| summary.frames).sum();
    for feature in case.layout.features.iter().filter(|feature| !skipped.contains(&feature.name)) {
        let Some(stats) = stated.get(&feature.name) else {
            if !stated.is_empty() {
                let what = format!("the set states statistics, but none of `{}`", feature.name);
                contradiction(case, &feature.name, None, what, found);
            }
            continue;
        };
        if let Some(count) = stats.count.first().filter(|count| **count as usize != frames) {
            let what =
                format!("`{}` has statistics of {count} frames, but the set has {frames}", feature.name);
            contradiction(case, &feature.name, None, what, found);
            continue;
        }
        // Tables share their statistics over all sizes but the last.
        let numbers = feature.signals.len();
        let stated = if numbers.is_multiple_of(stats.min.len()) { stats.min.len() } else { numbers };
        let wrong = (0..stated).find_map(|number| {
            let signals: Vec<usize> = feature.signals.clone().skip(number).step_by(stated).collect();
            let what = compare(stats, number, &of_signals(summaries, &signals, frames))?;
            Some((number, format!("{}: {what}", case.number(signals[0]))))
        });
        if let Some((number, what)) = wrong {
            contradiction(case, &feature.name, Some(number), what, found);
        }
    }
}

fn contradiction(case: &Case, feature: &str, number: Option<usize>, what: String, found: &mut Vec<Finding>) {
    let effect = "programs that normalise by the stated statistics (LeRobot does) train on wrong scales; \
                  Nudge computes its own";
    found.push(
        Finding::new(Fault::StatsContradict, Severity::Warning, what, effect)
            .of(feature, number)
            .mend(write_stats(case.set)),
    );
}

/// Least, greatest, mean and standard deviation of signals taken together, in the set.
fn of_signals(summaries: &[Summary], signals: &[usize], frames: usize) -> [f64; 4] {
    let each = || {
        summaries.iter().flat_map(|summary| {
            signals.iter().map(move |signal| (summary.frames as f64, &summary.signals[*signal]))
        })
    };
    let count = (frames * signals.len()).max(1) as f64;
    let mean = each().map(|(n, m)| n * m.mean).sum::<f64>() / count;
    let variance = each().map(|(n, m)| n * (m.variance + (m.mean - mean).powi(2))).sum::<f64>() / count;
    let least = each().map(|(_, m)| f64::from(m.least)).fold(f64::INFINITY, f64::min);
    let greatest = each().map(|(_, m)| f64::from(m.greatest)).fold(f64::NEG_INFINITY, f64::max);
    [least, greatest, mean, variance.sqrt()]
}

/// What is wrong with the stated figures of a number.
fn compare(stats: &FeatureStats, number: usize, [least, greatest, mean, std]: &[f64; 4]) -> Option<String> {
    let range = greatest - least;
    // Extremes are exact but for a rounding to 32 bits. Sums of 32-bit numbers, which some writers form, are
    // off by 1e-3 of a deviation in sets of a million frames; a hundredth of it is no matter to any
    // normaliser.
    let rounding = 1e-6 * least.abs().max(greatest.abs());
    let figures = [
        ("min", &stats.min, least, 1e-5 * range + rounding),
        ("max", &stats.max, greatest, 1e-5 * range + rounding),
        ("mean", &stats.mean, mean, 0.01 * std + rounding),
        ("std", &stats.std, std, 0.01 * std + rounding),
    ];
    figures.into_iter().find_map(|(name, stated, is, tolerance)| {
        let stated = stated.get(number)?;
        // NaN is as wrong as any other number.
        let right = (stated - is).abs() <= tolerance;
        (!right).then(|| format!("the set states {name} {stated}, but it is {is}"))
    })
}
