use super::*;
use crate::{ActionFeature, ActionMode, FeatureKind, Limits, split_mix_64};

const HORIZON: Horizon = Horizon { observed: 2, predicted: 16, executed: 8 };

/// Two numbers with ranges of 10 and 2.
fn judge() -> Judge {
    let action = ActionFeature {
        name: "action".into(),
        kind: FeatureKind::Vector,
        shape: vec![2],
        unit: String::new(),
        mode: ActionMode::Absolute,
        limits: Limits { low: vec![0.0, -1.0], high: vec![10.0, 1.0] },
    };
    let interface = Interface { observation: vec![], action: vec![action], control_hz: 10.0 };
    Judge::new(&interface, HORIZON)
}

fn plan(actions: &[[f64; 2]]) -> ActionChunk {
    ActionChunk { first_step: 0, actions: actions.iter().map(|numbers| Action(numbers.to_vec())).collect() }
}

#[test]
fn the_sample_closest_to_the_last_plan_is_chosen() {
    let last = plan(&[[1.0, 0.0], [2.0, 0.0]]).actions;
    let far = plan(&[[3.0, 0.0], [2.0, 0.0], [0.0, 0.0]]);
    let late = plan(&[[1.0, 0.0], [3.0, 0.0], [9.0, 0.0]]);
    let (chosen, confidence) = judge().choose(&[far.clone(), late.clone()], &last);
    assert_eq!(chosen, 1);
    // One tenth of the range in one of two numbers, in the second step, which counts half of the first.
    assert!((confidence.inconsistency.unwrap() - (0.5 * 0.01 / (1.5 * 2.0_f64)).sqrt()).abs() < 1e-12);
    // A difference counts by its range: 0.5 of 2 is more than 2 of 10.
    let turned = plan(&[[1.0, 0.5], [2.0, 0.0]]);
    assert_eq!(judge().choose(&[turned, far], &last).0, 1);
}

#[test]
fn without_an_overlap_and_among_equals_the_first_sample_is_chosen() {
    let one = plan(&[[1.0, 0.0]]);
    assert_eq!(judge().choose(&[one.clone(), plan(&[[2.0, 0.0]])], &[]).0, 0);
    assert_eq!(judge().choose(&[one.clone(), one.clone()], &one.actions).0, 0);
    let alone = judge().choose(std::slice::from_ref(&one), &[]);
    assert_eq!(alone, (0, Confidence::default()));
}

#[test]
fn spread_is_the_deviation_of_the_executed_part() {
    let straight = vec![[5.0, 0.0]; 15];
    let mut moved = straight.clone();
    moved.iter_mut().for_each(|numbers| numbers[0] += 1.0);
    let same = judge().choose(&[plan(&straight), plan(&straight)], &[]).1;
    assert_eq!(same.spread, Some(0.0));
    // Two samples a tenth of a range apart: variance 0.01 / 2 in one of two numbers.
    let apart = judge().choose(&[plan(&straight), plan(&moved)], &[]).1;
    assert!((apart.spread.unwrap() - 0.0025_f64.sqrt()).abs() < 1e-12);
    let mut beyond = straight.clone();
    beyond[8..].iter_mut().for_each(|numbers| numbers[0] = 9.0);
    assert_eq!(judge().choose(&[plan(&straight), plan(&beyond)], &[]).1.spread, Some(0.0));
}

#[test]
fn the_conformal_threshold_is_the_named_order_statistic() {
    let scores: Vec<f64> = (1..=19).rev().map(f64::from).collect();
    assert_eq!(conformal_threshold(&scores, 0.05), Some(19.0));
    assert_eq!(conformal_threshold(&scores, 0.1), Some(18.0));
    assert_eq!(conformal_threshold(&scores, 0.5), Some(10.0));
    assert_eq!(conformal_threshold(&scores[1..], 0.05), None);
}

/// A stream of scores in 0..1, many of them equal.
fn scores(seed: &mut u64, n: usize) -> Vec<f64> {
    let mut next = || {
        *seed = split_mix_64(*seed);
        let uniform = (*seed >> 11) as f64 / (1_u64 << 53) as f64;
        (uniform * uniform * 500.0).floor() / 500.0
    };
    (0..n).map(|_| next()).collect()
}

#[test]
fn a_further_score_exceeds_the_threshold_as_rarely_as_was_asked_for() {
    // Over 4000 draws of a calibration and one more score, the share has a standard deviation of at most 0.005 at 0.1.
    let mut seed = 1;
    for (n, alpha) in [(19, 0.05), (68, 0.05), (50, 0.1), (200, 0.025)] {
        let draws = 4000;
        let alarms = (0..draws).filter(|_| {
            let scores = scores(&mut seed, n + 1);
            scores[n] > conformal_threshold(&scores[..n], alpha).unwrap()
        });
        let share = alarms.count() as f64 / f64::from(draws);
        assert!(share <= alpha + 0.015, "{n} scores, alpha {alpha}: {share}");
        // And not by never raising an alarm.
        assert!(share >= 0.4 * alpha, "{n} scores, alpha {alpha}: {share}");
    }
}

#[test]
fn two_figures_together_alarm_as_rarely_as_one() {
    let mut seed = 7;
    let (draws, n, alpha) = (2000, 60, 0.1);
    let alarms = (0..draws).filter(|_| {
        let (spreads, inconsistencies) = (scores(&mut seed, n + 1), scores(&mut seed, n + 1));
        let pairs = spreads.into_iter().zip(inconsistencies);
        let mut episodes: Vec<Confidence> = pairs
            .map(|(spread, inconsistency)| Confidence {
                spread: Some(spread),
                inconsistency: Some(inconsistency),
            })
            .collect();
        let further = episodes.pop().unwrap();
        Thresholds::calibrate(&episodes, alpha).unwrap().exceeded_by(&further)
    });
    let share = alarms.count() as f64 / f64::from(draws);
    assert!((0.04..=alpha + 0.02).contains(&share), "{share}");
}

#[test]
fn a_policy_that_disagrees_with_itself_raises_an_alarm() {
    let steady = plan(&[[5.0, 0.0]; 15]);
    let wobble = |by: f64| plan(&[[5.0 + by, 0.0]; 15]);
    let judged = |by: f64| judge().choose(&[wobble(by)], &steady.actions[8..]).1;
    let largest: Vec<Confidence> = (0..40).map(|episode| judged(0.01 * f64::from(episode % 10))).collect();
    let thresholds = Thresholds::calibrate(&largest, 0.05).unwrap();
    assert_eq!(thresholds.spread, None);
    assert!(largest.iter().all(|episode| !thresholds.exceeded_by(episode)));
    assert!(thresholds.exceeded_by(&judged(2.0)));
    assert_eq!(Thresholds::calibrate(&largest[..18], 0.05), Err(19));
    assert!(Thresholds::calibrate(&largest[..19], 0.05).is_ok());
}

#[test]
fn the_larger_of_two_is_taken_figure_by_figure() {
    let one = Confidence { spread: Some(1.0), inconsistency: None };
    let other = Confidence { spread: Some(0.5), inconsistency: Some(2.0) };
    let both = Confidence { spread: Some(1.0), inconsistency: Some(2.0) };
    assert_eq!((one.max(other), other.max(one), Confidence::default().max(one)), (both, both, one));
}
