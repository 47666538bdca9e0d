//! Reading an MCAP file, as far as it goes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use mcap::records::Record;
use mcap::sans_io::linear_reader::{LinearReadEvent, LinearReader, LinearReaderOptions};
use nudge_wire::Attachment;
use serde_json::Value;

use super::chunk;
use super::write::{Direction, WireMessage};
use super::{RAW_TOPIC, from_hex};
use crate::DatasetError;
use crate::error::guarded;

/// No record of a recording is larger; a length beyond it is damage, and nothing is reserved for it.
const MAX_RECORD_BYTES: usize = 256 << 20;
/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Where messages come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct McapChannel {
    pub topic: String,
    /// How its messages are encoded, for example `cdr`.
    pub encoding: String,
    /// The type of its messages, for example `std_msgs/msg/Bool`; empty where none is stated.
    pub schema: String,
    pub metadata: BTreeMap<String, String>,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McapMessage<'a> {
    pub channel: &'a McapChannel,
    /// Tells channels of one topic apart.
    pub channel_id: u16,
    pub sequence: u32,
    /// ns since the Unix epoch: when it was recorded, and when it was sent by the sender's clock.
    pub log_time_ns: u64,
    pub publish_time_ns: u64,
    pub payload: &'a [u8],
}

impl McapMessage<'_> {
    /// The message as it was on the wire; `None` when it is none that [`McapLog`](super::McapLog) recorded there.
    pub fn on_the_wire(&self) -> Option<WireMessage> {
        let direction = |text: &str| match text {
            "received" => Some(Direction::Received),
            "sent" => Some(Direction::Sent),
            _ => None,
        };
        if self.channel.topic == RAW_TOPIC {
            let raw: Value = serde_json::from_slice(self.payload).ok()?;
            let text = |name: &str| raw[name].as_str();
            return Some(WireMessage {
                direction: direction(text("direction")?)?,
                key: text("key")?.to_owned(),
                encoding: text("encoding")?.to_owned(),
                payload: from_hex(text("payload")?)?,
                attachment: match &raw["attachment"] {
                    Value::Null => None,
                    bytes => Some(from_hex(bytes.as_str()?)?),
                },
                time_ns: self.log_time_ns,
            });
        }
        let metadata = &self.channel.metadata;
        let attachment = match metadata.get("gid") {
            None => None,
            Some(gid) => {
                let gid = from_hex(gid)?.try_into().ok()?;
                let source_time_ns = i64::try_from(self.publish_time_ns).ok()?;
                let attachment = Attachment { sequence: self.sequence.into(), source_time_ns, gid };
                Some(attachment.encode().to_vec())
            }
        };
        Some(WireMessage {
            direction: direction(metadata.get("direction")?)?,
            key: metadata.get("key")?.clone(),
            encoding: metadata.get("encoding")?.clone(),
            payload: self.payload.to_vec(),
            attachment,
            time_ns: self.log_time_ns,
        })
    }
}

/// Shows `visit` every message in the order of the file. What was cut off or damaged ends it, and is told: then all that
/// comes before was whole, each chunk by its checksum.
///
/// # Errors
/// When the file cannot be opened or is no MCAP file, and whatever `visit` gives.
pub fn read_mcap(
    path: &Path,
    visit: &mut dyn FnMut(McapMessage<'_>) -> Result<(), DatasetError>,
) -> Result<Option<String>, DatasetError> {
    let mut file = File::open(path).map_err(DatasetError::io(path))?;
    let length = file.metadata().map_err(DatasetError::io(path))?.len();
    // What is longer than the file is a lie; so nothing is ever reserved for one.
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let options = LinearReaderOptions::default()
        .with_emit_chunks(true)
        .with_validate_data_section_crc(true)
        .with_validate_summary_section_crc(true)
        .with_check_finishes_after_end_magic(true)
        .with_record_length_limit(MAX_RECORD_BYTES.min(length));
    let mut reader = LinearReader::new_with_options(options);
    let mut known = Known::default();
    let (mut records, mut at, mut refused) = (0_u64, 0_u64, None);
    let mut chunked = false;
    let damage = loop {
        let mut wanted = None;
        let step = guarded(|| -> Result<bool, mcap::McapError> {
            match reader.next_event() {
                None => return Ok(false),
                Some(event) => match event? {
                    LinearReadEvent::ReadRequest(bytes) => wanted = Some(bytes),
                    LinearReadEvent::Record { opcode, data } => {
                        records += 1;
                        match mcap::parse_record(opcode, data)? {
                            Record::Chunk { header, data } => {
                                chunked = true;
                                let whole = chunk::unpack(&header, &data)?;
                                let mut rest = whole.as_slice();
                                while refused.is_none() && !rest.is_empty() {
                                    let (opcode, body) = chunk::record(&mut rest)?;
                                    refused = known.take(mcap::parse_record(opcode, body)?, visit).err();
                                }
                            }
                            // Nothing but a checksum at the end of the file stands for what is outside of chunks.
                            Record::Message { .. } if chunked => return Err(mcap::McapError::UnexpectedEoc),
                            // A kind that no version knows may be a chunk whose kind was damaged.
                            Record::Unknown { .. } => return Err(mcap::McapError::UnexpectedEoc),
                            record => refused = known.take(record, visit).err(),
                        }
                    }
                },
            }
            Ok(true)
        });
        if let Some(error) = refused.take() {
            return Err(error);
        }
        match step {
            Err(problem) => break Some(problem),
            Ok(false) => break None,
            Ok(true) => {}
        }
        if let Some(wanted) = wanted {
            // No more than what has come makes room for more: lengths may lie.
            let read = file
                .read(reader.insert(wanted.clamp(1, READ_BYTES.min(length + 1))))
                .map_err(DatasetError::io(path))?;
            at += read as u64;
            reader.notify_read(read);
        }
    };
    let Some(problem) = damage else { return Ok(None) };
    if records == 0 {
        let problem = format!("not an MCAP file, or cut off before anything was recorded ({problem})");
        return Err(DatasetError::NotADataset { path: path.to_owned(), problem });
    }
    Ok(Some(format!(
        "{} is cut off or damaged at or before byte {at} ({problem}); what comes before is whole",
        path.display()
    )))
}

/// Schemas and channels so far.
#[derive(Default)]
struct Known {
    schemas: BTreeMap<u16, String>,
    channels: BTreeMap<u16, McapChannel>,
}

impl Known {
    fn take(
        &mut self,
        record: Record<'_>,
        visit: &mut dyn FnMut(McapMessage<'_>) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        match record {
            Record::Schema { header, .. } => drop(self.schemas.insert(header.id, header.name)),
            Record::Channel(channel) => {
                let schema = self.schemas.get(&channel.schema_id).cloned().unwrap_or_default();
                let known = McapChannel {
                    topic: channel.topic,
                    encoding: channel.message_encoding,
                    schema,
                    metadata: channel.metadata,
                };
                self.channels.insert(channel.id, known);
            }
            Record::Message { header, data } => {
                // Before its channel the format allows no message; there is nothing to be known about it.
                let Some(channel) = self.channels.get(&header.channel_id) else { return Ok(()) };
                return visit(McapMessage {
                    channel,
                    channel_id: header.channel_id,
                    sequence: header.sequence,
                    log_time_ns: header.log_time,
                    publish_time_ns: header.publish_time,
                    payload: &data,
                });
            }
            _ => {}
        }
        Ok(())
    }
}
