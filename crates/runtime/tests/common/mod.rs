//! A task, a policy, and a robot that speaks the protocol byte by byte, for the stories of the runtime.
#![allow(dead_code, reason = "every story uses its own part")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nudge_control::{
    Action, ActionChunk, Horizon, Interface, Observation, PlanRequest, Policy, PolicyError, Scene, Step, Task,
};
use nudge_runtime::{RobotFile, RobotOptions, RuntimeError, ServeOptions, ServeReport, serve};
use serde_json::{Value, json};
use zenoh::Wait;
use zenoh::sample::Sample;

pub const HORIZON: Horizon = Horizon { observed: 2, predicted: 10, executed: 8 };
/// What nothing in these stories takes, on any machine.
pub const LONG: Duration = Duration::from_secs(30);

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "waited {LONG:?} for: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed()
}

/// An endpoint on loopback that nobody listens at.
pub fn free_endpoint() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("tcp/127.0.0.1:{port}")
}

/// A robot whose two numbers are commanded and measured, with one more thing that the policy sees.
pub fn robot_file(pace: &str, control_hz: f64, endpoint: &str) -> RobotFile {
    let text = format!(
        r#"
        name = "fake"
        prefix = "test/fake"
        pace = "{pace}"
        control_hz = {control_hz:?}
        [session]
        robot = {{ listen = ["{endpoint}"] }}
        controller = {{ listen = ["tcp/127.0.0.1:0"], connect = ["{endpoint}"] }}
        [[observation]]
        name = "place"
        shape = [2]
        unit = "m"
        [[observation]]
        name = "time"
        shape = [1]
        [[action]]
        name = "place"
        shape = [2]
        unit = "m"
        limits = {{ low = [-1000.0, -1000.0], high = [1000.0, 1000.0] }}
        measured_by = "place"
        "#
    );
    RobotFile::parse(&text).unwrap()
}

/// The same robot, planned for at 20 Hz and commanded at 200 Hz, with limits of everything.
pub fn fast_robot_file(endpoint: &str) -> RobotFile {
    let mut robot = robot_file("clock", 20.0, endpoint);
    robot.command_hz = Some(200.0);
    for action in &mut robot.action {
        action.velocity = Some(vec![400.0; 2]);
        action.acceleration = Some(vec![1e4; 2]);
        action.jerk = Some(vec![1e6; 2]);
    }
    robot
}

/// A point that goes where it is told; the reward is how far right it is. Its observation shows the step too.
pub struct Point {
    interface: Interface,
    place: [f64; 2],
    steps: usize,
    max_steps: usize,
}

impl Point {
    pub fn new(robot: &RobotFile, max_steps: usize) -> Box<Self> {
        Box::new(Self { interface: robot.interface(), place: [0.0; 2], steps: 0, max_steps })
    }

    fn observe(&self) -> Observation {
        Observation(vec![self.place[0], self.place[1], self.steps as f64])
    }
}

impl Task for Point {
    fn name(&self) -> &str {
        "point"
    }

    fn interface(&self) -> &Interface {
        &self.interface
    }

    fn reset(&mut self, seed: u64) -> Observation {
        self.place = [seed as f64 / 100.0, -1.0];
        self.steps = 0;
        self.observe()
    }

    fn step(&mut self, action: &Action) -> Step {
        self.place = [action.0[0], action.0[1]];
        self.steps += 1;
        let done = self.steps == self.max_steps;
        Step {
            observation: self.observe(),
            reward: (self.place[0] / 1000.0).clamp(0.0, 1.0),
            success: false,
            done,
        }
    }

    fn hold_action(&self) -> Action {
        Action(self.place.to_vec())
    }

    fn max_steps(&self) -> usize {
        self.max_steps
    }

    fn scene(&self) -> Scene {
        Scene { size: [1.0, 1.0], shapes: vec![] }
    }
}

/// What a [`Counting`] policy does when it is asked.
#[derive(Clone, Default)]
pub struct Behaviour {
    /// How long it plans.
    pub delay: Arc<Mutex<Duration>>,
    pub fail: Arc<AtomicBool>,
    pub panic: Arc<AtomicBool>,
    /// What it was asked.
    pub asked: Arc<Mutex<Vec<PlanRequest>>>,
}

/// Commands the observed first number and as many more as control steps have passed since, and the step itself: a
/// command tells which observation it was planned from and which step it is for. Never asked with what is not finite.
pub struct Counting {
    interface: Interface,
    behaviour: Behaviour,
}

impl Counting {
    pub fn new(robot: &RobotFile, behaviour: &Behaviour) -> Box<Self> {
        Box::new(Self { interface: robot.interface(), behaviour: behaviour.clone() })
    }
}

impl Policy for Counting {
    fn interface(&self) -> &Interface {
        &self.interface
    }

    fn horizon(&self) -> Horizon {
        HORIZON
    }

    /// So that it is told what is committed; its actions follow from the step alone.
    fn max_committed(&self) -> usize {
        8
    }

    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        self.behaviour.asked.lock().unwrap().extend_from_slice(requests);
        let delay = *self.behaviour.delay.lock().unwrap();
        std::thread::sleep(delay);
        if self.behaviour.fail.load(Ordering::Relaxed) {
            return Err(PolicyError::Failed("told to fail".into()));
        }
        assert!(!self.behaviour.panic.load(Ordering::Relaxed), "told to panic");
        let plan = |request: &PlanRequest| {
            assert_eq!(request.window.0.len(), HORIZON.observed);
            let seen = &request.window.0[HORIZON.observed - 1].0;
            assert!(request.window.0.iter().all(|observed| observed.0.iter().all(|value| value.is_finite())));
            let noise = (request.noise_seed % 1000) as f64 / 1e6;
            let action = |ahead: u64| {
                let step = (request.step + ahead) as f64;
                Action(vec![seen[0] + 1.0 + ahead as f64 + noise, step])
            };
            ActionChunk { first_step: request.step, actions: (0..8).map(action).collect() }
        };
        Ok(requests.iter().map(plan).collect())
    }
}

/// `serve` on its own thread.
pub struct Serving {
    pub stop: Arc<AtomicBool>,
    pub thread: JoinHandle<Result<ServeReport, RuntimeError>>,
}

impl Serving {
    pub fn start(robot: &RobotFile, behaviour: &Behaviour) -> Self {
        Self::start_with(robot, behaviour, ServeOptions::default())
    }

    pub fn start_with(robot: &RobotFile, behaviour: &Behaviour, mut options: ServeOptions) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        options.stop = stop.clone();
        options.max_wait.get_or_insert(LONG);
        let (policy, robot) = (Counting::new(robot, behaviour), robot.clone());
        let thread = std::thread::spawn(move || serve(policy, robot, options));
        Self { stop, thread }
    }

    pub fn end(self) -> ServeReport {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap()
    }
}

pub fn robot_options(episodes: usize) -> RobotOptions {
    RobotOptions {
        listen: None,
        episodes,
        first_seed: 100,
        stop: Arc::default(),
        max_wait: LONG,
        on_episode: None,
        on_step: None,
        on_ready: None,
    }
}

pub fn count(report: &ServeReport, counter: &str) -> u64 {
    report.counters[counter].as_u64().unwrap()
}

/// A command as it came over the wire.
#[derive(Clone, Debug)]
pub struct Heard {
    pub sequence: i64,
    pub values: Vec<f64>,
    pub at: Instant,
}

/// A robot that writes its own bytes, so that a story can send whatever it likes.
pub struct RawRobot {
    pub session: zenoh::Session,
    pub gid: [u8; 16],
    pub commands: Arc<Mutex<Vec<Heard>>>,
    pub statuses: Arc<Mutex<Vec<Value>>>,
    sequence: AtomicI64,
}

pub const PREFIX: &str = "test/fake";

impl RawRobot {
    /// Listens at the robot file's endpoints, or is a client of a router where it has none, and describes itself as
    /// `description`.
    pub fn describing(robot: &RobotFile, description: Value) -> Self {
        let own = &robot.session.robot;
        let mut config = match &own.config {
            Some(file) => zenoh::Config::from_file(file).unwrap(),
            None => zenoh::Config::default(),
        };
        config.insert_json5("scouting/multicast/enabled", "false").unwrap();
        config.insert_json5("listen/endpoints", &serde_json::to_string(&own.listen).unwrap()).unwrap();
        if own.listen.is_empty() {
            config.insert_json5("mode", "\"client\"").unwrap();
            config.insert_json5("connect/endpoints", &serde_json::to_string(&own.connect).unwrap()).unwrap();
        }
        let session = zenoh::open(config).wait().unwrap();
        let commands: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let heard = commands.clone();
        let on_command = move |sample: Sample| {
            let attachment = sample.attachment().unwrap().to_bytes().into_owned();
            assert_eq!((attachment.len(), attachment[16]), (33, 16));
            assert_eq!(sample.encoding().to_string(), "application/cdr;std_msgs/msg/Float64MultiArray");
            let sequence = i64::from_le_bytes(attachment[..8].try_into().unwrap());
            let values = numbers(&sample.payload().to_bytes());
            heard.lock().unwrap().push(Heard { sequence, values, at: Instant::now() });
        };
        let statuses: Arc<Mutex<Vec<Value>>> = Arc::default();
        let told = statuses.clone();
        let on_status = move |sample: Sample| {
            let status: Value = serde_json::from_slice(&sample.payload().to_bytes()).unwrap();
            assert_eq!(status["role"], "controller");
            told.lock().unwrap().push(status);
        };
        session
            .declare_subscriber(format!("{PREFIX}/act/cmd"))
            .callback(on_command)
            .background()
            .wait()
            .unwrap();
        session
            .declare_subscriber(format!("{PREFIX}/ctl/status"))
            .callback(on_status)
            .background()
            .wait()
            .unwrap();
        let text = description.to_string();
        session
            .declare_queryable(format!("{PREFIX}/rpc/describe"))
            .callback(move |query| query.reply(query.key_expr(), text.as_str()).wait().unwrap())
            .background()
            .wait()
            .unwrap();
        Self { session, gid: [7; 16], commands, statuses, sequence: AtomicI64::new(0) }
    }

    pub fn open(robot: &RobotFile) -> Self {
        Self::describing(robot, description(robot))
    }

    /// Publishes whatever bytes.
    pub fn put(&self, key: &str, payload: Vec<u8>, attachment: Option<Vec<u8>>) {
        self.session.put(format!("{PREFIX}/{key}"), payload).attachment(attachment).wait().unwrap();
    }

    pub fn attachment(&self, sequence: i64) -> Vec<u8> {
        attachment(sequence, self.gid)
    }

    /// Sends a whole observation of this sequence.
    pub fn observe_as(&self, sequence: i64, place: [f64; 2]) {
        self.put("obs/place", array(&place), Some(self.attachment(sequence)));
        self.put("obs/time", array(&[sequence as f64]), Some(self.attachment(sequence)));
    }

    /// Sends the next whole observation, and tells its sequence.
    pub fn observe(&self, place: [f64; 2]) -> i64 {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        self.observe_as(sequence, place);
        sequence
    }

    pub fn estop(&self, value: u8) {
        self.put("ctl/estop", vec![0, 1, 0, 0, value], Some(self.attachment(1)));
    }

    /// Asks a remote call and returns the one reply.
    pub fn call(&self, name: &str, payload: &Value) -> Value {
        let replies =
            self.session.get(format!("{PREFIX}/{name}")).payload(payload.to_string()).wait().unwrap();
        let reply = replies.recv().unwrap().into_result().unwrap();
        serde_json::from_slice(&reply.payload().to_bytes()).unwrap()
    }

    /// Resets, as soon as a controller answers.
    pub fn reset(&self, payload: &Value) {
        until("a controller that answers the reset", || {
            let get = self.session.get(format!("{PREFIX}/rpc/reset")).payload(payload.to_string());
            let replies = get.timeout(Duration::from_millis(300)).wait().unwrap();
            replies.recv().is_ok_and(|reply| {
                let text = reply.into_result().unwrap().payload().to_bytes().into_owned();
                serde_json::from_slice::<Value>(&text).unwrap()["ok"] == json!(true)
            })
        });
    }

    /// What the newest status says.
    pub fn status(&self) -> Value {
        self.statuses.lock().unwrap().last().cloned().unwrap_or_default()
    }

    pub fn state(&self) -> String {
        self.status()["state"].as_str().unwrap_or_default().to_owned()
    }

    pub fn last_command(&self) -> Option<Heard> {
        self.commands.lock().unwrap().last().cloned()
    }

    pub fn commands_heard(&self) -> usize {
        self.commands.lock().unwrap().len()
    }

    /// Observes at this rate, at the same place, until the condition holds.
    pub fn observe_until(
        &self,
        place: [f64; 2],
        period: Duration,
        what: &str,
        mut condition: impl FnMut() -> bool,
    ) {
        let mut next = Instant::now();
        until(what, || {
            if Instant::now() >= next {
                self.observe(place);
                next += period;
            }
            condition()
        });
    }
}

pub fn description(robot: &RobotFile) -> Value {
    json!({
        "role": "robot",
        "protocol": 1,
        "robot": "raw",
        "interface": robot.interface(),
        "pace": robot.pace,
        "versions": { "raw": "1" },
        "extra": "ignored",
    })
}

pub fn attachment(sequence: i64, gid: [u8; 16]) -> Vec<u8> {
    let mut bytes = sequence.to_le_bytes().to_vec();
    bytes.extend(1_700_000_000_000_000_000_i64.to_le_bytes());
    bytes.push(16);
    bytes.extend(gid);
    bytes
}

/// CDR of a Float64MultiArray, written out by hand.
pub fn array(values: &[f64]) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend((values.len() as u32).to_le_bytes());
    if !values.is_empty() {
        bytes.extend([0; 4]);
    }
    values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    bytes
}

/// The numbers of a Float64MultiArray without a layout.
pub fn numbers(bytes: &[u8]) -> Vec<f64> {
    assert_eq!(bytes[..12], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let count = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    assert_eq!(bytes.len(), 20 + 8 * count);
    let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap());
    bytes[20..].chunks(8).map(number).collect()
}

/// Where the shipped zenoh configurations are.
pub fn zenoh_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/zenoh")
}

/// Where a robot of that `kind` of security is listened for.
pub fn secure_endpoint(kind: &str) -> String {
    let endpoint = free_endpoint();
    match kind {
        "plant" => endpoint.replace("tcp/127.0.0.1", "tls/localhost"),
        _ => endpoint,
    }
}

/// Users or certificates in a folder of their own; `None`, and a word about it, where there is no openssl.
pub fn credentials(kind: &str) -> Option<tempfile::TempDir> {
    let openssl = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
    if !openssl.is_ok_and(|status| status.success()) {
        println!("skipped: openssl, which makes the credentials, is not installed");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(zenoh_folder().join("make_credentials.sh"))
        .args([kind, folder.path().join(kind).to_str().unwrap()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(folder)
}
