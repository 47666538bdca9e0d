//! The order in which windows are shown, and the rows that they lie in.
//!
//! Every window is shown once an epoch. A set that fits into memory is one pool, shuffled whole. A larger one is cut into
//! blocks of consecutive episodes; an epoch shuffles the blocks and goes through them a pool of several at a time, the
//! windows of each pool shuffled. Windows of one block are then shown within one pool of an epoch, and not throughout it;
//! which blocks share a pool differs from epoch to epoch. The order is a function of the seed and of the set alone, so
//! that any position can be returned to.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nudge_dataset::Windows;
use rand::seq::SliceRandom;

use super::rows::Rows;
use super::stream::Stream;
use super::{Purpose, rng};
use crate::PolicyFailure;

/// Windows without end, epoch after epoch.
pub(crate) struct Supply {
    seed: u64,
    /// Of an epoch; at least 1.
    windows: u64,
    kind: Kind,
    state: Mutex<State>,
}

enum Kind {
    Memory { rows: Arc<Rows>, windows: Arc<Windows> },
    Streamed(Arc<Stream>),
}

#[derive(Default)]
struct State {
    /// The epoch whose pools these are, and the first window of each.
    epoch: Option<u64>,
    pools: Arc<Vec<PoolPlan>>,
    current: Option<(Place, Arc<Pool>)>,
    /// Read while the current one is used.
    next: Option<(Place, JoinHandle<Result<Pool, PolicyFailure>>)>,
}

/// An epoch, and which of its pools.
type Place = (u64, usize);

/// Which blocks make a pool, and how many windows of the epoch come before it.
pub(crate) struct PoolPlan {
    pub blocks: Vec<usize>,
    pub first: u64,
    pub windows: u64,
}

/// Rows in memory, and the order in which the windows over them are shown.
pub(crate) struct Pool {
    pub rows: Arc<Rows>,
    pub windows: Arc<Windows>,
    pub order: Vec<u32>,
}

/// Consecutive windows of a pool's order.
pub(crate) struct Run {
    pub pool: Arc<Pool>,
    pub range: Range<usize>,
}

impl Supply {
    /// Windows over rows in memory.
    pub fn of_rows(rows: Rows, windows: Windows, seed: u64) -> Self {
        let count = windows.len() as u64;
        let kind = Kind::Memory { rows: Arc::new(rows), windows: Arc::new(windows) };
        Self { seed, windows: count, kind, state: Mutex::default() }
    }

    /// Windows of a set that is read a part at a time.
    pub fn of_stream(stream: Stream, seed: u64) -> Self {
        let windows = stream.windows();
        Self { seed, windows, kind: Kind::Streamed(Arc::new(stream)), state: Mutex::default() }
    }

    /// Of an epoch.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// What is read as it is needed.
    pub fn stream(&self) -> Option<&Stream> {
        match &self.kind {
            Kind::Memory { .. } => None,
            Kind::Streamed(stream) => Some(stream),
        }
    }

    /// The `count` windows from `position` on, counted from the beginning of the first epoch.
    ///
    /// # Errors
    /// When the set can no longer be read.
    pub fn take(&self, position: u64, count: usize) -> Result<Vec<Run>, PolicyFailure> {
        let (mut at, end) = (position, position + count as u64);
        let mut runs = Vec::new();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while at < end {
            let (epoch, within) = (at / self.windows, at % self.windows);
            let (pool, first) = self.pool(&mut state, epoch, within)?;
            let from = within - first;
            let taken = (pool.order.len() as u64 - from).min(end - at);
            runs.push(Run { pool, range: from as usize..(from + taken) as usize });
            at += taken;
        }
        Ok(runs)
    }

    /// The pool of an epoch that holds its window `within`, and the pool's first window.
    fn pool(&self, state: &mut State, epoch: u64, within: u64) -> Result<(Arc<Pool>, u64), PolicyFailure> {
        let stream = match &self.kind {
            Kind::Memory { rows, windows } => {
                let order = || shuffled(windows.len(), self.seed, Purpose::Shuffle, epoch);
                let pool = state.current.take().filter(|(place, _)| *place == (epoch, 0));
                let pool = pool.map_or_else(
                    || Arc::new(Pool { rows: rows.clone(), windows: windows.clone(), order: order() }),
                    |(_, pool)| pool,
                );
                state.current = Some(((epoch, 0), pool.clone()));
                return Ok((pool, 0));
            }
            Kind::Streamed(stream) => stream,
        };
        if state.epoch != Some(epoch) {
            state.pools = Arc::new(stream.pools(epoch));
            state.epoch = Some(epoch);
        }
        let index = state.pools.partition_point(|pool| pool.first <= within) - 1;
        let (place, first) = ((epoch, index), state.pools[index].first);
        if let Some((_, pool)) = state.current.as_ref().filter(|(at, _)| *at == place) {
            return Ok((pool.clone(), first));
        }
        // Given up before the next but one is asked for: two pools are all that the budget allows.
        state.current = None;
        let pool = match state.next.take() {
            Some((at, reading)) if at == place => joined(reading)?,
            // Training went on from elsewhere.
            other => {
                other.map_or(Ok(()), |(_, reading)| joined(reading).map(drop))?;
                stream.read(&state.pools[index].blocks, place)?
            }
        };
        let pool = Arc::new(pool);
        state.current = Some((place, pool.clone()));
        state.next = Some(read_ahead(stream, &state.pools, place)?);
        Ok((pool, first))
    }
}

/// Begins to read what follows `place`.
fn read_ahead(
    stream: &Arc<Stream>,
    pools: &Arc<Vec<PoolPlan>>,
    (epoch, index): Place,
) -> Result<(Place, JoinHandle<Result<Pool, PolicyFailure>>), PolicyFailure> {
    let place = if index + 1 < pools.len() { (epoch, index + 1) } else { (epoch + 1, 0) };
    let (stream, pools) = (stream.clone(), pools.clone());
    let read = move || match place {
        (_, 0) => stream.read(&stream.pools(place.0)[0].blocks, place),
        (_, index) => stream.read(&pools[index].blocks, place),
    };
    let thread = std::thread::Builder::new().name("demonstrations".into()).spawn(read);
    let thread = thread.map_err(|error| PolicyFailure::Device(format!("no thread to read with: {error}")))?;
    Ok((place, thread))
}

fn joined(reading: JoinHandle<Result<Pool, PolicyFailure>>) -> Result<Pool, PolicyFailure> {
    let panicked = |_| Err(PolicyFailure::Data("the thread that reads demonstrations panicked".into()));
    reading.join().unwrap_or_else(panicked)
}

/// The numbers below `count`, shuffled.
pub(crate) fn shuffled(count: usize, seed: u64, purpose: Purpose, index: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.shuffle(&mut rng(seed, purpose, index));
    order
}
