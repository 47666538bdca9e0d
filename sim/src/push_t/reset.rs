//! Where an episode begins: the reference environments' rules, on numpy's own streams.

use std::f64::consts::{PI, TAU};

use serde::{Deserialize, Serialize};

use super::geometry::CENTRE_OF_GRAVITY;
use crate::numpy::{Pcg64, RandomState};

/// How a seed becomes a start. The ranges are the same: agent in 50..450, block in 100..400, whole pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetRule {
    /// diffusion_policy: numpy's `RandomState`; the angle is `randn() * 2 pi - pi`.
    Dp,
    /// The same draws, as the human demonstrations were made (seed = episode) and the published evaluations run: the
    /// angle is set last and turns the block about its centre of gravity, which moves its origin.
    #[default]
    DpLegacy,
    /// gym-pusht 0.1.8: numpy's PCG64; the angle is uniform in -pi..pi, and also set last.
    Gym,
}

/// Agent (x, y) and block (x, y, angle) at the beginning of the episode of this seed, in px and rad.
pub(crate) fn start(rule: ResetRule, seed: u64) -> ([f64; 2], [f64; 3]) {
    let (agent, block, angle) = match rule {
        ResetRule::Dp | ResetRule::DpLegacy => {
            let mut stream = RandomState::new(seed);
            let agent = [(); 2].map(|()| stream.randint(50, 450) as f64);
            let block = [(); 2].map(|()| stream.randint(100, 400) as f64);
            (agent, block, stream.randn() * TAU - PI)
        }
        ResetRule::Gym => {
            let mut stream = Pcg64::new(seed);
            let agent = [(); 2].map(|()| stream.integers(50, 450) as f64);
            let block = [(); 2].map(|()| stream.integers(100, 400) as f64);
            (agent, block, stream.uniform(-PI, PI))
        }
    };
    let [x, y] = match rule {
        ResetRule::Dp => block,
        ResetRule::DpLegacy | ResetRule::Gym => turned_about_the_centre(block, angle),
    };
    (agent, [x, y, angle])
}

/// Where a turn by `angle` about the centre of gravity takes the origin of a block at angle 0.
fn turned_about_the_centre([x, y]: [f64; 2], angle: f64) -> [f64; 2] {
    let [cx, cy] = CENTRE_OF_GRAVITY;
    let (sin, cos) = angle.sin_cos();
    [x + cx - (cos * cx - sin * cy), y + cy - (sin * cx + cos * cy)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_differ_in_stream_and_pivot() {
        // numpy's draws for seed 0; see `numpy.rs` for their source.
        let angle = 0.9787379841057392 * TAU - PI;
        assert_eq!(start(ResetRule::Dp, 0), ([222.0, 97.0], [217.0, 292.0, angle]));
        let (agent, [x, y, legacy_angle]) = start(ResetRule::DpLegacy, 0);
        assert_eq!((agent, legacy_angle), ([222.0, 97.0], angle));
        // What LeRobot's recording of the first demonstration holds, in f32.
        assert!((x - 222.99382).abs() < 1e-4 && (y - 381.59903).abs() < 1e-4, "{x}, {y}");

        // gym-pusht 0.1.8 on pymunk 6.11.1: `env.reset(seed=0)`, then `env.unwrapped.block.position`.
        let (agent, [x, y, angle]) = start(ResetRule::Gym, 0);
        assert_eq!((agent, angle), ([390.0, 304.0], -2.8841484100105235));
        let (sin, cos) = angle.sin_cos();
        assert!((x - (253.0 + 45.0 * sin)).abs() < 1e-9 && (y - (225.0 - 45.0 * cos)).abs() < 1e-9);
    }
}
