//! What a message may cost: memory is bounded by what the payload shows, whatever lengths it states.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

#[path = "../../../fuzz/laws/cdr.rs"]
mod cdr;

/// The system's, counting what is held and the most that was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is the system allocator's own; counting beside it touches no memory that it hands out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Most bytes held at a time while the law is applied, above what was held before.
fn most_held(data: &[u8]) -> usize {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    cdr::law(data);
    MOST.load(Ordering::Relaxed) - before
}

/// A trajectory point of 24 bytes on the wire takes 104 in memory and a joint's name of 8 takes 24; a vector that grows holds
/// up to three times what is in it while it moves; and the law holds the message, what it wrote, and what it read again.
/// So 32 bytes a byte is above all of it, and far below what the lengths state.
#[test]
fn no_stated_length_costs_more_than_the_bytes_that_are_there() {
    for kind in 0..7_u8 {
        for length in [0_usize, 1, 20, 100, 1000, 100_000] {
            for fill in [0_u8, 1, 0x0f, 0x10, 0xff] {
                let mut data = vec![kind, 0, 1, 0, 0];
                data.resize(5 + length, fill);
                // As large a length as is believed, wherever one may stand.
                for at in (0..length.saturating_sub(4).min(64)).step_by(4) {
                    let mut lying = data.clone();
                    lying[5 + at..9 + at].copy_from_slice(&(1_u32 << 20).to_le_bytes());
                    let held = most_held(&lying);
                    assert!(
                        held <= 32 * lying.len() + 1024,
                        "{held} bytes for {} of kind {kind}",
                        lying.len()
                    );
                }
            }
        }
    }
}
