//! Writing an MCAP file while things happen.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use mcap::records::MessageHeader;
use nudge_wire::{Attachment, MessageType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{GAP_TOPIC, RAW_TOPIC, to_hex};
use crate::DatasetError;

/// Channels after which messages of further publishers are written whole as [`RAW_TOPIC`]; the format ends at 65,535.
const MAX_CHANNELS: usize = 4096;
const CDR: &str = "application/cdr";
const JSON: &str = "application/json";

/// Which way a message went, as the recording process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Received,
    Sent,
}

/// A message as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireMessage {
    pub direction: Direction,
    /// Where it went on the bus.
    pub key: String,
    /// As the bus names it, for example `application/cdr;std_msgs/msg/Bool`.
    pub encoding: String,
    pub payload: Vec<u8>,
    /// The bytes attached to it, sound or not.
    pub attachment: Option<Vec<u8>>,
    /// When it was received or sent: ns since the Unix epoch.
    pub time_ns: u64,
}

/// An MCAP file that grows. Whatever becomes of the program, what was there when [`flush`](Self::flush) came back is read
/// again.
pub struct McapLog {
    path: PathBuf,
    writer: mcap::Writer<BufWriter<File>>,
    channels: BTreeMap<Place, u16>,
    /// Messages of [`RAW_TOPIC`] and of each other topic of JSON so far.
    counted: BTreeMap<String, u32>,
}

/// What one channel is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// On the bus; of what this program itself has to say, the topic.
    key: String,
    encoding: String,
    /// `None` for what this program itself has to say.
    wire: Option<(Direction, Option<[u8; 16]>)>,
}

impl McapLog {
    /// Begins the file.
    ///
    /// # Errors
    /// When it exists, or the disk refuses.
    pub fn create(path: &Path) -> Result<Self, DatasetError> {
        if path.symlink_metadata().is_ok() {
            return Err(DatasetError::Exists { path: path.to_owned() });
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(DatasetError::io(parent))?;
        }
        let file = File::create_new(path).map_err(DatasetError::io(path))?;
        let options = mcap::WriteOptions::new()
            .profile("ros2")
            .library(concat!("nudge ", env!("CARGO_PKG_VERSION")))
            .compression_threads(0);
        let writer = options.create(BufWriter::new(file)).map_err(unwritten(path))?;
        Ok(Self { path: path.to_owned(), writer, channels: BTreeMap::new(), counted: BTreeMap::new() })
    }

    /// Adds a message that was on the wire, so that nothing about it is lost.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn wire(&mut self, message: &WireMessage) -> Result<(), DatasetError> {
        let attachment = message.attachment.as_deref().map(Attachment::decode);
        // What the format's own numbers hold, sequence and source time, is not there twice.
        let header = match attachment {
            None => Some((None, 0, message.time_ns)),
            Some(Ok(Attachment { sequence, source_time_ns, gid })) => {
                let numbers = u32::try_from(sequence).ok().zip(u64::try_from(source_time_ns).ok());
                numbers.map(|(sequence, source_time_ns)| (Some(gid), sequence, source_time_ns))
            }
            Some(Err(_)) => None,
        };
        let Some((gid, sequence, publish_time)) = header else { return self.raw(message) };
        let place = Place {
            key: message.key.clone(),
            encoding: message.encoding.clone(),
            wire: Some((message.direction, gid)),
        };
        let Some(channel) = self.channel(place)? else { return self.raw(message) };
        let header = MessageHeader { channel_id: channel, sequence, log_time: message.time_ns, publish_time };
        self.writer.write_to_known_channel(&header, &message.payload).map_err(unwritten(&self.path))
    }

    /// Says that so many messages could not be recorded.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn gap(&mut self, time_ns: u64, lost: u64) -> Result<(), DatasetError> {
        self.say(GAP_TOPIC, time_ns, &json!({ "lost": lost }))
    }

    /// Adds what this program itself has to say.
    ///
    /// # Errors
    /// When the disk refuses, or there are too many topics.
    pub fn say(&mut self, topic: &str, time_ns: u64, what: &impl Serialize) -> Result<(), DatasetError> {
        let payload = serde_json::to_vec(what)
            .map_err(|error| DatasetError::metadata(&self.path, format!("`{topic}`: {error}")))?;
        let place = Place { key: topic.to_owned(), encoding: JSON.to_owned(), wire: None };
        let Some(channel_id) = self.channel(place)? else {
            return Err(DatasetError::metadata(&self.path, format!("no channel is left for `{topic}`")));
        };
        let count = self.counted.entry(topic.to_owned()).or_default();
        *count = count.wrapping_add(1);
        let header = MessageHeader { channel_id, sequence: *count, log_time: time_ns, publish_time: time_ns };
        self.writer.write_to_known_channel(&header, &payload).map_err(unwritten(&self.path))
    }

    /// Hands over to the disk all that was added.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&mut self) -> Result<(), DatasetError> {
        self.writer.flush().map_err(unwritten(&self.path))
    }

    /// Ends the file with its index.
    ///
    /// # Errors
    /// When the disk refuses; what was flushed before is read all the same.
    pub fn finish(mut self) -> Result<(), DatasetError> {
        self.writer.finish().map_err(unwritten(&self.path))?;
        let file = self.writer.into_inner().into_inner().map_err(|error| error.into_error());
        file.and_then(|file| file.sync_all()).map_err(DatasetError::io(&self.path))
    }

    fn raw(&mut self, message: &WireMessage) -> Result<(), DatasetError> {
        let WireMessage { direction, key, encoding, payload, attachment, time_ns } = message;
        let attachment = attachment.as_deref().map(to_hex);
        let what = json!({
            "direction": direction, "key": key, "encoding": encoding, "attachment": attachment,
            "payload": to_hex(payload),
        });
        self.say(RAW_TOPIC, *time_ns, &what)
    }

    /// The channel of this place, which may be a new one; `None` when there are too many.
    fn channel(&mut self, place: Place) -> Result<Option<u16>, DatasetError> {
        if let Some(channel) = self.channels.get(&place) {
            return Ok(Some(*channel));
        }
        // A few are kept for what this program has to say.
        if self.channels.len() >= MAX_CHANNELS && place.wire.is_some() {
            return Ok(None);
        }
        let (kind, schema) = match place.encoding.split_once(';') {
            Some((CDR, name)) => ("cdr", name),
            None if place.encoding == CDR => ("cdr", ""),
            _ if place.encoding == JSON => ("json", ""),
            _ => ("", ""),
        };
        let definition = MessageType::named(schema).map(MessageType::definition);
        let schema = match definition {
            Some(definition) => self.writer.add_schema(schema, "ros2msg", definition.as_bytes()),
            None => Ok(0),
        };
        let mut metadata = BTreeMap::new();
        let mut topic = place.key.clone();
        if let Some((direction, gid)) = place.wire {
            let direction = serde_json::to_value(direction).unwrap_or(Value::Null);
            metadata.insert("direction".to_owned(), direction.as_str().unwrap_or_default().to_owned());
            metadata.insert("encoding".to_owned(), place.encoding.clone());
            metadata.insert("key".to_owned(), place.key.clone());
            topic = topic_of(&place.key);
            metadata.extend(gid.map(|gid| ("gid".to_owned(), to_hex(&gid))));
        }
        let channel = schema.and_then(|schema| self.writer.add_channel(schema, &topic, kind, &metadata));
        let channel = channel.map_err(unwritten(&self.path))?;
        self.channels.insert(place, channel);
        Ok(Some(channel))
    }
}

/// The topic of a key, as ROS 2 names it: of `<domain>/<topic>/<type>/<hash>` that in the middle.
fn topic_of(key: &str) -> String {
    let parts: Vec<&str> = key.split('/').collect();
    let topic = match &parts[..] {
        [_, topic @ .., message, hash]
            if !topic.is_empty() && message.contains("::dds_::") && hash.starts_with("RIHS01_") =>
        {
            topic.join("/")
        }
        _ => key.to_owned(),
    };
    format!("/{topic}")
}

fn unwritten(path: &Path) -> impl FnOnce(mcap::McapError) -> DatasetError + '_ {
    |error| DatasetError::Io {
        path: path.to_owned(),
        source: match error {
            mcap::McapError::Io(source) => source,
            other => std::io::Error::other(other.to_string()),
        },
    }
}
