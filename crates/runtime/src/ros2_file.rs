//! What a robot file says of a robot that speaks ROS 2.

use nudge_control::ActionMode;
use nudge_wire::{MessageType, check_topic};
use serde::Deserialize;

use crate::robot_file::{CommandedFeature, Pace, RobotFile};

/// The highest domain that ROS 2 knows on all platforms is 101; on Linux it is this.
const MAX_DOMAIN: u32 = 232;

/// What is spoken with the robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// This program's own, on keys under the prefix.
    #[default]
    Native,
    /// ROS 2: observations and commands are messages on topics.
    Ros2,
}

/// How ROS 2 is reached; the controller's own keys (status, reset, release) stay under the prefix.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ros2 {
    /// `ROS_DOMAIN_ID`.
    #[serde(default)]
    pub domain: u32,
    /// The controller's name in `ros2 node list`.
    #[serde(default = "default_node")]
    pub node: String,
    /// Of the node, and before the keys of zenoh-bridge-ros2dds.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    #[serde(default)]
    pub bridge: Bridge,
    /// A topic that stops the robot as `ctl/estop` does.
    pub estop: Option<StopTopic>,
}

fn default_node() -> String {
    "nudge".into()
}

fn default_namespace() -> String {
    "/".into()
}

/// What carries ROS 2 over zenoh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bridge {
    /// The robot's ROS 2 itself speaks zenoh: `RMW_IMPLEMENTATION=rmw_zenoh_cpp` (Jazzy or Kilted).
    #[default]
    RmwZenoh,
    /// The robot's ROS 2 speaks DDS, and zenoh-bridge-ros2dds translates. Its messages may come without a sequence: then
    /// repeated and lost ones are not told apart.
    Ros2dds,
}

/// A topic whose messages stop the robot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopTopic {
    pub topic: String,
    #[serde(default)]
    pub message: StopMessage,
}

/// The message of a [`StopTopic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopMessage {
    /// `std_msgs/msg/Bool`: true stops.
    #[default]
    Bool,
    /// `std_msgs/msg/String`: whatever text stops.
    String,
}

impl StopMessage {
    pub(crate) fn wire_type(self) -> MessageType {
        match self {
            Self::Bool => MessageType::Bool,
            Self::String => MessageType::String,
        }
    }
}

/// The message that carries a command to a robot that speaks ROS 2.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum CommandMessage {
    /// `std_msgs/msg/Float64MultiArray`, all numbers in order: forward controllers.
    #[default]
    Float64MultiArray,
    /// `trajectory_msgs/msg/JointTrajectory` of these joints, in the order of the numbers.
    JointTrajectory {
        joints: Vec<String>,
        #[serde(default)]
        send: TrajectorySend,
    },
    /// `geometry_msgs/msg/PoseStamped`: x, y, z in m and the quaternion x, y, z, w, in `frame`.
    PoseStamped { frame: String },
    /// `geometry_msgs/msg/TwistStamped`: linear x, y, z in m/s and angular x, y, z in rad/s, in `frame`. A delta: 0
    /// holds.
    TwistStamped { frame: String },
}

/// What of a plan goes into a trajectory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrajectorySend {
    /// Each command as one point, to be reached by the time of the next.
    #[default]
    Point,
    /// Each command, and what the plan holds behind it, ending at rest: a robot that hears no more finishes the plan and
    /// stays where that ends.
    Plan,
}

impl CommandMessage {
    pub(crate) fn wire_type(&self) -> MessageType {
        match self {
            Self::Float64MultiArray => MessageType::Float64MultiArray,
            Self::JointTrajectory { .. } => MessageType::JointTrajectory,
            Self::PoseStamped { .. } => MessageType::PoseStamped,
            Self::TwistStamped { .. } => MessageType::TwistStamped,
        }
    }
}

/// Checks what the file says of ROS 2.
///
/// # Errors
/// As a text that names the field and what it may be.
pub(crate) fn check(file: &RobotFile) -> Result<(), String> {
    let ros2 = match (file.protocol, &file.ros2) {
        (Protocol::Ros2, Some(ros2)) => ros2,
        (Protocol::Ros2, None) => {
            return Err("`protocol = \"ros2\"` needs a [ros2] table; it may be empty".into());
        }
        (Protocol::Native, Some(_)) => return Err("[ros2] is only for `protocol = \"ros2\"`".into()),
        (Protocol::Native, None) => return check_native(file),
    };
    if file.pace != Pace::Clock {
        return Err(
            "`pace`: a ROS 2 robot does not wait for its controller, so it has `pace = \"clock\"`".into()
        );
    }
    if ros2.domain > MAX_DOMAIN {
        return Err(format!("`ros2.domain` is {}, and must lie in 0..={MAX_DOMAIN}", ros2.domain));
    }
    if check_topic(&format!("/{}", ros2.node)).is_err() || ros2.node.contains('/') {
        return Err(format!("`ros2.node` is `{}`: a name is made of A-Z a-z 0-9 _", ros2.node));
    }
    if ros2.namespace != "/" {
        check_topic(&ros2.namespace).map_err(|problem| format!("`ros2.namespace`: {problem}"))?;
    }
    if let Some(stop) = &ros2.estop {
        check_topic(&stop.topic).map_err(|problem| format!("`ros2.estop.topic`: {problem}"))?;
    }
    let mut types: Vec<(&str, MessageType)> = Vec::new();
    for feature in &file.observation {
        let place = format!("observation `{}`", feature.name);
        let topic = named_topic(&place, feature.topic.as_deref())?;
        let message = feature.message.wire_type();
        if types.iter().any(|(other, kind)| *other == topic && *kind != message) {
            return Err(format!("{place}: another observation says that `{topic}` carries another message"));
        }
        types.push((topic, message));
    }
    let mut topics: Vec<&str> = Vec::new();
    for feature in &file.action {
        let place = format!("action `{}`", feature.name);
        let topic = named_topic(&place, feature.topic.as_deref())?;
        if topics.contains(&topic) {
            return Err(format!("{place}: another action has the topic `{topic}` too"));
        }
        topics.push(topic);
        check_command(&place, feature)?;
        let plans = matches!(
            feature.message,
            Some(CommandMessage::JointTrajectory { send: TrajectorySend::Plan, .. })
        );
        if plans && file.command_hz() != file.control_hz {
            return Err(format!(
                "{place}: whole plans are sent at `control_hz`, so there is no `command_hz`"
            ));
        }
    }
    Ok(())
}

fn check_native(file: &RobotFile) -> Result<(), String> {
    let observation = file.observation.iter().find(|feature| feature.topic.is_some());
    if let Some(feature) = observation {
        return Err(format!("observation `{}`: `topic` is only for `protocol = \"ros2\"`", feature.name));
    }
    let action = file.action.iter().find(|feature| feature.topic.is_some() || feature.message.is_some());
    match action {
        Some(feature) => Err(format!(
            "action `{}`: `topic` and `message` are only for `protocol = \"ros2\"`",
            feature.name
        )),
        None => Ok(()),
    }
}

fn named_topic<'a>(place: &str, topic: Option<&'a str>) -> Result<&'a str, String> {
    let topic = topic.ok_or_else(|| format!("{place}: a ROS 2 robot needs its `topic`"))?;
    check_topic(topic).map_err(|problem| format!("{place}: `topic` is `{topic}`: {problem}"))?;
    Ok(topic)
}

fn check_command(place: &str, feature: &CommandedFeature) -> Result<(), String> {
    let dim = feature.limits.low.len();
    let message = feature.message.clone().unwrap_or_default();
    let needs = |wanted: usize, what: &str| {
        if dim == wanted { Ok(()) } else { Err(format!("{place}: {what}, and the shape has {dim}")) }
    };
    match message {
        CommandMessage::Float64MultiArray => Ok(()),
        CommandMessage::JointTrajectory { joints, .. } => {
            if (1..joints.len()).any(|at| joints[..at].contains(&joints[at])) {
                return Err(format!("{place}: `message.joints` names a joint twice"));
            }
            if feature.mode != ActionMode::Absolute {
                return Err(format!("{place}: a trajectory is of positions, so its `mode` is absolute"));
            }
            needs(joints.len(), &format!("`message.joints` has {} names", joints.len()))
        }
        CommandMessage::PoseStamped { .. } => needs(7, "a pose has 7 numbers"),
        CommandMessage::TwistStamped { .. } if feature.mode != ActionMode::Delta => {
            Err(format!("{place}: a twist holds by 0, so its `mode` is delta"))
        }
        CommandMessage::TwistStamped { .. } => needs(6, "a twist has 6 numbers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM: &str = r#"
        name = "arm"
        prefix = "cell/arm"
        protocol = "ros2"
        pace = "clock"
        control_hz = 20.0

        [ros2]
        domain = 7
        estop = { topic = "/estop" }

        [session]
        robot = {}
        controller = { connect = ["tcp/127.0.0.1:7447"], mode = "client" }

        [[observation]]
        name = "joints"
        shape = [2]
        topic = "/joint_states"
        message = { type = "joint_state", field = "position", joints = ["shoulder", "elbow"] }

        [[observation]]
        name = "speeds"
        shape = [2]
        topic = "/joint_states"
        message = { type = "joint_state", field = "velocity", joints = ["shoulder", "elbow"] }

        [[action]]
        name = "joints"
        shape = [2]
        topic = "/controller/joint_trajectory"
        message = { type = "joint_trajectory", joints = ["shoulder", "elbow"], send = "plan" }
        limits = { low = [-1.0, -2.0], high = [1.0, 2.0] }
        measured_by = "joints"

        [[action]]
        name = "gripper"
        shape = [1]
        topic = "/gripper/commands"
        limits = { low = [0.0], high = [1.0] }
    "#;

    #[test]
    fn a_ros_2_arm_is_read() {
        let robot = RobotFile::parse(ARM).unwrap();
        let ros2 = robot.ros2.unwrap();
        assert_eq!((ros2.domain, ros2.node.as_str(), ros2.bridge), (7, "nudge", Bridge::RmwZenoh));
        assert_eq!(robot.action[1].message, None);
        assert_eq!(robot.action[0].message.as_ref().unwrap().wire_type(), MessageType::JointTrajectory);
    }

    #[test]
    fn every_mistake_names_its_field() {
        let pose = "message = { type = \"pose_stamped\", frame = \"base\" }";
        let twist = "message = { type = \"twist_stamped\", frame = \"base\" }";
        let mistakes = [
            ("pace = \"clock\"", "pace = \"observation\"", "does not wait"),
            ("protocol = \"ros2\"", "", "[ros2]"),
            ("domain = 7", "domain = 233", "`ros2.domain`"),
            ("domain = 7", "node = \"a b\"", "`ros2.node`"),
            ("domain = 7", "namespace = \"cell\"", "`ros2.namespace`"),
            ("domain = 7", "colour = 7", "colour"),
            ("control_hz = 20.0", "control_hz = 20.0\ncommand_hz = 100.0", "`command_hz`"),
            ("\"/estop\"", "\"estop\"", "`ros2.estop.topic`"),
            ("topic = \"/joint_states\"\n", "", "`topic`"),
            ("\"/joint_states\"", "\"/joint_states/*\"", "`topic`"),
            ("\"/controller/joint_trajectory\"", "\"/gripper/commands\"", "too"),
            ("topic = \"/gripper/commands\"\n", "", "`topic`"),
            ("joints = [\"shoulder\", \"elbow\"], send", "joints = [\"shoulder\"], send", "`message.joints`"),
            ("joints = [\"shoulder\", \"elbow\"], send", "joints = [\"elbow\", \"elbow\"], send", "twice"),
            ("\"/gripper/commands\"\n", &format!("\"/gripper\"\n{pose}\n"), "7 numbers"),
            ("\"/gripper/commands\"\n", &format!("\"/gripper\"\n{twist}\n"), "delta"),
            ("\"/gripper/commands\"\n", &format!("\"/gripper\"\nmode = \"delta\"\n{twist}\n"), "6 numbers"),
            (
                "field = \"velocity\", joints = [\"shoulder\", \"elbow\"]",
                "field = \"velocity\", joints = []",
                "joints",
            ),
            (
                "message = { type = \"joint_state\", field = \"velocity\", joints = [\"shoulder\", \"elbow\"] }",
                "",
                "another message",
            ),
        ];
        for (good, bad, place) in mistakes {
            assert!(ARM.contains(good), "{good}");
            let error = RobotFile::parse(&ARM.replacen(good, bad, 1)).unwrap_err();
            assert!(error.contains(place), "{bad}: {error}");
        }
    }

    #[test]
    fn topics_are_only_for_ros_2() {
        let native = ARM.replace("protocol = \"ros2\"", "");
        let table = "[ros2]\n        domain = 7\n        estop = { topic = \"/estop\" }";
        assert!(native.contains(table));
        let native = native.replace(table, "");
        assert!(RobotFile::parse(&native).unwrap_err().contains("`topic` is only for"));
        let observed = native.replace("topic = \"/joint_states\"", "");
        assert!(RobotFile::parse(&observed).unwrap_err().contains("`topic` and `message` are only for"));
        let missing = ARM.replace(table, "");
        assert!(RobotFile::parse(&missing).unwrap_err().contains("needs a [ros2] table"));
    }
}
