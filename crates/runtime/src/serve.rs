//! Drives the robot on the bus with a policy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use nudge_control::{Feature, Interface, Policy, RecedingHorizon, Seam, Thresholds};
use nudge_wire::{Dimension, Float64MultiArray, Gid, Message as _};
use serde::Serialize;
use tokio::sync::mpsc;
use zenoh::pubsub::Subscriber;

use crate::assembly::Assembly;
use crate::bus::{Bus, CHUNK, COMMAND, HEARTBEAT, Outlet, STATUS, WireTap};
use crate::describe::Description;
use crate::driver::{Driver, Outlets, SendCommand};
use crate::episode_log::{EpisodeLog, OnEpisode};
use crate::events::{EVENTS_WAITING, Event, OnPlan, Signals, Watch};
use crate::fast_link::Link;
use crate::fast_loop::{FastLoop, FastThreads};
use crate::gate::Gate;
use crate::guard::{Guard, GuardConfig};
use crate::guard_ring::show_elsewhere;
use crate::guard_watch::OnGuard;
use crate::handshake::meet_robot;
use crate::inbox::{CONTROLLER, ROBOT, listen_to_estop, listen_to_heartbeats, listen_to_observations};
use crate::planner::{Plan, PlannerThread, Samples};
use crate::robot_file::{Endpoints, ObservedFeature, Pace, RobotFile};
use crate::ros2::Ros2Line;
use crate::ros2_meet::{OnTrouble, meet_ros2};
use crate::service;
use crate::status::StageTimings;
use crate::{RuntimeError, control_loop, lockstep};

/// In lockstep, after this silence another robot process may take over without a reset; a robot that waits is heard
/// every second.
const LOCKSTEP_SILENCE: Duration = Duration::from_millis(2500);

/// How [`serve`] is run.
#[derive(Default)]
pub struct ServeOptions {
    /// An endpoint to connect to in place of the robot file's.
    pub connect: Option<String>,
    /// Set it to end serving.
    pub stop: Arc<AtomicBool>,
    /// How many plans are drawn each time to be shown, the executed one among them. 0 counts as 1.
    pub fan_samples: usize,
    /// Of how many plans drawn each time the one is executed that agrees best with the last plan. 0 counts as 1.
    pub samples: usize,
    /// Where the policy's confidence raises an alarm; by default nowhere.
    pub alarm: Thresholds,
    /// How a new plan takes over; without one, as by [`Seam::Continue`], which is a switch where the policy continues
    /// nothing.
    pub seam: Option<Seam>,
    /// Serving ends after so long.
    pub duration: Option<Duration>,
    /// How long a robot is waited for; without one, until `stop`.
    pub max_wait: Option<Duration>,
    /// Takes each episode's log.
    pub on_episode: Option<OnEpisode>,
    /// Is shown every plan.
    pub on_plan: Option<OnPlan>,
    /// Is shown what the guard is told and answers; a guard on a thread of its own shows nothing.
    pub on_guard: Option<OnGuard>,
    /// Is shown every message that comes and goes.
    pub on_wire: Option<WireTap>,
    /// Is told what is missing while a ROS 2 robot is waited for.
    pub on_trouble: Option<OnTrouble>,
    /// Called once the robot is met and everything runs.
    pub on_ready: Option<Box<dyn FnOnce() + Send>>,
    #[cfg(feature = "rerun")]
    pub view: Option<crate::View>,
}

/// What serving came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServeReport {
    pub commands: u64,
    pub plans: u64,
    /// Of every rule and rejection.
    pub counters: serde_json::Map<String, serde_json::Value>,
    pub timings_ms: StageTimings,
}

/// Drives the robot of `robot` with `policy` until the options say otherwise.
///
/// # Errors
/// When policy, robot file and robot disagree, when no robot or another controller is found, or when the bus fails.
/// Faults while driving are no errors: they hold the robot and are counted.
pub fn serve(
    policy: Box<dyn Policy>,
    robot: RobotFile,
    options: ServeOptions,
) -> Result<ServeReport, RuntimeError> {
    drive(&PlannerThread::start(policy)?, robot, options)
}

/// Drives several robots with one policy, each with its own session, loop and guard; what of them waits for a plan is
/// planned in one batch. What becomes of one of them is no other's concern.
///
/// # Errors
/// When the planner cannot be started. What [`serve`] would answer for a robot is in that robot's place.
pub fn serve_fleet(
    policy: Box<dyn Policy>,
    robots: Vec<(RobotFile, ServeOptions)>,
) -> Result<Vec<Result<ServeReport, RuntimeError>>, RuntimeError> {
    let planners = PlannerThread::start(policy)?;
    Ok(std::thread::scope(|scope| {
        let planners = &planners;
        let driving: Vec<_> = robots
            .into_iter()
            .map(|(robot, options)| scope.spawn(move || drive(planners, robot, options)))
            .collect();
        driving
            .into_iter()
            .map(|robot| robot.join().unwrap_or(Err(RuntimeError::ThreadDied { thread: "robot" })))
            .collect()
    }))
}

fn drive(
    planners: &PlannerThread,
    robot: RobotFile,
    mut options: ServeOptions,
) -> Result<ServeReport, RuntimeError> {
    let policy = planners.about();
    let differs = |mismatch| RuntimeError::FileDiffers { robot: robot.name.clone(), mismatch };
    policy.interface().accepts(&robot.interface()).map_err(differs)?;
    let horizon = RecedingHorizon::new(policy.horizon(), 0, 0)
        .map_err(RuntimeError::Horizon)?
        .with_seam(options.seam.unwrap_or(Seam::Continue), policy.max_committed());
    let needed = needed_features(policy.interface(), &robot);

    let mut endpoints = robot.session.controller.clone();
    if let Some(endpoint) = options.connect.take() {
        endpoints = Endpoints { connect: vec![endpoint], ..endpoints };
    }
    let bus = Bus::open(&endpoints, &robot.prefix)?.tapped(options.on_wire.take());
    let signals = Arc::new(Signals::new());
    let heartbeat = Arc::new(bus.outlet("ctl/heartbeat", HEARTBEAT)?);
    let (events, waiting) = bounded(EVENTS_WAITING);
    let _heartbeats = listen_to_heartbeats(&bus, heartbeats(&bus, &heartbeat, &signals))?;
    let ros2 = robot.ros2.as_ref().map(|ros2| Ros2Line::open(&bus, ros2, &robot, &needed)).transpose()?;
    let wire = wire_interface(policy.interface(), &needed);
    let until = (&*options.stop, options.max_wait);
    let met = meet(&bus, ros2.as_ref(), (&robot, &wire), &signals, until, &mut options.on_trouble)?;
    let Some((low, high)) = met else { return Ok(ServeReport::default()) };

    let mut rules = GuardConfig::new(&robot, |name| position_of(&needed, name));
    rules.tighten(&low, &high);

    let watch = Watch {
        on_plan: options.on_plan.take(),
        #[cfg(feature = "rerun")]
        view: options.view.take(),
    };
    let described = Description::new(CONTROLLER, &robot.name, policy.interface().clone(), robot.pace);
    let observed_dim = policy.interface().observation_dim();
    let log = match options.on_episode.take() {
        Some(on_episode) => EpisodeLog::start(
            robot.name.clone(),
            policy.interface().clone(),
            on_episode,
            bus.counters.clone(),
        )?,
        None => EpisodeLog::none(bus.counters.clone()),
    };
    let chunks = bus.outlet("act/chunk", CHUNK)?;
    let shown = watch.clone();
    let planner = planners.seat(move |plan| show(plan, &chunks, &shown));
    let (snapshots, snapshots_due) = mpsc::channel(64);
    let send = match &ros2 {
        Some(line) => line.sender()?,
        None => native_sender(&bus)?,
    };
    let dims = (numbers_of(&needed), 1.0 / robot.control_hz);
    let (gate, send) = gate(rules, &robot, dims, (send, &signals, &bus), options.on_guard.take())?;
    let link = gate.fast_link().cloned();
    let outlets = Outlets {
        send,
        onward: ros2.as_ref().map(Ros2Line::onward).transpose()?.flatten(),
        snapshots,
        log,
        watch,
        counters: bus.counters.clone(),
    };
    let samples = Samples { chosen_from: options.samples.max(1), shown: options.fan_samples };
    let driver = Driver::new(gate, planner, horizon, observed_dim, (samples, options.alarm), outlets);

    let (_observations, begin) = listen(&bus, ros2.as_ref(), (&robot, &needed), &events, &signals)?;
    let wake = (signals.clone(), events.clone());
    let stopped = move || {
        // The guard's own thread does not wait for the loop to hear of it.
        if let Some(link) = &link {
            link.stop.store(true, Ordering::Release);
        }
        wake.0.estop.store(true, Ordering::Release);
        // A full queue wakes the loop as well.
        drop(wake.1.try_send(Event::Wake));
    };
    let _stop_topic = ros2.as_ref().map(|line| line.listen_to_stop(stopped.clone())).transpose()?;
    let _estop = listen_to_estop(&bus, stopped)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .map_err(|problem| RuntimeError::Start { what: "tokio", problem })?;
    let latest = service::LatestStatus::default();
    let status = bus.outlet("ctl/status", STATUS)?;
    let text = serde_json::to_string(&described).expect("a description is plain data");
    let _questions = service::answer_questions(&bus, text, &latest)?;

    let loop_signals = signals.clone();
    let (stop, until) = (options.stop.clone(), options.duration.map(|limit| signals.now() + limit));
    let period = Duration::from_secs_f64(1.0 / robot.control_hz);
    let pace = robot.pace;
    let drive = move || {
        let mut driver = driver;
        match pace {
            Pace::Clock => control_loop::run(&mut driver, &waiting, &loop_signals, period, &stop, until),
            Pace::Observation => lockstep::run(&mut driver, &waiting, &loop_signals, period, &stop, until),
        }
        driver.end();
        report(&driver)
    };
    let thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(drive)
        .map_err(|problem| RuntimeError::Start { what: "the control thread", problem })?;
    let _calls = service::answer_calls(&bus, runtime.handle(), begin, &events)?;
    if let Some(on_ready) = options.on_ready.take() {
        on_ready();
    }
    runtime.block_on(service::run(CONTROLLER, &bus, (&heartbeat, &status), &latest, snapshots_due));
    let mut report = thread.join().map_err(|_| RuntimeError::ThreadDied { thread: "control" })?;
    report.counters.extend(bus.counters.iter().map(|(name, count)| (name.to_owned(), count.into())));
    bus.close();
    if signals.elder.load(Ordering::Relaxed) {
        return Err(RuntimeError::SecondController { prefix: robot.prefix });
    }
    Ok(report)
}

/// Queues the beginning of an episode behind which everything observed is of that episode; false when there is no room.
pub(crate) type Begin = Box<dyn Fn(Event) -> bool + Send + Sync>;

/// Listens to the observations of `robot`, natively or in ROS 2, and says how an episode begins.
pub(crate) fn listen(
    bus: &Bus,
    ros2: Option<&Ros2Line<'_>>,
    (robot, needed): (&RobotFile, &[ObservedFeature]),
    events: &Sender<Event>,
    signals: &Arc<Signals>,
) -> Result<(Vec<Subscriber<()>>, Begin), RuntimeError> {
    let queue = events.clone();
    if let Some(line) = ros2 {
        let (subscribers, newest) = line.listen_to_observations(silence(robot), events, signals)?;
        let begin = move |event| {
            let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
            newest.reset();
            queue.try_send(event).is_ok()
        };
        return Ok((subscribers, Box::new(begin)));
    }
    let dims = needed.iter().map(|feature| feature.shape.iter().product()).collect();
    let assembly = Arc::new(Mutex::new(Assembly::new(dims, robot.pace, silence(robot))));
    let subscribers = listen_to_observations(bus, needed, &assembly, events, signals)?;
    let begin = move |event| {
        let mut assembly = assembly.lock().unwrap_or_else(PoisonError::into_inner);
        assembly.reset();
        queue.try_send(event).is_ok()
    };
    Ok((subscribers, Box::new(begin)))
}

/// Lowest and highest of each number of a command.
pub(crate) type Bounds = (Vec<f64>, Vec<f64>);

/// Waits for the robot, which must offer `wire`; lowest and highest of each number that it may be sent. `None` when `stop`
/// was set meanwhile.
pub(crate) fn meet(
    bus: &Bus,
    ros2: Option<&Ros2Line<'_>>,
    (robot, wire): (&RobotFile, &Interface),
    signals: &Signals,
    (stop, max_wait): (&AtomicBool, Option<Duration>),
    on_trouble: &mut Option<OnTrouble>,
) -> Result<Option<Bounds>, RuntimeError> {
    Ok(match ros2 {
        Some(line) => meet_ros2(line, robot, signals, stop, max_wait, on_trouble)?
            .then(|| robot.interface().action_limits()),
        None => meet_robot(bus, robot, wire, signals, stop, max_wait)?
            .map(|robot| robot.interface.action_limits()),
    })
}

/// The guard beside the control loop, or above its rate on a thread of its own, which then sends.
fn gate(
    rules: GuardConfig,
    robot: &RobotFile,
    dims: (usize, f64),
    (send, signals, bus): (SendCommand, &Arc<Signals>, &Bus),
    on_guard: Option<OnGuard>,
) -> Result<(Gate, Option<SendCommand>), RuntimeError> {
    let guard = Guard::with(rules.clone());
    if robot.command_hz() <= robot.control_hz {
        let tap = on_guard.map(|make| make(&rules));
        return Ok((Gate::inline(guard, tap), Some(send)));
    }
    let show = on_guard.map(|make| show_elsewhere(make, &rules, dims.0, bus.counters.clone()));
    let (tap, show) = show.transpose()?.unzip();
    let link = Arc::new(Link::new(rules.axes.len(), dims.0));
    let fast = FastLoop::new(guard, link.clone(), signals.clone(), dims).shown_to(tap);
    let threads = FastThreads::start(fast, send, bus.counters.clone(), show)?;
    Ok((Gate::fast(link, rules, threads), None))
}

/// Sends every command whole on `act/cmd`.
pub(crate) fn native_sender(bus: &Bus) -> Result<SendCommand, RuntimeError> {
    let commands = bus.outlet("act/cmd", COMMAND)?;
    Ok(Box::new(move |answers, command| {
        let payload = Float64MultiArray::of(command.to_vec()).encode();
        match answers {
            Some(sequence) => commands.send_as(sequence, payload),
            None => commands.send(payload),
        }
    }))
}

/// What the policy observes, in its order, and behind it what else measures an action.
fn needed_features(policy: &Interface, robot: &RobotFile) -> Vec<ObservedFeature> {
    let observed = policy.observation.iter().map(|feature| feature.name.as_str());
    let mut names: Vec<&str> = observed.collect();
    for name in robot.action.iter().filter_map(|feature| feature.measured_by.as_deref()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let find = |name: &&str| robot.observation.iter().find(|feature| feature.name == **name).cloned();
    names.iter().filter_map(find).collect()
}

/// What the robot on the bus must offer: the policy's interface, and what else measures an action.
fn wire_interface(policy: &Interface, needed: &[ObservedFeature]) -> Interface {
    let mut wire = policy.clone();
    for feature in &needed[policy.observation.len()..] {
        wire.observation.push(Feature {
            name: feature.name.clone(),
            kind: nudge_control::FeatureKind::Vector,
            shape: feature.shape.clone(),
            unit: feature.unit.clone(),
        });
    }
    wire
}

/// Where the numbers of a feature begin.
pub(crate) fn position_of(needed: &[ObservedFeature], name: &str) -> Option<usize> {
    let at = needed.iter().position(|feature| feature.name == name)?;
    Some(needed[..at].iter().map(|feature| feature.shape.iter().product::<usize>()).sum())
}

/// How many numbers all of them have.
pub(crate) fn numbers_of(needed: &[ObservedFeature]) -> usize {
    needed.iter().map(|feature| feature.shape.iter().product::<usize>()).sum()
}

fn silence(robot: &RobotFile) -> Duration {
    match robot.pace {
        Pace::Clock => Duration::from_secs_f64(robot.staleness_secs()),
        Pace::Observation => LOCKSTEP_SILENCE,
    }
}

/// Takes heartbeats: of the robot, and of other controllers, of whom the one that has beaten longer stays.
pub(crate) fn heartbeats(
    bus: &Bus,
    own: &Arc<Outlet>,
    signals: &Arc<Signals>,
) -> impl Fn(Gid, i64, &str) + Send + Sync + 'static {
    let (own, signals, gid) = (own.clone(), signals.clone(), bus.gid);
    move |sender, sequence, role| match role {
        ROBOT => signals.heartbeat(),
        CONTROLLER if (sequence, sender) > (own.sequence(), gid) => {
            signals.elder.store(true, Ordering::Relaxed)
        }
        _ => {}
    }
}

/// Publishes the chunk that is executed, and shows the whole fan.
fn show(plan: &Plan, chunks: &Outlet, watch: &Watch) {
    let Ok(fan) = &plan.outcome else { return };
    let Some(first) = fan.first() else { return };
    let dim = first.actions.first().map_or(0, |action| action.0.len());
    let numbers: Vec<f64> = first.actions.iter().flat_map(|action| action.0.iter().copied()).collect();
    let dimension = |label: &str, size: usize, stride: usize| Dimension {
        label: label.to_owned(),
        size: size as u32,
        stride: stride as u32,
    };
    let dimensions =
        vec![dimension("step", first.actions.len(), numbers.len()), dimension("action", dim, dim)];
    chunks.send_as(plan.sequence, Float64MultiArray { dimensions, data: numbers }.encode());
    watch.plan(fan, plan.took);
    watch.confidence(first.first_step, &plan.confidence);
}

fn report(driver: &Driver) -> ServeReport {
    let (commands, plans) = driver.totals();
    let counters =
        driver.gate.counters().into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    ServeReport { commands, plans, counters, timings_ms: driver.stage_timings() }
}
