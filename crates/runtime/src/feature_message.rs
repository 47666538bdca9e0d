//! One feature of an observation in and out of its message.

use nudge_wire::{
    CdrError, Float64MultiArray, Header, JointState, Message as _, MessageType, Point, Pose, PoseStamped,
    Quaternion, Twist, TwistStamped, Vector3,
};

use crate::counters::Count;
use crate::robot_file::{JointField, Message};

/// Why a message does not bring its feature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoFeature {
    #[error(transparent)]
    Payload(#[from] CdrError),
    #[error("it has no joint `{joint}`, only {names}")]
    NoJoint { joint: String, names: String },
    #[error("it names the joint `{joint}` twice")]
    JointTwice { joint: String },
    #[error("it has no {field} of the joint `{joint}`")]
    NoValue { joint: String, field: &'static str },
}

impl NoFeature {
    /// What it is counted as.
    pub(crate) fn count(&self) -> Count {
        match self {
            Self::Payload(_) => Count::PayloadRefused,
            _ => Count::ShapeRefused,
        }
    }
}

impl Message {
    /// The type of the message.
    pub(crate) fn wire_type(&self) -> MessageType {
        match self {
            Self::Float64MultiArray => MessageType::Float64MultiArray,
            Self::JointState { .. } => MessageType::JointState,
            Self::PoseStamped => MessageType::PoseStamped,
            Self::TwistStamped => MessageType::TwistStamped,
        }
    }
}

/// The numbers of a feature out of its message.
pub(crate) fn decode(message: &Message, payload: &[u8]) -> Result<Vec<f64>, NoFeature> {
    match message {
        Message::Float64MultiArray => Ok(Float64MultiArray::decode(payload)?.data),
        Message::JointState { field, joints } => pick_joints(&JointState::decode(payload)?, *field, joints),
        Message::PoseStamped => {
            let Pose { position: p, orientation: q } = PoseStamped::decode(payload)?.pose;
            Ok(vec![p.x, p.y, p.z, q.x, q.y, q.z, q.w])
        }
        Message::TwistStamped => {
            let Twist { linear, angular } = TwistStamped::decode(payload)?.twist;
            Ok(vec![linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        }
    }
}

/// The message that carries the numbers of a feature, as many as its shape has.
pub(crate) fn encode(message: &Message, stamp_ns: i64, values: &[f64]) -> Vec<u8> {
    match message {
        Message::Float64MultiArray => Float64MultiArray::of(values.to_vec()).encode(),
        Message::JointState { field, joints } => {
            let header = Header::new(stamp_ns, "");
            let mut state = JointState { header, name: joints.clone(), ..JointState::default() };
            *field.of_mut(&mut state) = values.to_vec();
            state.encode()
        }
        Message::PoseStamped => {
            PoseStamped { header: Header::new(stamp_ns, ""), pose: pose(values) }.encode()
        }
        Message::TwistStamped => {
            TwistStamped { header: Header::new(stamp_ns, ""), twist: twist(values) }.encode()
        }
    }
}

/// x, y, z in m and the quaternion x, y, z, w; what is missing is 0.
pub(crate) fn pose(values: &[f64]) -> Pose {
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    Pose {
        position: Point { x: at(0), y: at(1), z: at(2) },
        orientation: Quaternion { x: at(3), y: at(4), z: at(5), w: at(6) },
    }
}

/// Linear x, y, z in m/s and angular x, y, z in rad/s; what is missing is 0.
pub(crate) fn twist(values: &[f64]) -> Twist {
    let vector = |first: usize| {
        let at = |index: usize| values.get(first + index).copied().unwrap_or_default();
        Vector3 { x: at(0), y: at(1), z: at(2) }
    };
    Twist { linear: vector(0), angular: vector(3) }
}

impl JointField {
    fn name(self) -> &'static str {
        match self {
            Self::Position => "position",
            Self::Velocity => "velocity",
            Self::Effort => "effort",
        }
    }

    fn of_mut(self, state: &mut JointState) -> &mut Vec<f64> {
        match self {
            Self::Position => &mut state.position,
            Self::Velocity => &mut state.velocity,
            Self::Effort => &mut state.effort,
        }
    }
}

/// One field of `joints`, in this order, wherever they stand in the message.
fn pick_joints(state: &JointState, field: JointField, joints: &[String]) -> Result<Vec<f64>, NoFeature> {
    let values = match field {
        JointField::Position => &state.position,
        JointField::Velocity => &state.velocity,
        JointField::Effort => &state.effort,
    };
    let value = |joint: &String| {
        let mut places = state.name.iter().enumerate().filter(|(_, name)| *name == joint);
        let Some((place, _)) = places.next() else {
            return Err(NoFeature::NoJoint { joint: joint.clone(), names: state.name.join(", ") });
        };
        if places.next().is_some() {
            return Err(NoFeature::JointTwice { joint: joint.clone() });
        }
        let value = values.get(place).copied();
        value.ok_or_else(|| NoFeature::NoValue { joint: joint.clone(), field: field.name() })
    };
    joints.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn joints_are_found_by_name_wherever_they_stand_and_a_missing_one_is_named() {
        let state = JointState {
            header: Header::default(),
            name: names(&["elbow", "wrist", "shoulder", "wrist"]),
            position: vec![1.0, 2.0, 3.0, 4.0],
            velocity: vec![0.1],
            effort: vec![],
        };
        let pick = |field, joints: &[&str]| pick_joints(&state, field, &names(joints));
        let refusal = |field, joints: &[&str]| pick(field, joints).unwrap_err().to_string();
        assert_eq!(pick(JointField::Position, &["shoulder", "elbow"]), Ok(vec![3.0, 1.0]));
        assert_eq!(pick(JointField::Velocity, &["elbow"]), Ok(vec![0.1]));
        assert!(refusal(JointField::Velocity, &["shoulder"]).contains("velocity of the joint `shoulder`"));
        assert!(refusal(JointField::Effort, &["elbow"]).contains("effort"));
        assert!(refusal(JointField::Position, &["knee"]).contains("`knee`, only elbow, wrist, shoulder"));
        assert!(refusal(JointField::Position, &["wrist"]).contains("twice"));
    }

    #[test]
    fn what_is_sent_is_what_is_seen() {
        let joints = names(&["a", "b"]);
        let messages = [
            (Message::Float64MultiArray, 3),
            (Message::JointState { field: JointField::Position, joints: joints.clone() }, 2),
            (Message::JointState { field: JointField::Velocity, joints: joints.clone() }, 2),
            (Message::JointState { field: JointField::Effort, joints }, 2),
            (Message::PoseStamped, 7),
            (Message::TwistStamped, 6),
        ];
        for (message, dim) in messages {
            let values: Vec<f64> = (1..=dim).map(f64::from).collect();
            assert_eq!(decode(&message, &encode(&message, 7, &values)), Ok(values), "{message:?}");
            assert!(matches!(decode(&message, &[0, 1, 0]), Err(NoFeature::Payload(_))));
        }
    }
}
