//! Numbers handed from one thread to another without a lock: whoever is slow waits for nobody and holds nobody up.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// The newest message of one writer, `[len]` words; readers see a whole one or none.
///
/// A sequence lock (Boehm, "Can seqlocks get along with programming language memory models?", 2012): the count is odd
/// while a message is written, and a reader whose count has changed meanwhile reads again.
#[derive(Debug)]
pub(crate) struct Slot {
    count: AtomicU64,
    words: Box<[AtomicU64]>,
}

/// A reader that meets the writer so often reads later; the writer needs less than a microsecond.
const TRIES: usize = 64;

impl Slot {
    pub(crate) fn new(len: usize) -> Self {
        Self { count: AtomicU64::new(0), words: (0..len).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Writes a message; only ever one thread may.
    pub(crate) fn write(&self, message: impl IntoIterator<Item = u64>) {
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(message) {
            word.store(value, Ordering::Relaxed);
        }
        self.count.store(count + 2, Ordering::Release);
    }

    /// Reads the newest message into `into`, unless it is the one numbered `known`, or nothing was written; its number.
    pub(crate) fn read(&self, known: u64, into: &mut [u64]) -> Option<u64> {
        for _ in 0..TRIES {
            let count = self.count.load(Ordering::Acquire);
            if count == known || count == 0 {
                return None;
            }
            if count.is_multiple_of(2) {
                for (value, word) in into.iter_mut().zip(&self.words) {
                    *value = word.load(Ordering::Relaxed);
                }
                fence(Ordering::Acquire);
                if self.count.load(Ordering::Relaxed) == count {
                    return Some(count);
                }
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// Messages of `[len]` words in order from one thread to another, a bounded number of them.
#[derive(Debug)]
pub(crate) struct Ring {
    len: usize,
    words: Box<[AtomicU64]>,
    written: AtomicUsize,
    read: AtomicUsize,
}

impl Ring {
    pub(crate) fn new(capacity: usize, len: usize) -> Self {
        let words = (0..capacity * len).map(|_| AtomicU64::new(0)).collect();
        Self { len, words, written: AtomicUsize::new(0), read: AtomicUsize::new(0) }
    }

    /// Adds a message, unless there is no room; only ever one thread may.
    pub(crate) fn push(&self, message: impl IntoIterator<Item = u64>) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        let waiting = written.wrapping_sub(self.read.load(Ordering::Acquire));
        if waiting * self.len >= self.words.len() {
            return false;
        }
        for (word, value) in self.place(written).iter().zip(message) {
            word.store(value, Ordering::Relaxed);
        }
        self.written.store(written.wrapping_add(1), Ordering::Release);
        true
    }

    /// Takes the oldest message into `into`; false when none waits. Only ever one thread may.
    pub(crate) fn pop(&self, into: &mut [u64]) -> bool {
        let read = self.read.load(Ordering::Relaxed);
        if self.written.load(Ordering::Acquire) == read {
            return false;
        }
        for (value, word) in into.iter_mut().zip(self.place(read)) {
            *value = word.load(Ordering::Relaxed);
        }
        self.read.store(read.wrapping_add(1), Ordering::Release);
        true
    }

    /// Messages that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.written.load(Ordering::Acquire).wrapping_sub(self.read.load(Ordering::Relaxed))
    }

    fn place(&self, number: usize) -> &[AtomicU64] {
        let capacity = self.words.len() / self.len;
        &self.words[number % capacity * self.len..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    const LEN: usize = 24;

    #[test]
    fn a_reader_sees_whole_messages_only_and_never_an_older_one() {
        let (slot, done) = (Slot::new(LEN), AtomicBool::new(false));
        assert_eq!(slot.read(0, &mut [0; LEN]), None);
        let seen = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut known, mut last, mut seen) = (0, 0, 0_u64);
                let mut message = [0; LEN];
                while !done.load(Ordering::Relaxed) || seen == 0 {
                    let Some(number) = slot.read(known, &mut message) else { continue };
                    assert!(message.iter().all(|word| *word == message[0]), "torn: {message:?}");
                    assert!(message[0] > last && number > known);
                    (known, last) = (number, message[0]);
                    seen += 1;
                }
                seen
            });
            for value in 1..=1_000_000 {
                slot.write([value; LEN]);
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert!(seen > 0);
        let mut message = [0; LEN];
        let number = slot.read(0, &mut message).unwrap();
        assert_eq!((message[0], slot.read(number, &mut message)), (1_000_000, None));
    }

    #[test]
    fn a_ring_loses_nothing_and_keeps_the_order() {
        let ring = Ring::new(8, 3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for value in 0..200_000 {
                    while !ring.push([value; 3]) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut message = [0; 3];
            for value in 0..200_000 {
                while !ring.pop(&mut message) {
                    std::thread::yield_now();
                }
                assert_eq!(message, [value; 3]);
            }
        });
        assert_eq!(ring.waiting(), 0);
        assert!((0..8).all(|value| ring.push([value; 3])) && !ring.push([9; 3]));
        assert_eq!(ring.waiting(), 8);
    }
}
