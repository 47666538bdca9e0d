//! More cores for the convolutions of one plan.
//!
//! A sweep is cut into parts that whoever is free takes: the planning thread waits for nobody who has not begun. Sums do
//! not depend on who adds them up.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};

use super::machine::Machine;
use super::sweep::Sweep;

/// More helpers than this find too little to do between two convolutions.
const MOST_HELPERS: usize = 3;

/// Threads that sleep between plans.
pub(super) struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Which sweep it is, in the upper half, and how many of its parts nobody has taken.
    open: AtomicU64,
    /// Parts of the sweep that are done.
    done: AtomicUsize,
    /// Written while no part is open or being worked on.
    sweep: UnsafeCell<Option<(Machine, Sweep)>>,
    /// Whether a plan is being made.
    planning: AtomicBool,
    ending: AtomicBool,
}

// SAFETY: `sweep` is written by the planning thread alone while nobody reads it (see `Pool::sweep`), and the memory that
// it points to is lent for as long as parts are being worked on, each of which writes numbers of its own.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Pool {
    /// For plans on up to `threads` threads, the planning one included; `None` where that one is enough.
    pub fn new(threads: usize) -> Option<Self> {
        let shared = Arc::new(Shared {
            open: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            sweep: UnsafeCell::new(None),
            planning: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        });
        let help = |_| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("plan helper".into()).spawn(move || shared.help()).ok()
        };
        let helpers: Vec<_> = (1..threads.min(MOST_HELPERS + 1)).map_while(help).collect();
        (!helpers.is_empty()).then_some(Self { shared, helpers })
    }

    /// Keeps the helpers awake until what is returned is dropped.
    pub fn wake(&self) -> Awake {
        self.shared.planning.store(true, Ordering::Release);
        self.helpers.iter().map(JoinHandle::thread).for_each(Thread::unpark);
        Awake(Arc::clone(&self.shared))
    }

    /// # Safety
    /// The pointers of the sweep's origin must be valid for the whole sweep.
    pub unsafe fn sweep(&mut self, machine: &Machine, over: &Sweep) {
        let shared = &*self.shared;
        let parts = over.parts();
        // SAFETY: every part of the last sweep is done, so that nobody can take one and read this.
        unsafe { *shared.sweep.get() = Some((*machine, *over)) };
        shared.done.store(0, Ordering::Relaxed);
        let number = (shared.open.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared.open.store(number << 32 | parts as u64, Ordering::Release);
        while shared.work_on_a_part() {}
        let mut turns = 0;
        while shared.done.load(Ordering::Acquire) < parts {
            wait(&mut turns);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Release);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper that panicked has said so itself.
            let _ = helper.join();
        }
    }
}

/// A moment, or, after as many as lie between two sweeps, until others have had this core.
fn wait(turns: &mut usize) {
    *turns += 1;
    if turns.is_multiple_of(1000) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// See [`Pool::wake`].
pub(super) struct Awake(Arc<Shared>);

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.planning.store(false, Ordering::Release);
    }
}

impl Shared {
    fn help(&self) {
        let mut turns = 0;
        while !self.ending.load(Ordering::Acquire) {
            if !self.planning.load(Ordering::Acquire) {
                std::thread::park();
            } else if self.work_on_a_part() {
                turns = 0;
            } else {
                wait(&mut turns);
            }
        }
    }

    /// Takes a part, if one is open, and does it.
    fn work_on_a_part(&self) -> bool {
        let open = self.open.load(Ordering::Acquire);
        let left = open & u64::from(u32::MAX);
        let taken = left > 0
            && self.open.compare_exchange_weak(open, open - 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !taken {
            // Someone else was faster, or there is nothing to do.
            return left > 0;
        }
        // SAFETY: the part that was just taken is not done, and the sweep is not replaced until all are.
        unsafe {
            if let Some((machine, sweep)) = &*self.sweep.get() {
                machine.sweep(&sweep.part(left as usize - 1));
            }
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }
}
