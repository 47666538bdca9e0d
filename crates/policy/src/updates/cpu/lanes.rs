//! Neighbouring channels side by side: arrays that the compiler keeps in vector registers.

/// Channels that are worked on together, over all steps: what is summed over the steps stays in registers.
pub(super) const LANES: usize = 16;
pub(super) type Lanes = [f32; LANES];

/// Neighbouring channels of rows of `channels` numbers; `LANES` of them when `FULL`.
#[derive(Clone, Copy)]
pub(super) struct Block<const FULL: bool> {
    pub first: usize,
    pub width: usize,
    pub channels: usize,
}

impl<const FULL: bool> Block<FULL> {
    #[inline(always)]
    pub fn get(self, values: &[f32], row: usize) -> Lanes {
        let start = row * self.channels + self.first;
        let mut lanes = [0.0; LANES];
        if FULL {
            lanes.copy_from_slice(&values[start..start + LANES]);
        } else {
            lanes[..self.width].copy_from_slice(&values[start..start + self.width]);
        }
        lanes
    }

    #[inline(always)]
    pub fn put(self, values: &mut [f32], row: usize, lanes: Lanes) {
        let start = row * self.channels + self.first;
        if FULL {
            values[start..start + LANES].copy_from_slice(&lanes);
        } else {
            values[start..start + self.width].copy_from_slice(&lanes[..self.width]);
        }
    }
}

/// Runs the same statements for every `Block` of channels: compiled once for full blocks, once for a narrow last one.
macro_rules! for_each_block {
    ($channels:expr, $block:ident => $body:block) => {{
        let channels: usize = $channels;
        for index in 0..channels / LANES {
            let $block = Block::<true> { first: index * LANES, width: LANES, channels };
            $body
        }
        if channels % LANES > 0 {
            let first = channels - channels % LANES;
            let $block = Block::<false> { first, width: channels - first, channels };
            $body
        }
    }};
}

#[inline(always)]
pub(super) fn each(of: impl Fn(usize) -> f32) -> Lanes {
    // Not `array::from_fn`, which is no part of a function that is compiled for these instructions.
    let mut lanes = [0.0; LANES];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = of(i);
    }
    lanes
}

/// `a * b + c`
#[inline(always)]
pub(super) fn fused<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}
pub(super) use for_each_block;
