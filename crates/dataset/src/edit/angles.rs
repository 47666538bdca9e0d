//! Angles along an episode.

use std::f64::consts::{PI, TAU};

/// Adds whole turns to each angle (rad), so that none is more than half a turn from the one before. The first stays;
/// what is not finite stays and is passed over.
pub(super) fn unwrap(angles: &mut [f64]) {
    let (mut turns, mut last) = (0.0, None);
    for angle in angles.iter_mut().filter(|angle| angle.is_finite()) {
        let measured = *angle;
        if let Some(last) = last {
            let difference: f64 = measured - last;
            if difference.abs() > PI {
                turns -= (difference / TAU).round();
            }
        }
        last = Some(measured);
        *angle = measured + turns * TAU;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(angle: f64) -> f64 {
        angle - TAU * (angle / TAU).round()
    }

    #[test]
    fn what_was_wrapped_comes_back_and_wraps_again_to_the_same() {
        // Three turns forth and back, in steps below half a turn.
        let smooth: Vec<f64> = (0..400).map(|i| 10.0 * (f64::from(i) * 0.02).sin()).collect();
        let wrapped: Vec<f64> = smooth.iter().map(|angle| wrap(*angle)).collect();
        assert!(wrapped.windows(2).any(|pair| (pair[1] - pair[0]).abs() > PI));
        let mut unwrapped = wrapped.clone();
        unwrap(&mut unwrapped);
        for (place, (angle, was)) in unwrapped.iter().zip(&smooth).enumerate() {
            assert!((angle - was).abs() < 1e-12, "{place}: {angle} {was}");
            assert!((wrap(*angle) - wrapped[place]).abs() < 1e-12, "{place}");
        }
        let once = unwrapped.clone();
        unwrap(&mut unwrapped);
        assert_eq!(unwrapped, once, "what is smooth stays");
    }

    #[test]
    fn a_gap_is_bridged_and_stays() {
        let mut angles = [3.0, f64::NAN, -3.0, 3.0];
        unwrap(&mut angles);
        assert!(angles[1].is_nan());
        assert_eq!((angles[0], angles[2], angles[3]), (3.0, -3.0 + TAU, 3.0));
    }
}
