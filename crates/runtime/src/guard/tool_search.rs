//! How much of what is wished the tool's own limits allow.

use super::four::Four;
use super::numbers::Numbers;
use super::tool::{Breaks, Judged, Tool};

/// Steps of the search between the way to rest and what is wished, for the tool's sake, and what is near enough to the
/// limit: a share of how far apart the two lie.
const SEARCHES: usize = 4;
const NEAR_ENOUGH: f64 = 1.0 / 32.0;

/// Searches from tick to tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToolSearch {
    bend: Bend,
}

impl ToolSearch {
    /// Takes of the steps that are wished for the numbers that move `tool` as much as its limits allow; which they break.
    pub(super) fn hold(&mut self, tool: &Tool, fours: &mut [Numbers]) -> Option<Breaks> {
        let wish = tool.judge(fours.iter().map(|four| &four.step));
        let broken = wish.breaks?;
        // The way to rest that lies behind the last command keeps the tool's limits; from it towards what is wished.
        for four in fours.iter_mut() {
            four.wished = four.step.motion.dd;
            four.step = four.axes.braked();
            four.safe = four.step.motion.dd;
        }
        let rest = tool.judge(fours.iter().map(|four| &four.step));
        let (below, above) = (rest.excess.min(0.0), wish.excess);
        let mut bracket = [0.0, 1.0];
        for _ in 0..SEARCHES {
            let share = self.bend.share((-below / (above - below) - NEAR_ENOUGH / 2.0).max(0.0), bracket);
            let proven = fours.iter_mut().all(|four| {
                let (tried, proven) =
                    four.axes.step_of(four.safe + Four::splat(share) * (four.wished - four.safe));
                four.tried = tried;
                proven.all()
            });
            let judged = proven.then(|| tool.judge(fours.iter().map(|four| &four.tried)));
            if let Some(Judged { excess, .. }) = judged {
                self.bend.fit(share, (excess - below) / (above - below));
            }
            match judged.filter(|judged| judged.breaks.is_none()) {
                Some(Judged { excess, .. }) => {
                    bracket[0] = share;
                    fours.iter_mut().for_each(|four| four.step = four.tried);
                    if -excess <= NEAR_ENOUGH * (above - below) {
                        break;
                    }
                }
                None => bracket[1] = share,
            }
        }
        Some(broken)
    }
}

/// How what the tool is over its limit bends on the way from a share 0 of what is wished to all of it: taken from 0 to 1 as
/// well, it is (1 - c) share + c share^2.
#[derive(Clone, Copy, Debug, Default)]
struct Bend {
    c: f64,
}

impl Bend {
    /// The share within `bracket` that comes to `height`; its middle where the bend says nothing.
    fn share(self, height: f64, [lower, upper]: [f64; 2]) -> f64 {
        let slope = 1.0 - self.c;
        let share = 2.0 * height / (slope + (slope * slope + 4.0 * self.c * height).max(0.0).sqrt());
        if lower < share && share < upper { share } else { (lower + upper) / 2.0 }
    }

    /// It came to `height` at `share`.
    fn fit(&mut self, share: f64, height: f64) {
        let c = (share - height) / (share - share * share);
        if c.is_finite() {
            self.c = c.clamp(-0.9, 0.9);
        }
    }
}
