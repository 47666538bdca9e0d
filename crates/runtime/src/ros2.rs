//! A robot that speaks ROS 2: its topics in place of the native observations and commands.
//!
//! With rmw_zenoh every message has its attachment and every topic its tokens, so that ROS 2's own tools show this
//! controller too. With zenoh-bridge-ros2dds there are only keys and payloads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;
use nudge_control::Action;
use nudge_wire::{
    Attachment, Bool, Endpoint, EndpointKind, Message as _, MessageType, Node, Qos, Text, bridge_key,
    data_key,
};
use zenoh::Wait;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;

use crate::RuntimeError;
use crate::bus::{Bus, Outlet, commanded as command_stream, failed, stamp_skew_secs, wall_clock_ns};
use crate::counters::Count;
use crate::driver::{Onward, SendCommand};
use crate::events::{Event, Signals};
use crate::feature_message::{self, NoFeature};
use crate::robot_file::{Message, ObservedFeature, RobotFile};
use crate::ros2_command;
use crate::ros2_diagnosis::Wanted;
use crate::ros2_file::{Bridge, CommandMessage, Ros2, StopMessage, TrajectorySend};
use crate::ros2_newest::Newest;

/// The newest of each topic, shared by the topics and the reset.
pub(crate) type SharedNewest = Arc<Mutex<Newest>>;

/// A topic that is listened to, and the features in its messages.
#[derive(Clone, Debug)]
pub(crate) struct ObservedTopic {
    pub topic: String,
    pub message: MessageType,
    /// Their places among the features that are needed.
    features: Vec<(usize, Message)>,
}

/// An action feature and where it goes.
struct CommandedTopic {
    topic: String,
    message: CommandMessage,
    dim: usize,
}

/// This controller as a node of ROS 2.
pub(crate) struct Ros2Line<'a> {
    pub bus: &'a Bus,
    pub ros2: &'a Ros2,
    pub observed: Vec<ObservedTopic>,
    /// Numbers of each needed feature.
    dims: Vec<usize>,
    commanded: Vec<CommandedTopic>,
    /// Between two commands.
    period_secs: f64,
    _tokens: Vec<LivelinessToken>,
}

impl<'a> Ros2Line<'a> {
    /// Announces the node and its topics. `needed` are the features of an observation, in their order.
    ///
    /// # Errors
    /// When the bus refuses.
    pub(crate) fn open(
        bus: &'a Bus,
        ros2: &'a Ros2,
        robot: &RobotFile,
        needed: &[ObservedFeature],
    ) -> Result<Self, RuntimeError> {
        let topic_of = |topic: &Option<String>| topic.clone().unwrap_or_default();
        let mut observed: Vec<ObservedTopic> = Vec::new();
        for (index, feature) in needed.iter().enumerate() {
            let topic = topic_of(&feature.topic);
            let carried = (index, feature.message.clone());
            match observed.iter_mut().find(|known| known.topic == topic) {
                Some(known) => known.features.push(carried),
                None => {
                    let message = feature.message.wire_type();
                    observed.push(ObservedTopic { topic, message, features: vec![carried] });
                }
            }
        }
        let commanded = robot.action.iter().map(|feature| CommandedTopic {
            topic: topic_of(&feature.topic),
            message: feature.message.clone().unwrap_or_default(),
            dim: feature.limits.low.len(),
        });
        let mut line = Self {
            bus,
            ros2,
            observed,
            dims: needed.iter().map(|feature| feature.shape.iter().product()).collect(),
            commanded: commanded.collect(),
            period_secs: 1.0 / robot.command_hz(),
            _tokens: Vec::new(),
        };
        if ros2.bridge == Bridge::RmwZenoh {
            line._tokens = line.announce()?;
        }
        Ok(line)
    }

    /// What others must publish and hear.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        let observed = self.observed.iter().map(|observed| Wanted {
            topic: observed.topic.clone(),
            message: observed.message,
            kind: EndpointKind::Publisher,
        });
        let commanded = self.commanded.iter().map(|commanded| Wanted {
            topic: commanded.topic.clone(),
            message: commanded.message.wire_type(),
            kind: EndpointKind::Subscriber,
        });
        observed.chain(commanded).collect()
    }

    pub(crate) fn node(&self) -> Node {
        Node {
            domain: self.ros2.domain,
            zid: self.bus.session().zid().to_string(),
            id: 0,
            namespace: self.ros2.namespace.clone(),
            name: self.ros2.node.clone(),
        }
    }

    /// Declares the tokens of the node, of what it hears and of what it publishes.
    fn announce(&self) -> Result<Vec<LivelinessToken>, RuntimeError> {
        let node = self.node();
        let mut tokens = vec![node.token()];
        let stop = self.ros2.estop.iter().map(|stop| Wanted {
            topic: stop.topic.clone(),
            message: stop.message.wire_type(),
            kind: EndpointKind::Publisher,
        });
        for (id, wanted) in (1..).zip(self.wanted().into_iter().chain(stop)) {
            let ours = match wanted.kind {
                EndpointKind::Publisher => EndpointKind::Subscriber,
                _ => EndpointKind::Publisher,
            };
            tokens
                .push(Endpoint::new(&node, id, ours, &wanted.topic, wanted.message, Qos::default()).token());
        }
        let declare = |token: String| {
            let declared = self.bus.session().liveliness().declare_token(token.clone()).wait();
            declared.map_err(|error| failed(format!("declaring the token `{token}`"), error.as_ref()))
        };
        tokens.into_iter().map(declare).collect()
    }

    fn key(&self, topic: &str, message: MessageType) -> String {
        match self.ros2.bridge {
            Bridge::RmwZenoh => data_key(self.ros2.domain, topic, message),
            Bridge::Ros2dds => bridge_key(&self.ros2.namespace, topic),
        }
    }

    /// Listens to a topic; `heard` gets the attachment, where the message has one.
    pub(crate) fn listen(
        &self,
        topic: &str,
        message: MessageType,
        heard: impl Fn(Option<Attachment>, &[u8]) + Send + Sync + 'static,
    ) -> Result<Subscriber<()>, RuntimeError> {
        let key = self.key(topic, message);
        match self.ros2.bridge {
            Bridge::RmwZenoh => {
                self.bus.listen_at(key, Some(message.name()), move |from, payload| heard(Some(from), payload))
            }
            Bridge::Ros2dds => self.bus.listen_bare_at(key, move |payload| heard(None, payload)),
        }
    }

    /// Listens to every topic needed and passes observations on. What was made of the topics is also given, for the
    /// reset.
    pub(crate) fn listen_to_observations(
        &self,
        silence: Duration,
        events: &Sender<Event>,
        signals: &Arc<Signals>,
    ) -> Result<(Vec<Subscriber<()>>, SharedNewest), RuntimeError> {
        let newest = Arc::new(Mutex::new(Newest::new(self.observed.len(), &self.dims, silence)));
        let mut subscribers = Vec::new();
        for (index, observed) in self.observed.iter().enumerate() {
            let (newest, events, signals) = (newest.clone(), events.clone(), signals.clone());
            let (counters, topic) = (self.bus.counters.clone(), observed.clone());
            let heard = move |from: Option<Attachment>, payload: &[u8]| {
                let carried = match topic.decode(payload) {
                    Ok(carried) => carried,
                    Err(problem) => return counters.add(problem.count(), 1),
                };
                let now = signals.now();
                let sender = from.map(|from| (from.gid, from.sequence));
                let skew_secs = from.map_or(0.0, |from| stamp_skew_secs(&from));
                // Held while queueing too, so that observations stay in order.
                let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(whole) = newest.take(now, index, sender, carried, &counters) else { return };
                let event = Event::Observation {
                    sequence: whole.sequence,
                    received: whole.received,
                    skew_secs,
                    values: whole.values,
                    new_publisher: whole.new_publisher,
                };
                if events.try_send(event).is_err() {
                    counters.add(Count::EventDropped, 1);
                }
            };
            subscribers.push(self.listen(&observed.topic, observed.message, heard)?);
        }
        Ok((subscribers, newest))
    }

    /// Listens to the topic that stops, if there is one.
    pub(crate) fn listen_to_stop(
        &self,
        stopped: impl Fn() + Send + Sync + 'static,
    ) -> Result<Option<Subscriber<()>>, RuntimeError> {
        let Some(stop) = &self.ros2.estop else { return Ok(None) };
        let (counters, message) = (self.bus.counters.clone(), stop.message);
        let heard = move |_, payload: &[u8]| {
            let stops = match message {
                StopMessage::Bool => Bool::decode(payload).map(|Bool(stops)| stops),
                StopMessage::String => Text::decode(payload).map(|_| true),
            };
            match stops {
                Ok(true) => stopped(),
                Ok(false) => {}
                Err(_) => counters.add(Count::PayloadRefused, 1),
            }
        };
        self.listen(&stop.topic, stop.message.wire_type(), heard).map(Some)
    }

    /// What publishes every command on its topics. Whole plans are not sent by it.
    pub(crate) fn sender(&self) -> Result<SendCommand, RuntimeError> {
        let mut topics = Vec::new();
        let mut first = 0;
        for commanded in &self.commanded {
            let numbers = first..first + commanded.dim;
            first = numbers.end;
            if commanded.plan_joints().is_none() {
                topics.push((self.outlet(commanded)?, commanded.message.clone(), numbers));
            }
        }
        let (period_secs, counters) = (self.period_secs, self.bus.counters.clone());
        Ok(Box::new(move |_, command| {
            let stamp_ns = wall_clock_ns();
            let mut sent = true;
            for (outlet, message, numbers) in &topics {
                let values = command.get(numbers.clone()).unwrap_or_default();
                match ros2_command::encode(message, stamp_ns, period_secs, values) {
                    Some(payload) => sent &= outlet.send(payload),
                    None => counters.add(Count::CommandRefused, 1),
                }
            }
            sent
        }))
    }

    /// What publishes whole plans, if a topic takes them.
    pub(crate) fn onward(&self) -> Result<Option<Onward>, RuntimeError> {
        let mut topics = Vec::new();
        let mut first = 0;
        for commanded in &self.commanded {
            let numbers = first..first + commanded.dim;
            first = numbers.end;
            if let Some(joints) = commanded.plan_joints() {
                topics.push((self.outlet(commanded)?, joints.to_vec(), numbers));
            }
        }
        let period_secs = self.period_secs;
        let send = move |command: &[f64], plan: &[Action]| {
            let mut sent = true;
            for (outlet, joints, numbers) in &topics {
                let of = |action: &[f64]| Action(action.get(numbers.clone()).unwrap_or_default().to_vec());
                let behind = plan.iter().map(|action| of(&action.0));
                let points: Vec<Action> = std::iter::once(of(command)).chain(behind).collect();
                sent &= outlet.send(ros2_command::encode_plan(joints, period_secs, &points));
            }
            sent
        };
        let takes_plans = self.commanded.iter().any(|commanded| commanded.plan_joints().is_some());
        let period = Duration::from_secs_f64(period_secs);
        Ok(takes_plans.then(|| Onward { send: Box::new(send), period }))
    }

    fn outlet(&self, commanded: &CommandedTopic) -> Result<Outlet, RuntimeError> {
        let message = commanded.message.wire_type();
        self.bus.outlet_at(self.key(&commanded.topic, message), command_stream(message))
    }
}

impl CommandedTopic {
    /// The joints of a trajectory that takes whole plans.
    fn plan_joints(&self) -> Option<&[String]> {
        match &self.message {
            CommandMessage::JointTrajectory { joints, send: TrajectorySend::Plan } => Some(joints),
            _ => None,
        }
    }
}

impl ObservedTopic {
    /// Every feature that a message carries.
    pub(crate) fn decode(&self, payload: &[u8]) -> Result<Vec<(usize, Vec<f64>)>, NoFeature> {
        let decode =
            |(index, message): &(usize, Message)| Ok((*index, feature_message::decode(message, payload)?));
        self.features.iter().map(decode).collect()
    }
}
