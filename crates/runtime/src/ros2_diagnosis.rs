//! Why a ROS 2 robot would stay silent: what is wanted, held against what others say they publish and hear.
//!
//! A message whose type or hash differs is never delivered, and nobody says so; so it is looked for at the start.

use nudge_wire::{Endpoint, EndpointKind, MessageType};

/// A topic that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub topic: String,
    pub message: MessageType,
    /// What others must do there: publish it, or hear it.
    pub kind: EndpointKind,
}

/// What keeps the robot from being driven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// What may still come: nobody is there yet. One line each.
    pub missing: Vec<String>,
    /// What will not go away by waiting. One line each.
    pub wrong: Vec<String>,
}

/// Compares what is `wanted` with the endpoints of others in `domain`.
pub(crate) fn diagnose(wanted: &[Wanted], others: &[Endpoint], domain: u32) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    for want in wanted {
        let there: Vec<&Endpoint> =
            others.iter().filter(|other| other.kind == want.kind && other.topic == want.topic).collect();
        let fits = |other: &&&Endpoint| {
            other.type_name == want.message.dds_name() && other.hash == want.message.hash()
        };
        if there.is_empty() {
            diagnosis.missing.push(nobody(want, others, domain));
        } else if !there.iter().any(|other| fits(&other)) {
            diagnosis.wrong.extend(there.into_iter().map(|other| differs(want, other)));
        }
    }
    diagnosis.wrong.dedup();
    diagnosis
}

fn nobody(want: &Wanted, others: &[Endpoint], domain: u32) -> String {
    let (topic, name) = (&want.topic, want.message.name());
    let there = others.iter().filter(|other| other.kind == want.kind);
    let mut topics: Vec<&str> = there.map(|other| other.topic.as_str()).collect();
    topics.sort_unstable();
    topics.dedup();
    let topics = if topics.is_empty() { "nothing".to_owned() } else { topics.join(", ") };
    match want.kind {
        EndpointKind::Publisher => format!(
            "nobody publishes `{topic}` ({name}) in domain {domain}; published there: {topics}. Start the robot's driver \
             with ROS_DOMAIN_ID={domain} and RMW_IMPLEMENTATION=rmw_zenoh_cpp"
        ),
        _ => format!(
            "nobody listens to `{topic}` ({name}) in domain {domain}; listened to there: {topics}. Load and activate the \
             controller that does: `ros2 control list_controllers` shows them"
        ),
    }
}

fn differs(want: &Wanted, other: &Endpoint) -> String {
    let (topic, node) = (&want.topic, &other.node.name);
    let does = match want.kind {
        EndpointKind::Publisher => "publishes",
        _ => "listens to",
    };
    let (name, type_name, hash) = (want.message.name(), want.message.dds_name(), want.message.hash());
    if other.type_name == type_name {
        format!(
            "the node `{node}` {does} `{topic}` as {name} of another version: hash {}, and here {hash}. Only ROS 2 Jazzy and \
             Kilted are spoken",
            other.hash
        )
    } else {
        format!(
            "the node `{node}` {does} `{topic}` as {}, and the robot file says {type_name}: correct its `message`",
            other.type_name
        )
    }
}

#[cfg(test)]
mod tests {
    use nudge_wire::{Node, Qos};

    use super::*;

    fn other(kind: EndpointKind, topic: &str, message: MessageType) -> Endpoint {
        let node = Node { domain: 0, zid: "a1".into(), id: 0, namespace: "/".into(), name: "driver".into() };
        Endpoint::new(&node, 1, kind, topic, message, Qos::default())
    }

    fn wanted() -> [Wanted; 2] {
        let want = |topic: &str, message, kind| Wanted { topic: topic.into(), message, kind };
        [
            want("/joint_states", MessageType::JointState, EndpointKind::Publisher),
            want("/commands", MessageType::Float64MultiArray, EndpointKind::Subscriber),
        ]
    }

    #[test]
    fn a_robot_that_fits_has_nothing_wrong_even_when_others_are_there() {
        let others = [
            other(EndpointKind::Publisher, "/joint_states", MessageType::String),
            other(EndpointKind::Publisher, "/joint_states", MessageType::JointState),
            other(EndpointKind::Subscriber, "/commands", MessageType::Float64MultiArray),
        ];
        assert_eq!(diagnose(&wanted(), &others, 0), Diagnosis::default());
    }

    #[test]
    fn who_is_missing_is_told_with_what_is_there() {
        let others = [
            other(EndpointKind::Publisher, "/arm/joint_states", MessageType::JointState),
            // One who listens does not publish, and the other way round.
            other(EndpointKind::Subscriber, "/joint_states", MessageType::JointState),
        ];
        let Diagnosis { missing, wrong } = diagnose(&wanted(), &others, 7);
        assert!(wrong.is_empty() && missing.len() == 2);
        assert!(
            missing[0].contains("nobody publishes `/joint_states`")
                && missing[0].contains("/arm/joint_states")
        );
        assert!(missing[0].contains("ROS_DOMAIN_ID=7"));
        assert!(
            missing[1].contains("nobody listens to `/commands`") && missing[1].contains("list_controllers")
        );
        assert!(diagnose(&wanted(), &[], 0).missing[1].contains("nothing"));
    }

    #[test]
    fn another_type_and_another_hash_are_told_apart() {
        let mut hash = other(EndpointKind::Publisher, "/joint_states", MessageType::JointState);
        hash.hash = "RIHS01_00".into();
        let kind = other(EndpointKind::Subscriber, "/commands", MessageType::JointTrajectory);
        let Diagnosis { missing, wrong } = diagnose(&wanted(), &[hash.clone(), hash, kind], 0);
        assert!(missing.is_empty() && wrong.len() == 2, "{wrong:?}");
        assert!(wrong[0].contains("another version: hash RIHS01_00") && wrong[0].contains("`driver`"));
        assert!(
            wrong[1].contains("trajectory_msgs::msg::dds_::JointTrajectory_")
                && wrong[1].contains("`message`")
        );
    }
}
