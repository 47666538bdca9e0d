//! What the doctor says: which fault, how bad, where, what it does to training, and what mends it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Training on it would fail, or learn what is certainly wrong.
    Error,
    /// It probably makes the policy worse; look at it before training.
    Warning,
    /// Good to know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $fault:ident = $name:literal,)+) => {
        /// What can be wrong with a data set. The names are those of `nudge dataset check --only`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Fault {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $fault,)+
        }

        impl Fault {
            /// Every fault, in the order of the enumeration.
            pub const ALL: &[Self] = &[$(Self::$fault),+];

            /// The name in kebab case, as in JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$fault => $name,)+
                }
            }
        }
    };
}

faults! {
    /// The set cannot be opened, and nothing of it is whole.
    Unreadable = "unreadable",
    /// The metadata claim other episodes or frames than the files hold, or files are missing or damaged.
    CountMismatch = "count-mismatch",
    /// An episode of a set that opens cannot be read.
    EpisodeUnreadable = "episode-unreadable",
    /// There is no action to learn.
    NoAction = "no-action",
    /// There is nothing to observe but pictures, video or text.
    NoObservation = "no-observation",
    /// Too few episodes to compare them with one another.
    FewEpisodes = "few-episodes",
    /// A task has no text, or frames belong to a task that is not listed.
    TaskMissing = "task-missing",
    /// The statistics that the set states are not those of its numbers.
    StatsContradict = "stats-contradict",
    /// `frame_index` does not count 0, 1, 2, ...: frames are missing, double or in another order.
    FrameIndex = "frame-index",
    /// `index` does not count the frames of the set.
    GlobalIndex = "global-index",
    /// `timestamp` stands still or goes back.
    TimeNotAdvancing = "time-not-advancing",
    /// `timestamp` jumps over one period or more.
    DroppedFrames = "dropped-frames",
    /// `timestamp` is uneven: frames come much too early or too late, though none is missing.
    UnevenTime = "uneven-time",
    /// The frames come at another rate than the set states.
    FpsMismatch = "fps-mismatch",
    /// Time stamps are computed, frame / fps, so that nobody can see what the clock did.
    TimeSynthesised = "time-synthesised",
    /// Numbers that are NaN or infinite.
    NonFinite = "non-finite",
    /// A number that is the same in all frames.
    ConstantNumber = "constant-number",
    /// A number that varies so little beside its size that only rounding is left of it.
    NearlyConstant = "nearly-constant",
    /// An action stays at its extreme value while the robot is busy.
    SaturatedAction = "saturated-action",
    /// An angle jumps by a whole turn.
    AngleWrap = "angle-wrap",
    /// A quaternion changes its sign between two frames.
    QuaternionFlip = "quaternion-flip",
    /// Frames that repeat the one before, bit for bit, in the middle of a motion.
    RepeatedFrames = "repeated-frames",
    /// Nothing moves for a while, at the beginning, in the middle or at the end.
    Idle = "idle",
    /// A value leaves its course for a frame and comes back.
    Jerk = "jerk",
    /// An observed number stands still while the rest moves, far longer than in other episodes.
    FrozenObservation = "frozen-observation",
    /// The action stands still while the robot moves, far longer than in other episodes.
    FrozenAction = "frozen-action",
    /// A state that does not follow from the one before and the action.
    UnreachableState = "unreachable-state",
    /// State and action both jump to another place: two recordings in one episode.
    CutTogether = "cut-together",
    /// Frames are not in the order of time.
    ShuffledFrames = "shuffled-frames",
    /// How many frames the observed state follows the action.
    ActionDelay = "action-delay",
    /// The action is shifted in time against the observed state.
    ActionShifted = "action-shifted",
    /// The action of a frame is the observed state of the same frame.
    ActionIsState = "action-is-state",
    /// The actions of an episode have nothing to do with its states.
    UnrelatedAction = "unrelated-action",
    /// Numbers of a vector stand in each other's place in an episode.
    SwappedNumbers = "swapped-numbers",
    /// A number has the other sign in an episode: another handedness, a mirrored axis.
    SignFlip = "sign-flip",
    /// Action and observed state are in different units.
    UnitMismatch = "unit-mismatch",
    /// An episode is in other units than the rest.
    UnitEpisode = "unit-episode",
    /// An episode that is too short for a training window.
    ShortEpisode = "short-episode",
    /// An episode unlike the others: in length, in reach, in how much it moves.
    OutlierEpisode = "outlier-episode",
    /// Two episodes are the same, bit for bit.
    DuplicateEpisode = "duplicate-episode",
    /// Two episodes are nearly the same, or share frames.
    NearDuplicate = "near-duplicate",
    /// The episode is marked as done before its last frame.
    DoneEarly = "done-early",
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|fault| fault.name()).collect();
            format!("there is no such fault; the faults are {}", names.join(", "))
        })
    }
}

/// One thing that is wrong, or good to know.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub fault: Fault,
    pub severity: Severity,
    /// The feature that is concerned, where one is.
    pub feature: Option<String>,
    /// Which of its numbers, from 0.
    pub number: Option<usize>,
    pub episode: Option<usize>,
    /// The first frame, or the worst.
    pub frame: Option<usize>,
    /// How many values, frames or episodes: `what` says which.
    pub count: usize,
    /// What was seen, with the figures.
    pub what: String,
    /// What it does to training.
    pub effect: String,
    /// Commands that mend it; empty where only another recording does.
    pub mend: Vec<String>,
}

impl Finding {
    pub(super) fn new(fault: Fault, severity: Severity, what: String, effect: &str) -> Self {
        Self {
            fault,
            severity,
            feature: None,
            number: None,
            episode: None,
            frame: None,
            count: 1,
            what,
            effect: effect.to_owned(),
            mend: Vec::new(),
        }
    }

    pub(super) fn of(self, feature: &str, number: Option<usize>) -> Self {
        Self { feature: Some(feature.to_owned()), number, ..self }
    }

    pub(super) fn at(self, episode: usize, frame: Option<usize>) -> Self {
        Self { episode: Some(episode), frame, ..self }
    }

    pub(super) fn count(self, count: usize) -> Self {
        Self { count, ..self }
    }

    pub(super) fn mend(mut self, command: String) -> Self {
        self.mend.push(command);
        self
    }
}
