//! A guard between a controller and its robot, on the robot's own computer: whatever becomes of the controller, its
//! computer or the link to it, the robot is brought to rest and held.
//!
//! To the controller it is the robot, under a prefix of its own; to the robot it is the controller. Observations are passed
//! on; commands are taken one at a time, and what leaves for the robot leaves through the guard, at `command_hz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use nudge_control::Observation;
use nudge_wire::{Bool, Message as _};
use tokio::sync::mpsc;

use crate::RuntimeError;
use crate::bus::{Bus, ESTOP, HEARTBEAT, Outlet, STATUS};
use crate::describe::Description;
use crate::driver::reason_name;
use crate::events::{EVENTS_WAITING, Event, Signals};
use crate::fast_link::{Link, Motion};
use crate::fast_loop::{FastLoop, FastThreads};
use crate::gate::Gate;
use crate::guard::{Guard, GuardConfig, HEARTBEAT_LOST, Rule, State};
use crate::inbox::{CONTROLLER, ROBOT, listen_to_estop, listen_to_heartbeats};
use crate::robot_file::{Endpoints, Message, Pace, RobotFile};
use crate::robot_line::Line;
use crate::ros2::Ros2Line;
use crate::ros2_file::Protocol;
use crate::ros2_meet::OnTrouble;
use crate::serve::{heartbeats, listen, meet, native_sender, numbers_of, position_of};
use crate::service;
use crate::status::{Snapshot, StageTimings};

/// How [`guard_robot`] is run.
#[derive(Default)]
pub struct GuardOptions {
    /// Before the keys that the controller uses; by default `<prefix>/guarded`, with the robot's own prefix.
    pub prefix: Option<String>,
    /// The endpoint at which the controller is listened for.
    pub listen: String,
    /// An endpoint to find the robot at in place of the robot file's.
    pub connect: Option<String>,
    /// Set it to end; the robot is then held by nobody.
    pub stop: Arc<AtomicBool>,
    /// It ends after so long.
    pub duration: Option<Duration>,
    /// How long a robot is waited for; without one, until `stop`.
    pub max_wait: Option<Duration>,
    /// Is told what is missing while a ROS 2 robot is waited for.
    pub on_trouble: Option<OnTrouble>,
    /// Called once the robot is met and everything runs.
    pub on_ready: Option<Box<dyn FnOnce() + Send>>,
}

/// What guarding came to.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct GuardReport {
    pub commands: u64,
    /// Of every rule and rejection, on both sides.
    pub counters: serde_json::Map<String, serde_json::Value>,
    pub timings_ms: StageTimings,
}

/// How long the controller may take to begin an episode; then the robot is told that it did not, and may ask again.
const RESET_WAIT: Duration = Duration::from_millis(150);
/// A controller that has been silent for so long may be replaced by another.
const REPLACED_AFTER: Duration = Duration::from_millis(500);
/// How often the flags are looked at while nothing comes.
const IDLE: Duration = Duration::from_millis(10);
/// How often the state is told; whoever shows it is told of changes and once a second.
const TELL_PERIOD: Duration = Duration::from_millis(50);

/// Guards the robot of `robot` until the options say otherwise.
///
/// # Errors
/// When the robot waits for its commands (pace `observation`), when it is not the one of the file, is not found or has
/// another controller, or when the bus fails. Faults of the controller are no errors: they hold the robot.
pub fn guard_robot(robot: RobotFile, mut options: GuardOptions) -> Result<GuardReport, RuntimeError> {
    if robot.pace != Pace::Clock {
        let problem = "a guard needs `pace = \"clock\"`: in lockstep nothing is late".to_owned();
        return Err(RuntimeError::RobotFile { file: robot.name, problem });
    }
    let needed = &robot.observation;
    let mut endpoints = robot.session.controller.clone();
    if let Some(endpoint) = options.connect.take() {
        endpoints = Endpoints { connect: vec![endpoint], ..endpoints };
    }
    let outer = Bus::open(&endpoints, &robot.prefix)?;
    let signals = Arc::new(Signals::new());
    let heartbeat = Arc::new(outer.outlet("ctl/heartbeat", HEARTBEAT)?);
    let (events, waiting) = bounded(EVENTS_WAITING);
    let _heartbeats = listen_to_heartbeats(&outer, heartbeats(&outer, &heartbeat, &signals))?;
    let ros2 = robot.ros2.as_ref().map(|ros2| Ros2Line::open(&outer, ros2, &robot, needed)).transpose()?;
    let until = (&*options.stop, options.max_wait);
    let met =
        meet(&outer, ros2.as_ref(), (&robot, &robot.interface()), &signals, until, &mut options.on_trouble)?;
    let Some((low, high)) = met else { return Ok(GuardReport::default()) };

    let mut rules = GuardConfig::new(&robot, |name| position_of(needed, name));
    rules.tighten(&low, &high);
    let send = match &ros2 {
        Some(line) => line.sender()?,
        None => native_sender(&outer)?,
    };
    let dims = (numbers_of(needed), 1.0 / robot.control_hz);
    let link = Arc::new(Link::new(rules.axes.len(), dims.0));
    let fast = FastLoop::new(Guard::with(rules.clone()), link.clone(), signals.clone(), dims);
    let threads = FastThreads::start(fast, send, outer.counters.clone(), None)?;
    let gate = Gate::fast(link.clone(), rules, threads);

    let guarded = as_the_controller_sees_it(&robot, &mut options);
    let inner = Bus::open(&guarded.session.robot, &guarded.prefix)?;
    let (inner_snapshots, inner_due) = mpsc::channel(64);
    let line = Line::open(&inner, &guarded, &robot.interface(), inner_snapshots.clone())?;
    let controller = Arc::new(AtomicU64::new(0));
    let (heard, clock) = (controller.clone(), signals.clone());
    let _controller = listen_to_heartbeats(&inner, move |_, _, role| {
        if role == CONTROLLER {
            heard.store(clock.now().as_nanos() as u64, Ordering::Relaxed);
        }
    })?;
    let (_observations, begin) = listen(&outer, ros2.as_ref(), (&robot, needed), &events, &signals)?;
    let wake = (signals.clone(), link.clone(), events.clone());
    let stopped = move || {
        wake.1.stop.store(true, Ordering::Release);
        wake.0.estop.store(true, Ordering::Release);
        // A full queue wakes the loop as well.
        drop(wake.2.try_send(Event::Wake));
    };
    let _stop_topic = ros2.as_ref().map(|line| line.listen_to_stop(stopped.clone())).transpose()?;
    let _stops = [listen_to_estop(&outer, stopped.clone())?, listen_to_estop(&inner, stopped)?];
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .map_err(|problem| RuntimeError::Start { what: "tokio", problem })?;
    let (outer_latest, inner_latest) = Default::default();
    let describe = |role, interface| {
        let described = Description::new(role, &robot.name, interface, robot.pace);
        serde_json::to_string(&described).expect("a description is plain data")
    };
    let _outer = service::answer_questions(&outer, describe(CONTROLLER, robot.interface()), &outer_latest)?;
    let _inner = service::answer_questions(&inner, describe(ROBOT, robot.interface()), &inner_latest)?;
    let _calls = service::answer_calls(&outer, runtime.handle(), begin, &events)?;
    let outer_status = outer.outlet("ctl/status", STATUS)?;
    let (inner_heartbeat, inner_status) =
        (inner.outlet("ctl/heartbeat", HEARTBEAT)?, inner.outlet("ctl/status", STATUS)?);
    let (outer_snapshots, outer_due) = mpsc::channel(64);
    let middle = Middle {
        gate,
        link: link.clone(),
        line,
        signals: &signals,
        controller: &controller,
        stops: [outer.outlet("ctl/estop", ESTOP)?, inner.outlet("ctl/estop", ESTOP)?],
        snapshots: [outer_snapshots, inner_snapshots],
        stop: &options.stop,
        until: options.duration.map(|limit| signals.now() + limit),
        commanded_at: Duration::ZERO,
        told_at: Duration::ZERO,
    };
    if let Some(on_ready) = options.on_ready.take() {
        on_ready();
    }
    std::thread::scope(|scope| {
        let beats = service::run(CONTROLLER, &outer, (&heartbeat, &outer_status), &outer_latest, outer_due);
        let handle = runtime.handle().clone();
        scope.spawn(move || handle.block_on(beats));
        let beats = service::run(ROBOT, &inner, (&inner_heartbeat, &inner_status), &inner_latest, inner_due);
        let handle = runtime.handle().clone();
        scope.spawn(move || handle.block_on(beats));
        // It holds the senders of snapshots: when it goes, so do the services.
        middle.run(&waiting);
    });
    let told = link.told();
    let rules = Rule::ALL.map(Rule::name).into_iter();
    let mut counters: serde_json::Map<_, _> = rules
        .zip(told.as_ref().map_or([0; Rule::ALL.len()], |told| told.counters))
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    for (side, bus) in [("", &outer), ("controller_", &inner)] {
        counters.extend(bus.counters.iter().map(|(name, count)| (format!("{side}{name}"), count.into())));
    }
    let report =
        GuardReport { commands: told.map_or(0, |told| told.commands), counters, timings_ms: timings(&link) };
    inner.close();
    outer.close();
    if signals.elder.load(Ordering::Relaxed) {
        return Err(RuntimeError::SecondController { prefix: robot.prefix });
    }
    Ok(report)
}

/// The robot file of the robot that the guard is to the controller.
fn as_the_controller_sees_it(robot: &RobotFile, options: &mut GuardOptions) -> RobotFile {
    let mut guarded = robot.clone();
    guarded.prefix = options.prefix.take().unwrap_or_else(|| format!("{}/guarded", robot.prefix));
    // Whom the robot does not let in, its guard does not either.
    let config = robot.session.robot.config.clone();
    guarded.session.robot =
        Endpoints { listen: vec![options.listen.clone()], config, ..Endpoints::default() };
    guarded.protocol = Protocol::default();
    guarded.ros2 = None;
    guarded.observation.iter_mut().for_each(|feature| feature.message = Message::default());
    guarded
}

fn timings(link: &Link) -> StageTimings {
    StageTimings {
        guard: link.guard.quantiles(),
        publish: link.publish.quantiles(),
        tick_jitter: link.tick_jitter.quantiles(),
        ..StageTimings::default()
    }
}

/// What stands between the two sides.
struct Middle<'a> {
    gate: Gate,
    link: Arc<Link>,
    line: Line<'a>,
    signals: &'a Signals,
    /// When the controller's heartbeat came last, in ns; 0 before the first.
    controller: &'a AtomicU64,
    stops: [Outlet; 2],
    snapshots: [mpsc::Sender<Snapshot>; 2],
    stop: &'a AtomicBool,
    until: Option<Duration>,
    commanded_at: Duration,
    told_at: Duration,
}

impl Middle<'_> {
    fn run(mut self, events: &Receiver<Event>) {
        let commands = self.line.commands();
        loop {
            let now = self.signals.now();
            let over = self.until.is_some_and(|until| now >= until);
            if over || self.stop.load(Ordering::Relaxed) || self.signals.elder.load(Ordering::Relaxed) {
                return;
            }
            if self.signals.estop.swap(false, Ordering::AcqRel) {
                self.gate.stop();
                // Whichever side it came from, the other one is to know.
                for outlet in &self.stops {
                    outlet.send(Bool(true).encode());
                }
            }
            if now - self.commanded_at > REPLACED_AFTER {
                self.line.forget_controller();
            }
            if now - self.told_at >= TELL_PERIOD {
                self.told_at = now;
                self.tell();
            }
            select! {
                recv(events) -> event => match event {
                    Ok(event) => self.take(event),
                    Err(_) => return,
                },
                recv(commands) -> command => if let Ok(command) = command {
                    self.command(&command.values);
                },
                default(IDLE) => {}
            }
        }
    }

    /// A command of the controller, unless its heartbeat has ceased: then nobody answers for it.
    fn command(&mut self, values: &[f64]) {
        let now = self.signals.now();
        self.commanded_at = now;
        let heard = Duration::from_nanos(self.controller.load(Ordering::Relaxed));
        if heard.is_zero() || now.saturating_sub(heard) <= HEARTBEAT_LOST {
            self.link.move_on(Motion::Command(values));
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Observation { received, skew_secs, values, new_publisher, .. } => {
                if new_publisher {
                    self.gate.publisher_changed();
                }
                // What is refused here is not planned from there either.
                if self.gate.observe(received, skew_secs, &values).is_ok() {
                    self.line.publish(&Observation(values));
                }
            }
            Event::Reset { seed, episode, answer } => {
                self.gate.reset();
                let episode = usize::try_from(episode).unwrap_or_default();
                let begun = if self.gate.is_stopped() {
                    Err("the emergency stop is latched: ask rpc/release first".into())
                } else {
                    match self.line.begin_episode(seed.unwrap_or_default(), episode, self.stop, RESET_WAIT) {
                        Ok(_) => Ok(()),
                        Err(error) => Err(error.to_string()),
                    }
                };
                // Whoever asked may be gone; nothing then waits for the answer.
                drop(answer.send(begun));
            }
            Event::Release { answer } => drop(answer.send(self.gate.release(self.signals.now()))),
            Event::Repeated { .. } | Event::Wake => {}
        }
    }

    fn tell(&self) {
        let Some(told) = self.link.told() else { return };
        let stopped = self.gate.is_stopped();
        let state = if stopped { State::Stopped } else { told.state };
        for snapshots in &self.snapshots {
            let snapshot = Snapshot {
                state,
                reason: reason_name(state, told.reason).to_owned(),
                counters: self.gate.counters(),
                log: told.log.clone(),
                timings: timings(&self.link),
                confidence: None,
            };
            // It is only for people to read: a full queue is told again soon.
            drop(snapshots.try_send(snapshot));
        }
    }
}
