//! Observations out of their parts, whatever order these come in.

use std::collections::VecDeque;
use std::time::Duration;

use nudge_wire::Gid;

use crate::counters::{Count, Counters};
use crate::robot_file::Pace;

/// Most observations that may be incomplete at a time.
const MAX_PENDING: usize = 8;

/// What a part made complete.
#[derive(Clone, Debug, PartialEq)]
pub enum Assembled {
    /// A new observation.
    Complete {
        sequence: i64,
        /// `[Do]`, the features behind each other.
        values: Vec<f64>,
        /// Whether it is the first one of a process that took over from a silent one.
        new_publisher: bool,
    },
    /// The last complete observation has come again whole (lockstep: its command was lost).
    Repeated { sequence: i64 },
}

/// Gathers the parts of observations by sender and sequence.
#[derive(Debug)]
pub struct Assembly {
    /// Numbers of each feature.
    dims: Vec<usize>,
    pace: Pace,
    /// A silence after which another process may take over.
    silence: Duration,
    publisher: Option<Publisher>,
    /// An episode has begun, so another process may take over at once.
    open: bool,
    pending: VecDeque<Pending>,
}

#[derive(Debug)]
struct Publisher {
    gid: Gid,
    heard_at: Duration,
    last_complete: Option<i64>,
    /// Whether it took over from a silent one, and nobody was told yet.
    took_over: bool,
}

#[derive(Debug)]
struct Pending {
    sequence: i64,
    parts: Vec<Option<Vec<f64>>>,
}

impl Assembly {
    /// For features of `dims` numbers each.
    pub fn new(dims: Vec<usize>, pace: Pace, silence: Duration) -> Self {
        Self { dims, pace, silence, publisher: None, open: true, pending: VecDeque::new() }
    }

    /// A new episode begins: parts so far are dropped, and whoever sends first is listened to.
    pub fn reset(&mut self) {
        self.open = true;
        self.pending.clear();
    }

    /// Takes one part, received at `now`; what is not taken is counted.
    pub fn take(
        &mut self,
        now: Duration,
        (gid, sequence): (Gid, i64),
        feature: usize,
        values: Vec<f64>,
        counters: &Counters,
    ) -> Option<Assembled> {
        if values.len() != self.dims[feature] {
            counters.add(Count::ShapeRefused, 1);
            return None;
        }
        if !self.listen_to(now, gid, counters) {
            counters.add(Count::ForeignPublisher, 1);
            return None;
        }
        let last = self.publisher.as_ref()?.last_complete;
        let repeats = self.pace == Pace::Observation && last == Some(sequence);
        if !repeats && last.is_some_and(|last| sequence <= last) {
            counters.add(Count::SequenceOld, 1);
            return None;
        }
        let parts = self.parts_of(sequence, counters)?;
        if parts[feature].replace(values).is_some() {
            counters.add(Count::PartRepeated, 1);
        }
        if parts.iter().any(Option::is_none) {
            return None;
        }
        let values = parts.iter_mut().filter_map(Option::take).flatten().collect();
        self.discard_through(sequence, counters);
        let publisher = self.publisher.as_mut()?;
        if repeats {
            return Some(Assembled::Repeated { sequence });
        }
        if let Some(last) = publisher.last_complete.replace(sequence) {
            counters.add(Count::SequenceGap, (sequence - last - 1).unsigned_abs());
        }
        let new_publisher = std::mem::take(&mut publisher.took_over);
        Some(Assembled::Complete { sequence, values, new_publisher })
    }

    /// Whether parts of `gid` are taken; another process is followed only after a reset or a silence.
    fn listen_to(&mut self, now: Duration, gid: Gid, counters: &Counters) -> bool {
        let open = std::mem::take(&mut self.open);
        match &mut self.publisher {
            Some(publisher) if publisher.gid == gid => {
                publisher.heard_at = now;
                return true;
            }
            Some(publisher) if !open && now.saturating_sub(publisher.heard_at) <= self.silence => {
                return false;
            }
            Some(_) => counters.add(Count::PublisherReplaced, 1),
            None => {}
        }
        let took_over = self.publisher.is_some() && !open;
        self.publisher = Some(Publisher { gid, heard_at: now, last_complete: None, took_over });
        counters.add(Count::PartDiscarded, held(&self.pending));
        self.pending.clear();
        true
    }

    /// The parts of `sequence`; for a new one the oldest makes room, and there is none when it would be the oldest.
    fn parts_of(&mut self, sequence: i64, counters: &Counters) -> Option<&mut Vec<Option<Vec<f64>>>> {
        let mut at = self.pending.partition_point(|pending| pending.sequence < sequence);
        if self.pending.get(at).is_none_or(|pending| pending.sequence != sequence) {
            if self.pending.len() == MAX_PENDING {
                if at == 0 {
                    counters.add(Count::PartDiscarded, 1);
                    return None;
                }
                counters.add(Count::PartDiscarded, held(self.pending.iter().take(1)));
                self.pending.pop_front();
                at -= 1;
            }
            self.pending.insert(at, Pending { sequence, parts: vec![None; self.dims.len()] });
        }
        Some(&mut self.pending[at].parts)
    }

    /// Drops what is pending of `sequence` and of everything before it.
    fn discard_through(&mut self, sequence: i64, counters: &Counters) {
        let count = self.pending.partition_point(|pending| pending.sequence <= sequence);
        counters.add(Count::PartDiscarded, held(self.pending.iter().take(count)));
        self.pending.drain(..count);
    }
}

/// How many parts these hold.
fn held<'a>(pending: impl IntoIterator<Item = &'a Pending>) -> u64 {
    pending.into_iter().map(|pending| pending.parts.iter().flatten().count() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROBOT: Gid = [1; 16];
    const OTHER: Gid = [2; 16];
    const SILENCE: Duration = Duration::from_millis(250);

    struct Bench {
        assembly: Assembly,
        counters: Counters,
        now: Duration,
    }

    impl Bench {
        fn new(pace: Pace) -> Self {
            let assembly = Assembly::new(vec![1, 2], pace, SILENCE);
            Self { assembly, counters: Counters::default(), now: Duration::ZERO }
        }

        /// Part 0 or 1 of an observation whose numbers are its sequence.
        fn part(&mut self, gid: Gid, sequence: i64, feature: usize) -> Option<Assembled> {
            let values = vec![sequence as f64; feature + 1];
            self.assembly.take(self.now, (gid, sequence), feature, values, &self.counters)
        }

        fn count(&self, count: Count) -> u64 {
            self.counters.get(count)
        }
    }

    fn complete(sequence: i64, new_publisher: bool) -> Option<Assembled> {
        Some(Assembled::Complete { sequence, values: vec![sequence as f64; 3], new_publisher })
    }

    #[test]
    fn parts_make_an_observation_in_either_order() {
        let mut bench = Bench::new(Pace::Clock);
        assert_eq!(bench.part(ROBOT, 1, 1), None);
        assert_eq!(bench.part(ROBOT, 1, 0), complete(1, false));
        assert_eq!(bench.part(ROBOT, 2, 0), None);
        assert_eq!(bench.part(ROBOT, 2, 1), complete(2, false));
    }

    #[test]
    fn a_newer_complete_observation_discards_older_parts() {
        let mut bench = Bench::new(Pace::Clock);
        bench.part(ROBOT, 1, 0);
        bench.part(ROBOT, 2, 0);
        bench.part(ROBOT, 4, 1);
        assert_eq!(bench.part(ROBOT, 2, 1), complete(2, false));
        assert_eq!(bench.count(Count::PartDiscarded), 1);
        assert_eq!(bench.part(ROBOT, 1, 1), None);
        assert_eq!(bench.count(Count::SequenceOld), 1);
        assert_eq!(bench.part(ROBOT, 4, 0), complete(4, false));
        assert_eq!(bench.count(Count::SequenceGap), 1);
    }

    #[test]
    fn at_most_eight_are_pending() {
        let mut bench = Bench::new(Pace::Clock);
        for sequence in 1..=1000 {
            assert_eq!(bench.part(ROBOT, sequence, 0), None);
            assert!(bench.assembly.pending.len() <= MAX_PENDING);
        }
        assert_eq!(bench.count(Count::PartDiscarded), 992);
        assert_eq!(bench.part(ROBOT, 992, 1), None);
        assert_eq!(bench.assembly.pending.len(), MAX_PENDING);
        assert_eq!(bench.part(ROBOT, 993, 1), complete(993, false));
    }

    #[test]
    fn any_shuffle_with_duplicates_gives_rising_whole_observations() {
        let mut bench = Bench::new(Pace::Clock);
        let mut parts: Vec<(i64, usize)> = (1..=200).flat_map(|s| [(s, 0), (s, 1), (s, 1)]).collect();
        let mut seed = 3;
        for index in 0..parts.len() {
            seed = nudge_control::split_mix_64(seed);
            let other = (index + seed as usize % 12).min(parts.len() - 1);
            parts.swap(index, other);
        }
        let mut last = 0;
        let mut count = 0;
        for (sequence, feature) in parts {
            if let Some(assembled) = bench.part(ROBOT, sequence, feature) {
                assert_eq!(assembled, complete(sequence, false).unwrap());
                assert!(sequence > last);
                last = sequence;
                count += 1;
            }
        }
        assert!(count > 50, "only {count} observations came out");
        let gaps = bench.count(Count::SequenceGap);
        assert!(gaps > 0 && count + gaps <= 200);
    }

    #[test]
    fn in_lockstep_a_resent_observation_completes_or_repeats() {
        let mut bench = Bench::new(Pace::Observation);
        bench.part(ROBOT, 1, 0);
        assert_eq!(bench.part(ROBOT, 1, 0), None);
        assert_eq!(bench.part(ROBOT, 1, 1), complete(1, false));
        assert_eq!(bench.part(ROBOT, 1, 1), None);
        assert_eq!(bench.part(ROBOT, 1, 0), Some(Assembled::Repeated { sequence: 1 }));
        assert_eq!(bench.part(ROBOT, 1, 0), None);
        assert_eq!(bench.part(ROBOT, 2, 0), None);
        assert_eq!(bench.part(ROBOT, 2, 1), complete(2, false));
        let mut clock = Bench::new(Pace::Clock);
        clock.part(ROBOT, 1, 0);
        clock.part(ROBOT, 1, 1);
        assert_eq!(clock.part(ROBOT, 1, 0), None);
        assert_eq!(clock.count(Count::SequenceOld), 1);
    }

    #[test]
    fn another_process_is_followed_only_after_a_silence_or_a_reset() {
        let mut bench = Bench::new(Pace::Clock);
        bench.part(ROBOT, 7, 0);
        assert_eq!(bench.part(ROBOT, 7, 1), complete(7, false));
        bench.now += SILENCE;
        assert_eq!(bench.part(OTHER, 1, 0), None);
        assert_eq!(bench.count(Count::ForeignPublisher), 1);
        bench.now += Duration::from_millis(1);
        assert_eq!(bench.part(OTHER, 1, 0), None);
        assert_eq!(bench.part(OTHER, 1, 1), complete(1, true));
        bench.part(OTHER, 2, 0);
        assert_eq!(bench.part(OTHER, 2, 1), complete(2, false));
        bench.assembly.reset();
        bench.part(ROBOT, 8, 0);
        assert_eq!(bench.part(ROBOT, 8, 1), complete(8, false));
        assert_eq!(bench.count(Count::PublisherReplaced), 2);
    }

    #[test]
    fn a_part_of_another_shape_is_refused() {
        let mut bench = Bench::new(Pace::Clock);
        let taken = bench.assembly.take(bench.now, (ROBOT, 1), 1, vec![0.0; 3], &bench.counters);
        assert_eq!((taken, bench.count(Count::ShapeRefused)), (None, 1));
    }
}
