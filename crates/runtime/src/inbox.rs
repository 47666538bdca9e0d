//! From bytes on the bus to events of the control loop.

use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;
use nudge_wire::{Attachment, Bool, Float64MultiArray, Gid, JointState, Message as _, Text};
use zenoh::pubsub::Subscriber;

use crate::RuntimeError;
use crate::assembly::{Assembled, Assembly};
use crate::bus::{Bus, FLOATS, JOINTS, TEXT, TRUTH};
use crate::counters::{Count, Counters};
use crate::events::{Event, Signals};
use crate::robot_file::{JointField, Message, ObservedFeature};

/// The role of a controller in heartbeats, status and descriptions.
pub(crate) const CONTROLLER: &str = "controller";
/// The role of a robot.
pub(crate) const ROBOT: &str = "robot";

/// The assembly, shared by the keys of the features and the reset.
pub(crate) type SharedAssembly = Arc<Mutex<Assembly>>;

/// Listens to every feature needed and passes whole observations on.
pub(crate) fn listen_to_observations(
    bus: &Bus,
    features: &[ObservedFeature],
    assembly: &SharedAssembly,
    events: &Sender<Event>,
    signals: &Arc<Signals>,
) -> Result<Vec<Subscriber<()>>, RuntimeError> {
    let mut subscribers = Vec::new();
    for (index, feature) in features.iter().enumerate() {
        let (assembly, events, signals) = (assembly.clone(), events.clone(), signals.clone());
        let counters = bus.counters.clone();
        let message = feature.message.clone();
        let heard = move |attachment: Attachment, payload: &[u8]| {
            let Some(values) = decode(&message, payload, &counters) else { return };
            let received = signals.now();
            let sender = (attachment.gid, attachment.sequence);
            // Held while queueing too, so that observations stay in order.
            let mut assembly = assembly.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let event = match assembly.take(received, sender, index, values, &counters) {
                Some(Assembled::Complete { sequence, values, new_publisher }) => {
                    Event::Observation { sequence, received, values, new_publisher }
                }
                Some(Assembled::Repeated { sequence }) => Event::Repeated { sequence },
                None => return,
            };
            if events.try_send(event).is_err() {
                counters.add(Count::EventDropped, 1);
            }
        };
        let kind = match feature.message {
            Message::Float64MultiArray => FLOATS,
            Message::JointState { .. } => JOINTS,
        };
        subscribers.push(bus.listen(&format!("obs/{}", feature.name), Some(kind), heard)?);
    }
    Ok(subscribers)
}

/// Listens to the emergency stop; `stopped` is called at every `true`.
pub(crate) fn listen_to_estop(
    bus: &Bus,
    stopped: impl Fn() + Send + Sync + 'static,
) -> Result<Subscriber<()>, RuntimeError> {
    let counters = bus.counters.clone();
    bus.listen("ctl/estop", Some(TRUTH), move |_, payload| match Bool::decode(payload) {
        Ok(Bool(true)) => stopped(),
        Ok(Bool(false)) => {}
        Err(_) => counters.add(Count::PayloadRefused, 1),
    })
}

/// Listens to heartbeats; `heard` is told the sender, its count, and its role.
pub(crate) fn listen_to_heartbeats(
    bus: &Bus,
    heard: impl Fn(Gid, i64, &str) + Send + Sync + 'static,
) -> Result<Subscriber<()>, RuntimeError> {
    let counters = bus.counters.clone();
    bus.listen("ctl/heartbeat", Some(TEXT), move |from, payload| match Text::decode(payload) {
        Ok(Text(role)) => heard(from.gid, from.sequence, &role),
        Err(_) => counters.add(Count::PayloadRefused, 1),
    })
}

/// The numbers of one feature out of its message; what is not one is counted.
fn decode(message: &Message, payload: &[u8], counters: &Counters) -> Option<Vec<f64>> {
    let refused = |_| counters.add(Count::PayloadRefused, 1);
    match message {
        Message::Float64MultiArray => {
            Float64MultiArray::decode(payload).map_err(refused).ok().map(|array| array.data)
        }
        Message::JointState { field, joints } => {
            let state = JointState::decode(payload).map_err(refused).ok()?;
            let values = pick_joints(&state, *field, joints);
            if values.is_none() {
                counters.add(Count::ShapeRefused, 1);
            }
            values
        }
    }
}

/// One field of `joints`, in this order; `None` when a joint is missing, named twice, or has no value.
fn pick_joints(state: &JointState, field: JointField, joints: &[String]) -> Option<Vec<f64>> {
    let values = match field {
        JointField::Position => &state.position,
        JointField::Velocity => &state.velocity,
        JointField::Effort => &state.effort,
    };
    let value = |joint: &String| {
        let mut places = state.name.iter().enumerate().filter(|(_, name)| *name == joint);
        let (place, _) = places.next()?;
        if places.next().is_some() { None } else { values.get(place).copied() }
    };
    joints.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use nudge_wire::Header;

    use super::*;

    #[test]
    fn joints_are_found_by_name_wherever_they_stand() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let state = JointState {
            header: Header::default(),
            name: names(&["elbow", "wrist", "shoulder", "wrist"]),
            position: vec![1.0, 2.0, 3.0, 4.0],
            velocity: vec![0.1],
            effort: vec![],
        };
        let pick = |field, joints: &[&str]| pick_joints(&state, field, &names(joints));
        assert_eq!(pick(JointField::Position, &["shoulder", "elbow"]), Some(vec![3.0, 1.0]));
        assert_eq!(pick(JointField::Velocity, &["elbow"]), Some(vec![0.1]));
        assert_eq!(pick(JointField::Velocity, &["shoulder"]), None);
        assert_eq!(pick(JointField::Effort, &["elbow"]), None);
        assert_eq!(pick(JointField::Position, &["knee"]), None);
        assert_eq!(pick(JointField::Position, &["wrist"]), None);
    }
}
