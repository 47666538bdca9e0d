//! What an MCAP file holds, topic by topic, and what is missing in it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::{GAP_TOPIC, McapMessage, read_mcap};
use crate::DatasetError;

/// What an MCAP file holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct McapReport {
    /// From its first message to its last.
    pub secs: f64,
    /// In the order of their names.
    pub topics: Vec<TopicReport>,
    /// Messages that the recording program says it could not record.
    pub not_recorded: u64,
    /// Why the file ends before its end, if it does.
    pub damage: Option<String>,
}

/// What there is of one topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TopicReport {
    pub topic: String,
    /// Type of the messages, or how they are encoded where no type is stated.
    pub message: String,
    pub messages: u64,
    /// Messages a second, from the first to the last; 0 of a single one.
    pub hz: f64,
    /// From one message to the next, and how long after the file's first message that was.
    pub largest_gap_secs: f64,
    pub largest_gap_at_secs: f64,
    /// Messages missing between others of one sender, by their sequence numbers.
    pub lost: u64,
    /// Messages whose sequence number does not follow on their sender's last.
    pub out_of_order: u64,
}

/// Looks through the whole file.
///
/// # Errors
/// When it cannot be read, or is no MCAP file. What is cut off or damaged is told in the report.
pub fn inspect_mcap(path: &Path) -> Result<McapReport, DatasetError> {
    let mut tally = Tally::default();
    let damage = read_mcap(path, &mut |message| {
        tally.take(&message);
        Ok(())
    })?;
    Ok(tally.report(damage))
}

/// What has been seen so far.
#[derive(Default)]
pub(super) struct Tally {
    topics: BTreeMap<String, Seen>,
    first_ns: Option<u64>,
    last_ns: u64,
    not_recorded: u64,
}

#[derive(Default)]
struct Seen {
    report: TopicReport,
    first_ns: u64,
    last_ns: u64,
    gap_end_ns: u64,
    /// By channel, which is one sender's.
    sequences: BTreeMap<u16, u32>,
}

impl Tally {
    pub(super) fn take(&mut self, message: &McapMessage<'_>) {
        let now = message.log_time_ns;
        self.first_ns = Some(self.first_ns.map_or(now, |first| first.min(now)));
        self.last_ns = self.last_ns.max(now);
        let topic = message.channel.topic.as_str();
        if topic == GAP_TOPIC {
            let gap: Value = serde_json::from_slice(message.payload).unwrap_or(Value::Null);
            self.not_recorded += gap["lost"].as_u64().unwrap_or(0);
        }
        if !self.topics.contains_key(topic) {
            let schema = &message.channel.schema;
            let kind = if schema.is_empty() { &message.channel.encoding } else { schema };
            let report =
                TopicReport { topic: topic.to_owned(), message: kind.clone(), ..TopicReport::default() };
            let seen = Seen { report, first_ns: now, last_ns: now, gap_end_ns: now, ..Seen::default() };
            self.topics.insert(topic.to_owned(), seen);
        }
        let Some(Seen { report, last_ns, gap_end_ns, sequences, .. }) = self.topics.get_mut(topic) else {
            return;
        };
        report.messages += 1;
        let gap_secs = now.saturating_sub(*last_ns) as f64 / 1e9;
        if gap_secs > report.largest_gap_secs {
            (report.largest_gap_secs, *gap_end_ns) = (gap_secs, now);
        }
        *last_ns = now.max(*last_ns);
        // Sequences begin at 1; a sender that counts nothing says 0 throughout.
        let last = sequences.entry(message.channel_id).or_insert(message.sequence);
        match message.sequence.checked_sub(*last) {
            Some(ahead) => {
                report.lost += u64::from(ahead.saturating_sub(1));
                *last = message.sequence;
            }
            None => report.out_of_order += 1,
        }
    }

    pub(super) fn report(self, damage: Option<String>) -> McapReport {
        let first_ns = self.first_ns.unwrap_or_default();
        let topics = self.topics.into_values().map(|seen| {
            let secs = seen.last_ns.saturating_sub(seen.first_ns) as f64 / 1e9;
            let hz = if secs > 0.0 { (seen.report.messages - 1) as f64 / secs } else { 0.0 };
            let largest_gap_at_secs = seen.gap_end_ns.saturating_sub(first_ns) as f64 / 1e9;
            TopicReport {
                hz,
                largest_gap_at_secs: largest_gap_at_secs - seen.report.largest_gap_secs,
                ..seen.report
            }
        });
        McapReport {
            secs: self.last_ns.saturating_sub(first_ns) as f64 / 1e9,
            topics: topics.collect(),
            not_recorded: self.not_recorded,
            damage,
        }
    }
}
