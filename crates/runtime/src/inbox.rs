//! From bytes on the bus to events of the control loop.

use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;
use nudge_wire::{Attachment, Bool, Gid, Message as _, Text};
use zenoh::pubsub::Subscriber;

use crate::RuntimeError;
use crate::assembly::{Assembled, Assembly};
use crate::bus::{Bus, TEXT, TRUTH, stamp_skew_secs};
use crate::counters::Count;
use crate::events::{Event, Signals};
use crate::feature_message;
use crate::robot_file::ObservedFeature;

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
            let values = match feature_message::decode(&message, payload) {
                Ok(values) => values,
                Err(problem) => return counters.add(problem.count(), 1),
            };
            let received = signals.now();
            let skew_secs = stamp_skew_secs(&attachment);
            let sender = (attachment.gid, attachment.sequence);
            // Held while queueing too, so that observations stay in order.
            let mut assembly = assembly.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let event = match assembly.take(received, sender, index, values, &counters) {
                Some(Assembled::Complete { sequence, values, new_publisher }) => {
                    Event::Observation { sequence, received, skew_secs, values, new_publisher }
                }
                Some(Assembled::Repeated { sequence }) => Event::Repeated { sequence },
                None => return,
            };
            if events.try_send(event).is_err() {
                counters.add(Count::EventDropped, 1);
            }
        };
        let kind = feature.message.wire_type().name();
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
