//! Four numbers of a stream, side by side: a processor computes with several at once, and does not wait for one of them
//! before it goes on with the next.

use wide::f64x4;

pub(super) type Four = f64x4;
/// For which of the four: all bits set, or none.
pub(super) type Mask = f64x4;

pub(super) const LANES: usize = 4;
pub(super) const HALF: Four = Four::splat(0.5);
pub(super) const TWO: Four = Four::splat(2.0);

/// Four numbers side by side, by their lane.
pub(super) fn side_by_side(value: impl Fn(usize) -> f64) -> Four {
    Four::from(std::array::from_fn::<f64, LANES, _>(value))
}

/// What is added to fewer ticks than 2^51 and taken from them again leaves them rounded to the nearest.
const ROUNDS: Four = Four::splat(1.5 * (1_u64 << 52) as f64);

/// `ceil` of fewer ticks than 2^51, without the calls that it is on processors that may lack the instruction.
pub(super) fn rounded_up(ticks: Four) -> Four {
    let near = ticks + ROUNDS - ROUNDS;
    near + (near.simd_lt(ticks) & Four::ONE)
}

/// `floor` of fewer ticks than 2^51.
pub(super) fn rounded_down(ticks: Four) -> Four {
    let near = ticks + ROUNDS - ROUNDS;
    near - (near.simd_gt(ticks) & Four::ONE)
}
