//! Before anything is commanded: is it this robot, and is it free?

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nudge_control::Interface;

use crate::RuntimeError;
use crate::bus::Bus;
use crate::describe::{Description, PROTOCOL};
use crate::events::Signals;
use crate::inbox::{CONTROLLER, ROBOT};
use crate::robot_file::RobotFile;

/// How long another controller's heartbeat is listened for.
pub(crate) const LISTEN_FOR_OTHERS: Duration = Duration::from_secs(1);
/// How long the replies to a description are waited for.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// Waits for the robot and looks for another controller of it; the robot's own description, once it is this robot and
/// free. `None` when `stop` was set meanwhile.
///
/// # Errors
/// When the robot offers another interface than `needed`, another pace or protocol, when two robots or another
/// controller answer, or when none does within `max_wait`.
pub(crate) fn meet_robot(
    bus: &Bus,
    robot: &RobotFile,
    needed: &Interface,
    signals: &Signals,
    stop: &AtomicBool,
    max_wait: Option<Duration>,
) -> Result<Option<Description>, RuntimeError> {
    let begun = Instant::now();
    let mut met: Option<(Description, Instant)> = None;
    while !stop.load(Ordering::Relaxed) {
        let others = ask_descriptions(bus)?;
        let is_controller = |other: &Description| other.role == CONTROLLER;
        if others.iter().any(is_controller) || signals.elder.load(Ordering::Relaxed) {
            return Err(RuntimeError::SecondController { prefix: robot.prefix.clone() });
        }
        let mut robots = others.into_iter().filter(|other| other.role == ROBOT);
        if let Some(description) = robots.next() {
            check(bus, robot, needed, &description)?;
            if robots.next().is_some() {
                return Err(differs(bus, "two robots answer there"));
            }
            let (_, since) = met.get_or_insert((description, Instant::now()));
            if since.elapsed() >= LISTEN_FOR_OTHERS {
                return Ok(met.map(|(description, _)| description));
            }
        } else if max_wait.is_some_and(|limit| begun.elapsed() > limit) {
            return Err(RuntimeError::NoRobot {
                key: bus.key("rpc/describe"),
                secs: begun.elapsed().as_secs_f64(),
                endpoints: robot.session.controller.connect.join(", "),
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

/// Whether another controller of this robot describes itself.
pub(crate) fn another_controller(bus: &Bus) -> Result<bool, RuntimeError> {
    Ok(ask_descriptions(bus)?.iter().any(|other| other.role == CONTROLLER))
}

/// Everybody's description; answers that are none are refused.
fn ask_descriptions(bus: &Bus) -> Result<Vec<Description>, RuntimeError> {
    let replies = bus.ask("rpc/describe", "", REPLY_TIMEOUT)?;
    let read = |text: &str| {
        serde_json::from_str(text)
            .map_err(|error| differs(bus, format!("its description cannot be read: {error}")))
    };
    replies.iter().filter(|reply| reply.gid != Some(bus.gid)).map(|reply| read(&reply.text)).collect()
}

fn check(
    bus: &Bus,
    robot: &RobotFile,
    needed: &Interface,
    description: &Description,
) -> Result<(), RuntimeError> {
    if description.protocol != PROTOCOL {
        let problem = format!("it speaks protocol {}, and this is {PROTOCOL}", description.protocol);
        return Err(differs(bus, problem));
    }
    if description.pace != robot.pace {
        let key = bus.key("rpc/describe");
        return Err(RuntimeError::PaceDiffers { key, robot: description.pace, file: robot.pace });
    }
    needed.accepts(&description.interface).map_err(|mismatch| differs(bus, mismatch.to_string()))?;
    for feature in &description.interface.action {
        let limits = &feature.limits;
        if limits.low.len() != feature.dim() || limits.high.len() != feature.dim() {
            return Err(differs(bus, format!("its limits of `{}` do not fit its shape", feature.name)));
        }
    }
    let (low, high) = description.interface.action_limits();
    let (file_low, file_high) = robot.interface().action_limits();
    let apart = |at: usize| low[at].max(file_low[at]) > high[at].min(file_high[at]);
    if (0..low.len()).any(apart) {
        return Err(differs(bus, "its limits and those of the robot file leave no value"));
    }
    Ok(())
}

fn differs(bus: &Bus, problem: impl Into<String>) -> RuntimeError {
    RuntimeError::RobotDiffers { key: bus.key("rpc/describe"), problem: problem.into() }
}
