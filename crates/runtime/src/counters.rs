//! What was refused, dropped or missed on the bus: every rejection has a name and a counter.

use std::sync::atomic::{AtomicU64, Ordering};

/// The rejections outside the guard, whose rules count for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Missing, of another length, or with a gid that is not 16 bytes.
    AttachmentRefused,
    /// Not the message that it should be.
    PayloadRefused,
    /// An encoding that contradicts the type.
    EncodingRefused,
    /// The right message with another number of values, or without a joint.
    ShapeRefused,
    /// From another process than the one that is being listened to.
    ForeignPublisher,
    /// A part that was already there.
    PartRepeated,
    /// An observation older than the last complete one.
    SequenceOld,
    /// Sequences that never came to be complete.
    SequenceGap,
    /// Parts that a newer complete observation, or too many newer ones, made worthless.
    PartDiscarded,
    /// A publisher that took another's place.
    PublisherReplaced,
    /// Events that the control loop had no room for.
    EventDropped,
    /// Plans that came after their last step, or for an episode that was over.
    PlanDropped,
    /// Plans that took longer than the actions that they were to continue.
    CommitTooShort,
    /// Plans of which the policy seems less sure than it was calibrated to be.
    ConfidenceAlarm,
    /// Plans that failed or panicked.
    PlanFailed,
    /// Episode frames, views or lines of the guard's log that whoever takes them was too slow for.
    RecordDropped,
    /// Commands that were late already when the bus had room for them.
    CommandDropped,
    /// Messages that the bus did not take.
    SendFailed,
    /// Commands that no message can carry: a quaternion without a direction.
    CommandRefused,
}

impl Count {
    const ALL: [(Self, &'static str); 19] = [
        (Self::AttachmentRefused, "attachment_refused"),
        (Self::PayloadRefused, "payload_refused"),
        (Self::EncodingRefused, "encoding_refused"),
        (Self::ShapeRefused, "shape_refused"),
        (Self::ForeignPublisher, "foreign_publisher"),
        (Self::PartRepeated, "part_repeated"),
        (Self::SequenceOld, "sequence_old"),
        (Self::SequenceGap, "sequence_gap"),
        (Self::PartDiscarded, "part_discarded"),
        (Self::PublisherReplaced, "publisher_replaced"),
        (Self::EventDropped, "event_dropped"),
        (Self::PlanDropped, "plan_dropped"),
        (Self::CommitTooShort, "commit_too_short"),
        (Self::ConfidenceAlarm, "confidence_alarm"),
        (Self::PlanFailed, "plan_failed"),
        (Self::RecordDropped, "record_dropped"),
        (Self::CommandDropped, "command_dropped"),
        (Self::SendFailed, "send_failed"),
        (Self::CommandRefused, "command_refused"),
    ];
}

/// Counters that every thread adds to without waiting.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Count::ALL.len()]);

impl Counters {
    pub fn add(&self, count: Count, by: u64) {
        self.0[count as usize].fetch_add(by, Ordering::Relaxed);
    }

    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Count::ALL.into_iter().map(|(count, name)| (name, self.get(count)))
    }
}
