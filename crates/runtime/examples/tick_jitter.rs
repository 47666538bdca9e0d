//! How steady the control tick is: a policy that answers at once, a simulated robot on loopback, a minute.
//!
//! `cargo run --release -p nudge-runtime --example tick_jitter -- 100 60` (rate in Hz, seconds)

use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nudge_control::{
    Action, ActionChunk, Horizon, Interface, Observation, PlanRequest, Policy, PolicyError, Scene, Step, Task,
};
use nudge_runtime::{RobotFile, RobotOptions, ServeOptions, serve, simulated_robot};

/// Plans to stay where it is, and is the robot that does.
struct Still(Interface);

impl Policy for Still {
    fn interface(&self) -> &Interface {
        &self.0
    }

    fn horizon(&self) -> Horizon {
        Horizon { observed: 2, predicted: 16, executed: 8 }
    }

    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        let plan = |request: &PlanRequest| ActionChunk {
            first_step: request.step,
            actions: vec![Action(vec![0.0; 2]); 8],
        };
        Ok(requests.iter().map(plan).collect())
    }
}

impl Task for Still {
    fn name(&self) -> &str {
        "still"
    }

    fn interface(&self) -> &Interface {
        &self.0
    }

    fn reset(&mut self, _: u64) -> Observation {
        Observation(vec![0.0; 2])
    }

    fn step(&mut self, _: &Action) -> Step {
        Step { observation: Observation(vec![0.0; 2]), reward: 0.0, success: false, done: false }
    }

    fn hold_action(&self) -> Action {
        Action(vec![0.0; 2])
    }

    fn max_steps(&self) -> usize {
        usize::MAX
    }

    fn scene(&self) -> Scene {
        Scene { size: [1.0, 1.0], shapes: vec![] }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let control_hz: f64 = arguments.next().as_deref().unwrap_or("100").parse()?;
    let secs: u64 = arguments.next().as_deref().unwrap_or("60").parse()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let endpoint = format!("tcp/127.0.0.1:{port}");
    let robot = RobotFile::parse(&format!(
        r#"
        name = "still"
        prefix = "still"
        pace = "clock"
        control_hz = {control_hz:?}
        [session]
        robot = {{ listen = ["{endpoint}"] }}
        controller = {{ listen = ["tcp/127.0.0.1:0"], connect = ["{endpoint}"] }}
        [[observation]]
        name = "place"
        shape = [2]
        [[action]]
        name = "place"
        shape = [2]
        limits = {{ low = [-1.0, -1.0], high = [1.0, 1.0] }}
        measured_by = "place"
        "#
    ))?;
    let driving = RobotOptions {
        listen: None,
        episodes: 1,
        first_seed: 0,
        stop: Default::default(),
        max_wait: Duration::from_secs(30),
        on_episode: None,
        on_step: None,
        on_ready: None,
    };
    let stop = driving.stop.clone();
    let serving = ServeOptions { duration: Some(Duration::from_secs(secs + 2)), ..ServeOptions::default() };
    let served = std::thread::scope(|scope| {
        let driven = scope.spawn(|| simulated_robot(Box::new(Still(robot.interface())), &robot, driving));
        let served = serve(Box::new(Still(robot.interface())), robot.clone(), serving);
        stop.store(true, Ordering::Relaxed);
        let missing =
            driven.join().map(|report| report.map(|report| report.episodes[0].steps_without_command));
        println!("steps without a command: {missing:?}");
        served
    })?;
    println!("|actual - scheduled| of the tick at {control_hz} Hz, ms: {:?}", served.timings_ms.tick_jitter);
    println!("observation to loop, ms: {:?}", served.timings_ms.observe);
    println!("publish, ms: {:?}", served.timings_ms.publish);
    Ok(())
}
