//! Observations out of several topics, each with its own publisher and its own rate.

use std::time::Duration;

use nudge_wire::Gid;

use crate::counters::{Count, Counters};

/// An observation made of the newest of each topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Whole {
    /// From 1.
    pub sequence: i64,
    /// When the oldest of what it is made of was received: it is as old as that.
    pub received: Duration,
    /// `[Do]`, the features behind each other.
    pub values: Vec<f64>,
    /// Whether a process took over from a silent one since the last observation.
    pub new_publisher: bool,
}

/// Keeps the newest of each topic. An observation is made whenever every topic has brought something new since the last
/// one, so the slowest topic sets the rate, and when one falls silent there are no more.
#[derive(Debug)]
pub(crate) struct Newest {
    topics: Vec<Topic>,
    /// Numbers of each feature, and its newest ones.
    features: Vec<(usize, Vec<f64>)>,
    /// A silence after which another publisher of a topic may take over.
    silence: Duration,
    sequence: i64,
    new_publisher: bool,
}

#[derive(Debug, Default)]
struct Topic {
    publisher: Option<Publisher>,
    /// An episode has begun, so another publisher may take over at once.
    open: bool,
    /// When its newest message was received, if it is not in an observation yet.
    fresh: Option<Duration>,
}

#[derive(Debug)]
struct Publisher {
    gid: Gid,
    last: i64,
    heard_at: Duration,
}

impl Newest {
    /// For `topics` topics and features of `dims` numbers each.
    pub(crate) fn new(topics: usize, dims: &[usize], silence: Duration) -> Self {
        Self {
            topics: (0..topics).map(|_| Topic::default()).collect(),
            features: dims.iter().map(|dim| (*dim, Vec::new())).collect(),
            silence,
            sequence: 0,
            new_publisher: false,
        }
    }

    /// A new episode begins: what has come so far is dropped, and whoever publishes first is listened to.
    pub(crate) fn reset(&mut self) {
        for topic in &mut self.topics {
            topic.open = true;
            topic.fresh = None;
        }
    }

    /// Takes a message of `topic` received at `now`: the features that it carries, by their index. `sender` is its
    /// publisher and sequence, where the message says them. What is not taken is counted.
    pub(crate) fn take(
        &mut self,
        now: Duration,
        topic: usize,
        sender: Option<(Gid, i64)>,
        carried: Vec<(usize, Vec<f64>)>,
        counters: &Counters,
    ) -> Option<Whole> {
        if carried.iter().any(|(feature, values)| values.len() != self.features[*feature].0) {
            counters.add(Count::ShapeRefused, 1);
            return None;
        }
        if let Some((gid, sequence)) = sender {
            let replaced = self.topics[topic].listen_to(now, self.silence, gid, sequence, counters)?;
            self.new_publisher |= replaced;
        }
        self.topics[topic].fresh = Some(now);
        for (feature, values) in carried {
            self.features[feature].1 = values;
        }
        let received = self.topics.iter().map(|topic| topic.fresh).collect::<Option<Vec<_>>>()?;
        self.topics.iter_mut().for_each(|topic| topic.fresh = None);
        self.sequence += 1;
        Some(Whole {
            sequence: self.sequence,
            received: received.into_iter().min().unwrap_or(now),
            values: self.features.iter().flat_map(|(_, values)| values.iter().copied()).collect(),
            new_publisher: std::mem::take(&mut self.new_publisher),
        })
    }
}

impl Topic {
    /// Whether a publisher took another's place; `None` when the message is not taken.
    fn listen_to(
        &mut self,
        now: Duration,
        silence: Duration,
        gid: Gid,
        sequence: i64,
        counters: &Counters,
    ) -> Option<bool> {
        let open = std::mem::take(&mut self.open);
        let mut replaced = false;
        match &mut self.publisher {
            Some(publisher) if publisher.gid == gid => {
                if sequence <= publisher.last {
                    counters.add(Count::SequenceOld, 1);
                    return None;
                }
                counters.add(Count::SequenceGap, (sequence - publisher.last - 1).unsigned_abs());
            }
            Some(publisher) if !open && now.saturating_sub(publisher.heard_at) <= silence => {
                counters.add(Count::ForeignPublisher, 1);
                return None;
            }
            Some(_) => {
                counters.add(Count::PublisherReplaced, 1);
                replaced = !open;
            }
            None => {}
        }
        self.publisher = Some(Publisher { gid, last: sequence, heard_at: now });
        Some(replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM: Gid = [1; 16];
    const HAND: Gid = [2; 16];
    const OTHER: Gid = [3; 16];
    const SILENCE: Duration = Duration::from_millis(100);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Topic 0 brings features 0 and 2, topic 1 brings feature 1.
    struct Bench {
        newest: Newest,
        counters: Counters,
    }

    impl Bench {
        fn new() -> Self {
            Self { newest: Newest::new(2, &[1, 2, 1], SILENCE), counters: Counters::default() }
        }

        fn arm(&mut self, now: Duration, gid: Gid, sequence: i64) -> Option<Whole> {
            let value = sequence as f64;
            let carried = vec![(0, vec![value]), (2, vec![-value])];
            self.newest.take(now, 0, Some((gid, sequence)), carried, &self.counters)
        }

        fn hand(&mut self, now: Duration, gid: Gid, sequence: i64) -> Option<Whole> {
            let value = sequence as f64;
            self.newest.take(now, 1, Some((gid, sequence)), vec![(1, vec![value, value])], &self.counters)
        }
    }

    #[test]
    fn the_slowest_topic_sets_the_rate_and_the_newest_of_each_counts() {
        let mut bench = Bench::new();
        for sequence in 1..=5 {
            assert_eq!(bench.arm(ms(sequence as u64), ARM, sequence), None);
        }
        let whole = bench.hand(ms(9), HAND, 70).unwrap();
        assert_eq!((whole.sequence, whole.received), (1, ms(5)));
        assert_eq!(whole.values, [5.0, 70.0, 70.0, -5.0]);
        assert_eq!(bench.hand(ms(10), HAND, 71), None);
        let whole = bench.arm(ms(30), ARM, 6).unwrap();
        assert_eq!((whole.sequence, whole.received), (2, ms(10)));
    }

    #[test]
    fn when_one_topic_is_silent_there_is_no_observation() {
        let mut bench = Bench::new();
        bench.arm(ms(0), ARM, 1);
        assert!(bench.hand(ms(0), HAND, 1).is_some());
        assert!((2..1000).all(|sequence| bench.arm(ms(sequence as u64), ARM, sequence).is_none()));
    }

    #[test]
    fn repeated_and_old_messages_are_dropped_and_gaps_counted_for_each_publisher() {
        let mut bench = Bench::new();
        bench.arm(ms(0), ARM, 5);
        bench.hand(ms(0), HAND, 100);
        for old in [5, 4, 1] {
            assert_eq!(bench.arm(ms(1), ARM, old), None);
        }
        assert_eq!(bench.hand(ms(1), HAND, 101), None);
        assert!(bench.arm(ms(2), ARM, 9).is_some());
        assert_eq!(bench.counters.get(Count::SequenceOld), 3);
        assert_eq!(bench.counters.get(Count::SequenceGap), 3);
    }

    #[test]
    fn another_publisher_is_followed_only_after_a_silence_or_a_reset() {
        let mut bench = Bench::new();
        bench.arm(ms(0), ARM, 5);
        bench.hand(ms(0), HAND, 1);
        assert_eq!(bench.arm(SILENCE, OTHER, 1), None);
        assert_eq!(bench.counters.get(Count::ForeignPublisher), 1);
        assert_eq!(bench.arm(SILENCE + ms(1), OTHER, 2), None);
        assert!(bench.hand(SILENCE + ms(2), HAND, 2).unwrap().new_publisher);
        assert_eq!(bench.counters.get(Count::PublisherReplaced), 1);
        bench.newest.reset();
        assert_eq!(bench.arm(SILENCE + ms(3), ARM, 1), None);
        assert!(!bench.hand(SILENCE + ms(4), HAND, 3).unwrap().new_publisher);
    }

    #[test]
    fn without_a_sender_everything_is_new_and_another_shape_is_refused() {
        let mut newest = Newest::new(1, &[2], SILENCE);
        let counters = Counters::default();
        for sequence in 1..=3 {
            let whole = newest.take(ms(7), 0, None, vec![(0, vec![1.0, 2.0])], &counters).unwrap();
            assert_eq!(whole.sequence, sequence);
        }
        assert_eq!(newest.take(ms(8), 0, None, vec![(0, vec![1.0])], &counters), None);
        assert_eq!(counters.get(Count::ShapeRefused), 1);
    }
}
