//! Processes of their own, so that they can be stopped and killed: this very program, started again with a role.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nudge_control::{Action, ActionChunk, Horizon, Interface, PlanRequest, Policy, PolicyError};
use nudge_runtime::{GuardOptions, RobotFile, ServeOptions, SessionMode, guard_robot, serve};
use zenoh::Wait;

use crate::common::{HORIZON, LONG, robot_file};
use crate::rig::CONTROL_HZ;

/// The robot's prefix as its guard shows it to the controller.
const GUARDED: &str = "test/fake/guarded";
const ROLE: &str = "NUDGE_TEST_ROLE";
/// How far the robot is sent to and fro, in control steps one way.
const WAY: u64 = 200;

/// Sends the robot to and fro: no two commands in a row are the same.
pub struct Pacing(pub Interface);

impl Policy for Pacing {
    fn interface(&self) -> &Interface {
        &self.0
    }

    fn horizon(&self) -> Horizon {
        HORIZON
    }

    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        let place = |step: u64| (step % (2 * WAY)).abs_diff(WAY) as f64;
        let action = |step| Action(vec![place(step), -place(step)]);
        let chunk = |request: &PlanRequest| ActionChunk {
            first_step: request.step,
            actions: (0..9).map(|ahead| action(request.step + ahead)).collect(),
        };
        Ok(requests.iter().map(chunk).collect())
    }
}

/// The robot of these stories, found at `endpoint`.
pub fn robot_at(endpoint: &str) -> RobotFile {
    let mut robot = robot_file("clock", CONTROL_HZ, endpoint);
    robot.stamp_skew_secs = Some(1.0);
    robot
}

/// A process of this program that is killed when this goes.
pub struct Process(pub Child);

impl Process {
    /// Starts `role` with `argument`, behind the words of `wrapper`, for example `ip netns exec name`.
    pub fn start_in(wrapper: &[&str], role: &str, argument: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut words = wrapper.iter().map(std::ffi::OsString::from).collect::<Vec<_>>();
        words.push(program.into());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, format!("{role} {argument}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    pub fn start(role: &str, argument: &str) -> Self {
        Self::start_in(&[], role, argument)
    }

    /// Sends it a signal by its name, for example `STOP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    pub fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub fn kill(&mut self) {
        // One that has ended cannot be killed, and need not be.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Plays the role that the environment names, if it names one; then never returns but by being killed.
pub fn run_if_told() {
    let Ok(told) = std::env::var(ROLE) else { return };
    let (role, argument) = told.split_once(' ').unwrap();
    match role {
        "controller" => control(robot_at(argument)),
        "client" => {
            let mut robot = robot_at(argument);
            robot.session.controller.listen.clear();
            robot.session.controller.mode = Some(SessionMode::Client);
            control(robot);
        }
        "guarded" => {
            let mut robot = robot_at(argument);
            robot.prefix = GUARDED.into();
            control(robot);
        }
        "guard" => {
            let (robot, controller) = argument.split_once(' ').unwrap();
            let options = GuardOptions {
                prefix: Some(GUARDED.into()),
                listen: controller.into(),
                max_wait: Some(LONG),
                ..GuardOptions::default()
            };
            guard_robot(robot_at(robot), options).unwrap();
        }
        "user" => {
            let (config, endpoint) = argument.split_once(' ').unwrap();
            let mut robot = robot_at(endpoint);
            robot.session.controller.listen.clear();
            robot.session.controller.config = Some(config.into());
            control(robot);
        }
        #[cfg(feature = "rerun")]
        "recording" => {
            let (folder, endpoint) = argument.split_once(' ').unwrap();
            let robot = robot_at(endpoint);
            let options = nudge_runtime::ViewOptions::new("full disk", robot.interface());
            let view = nudge_runtime::View::to_file(&Path::new(folder).join("run.rrd"), options).unwrap();
            serve_with(robot, ServeOptions { view: Some(view), ..ServeOptions::default() });
        }
        "viewer" => look_on(argument),
        "router" => route(argument),
        _ => panic!("no role is called {role}"),
    }
}

fn control(robot: RobotFile) {
    serve_with(robot, ServeOptions::default());
}

fn serve_with(robot: RobotFile, mut options: ServeOptions) {
    options.max_wait = Some(LONG);
    serve(Box::new(Pacing(robot.interface())), robot, options).unwrap();
}

/// Takes everything that anybody sends.
fn look_on(endpoint: &str) {
    let mut config = zenoh::Config::default();
    config.insert_json5("scouting/multicast/enabled", "false").unwrap();
    config.insert_json5("connect/endpoints", &format!("[{endpoint:?}]")).unwrap();
    let session = zenoh::open(config).wait().unwrap();
    session.declare_subscriber("**").callback(|_| {}).background().wait().unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn route(endpoint: &str) {
    let mut config = zenoh::Config::default();
    config.insert_json5("mode", "\"router\"").unwrap();
    config.insert_json5("scouting/multicast/enabled", "false").unwrap();
    config.insert_json5("listen/endpoints", &format!("[{endpoint:?}]")).unwrap();
    let _session = zenoh::open(config).wait().unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
