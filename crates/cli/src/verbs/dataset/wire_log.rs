//! MCAP files in `nudge dataset`: what they hold, and how they become data sets.

use std::path::Path;

use anyhow::{Result, bail};
use comfy_table::{Cell, CellAlignment};
use nudge_dataset::Conversion;
use nudge_dataset::mcap::{
    McapConversion, McapConverted, McapReport, Resampling, TopicFeature, convert_mcap, inspect_mcap,
};

use crate::output::{self, say};

/// Whether this is to be read as an MCAP file.
pub fn is_mcap(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mcap")) && !path.is_dir()
}

/// Shows the topics of a file.
pub fn info(path: &Path, json: bool) -> Result<()> {
    let report = inspect_mcap(path)?;
    if json {
        return output::print_json(&report);
    }
    say!("{} (MCAP), {:.1} s", path.display(), report.secs);
    print(&report);
    Ok(())
}

/// Makes a data set of a file.
pub fn convert(path: &Path, out: &Path, how: &McapConversion, json: bool) -> Result<()> {
    let converted = convert_mcap(path, out, how)?;
    if json {
        return output::print_json(&converted);
    }
    let McapConverted { episodes, frames, features, malformed, report } = &converted;
    say!("{}: {episodes} episodes, {frames} frames at {} Hz", out.display(), how.fps);
    let mut table = output::table(["topic", "becomes", "between two messages"]);
    for TopicFeature { topic, field, feature, resampling } in features {
        let topic = field.as_ref().map_or_else(|| topic.clone(), |field| format!("{topic}, {field}"));
        let between = match resampling {
            Resampling::Previous => "the one before",
            Resampling::Linear => "on the line between both",
        };
        table.add_row([topic.as_str(), feature, between]);
    }
    say!("{table}");
    for (topic, (count, problem)) in malformed {
        say!("{topic}: {count} messages left out, the first because {problem}");
    }
    print(report);
    Ok(())
}

/// What is to be done with a file, as the options say that are of data sets too.
///
/// # Errors
/// When no frame rate is given, or an option is of data sets alone.
pub fn conversion(
    conversion: &Conversion,
    topics: &[TopicFeature],
    max_gap_secs: f64,
    salvage: bool,
) -> Result<McapConversion> {
    let Conversion { fps, task, rename, drop_features, selection, edits, .. } = conversion;
    if !(rename.is_empty() && drop_features.is_empty() && edits.is_empty())
        || selection.finite
        || selection.distinct
    {
        bail!("of an MCAP file a data set is made first; edit that with another `nudge dataset convert`");
    }
    let Some(fps) = *fps else {
        bail!("messages come when they come: say with --fps how many frames a second there are to be")
    };
    Ok(McapConversion {
        fps,
        topics: topics.to_vec(),
        task: task.clone().unwrap_or_default(),
        robot_type: None,
        max_gap_secs,
        salvage,
    })
}

/// Reads `TOPIC[:FIELD]=FEATURE[:linear]`.
pub fn topic_feature(text: &str) -> Result<TopicFeature, String> {
    let wrong = || {
        "write it as TOPIC[:FIELD]=FEATURE[:linear], for example /joint_states:velocity=observation.velocity"
            .to_owned()
    };
    let (source, target) = text.split_once('=').ok_or_else(wrong)?;
    let (topic, field) = source.split_once(':').map_or((source, None), |(topic, field)| (topic, Some(field)));
    let (feature, resampling) = match target.split_once(':') {
        None => (target, Resampling::Previous),
        Some((feature, "previous")) => (feature, Resampling::Previous),
        Some((feature, "linear")) => (feature, Resampling::Linear),
        Some(_) => return Err(wrong()),
    };
    if topic.is_empty() || feature.is_empty() || field.is_some_and(str::is_empty) {
        return Err(wrong());
    }
    let (topic, feature, field) = (topic.to_owned(), feature.to_owned(), field.map(str::to_owned));
    Ok(TopicFeature { topic, field, feature, resampling })
}

fn print(report: &McapReport) {
    let header = ["topic", "messages are", "count", "Hz", "largest gap", "at", "lost", "out of order"];
    let mut table = output::table(header);
    for topic in &report.topics {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(&topic.topic),
            Cell::new(&topic.message),
            right(topic.messages.to_string()),
            right(format!("{:.2}", topic.hz)),
            right(format!("{:.3} s", topic.largest_gap_secs)),
            right(format!("{:.1} s", topic.largest_gap_at_secs)),
            right(topic.lost.to_string()),
            right(topic.out_of_order.to_string()),
        ]);
    }
    say!("{table}");
    if report.not_recorded > 0 {
        say!("{} messages were not recorded, for the disk was too slow", report.not_recorded);
    }
    if let Some(damage) = &report.damage {
        say!("{damage}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_features_are_read() {
        let read = topic_feature("/joint_states:velocity=observation.velocity:linear").unwrap();
        assert_eq!((read.topic.as_str(), read.field.as_deref()), ("/joint_states", Some("velocity")));
        assert_eq!((read.feature.as_str(), read.resampling), ("observation.velocity", Resampling::Linear));
        assert_eq!(topic_feature("/cmd=action").unwrap().resampling, Resampling::Previous);
        for bad in ["/cmd", "=action", "/cmd=", "/cmd:=action", "/cmd=action:cubic"] {
            assert!(topic_feature(bad).unwrap_err().contains("TOPIC[:FIELD]=FEATURE"), "{bad}");
        }
    }
}
