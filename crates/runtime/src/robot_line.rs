//! The robot's line to its controller: observations out, commands in, and who commands.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use nudge_control::{Interface, Observation};
use nudge_wire::{Attachment, Float64MultiArray, Gid, Message as _};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use zenoh::pubsub::Subscriber;

use crate::RuntimeError;
use crate::bus::{Bus, FLOATS, Outlet, observed, wall_clock_ns};
use crate::counters::Count;
use crate::feature_message;
use crate::guard::State;
use crate::inbox::{CONTROLLER, listen_to_estop};
use crate::robot_file::{Message, Pace, RobotFile};
use crate::status::{Snapshot, StageTimings};

/// In lockstep an unanswered observation is sent again after so long.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// How long the answer to one reset is waited for.
const RESET_TIMEOUT: Duration = Duration::from_secs(1);
/// Commands that may wait for the robot.
const COMMANDS_WAITING: usize = 64;
/// How often the flags are looked at while nothing comes.
const IDLE: Duration = Duration::from_millis(20);

/// The robot's line to its controller.
pub(crate) struct Line<'a> {
    bus: &'a Bus,
    features: Vec<Sent>,
    /// Observations sent, in all episodes.
    sequence: i64,
    pub period: Duration,
    pace: Pace,
    commands: Receiver<Command>,
    controller: Arc<Mutex<Controller>>,
    stopped: Arc<AtomicBool>,
    snapshots: mpsc::Sender<Snapshot>,
    told: Option<State>,
    /// Observations sent again because no command came.
    pub resent: u64,
    _subscribers: [Subscriber<()>; 3],
}

/// One feature on its key.
struct Sent {
    outlet: Outlet,
    message: Message,
    /// Where its numbers lie in the task's observation.
    range: Range<usize>,
}

/// A command as it came.
pub(crate) struct Command {
    sequence: i64,
    pub values: Vec<f64>,
}

/// Whose commands count.
#[derive(Default)]
struct Controller {
    /// Who answered the reset.
    gid: Option<Gid>,
    /// Who commanded before, and is forgotten but for its last command.
    former: Option<Gid>,
    /// The last command's sequence; what does not rise is a repetition.
    last: i64,
    /// Whether it has said that it is stopped.
    stopped: bool,
}

impl<'a> Line<'a> {
    pub(crate) fn open(
        bus: &'a Bus,
        robot: &RobotFile,
        offered: &Interface,
        snapshots: mpsc::Sender<Snapshot>,
    ) -> Result<Self, RuntimeError> {
        let mut features = Vec::new();
        for feature in &robot.observation {
            let Some(range) = offered.observation_range(&feature.name) else { continue };
            let stream = observed(feature.message.wire_type());
            let outlet = bus.outlet(&format!("obs/{}", feature.name), stream)?;
            features.push(Sent { outlet, message: feature.message.clone(), range });
        }
        let (queue, commands) = bounded(COMMANDS_WAITING);
        let controller = Arc::new(Mutex::new(Controller::default()));
        let stopped = Arc::new(AtomicBool::new(false));
        let estop = stopped.clone();
        let subscribers = [
            listen_to_commands(bus, offered.action_dim(), &controller, queue)?,
            listen_to_status(bus, &controller, &stopped)?,
            listen_to_estop(bus, move || estop.store(true, Ordering::Release))?,
        ];
        Ok(Self {
            bus,
            features,
            sequence: 0,
            period: Duration::from_secs_f64(1.0 / robot.control_hz),
            pace: robot.pace,
            commands,
            controller,
            stopped,
            snapshots,
            told: None,
            resent: 0,
            _subscribers: subscribers,
        })
    }

    /// Asks the controller to begin an episode, again and again until one does; false when `stop` was set meanwhile.
    pub(crate) fn begin_episode(
        &mut self,
        seed: u64,
        episode: usize,
        stop: &AtomicBool,
        max_wait: Duration,
    ) -> Result<bool, RuntimeError> {
        let begun = Instant::now();
        let call = json!({ "seed": seed, "episode": episode }).to_string();
        let mut last = "none".to_owned();
        while !stop.load(Ordering::Relaxed) {
            self.tell(State::Ready);
            for reply in self.bus.ask("rpc/reset", &call, RESET_TIMEOUT)? {
                if serde_json::from_str::<Accepted>(&reply.text).is_ok_and(|answer| answer.ok) {
                    let mut controller = self.controller.lock().unwrap_or_else(PoisonError::into_inner);
                    if controller.gid != reply.gid {
                        *controller = Controller { gid: reply.gid, ..Controller::default() };
                    }
                    // Older commands are void.
                    while self.commands.try_recv().is_ok() {}
                    return Ok(true);
                }
                last = reply.text;
            }
            if begun.elapsed() > max_wait {
                let secs = begun.elapsed().as_secs_f64();
                return Err(RuntimeError::NoController { key: self.bus.key("rpc/reset"), secs, last });
            }
            std::thread::sleep(IDLE);
        }
        Ok(false)
    }

    /// Sends an observation and waits for its command: until `deadline` at the clock's pace, as long as it takes in
    /// lockstep. `None` means to hold.
    pub(crate) fn exchange(
        &mut self,
        observation: &Observation,
        deadline: Instant,
        stop: &AtomicBool,
        max_wait: Duration,
    ) -> Result<Option<Vec<f64>>, RuntimeError> {
        self.sequence += 1;
        self.send(observation);
        let command = match self.pace {
            Pace::Clock => self.newest_until(deadline),
            Pace::Observation => self.answer(observation, stop, max_wait)?,
        };
        let state = match (&command, self.is_stopped()) {
            (_, true) => State::Stopped,
            (Some(_), false) => State::Run,
            (None, false) => State::Hold,
        };
        self.tell(state);
        Ok(command.filter(|_| state != State::Stopped))
    }

    /// Sends the next observation.
    pub(crate) fn publish(&mut self, observation: &Observation) {
        self.sequence += 1;
        self.send(observation);
    }

    /// Where commands arrive.
    pub(crate) fn commands(&self) -> Receiver<Command> {
        self.commands.clone()
    }

    /// Whoever commands next is listened to.
    pub(crate) fn forget_controller(&self) {
        let mut controller = self.controller.lock().unwrap_or_else(PoisonError::into_inner);
        controller.former = controller.gid.take().or(controller.former);
    }

    fn send(&self, observation: &Observation) {
        let stamp_ns = wall_clock_ns();
        for feature in &self.features {
            let values = &observation.0[feature.range.clone()];
            let payload = feature_message::encode(&feature.message, stamp_ns, values);
            if !feature.outlet.send_stamped(self.sequence, stamp_ns, payload) {
                self.bus.counters.add(Count::SendFailed, 1);
            }
        }
    }

    /// The newest command that comes before `deadline`.
    fn newest_until(&self, deadline: Instant) -> Option<Vec<f64>> {
        let mut newest = None;
        while let Ok(command) = self.commands.recv_deadline(deadline) {
            newest = Some(command.values);
        }
        newest
    }

    /// The command to the observation just sent, which is sent again every second until it comes.
    fn answer(
        &mut self,
        observation: &Observation,
        stop: &AtomicBool,
        max_wait: Duration,
    ) -> Result<Option<Vec<f64>>, RuntimeError> {
        let (mut sent, mut waiting_since) = (Instant::now(), Instant::now());
        while !stop.load(Ordering::Relaxed) {
            match self.commands.recv_timeout(IDLE) {
                Ok(command) if command.sequence == self.sequence => return Ok(Some(command.values)),
                Ok(_) | Err(_) => {}
            }
            if self.is_stopped() {
                // A stopped controller is silent, and that is no fault of its.
                self.tell(State::Stopped);
                waiting_since = Instant::now();
            }
            if waiting_since.elapsed() > max_wait {
                let secs = waiting_since.elapsed().as_secs_f64();
                return Err(RuntimeError::ControllerSilent { sequence: self.sequence, secs });
            }
            if sent.elapsed() >= RESEND_AFTER {
                self.resent += 1;
                self.send(observation);
                sent = Instant::now();
            }
        }
        Ok(None)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Hands a new state to the status; it is only for people to read, so a full queue may lose it.
    fn tell(&mut self, state: State) {
        if self.told.replace(state) != Some(state) {
            let reason = match state {
                State::Ready => "awaiting_controller",
                State::Hold => "no_command",
                State::Stopped => "emergency_stop",
                State::Init | State::Run => "",
            };
            let timings = StageTimings::default();
            let snapshot = Snapshot {
                state,
                reason: reason.into(),
                counters: Vec::new(),
                log: Vec::new(),
                timings,
                confidence: None,
            };
            drop(self.snapshots.try_send(snapshot));
        }
    }
}

/// The answer to a reset that was granted.
#[derive(Deserialize)]
struct Accepted {
    ok: bool,
}

/// What the robot reads of the controller's status.
#[derive(Deserialize)]
struct Status {
    role: String,
    state: State,
}

/// Queues commands of the controller that answered the reset; repeated, misshapen and non-finite ones are counted.
fn listen_to_commands(
    bus: &Bus,
    dim: usize,
    controller: &Arc<Mutex<Controller>>,
    queue: Sender<Command>,
) -> Result<Subscriber<()>, RuntimeError> {
    let (controller, counters) = (controller.clone(), bus.counters.clone());
    bus.listen("act/cmd", Some(FLOATS), move |from: Attachment, payload| {
        let Ok(Float64MultiArray { data: values, .. }) = Float64MultiArray::decode(payload) else {
            counters.add(Count::PayloadRefused, 1);
            return;
        };
        if values.len() != dim || values.iter().any(|value| !value.is_finite()) {
            counters.add(Count::ShapeRefused, 1);
            return;
        }
        let mut controller = controller.lock().unwrap_or_else(PoisonError::into_inner);
        if controller.gid.is_none() && controller.former.is_some_and(|former| former != from.gid) {
            controller.last = 0;
        }
        if *controller.gid.get_or_insert(from.gid) != from.gid {
            counters.add(Count::ForeignPublisher, 1);
            return;
        }
        if from.sequence <= controller.last {
            counters.add(Count::SequenceOld, 1);
            return;
        }
        controller.last = from.sequence;
        if queue.try_send(Command { sequence: from.sequence, values }).is_err() {
            counters.add(Count::EventDropped, 1);
        }
    })
}

/// Ends the robot's stop when the controller that was stopped says that it no longer is.
fn listen_to_status(
    bus: &Bus,
    controller: &Arc<Mutex<Controller>>,
    stopped: &Arc<AtomicBool>,
) -> Result<Subscriber<()>, RuntimeError> {
    let (controller, stopped) = (controller.clone(), stopped.clone());
    let counters = bus.counters.clone();
    bus.listen("ctl/status", None, move |from: Attachment, payload| {
        let Ok(status) = serde_json::from_slice::<Status>(payload) else {
            counters.add(Count::PayloadRefused, 1);
            return;
        };
        let mut controller = controller.lock().unwrap_or_else(PoisonError::into_inner);
        if status.role != CONTROLLER || controller.gid.is_some_and(|gid| gid != from.gid) {
            return;
        }
        let now_stopped = status.state == State::Stopped;
        if std::mem::replace(&mut controller.stopped, now_stopped) && !now_stopped {
            stopped.store(false, Ordering::Release);
        }
    })
}
