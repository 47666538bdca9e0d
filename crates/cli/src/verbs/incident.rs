//! What happened while a robot was driven, in one MCAP file: every message, every plan as it was asked for and answered, and
//! everything that the guard was told, to the bit; and all of it asked again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::verbs::checkpoint::{DeviceArgs, cores};
use anyhow::{Context as _, Result};
use nudge_control::{
    Action, ActionChunk, Horizon, Interface, Observation, ObservationWindow, PlanRequest, Policy, PolicyError,
};
use nudge_dataset::DatasetError;
use nudge_dataset::mcap::{Direction, McapLog, WireMessage};
use nudge_policy::{Continuation, SamplerConfig};
use nudge_runtime::{
    GuardConfig, GuardEvent, GuardInput, GuardTap, OnGuard, OnWire, Rule, State, Verdict, WireTap,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What the file was recorded with: the first message of the file.
pub const CONFIG_TOPIC: &str = "nudge/config";
/// One message a call of the policy: [`PlanRecord`].
pub const PLAN_TOPIC: &str = "nudge/plan";

/// What the guard was built from, every number as its bits.
pub const GUARD_CONFIG_TOPIC: &str = "nudge/guard_config";
/// One message for each thing that the guard was told: [`GuardRecord`].
pub const GUARD_TOPIC: &str = "nudge/guard";

/// Messages that may wait for the disk, and the bytes in them.
const WAITING: usize = 16_384;
const WAITING_BYTES: u64 = 64 << 20;
/// What is lost at most when the program is killed.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether the end has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// With what a robot was driven.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IncidentConfig {
    pub version: String,
    pub checkpoint: String,
    pub sampler: SamplerConfig,
    /// Actions of a plan that were executed.
    pub executed: usize,
    /// What the policy did with committed actions.
    pub continuation: Continuation,
    /// What computed the plans.
    pub planned_on: String,
    pub robot: String,
}

/// One call of the policy. Numbers are written as the bits that they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    pub requests: Vec<RequestRecord>,
    /// One a request; or why there is none.
    pub answer: Result<Vec<ChunkRecord>, String>,
}

/// A [`PlanRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    step: u64,
    window: Vec<Vec<u64>>,
    committed: Vec<Vec<u64>>,
    hurried: bool,
    noise_seed: u64,
}

/// An [`ActionChunk`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkRecord {
    first_step: u64,
    actions: Vec<Vec<u64>>,
}

impl PlanRecord {
    pub fn new(requests: &[PlanRequest], answer: &Result<Vec<ActionChunk>, PolicyError>) -> Self {
        let request = |request: &PlanRequest| RequestRecord {
            step: request.step,
            window: request.window.0.iter().map(|observation| bits(&observation.0)).collect(),
            committed: request.committed.iter().map(|action| bits(&action.0)).collect(),
            hurried: request.hurried,
            noise_seed: request.noise_seed,
        };
        let chunk = |chunk: &ActionChunk| ChunkRecord {
            first_step: chunk.first_step,
            actions: chunk.actions.iter().map(|action| bits(&action.0)).collect(),
        };
        let answer = match answer {
            Ok(chunks) => Ok(chunks.iter().map(chunk).collect()),
            Err(error) => Err(error.to_string()),
        };
        Self { requests: requests.iter().map(request).collect(), answer }
    }

    /// What was asked for.
    pub fn requests(&self) -> Vec<PlanRequest> {
        let request = |request: &RequestRecord| PlanRequest {
            step: request.step,
            window: ObservationWindow(request.window.iter().map(|bits| Observation(numbers(bits))).collect()),
            committed: request.committed.iter().map(|bits| Action(numbers(bits))).collect(),
            hurried: request.hurried,
            noise_seed: request.noise_seed,
        };
        self.requests.iter().map(request).collect()
    }

    /// The first thing that is another in `other`; `None` when all is the same to the bit.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let (ours, theirs) = match (&self.answer, &other.answer) {
            (one, two) if one == two => return None,
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (one, two) => {
                let told = |answer: &Result<Vec<ChunkRecord>, String>| {
                    answer.as_ref().map_or_else(Clone::clone, |chunks| format!("{} plans", chunks.len()))
                };
                return Some(format!("then: {}; now: {}", told(one), told(two)));
            }
        };
        for (request, (then, now)) in ours.iter().zip(theirs).enumerate() {
            for (action, (then, now)) in then.actions.iter().zip(&now.actions).enumerate() {
                let number = then.iter().zip(now).position(|(then, now)| then != now);
                if let Some(number) = number {
                    let (then, now) = (f64::from_bits(then[number]), f64::from_bits(now[number]));
                    return Some(format!(
                        "request {request}, action {action}, number {number}: then {then}, now {now}"
                    ));
                }
            }
        }
        Some("the plans are of other lengths or steps".into())
    }
}

/// What computes plans; elsewhere they come out the same but for the last bits.
pub fn planned_on(device: &DeviceArgs) -> String {
    let precision = device.precision.map_or_else(|| "usual".to_owned(), |precision| format!("{precision:?}"));
    format!("{:?}, {} precision, {} threads", device.device, precision.to_lowercase(), cores()).to_lowercase()
}

/// Something that the guard was told, and what it answered if it was a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardRecord {
    pub input: GuardInput<'static>,
    pub verdict: Option<VerdictRecord>,
}

/// A verdict, with the bits of its command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRecord {
    pub state: State,
    pub reason: Option<Rule>,
    pub command: Option<Vec<u64>>,
}

impl From<Verdict<'_>> for VerdictRecord {
    fn from(Verdict { state, reason, command }: Verdict<'_>) -> Self {
        Self { state, reason, command: command.map(bits) }
    }
}

/// Numbers as text may be off by their last bit when they are read again; as their bits they are not.
pub fn as_bits(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            json!({ "bits": number.as_f64().unwrap_or_default().to_bits() })
        }
        Value::Array(values) => values.into_iter().map(as_bits).collect(),
        Value::Object(values) => values.into_iter().map(|(key, value)| (key, as_bits(value))).collect(),
        other => other,
    }
}

/// What [`as_bits`] was given.
pub fn from_bits(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(from_bits).collect(),
        Value::Object(values) => match values.get("bits").and_then(Value::as_u64) {
            Some(bits) if values.len() == 1 => json!(f64::from_bits(bits)),
            _ => values.into_iter().map(|(key, value)| (key, from_bits(value))).collect(),
        },
        other => other,
    }
}

fn bits(numbers: &[f64]) -> Vec<u64> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn numbers(bits: &[u64]) -> Vec<f64> {
    bits.iter().copied().map(f64::from_bits).collect()
}

/// What waits for the disk.
enum Entry {
    Wire(WireMessage),
    Plan(Box<PlanRecord>, u64),
    GuardConfig(Value, u64),
    Guard(Box<GuardRecord>, u64),
}

/// Where everything that happens is handed over, from any thread, without ever waiting.
#[derive(Clone)]
pub struct Witness {
    entries: SyncSender<Entry>,
    bytes: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

/// An incident log that grows.
pub struct IncidentLog {
    path: PathBuf,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), DatasetError>>,
}

/// Begins an incident log; `config` is the first that it says.
///
/// # Errors
/// When the file exists, the disk refuses, or no thread can be had.
pub fn record(path: &Path, config: &IncidentConfig) -> Result<(IncidentLog, Witness)> {
    let mut log = McapLog::create(path)?;
    log.say(CONFIG_TOPIC, now_ns(), config)?;
    let (entries, waiting) = sync_channel(WAITING);
    let witness = Witness { entries, bytes: Arc::default(), lost: Arc::default() };
    let (bytes, lost) = (witness.bytes.clone(), witness.lost.clone());
    let ended = Arc::new(AtomicBool::new(false));
    let end = ended.clone();
    let write = move || {
        let written = write(log, &waiting, (&bytes, &lost), &end);
        if let Err(error) = &written {
            // The robot is driven on.
            eprintln!("the incident log ends here: {error}");
        }
        written
    };
    let thread = std::thread::Builder::new().name("incident log".into()).spawn(write)?;
    Ok((IncidentLog { path: path.to_owned(), ended, thread }, witness))
}

impl IncidentLog {
    /// Waits for all that was handed over before, and ends the file.
    ///
    /// # Errors
    /// When the disk refused.
    pub fn finish(self) -> Result<()> {
        self.ended.store(true, Ordering::Release);
        let written = match self.thread.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        written.with_context(|| format!("{} is not whole", self.path.display()))?;
        eprintln!(
            "everything on the wire is in {}; see `nudge dataset info` and `nudge replay`",
            self.path.display()
        );
        Ok(())
    }
}

impl Witness {
    /// What is shown every message on the bus.
    pub fn wire_tap(&self) -> WireTap {
        let witness = self.clone();
        Arc::new(move |message: &OnWire<'_>| {
            let direction = if message.sent { Direction::Sent } else { Direction::Received };
            let size = message.payload.len() as u64;
            if witness.bytes.load(Ordering::Relaxed) + size > WAITING_BYTES {
                witness.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            witness.bytes.fetch_add(size, Ordering::Relaxed);
            witness.hand_over(Entry::Wire(WireMessage {
                direction,
                key: message.key.to_owned(),
                encoding: message.encoding.to_owned(),
                payload: message.payload.to_vec(),
                attachment: message.attachment.map(<[u8]>::to_vec),
                time_ns: now_ns(),
            }));
        })
    }

    /// What is shown everything that the guard is told and answers.
    pub fn on_guard(&self) -> OnGuard {
        let witness = self.clone();
        Box::new(move |config: &GuardConfig| {
            let config = serde_json::to_value(config).unwrap_or_default();
            witness.hand_over(Entry::GuardConfig(as_bits(config), now_ns()));
            let tap: GuardTap = Box::new(move |event: GuardEvent<'_>| match event {
                GuardEvent::Told(input, verdict) => {
                    let record = GuardRecord { input: input.to_static(), verdict: verdict.map(Into::into) };
                    witness.hand_over(Entry::Guard(Box::new(record), now_ns()));
                }
                GuardEvent::Lost(events) => _ = witness.lost.fetch_add(events, Ordering::Relaxed),
            });
            tap
        })
    }

    fn hand_over(&self, entry: Entry) {
        if let Err(TrySendError::Full(entry) | TrySendError::Disconnected(entry)) =
            self.entries.try_send(entry)
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_sub(size(&entry), Ordering::Relaxed);
        }
    }
}

/// A policy whose every plan is witnessed.
pub struct Witnessed {
    pub policy: Box<dyn Policy>,
    pub witness: Witness,
}

impl Policy for Witnessed {
    fn interface(&self) -> &Interface {
        self.policy.interface()
    }

    fn horizon(&self) -> Horizon {
        self.policy.horizon()
    }

    fn max_committed(&self) -> usize {
        self.policy.max_committed()
    }

    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        let answer = self.policy.predict(requests);
        let record = PlanRecord::new(requests, &answer);
        self.witness.hand_over(Entry::Plan(Box::new(record), now_ns()));
        answer
    }
}

fn write(
    mut log: McapLog,
    waiting: &Receiver<Entry>,
    (bytes, lost): (&AtomicU64, &AtomicU64),
    ended: &AtomicBool,
) -> Result<(), DatasetError> {
    let mut flushed = Instant::now();
    loop {
        // What was handed over before the end is still taken.
        let end = ended.load(Ordering::Acquire);
        let next = match waiting.try_recv() {
            Ok(entry) => Ok(entry),
            Err(_) if end => Err(RecvTimeoutError::Disconnected),
            Err(_) => waiting.recv_timeout(LOOK_EVERY),
        };
        match next {
            Ok(entry) => {
                bytes.fetch_sub(size(&entry), Ordering::Relaxed);
                match entry {
                    Entry::Wire(message) => log.wire(&message)?,
                    Entry::Plan(plan, time_ns) => log.say(PLAN_TOPIC, time_ns, &plan)?,
                    Entry::GuardConfig(config, time_ns) => log.say(GUARD_CONFIG_TOPIC, time_ns, &config)?,
                    Entry::Guard(record, time_ns) => log.say(GUARD_TOPIC, time_ns, &record)?,
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                tell_lost(&mut log, lost)?;
                return log.finish();
            }
        }
        if flushed.elapsed() >= FLUSH_EVERY {
            tell_lost(&mut log, lost)?;
            log.flush()?;
            flushed = Instant::now();
        }
    }
}

fn tell_lost(log: &mut McapLog, lost: &AtomicU64) -> Result<(), DatasetError> {
    match lost.swap(0, Ordering::Relaxed) {
        0 => Ok(()),
        lost => log.gap(now_ns(), lost),
    }
}

fn size(entry: &Entry) -> u64 {
    match entry {
        Entry::Wire(message) => message.payload.len() as u64,
        Entry::Plan(..) | Entry::GuardConfig(..) | Entry::Guard(..) => 0,
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
