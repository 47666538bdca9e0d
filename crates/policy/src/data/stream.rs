//! A set that is larger than memory: blocks of consecutive episodes, and pools of blocks.

use std::ops::Range;
use std::sync::Arc;

use nudge_control::Horizon;
use nudge_dataset::runs;

use super::Purpose;
use super::encoder::{starts, windows_of};
use super::rows::Rows;
use super::source::Source;
use super::supply::{Pool, PoolPlan, shuffled};
use crate::PolicyFailure;

/// Blocks in a budget: small enough that what reading one takes beside its rows does not count, large enough that files
/// are read in long stretches.
const BLOCKS: usize = 32;
/// Blocks of a pool: the one in use and the next one share the budget with what is being read.
const BLOCKS_A_POOL: usize = 14;

/// How many frames are kept in memory, and read at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub frames: usize,
}

impl Budget {
    /// Of so many bytes, for `[Do, Da]` numbers a frame and its place in the order.
    pub fn new(bytes: f64, dims: [usize; 2]) -> Self {
        let of_frame = 4 * (dims[0] + dims[1] + 1);
        Self { frames: (bytes / of_frame as f64) as usize }
    }

    /// Cuts episodes of these lengths into blocks.
    pub fn blocks(&self, lengths: &[usize]) -> Vec<Range<usize>> {
        runs(lengths.iter().copied().enumerate(), self.frames / BLOCKS)
    }
}

/// The episodes of a set that are learned from, a part of them at a time.
pub(crate) struct Stream {
    source: Source,
    seed: u64,
    horizon: Horizon,
    pad_after: usize,
    /// Of each episode, whether it is learned from.
    wanted: Vec<bool>,
    blocks: Vec<Block>,
    frames_a_pool: usize,
}

/// Consecutive episodes; frames and windows are of those that are learned from.
struct Block {
    episodes: Range<usize>,
    frames: usize,
    windows: u64,
}

impl Stream {
    pub fn new(
        source: Source,
        seed: u64,
        (horizon, pad_after): (Horizon, usize),
        wanted: Vec<bool>,
        budget: Budget,
    ) -> Self {
        let lengths = source.lengths();
        let block = |episodes: Range<usize>| {
            let learned =
                || episodes.clone().filter(|episode| wanted[*episode]).map(|episode| lengths[episode]);
            let windows = learned().map(|length| starts(length, horizon, pad_after).count() as u64).sum();
            Block { frames: learned().sum(), windows, episodes }
        };
        let blocks = budget.blocks(&lengths).into_iter().map(block);
        let blocks = blocks.filter(|block| block.windows > 0).collect();
        let frames_a_pool = budget.frames / BLOCKS * BLOCKS_A_POOL;
        Self { source, seed, horizon, pad_after, wanted, blocks, frames_a_pool }
    }

    /// Of an epoch.
    pub fn windows(&self) -> u64 {
        self.blocks.iter().map(|block| block.windows).sum()
    }

    /// The pools of an epoch, in their order.
    pub fn pools(&self, epoch: u64) -> Vec<PoolPlan> {
        let (mut pools, mut frames, mut first) = (Vec::<PoolPlan>::new(), 0, 0);
        for index in shuffled(self.blocks.len(), self.seed, Purpose::Blocks, epoch) {
            let block = &self.blocks[index as usize];
            match pools.last_mut().filter(|_| frames + block.frames <= self.frames_a_pool) {
                Some(pool) => {
                    pool.blocks.push(index as usize);
                    pool.windows += block.windows;
                    frames += block.frames;
                }
                None => {
                    pools.push(PoolPlan { blocks: vec![index as usize], first, windows: block.windows });
                    frames = block.frames;
                }
            }
            first += block.windows;
        }
        pools
    }

    /// Reads the blocks of the `index`th pool of an epoch.
    ///
    /// # Errors
    /// When the set can no longer be read.
    pub fn read(&self, blocks: &[usize], (epoch, index): (u64, usize)) -> Result<Pool, PolicyFailure> {
        // In the order in which they lie on the disk; the windows are shuffled all the same.
        let mut blocks: Vec<&Block> = blocks.iter().map(|block| &self.blocks[*block]).collect();
        blocks.sort_by_key(|block| block.episodes.start);
        let mut rows = Rows::new(self.source.dims(), blocks.iter().map(|block| block.frames).sum());
        for block in blocks {
            self.source.read(block.episodes.clone(), |episode| self.wanted[episode], &mut rows)?;
        }
        let windows = windows_of(&rows, self.horizon, self.pad_after);
        let order = shuffled(windows.len(), self.seed, Purpose::Pool, epoch << 24 | index as u64);
        Ok(Pool { rows: Arc::new(rows), windows: Arc::new(windows), order })
    }

    /// One episode.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn episode(&self, episode: usize) -> Result<Rows, PolicyFailure> {
        let mut rows = Rows::new(self.source.dims(), 0);
        self.source.read(episode..episode + 1, |_| true, &mut rows)?;
        Ok(rows)
    }
}
