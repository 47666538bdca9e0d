//! Every shipped robot that speaks ROS 2 is driven as its file says, by a driver made after that file.
#![cfg(feature = "zenoh")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{LONG, count, free_endpoint};
use nudge_control::{Action, ActionChunk, Horizon, Interface, PlanRequest, Policy, PolicyError};
use nudge_runtime::{CommandMessage, Endpoints, Message, Protocol, RobotFile, ServeOptions, serve};
use nudge_wire::{
    Attachment, Endpoint, EndpointKind, Float64MultiArray, JointState, JointTrajectory, Message as _,
    MessageType, Node, Qos, TwistStamped, data_key,
};
use serde_json::json;
use zenoh::Wait;
use zenoh::sample::Sample;

/// Wants every number in the middle of its limits.
struct Middle(Interface);

impl Middle {
    fn place(&self) -> Vec<f64> {
        let (low, high) = self.0.action_limits();
        low.iter().zip(&high).map(|(low, high)| (low + high) / 2.0).collect()
    }
}

impl Policy for Middle {
    fn interface(&self) -> &Interface {
        &self.0
    }

    fn horizon(&self) -> Horizon {
        common::HORIZON
    }

    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        let plan = |request: &PlanRequest| ActionChunk {
            first_step: request.step,
            actions: vec![Action(self.place()); common::HORIZON.executed],
        };
        Ok(requests.iter().map(plan).collect())
    }
}

fn joints_of(robot: &RobotFile) -> (String, Vec<String>) {
    let observed = &robot.observation[0];
    let Message::JointState { joints, .. } = &observed.message else { panic!("{}", robot.name) };
    (observed.topic.clone().unwrap(), joints.clone())
}

/// What a command is checked for: that it is what the file says, and within its limits.
fn check(robot: &RobotFile, payload: &[u8]) {
    let action = &robot.action[0];
    let numbers = match action.message.as_ref().unwrap() {
        CommandMessage::Float64MultiArray => vec![Float64MultiArray::decode(payload).unwrap().data],
        CommandMessage::JointTrajectory { joints, .. } => {
            let plan = JointTrajectory::decode(payload).unwrap();
            assert_eq!(plan.joint_names, *joints);
            assert!(plan.points.last().unwrap().velocities.iter().all(|velocity| *velocity == 0.0));
            plan.points.into_iter().map(|point| point.positions).collect()
        }
        CommandMessage::TwistStamped { frame } => {
            let TwistStamped { header, twist } = TwistStamped::decode(payload).unwrap();
            assert_eq!(header.frame_id, *frame);
            vec![vec![twist.linear.x, twist.linear.y, twist.linear.z]]
        }
        CommandMessage::PoseStamped { .. } => panic!("no shipped robot takes poses"),
    };
    for point in numbers {
        let limits = action.limits.low.iter().zip(&action.limits.high);
        assert!(
            point.iter().zip(limits).all(|(number, (low, high))| low <= number && number <= high),
            "{point:?}"
        );
    }
}

/// Drives the robot of `path` until it has been commanded well, with nothing refused.
fn drive(path: &Path) {
    let mut robot = RobotFile::load(path).unwrap();
    let endpoint = free_endpoint();
    robot.session.controller = Endpoints { connect: vec![endpoint.clone()], ..Endpoints::default() };
    let mut config = zenoh::Config::default();
    config.insert_json5("scouting/multicast/enabled", "false").unwrap();
    config.insert_json5("listen/endpoints", &json!([endpoint]).to_string()).unwrap();
    let session = zenoh::open(config).wait().unwrap();

    let (topic, joints) = joints_of(&robot);
    let action = robot.action[0].clone();
    let commanded = match action.message.as_ref().unwrap() {
        CommandMessage::Float64MultiArray => MessageType::Float64MultiArray,
        CommandMessage::JointTrajectory { .. } => MessageType::JointTrajectory,
        CommandMessage::PoseStamped { .. } => MessageType::PoseStamped,
        CommandMessage::TwistStamped { .. } => MessageType::TwistStamped,
    };
    let commands = action.topic.clone().unwrap();
    let zid = session.zid().to_string();
    let node = Node { domain: 0, zid, id: 0, namespace: "/".into(), name: "driver".into() };
    let qos = Qos::default();
    let endpoints = [
        Endpoint::new(&node, 1, EndpointKind::Publisher, &topic, MessageType::JointState, qos),
        Endpoint::new(&node, 2, EndpointKind::Subscriber, &commands, commanded, qos),
    ];
    let _tokens = endpoints.map(|end| session.liveliness().declare_token(end.token()).wait().unwrap());
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let hear = heard.clone();
    let on_command =
        move |sample: Sample| hear.lock().unwrap().push(sample.payload().to_bytes().into_owned());
    let key = data_key(0, &commands, commanded);
    session.declare_subscriber(key).callback(on_command).background().wait().unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let options = ServeOptions { stop: stop.clone(), max_wait: Some(LONG), ..ServeOptions::default() };
    let (policy, served) = (Box::new(Middle(robot.interface())), robot.clone());
    let middle = policy.place();
    let serving = std::thread::spawn(move || serve(policy, served, options));
    // A little beside the middle, or anywhere for what is no position.
    let position: Vec<f64> = (0..joints.len())
        .map(|joint| if middle.len() == joints.len() { middle[joint] + 0.05 } else { 0.3 })
        .collect();
    let (begun, mut sequence) = (Instant::now(), 0);
    while heard.lock().unwrap().len() < 20 {
        assert!(begun.elapsed() < LONG && !serving.is_finished(), "{}: no commands", robot.name);
        sequence += 1;
        let state = JointState { name: joints.clone(), position: position.clone(), ..JointState::default() };
        let attachment = Attachment { sequence, source_time_ns: 1, gid: [7; 16] }.encode();
        let key = data_key(0, &topic, MessageType::JointState);
        session.put(key, state.encode()).attachment(attachment).wait().unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    stop.store(true, Ordering::Relaxed);
    let report = serving.join().unwrap().unwrap();
    heard.lock().unwrap().iter().for_each(|payload| check(&robot, payload));
    for refusal in
        ["attachment_refused", "payload_refused", "shape_refused", "command_refused", "plan_failed"]
    {
        assert_eq!(count(&report, refusal), 0, "{}: {refusal}", robot.name);
    }
}

#[test]
fn every_shipped_ros_2_robot_is_driven() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/robots");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let speaks_ros2 = |path: &std::path::PathBuf| RobotFile::load(path).unwrap().protocol == Protocol::Ros2;
    let files: BTreeSet<_> = files.filter(speaks_ros2).collect();
    assert!(files.len() >= 5, "{files:?}");
    std::thread::scope(|scope| {
        for path in &files {
            scope.spawn(move || drive(path));
        }
    });
}
