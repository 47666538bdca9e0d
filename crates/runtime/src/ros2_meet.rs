//! Before a ROS 2 robot is commanded: is everybody there, do they speak what is expected, and is the robot free?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nudge_wire::{Endpoint, parse_endpoint, tokens_of_domain};
use zenoh::Wait;
use zenoh::pubsub::Subscriber;

use crate::RuntimeError;
use crate::bus::failed;
use crate::events::Signals;
use crate::handshake::{LISTEN_FOR_OTHERS, another_controller};
use crate::robot_file::RobotFile;
use crate::ros2::Ros2Line;
use crate::ros2_diagnosis::{Diagnosis, diagnose};
use crate::ros2_file::Bridge;

/// How long the answer to a question for tokens is waited for.
const TOKENS_TIMEOUT: Duration = Duration::from_millis(500);
/// Who is there is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Is told, once each, what keeps the robot from being driven while it is waited for.
pub type OnTrouble = Box<dyn FnMut(&str) + Send>;

/// What the first message of each topic came to: nothing yet, its numbers, or why not.
type FirstMessages = Arc<Mutex<Vec<Option<Result<(), String>>>>>;

/// Waits until every topic has its other end and has brought a good message, and looks for another controller. False
/// when `stop` was set meanwhile.
///
/// # Errors
/// When a topic carries another type, or another version of it, when its messages lack what is needed, when another
/// controller answers, or when somebody is missing after `max_wait`.
pub(crate) fn meet_ros2(
    line: &Ros2Line<'_>,
    robot: &RobotFile,
    signals: &Signals,
    stop: &AtomicBool,
    max_wait: Option<Duration>,
    on_trouble: &mut Option<OnTrouble>,
) -> Result<bool, RuntimeError> {
    let begun = Instant::now();
    let (first, _subscribers) = listen_for_first(line)?;
    let mut told = String::new();
    while !stop.load(Ordering::Relaxed) {
        if another_controller(line.bus)? || signals.elder.load(Ordering::Relaxed) {
            return Err(RuntimeError::SecondController { prefix: robot.prefix.clone() });
        }
        let waited = begun.elapsed();
        let Diagnosis { mut missing, mut wrong } = look(line)?;
        for (observed, heard) in
            line.observed.iter().zip(&*first.lock().unwrap_or_else(PoisonError::into_inner))
        {
            let topic = &observed.topic;
            match heard {
                Some(Ok(())) => {}
                // Somebody else may publish there too, and the right one come a moment later.
                Some(Err(problem)) if waited >= LISTEN_FOR_OTHERS => {
                    wrong.push(format!("the message on `{topic}`: {problem}"));
                }
                None if !missing.is_empty() => {}
                _ => missing.push(format!("no good message has come on `{topic}` yet")),
            }
        }
        if !wrong.is_empty() {
            return Err(RuntimeError::Ros2Differs { robot: robot.name.clone(), problems: wrong.join("\n") });
        }
        if missing.is_empty() && waited >= LISTEN_FOR_OTHERS {
            return Ok(true);
        }
        let problems = missing.join("\n");
        if max_wait.is_some_and(|limit| waited > limit) && !missing.is_empty() {
            let secs = waited.as_secs_f64();
            return Err(RuntimeError::Ros2Missing { robot: robot.name.clone(), secs, problems });
        }
        if waited >= LISTEN_FOR_OTHERS && problems != told {
            if let Some(tell) = on_trouble {
                tell(&problems);
            }
            told = problems;
        }
        std::thread::sleep(ASK_AGAIN);
    }
    Ok(false)
}

fn listen_for_first(line: &Ros2Line<'_>) -> Result<(FirstMessages, Vec<Subscriber<()>>), RuntimeError> {
    let first: FirstMessages = Arc::new(Mutex::new(vec![None; line.observed.len()]));
    let mut subscribers = Vec::new();
    for (index, observed) in line.observed.iter().enumerate() {
        let (first, topic) = (first.clone(), observed.clone());
        let heard = move |_, payload: &[u8]| {
            let outcome = topic.decode(payload).map(|_| ()).map_err(|problem| problem.to_string());
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            // One good message is enough: others may be somebody else's.
            if !matches!(first[index], Some(Ok(()))) {
                first[index] = Some(outcome);
            }
        };
        subscribers.push(line.listen(&observed.topic, observed.message, heard)?);
    }
    Ok((first, subscribers))
}

/// What the tokens of others say. A bridge to DDS has none of this kind, and is judged by its messages alone.
fn look(line: &Ros2Line<'_>) -> Result<Diagnosis, RuntimeError> {
    if line.ros2.bridge != Bridge::RmwZenoh {
        return Ok(Diagnosis::default());
    }
    let own = line.node();
    let key = tokens_of_domain(own.domain);
    let asking = |error: zenoh::Error| failed(format!("asking for the tokens `{key}`"), error.as_ref());
    let session = line.bus.session();
    let replies = session.liveliness().get(key.as_str()).timeout(TOKENS_TIMEOUT).wait().map_err(asking)?;
    let mut others: Vec<Endpoint> = Vec::new();
    while let Ok(reply) = replies.recv() {
        if let Ok(sample) = reply.result() {
            others.extend(parse_endpoint(sample.key_expr()).filter(|other| other.node.zid != own.zid));
        }
    }
    Ok(diagnose(&line.wanted(), &others, own.domain))
}
