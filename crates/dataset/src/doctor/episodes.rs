//! Episodes beside the others: length, reach, units, marks of the end.

use super::case::Case;
use super::finding::{Fault, Finding, Severity};
use super::layout::Series;
use super::reference::Reference;
use super::robust::{FEWEST, OUTLIER, deviations, median, outliers};
use super::summary::{Measured, Summary};

/// Robust deviations from which an episode is unlike the others: among 1,000 from a normal distribution one
/// is beyond 6 once in 500,000 sets.
const FAR: f64 = 6.0;

/// An episode that is done before its last frame.
pub(super) fn done_early(case: &Case, series: &Series, found: &mut Vec<Finding>) {
    let Some(done) = &series.done else { return };
    let marked: Vec<usize> = (0..done.len()).filter(|frame| done[*frame] != 0.0).collect();
    // Marks that stay until the end say that the task is done and was left running.
    let (Some(first), Some(last)) = (marked.first(), marked.last()) else { return };
    let stays = marked.len() == done.len() - first;
    if stays || *last + 1 == *first {
        return;
    }
    let what = format!(
        "episode {} is marked as done at frame {first} of {}, and goes on without the mark",
        series.episode, series.frames
    );
    let effect = "either two episodes are in one, or what comes after the end is taught as part of the task";
    found.push(
        Finding::new(Fault::DoneEarly, Severity::Warning, what, effect)
            .at(series.episode, Some(*first))
            .count(marked.len())
            .mend(case.drop_episode(series.episode)),
    );
}

pub(super) fn judge(case: &Case, reference: &Reference, summaries: &[Summary], found: &mut Vec<Finding>) {
    short(case, summaries, found);
    if summaries.len() < FEWEST {
        let what = format!(
            "the set has {} episodes; what is unusual in one is told from {FEWEST} on",
            summaries.len()
        );
        let effect = "outliers, shifts and wrong units of single episodes were not looked for";
        found.push(Finding::new(Fault::FewEpisodes, Severity::Note, what, effect).count(summaries.len()));
        return;
    }
    let strange = units(case, summaries, found);
    lengths(case, summaries, found);
    activity(case, reference, summaries, &strange, found);
    reach(case, reference, summaries, &strange, found);
}

fn short(case: &Case, summaries: &[Summary], found: &mut Vec<Finding>) {
    for summary in summaries.iter().filter(|summary| summary.frames < case.window) {
        let what = format!(
            "episode {} has {} frames, fewer than a training window of {}",
            summary.episode, summary.frames, case.window
        );
        let effect =
            "its windows are made up of repetitions of its first and last frame: the policy learns to stop";
        found.push(
            Finding::new(Fault::ShortEpisode, Severity::Warning, what, effect)
                .at(summary.episode, None)
                .count(summary.frames)
                .mend(case.filter(&format!("--min-frames {}", case.window))),
        );
    }
}

fn lengths(case: &Case, summaries: &[Summary], found: &mut Vec<Finding>) {
    let logs: Vec<f64> = summaries.iter().map(|summary| (summary.frames.max(1) as f64).ln()).collect();
    // Scripted episodes are of nearly one length; a quarter more or less (6 x 0.05) is still no outlier.
    let usual = median(logs.clone()).exp();
    for (summary, far) in summaries.iter().zip(deviations(&logs, 0.05)) {
        if far.abs() < FAR {
            continue;
        }
        let what = format!(
            "episode {} is {} frames long, {:.1} times the usual {usual:.0}",
            summary.episode,
            summary.frames,
            summary.frames as f64 / usual
        );
        let effect = if far > 0.0 {
            "long episodes have more windows and so more weight; often something went wrong in them"
        } else {
            "often a recording that was broken off: the task is not done in it"
        };
        found.push(
            Finding::new(Fault::OutlierEpisode, Severity::Warning, what, effect)
                .at(summary.episode, None)
                .count(summary.frames)
                .mend(case.drop_episode(summary.episode)),
        );
    }
}

/// Episodes in which everything moves much more or much less than usual.
fn activity(
    case: &Case,
    reference: &Reference,
    summaries: &[Summary],
    strange: &[usize],
    found: &mut Vec<Finding>,
) {
    for feature in &case.layout.features {
        let of = |summary: &Summary| {
            let signals = feature.signals.clone().filter(|signal| reference.scales[*signal].span() > 0.0);
            let paths = signals
                .map(|signal| summary.signals[signal].path / f64::from(reference.scales[signal].span()));
            // A thousandth of the range a frame is rest.
            (paths.sum::<f64>() / summary.frames.max(1) as f64 + 1e-3).ln()
        };
        let logs: Vec<f64> = summaries.iter().map(of).collect();
        for (at, far) in deviations(&logs, 0.1).into_iter().enumerate() {
            let episode = summaries[at].episode;
            if far < FAR || strange.contains(&episode) {
                continue;
            }
            let what = format!(
                "`{}` moves {:.1} times as far in a frame of episode {episode} as it usually does",
                feature.name,
                (logs[at] - median(logs.clone())).exp()
            );
            let effect =
                "the episode was recorded otherwise than the rest: another rate, another speed, noise";
            found.push(
                Finding::new(Fault::OutlierEpisode, Severity::Warning, what, effect)
                    .of(&feature.name, None)
                    .at(episode, None)
                    .mend(case.drop_episode(episode)),
            );
        }
    }
}

/// Episodes that reach far beyond the usual range.
fn reach(
    case: &Case,
    reference: &Reference,
    summaries: &[Summary],
    strange: &[usize],
    found: &mut Vec<Finding>,
) {
    for feature in &case.layout.features {
        let mut worst: Vec<Option<(f64, usize)>> = vec![None; summaries.len()];
        for signal in feature.signals.clone().filter(|signal| reference.scales[*signal].span() > 0.0) {
            let span = reference.scales[signal].span();
            let values: Vec<f64> =
                summaries.iter().map(|s| f64::from(s.signals[signal].beyond.value / span)).collect();
            // Twice the whole range beyond its end: squeezed to a third by it, the rest is hard to tell
            // apart.
            for at in outliers(&values, 2.0, OUTLIER) {
                if worst[at].is_none_or(|(known, _)| values[at] > known) {
                    worst[at] = Some((values[at], signal));
                }
            }
        }
        for (summary, worst) in summaries.iter().zip(worst) {
            let Some((spans, signal)) = worst.filter(|_| !strange.contains(&summary.episode)) else {
                continue;
            };
            let Measured { beyond, .. } = summary.signals[signal];
            let scale = &reference.scales[signal];
            let what = format!(
                "{} is {spans:.1} times its usual range ({} to {}) beyond it in episode {}, most at frame {}",
                case.number(signal),
                scale.low,
                scale.high,
                summary.episode,
                beyond.frame
            );
            let effect = "min-max normalisation squeezes all other episodes into what is left of the range";
            found.push(
                Finding::new(Fault::OutlierEpisode, Severity::Warning, what, effect)
                    .of(&feature.name, Some(signal - feature.signals.start))
                    .at(summary.episode, Some(beyond.frame as usize))
                    .mend(case.drop_episode(summary.episode)),
            );
        }
    }
}

/// Episodes in which a feature is larger or smaller throughout by what units differ by. Answers which.
fn units(case: &Case, summaries: &[Summary], found: &mut Vec<Finding>) -> Vec<usize> {
    // Between degrees and radians lie 57, between centimetres or millimetres and metres 100 and 1,000;
    // episodes of one set that are of one unit seldom differ by 20 in their size, and not in all numbers at
    // once.
    const RATIO: f64 = 20.0;
    let mut strange = Vec::new();
    for feature in &case.layout.features {
        let sizes: [fn(&Measured) -> f64; 2] =
            [|m| (m.mean * m.mean + m.variance).sqrt(), |m| f64::from(m.least.abs().max(m.greatest.abs()))];
        // By signal and size: the usual one.
        let usual: Vec<[f64; 2]> = feature
            .signals
            .clone()
            .map(|signal| {
                sizes.map(|size| median(summaries.iter().map(|s| size(&s.signals[signal])).collect()))
            })
            .collect();
        for summary in summaries {
            let mut ratios = Vec::new();
            let mut odd = 0;
            for (usual, signal) in usual.iter().zip(feature.signals.clone()) {
                let [rms, most] = [0, 1].map(|at| sizes[at](&summary.signals[signal]) / usual[at]);
                if usual[0] > 0.0 && rms > 0.0 {
                    ratios.push(rms);
                    let larger = rms.min(most) >= RATIO;
                    let smaller = rms.max(most) <= 1.0 / RATIO;
                    odd += usize::from(larger || smaller);
                }
            }
            if ratios.is_empty() || 5 * odd < 4 * ratios.len() {
                continue;
            }
            let ratio = median(ratios);
            let (ratio, than) = if ratio > 1.0 { (ratio, "larger") } else { (1.0 / ratio, "smaller") };
            let what = format!(
                "`{}` is about {ratio:.0} times {than} in episode {} than in the others (57 lies between \
                 degrees and radians, 100 and 1000 between centimetres, millimetres and metres)",
                feature.name, summary.episode
            );
            let effect =
                "one unit is learnt as another, and the normaliser is stretched until the rest is a dot";
            strange.push(summary.episode);
            found.push(
                Finding::new(Fault::UnitEpisode, Severity::Error, what, effect)
                    .of(&feature.name, None)
                    .at(summary.episode, None)
                    .mend(case.drop_episode(summary.episode)),
            );
        }
    }
    strange
}
