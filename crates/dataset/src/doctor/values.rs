//! Faults of single numbers: not finite, constant, at their limits, wrapped.

use super::case::Case;
use super::finding::{Fault, Finding, Severity};
use super::layout::{Role, Series};
use super::reference::Reference;
use super::robust::{OUTLIER, outliers};
use super::summary::{Measured, Summary, TURN};

/// NaN and infinite numbers of one episode.
pub(super) fn non_finite(case: &Case, series: &Series, found: &mut Vec<Finding>) {
    for (feature, frame, number, count) in &series.non_finite {
        let feature = &case.layout.features[*feature];
        let (numbers, are) = if *count == 1 { ("number", "is") } else { ("numbers", "are") };
        let what = format!(
            "{count} {numbers} of episode {} {are} NaN or infinite, the first is number {number} of frame {frame}",
            series.episode
        );
        let effect = "one such number in a batch makes the loss NaN, and every weight with it";
        found.push(
            Finding::new(Fault::NonFinite, Severity::Error, what, effect)
                .of(&feature.name, Some(*number))
                .at(series.episode, Some(*frame))
                .count(*count)
                .mend(case.filter("--drop-non-finite")),
        );
    }
}

/// Everything that is said of a number in the whole set.
pub(super) fn judge(case: &Case, reference: &Reference, summaries: &[Summary], found: &mut Vec<Finding>) {
    for feature in &case.layout.features {
        let mut constant = Vec::new();
        for signal in feature.signals.clone() {
            let of = |pick: fn(&Measured) -> f32, best: fn(f32, f32) -> f32| {
                summaries.iter().map(|summary| pick(&summary.signals[signal])).reduce(best).unwrap_or(0.0)
            };
            let (least, greatest) = (of(|m| m.least, f32::min), of(|m| m.greatest, f32::max));
            if least == greatest {
                constant.push((signal, least));
                continue;
            }
            found.extend(nearly_constant(case, signal, least, greatest));
            if feature.role == Role::Action && !reference.scales[signal].discrete {
                found.extend(saturated(case, summaries, signal, (least, greatest)));
            }
            angle_wraps(case, summaries, signal, (least, greatest), found);
        }
        found.extend(constants(case, &feature.name, &constant));
    }
    quaternion_flips(case, reference, summaries, found);
}

fn constants(case: &Case, feature: &str, constant: &[(usize, f32)]) -> Option<Finding> {
    let numbers: Vec<String> =
        constant.iter().map(|(signal, _)| case.layout.place(*signal).1.to_string()).collect();
    let (first, value) = constant.first()?;
    let what = match constant.len() {
        1 => format!("{} is {value} in every frame", case.number(*first)),
        count => format!("{count} numbers of `{feature}` never change: {}", numbers.join(", ")),
    };
    let effect = "they carry nothing to learn from, and a policy that meets another value has never seen it";
    Some(
        Finding::new(Fault::ConstantNumber, Severity::Note, what, effect)
            .of(feature, Some(case.layout.place(*first).1))
            .count(constant.len())
            .mend(case.convert(&format!("--drop-numbers {feature}:{}", numbers.join(",")))),
    )
}

/// 32-bit numbers near x are 6e-8 x apart. What ranges over fewer than about 16 of them is rounding, which
/// normalisation to
/// -1..1 blows up into a signal.
fn nearly_constant(case: &Case, signal: usize, least: f32, greatest: f32) -> Option<Finding> {
    let (range, size) = (greatest - least, least.abs().max(greatest.abs()));
    if range > 16.0 * f32::EPSILON * size && range > f32::MIN_POSITIVE {
        return None;
    }
    let (feature, number) = case.layout.place(signal);
    let what = format!("{} ranges over {range:e} only, near {least}", case.number(signal));
    let effect = "normalisation blows rounding errors up to the full range: the network is fed noise";
    Some(
        Finding::new(Fault::NearlyConstant, Severity::Warning, what, effect)
            .of(&feature.name, Some(number))
            .mend(case.convert(&format!("--drop-numbers {}", case.edit_target(signal)))),
    )
}

/// An action that is at the very same extreme value for half a second of motion was cut off there: natural
/// extremes are turning points, met for a frame or two. Some actions are held by habit (a gripper's width);
/// their extreme is a limit when several episodes meet it to the last bit, or when it is held three times as
/// long as nine of ten other episodes hold any value.
fn saturated(case: &Case, summaries: &[Summary], signal: usize, extremes: (f32, f32)) -> Option<Finding> {
    let long = (0.5 * case.hz()).round().max(4.0) as u32;
    let holds: Vec<f64> = summaries.iter().map(|s| f64::from(s.signals[signal].hold.value)).collect();
    let held = outliers(&holds, f64::from(long), OUTLIER);
    let sides = [
        (
            extremes.1,
            "greatest",
            summaries
                .iter()
                .map(|s| &s.signals[signal])
                .map(|m| (m.greatest, m.at_greatest, m.greatest_frames))
                .collect::<Vec<_>>(),
        ),
        (
            extremes.0,
            "least",
            summaries
                .iter()
                .map(|s| &s.signals[signal])
                .map(|m| (m.least, m.at_least, m.least_frames))
                .collect(),
        ),
    ];
    let mut worst: Option<(u32, Finding)> = None;
    for (extreme, side, episodes) in sides {
        let there = || episodes.iter().enumerate().filter(|(_, (value, ..))| *value == extreme);
        let Some((place, (_, run, _))) =
            there().max_by(|one, two| one.1.1.value.total_cmp(&two.1.1.value).then(two.0.cmp(&one.0)))
        else {
            continue;
        };
        let length = run.value as u32;
        let shared = there().count();
        if length < long
            || (shared < 3 && !held.contains(&place))
            || worst.as_ref().is_some_and(|(known, _)| *known >= length)
        {
            continue;
        }
        let frames: u32 = there().map(|(_, (.., frames))| frames).sum();
        let (feature, number) = case.layout.place(signal);
        let what = format!(
            "{} is at its {side} value {extreme} for {length} frames of motion from frame {} of episode {} \
             on, and in {frames} frames of {} episodes in all",
            case.number(signal),
            run.frame,
            summaries[place].episode,
            shared
        );
        // What most episodes do is how the device is made: a hand that closes until it is closed.
        let (severity, effect) = if 2 * shared > summaries.len() {
            (
                Severity::Note,
                "no harm if it is a gripper that closes or a speed limit; else the demonstrators wanted more \
                 than was recorded",
            )
        } else {
            (
                Severity::Warning,
                "the demonstrator wanted more than was recorded; the policy learns to press against the \
                 limit",
            )
        };
        let finding = Finding::new(Fault::SaturatedAction, severity, what, effect)
            .of(&feature.name, Some(number))
            .at(summaries[place].episode, Some(run.frame as usize))
            .count(frames as usize)
            .mend(case.drop_episode(summaries[place].episode));
        worst = Some((length, finding));
    }
    worst.map(|(_, finding)| finding)
}

/// A wrapped angle keeps within one turn, steps by nearly a whole turn, and never by anything between that
/// and its usual motion.
fn angle_wraps(
    case: &Case,
    summaries: &[Summary],
    signal: usize,
    (least, greatest): (f32, f32),
    found: &mut Vec<Finding>,
) {
    for (unit, turn) in TURN.into_iter().enumerate() {
        // Robots' joints and tools turn a few times at most; what ranges wider is no angle in this unit.
        if greatest - least > 5.0 * turn {
            continue;
        }
        let wraps = |summary: &&Summary| {
            let Measured { turns, middling, least, greatest, .. } = &summary.signals[signal];
            turns[unit].0 > 0 && middling[unit] == 0 && greatest - least <= 1.001 * turn
        };
        let wrapped: Vec<&Summary> = summaries.iter().filter(wraps).collect();
        let steps: u32 = wrapped.iter().map(|summary| summary.signals[signal].turns[unit].0).sum();
        // Pixels and degrees are alike: a single leap of 330 to 360 in a range wider than a turn may be a
        // jump.
        let Some(first) =
            wrapped.first().filter(|_| unit == 0 || steps > 1 || greatest - least <= 1.001 * turn)
        else {
            continue;
        };
        let frame = first.signals[signal].turns[unit].1 as usize;
        let (feature, number) = case.layout.place(signal);
        let what = format!(
            "{} jumps by a whole turn ({turn:.4}) {steps} times in {} episodes, first at frame {frame} of \
             episode {}",
            case.number(signal),
            wrapped.len(),
            first.episode
        );
        let effect = "two poses that are next to each other look a whole range apart to the network";
        let finding = Finding::new(Fault::AngleWrap, Severity::Warning, what, effect)
            .of(&feature.name, Some(number))
            .at(first.episode, Some(frame))
            .count(steps as usize)
            .mend(case.convert(&format!("--unwrap {}", case.edit_target(signal))));
        found.push(finding);
        return;
    }
}

fn quaternion_flips(case: &Case, reference: &Reference, summaries: &[Summary], found: &mut Vec<Finding>) {
    for (place, first) in reference.quaternions.iter().enumerate() {
        let flipped: Vec<&Summary> = summaries.iter().filter(|summary| summary.flips[place].0 > 0).collect();
        let Some(summary) = flipped.first() else { continue };
        let (feature, number) = case.layout.place(*first);
        let frame = summary.flips[place].1;
        let what = format!(
            "the quaternion in numbers {number} to {} of `{}` changes its sign in {} episodes, first at \
             frame {frame} of episode {}",
            number + 3,
            feature.name,
            flipped.len(),
            summary.episode
        );
        let effect = "one rotation has two descriptions, and the network sees a jump where there is none";
        found.push(
            Finding::new(Fault::QuaternionFlip, Severity::Warning, what, effect)
                .of(&feature.name, Some(number))
                .at(summary.episode, Some(frame))
                .count(flipped.len()),
        );
    }
}
