//! Action and state in the whole set: the delay between them, copies, units.

use super::case::Case;
use super::coupling::{Coupled, Coupling, Drive, Pair, peak};
use super::finding::{Fault, Finding, Severity};
use super::layout::{Role, Series};
use super::model::{Models, Residuals};
use super::reference::Reference;
use super::robust::{correlation, median};
use super::summary::Peak;

/// What is measured of action and state in one episode.
pub(super) struct Dynamics {
    pub(super) coupled: Coupled,
    pub(super) residuals: Residuals,
    /// The frame at which the action makes its largest step, if that is a tenth of its usual range or more.
    pub(super) cut: Option<usize>,
}

impl Dynamics {
    pub(super) fn of(
        case: &Case,
        reference: &Reference,
        coupling: &Coupling,
        models: &Models,
        series: &Series,
    ) -> Self {
        let mut step = Peak::default();
        for signal in case.layout.of_role(Role::Action) {
            let scale = &reference.scales[signal];
            if scale.span() > 0.0 && !scale.discrete {
                for (frame, pair) in series.signals[signal].windows(2).enumerate() {
                    step.raise((pair[1] - pair[0]).abs() / scale.span(), frame + 1);
                }
            }
        }
        Self {
            coupled: coupling.measure(series),
            residuals: models.residuals(case.layout, reference, series),
            cut: (step.value >= 0.1).then_some(step.frame as usize),
        }
    }
}

/// What the whole set says.
pub(super) fn judge_set(
    case: &Case,
    reference: &Reference,
    coupling: &Coupling,
    sample: &[Series],
    found: &mut Vec<Finding>,
) {
    let pairs = &coupling.pairs;
    if pairs.is_empty() {
        return;
    }
    delay(case, coupling, found);
    let copies: Vec<&Pair> =
        pairs.iter().filter(|pair| pair.drive == Drive::Target && is_copy(reference, sample, pair)).collect();
    if let Some(pair) = copies.first() {
        let (feature, number) = case.layout.place(pair.action);
        let what = format!(
            "{} is {} of the same frame, and so are {} numbers of the action in all",
            case.number(pair.action),
            case.number(pair.state),
            copies.len()
        );
        let effect = "a policy that learns to command where the robot is learns to hold still";
        found.push(
            Finding::new(Fault::ActionIsState, Severity::Warning, what, effect)
                .of(&feature.name, Some(number))
                .count(copies.len())
                .mend(case.convert("--shift-action 1")),
        );
    }
    units(case, sample, pairs, found);
}

fn delay(case: &Case, coupling: &Coupling, found: &mut Vec<Finding>) {
    let pairs = &coupling.pairs;
    let lags: Vec<f64> = pairs.iter().map(|pair| fine_lag(&pair.curve, coupling.reach)).collect();
    let (least, most) =
        lags.iter().fold((f64::MAX, f64::MIN), |(least, most), lag| (least.min(*lag), most.max(*lag)));
    let lag = median(lags);
    let action = case.layout.place(pairs[0].action).0.name.clone();
    let seconds = lag / case.hz();
    let kind = match pairs.iter().filter(|pair| pair.drive == Drive::Target).count() * 2 >= pairs.len() {
        true => "targets",
        false => "velocities or displacements",
    };
    let strength = median(pairs.iter().map(|pair| pair.r.abs()).collect());
    let what = format!(
        "the observed state follows the action, which acts like {kind}, by {lag:.1} frames ({seconds:.2} s) \
         in the middle, {least:.1} to {most:.1} over {} numbers; correlation {strength:.2}",
        pairs.len()
    );
    let effect = "no harm in itself: a policy has to plan at least as far ahead as the robot lags";
    found.push(
        Finding::new(Fault::ActionDelay, Severity::Note, what, effect).of(&action, None).count(pairs.len()),
    );
    // An effect never comes before its cause. Half a frame is what the order of reading and writing within a
    // frame makes.
    let shift = pairs.iter().filter(|pair| pair.lag <= -1).count() * 2 > pairs.len();
    if shift && lag <= -0.75 {
        let steps = (-lag).ceil() as usize;
        let what = format!(
            "the observed state comes {:.1} frames before the action that causes it (correlation \
             {strength:.2}, {} numbers)",
            -lag,
            pairs.len()
        );
        let effect =
            "the policy is trained to command what has happened already, and lags behind itself when it runs";
        found.push(
            Finding::new(Fault::ActionShifted, Severity::Error, what, effect)
                .of(&action, None)
                .count(pairs.len())
                .mend(case.convert(&format!("--shift-action {steps}"))),
        );
    } else if seconds > 0.35 && lag >= 3.0 {
        // People and arms react within 0.1 to 0.3 s.
        let what =
            format!("the observed state follows the action only after {lag:.1} frames ({seconds:.2} s)");
        let effect = "either the robot is slow, or the action column is shifted to earlier frames: then the \
                      policy acts too early";
        found.push(
            Finding::new(Fault::ActionShifted, Severity::Warning, what, effect)
                .of(&action, None)
                .count(pairs.len())
                .mend(case.convert(&format!("--shift-action -{}", (lag - 1.0).round().max(1.0)))),
        );
    }
}

/// The lag of the largest correlation, between frames: the top of the parabola through it and its neighbours.
fn fine_lag(curve: &[f64], reach: i32) -> f64 {
    let Some(top) = peak(curve) else { return 0.0 };
    let at = |place: Option<usize>| place.and_then(|place| curve.get(place)).map_or(0.0, |r| r.abs());
    let (before, now, after) = (at(top.checked_sub(1)), at(Some(top)), at(Some(top + 1)));
    let bend = before - 2.0 * now + after;
    let part =
        if bend < 0.0 && top > 0 && top + 1 < curve.len() { 0.5 * (before - after) / bend } else { 0.0 };
    top as f64 + part - f64::from(reach)
}

fn is_copy(reference: &Reference, sample: &[Series], pair: &Pair) -> bool {
    let least = 1e-6 * reference.scales[pair.action].span();
    let (mut same, mut frames) = (0, 0);
    for series in sample {
        let both = series.signals[pair.action].iter().zip(&series.signals[pair.state]);
        same += both.filter(|(action, state)| (**action - **state).abs() <= least).count();
        frames += series.frames;
    }
    100 * same >= 99 * frames
}

/// Ratios of units that are mixed up, and their names.
const RATIOS: [(f64, &str); 3] = [
    (180.0 / std::f64::consts::PI, "degrees and radians"),
    (1000.0, "millimetres and metres"),
    (100.0, "centimetres and metres"),
];

/// Targets and the state that goes to them have the same unit: the slope of one over the other is 1.
fn units(case: &Case, sample: &[Series], pairs: &[Pair], found: &mut Vec<Finding>) {
    for pair in pairs.iter().filter(|pair| pair.drive == Drive::Target) {
        let slopes = sample.iter().filter_map(|series| {
            let (action, state) = (&series.signals[pair.action], &series.signals[pair.state]);
            let ahead = pair.lag.max(0) as usize;
            let (r, slope) = correlation(action, state.get(ahead..)?)?;
            (r.abs() > 0.8).then_some(slope.abs())
        });
        let slopes: Vec<f64> = slopes.collect();
        if slopes.is_empty() {
            continue;
        }
        let slope = median(slopes);
        let factor = slope.max(1.0 / slope);
        // A controller's steady error leaves the slope within a few parts in a hundred of 1.
        let Some((_, units)) = RATIOS.iter().find(|(ratio, _)| (factor / ratio - 1.0).abs() < 0.15) else {
            continue;
        };
        let (feature, number) = case.layout.place(pair.action);
        let what = format!(
            "{} and {}, which follows it, are in a ratio of {factor:.1}: {units}",
            case.number(pair.action),
            case.number(pair.state)
        );
        let effect = "a policy with relative actions, and a guard that compares command and state, take one \
                      for the other";
        let larger = if slope > 1.0 { pair.state } else { pair.action };
        let command = match *units {
            "degrees and radians" => format!("--degrees {}", case.edit_target(larger)),
            _ => format!(
                "--scale {}={}",
                case.edit_target(larger),
                1.0 / RATIOS.iter().find(|(_, u)| u == units).map_or(1.0, |(r, _)| *r)
            ),
        };
        found.push(
            Finding::new(Fault::UnitMismatch, Severity::Error, what, effect)
                .of(&feature.name, Some(number))
                .mend(case.convert(&command)),
        );
    }
}
