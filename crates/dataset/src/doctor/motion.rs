//! Faults of motion: spikes, leaps, freezes, standing still, disorder.

use super::case::Case;
use super::dynamics::Dynamics;
use super::finding::{Fault, Finding, Severity};
use super::layout::{Role, SignalFeature};
use super::reference::Reference;
use super::robust::{OUTLIER, outliers};
use super::summary::{Peak, Summary};

/// A spike of less than this part of a signal's usual range is not worth a word; a person's mouse or a
/// scripted expert that changes its mind makes such of up to 0.11.
const LEAST_SPIKE: f64 = 0.15;
/// A leap of less than this part of the usual range is not worth a word: normalised to -1..1 it is 0.1.
const LEAST_LEAP: f64 = 0.05;

/// What the motion of each episode says beside that of the others.
pub(super) fn judge(
    case: &Case,
    reference: &Reference,
    summaries: &[Summary],
    dynamics: &[Dynamics],
    found: &mut Vec<Finding>,
) {
    let shuffled = shuffled(case, summaries, found);
    let mut spiked = vec![Vec::new(); summaries.len()];
    for feature in &case.layout.features {
        for (at, frame) in spikes(case, reference, summaries, feature, &shuffled, found) {
            spiked[at].push(frame);
        }
        frozen(case, summaries, feature, found);
    }
    leaps(case, summaries, dynamics, &spiked, found);
    for summary in summaries {
        repeated(case, summary, found);
        idle(case, summary, found);
    }
}

/// The signal of a feature with the largest peak in spans, for each episode.
fn worst_of(
    reference: &Reference,
    summaries: &[Summary],
    signals: impl Iterator<Item = usize> + Clone,
    peak: impl Fn(&Summary, usize) -> Peak,
) -> Vec<(f64, usize, usize)> {
    let worst = |summary: &Summary| {
        let each = signals.clone().filter(|signal| reference.scales[*signal].span() > 0.0).map(|signal| {
            let Peak { value, frame } = peak(summary, signal);
            (f64::from(value / reference.scales[signal].span()), frame as usize, signal)
        });
        each.max_by(|one, two| one.0.total_cmp(&two.0)).unwrap_or((0.0, 0, 0))
    };
    summaries.iter().map(worst).collect()
}

/// A value that leaves its course for one frame. Number by number, as numbers of one feature may be of
/// different kinds. Answers where: place of the episode, and frame.
fn spikes(
    case: &Case,
    reference: &Reference,
    summaries: &[Summary],
    feature: &SignalFeature,
    shuffled: &[usize],
    found: &mut Vec<Finding>,
) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut worst: Vec<Option<(f64, usize, usize)>> = vec![None; summaries.len()];
    for signal in feature.signals.clone() {
        let peaks = worst_of(reference, summaries, signal..signal + 1, |summary, s| summary.signals[s].spike);
        let values: Vec<f64> = peaks.iter().map(|(value, ..)| *value).collect();
        for episode in outliers(&values, LEAST_SPIKE, OUTLIER) {
            let known = worst[episode].map_or(0.0, |(value, ..)| value);
            if peaks[episode].0 > known {
                worst[episode] = Some(peaks[episode]);
            }
        }
    }
    for (at, (summary, worst)) in summaries.iter().zip(worst).enumerate() {
        let Some((spans, frame, signal)) = worst.filter(|_| !shuffled.contains(&at)) else { continue };
        places.push((at, frame));
        let what = format!(
            "{} is {:.3} off its course at frame {frame} of episode {}: {:.0} % of its usual range, between \
             neighbours that agree",
            case.number(signal),
            summary.signals[signal].spike.value,
            summary.episode,
            100.0 * spans
        );
        let effect = match feature.role {
            Role::Action => "the policy learns to jerk the robot",
            Role::Observed => {
                "the network sees the robot where it was not, and the normaliser may stretch to fit it"
            }
        };
        let number = signal - feature.signals.start;
        found.push(
            Finding::new(Fault::Jerk, Severity::Warning, what, effect)
                .of(&feature.name, Some(number))
                .at(summary.episode, Some(frame))
                .mend(case.drop_episode(summary.episode)),
        );
    }
    places
}

/// States that do not follow from the ones before, and episodes cut together; but not where a spike says why.
fn leaps(
    case: &Case,
    summaries: &[Summary],
    dynamics: &[Dynamics],
    spiked: &[Vec<usize>],
    found: &mut Vec<Finding>,
) {
    // By episode: the leaping features, each with its residual, frame and signal.
    let mut leaping: Vec<Vec<(f64, usize, usize)>> = vec![Vec::new(); summaries.len()];
    for (place, feature) in case.layout.features.iter().enumerate() {
        if feature.role == Role::Action {
            continue;
        }
        let values: Vec<f64> = dynamics.iter().map(|d| f64::from(d.residuals.worst[place].value)).collect();
        for episode in outliers(&values, LEAST_LEAP, OUTLIER) {
            let Dynamics { residuals, .. } = &dynamics[episode];
            let peak = residuals.worst[place];
            // A spike is a leap there and back, and its velocity is one more.
            if spiked[episode].iter().any(|spike| (*spike..=spike + 2).contains(&(peak.frame as usize))) {
                continue;
            }
            leaping[episode].push((values[episode], peak.frame as usize, residuals.signal[place]));
        }
    }
    for (of, leaps) in leaping.into_iter().enumerate() {
        let episode = summaries[of].episode;
        let Some(&(spans, frame, signal)) = leaps.iter().max_by(|one, two| one.0.total_cmp(&two.0)) else {
            continue;
        };
        let cut = dynamics[of].cut.filter(|cut| cut.abs_diff(frame) <= 1);
        let (feature, number) = case.layout.place(signal);
        let finding = match cut {
            Some(_) => {
                let what = format!(
                    "at frame {frame} of episode {episode} state and action both jump to another place and \
                     go on from there: {} by {:.0} % of its usual range more than it can",
                    case.number(signal),
                    100.0 * spans
                );
                let effect =
                    "two recordings are in one episode; windows across the cut show a motion that was not";
                Finding::new(Fault::CutTogether, Severity::Warning, what, effect)
            }
            None => {
                let what = format!(
                    "{} is {:.0} % of its usual range away from where the state before and the action lead, \
                     at frame {frame} of episode {episode}",
                    case.number(signal),
                    100.0 * spans
                );
                let effect = "the robot was not there, or frames are missing: the policy learns a motion \
                              that is impossible";
                Finding::new(Fault::UnreachableState, Severity::Warning, what, effect)
            }
        };
        found.push(
            finding
                .of(&feature.name, Some(number))
                .at(episode, Some(frame))
                .count(leaps.len())
                .mend(case.drop_episode(episode)),
        );
    }
}

/// Episodes with a stretch whose frames are in random order. Answers their places.
fn shuffled(case: &Case, summaries: &[Summary], found: &mut Vec<Finding>) -> Vec<usize> {
    let values: Vec<f64> = summaries.iter().map(|summary| f64::from(summary.disorder.value)).collect();
    // Von Neumann's ratio of 16 values in random order is 1 with a deviation of 0.24, its lower quartile
    // 0.84; twice what nine of ten other episodes reach is more than a turn on the spot.
    let disordered = outliers(&values, 0.5, 2.0);
    for at in &disordered {
        let Summary { episode, disorder, .. } = &summaries[*at];
        let what = format!(
            "from frame {} of episode {episode} on, observations go to and fro as if frames were in random \
             order (ratio {:.2}; 0 is smooth, 1 is random)",
            disorder.frame, disorder.value
        );
        let effect = "windows show motions that were not, and what the policy learns of time is wrong";
        found.push(
            Finding::new(Fault::ShuffledFrames, Severity::Error, what, effect)
                .at(*episode, Some(disorder.frame as usize))
                .mend(case.drop_episode(*episode)),
        );
    }
    disordered
}

/// A number that holds one value while its partner moves (the state that it drives, the action that drives
/// it), three times as long as in nine of ten other episodes.
fn frozen(case: &Case, summaries: &[Summary], feature: &SignalFeature, found: &mut Vec<Finding>) {
    // Half a second: shorter holds are pauses of people and ticks of slow sensors.
    let least = (0.5 * case.hz()).round().max(5.0);
    let mut worst: Vec<Option<(f32, usize)>> = vec![None; summaries.len()];
    let mut numbers = vec![0; summaries.len()];
    for signal in feature.signals.clone() {
        let values: Vec<f64> = summaries.iter().map(|s| f64::from(s.signals[signal].frozen.value)).collect();
        for episode in outliers(&values, least, OUTLIER) {
            numbers[episode] += 1;
            let frames = summaries[episode].signals[signal].frozen.value;
            if worst[episode].is_none_or(|(known, _)| frames > known) {
                worst[episode] = Some((frames, signal));
            }
        }
    }
    for ((summary, worst), numbers) in summaries.iter().zip(worst).zip(numbers) {
        let Some((_, signal)) = worst else { continue };
        let Peak { value, frame } = summary.signals[signal].frozen;
        let what = format!(
            "{} stands still from frame {frame} of episode {} on, while what it drives or is driven by moves \
             for {value:.0} frames; {numbers} numbers of the feature do",
            case.number(signal),
            summary.episode
        );
        let (fault, effect) = match feature.role {
            Role::Action => (
                Fault::FrozenAction,
                "commands were lost while the robot moved: the policy learns to do nothing in the middle of \
                 a motion",
            ),
            Role::Observed => (
                Fault::FrozenObservation,
                "a sensor hung: the network sees the robot where it no longer was, and learns not to look at \
                 that number",
            ),
        };
        found.push(
            Finding::new(fault, Severity::Warning, what, effect)
                .of(&feature.name, Some(signal - feature.signals.start))
                .at(summary.episode, Some(frame as usize))
                .count(value as usize)
                .mend(case.drop_episode(summary.episode)),
        );
    }
}

fn repeated(case: &Case, summary: &Summary, found: &mut Vec<Finding>) {
    let (count, frame) = summary.repeats;
    if count == 0 {
        return;
    }
    let episode = summary.episode;
    let what = format!(
        "{count} frames of episode {episode} repeat the one before bit for bit in the middle of a motion, \
         the first is frame {frame}"
    );
    let effect = "the robot seems to stop dead and to leap: the policy learns to hesitate";
    found.push(
        Finding::new(Fault::RepeatedFrames, Severity::Warning, what, effect)
            .at(episode, Some(frame))
            .count(count)
            .mend(case.filter("--drop-repeated"))
            .mend(case.drop_episode(episode)),
    );
}

/// Stretches without motion: from a second on at the ends, from two in the middle, where people stop to
/// think.
fn idle(case: &Case, summary: &Summary, found: &mut Vec<Finding>) {
    let second = case.hz();
    let Summary { episode, frames, idle_start, idle_end, idle_middle, .. } = summary;
    let middle = idle_middle.value as usize;
    let stretches = [
        (*idle_start, 0, "at its beginning", second),
        (middle, idle_middle.frame as usize, "in its middle", 2.0 * second),
        (*idle_end, frames - idle_end, "at its end", second),
    ];
    for (length, frame, place, least) in stretches {
        if (length as f64) < least.max(4.0) {
            continue;
        }
        let what = format!(
            "nothing moves for {length} frames ({:.1} s) of episode {episode} {place}, from frame {frame} on",
            length as f64 / second
        );
        let effect = "a policy that has seen much stillness tends to stand still and never to go on";
        let finding = Finding::new(Fault::Idle, Severity::Warning, what, effect)
            .at(*episode, Some(frame))
            .count(length);
        found.push(match place {
            "in its middle" => finding.mend(case.drop_episode(*episode)),
            _ => finding.mend(case.filter("--trim-idle")),
        });
    }
}
