//! What each feature of a set becomes in LeRobot's layout: its name, its type, its shape.

use serde::Serialize;

use super::draft::narrowed;
use super::{Edit, Numbers, Step};
use crate::write_meta::FRAME_COLUMNS;
use crate::{Column, Dataset, DatasetError, FeatureInfo, Format};

/// How a feature is written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mapped {
    /// As the source has it.
    pub source: String,
    pub source_dtype: String,
    pub source_shape: Vec<usize>,
    /// As it is written.
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    /// A name for each number, where the source gives them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The source's numbers that are written, when not all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_numbers: Option<Vec<usize>>,
}

impl Mapped {
    /// Numbers of a frame in the source.
    pub(super) fn source_dim(&self) -> usize {
        self.source_shape.iter().product()
    }

    /// The column as it is written.
    pub(super) fn narrow(&self, column: Column) -> Column {
        match &self.kept_numbers {
            Some(kept) => narrowed(&column, self.source_dim(), kept),
            None => column,
        }
    }

    pub(super) fn feature(&self) -> FeatureInfo {
        FeatureInfo {
            name: self.name.clone(),
            dtype: self.dtype.clone(),
            shape: self.shape.clone(),
            names: self.names.clone(),
        }
    }

    /// Whether the action is what it holds.
    pub(super) fn is_action(&self) -> bool {
        self.name.starts_with("action")
    }
}

/// The features of a set that are written, in its order.
///
/// # Errors
/// When a feature is asked for that is not there, two would have one name, or one holds numbers that no type of the
/// writer holds.
pub(super) fn map(
    set: &Dataset,
    rename: &[(String, String)],
    drop: &[String],
) -> Result<Vec<Mapped>, DatasetError> {
    let info = set.info();
    let own: Vec<&FeatureInfo> = info.features.iter().filter(|feature| is_own(feature)).collect();
    let names: Vec<&str> = own.iter().map(|feature| feature.name.as_str()).collect();
    for name in rename.iter().map(|(old, _)| old).chain(drop) {
        if !names.contains(&name.as_str()) {
            return Err(unknown(name, &names));
        }
    }
    let mut mapped: Vec<Mapped> = Vec::new();
    for feature in own.iter().filter(|feature| feature.is_numeric() && !drop.contains(&feature.name)) {
        let renamed = rename.iter().find(|(old, _)| *old == feature.name);
        let name = renamed.map_or_else(|| usual_name(set.format(), &feature.name), |(_, new)| new.clone());
        if let Some(other) = mapped.iter().find(|other| other.name == name) {
            return Err(DatasetError::request(format!(
                "both `{}` and `{}` would become `{name}`: give one of them another name, for example \
                 --rename {}=observation.other",
                other.source, feature.name, feature.name
            )));
        }
        // Read exactly as far as 64-bit floats hold them, which is checked.
        let dtype = if feature.dtype == "uint64" { "int64" } else { feature.dtype.as_str() };
        mapped.push(Mapped {
            source: feature.name.clone(),
            source_dtype: feature.dtype.clone(),
            source_shape: feature.shape.clone(),
            name,
            dtype: dtype.to_owned(),
            shape: feature.shape.clone(),
            names: feature.names.clone(),
            kept_numbers: None,
        });
    }
    if mapped.is_empty() {
        let problem = "no feature that holds numbers is left, so there is nothing to write";
        return Err(DatasetError::request(problem));
    }
    Ok(mapped)
}

/// Finds what the edits speak of. [`Edit::DropNumbers`] is taken up into `mapped`, everything else becomes a step; places
/// of numbers are those of the source throughout.
///
/// # Errors
/// When a feature or number is not there, or is not measured in floats.
pub(super) fn resolve(edits: &[Edit], mapped: &mut [Mapped]) -> Result<Vec<Step>, DatasetError> {
    let mut steps = Vec::new();
    for edit in edits {
        let measured = |numbers: &Numbers, what: &str| {
            let (column, places) = find(numbers, mapped)?;
            if !mapped[column].dtype.starts_with("float") {
                return Err(DatasetError::request(format!(
                    "`{}` holds {}s, which have no fractions, so {what} would spoil them",
                    numbers.feature, mapped[column].source_dtype
                )));
            }
            Ok((column, places))
        };
        match edit {
            Edit::Scale(_, factor) if !(factor.is_finite() && *factor != 0.0) => {
                return Err(DatasetError::request(format!("numbers cannot be scaled by {factor}")));
            }
            Edit::Scale(numbers, factor) => {
                let (column, places) = measured(numbers, "scaling")?;
                steps.push(Step::Scale { column, places, factor: *factor });
            }
            Edit::Degrees(numbers) => {
                let (column, places) = measured(numbers, "turning degrees into radians")?;
                steps.push(Step::Scale { column, places, factor: std::f64::consts::PI / 180.0 });
            }
            Edit::Unwrap(numbers) => {
                let (column, places) = measured(numbers, "unwrapping")?;
                steps.push(Step::Unwrap { column, places });
            }
            Edit::DropRepeated => steps.push(Step::DropRepeated),
            Edit::TrimIdle => steps.push(Step::TrimIdle),
            Edit::Retime => steps.push(Step::Retime),
            Edit::ShiftAction(shift) => {
                let columns: Vec<usize> =
                    (0..mapped.len()).filter(|column| mapped[*column].is_action()).collect();
                if columns.is_empty() {
                    return Err(DatasetError::request(format!(
                        "no feature is called `action`, so there is no action to shift: name it with --rename \
                         OLD=action; the features are {}",
                        listed(mapped)
                    )));
                }
                steps.push(Step::ShiftAction { columns, steps: *shift });
            }
            Edit::DropNumbers(numbers) => {
                let (column, places) = find(numbers, mapped)?;
                let mapped = &mut mapped[column];
                let kept = mapped.kept_numbers.take().unwrap_or_else(|| (0..mapped.source_dim()).collect());
                let kept: Vec<usize> = kept.into_iter().filter(|place| !places.contains(place)).collect();
                if kept.is_empty() {
                    return Err(DatasetError::request(format!(
                        "no number of `{0}` would be left: leave the feature out with --drop-feature {0}",
                        numbers.feature
                    )));
                }
                if mapped.shape.len() > 1 && mapped.names.len() != mapped.source_dim() {
                    mapped.names = flat_names(&mapped.source_shape);
                }
                mapped.shape = vec![kept.len()];
                mapped.kept_numbers = Some(kept);
            }
        }
    }
    for mapped in mapped {
        if let Some(kept) = mapped.kept_numbers.as_ref().filter(|_| !mapped.names.is_empty()) {
            mapped.names = kept.iter().filter_map(|place| mapped.names.get(*place).cloned()).collect();
        }
    }
    Ok(steps)
}

/// The column of a feature, and the places that are meant.
fn find(numbers: &Numbers, mapped: &[Mapped]) -> Result<(usize, Vec<usize>), DatasetError> {
    let named = |name: fn(&Mapped) -> &String| mapped.iter().position(|m| *name(m) == numbers.feature);
    let Some(column) = named(|mapped| &mapped.source).or_else(|| named(|mapped| &mapped.name)) else {
        let known: Vec<&str> = mapped.iter().map(|mapped| mapped.source.as_str()).collect();
        return Err(unknown(&numbers.feature, &known));
    };
    let dim = mapped[column].source_dim();
    let mut places = numbers.places.clone().unwrap_or_else(|| (0..dim).collect());
    places.sort_unstable();
    places.dedup();
    match places.iter().find(|place| **place >= dim) {
        Some(place) => Err(DatasetError::request(format!(
            "`{}` has no number {place}: it holds {dim}, numbered from 0",
            numbers.feature
        ))),
        None => Ok((column, places)),
    }
}

/// Whether a feature is the set's own, and not one of those that every LeRobot set has.
fn is_own(feature: &FeatureInfo) -> bool {
    !FRAME_COLUMNS.iter().any(|(name, _)| *name == feature.name)
}

/// Features that are listed and not read, each with its type.
pub(super) fn passed_over(set: &Dataset) -> Vec<String> {
    set.info().passed_over().map(|feature| format!("{} ({})", feature.name, feature.dtype)).collect()
}

/// What a feature of another format is called in LeRobot's.
fn usual_name(format: Format, name: &str) -> String {
    match format {
        Format::LeRobotV3 | Format::LeRobotV21 | Format::LeRobotV20 => name.to_owned(),
        Format::ReplayBufferZarr | Format::RobomimicHdf5 => match name {
            "action" | "actions" => "action".into(),
            "reward" | "rewards" => "next.reward".into(),
            "done" | "dones" => "next.done".into(),
            other => {
                let bare = other.strip_prefix("obs/").unwrap_or(other).replace('/', ".");
                if bare.starts_with("observation.") { bare } else { format!("observation.{bare}") }
            }
        },
    }
}

/// Names for the numbers of a table that becomes a vector: `row.column`.
fn flat_names(shape: &[usize]) -> Vec<String> {
    let place = |mut flat: usize| {
        let mut places = Vec::new();
        for size in shape.iter().rev() {
            places.push((flat % size).to_string());
            flat /= size;
        }
        places.reverse();
        places.join(".")
    };
    (0..shape.iter().product()).map(place).collect()
}

fn listed(mapped: &[Mapped]) -> String {
    mapped.iter().map(|mapped| mapped.source.as_str()).collect::<Vec<_>>().join(", ")
}

/// That there is no such feature, with the nearest one and all others.
fn unknown(name: &str, known: &[&str]) -> DatasetError {
    let nearest = known.iter().min_by_key(|known| distance(name, known));
    let guess = nearest
        .filter(|known| distance(name, known) <= name.len().max(known.len()) / 2)
        .map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
    let listed = known.join(", ");
    DatasetError::request(format!("the data set has no feature `{name}`{guess} Its features are {listed}"))
}

/// Letters to insert, remove or replace between two words (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, known) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *known);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (one, other, expected) in
            [("kitten", "sitting", 3), ("", "abc", 3), ("same", "same", 0), ("flaw", "lawn", 2)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn names_of_other_formats_become_those_of_lerobot() {
        for (name, expected) in [
            ("actions", "action"),
            ("obs/robot0_eef_pos", "observation.robot0_eef_pos"),
            ("state", "observation.state"),
            ("rewards", "next.reward"),
            ("a/b", "observation.a.b"),
        ] {
            assert_eq!(usual_name(Format::RobomimicHdf5, name), expected);
        }
        assert_eq!(usual_name(Format::LeRobotV20, "actions"), "actions");
    }

    #[test]
    fn numbers_of_tables_are_named_row_after_row() {
        assert_eq!(flat_names(&[2, 3]), ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]);
    }
}
