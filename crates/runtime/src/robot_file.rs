//! A robot is one TOML file: its keys, messages, rates and limits.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use nudge_control::{ActionFeature, ActionMode, Feature, FeatureKind, Interface, Limits};
use serde::{Deserialize, Serialize};

use crate::RuntimeError;
use crate::guard::{MOST_JOINTS, ToolLimits};
use crate::ros2_file::{self, CommandMessage, Protocol, Ros2};

/// Who waits for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// The controller ticks at `control_hz`, whatever the robot does.
    Clock,
    /// The robot waits: every complete observation gets exactly one command.
    Observation,
}

/// A robot as its file states it; checked when it is read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobotFile {
    /// For people and reports.
    pub name: String,
    /// Before every key.
    pub prefix: String,
    #[serde(default)]
    pub protocol: Protocol,
    /// Of a robot with the protocol `ros2`.
    pub ros2: Option<Ros2>,
    pub pace: Pace,
    pub control_hz: f64,
    /// Commands a second (pace `clock`), `control_hz` when absent: above it, up to 1000, plans are interpolated.
    pub command_hz: Option<f64>,
    /// Observations older than this hold the robot (pace `clock`); by default max(0.1, 2.5 / `control_hz`).
    pub staleness_secs: Option<f64>,
    /// Fresh observations in a row after which a hold ends (pace `clock`; otherwise 1).
    #[serde(default = "default_resume_after")]
    pub resume_after: u32,
    /// Observations whose stamp is further than this from the wall clock, either way, are dropped; not looked at when
    /// absent, since the clocks of two machines may differ.
    pub stamp_skew_secs: Option<f64>,
    /// Whether the policy's alarm holds the robot.
    #[serde(default)]
    pub hold_on_alarm: bool,
    /// Speed and workspace of the tool.
    pub tool: Option<ToolLimits>,
    pub session: Sessions,
    pub observation: Vec<ObservedFeature>,
    pub action: Vec<CommandedFeature>,
}

fn default_resume_after() -> u32 {
    3
}

/// Where the two ends meet, as zenoh endpoints such as `tcp/127.0.0.1:7447`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    pub robot: Endpoints,
    pub controller: Endpoints,
}

/// The endpoints of one end.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    #[serde(default)]
    pub listen: Vec<String>,
    #[serde(default)]
    pub connect: Vec<String>,
    /// A zenoh configuration for what endpoints do not say: users, certificates, access control. Its path and those in
    /// it are seen from where the program is started.
    pub config: Option<PathBuf>,
    /// By default what `config` says, else a peer.
    pub mode: Option<SessionMode>,
}

impl Endpoints {
    /// Leaves it to a zenoh configuration who may connect: it listens nowhere else, for that would be a door beside it.
    pub fn secure_with(&mut self, config: PathBuf) {
        self.config = Some(config);
        self.listen.clear();
    }
}

/// What an end is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionMode {
    /// Meets other peers directly.
    Peer,
    /// Meets others through the router that it connects to, which must be there when it starts.
    Client,
}

/// One part of an observation, on the key `<prefix>/obs/<name>`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedFeature {
    pub name: String,
    pub shape: Vec<usize>,
    #[serde(default)]
    pub unit: String,
    #[serde(default)]
    pub message: Message,
    /// The ROS 2 topic that it comes from.
    pub topic: Option<String>,
}

/// The message that carries a feature.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Message {
    /// `std_msgs/msg/Float64MultiArray`, all numbers in order.
    #[default]
    Float64MultiArray,
    /// `sensor_msgs/msg/JointState`: one field of the joints named, in this order, wherever they stand in the message.
    JointState { field: JointField, joints: Vec<String> },
    /// `geometry_msgs/msg/PoseStamped`: x, y, z in m and the quaternion x, y, z, w.
    PoseStamped,
    /// `geometry_msgs/msg/TwistStamped`: linear x, y, z in m/s and angular x, y, z in rad/s.
    TwistStamped,
}

/// A field of `sensor_msgs/msg/JointState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JointField {
    Position,
    Velocity,
    Effort,
}

/// One part of a command.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandedFeature {
    pub name: String,
    pub shape: Vec<usize>,
    #[serde(default)]
    pub unit: String,
    #[serde(default)]
    pub mode: ActionMode,
    pub limits: Limits,
    /// Most that each number may change in a second; unlimited when absent.
    pub velocity: Option<Vec<f64>>,
    /// Most that each velocity may change in a second, for which `velocity` must be stated too. Commands are then brought
    /// to rest ahead of every limit, and a hold slows down.
    pub acceleration: Option<Vec<f64>>,
    /// Most that each acceleration may change in a second, for which `acceleration` must be stated too.
    pub jerk: Option<Vec<f64>>,
    /// The observation feature that measures what an absolute action commands: to hold is to command that. Without
    /// one, to hold is to repeat the last command (a gripper).
    pub measured_by: Option<String>,
    /// The ROS 2 topic that it goes to.
    pub topic: Option<String>,
    /// The ROS 2 message that carries it; by default all numbers in one array.
    pub message: Option<CommandMessage>,
}

impl RobotFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, or says something that cannot be; the text names the field and its range.
    pub fn load(path: &Path) -> Result<Self, RuntimeError> {
        let bad = |problem: String| RuntimeError::RobotFile { file: path.display().to_string(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        Self::parse(&text).map_err(bad)
    }

    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// As a text that names the field and its range.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        file.check()?;
        Ok(file)
    }

    /// Everything that the robot offers.
    pub fn interface(&self) -> Interface {
        let observation = self.observation.iter().map(|feature| Feature {
            name: feature.name.clone(),
            kind: FeatureKind::Vector,
            shape: feature.shape.clone(),
            unit: feature.unit.clone(),
        });
        let action = self.action.iter().map(|feature| ActionFeature {
            name: feature.name.clone(),
            kind: FeatureKind::Vector,
            shape: feature.shape.clone(),
            unit: feature.unit.clone(),
            mode: feature.mode,
            limits: feature.limits.clone(),
        });
        Interface {
            observation: observation.collect(),
            action: action.collect(),
            control_hz: self.control_hz,
        }
    }

    /// The age at which an observation is stale, in seconds.
    pub fn staleness_secs(&self) -> f64 {
        self.staleness_secs.unwrap_or_else(|| f64::max(0.1, 2.5 / self.control_hz))
    }

    /// Commands a second.
    pub fn command_hz(&self) -> f64 {
        self.command_hz.unwrap_or(self.control_hz)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        check_name("name", &self.name)?;
        if self.prefix.is_empty() || self.prefix.split('/').any(|part| !is_name(part)) {
            return Err(format!("`prefix` is `{}`: names of A-Z a-z 0-9 . _ - joined by /", self.prefix));
        }
        check_range("control_hz", self.control_hz, 0.1, 1000.0)?;
        if let Some(secs) = self.staleness_secs {
            check_range("staleness_secs", secs, 0.001, 60.0)?;
        }
        if let Some(secs) = self.stamp_skew_secs {
            check_range("stamp_skew_secs", secs, 1e-6, 1e6)?;
        }
        if let Some(command_hz) = self.command_hz {
            check_range("command_hz", command_hz, self.control_hz, 1000.0)?;
            if self.pace == Pace::Observation && command_hz != self.control_hz {
                return Err("`command_hz` is `control_hz` in lockstep: one command an observation".into());
            }
            let steps = |feature: &CommandedFeature| feature.mode == ActionMode::Delta;
            if command_hz > self.control_hz && self.action.iter().any(steps) {
                return Err(
                    "`command_hz` above `control_hz` needs absolute actions: between deltas is nothing"
                        .into(),
                );
            }
        }
        check_range("resume_after", f64::from(self.resume_after), 1.0, 1000.0)?;
        if self.observation.is_empty() || self.action.is_empty() {
            return Err("a robot has at least one [[observation]] and one [[action]]".into());
        }
        let mut names = HashSet::new();
        for feature in &self.observation {
            let place = format!("observation `{}`", feature.name);
            check_name(&place, &feature.name)?;
            let dim = check_shape(&place, &feature.shape)?;
            if !names.insert(&feature.name) {
                return Err(format!("{place} is there twice"));
            }
            match &feature.message {
                Message::JointState { joints, .. } => check_joints(&place, joints, dim)?,
                Message::PoseStamped => check_length(&format!("{place}: a pose"), 7, dim)?,
                Message::TwistStamped => check_length(&format!("{place}: a twist"), 6, dim)?,
                Message::Float64MultiArray => {}
            }
        }
        names.clear();
        for feature in &self.action {
            if !names.insert(&feature.name) {
                return Err(format!("action `{}` is there twice", feature.name));
            }
            self.check_action(feature)?;
        }
        self.tool.as_ref().map_or(Ok(()), |tool| self.check_tool(tool))?;
        ros2_file::check(self)
    }

    fn check_tool(&self, tool: &ToolLimits) -> Result<(), String> {
        tool.check()?;
        let moved = self.action.iter().find(|feature| feature.name == tool.action);
        let Some(moved) = moved else {
            return Err(format!("`tool.action` names `{}`, which is not an action here", tool.action));
        };
        let dim = moved.limits.low.len();
        if tool.axes() > dim || (!tool.joints.is_empty() && tool.joints.len() != dim) {
            return Err(format!("`tool.action` names `{}`, whose {dim} numbers do not move it", tool.action));
        }
        if tool.joints.len() > MOST_JOINTS {
            return Err(format!("`tool.joints` has {}, of at most {MOST_JOINTS}", tool.joints.len()));
        }
        if moved.mode == ActionMode::Delta || moved.acceleration.is_none() {
            let name = &tool.action;
            return Err(format!(
                "`tool.action` names `{name}`, which must be absolute and state `acceleration`"
            ));
        }
        Ok(())
    }

    fn check_action(&self, feature: &CommandedFeature) -> Result<(), String> {
        let place = format!("action `{}`", feature.name);
        check_name(&place, &feature.name)?;
        let dim = check_shape(&place, &feature.shape)?;
        let Limits { low, high } = &feature.limits;
        check_length(&format!("{place}: `limits.low`"), low.len(), dim)?;
        check_length(&format!("{place}: `limits.high`"), high.len(), dim)?;
        if low.iter().zip(high).any(|(low, high)| !low.is_finite() || !high.is_finite() || low > high) {
            return Err(format!("{place}: `limits` must be finite, low at most high"));
        }
        if feature.mode == ActionMode::Delta
            && low.iter().zip(high).any(|(low, high)| *low > 0.0 || *high < 0.0)
        {
            return Err(format!("{place}: `limits` of a delta must allow 0, which holds"));
        }
        let rates = [
            ("velocity", &feature.velocity),
            ("acceleration", &feature.acceleration),
            ("jerk", &feature.jerk),
        ];
        for (name, limits) in rates {
            let Some(limits) = limits else { continue };
            check_length(&format!("{place}: `{name}`"), limits.len(), dim)?;
            if limits.iter().any(|limit| !limit.is_finite() || *limit <= 0.0) {
                return Err(format!("{place}: every `{name}` must be finite and above 0"));
            }
        }
        for [(lower, stated), (higher, bound)] in [[rates[0], rates[1]], [rates[1], rates[2]]] {
            if stated.is_none() && bound.is_some() {
                return Err(format!("{place}: `{higher}` needs `{lower}`"));
            }
        }
        let Some(name) = &feature.measured_by else { return Ok(()) };
        if feature.mode == ActionMode::Delta {
            return Err(format!("{place}: a delta holds by 0 and has no `measured_by`"));
        }
        let Some(measured) = self.observation.iter().find(|observed| observed.name == *name) else {
            return Err(format!("{place}: `measured_by` names `{name}`, which is not an observation here"));
        };
        check_length(&format!("{place}: `{name}`, which measures it,"), measured.shape.iter().product(), dim)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn check_name(place: &str, name: &str) -> Result<(), String> {
    if is_name(name) { Ok(()) } else { Err(format!("{place}: a name is made of A-Z a-z 0-9 . _ -")) }
}

fn check_range(field: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("`{field}` is {value}, and must lie in {low}..={high}"))
    }
}

/// The number of numbers in a shape.
fn check_shape(place: &str, shape: &[usize]) -> Result<usize, String> {
    let dim = shape.iter().try_fold(1_usize, |dim, size| dim.checked_mul(*size));
    match dim {
        Some(dim) if !shape.is_empty() && (1..=4096).contains(&dim) => Ok(dim),
        _ => Err(format!("{place}: `shape` is {shape:?}, and must hold 1..=4096 numbers")),
    }
}

fn check_length(what: &str, length: usize, dim: usize) -> Result<(), String> {
    if length == dim { Ok(()) } else { Err(format!("{what} has {length} numbers, and the shape has {dim}")) }
}

fn check_joints(place: &str, joints: &[String], dim: usize) -> Result<(), String> {
    check_length(&format!("{place}: `message.joints`"), joints.len(), dim)?;
    let different: HashSet<_> = joints.iter().collect();
    if different.len() == joints.len() {
        Ok(())
    } else {
        Err(format!("{place}: `message.joints` names a joint twice"))
    }
}

#[cfg(test)]
#[path = "robot_file_tests.rs"]
mod tests;
