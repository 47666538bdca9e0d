//! The faults: how each is made, and what is asked of a cell that it befalls.

use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nudge_control::split_mix_64;
use zenoh::Wait;

use crate::children::{Process, robot_at};
use crate::common::{PREFIX, array, attachment, credentials, free_endpoint, until};
use crate::proxy::{Proxy, Trouble};
use crate::rig::{HELD_WITHIN, Robot};
use crate::table::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The robot sends nothing.
    ObservationsEnd,
    /// What it sends is no number.
    NotFinite,
    /// Every message comes 300 ms later than before.
    Delayed,
    /// Half of all messages never come.
    Lost,
    /// Every message comes twice.
    Repeated,
    /// Messages overtake each other by up to 50 ms.
    Shuffled,
    /// The stamps of observations are an hour behind.
    StaleClock,
    /// The controller is killed with -9, and another started.
    ControllerKilled,
    /// The controller is stopped with SIGSTOP, and goes on later.
    ControllerStopped,
    /// The same two with a guard on the robot's computer, which brings the robot to rest.
    GuardedControllerKilled,
    GuardedControllerStopped,
    /// The link between controller and guard is down.
    GuardedLinkDown,
    /// The link between two network namespaces is down.
    LinkDown,
    /// The router between the two is killed, and another started.
    RouterRestarted,
    /// Another controller wants the robot.
    SecondController,
    /// Somebody without a password commands and stops the robot.
    Stranger,
    /// The viewer takes nothing of what it is sent.
    SlowViewer,
    /// The disk that the recording goes to is full.
    FullDisk,
}

impl Fault {
    pub const ALL: [Self; 18] = [
        Self::ObservationsEnd,
        Self::NotFinite,
        Self::Delayed,
        Self::Lost,
        Self::Repeated,
        Self::Shuffled,
        Self::StaleClock,
        Self::ControllerKilled,
        Self::ControllerStopped,
        Self::GuardedControllerKilled,
        Self::GuardedControllerStopped,
        Self::LinkDown,
        Self::GuardedLinkDown,
        Self::RouterRestarted,
        Self::SecondController,
        Self::Stranger,
        Self::SlowViewer,
        Self::FullDisk,
    ];

    /// # Errors
    /// Why this machine cannot have it.
    pub fn possible(self) -> Result<(), String> {
        match self {
            Self::LinkDown | Self::GuardedLinkDown => Namespace::possible(),
            Self::FullDisk => Disk::possible(),
            Self::Stranger => credentials("lab").map(drop).ok_or_else(|| "there is no openssl".into()),
            _ => Ok(()),
        }
    }

    /// Makes a cell, lets it run, injects the fault at a moment drawn from `seed`, ends it, and tells what came of it.
    pub fn inject(self, seed: u64) -> Outcome {
        let endpoint = free_endpoint();
        match self {
            Self::ObservationsEnd => with_controller(&endpoint, seed, true, |robot, on| {
                robot.publishing.silent.store(on, Ordering::Relaxed)
            }),
            Self::NotFinite => with_controller(&endpoint, seed, true, |robot, on| {
                robot.publishing.not_finite.store(on, Ordering::Relaxed);
            }),
            Self::Delayed => with_proxy(&endpoint, seed, true, |trouble, on| {
                trouble.delay_ms.store(if on { 300 } else { 0 }, Ordering::Relaxed);
            }),
            Self::Lost => with_proxy(&endpoint, seed, false, |trouble, on| {
                trouble.lost_percent.store(if on { 50 } else { 0 }, Ordering::Relaxed);
            }),
            Self::Repeated => with_proxy(&endpoint, seed, false, |trouble, on| {
                trouble.repeated_percent.store(if on { 100 } else { 0 }, Ordering::Relaxed);
            }),
            Self::Shuffled => with_proxy(&endpoint, seed, false, |trouble, on| {
                trouble.shuffle_ms.store(if on { 50 } else { 0 }, Ordering::Relaxed);
            }),
            Self::StaleClock => with_controller(&endpoint, seed, true, |robot, on| {
                let offset = if on { -3_600_000 } else { 0 };
                robot.publishing.clock_offset_ms.store(offset, Ordering::Relaxed);
            }),
            Self::GuardedControllerKilled => {
                let mut cell = Guarded::start(&endpoint, &free_endpoint(), None);
                let between = cell.between.clone();
                let outcome = watch(&cell.robot, seed, true, |on| {
                    if on {
                        cell.controller.kill();
                    } else {
                        cell.controller = Process::start("guarded", &between);
                        cell.robot.begin();
                    }
                });
                alive(outcome, &mut cell.guard)
            }
            Self::GuardedControllerStopped => {
                let mut cell = Guarded::start(&endpoint, &free_endpoint(), None);
                let outcome = watch(&cell.robot, seed, true, |on| {
                    cell.controller.signal(if on { "STOP" } else { "CONT" });
                });
                alive(alive(outcome, &mut cell.guard), &mut cell.controller)
            }
            Self::GuardedLinkDown => {
                let namespace = Namespace::make();
                let between = namespace.endpoint();
                let mut cell = Guarded::start(&endpoint, &between, Some(&namespace));
                let outcome =
                    watch(&cell.robot, seed, true, |on| namespace.link(if on { "down" } else { "up" }));
                alive(alive(outcome, &mut cell.guard), &mut cell.controller)
            }
            Self::Stranger => {
                let folder = credentials("lab").expect("it was possible a moment ago");
                let file = |user: &str| folder.path().join(format!("lab/{user}.json5"));
                let mut described = robot_at(&endpoint);
                described.session.robot.config = Some(file("robot"));
                let robot = Robot::open(&described);
                let argument = format!("{} {endpoint}", file("controller").display());
                let mut controller = Process::start("user", &argument);
                let stranger = stranger(&endpoint);
                let outcome = watch(&robot, seed, false, |on| {
                    for sequence in 1..=if on { 200 } else { 0 } {
                        stranger.put("act/cmd", array(&ABSURD), Some(attachment(sequence, [9; 16])));
                        stranger.put("ctl/estop", vec![0, 1, 0, 0, 1], Some(attachment(sequence, [9; 16])));
                    }
                });
                let mut outcome = alive(outcome, &mut controller);
                if robot.commands().iter().any(|heard| heard.values == ABSURD) {
                    outcome.failure.get_or_insert("a stranger's command reached the robot".into());
                }
                outcome
            }
            Self::SlowViewer => {
                let robot = Robot::open(&robot_at(&endpoint));
                let mut controller = Process::start("controller", &endpoint);
                let viewer = Process::start("viewer", &endpoint);
                let outcome =
                    watch(&robot, seed, false, |on| viewer.signal(if on { "STOP" } else { "CONT" }));
                alive(outcome, &mut controller)
            }
            Self::FullDisk => {
                let disk = Disk::mount();
                let robot = Robot::open(&robot_at(&endpoint));
                let argument = format!("{} {endpoint}", disk.0.path().display());
                let mut controller = Process::start("recording", &argument);
                let outcome = watch(&robot, seed, false, |on| if on { disk.fill() } else { disk.free() });
                alive(outcome, &mut controller)
            }
            Self::ControllerKilled => {
                let robot = Robot::open(&robot_at(&endpoint));
                let mut controller = Process::start("controller", &endpoint);
                watch(&robot, seed, true, |on| {
                    if on {
                        controller.kill();
                    } else {
                        controller = Process::start("controller", &endpoint);
                        robot.begin();
                    }
                })
            }
            Self::ControllerStopped => {
                let robot = Robot::open(&robot_at(&endpoint));
                let mut controller = Process::start("controller", &endpoint);
                let outcome =
                    watch(&robot, seed, true, |on| controller.signal(if on { "STOP" } else { "CONT" }));
                alive(outcome, &mut controller)
            }
            Self::LinkDown => {
                let namespace = Namespace::make();
                let endpoint = namespace.endpoint();
                let robot = Robot::open(&robot_at(&endpoint));
                let mut controller =
                    Process::start_in(&["ip", "netns", "exec", &namespace.name], "controller", &endpoint);
                let outcome = watch(&robot, seed, true, |on| namespace.link(if on { "down" } else { "up" }));
                alive(outcome, &mut controller)
            }
            Self::RouterRestarted => {
                let mut router = Process::start("router", &endpoint);
                let address = endpoint.trim_start_matches("tcp/");
                until("the router", || TcpStream::connect(address).is_ok());
                let mut file = robot_at(&endpoint);
                file.session.robot.listen.clear();
                file.session.robot.connect = vec![endpoint.clone()];
                let robot = Robot::open(&file);
                let mut controller = Process::start("client", &endpoint);
                let outcome = watch(&robot, seed, true, |on| {
                    if on {
                        router.kill();
                    } else {
                        router = Process::start("router", &endpoint);
                    }
                });
                alive(outcome, &mut controller)
            }
            Self::SecondController => {
                let robot = Robot::open(&robot_at(&endpoint));
                let mut controller = Process::start("controller", &endpoint);
                let mut second = None;
                let outcome = watch(&robot, seed, false, |on| {
                    if on {
                        let mut other = Process::start("controller", &endpoint);
                        until("the second controller's refusal", || !other.is_alive());
                        second = Some(other);
                    }
                });
                alive(outcome, &mut controller)
            }
        }
    }
}

fn with_controller(endpoint: &str, seed: u64, holds: bool, fault: impl Fn(&Robot, bool)) -> Outcome {
    let robot = Robot::open(&robot_at(endpoint));
    let mut controller = Process::start("controller", endpoint);
    let outcome = watch(&robot, seed, holds, |on| fault(&robot, on));
    alive(outcome, &mut controller)
}

fn with_proxy(endpoint: &str, seed: u64, holds: bool, fault: impl Fn(&Trouble, bool)) -> Outcome {
    let robot = Robot::open(&robot_at(endpoint));
    let between = free_endpoint();
    let proxy = Proxy::start(endpoint, &between, seed);
    let mut controller = Process::start("controller", &between);
    let outcome = watch(&robot, seed, holds, |on| fault(&proxy.trouble, on));
    alive(outcome, &mut controller)
}

/// Runs a cell: the fault begins at a moment of its own, lasts until the robot stands still (or half a second, where it
/// is to go on), and ends.
fn watch(robot: &Robot, seed: u64, holds: bool, mut fault: impl FnMut(bool)) -> Outcome {
    robot.begin();
    std::thread::sleep(Duration::from_micros(split_mix_64(seed) % 100_000));
    let begun = Instant::now();
    fault(true);
    let held_after = if holds { robot.wait_until_still(begun, HELD_WITHIN) } else { None };
    if !holds {
        std::thread::sleep(Duration::from_millis(500));
    }
    let ended = Instant::now();
    fault(false);
    let moved_after = robot.wait_until_moving(ended);
    let failure = match (holds, held_after, moved_after) {
        (true, None, _) => Some(format!(
            "the robot did not stand still within {HELD_WITHIN:?}; after the fault came {}",
            robot.story(begun, ended)
        )),
        (_, _, None) => Some("the robot did not move again".into()),
        _ => robot.check_commands().err(),
    };
    Outcome { failure, held_after, moved_after }
}

fn alive(mut outcome: Outcome, controller: &mut Process) -> Outcome {
    if !controller.is_alive() {
        outcome.failure.get_or_insert("the controller has ended".into());
    }
    outcome
}

/// A robot with a guard beside it, and a controller that knows the guard alone.
struct Guarded {
    robot: Robot,
    guard: Process,
    controller: Process,
    /// Where the controller finds the guard.
    between: String,
}

impl Guarded {
    /// The controller runs in `namespace`, where there is one.
    fn start(endpoint: &str, between: &str, namespace: Option<&Namespace>) -> Self {
        let robot = Robot::open(&robot_at(endpoint));
        let guard = Process::start("guard", &format!("{endpoint} {between}"));
        let wrapper = namespace.map_or(Vec::new(), |namespace| vec!["ip", "netns", "exec", &namespace.name]);
        let controller = Process::start_in(&wrapper, "guarded", between);
        Self { robot, guard, controller, between: between.to_owned() }
    }
}

/// What no controller here would ever command.
const ABSURD: [f64; 2] = [999.0, 999.0];

/// A session on the network of the robot, without a password.
struct Stranger(zenoh::Session);

fn stranger(endpoint: &str) -> Stranger {
    let mut config = zenoh::Config::default();
    config.insert_json5("scouting/multicast/enabled", "false").unwrap();
    config.insert_json5("listen/endpoints", "[]").unwrap();
    config.insert_json5("connect/endpoints", &format!("[{endpoint:?}]")).unwrap();
    Stranger(zenoh::open(config).wait().unwrap())
}

impl Stranger {
    fn put(&self, key: &str, payload: Vec<u8>, attachment: Option<Vec<u8>>) {
        self.0.put(format!("{PREFIX}/{key}"), payload).attachment(attachment).wait().unwrap();
    }
}

/// A small file system of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    fn possible() -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap_or_default();
        if run(&["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path]) {
            run(&["umount", path]);
            Ok(())
        } else {
            Err("a file system of its own needs root".into())
        }
    }

    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        assert!(run(&["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder.path().to_str().unwrap()]));
        Self(folder)
    }

    fn fill(&self) {
        // It ends when nothing more fits.
        drop(std::fs::write(self.0.path().join("filler"), vec![1; 1 << 20]));
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(&["umount", "-l", self.0.path().to_str().unwrap_or_default()]);
    }
}

/// A network namespace, and a link to it that can be cut.
struct Namespace {
    name: String,
    number: u64,
}

impl Namespace {
    fn possible() -> Result<(), String> {
        let tried = Self::make();
        if run(&["ip", "netns", "exec", &tried.name, "true"]) {
            Ok(())
        } else {
            Err("network namespaces need root and `ip`".into())
        }
    }

    fn make() -> Self {
        let number = crate::rig::unique() % 250;
        let namespace = Self { name: format!("nudge{number}"), number };
        let (name, outside, inside) = (&namespace.name, format!("nudge{number}a"), format!("nudge{number}b"));
        let (here, there) = (format!("{}/24", namespace.address()), format!("10.77.{number}.2/24"));
        run(&["ip", "netns", "add", name]);
        run(&["ip", "link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", name]);
        run(&["ip", "address", "add", &here, "dev", &outside]);
        run(&["ip", "link", "set", &outside, "up"]);
        run(&["ip", "-n", name, "address", "add", &there, "dev", &inside]);
        run(&["ip", "-n", name, "link", "set", &inside, "up"]);
        run(&["ip", "-n", name, "link", "set", "lo", "up"]);
        namespace
    }

    fn address(&self) -> String {
        format!("10.77.{}.1", self.number)
    }

    fn endpoint(&self) -> String {
        let port = free_endpoint().rsplit(':').next().unwrap_or_default().to_owned();
        format!("tcp/{}:{port}", self.address())
    }

    fn link(&self, state: &str) {
        assert!(run(&["ip", "-n", &self.name, "link", "set", &format!("nudge{}b", self.number), state]));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run(&["ip", "link", "delete", &format!("nudge{}a", self.number)]);
        run(&["ip", "netns", "delete", &self.name]);
    }
}

fn run(words: &[&str]) -> bool {
    let output = Command::new(words[0]).args(&words[1..]).output();
    output.is_ok_and(|output| output.status.success())
}
