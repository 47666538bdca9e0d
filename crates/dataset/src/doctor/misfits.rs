//! Episodes whose actions do not fit their states as those of the others do: shifted, foreign, swapped, mirrored.

use super::case::Case;
use super::coupling::{COUPLED, Coupled, Coupling, Pair, peak};
use super::dynamics::Dynamics;
use super::finding::{Fault, Finding, Severity};
use super::robust::{FEWEST, deviations, median};
use super::summary::Summary;

/// What each episode says beside the others.
pub(super) fn judge(
    case: &Case,
    coupling: &Coupling,
    summaries: &[Summary],
    dynamics: &[Dynamics],
    found: &mut Vec<Finding>,
) {
    if coupling.pairs.is_empty() || summaries.len() < FEWEST {
        return;
    }
    let totals: Vec<Option<Vec<f64>>> = dynamics.iter().map(|d| total(coupling, &d.coupled)).collect();
    // Curves are of shifts against each pair's own lag, so that the usual one is in their middle.
    let usual = farthest(coupling);
    let lags: Vec<f64> = totals
        .iter()
        .map(|curve| curve.as_deref().and_then(peak).map_or(usual as f64, |top| top as f64))
        .collect();
    let apart = deviations(&lags, 0.5);
    // Fisher's transform makes correlations comparable; 0.15 is its deviation over 50 frames.
    let strength = |curve: &Option<Vec<f64>>| curve.iter().flatten().copied().fold(0.0, f64::max);
    let fisher: Vec<f64> = totals.iter().map(|curve| strength(curve).min(0.999).atanh()).collect();
    let weaker = deviations(&fisher, 0.15);
    let typical = median(totals.iter().map(strength).collect());
    for (of, (summary, curve)) in summaries.iter().zip(&totals).enumerate() {
        let Some(curve) = curve else { continue };
        let strength = strength(&totals[of]);
        let action = case.layout.place(coupling.pairs[0].action).0.name.as_str();
        let episode = summary.episode;
        let reversed = swapped_or_flipped(case, coupling, &dynamics[of].coupled, episode, found);
        if reversed {
            continue;
        }
        if weaker[of] < -5.0 && strength < 0.7 * typical {
            let what = format!(
                "the states of episode {episode} do not follow its actions at any delay: correlation \
                 {strength:.2}, usually {typical:.2}"
            );
            let effect = "observation and action are of different moments or different recordings; the \
                          policy learns noise";
            found.push(
                Finding::new(Fault::UnrelatedAction, Severity::Warning, what, effect)
                    .of(action, None)
                    .at(episode, None)
                    .mend(case.drop_episode(episode)),
            );
            continue;
        }
        let lag = lags[of] - usual as f64;
        // At the usual delay twice as much is left unexplained; slow motions hardly tell one delay from another.
        let unexplained = |r: f64| 1.0 - r.max(0.0).powi(2);
        let better = unexplained(curve[usual]) >= 2.0 * unexplained(strength);
        if lag.abs() >= 2.0 && apart[of].abs() >= 4.0 && strength >= COUPLED && better {
            let (side, way) = if lag > 0.0 { ("later", "early") } else { ("earlier", "late") };
            let what = format!(
                "in episode {episode} the state follows the action {:.0} frames {side} than in the other \
                 episodes (correlation {strength:.2} there, {:.2} at the usual delay): its actions stand too \
                 {way}",
                lag.abs(),
                curve[usual]
            );
            let effect = "the policy learns two delays at once and gets neither right";
            found.push(
                Finding::new(Fault::ActionShifted, Severity::Warning, what, effect)
                    .of(action, None)
                    .at(episode, None)
                    .count(lag.abs() as usize)
                    .mend(case.drop_episode(episode)),
            );
        }
    }
}

/// The largest shift that is looked at, in frames.
fn farthest(coupling: &Coupling) -> usize {
    coupling.reach as usize / 2
}

/// Mean over the pairs that move of their correlation, signed so that the usual direction is positive, at each shift
/// from `-farthest` to `farthest` against the pair's own lag.
fn total(coupling: &Coupling, coupled: &Coupled) -> Option<Vec<f64>> {
    let farthest = farthest(coupling) as i32;
    let moving: Vec<(&Pair, &Vec<f64>)> =
        coupling.pairs.iter().zip(&coupled.curves).filter(|(_, curve)| !curve.is_empty()).collect();
    let at = |shift: i32| {
        let each = moving.iter().filter_map(|(pair, curve)| {
            let place = usize::try_from(pair.lag + shift + coupling.reach).ok()?;
            Some(curve.get(place)? * pair.r.signum())
        });
        let each: Vec<f64> = each.collect();
        // Shifts that lie within reach of few pairs alone are not comparable.
        if 2 * each.len() < moving.len() { 0.0 } else { each.iter().sum::<f64>() / each.len() as f64 }
    };
    (!moving.is_empty()).then(|| (-farthest..=farthest).map(at).collect())
}

/// Numbers of the action that drive each other's state, or drive theirs backwards.
fn swapped_or_flipped(
    case: &Case,
    coupling: &Coupling,
    coupled: &Coupled,
    episode: usize,
    found: &mut Vec<Finding>,
) -> bool {
    let before = found.len();
    let pairs = &coupling.pairs;
    let sign = |pair: usize| pairs[pair].r.signum();
    for one in 0..pairs.len() {
        let own = coupled.cross[one][one] * sign(one);
        // What drives its state clearly in the set, and as clearly the other way here.
        if own <= -COUPLED {
            let (feature, number) = case.layout.place(pairs[one].action);
            let what = format!(
                "in episode {episode}, {} drives {} backwards: correlation {:.2}, {:.2} in the set",
                case.number(pairs[one].action),
                case.number(pairs[one].state),
                coupled.cross[one][one],
                pairs[one].r
            );
            let effect = "the policy is taught opposite actions for the same situation";
            found.push(
                Finding::new(Fault::SignFlip, Severity::Error, what, effect)
                    .of(&feature.name, Some(number))
                    .at(episode, None)
                    .mend(case.drop_episode(episode)),
            );
        }
        for two in one + 1..pairs.len() {
            if pairs[one].state == pairs[two].state {
                continue;
            }
            let crossed = (coupled.cross[one][two] * sign(two)).min(coupled.cross[two][one] * sign(one));
            let straight = own.max(coupled.cross[two][two] * sign(two));
            // In the set both drive their own by `COUPLED` and more. NaN compares as false.
            if crossed >= COUPLED && crossed - straight >= 0.3 {
                let (feature, number) = case.layout.place(pairs[one].action);
                let what = format!(
                    "in episode {episode}, {} and {} have changed places: each drives the other's state \
                     (correlation {crossed:.2}, its own {straight:.2})",
                    case.number(pairs[one].action),
                    case.number(pairs[two].action)
                );
                let effect = "the policy is taught actions of one joint or axis for another";
                found.push(
                    Finding::new(Fault::SwappedNumbers, Severity::Error, what, effect)
                        .of(&feature.name, Some(number))
                        .at(episode, None)
                        .mend(case.drop_episode(episode)),
                );
            }
        }
    }
    found.len() > before
}
