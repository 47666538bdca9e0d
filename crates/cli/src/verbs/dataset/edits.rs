//! What `convert` and `filter` can mend on the way, and what both of them say.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use nudge_dataset::{Conversion, Converted, Dataset, Edit, Format, Numbers, convert};
use serde::Serialize;

use crate::output::{self, say};
use crate::verbs::record::quoted;

/// Lines about episodes that were left out.
const LINES: usize = 10;

/// Applied in the order of this list, to every episode
#[derive(Args)]
pub struct EditArgs {
    /// Leave out episodes that hold NaN or infinite numbers
    #[arg(long, help_heading = "Edits")]
    drop_non_finite: bool,

    /// Leave out episodes that equal an earlier one in every number
    #[arg(long, help_heading = "Edits")]
    drop_duplicates: bool,

    /// Multiply numbers by a factor, for example observation.state:0,1=0.001 for millimetres to metres
    #[arg(long, value_name = "FEATURE[:I,J]=FACTOR", value_parser = scaled, help_heading = "Edits")]
    scale: Vec<(Numbers, f64)>,

    /// Turn degrees into radians, for example action:0-5
    #[arg(long, value_name = "FEATURE[:I,J]", value_parser = numbers, help_heading = "Edits")]
    degrees: Vec<Numbers>,

    /// Unwrap angles in radians, so that none jumps by a turn from one frame to the next
    #[arg(long, value_name = "FEATURE[:I,J]", value_parser = numbers, help_heading = "Edits")]
    unwrap: Vec<Numbers>,

    /// Remove frames that repeat the one before in every number, where time stood still or in the midst of a motion
    #[arg(long, help_heading = "Edits")]
    drop_repeated: bool,

    /// Cut off where nothing moves yet, and where nothing moves any more
    #[arg(long, help_heading = "Edits")]
    trim_idle: bool,

    /// Let action[t] be what action[t + STEPS] was; negative when actions come too early
    #[arg(long, value_name = "STEPS", allow_negative_numbers = true, help_heading = "Edits")]
    shift_action: Option<i64>,

    /// Let a frame's time be its number divided by the frame rate
    #[arg(long, help_heading = "Edits")]
    retime: bool,

    /// Remove numbers that carry nothing from a vector, for example observation.state:7,9-11
    #[arg(long, value_name = "FEATURE:I,J", value_parser = some_numbers, help_heading = "Edits")]
    drop_numbers: Vec<Numbers>,
}

impl EditArgs {
    /// Adds what is asked for to `conversion`.
    pub fn add_to(&self, conversion: &mut Conversion) {
        conversion.selection.finite |= self.drop_non_finite;
        conversion.selection.distinct |= self.drop_duplicates;
        let edits = &mut conversion.edits;
        edits.extend(self.scale.iter().map(|(numbers, factor)| Edit::Scale(numbers.clone(), *factor)));
        edits.extend(self.degrees.iter().cloned().map(Edit::Degrees));
        edits.extend(self.unwrap.iter().cloned().map(Edit::Unwrap));
        edits.extend(self.drop_repeated.then_some(Edit::DropRepeated));
        edits.extend(self.trim_idle.then_some(Edit::TrimIdle));
        edits.extend(self.shift_action.map(Edit::ShiftAction));
        edits.extend(self.retime.then_some(Edit::Retime));
        edits.extend(self.drop_numbers.iter().cloned().map(Edit::DropNumbers));
    }
}

/// What a conversion says.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    converted: &'a Converted,
    source: &'a Path,
    source_format: Format,
    out: &'a Path,
}

/// Converts with a progress bar, and says what came of it.
pub fn run(set: &Dataset, out: &Path, conversion: &Conversion, json: bool) -> Result<()> {
    let bar = output::progress(set.frame_count() as u64, "frames");
    let converted = convert(set, out, conversion, &mut |frames| bar.set_position(frames as u64))?;
    bar.finish_and_clear();
    if json {
        let (source, source_format) = (set.root(), set.format());
        return output::print_json(&Report { converted: &converted, source, source_format, out });
    }
    print(out, &converted);
    Ok(())
}

/// What came of a conversion, for people.
pub fn print(out: &Path, converted: &Converted) {
    let Converted { episodes, frames, fps, removed_frames, .. } = converted;
    say!("{}: {episodes} episodes, {frames} frames at {fps} Hz", out.display());
    let shape = |shape: &[usize]| shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
    let changed = |mapped: &&nudge_dataset::Mapped| {
        (&mapped.source, &mapped.source_dtype, &mapped.source_shape)
            != (&mapped.name, &mapped.dtype, &mapped.shape)
    };
    if converted.features.iter().any(|mapped| changed(&mapped)) {
        let mut table = output::table(["in the source", "type", "shape", "written as", "type", "shape"]);
        for mapped in &converted.features {
            table.add_row([
                mapped.source.clone(),
                mapped.source_dtype.clone(),
                shape(&mapped.source_shape),
                mapped.name.clone(),
                mapped.dtype.clone(),
                shape(&mapped.shape),
            ]);
        }
        say!("{table}");
    }
    if *removed_frames > 0 {
        say!("the edits removed {removed_frames} frames of these episodes");
    }
    if !converted.left_out.is_empty() {
        say!("{} episodes are left out:", converted.left_out.len());
    }
    for left_out in converted.left_out.iter().take(LINES) {
        say!("  episode {}: {}", left_out.episode, left_out.why);
    }
    if converted.left_out.len() > LINES {
        say!("  and {} more (--json lists all)", converted.left_out.len() - LINES);
    }
    if !converted.passed_over.is_empty() {
        say!("listed and not read, for they hold no numbers: {}", converted.passed_over.join(", "));
    }
    converted.remarks.iter().for_each(|remark| say!("note: {remark}"));
}

/// This program's command line as it could be given to a shell, but for where the result goes: the same request gives the
/// same set wherever it lies.
pub fn command_line() -> String {
    let mut words = vec!["nudge".to_owned()];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--out" => drop(arguments.next()),
            "--json" => {}
            _ if argument.starts_with("--out=") => {}
            _ => words.push(quoted(argument)),
        }
    }
    words.join(" ")
}

/// `OLD=NEW`.
pub fn renamed(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("write it as OLD=NEW, for example obs/robot0_eef_pos=observation.state".into()),
    }
}

/// What [`list`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List(pub Vec<usize>);

/// Numbers and ranges such as `0-49,60`.
pub fn list(text: &str) -> Result<List, String> {
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim) {
        let number = |text: &str| {
            text.trim()
                .parse::<usize>()
                .map_err(|_| format!("`{part}` is no number and no range such as 0-49"))
        };
        match part.split_once('-') {
            None => all.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last || last - first >= 1 << 32 {
                    return Err(format!("`{part}` is no range: write the smaller number first"));
                }
                all.extend(first..=last);
            }
        }
    }
    Ok(List(all))
}

/// `FEATURE` or `FEATURE:I,J`.
fn numbers(text: &str) -> Result<Numbers, String> {
    let (feature, places) = match text.rsplit_once(':') {
        Some((feature, places)) => (feature, Some(list(places)?.0)),
        None => (text, None),
    };
    if feature.is_empty() {
        return Err("write it as FEATURE, or FEATURE:I,J for some of its numbers".into());
    }
    Ok(Numbers { feature: feature.to_owned(), places })
}

fn some_numbers(text: &str) -> Result<Numbers, String> {
    let numbers = numbers(text)?;
    match numbers.places {
        Some(_) => Ok(numbers),
        None => Err("write it as FEATURE:I,J; --drop-feature leaves out a whole feature".into()),
    }
}

fn scaled(text: &str) -> Result<(Numbers, f64), String> {
    let Some((left, factor)) = text.rsplit_once('=') else {
        return Err("write it as FEATURE=FACTOR, or FEATURE:I,J=FACTOR".into());
    };
    let factor = factor.parse().map_err(|_| format!("`{factor}` is no factor"))?;
    Ok((numbers(left)?, factor))
}

/// The folder that a verb writes, refused before anything is read.
pub fn new_folder(out: &Path) -> Result<&Path> {
    if out.symlink_metadata().is_ok() {
        anyhow::bail!("{} exists already; choose another folder or remove it first", out.display());
    }
    Ok(out)
}

/// A set of any format, and where to write another.
#[derive(Args)]
pub struct Sets {
    /// The data set: a LeRobot folder, a zarr folder, or an HDF5 file; for `convert`, an MCAP file too
    #[arg(value_name = "SET")]
    pub set: PathBuf,

    /// The folder to write, a LeRobot v3.0 data set; it must not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Frames per second, where the set does not state it or is wrong about it
    #[arg(long, value_name = "HZ")]
    pub fps: Option<f64>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_numbers_and_ranges() {
        assert_eq!(list("0-3,7, 9-9").unwrap().0, [0, 1, 2, 3, 7, 9]);
        for (text, word) in [("", "``"), ("a", "`a`"), ("3-", "`3-`"), ("5-3", "smaller"), ("-1", "`-1`")] {
            assert!(list(text).unwrap_err().contains(word), "{text}");
        }
    }

    #[test]
    fn numbers_of_features_are_parsed_where_they_are_given() {
        let parsed = |text: &str| numbers(text).map(|numbers| (numbers.feature, numbers.places));
        assert_eq!(parsed("observation.state").unwrap(), ("observation.state".into(), None));
        assert_eq!(parsed("obs/eef:0,2-3").unwrap(), ("obs/eef".into(), Some(vec![0, 2, 3])));
        assert_eq!(scaled("action:1=-0.5").unwrap().1, -0.5);
        assert!(scaled("action").is_err() && scaled("action=x").is_err() && numbers(":1").is_err());
        assert!(some_numbers("action").unwrap_err().contains("--drop-feature"));
        assert!(renamed("a=b").is_ok() && renamed("a").is_err() && renamed("=b").is_err());
    }
}
