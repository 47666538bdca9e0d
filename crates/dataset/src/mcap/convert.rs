//! What was on the wire as a data set: messages that came when they came become frames at one rate.

use std::collections::BTreeMap;
use std::path::Path;

use nudge_wire::{Float64MultiArray, JointState, Message as _, MessageType};
use serde::Serialize;

use super::inspect::Tally;
use super::resample::{Resampling, Samples, common_runs};
use super::{McapMessage, McapReport, read_mcap};
use crate::{Column, DatasetError, DatasetWriter, FeatureInfo, WriteSpec};

/// Ends of keys of the native protocol.
const OBSERVED: &str = "/obs/";
const COMMANDED: &str = "/act/cmd";
const ACTION: &str = "action";

/// How to make a data set of an MCAP file.
#[derive(Clone, Debug)]
pub struct McapConversion {
    /// Frames a second.
    pub fps: f64,
    /// What becomes which feature; empty for the observations and commands of the native protocol.
    pub topics: Vec<TopicFeature>,
    /// What was to be done, in words.
    pub task: String,
    pub robot_type: Option<String>,
    /// A longer silence of any topic ends an episode, and another begins behind it: nothing is made up for it.
    pub max_gap_secs: f64,
    /// Take what is whole of a file that is cut off or damaged, instead of refusing it.
    pub salvage: bool,
}

/// What becomes a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicFeature {
    pub topic: String,
    /// Of a JointState: `position`, `velocity` or `effort`, by default `position`.
    pub field: Option<String>,
    pub feature: String,
    pub resampling: Resampling,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct McapConverted {
    pub episodes: usize,
    pub frames: usize,
    pub features: Vec<TopicFeature>,
    /// Messages of these topics that could not be read, and why the first of each could not.
    pub malformed: BTreeMap<String, (u64, String)>,
    /// Of the whole file.
    pub report: McapReport,
}

/// Writes the data set `out`.
///
/// # Errors
/// When the file cannot be read, or is cut off or damaged and that is not to be salvaged; when a topic is missing, of
/// another type, or changes its joints; when `out` exists; or the disk refuses. Nothing is left behind then.
pub fn convert_mcap(path: &Path, out: &Path, how: &McapConversion) -> Result<McapConverted, DatasetError> {
    let bad = |problem: String| DatasetError::metadata(path, problem);
    if !(how.fps.is_finite() && how.fps > 0.0 && how.max_gap_secs.is_finite() && how.max_gap_secs > 0.0) {
        return Err(bad("the frame rate and the longest gap must be above 0".into()));
    }
    let (mut streams, mut tally) = (Vec::<Stream>::new(), Tally::default());
    streams.extend(how.topics.iter().cloned().map(Stream::of));
    let native = how.topics.is_empty();
    let damage = read_mcap(path, &mut |message| {
        tally.take(&message);
        if native && let Some(found) = native_feature(&message.channel.topic) {
            let new = |stream: &Stream| stream.what.topic != found.topic;
            if streams.iter().all(new) {
                streams.push(Stream::of(found));
            }
        }
        let topic = &message.channel.topic;
        let of_topic = streams.iter_mut().filter(|stream| stream.what.topic == *topic);
        of_topic.for_each(|stream| stream.take(&message));
        Ok(())
    })?;
    if let Some(damage) = damage.as_ref().filter(|_| !how.salvage) {
        return Err(bad(format!("{damage}; to make a set of that, ask for it (--salvage)")));
    }
    let report = tally.report(damage);
    if native {
        streams.sort_by(|one, other| one.what.feature.cmp(&other.what.feature));
    }
    for Stream { what, samples, malformed, .. } in &streams {
        if samples.times_ns.is_empty() {
            let known: Vec<&str> = report.topics.iter().map(|topic| topic.topic.as_str()).collect();
            let problem = malformed.as_ref().map_or_else(
                || format!("there is no message on it; there are: {}", known.join(", ")),
                |(count, problem)| format!("none of its {count} messages can be read ({problem})"),
            );
            return Err(bad(format!("topic `{}`: {problem}", what.topic)));
        }
    }
    if streams.is_empty() {
        return Err(bad(
            "it holds no observations and commands of the native protocol: say which topics become which features \
             (--topic)"
                .into(),
        ));
    }
    let max_gap_ns = (how.max_gap_secs * 1e9) as u64;
    let runs: Vec<_> = streams.iter().map(|stream| stream.samples.runs(max_gap_ns)).collect();
    let (episodes, frames) = write(out, how, &streams, &common_runs(&runs))?;
    let malformed =
        streams.iter().filter_map(|stream| Some((stream.what.topic.clone(), stream.malformed.clone()?)));
    Ok(McapConverted {
        episodes,
        frames,
        malformed: malformed.collect(),
        features: streams.iter().map(|stream| stream.what.clone()).collect(),
        report,
    })
}

/// How many episodes, and how many frames in all.
fn write(
    out: &Path,
    how: &McapConversion,
    streams: &[Stream],
    episodes: &[(u64, u64)],
) -> Result<(usize, usize), DatasetError> {
    let features = streams.iter().map(|stream| FeatureInfo {
        name: stream.what.feature.clone(),
        dtype: "float32".into(),
        shape: vec![stream.samples.dim],
        names: stream.names.clone(),
    });
    let spec = WriteSpec { fps: how.fps, robot_type: how.robot_type.clone(), features: features.collect() };
    let mut writer = DatasetWriter::create(out, spec)?;
    let mut written = 0;
    for (from, to) in episodes {
        let time = |frame: u64| from + (frame as f64 / how.fps * 1e9).round() as u64;
        let frames = (0..).take_while(|frame| time(*frame) <= *to).count() as u64;
        // One frame is no motion.
        if frames < 2 {
            continue;
        }
        let column = |stream: &Stream| {
            let rows = (0..frames).filter_map(|frame| stream.samples.at(time(frame), stream.what.resampling));
            Column::Float32(rows.flatten().map(|value| value as f32).collect())
        };
        let columns: Vec<Column> = streams.iter().map(column).collect();
        let times: Vec<f32> = (0..frames).map(|frame| (frame as f64 / how.fps) as f32).collect();
        writer.push(&how.task, &times, &columns)?;
        written += 1;
    }
    if written == 0 {
        let problem = "nowhere in the recording does every topic go on without a gap for two frames; give a longer \
                       gap (--max-gap), or fewer topics";
        return Err(DatasetError::metadata(out, problem));
    }
    Ok((written, writer.finish()?))
}

/// The feature that a topic of the native protocol is.
fn native_feature(topic: &str) -> Option<TopicFeature> {
    let feature = match topic.rsplit_once(OBSERVED) {
        Some((_, name)) if !name.contains('/') => name.to_owned(),
        _ if topic.ends_with(COMMANDED) => ACTION.to_owned(),
        _ => return None,
    };
    Some(TopicFeature { topic: topic.to_owned(), field: None, feature, resampling: Resampling::Previous })
}

/// What has come of one feature.
struct Stream {
    what: TopicFeature,
    samples: Samples,
    /// Of the joints; empty where numbers have no names.
    names: Vec<String>,
    malformed: Option<(u64, String)>,
}

impl Stream {
    fn of(what: TopicFeature) -> Self {
        Self { what, samples: Samples::default(), names: Vec::new(), malformed: None }
    }

    /// Takes a message of the topic; one that cannot be is counted.
    fn take(&mut self, message: &McapMessage<'_>) {
        let read = self.read(message).and_then(|values| {
            if self.samples.times_ns.is_empty() {
                self.samples.dim = values.len();
            }
            match values.len() {
                0 => Err("it holds no numbers".to_owned()),
                dim if dim == self.samples.dim => Ok(values),
                dim => Err(format!("it holds {dim} numbers, and the first had {}", self.samples.dim)),
            }
        });
        match read {
            Ok(values) => self.samples.push(message.log_time_ns, &values),
            Err(problem) => self.malformed.get_or_insert((0, problem)).0 += 1,
        }
    }

    fn read(&mut self, message: &McapMessage<'_>) -> Result<Vec<f64>, String> {
        let channel = message.channel;
        let field = self.what.field.as_deref();
        match MessageType::named(&channel.schema).filter(|_| channel.encoding == "cdr") {
            Some(MessageType::Float64MultiArray) if field.is_none_or(|field| field == "data") => {
                Float64MultiArray::decode(message.payload).map(|array| array.data).map_err(|e| e.to_string())
            }
            Some(MessageType::JointState) => {
                let joints = JointState::decode(message.payload).map_err(|error| error.to_string())?;
                let values = match field.unwrap_or("position") {
                    "position" => joints.position,
                    "velocity" => joints.velocity,
                    "effort" => joints.effort,
                    other => return Err(format!("a JointState has no `{other}`")),
                };
                self.by_name(&joints.name, &values)
            }
            _ => Err(format!(
                "its messages are `{}` ({}), of which {} is not read; sensor_msgs/msg/JointState and \
                 std_msgs/msg/Float64MultiArray in CDR are",
                channel.schema,
                channel.encoding,
                field.unwrap_or("what is in them")
            )),
        }
    }

    /// The numbers in the order of the first message's joints.
    fn by_name(&mut self, names: &[String], values: &[f64]) -> Result<Vec<f64>, String> {
        if names.len() != values.len() {
            return Err(format!("it names {} joints and has numbers for {}", names.len(), values.len()));
        }
        if self.samples.times_ns.is_empty() {
            self.names = names.to_vec();
        }
        let of = |name: &String| {
            let at = names.iter().position(|other| other == name);
            at.map(|at| values[at]).ok_or_else(|| format!("joint `{name}` is missing"))
        };
        if names.len() != self.names.len() {
            return Err(format!("it names {} joints, and the first named {}", names.len(), self.names.len()));
        }
        self.names.iter().map(of).collect()
    }
}
