//! One end of the bus: a zenoh session, and messages with their attachments on the keys of one robot.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nudge_wire::{ATTACHMENT_LENGTH, Attachment, Gid, MessageType};
use rand::RngCore;
use zenoh::Wait;
use zenoh::bytes::{Encoding, ZBytes};
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::{Query, QueryTarget, Queryable};
use zenoh::sample::{Locality, Sample};

use crate::RuntimeError;
use crate::counters::{Count, Counters};
use crate::robot_file::{Endpoints, SessionMode};

/// Batches that may wait in a link for each priority; zenoh's own 2 lose observations on a busy machine.
const QUEUE_BATCHES: u32 = 16;
pub(crate) const JSON: &str = "application/json";
const CDR: &str = "application/cdr";

/// A message as it came or went, for whoever records it.
pub struct OnWire<'a> {
    pub sent: bool,
    pub key: &'a str,
    pub encoding: &'a str,
    pub payload: &'a [u8],
    pub attachment: Option<&'a [u8]>,
}

/// Is shown every message that comes, sound or not, and every one that goes. Called on the threads that send and
/// receive, so it must not wait.
pub type WireTap = Arc<dyn Fn(&OnWire<'_>) + Send + Sync>;

/// One end of the bus.
pub(crate) struct Bus {
    session: zenoh::Session,
    prefix: String,
    tap: Option<WireTap>,
    pub gid: Gid,
    pub counters: Arc<Counters>,
}

/// How a stream is sent: `Drop` for all, so that no sender ever waits for a receiver.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    /// The message type of CDR, or `None` for JSON.
    pub message: Option<&'static str>,
    pub priority: Priority,
    /// Sent at once, and not gathered with others.
    pub express: bool,
}

pub(crate) const FLOATS: &str = "std_msgs/msg/Float64MultiArray";
pub(crate) const TRUTH: &str = "std_msgs/msg/Bool";
pub(crate) const TEXT: &str = "std_msgs/msg/String";

pub(crate) const COMMAND: Stream =
    Stream { message: Some(FLOATS), priority: Priority::RealTime, express: true };
pub(crate) const ESTOP: Stream = Stream { message: Some(TRUTH), priority: Priority::RealTime, express: true };
pub(crate) const HEARTBEAT: Stream =
    Stream { message: Some(TEXT), priority: Priority::InteractiveHigh, express: true };
/// A feature of an observation, in a message of that type.
pub(crate) fn observed(message: MessageType) -> Stream {
    Stream { message: Some(message.name()), priority: Priority::DataHigh, express: true }
}

/// A command in a message of that type.
pub(crate) fn commanded(message: MessageType) -> Stream {
    Stream { message: Some(message.name()), ..COMMAND }
}
pub(crate) const CHUNK: Stream = Stream { message: Some(FLOATS), priority: Priority::Data, express: false };
pub(crate) const STATUS: Stream = Stream { message: None, priority: Priority::Data, express: false };

/// A key that this end sends on; sequences count from 1.
pub(crate) struct Outlet {
    publisher: Publisher<'static>,
    tap: Option<WireTap>,
    encoding: String,
    gid: Gid,
    sequence: AtomicI64,
}

/// What somebody asks.
pub(crate) struct Question {
    query: Query,
    gid: Gid,
    tap: Option<WireTap>,
}

/// A reply to a question: who gave it, where it said so, and its text.
pub(crate) struct Reply {
    pub gid: Option<Gid>,
    pub text: String,
}

impl Bus {
    /// Opens the session. A peer waits for nobody: connecting is tried again and again in the background. A client is one
    /// of a router's, which must be there.
    pub(crate) fn open(endpoints: &Endpoints, prefix: &str) -> Result<Self, RuntimeError> {
        let file = endpoints.config.as_deref().map(|file| format!(" in {}", file.display()));
        let reading = format!("reading its configuration{}", file.unwrap_or_default());
        let config = config(endpoints).map_err(|error| failed(reading, error.as_ref()))?;
        let router = match endpoints.mode {
            Some(SessionMode::Client) => "; a client needs its router there",
            _ => "",
        };
        let doing = format!(
            "opening a session that listens at {:?} and connects to {:?}{router}",
            endpoints.listen, endpoints.connect
        );
        let session = zenoh::open(config).wait().map_err(|error| failed(doing, error.as_ref()))?;
        Ok(Self {
            session,
            prefix: prefix.to_owned(),
            tap: None,
            gid: random_gid(),
            counters: Arc::default(),
        })
    }

    /// Shows `tap` what comes and goes on the keys that are declared from now on.
    pub(crate) fn tapped(self, tap: Option<WireTap>) -> Self {
        Self { tap, ..self }
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    pub(crate) fn session(&self) -> &zenoh::Session {
        &self.session
    }

    pub(crate) fn outlet(&self, name: &str, stream: Stream) -> Result<Outlet, RuntimeError> {
        self.outlet_at(self.key(name), stream)
    }

    /// As [`Bus::outlet`], on a key outside the prefix.
    pub(crate) fn outlet_at(&self, key: String, stream: Stream) -> Result<Outlet, RuntimeError> {
        let encoding =
            stream.message.map_or(Encoding::from(JSON), |message| Encoding::from(CDR).with_schema(message));
        let encoding_text = encoding.to_string();
        let publisher = self
            .session
            .declare_publisher(key.clone())
            .encoding(encoding)
            .priority(stream.priority)
            .congestion_control(CongestionControl::Drop)
            .express(stream.express)
            .wait()
            .map_err(|error| failed(format!("declaring that `{key}` is sent"), error.as_ref()))?;
        Ok(Outlet {
            publisher,
            tap: self.tap.clone(),
            encoding: encoding_text,
            gid: self.gid,
            sequence: AtomicI64::new(0),
        })
    }

    /// Listens to `name` of other processes; what has no good attachment or another type than `message` is counted and
    /// not heard. `heard` runs on zenoh's threads and must not wait.
    pub(crate) fn listen(
        &self,
        name: &str,
        message: Option<&'static str>,
        heard: impl Fn(Attachment, &[u8]) + Send + Sync + 'static,
    ) -> Result<Subscriber<()>, RuntimeError> {
        self.listen_at(self.key(name), message, heard)
    }

    /// As [`Bus::listen`], on a key outside the prefix.
    pub(crate) fn listen_at(
        &self,
        key: String,
        message: Option<&'static str>,
        heard: impl Fn(Attachment, &[u8]) + Send + Sync + 'static,
    ) -> Result<Subscriber<()>, RuntimeError> {
        let counters = self.counters.clone();
        let tap = self.tap.clone();
        let receive = move |sample: Sample| {
            show(tap.as_ref(), &sample);
            if !encoding_fits(sample.encoding(), message) {
                counters.add(Count::EncodingRefused, 1);
                return;
            }
            let attachment = sample.attachment().map(|bytes| Attachment::decode(&bytes.to_bytes()));
            match attachment {
                Some(Ok(attachment)) => heard(attachment, &sample.payload().to_bytes()),
                Some(Err(_)) | None => counters.add(Count::AttachmentRefused, 1),
            }
        };
        self.session
            .declare_subscriber(key.clone())
            .allowed_origin(Locality::Remote)
            .callback(receive)
            .wait()
            .map_err(|error| failed(format!("listening to `{key}`"), error.as_ref()))
    }

    /// Listens to whatever other processes send to `name`, with or without an attachment. `heard` runs on zenoh's
    /// threads and must not wait.
    pub(crate) fn listen_bare(
        &self,
        name: &str,
        heard: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> Result<Subscriber<()>, RuntimeError> {
        self.listen_bare_at(self.key(name), heard)
    }

    /// As [`Bus::listen_bare`], on a key outside the prefix.
    pub(crate) fn listen_bare_at(
        &self,
        key: String,
        heard: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> Result<Subscriber<()>, RuntimeError> {
        let tap = self.tap.clone();
        self.session
            .declare_subscriber(key.clone())
            .allowed_origin(Locality::Remote)
            .callback(move |sample: Sample| {
                show(tap.as_ref(), &sample);
                heard(&sample.payload().to_bytes());
            })
            .wait()
            .map_err(|error| failed(format!("listening to `{key}`"), error.as_ref()))
    }

    /// Answers questions to `name`; `asked` runs on zenoh's threads and must not wait.
    pub(crate) fn answer(
        &self,
        name: &str,
        asked: impl Fn(Question) + Send + Sync + 'static,
    ) -> Result<Queryable<()>, RuntimeError> {
        let key = self.key(name);
        let (gid, tap) = (self.gid, self.tap.clone());
        let hear = move |query: Query| {
            let question = Question { query, gid, tap: tap.clone() };
            let Question { query, tap, .. } = &question;
            let (encoding, payload) = (query.encoding(), query.payload());
            show_received(tap.as_ref(), query.key_expr(), encoding, payload, query.attachment());
            asked(question);
        };
        self.session
            .declare_queryable(key.clone())
            .allowed_origin(Locality::Remote)
            .callback(hear)
            .wait()
            .map_err(|error| failed(format!("answering `{key}`"), error.as_ref()))
    }

    /// Asks everybody who answers `name`, and waits for their replies, at most `timeout`.
    pub(crate) fn ask(
        &self,
        name: &str,
        payload: &str,
        timeout: Duration,
    ) -> Result<Vec<Reply>, RuntimeError> {
        let key = self.key(name);
        let asks = attachment(1, self.gid);
        show_sent(self.tap.as_ref(), &key, JSON, payload.as_bytes(), &asks);
        let replies = self
            .session
            .get(key.clone())
            .target(QueryTarget::All)
            .consolidation(zenoh::query::ConsolidationMode::None)
            .allowed_destination(Locality::Remote)
            .payload(payload)
            .encoding(JSON)
            .attachment(asks)
            .timeout(timeout)
            .wait()
            .map_err(|error| failed(format!("asking `{key}`"), error.as_ref()))?;
        let mut heard = Vec::new();
        while let Ok(reply) = replies.recv() {
            if let Ok(sample) = reply.into_result() {
                show(self.tap.as_ref(), &sample);
                let gid = sample.attachment().and_then(|bytes| Attachment::decode(&bytes.to_bytes()).ok());
                let text = String::from_utf8_lossy(&sample.payload().to_bytes()).into_owned();
                heard.push(Reply { gid: gid.map(|attachment| attachment.gid), text });
            }
        }
        Ok(heard)
    }

    /// Ends the session.
    pub(crate) fn close(&self) {
        // It ends either way; a link that does not say goodbye is noticed by its other end.
        drop(self.session.close().wait());
    }
}

impl Question {
    /// What it carries; nothing where it carries nothing.
    pub(crate) fn payload(&self) -> Vec<u8> {
        self.query.payload().map(|bytes| bytes.to_bytes().into_owned()).unwrap_or_default()
    }

    /// Answers with JSON; the asker may be gone, and then nobody misses the answer.
    pub(crate) fn reply(&self, json: &str) {
        let attachment = attachment(1, self.gid);
        let key = self.query.key_expr();
        show_sent(self.tap.as_ref(), key, JSON, json.as_bytes(), &attachment);
        drop(self.query.reply(key, json).encoding(JSON).attachment(attachment).wait());
    }
}

impl Outlet {
    /// Sends as the next of this key's messages; false when zenoh refuses.
    pub(crate) fn send(&self, payload: Vec<u8>) -> bool {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        self.send_as(sequence, payload)
    }

    /// Sends with a sequence of somebody else's.
    pub(crate) fn send_as(&self, sequence: i64, payload: Vec<u8>) -> bool {
        self.send_stamped(sequence, wall_clock_ns(), payload)
    }

    /// Sends a part of what shares one sequence and one stamp.
    pub(crate) fn send_stamped(&self, sequence: i64, source_time_ns: i64, payload: Vec<u8>) -> bool {
        let attachment = Attachment { sequence, source_time_ns, gid: self.gid }.encode();
        let tap = self.tap.as_ref();
        show_sent(tap, self.publisher.key_expr(), &self.encoding, &payload, &attachment);
        self.publisher.put(payload).attachment(attachment).wait().is_ok()
    }

    /// Messages sent so far.
    pub(crate) fn sequence(&self) -> i64 {
        self.sequence.load(Ordering::Relaxed)
    }
}

fn show(tap: Option<&WireTap>, sample: &Sample) {
    let (encoding, payload) = (Some(sample.encoding()), Some(sample.payload()));
    show_received(tap, sample.key_expr(), encoding, payload, sample.attachment());
}

fn show_received(
    tap: Option<&WireTap>,
    key: &str,
    encoding: Option<&Encoding>,
    payload: Option<&ZBytes>,
    attachment: Option<&ZBytes>,
) {
    let Some(tap) = tap else { return };
    tap(&OnWire {
        sent: false,
        key,
        encoding: &encoding.map_or_else(|| JSON.to_owned(), ToString::to_string),
        payload: &payload.map(ZBytes::to_bytes).unwrap_or_default(),
        attachment: attachment.map(ZBytes::to_bytes).as_deref(),
    });
}

fn show_sent(tap: Option<&WireTap>, key: &str, encoding: &str, payload: &[u8], attachment: &[u8]) {
    let Some(tap) = tap else { return };
    tap(&OnWire { sent: true, key, encoding, payload, attachment: Some(attachment) });
}

/// A new identity for this process: the same on all its keys.
fn random_gid() -> Gid {
    let mut gid = Gid::default();
    rand::rng().fill_bytes(&mut gid);
    gid
}

fn attachment(sequence: i64, gid: Gid) -> [u8; ATTACHMENT_LENGTH] {
    Attachment { sequence, source_time_ns: wall_clock_ns(), gid }.encode()
}

/// ns since the Unix epoch.
pub(crate) fn wall_clock_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// How far a message's stamp is ahead of the wall clock now; negative when it is behind.
pub(crate) fn stamp_skew_secs(attachment: &Attachment) -> f64 {
    attachment.source_time_ns.saturating_sub(wall_clock_ns()) as f64 / 1e9
}

/// Whether an encoding may carry `message` (or JSON): none and a bare `application/cdr` say nothing against it.
fn encoding_fits(encoding: &Encoding, message: Option<&str>) -> bool {
    let Some(message) = message else { return true };
    let text = encoding.to_string();
    match text.split_once(';') {
        None => text.is_empty() || text == CDR || *encoding == Encoding::default(),
        Some((kind, schema)) => kind == CDR && (schema.is_empty() || schema == message),
    }
}

fn config(endpoints: &Endpoints) -> zenoh::Result<zenoh::Config> {
    let mut config = match &endpoints.config {
        Some(file) => zenoh::Config::from_file(file)?,
        None => zenoh::Config::default(),
    };
    let list = |endpoints: &[String]| serde_json::Value::from(endpoints.to_vec()).to_string();
    // What a file says goes before what is usual here, and what the robot file says before both.
    let mode = endpoints.mode.map(|mode| match mode {
        SessionMode::Peer => "\"peer\"",
        SessionMode::Client => "\"client\"",
    });
    if let Some(mode) = mode {
        config.insert_json5("mode", mode)?;
    }
    for (key, usual) in [("mode", "\"peer\""), ("scouting/multicast/enabled", "false")] {
        if config.get_json(key)? == "null" {
            config.insert_json5(key, usual)?;
        }
    }
    for (key, endpoints) in
        [("listen/endpoints", &endpoints.listen), ("connect/endpoints", &endpoints.connect)]
    {
        config.insert_json5(key, &list(endpoints))?;
    }
    let retry = r#"{ period_init_ms: 100, period_max_ms: 1000, period_increase_factor: 2 }"#;
    config.insert_json5("connect/retry", retry)?;
    for priority in ["control", "real_time", "interactive_high", "data_high", "data"] {
        config
            .insert_json5(&format!("transport/link/tx/queue/size/{priority}"), &QUEUE_BATCHES.to_string())?;
    }
    Ok(config)
}

pub(crate) fn failed(doing: impl Into<String>, error: &dyn std::error::Error) -> RuntimeError {
    RuntimeError::Bus { doing: doing.into(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_differ() {
        assert_ne!(random_gid(), random_gid());
    }

    #[test]
    fn an_encoding_that_says_nothing_is_taken_and_one_that_contradicts_is_not() {
        let fits = |encoding: Encoding| encoding_fits(&encoding, Some(FLOATS));
        assert!(fits(Encoding::default()));
        assert!(fits(Encoding::from("")));
        assert!(fits(Encoding::from(CDR)));
        assert!(fits(Encoding::from("application/cdr;std_msgs/msg/Float64MultiArray")));
        assert!(fits(Encoding::from(CDR).with_schema(FLOATS)));
        for other in [
            "application/cdr;std_msgs/msg/Bool",
            "application/json",
            "text/plain",
            "application/octet-stream",
        ] {
            assert!(!fits(Encoding::from(other)), "{other}");
        }
    }
}
