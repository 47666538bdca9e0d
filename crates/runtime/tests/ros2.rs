//! A ROS 2 robot over real zenoh on loopback, as rmw_zenoh would put it there, driven by `serve`.
#![cfg(feature = "zenoh")]

mod common;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Behaviour, LONG, Serving, attachment, count, free_endpoint, until};
use nudge_runtime::{RobotFile, RuntimeError, ServeOptions};
use nudge_wire::{
    Attachment, Bool, Endpoint, EndpointKind, Float64MultiArray, JointState, JointTrajectory, Message,
    MessageType, Node, Qos, Text, bridge_key, data_key, parse_endpoint,
};
use serde_json::{Value, json};
use zenoh::Wait;
use zenoh::liveliness::LivelinessToken;
use zenoh::sample::Sample;

const DOMAIN: u32 = 7;
const TICK: Duration = Duration::from_millis(20);
const STATES: &str = "/arm/joint_states";
const COMMANDS: &str = "/arm/commands";
const FORWARD: &str = r#"message = { type = "float64_multi_array" }"#;

/// Two joints that are measured and commanded. `changes` replace parts of the file.
fn robot_file(endpoint: &str, changes: &[(&str, &str)]) -> RobotFile {
    let mut text = format!(
        r#"
        name = "arm"
        prefix = "test/arm"
        protocol = "ros2"
        pace = "clock"
        control_hz = 50.0
        [ros2]
        domain = {DOMAIN}
        namespace = "/cell"
        estop = {{ topic = "/estop" }}
        [session]
        robot = {{ listen = ["{endpoint}"] }}
        controller = {{ listen = ["tcp/127.0.0.1:0"], connect = ["{endpoint}"] }}
        [[observation]]
        name = "position"
        shape = [2]
        topic = "{STATES}"
        message = {{ type = "joint_state", field = "position", joints = ["shoulder", "elbow"] }}
        [[observation]]
        name = "velocity"
        shape = [1]
        topic = "{STATES}"
        message = {{ type = "joint_state", field = "velocity", joints = ["elbow"] }}
        [[action]]
        name = "position"
        shape = [2]
        topic = "{COMMANDS}"
        {FORWARD}
        limits = {{ low = [-1000.0, -1000.0], high = [1000.0, 1000.0] }}
        measured_by = "position"
        "#
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    RobotFile::parse(&text).unwrap()
}

fn trajectory(send: &str) -> String {
    format!(r#"message = {{ type = "joint_trajectory", joints = ["shoulder", "elbow"], send = "{send}" }}"#)
}

/// A message that was heard: its attachment and its bytes.
#[derive(Clone, Debug)]
struct Heard {
    from: Option<Attachment>,
    payload: Vec<u8>,
}

/// The robot's side: a session with the tokens and topics of a driver.
struct Driver {
    session: zenoh::Session,
    node: Node,
    sequence: AtomicI64,
    gid: [u8; 16],
    commands: Arc<Mutex<Vec<Heard>>>,
    statuses: Arc<Mutex<Vec<Value>>>,
    tokens: Mutex<Vec<LivelinessToken>>,
}

fn open(mode: &str, listen: &[&str], connect: &[&str]) -> zenoh::Session {
    let mut config = zenoh::Config::default();
    let list = |endpoints: &[&str]| serde_json::to_string(endpoints).unwrap();
    for (key, value) in [
        ("mode", format!("\"{mode}\"")),
        ("scouting/multicast/enabled", "false".into()),
        ("listen/endpoints", list(listen)),
        ("connect/endpoints", list(connect)),
    ] {
        config.insert_json5(key, &value).unwrap();
    }
    zenoh::open(config).wait().unwrap()
}

impl Driver {
    /// A driver whose commands come in `message` on `key`.
    fn new(session: zenoh::Session, key: &str) -> Self {
        let node = Node {
            domain: DOMAIN,
            zid: session.zid().to_string(),
            id: 0,
            namespace: "/".into(),
            name: "driver".into(),
        };
        let commands: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let heard = commands.clone();
        let on_command = move |sample: Sample| {
            let from = sample.attachment().map(|bytes| Attachment::decode(&bytes.to_bytes()).unwrap());
            heard.lock().unwrap().push(Heard { from, payload: sample.payload().to_bytes().into_owned() });
        };
        session.declare_subscriber(key.to_owned()).callback(on_command).background().wait().unwrap();
        let statuses: Arc<Mutex<Vec<Value>>> = Arc::default();
        let told = statuses.clone();
        let on_status = move |sample: Sample| {
            told.lock().unwrap().push(serde_json::from_slice(&sample.payload().to_bytes()).unwrap());
        };
        session.declare_subscriber("test/arm/ctl/status").callback(on_status).background().wait().unwrap();
        let (sequence, tokens) = (AtomicI64::new(0), Mutex::default());
        Self { session, node, sequence, gid: [9; 16], commands, statuses, tokens }
    }

    /// A driver under rmw_zenoh that publishes joint states and takes commands as `message`.
    fn start(robot: &RobotFile, message: MessageType) -> Self {
        let listen: Vec<&str> = robot.session.robot.listen.iter().map(String::as_str).collect();
        let driver = Self::new(open("peer", &listen, &[]), &data_key(DOMAIN, COMMANDS, message));
        driver.declare(EndpointKind::Publisher, STATES, MessageType::JointState);
        driver.declare(EndpointKind::Subscriber, COMMANDS, message);
        driver
    }

    fn declare(&self, kind: EndpointKind, topic: &str, message: MessageType) {
        let endpoint = Endpoint::new(&self.node, 1, kind, topic, message, Qos::default());
        self.declare_endpoint(&endpoint);
    }

    fn declare_endpoint(&self, endpoint: &Endpoint) {
        let token = self.session.liveliness().declare_token(endpoint.token()).wait().unwrap();
        self.tokens.lock().unwrap().push(token);
    }

    fn put(&self, topic: &str, message: MessageType, payload: Vec<u8>, attached: Option<Vec<u8>>) {
        self.session.put(data_key(DOMAIN, topic, message), payload).attachment(attached).wait().unwrap();
    }

    /// The joints in another order than the robot file's, with one more among them.
    fn states(position: [f64; 2]) -> Vec<u8> {
        let [shoulder, elbow] = position;
        let state = JointState {
            name: ["elbow", "wrist", "shoulder"].map(String::from).to_vec(),
            position: vec![elbow, 99.0, shoulder],
            velocity: vec![0.5, 98.0, 97.0],
            ..JointState::default()
        };
        state.encode()
    }

    fn observe(&self, position: [f64; 2]) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let attached = attachment(sequence, self.gid);
        self.put(STATES, MessageType::JointState, Self::states(position), Some(attached));
    }

    /// Observes every tick until something has come about.
    fn observe_until(&self, position: [f64; 2], what: &str, mut condition: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < LONG, "waited {LONG:?} for: {what}; {:?}", self.status());
            self.observe(position);
            std::thread::sleep(TICK);
        }
    }

    fn status(&self) -> Value {
        self.statuses.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn is(&self, state: &str) -> bool {
        self.status()["state"] == state
    }

    fn heard(&self) -> Vec<Heard> {
        self.commands.lock().unwrap().clone()
    }

    fn last(&self) -> Heard {
        self.commands.lock().unwrap().last().cloned().unwrap()
    }

    fn call(&self, name: &str) -> Value {
        let replies = self.session.get(format!("test/arm/{name}")).timeout(LONG).wait().unwrap();
        let reply = replies.recv().unwrap();
        serde_json::from_slice(&reply.result().unwrap().payload().to_bytes()).unwrap()
    }

    /// Endpoints of the controller, as ROS 2's tools would list them.
    fn endpoints_of_controller(&self) -> Vec<Endpoint> {
        let replies = self.session.liveliness().get(format!("@ros2_lv/{DOMAIN}/**")).wait().unwrap();
        let keys =
            replies.iter().filter_map(|reply| reply.into_result().ok()).map(|s| s.key_expr().to_string());
        let keys: Vec<String> = keys.collect();
        if !keys.iter().any(|key| key.contains("/NN/") && key.ends_with("/%/%cell/nudge")) {
            return Vec::new();
        }
        let endpoints = keys.iter().filter_map(|key| parse_endpoint(key));
        endpoints.filter(|endpoint| endpoint.node.name == "nudge").collect()
    }
}

fn floats(heard: &Heard) -> Vec<f64> {
    Float64MultiArray::decode(&heard.payload).unwrap().data
}

#[test]
fn joint_states_come_in_by_name_and_commands_go_out_on_their_topic() {
    let robot = robot_file(&free_endpoint(), &[]);
    let driver = Driver::start(&robot, MessageType::Float64MultiArray);
    let behaviour = Behaviour::default();
    let serving = Serving::start(&robot, &behaviour);
    driver.observe_until([100.0, 200.0], "commands of a plan", || {
        driver.heard().iter().filter(|heard| floats(heard)[0] > 100.5).count() > 20
    });
    let asked = behaviour.asked.lock().unwrap()[0].clone();
    assert_eq!(
        asked.window.0[1].0,
        [100.0, 200.0, 0.5],
        "the joints are picked by name, in the file's order"
    );

    let mut endpoints = driver.endpoints_of_controller();
    endpoints.sort_by(|one, other| one.topic.cmp(&other.topic));
    let said: Vec<_> =
        endpoints.iter().map(|one| (one.topic.as_str(), one.kind, one.hash.as_str())).collect();
    let hash = MessageType::hash;
    let expected = [
        (COMMANDS, EndpointKind::Publisher, hash(MessageType::Float64MultiArray)),
        (STATES, EndpointKind::Subscriber, hash(MessageType::JointState)),
        ("/estop", EndpointKind::Subscriber, hash(MessageType::Bool)),
    ];
    assert_eq!(said, expected);
    assert!(endpoints.iter().all(|one| one.node.namespace == "/cell" && one.qos == "::,10:,:,:,,"));

    let report = serving.end();
    let heard = driver.heard();
    let sequences: Vec<i64> = heard.iter().map(|heard| heard.from.unwrap().sequence).collect();
    assert!(sequences[0] >= 1 && sequences.windows(2).all(|pair| pair[0] < pair[1]), "{sequences:?}");
    let gid = heard[0].from.unwrap().gid;
    assert!(heard.iter().all(|heard| heard.from.unwrap().gid == gid));
    for refusal in ["attachment_refused", "payload_refused", "shape_refused", "foreign_publisher"] {
        assert_eq!(count(&report, refusal), 0, "{refusal}");
    }
}

#[test]
fn a_driver_that_stops_is_held_and_the_stop_topic_latches() {
    let robot = robot_file(&free_endpoint(), &[]);
    let driver = Driver::start(&robot, MessageType::Float64MultiArray);
    let serving = Serving::start(&robot, &Behaviour::default());
    driver.observe_until([1.0, 2.0], "running", || driver.is("Run"));
    driver.observe([3.0, 4.0]);
    until("a hold where it was measured last", || floats(&driver.last()) == [3.0, 4.0]);
    until("the status", || driver.status()["reason"] == "observation_stale");
    driver.observe_until([5.0, 6.0], "running again", || driver.is("Run"));

    let stop = |value: bool| {
        let attached = Some(attachment(1, [4; 16]));
        driver.put("/estop", MessageType::Bool, Bool(value).encode(), attached);
    };
    driver.observe_until([5.0, 6.0], "the stop", || {
        stop(true);
        driver.is("Stopped")
    });
    stop(false);
    let silent_from = driver.heard().len();
    let mut seen = 0;
    driver.observe_until([5.0, 6.0], "observations", || {
        seen += 1;
        seen > 20
    });
    assert_eq!(driver.heard().len(), silent_from, "a stopped controller is silent");
    driver.observe_until([5.0, 6.0], "the release", || driver.call("rpc/release")["ok"] == json!(true));
    driver.observe_until([5.0, 6.0], "commands", || driver.heard().len() > silent_from);
    serving.end();
}

#[test]
fn a_text_stops_too() {
    let changes = [(r#"{ topic = "/estop" }"#, r#"{ topic = "/estop", message = "string" }"#)];
    let robot = robot_file(&free_endpoint(), &changes);
    let driver = Driver::start(&robot, MessageType::Float64MultiArray);
    let serving = Serving::start(&robot, &Behaviour::default());
    driver.observe_until([1.0, 2.0], "running", || driver.is("Run"));
    driver.observe_until([1.0, 2.0], "the stop", || {
        let attached = Some(attachment(1, [4; 16]));
        driver.put("/estop", MessageType::String, Text("stop".into()).encode(), attached);
        driver.is("Stopped")
    });
    serving.end();
}

#[test]
fn a_whole_plan_ends_at_rest_and_is_called_back_by_a_stop() {
    let robot = robot_file(&free_endpoint(), &[(FORWARD, &trajectory("plan"))]);
    let driver = Driver::start(&robot, MessageType::JointTrajectory);
    let serving = Serving::start(&robot, &Behaviour::default());
    driver.observe_until([1.0, 2.0], "running", || driver.is("Run") && driver.heard().len() > 20);
    let decode = |heard: &Heard| JointTrajectory::decode(&heard.payload).unwrap();
    let plans: Vec<JointTrajectory> = driver.heard().iter().map(decode).collect();
    let longest = plans.iter().max_by_key(|plan| plan.points.len()).unwrap();
    assert!(longest.points.len() >= 5, "{longest:?}");
    for plan in &plans {
        assert_eq!(plan.joint_names, ["shoulder", "elbow"]);
        assert_eq!(plan.points.last().unwrap().velocities, [0.0, 0.0]);
        for (index, point) in (1..).zip(&plan.points) {
            assert_eq!(point.time_from_start.to_ns(), 20_000_000 * index);
        }
        // The second number of an action is its step: a plan holds the steps in order.
        let steps = plan.points.windows(2).map(|pair| pair[1].positions[1] - pair[0].positions[1]);
        assert!(steps.into_iter().all(|step| step == 1.0) || plan.points.len() == 1, "{plan:?}");
    }
    driver.observe_until([1.0, 2.0], "the stop", || {
        driver.put("/estop", MessageType::Bool, Bool(true).encode(), Some(attachment(1, [4; 16])));
        driver.is("Stopped")
    });
    until("the plan to be called back", || decode(&driver.last()).points.len() == 1);
    let last = decode(&driver.last());
    assert_eq!(last.points[0].velocities, [0.0, 0.0]);
    serving.end();
}

#[test]
fn when_serving_ends_a_plan_is_called_back() {
    let robot = robot_file(&free_endpoint(), &[(FORWARD, &trajectory("plan"))]);
    let driver = Driver::start(&robot, MessageType::JointTrajectory);
    let serving = Serving::start(&robot, &Behaviour::default());
    let points = |heard: &Heard| JointTrajectory::decode(&heard.payload).unwrap().points.len();
    driver.observe_until([1.0, 2.0], "a plan", || driver.heard().iter().any(|heard| points(heard) > 4));
    serving.end();
    until("the last trajectory", || points(&driver.last()) == 1);
}

#[test]
fn limits_hold_for_every_point_of_a_plan() {
    let changes = [
        (FORWARD, &*trajectory("plan")),
        ("high = [1000.0, 1000.0] }", "high = [1000.0, 1000.0] }\nvelocity = [10.0, 25.0]"),
    ];
    let robot = robot_file(&free_endpoint(), &changes);
    let driver = Driver::start(&robot, MessageType::JointTrajectory);
    let serving = Serving::start(&robot, &Behaviour::default());
    driver.observe_until([1.0, 2.0], "plans", || driver.is("Run") && driver.heard().len() > 20);
    for heard in driver.heard() {
        let plan = JointTrajectory::decode(&heard.payload).unwrap();
        for pair in plan.points.windows(2) {
            for (joint, per_tick) in [10.0 * 0.02, 25.0 * 0.02].into_iter().enumerate() {
                let step = (pair[1].positions[joint] - pair[0].positions[joint]).abs();
                assert!(step <= per_tick + 1e-9, "{step} of joint {joint}: {plan:?}");
            }
        }
    }
    serving.end();
}

#[test]
fn each_point_alone_when_the_file_says_so() {
    let robot = robot_file(&free_endpoint(), &[(FORWARD, &trajectory("point"))]);
    let driver = Driver::start(&robot, MessageType::JointTrajectory);
    let serving = Serving::start(&robot, &Behaviour::default());
    driver.observe_until([1.0, 2.0], "running", || driver.is("Run") && driver.heard().len() > 10);
    for heard in driver.heard() {
        let sent = JointTrajectory::decode(&heard.payload).unwrap();
        assert_eq!((sent.points.len(), sent.points[0].time_from_start.to_ns()), (1, 20_000_000));
    }
    serving.end();
}

#[test]
fn a_forward_controller_is_commanded_at_its_own_rate() {
    let robot =
        robot_file(&free_endpoint(), &[("control_hz = 50.0", "control_hz = 20.0\ncommand_hz = 200.0")]);
    let driver = Driver::start(&robot, MessageType::Float64MultiArray);
    let serving = Serving::start(&robot, &Behaviour::default());
    driver.observe_until([1.0, 2.0], "running", || driver.is("Run"));
    let (begun, before) = (Instant::now(), driver.heard().len());
    driver.observe_until([1.0, 2.0], "commands", || driver.heard().len() > before + 200);
    // Ten to a control step; a busy machine may miss some.
    let steps = begun.elapsed().as_secs_f64() * 20.0;
    assert!(200.0 > 3.0 * steps, "200 commands in {steps:.1} control steps");
    assert!(driver.heard().iter().all(|heard| floats(heard).iter().all(|number| number.is_finite())));
    serving.end();
}

#[test]
fn what_would_stay_silent_is_refused_with_the_reason() {
    let refusal = |prepare: &dyn Fn(&Driver)| {
        let robot = robot_file(&free_endpoint(), &[]);
        let listen = robot.session.robot.listen[0].clone();
        let driver = Driver::new(open("peer", &[&listen], &[]), "unused");
        prepare(&driver);
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let troubles = told.clone();
        let options = ServeOptions {
            max_wait: Some(Duration::from_millis(1500)),
            on_trouble: Some(Box::new(move |text| troubles.lock().unwrap().push(text.to_owned()))),
            ..ServeOptions::default()
        };
        let serving = Serving::start_with(&robot, &Behaviour::default(), options);
        while !serving.thread.is_finished() {
            driver.observe([1.0, 2.0]);
            std::thread::sleep(TICK);
        }
        (serving.thread.join().unwrap().unwrap_err(), told.lock().unwrap().clone())
    };
    let (nobody, told) = refusal(&|_| {});
    assert!(matches!(nobody, RuntimeError::Ros2Missing { .. }), "{nobody}");
    let text = nobody.to_string();
    assert!(
        text.contains("nobody publishes `/arm/joint_states`") && text.contains("nobody listens to"),
        "{text}"
    );
    assert!(told.len() == 1 && text.contains(&told[0]), "{told:?}");

    let (other_hash, _) = refusal(&|driver| {
        let joints = MessageType::JointState;
        let mut endpoint =
            Endpoint::new(&driver.node, 1, EndpointKind::Publisher, STATES, joints, Qos::default());
        endpoint.hash = format!("RIHS01_{}", "0".repeat(64));
        driver.declare_endpoint(&endpoint);
    });
    assert!(matches!(other_hash, RuntimeError::Ros2Differs { .. }), "{other_hash}");
    assert!(other_hash.to_string().contains("of another version"), "{other_hash}");

    let (other_type, _) = refusal(&|driver| {
        driver.declare(EndpointKind::Publisher, STATES, MessageType::JointState);
        driver.declare(EndpointKind::Subscriber, COMMANDS, MessageType::JointTrajectory);
    });
    assert!(other_type.to_string().contains("JointTrajectory_"), "{other_type}");
}

#[test]
fn a_joint_that_is_missing_is_named() {
    let joints = r#"field = "velocity", joints = ["elbow"]"#;
    let robot = robot_file(&free_endpoint(), &[(joints, r#"field = "velocity", joints = ["knee"]"#)]);
    let driver = Driver::start(&robot, MessageType::Float64MultiArray);
    let serving = Serving::start(&robot, &Behaviour::default());
    driver.observe_until([1.0, 2.0], "a refusal", || serving.thread.is_finished());
    let error = serving.thread.join().unwrap().unwrap_err().to_string();
    assert!(
        error.contains("`/arm/joint_states`") && error.contains("no joint `knee`, only elbow, wrist"),
        "{error}"
    );
}

#[test]
fn a_gripper_that_publishes_on_the_same_topic_is_no_hindrance() {
    let robot = robot_file(&free_endpoint(), &[]);
    let driver = Driver::start(&robot, MessageType::Float64MultiArray);
    let serving = Serving::start(&robot, &Behaviour::default());
    let finger =
        JointState { name: vec!["finger".into()], position: vec![0.02], ..JointState::default() }.encode();
    let mut sequence = 0;
    driver.observe_until([1.0, 2.0], "running", || {
        sequence += 1;
        let attached = Some(attachment(sequence, [1; 16]));
        driver.put(STATES, MessageType::JointState, finger.clone(), attached);
        driver.is("Run") && driver.heard().len() > 10
    });
    let report = serving.end();
    assert!(count(&report, "shape_refused") > 0 && count(&report, "foreign_publisher") == 0, "{report:?}");
}

#[test]
fn malformed_and_foreign_messages_are_counted_and_change_nothing() {
    let robot = robot_file(&free_endpoint(), &[]);
    let driver = Driver::start(&robot, MessageType::Float64MultiArray);
    let serving = Serving::start(&robot, &Behaviour::default());
    driver.observe_until([1.0, 2.0], "running", || driver.is("Run"));
    let states = Driver::states([500.0, 500.0]);
    let attached = |sequence: i64| Some(attachment(sequence, driver.gid));
    let put = |payload: Vec<u8>, attached| driver.put(STATES, MessageType::JointState, payload, attached);
    put(states.clone(), None);
    for length in 0..33 {
        put(states.clone(), attached(1_000_000).map(|bytes| bytes[..length].to_vec()));
    }
    for length in 0..states.len() {
        put(states[..length].to_vec(), attached(1_000_000));
    }
    put(states.clone(), attached(1));
    put(states.clone(), Some(attachment(1_000_000, [1; 16])));
    // The last of them, in the order of sending.
    driver.observe_until([1.0, 2.0], "all of them", || driver.status()["counters"]["foreign_publisher"] == 1);
    driver.observe_until([1.0, 2.0], "still running", || driver.is("Run"));
    let report = serving.end();
    assert!(driver.heard().iter().all(|heard| floats(heard)[0] < 100.0), "none of them was planned from");
    assert_eq!(count(&report, "attachment_refused"), 34);
    assert_eq!(count(&report, "payload_refused"), states.len() as u64);
    assert_eq!((count(&report, "sequence_old"), count(&report, "foreign_publisher")), (1, 1));
}

#[test]
fn over_the_bridge_to_dds_messages_have_no_attachment() {
    let robot = robot_file(&free_endpoint(), &[("domain = 7", "bridge = \"ros2dds\"")]);
    let listen = robot.session.robot.listen[0].clone();
    let driver = Driver::new(open("peer", &[&listen], &[]), &bridge_key("/cell", COMMANDS));
    let serving = Serving::start(&robot, &Behaviour::default());
    until("commands of a plan", || {
        let states = Driver::states([100.0, 200.0]);
        driver.session.put(bridge_key("/cell", STATES), states).wait().unwrap();
        std::thread::sleep(TICK);
        driver.heard().iter().any(|heard| floats(heard)[0] > 100.5)
    });
    serving.end();
}

#[test]
fn through_a_router_as_its_client() {
    let endpoint = free_endpoint();
    let router = open("router", &[&endpoint], &[]);
    let connect = format!(r#"connect = ["{endpoint}"] "#);
    let client = format!(r#"connect = ["{endpoint}"], mode = "client" "#);
    let listens = r#"listen = ["tcp/127.0.0.1:0"], "#;
    let robot = robot_file(&endpoint, &[(listens, ""), (&connect, &client)]);
    let driver = Driver::new(
        open("client", &[], &[&endpoint]),
        &data_key(DOMAIN, COMMANDS, MessageType::Float64MultiArray),
    );
    driver.declare(EndpointKind::Publisher, STATES, MessageType::JointState);
    driver.declare(EndpointKind::Subscriber, COMMANDS, MessageType::Float64MultiArray);
    let serving = Serving::start(&robot, &Behaviour::default());
    driver.observe_until([100.0, 200.0], "commands of a plan", || {
        driver.heard().iter().any(|heard| floats(heard)[0] > 100.5)
    });
    serving.end();
    router.close().wait().unwrap();
}

#[test]
fn a_ros_2_robot_is_not_simulated() {
    let robot = robot_file(&free_endpoint(), &[]);
    let task = common::Point::new(&robot, 5);
    let error = nudge_runtime::simulated_robot(task, &robot, common::robot_options(1)).unwrap_err();
    assert!(error.to_string().contains("speaks ROS 2"), "{error}");
}

#[test]
fn a_client_without_its_router_says_so_at_once() {
    let endpoint = free_endpoint();
    let connect = format!(r#"connect = ["{endpoint}"] "#);
    let client = format!(r#"connect = ["{endpoint}"], mode = "client" "#);
    let robot = robot_file(&endpoint, &[(&connect, &client)]);
    let error = Serving::start(&robot, &Behaviour::default()).thread.join().unwrap().unwrap_err();
    assert!(matches!(&error, RuntimeError::Bus { .. }) && error.to_string().contains("router"), "{error}");
}
