//! Slips: small mistakes, made so that what to do about them is demonstrated too.
//!
//! Who imitates faultless demonstrations knows nothing of the states that its own small errors lead to (Laskey et al.
//! 2017, DART: disturb the demonstrator, record how it recovers). So the agent sometimes drifts sideways along a face
//! while it pushes, as a person's does; the rest of the push, or one more, makes up for it.

use nudge_control::split_mix_64;

use super::push::Place;

/// Share of pushes in which the agent slips.
const PUSHES_WITH_A_SLIP: f64 = 0.6;
/// How far it slips, px, and in how many control steps.
const SLIP_PX: [f64; 2] = [5.6, 14.0];
const SLIP_STEPS: usize = 3;
/// Shares of the push between which it begins.
const BEGINS: [f64; 2] = [0.1, 0.8];

/// One slip along a face.
pub(super) struct Slip {
    /// Share of the push after which it happens.
    after: f64,
    by_px: f64,
    steps_left: usize,
}

impl Slip {
    /// The slip of a push that begins here, if there is one. It follows from the place alone, so that the same start
    /// gives the same demonstration.
    pub(super) fn of(from: &Place) -> Option<Self> {
        let mut bits =
            [from.x, from.y, from.angle].iter().fold(0, |bits, value| split_mix_64(bits ^ value.to_bits()));
        let mut draw = || {
            bits = split_mix_64(bits);
            (bits >> 11) as f64 / (1_u64 << 53) as f64
        };
        let within = |[low, high]: [f64; 2], share: f64| low + share * (high - low);
        let [happens, after, by, left] = [(); 4].map(|()| draw());
        let by_px = within(SLIP_PX, by).copysign(left - 0.5);
        let after = within(BEGINS, after);
        (happens < PUSHES_WITH_A_SLIP).then_some(Self { after, by_px, steps_left: SLIP_STEPS })
    }

    /// How far the agent drifts along the face in the coming control step, when this share of the push is done; px.
    pub(super) fn drift_px(&mut self, done: f64) -> f64 {
        if done < self.after || self.steps_left == 0 {
            return 0.0;
        }
        self.steps_left -= 1;
        self.by_px / SLIP_STEPS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_as_frequent_and_as_large_as_they_should_be() {
        let places = (0..1000).map(|index| Place { x: f64::from(index), y: 256.0, angle: 0.3 });
        let slips: Vec<Slip> = places.filter_map(|place| Slip::of(&place)).collect();
        // A thousand draws stray from their share by 0.016 (one standard deviation); this is four.
        assert!((slips.len() as f64 / 1000.0 - PUSHES_WITH_A_SLIP).abs() < 0.065, "{}", slips.len());
        for mut slip in slips {
            assert_eq!(slip.drift_px(0.05), 0.0);
            let drifts: Vec<f64> = (0..6).map(|_| slip.drift_px(0.9)).collect();
            let sum: f64 = drifts.iter().sum();
            assert!(
                (SLIP_PX[0] - 1e-9..=SLIP_PX[1] + 1e-9).contains(&sum.abs()) && drifts[5] == 0.0,
                "{drifts:?}"
            );
        }
    }
}
