//! Everything that can happen to a guard, as data: fed the same inputs, a guard of the same configuration gives the same
//! commands, bit for bit.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rules::Missing;

/// One event of a guard's life. Times are on one monotonic clock; numbers are written as the bits that they are, so that
/// a log holds those too that are not finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum GuardInput<'a> {
    /// An observation came. `skew_secs` is how far its stamp was ahead of the wall clock then; negative when behind.
    Observe {
        now: Duration,
        #[serde(with = "bits_of_one")]
        skew_secs: f64,
        #[serde(serialize_with = "write_bits", deserialize_with = "read_bits")]
        values: Cow<'a, [f64]>,
    },
    /// The robot's heartbeat came.
    Heartbeat { now: Duration },
    /// Another process speaks for the robot.
    PublisherChanged,
    /// The policy's alarm is raised or ends.
    Alarm { raised: bool },
    /// The emergency stop.
    Stop,
    /// Somebody asks to release the emergency stop.
    Release { now: Duration },
    /// A new episode.
    Reset,
    /// A command is due.
    Tick { now: Duration, proposed: Proposal<'a> },
}

/// What is proposed for a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proposal<'a> {
    /// `[Da]`
    Action(#[serde(serialize_with = "write_bits", deserialize_with = "read_bits")] Cow<'a, [f64]>),
    None(Missing),
}

impl GuardInput<'_> {
    /// The same, with numbers of its own.
    pub fn to_static(&self) -> GuardInput<'static> {
        match self {
            Self::Observe { now, skew_secs, values } => {
                GuardInput::Observe { now: *now, skew_secs: *skew_secs, values: Cow::Owned(values.to_vec()) }
            }
            Self::Heartbeat { now } => GuardInput::Heartbeat { now: *now },
            Self::PublisherChanged => GuardInput::PublisherChanged,
            Self::Alarm { raised } => GuardInput::Alarm { raised: *raised },
            Self::Stop => GuardInput::Stop,
            Self::Release { now } => GuardInput::Release { now: *now },
            Self::Reset => GuardInput::Reset,
            Self::Tick { now, proposed } => {
                let proposed = match proposed {
                    Proposal::Action(action) => Proposal::Action(Cow::Owned(action.to_vec())),
                    Proposal::None(missing) => Proposal::None(*missing),
                };
                GuardInput::Tick { now: *now, proposed }
            }
        }
    }
}

impl<'a> From<Result<&'a [f64], Missing>> for Proposal<'a> {
    fn from(proposed: Result<&'a [f64], Missing>) -> Self {
        match proposed {
            Ok(action) => Self::Action(Cow::Borrowed(action)),
            Err(missing) => Self::None(missing),
        }
    }
}

fn write_bits<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(|value| value.to_bits()))
}

fn read_bits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, [f64]>, D::Error> {
    let bits = Vec::<u64>::deserialize(deserializer)?;
    Ok(Cow::Owned(bits.into_iter().map(f64::from_bits).collect()))
}

mod bits_of_one {
    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}
