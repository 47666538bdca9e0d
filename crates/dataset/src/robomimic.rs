//! robomimic's HDF5 files: `/data/demo_<n>` with `actions`, `states`, `rewards`, `dones` and `obs/<name>`, all `[N, ...]`.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hdf5_reader::Hdf5File;
use hdf5_reader::error::Error;
use hdf5_reader::group::Group;
use serde_json::Value;

use crate::columns::Number;
use crate::error::{Damage, guarded, way_out};
use crate::hdf5_array::{self, Hdf5Array};
use crate::source::Numbers;
use crate::{DatasetError, DatasetInfo, FeatureInfo, Format, Split};

/// A file of which the structure has been read.
pub(crate) struct Robomimic {
    path: PathBuf,
    file: Hdf5File,
    /// In the order of their numbers.
    demos: Vec<Demo>,
}

/// One demonstration.
#[derive(Clone)]
struct Demo {
    name: String,
    frames: usize,
}

impl Robomimic {
    /// Whether the file is HDF5, damaged or not.
    pub(crate) fn is_at(path: &Path) -> bool {
        const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";
        let mut head = [0; 8];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
        (read.is_ok() && head == SIGNATURE)
            || path.extension().is_some_and(|end| ["hdf5", "h5", "hdf"].iter().any(|known| end == *known))
    }

    pub(crate) fn open(path: &Path, damage: &mut Damage) -> Result<(Self, DatasetInfo), DatasetError> {
        let file = at(path, "/", || hdf5_array::open_file(path))?;
        let root = at(path, "/", || file.root_group())?;
        let (groups, _) = at(path, "/", || root.member_names())?;
        if !groups.iter().any(|name| name == "data") {
            let problem = "it is HDF5, but has no group `/data`, so it does not hold demonstrations as robomimic stores them";
            return Err(DatasetError::NotADataset { path: path.to_owned(), problem: problem.into() });
        }
        let data = at(path, "/data", || root.group("data"))?;
        let (mut names, _) = at(path, "/data", || data.member_names())?;
        // demo_10 after demo_9.
        names.sort_by_cached_key(|name| {
            let digits = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
            (digits.parse().unwrap_or(u64::MAX), name.clone())
        });
        let mut set = Self { path: path.to_owned(), file, demos: Vec::new() };
        for name in names {
            let demo = damage.pass(set.demo(&data, name))?;
            set.demos.extend(demo);
        }
        let mut features = None;
        while let (None, false) = (&features, set.demos.is_empty()) {
            features = damage.pass(set.features(&set.demos[0]))?;
            if features.is_none() {
                set.demos.remove(0);
            }
        }
        let frames = set.demos.iter().map(|demo| demo.frames).sum();
        if let Some(total) = whole_number(path, "/data", &data, "total")?.filter(|total| *total != frames) {
            let problem = format!(
                "its attribute `total` says {total} frames, but the demonstrations hold {frames}; fetch the file again, or {}",
                way_out(path)
            );
            damage.pass::<()>(Err(hdf5_error(path, "/data", problem)))?;
        }
        let (env, env_kwargs) = environment(path, &data)?;
        let info = DatasetInfo {
            format: Format::RobomimicHdf5,
            episodes: set.demos.len(),
            frames,
            fps: env_kwargs
                .get("control_freq")
                .and_then(Value::as_f64)
                .filter(|fps| fps.is_finite() && *fps > 0.0),
            robot_type: robot(&env_kwargs),
            features: features.unwrap_or_default(),
            tasks: env.into_iter().collect(),
            splits: set.splits(&root)?,
        };
        Ok((set, info))
    }

    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.demos.iter().map(|demo| demo.frames).collect()
    }

    /// Keeps these episodes alone.
    pub(crate) fn keep(&mut self, episodes: &[usize]) {
        self.demos = episodes.iter().map(|episode| self.demos[*episode].clone()).collect();
    }

    pub(crate) fn read<T: Number>(
        &self,
        episodes: Range<usize>,
        features: &[&FeatureInfo],
    ) -> Result<Numbers<T>, DatasetError> {
        let read = |demo: &Demo, feature: &FeatureInfo| {
            let place = format!("/data/{}/{}", demo.name, feature.name);
            let array = at(&self.path, &place, || Hdf5Array::open(&self.file, &place))?;
            let found = FeatureInfo::of_array(feature.name.clone(), &array.shape, &array.dtype);
            if array.shape.first() != Some(&demo.frames) || found != *feature {
                let problem = format!(
                    "it holds {} {:?} where {} [{}, {}] belongs, as in the other demonstrations",
                    array.dtype,
                    array.shape,
                    feature.dtype,
                    demo.frames,
                    feature.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                );
                return Err(hdf5_error(&self.path, &place, problem));
            }
            let numbers: Vec<T> = at(&self.path, &place, || array.read())?;
            if numbers.len() != demo.frames * feature.dim() {
                let problem = format!(
                    "{} numbers were read where {} belong",
                    numbers.len(),
                    demo.frames * feature.dim()
                );
                return Err(hdf5_error(&self.path, &place, problem));
            }
            Ok(numbers)
        };
        let demos = self.demos[episodes].iter();
        demos.map(|demo| features.iter().map(|feature| read(demo, feature)).collect()).collect()
    }

    fn demo(&self, data: &Group, name: String) -> Result<Demo, DatasetError> {
        let place = format!("/data/{name}");
        let group = at(&self.path, &place, || data.group(&name))?;
        let actions = format!("{place}/actions");
        let array = at(&self.path, &actions, || Hdf5Array::open(&self.file, &actions))?;
        let Some(frames) = array.shape.first().copied() else {
            return Err(hdf5_error(&self.path, &actions, "it is a single number where [N, A] belongs"));
        };
        match whole_number(&self.path, &place, &group, "num_samples")? {
            Some(stated) if stated != frames => {
                let problem = format!(
                    "its attribute `num_samples` says {stated}, but `actions` holds {frames} frames; fetch the file again, \
                     or {}",
                    way_out(&self.path)
                );
                Err(hdf5_error(&self.path, &place, problem))
            }
            _ => Ok(Demo { name, frames }),
        }
    }

    /// What a demonstration holds for every frame; `next_obs` is `obs` one frame later, and not listed.
    fn features(&self, demo: &Demo) -> Result<Vec<FeatureInfo>, DatasetError> {
        let place = format!("/data/{}", demo.name);
        let mut names = Vec::new();
        at(&self.path, &place, || arrays_below(&self.file.group(&place)?, "", &mut names))?;
        names.sort();
        let mut features = Vec::new();
        for name in names {
            let place = format!("{place}/{name}");
            let array = at(&self.path, &place, || Hdf5Array::open(&self.file, &place))?;
            if array.shape.first() == Some(&demo.frames) {
                features.push(FeatureInfo::of_array(name, &array.shape, &array.dtype));
            } else if name.starts_with("obs/") || ["states", "rewards", "dones"].contains(&name.as_str()) {
                let problem =
                    format!("it has shape {:?}, but the demonstration {} frames", array.shape, demo.frames);
                return Err(hdf5_error(&self.path, &place, problem));
            }
        }
        Ok(features)
    }

    /// `/mask/<name>`: names of demonstrations.
    fn splits(&self, root: &Group) -> Result<Vec<Split>, DatasetError> {
        let (groups, _) = at(&self.path, "/", || root.member_names())?;
        if !groups.iter().any(|name| name == "mask") {
            return Ok(Vec::new());
        }
        let mask = at(&self.path, "/mask", || root.group("mask"))?;
        let (_, mut names) = at(&self.path, "/mask", || mask.member_names())?;
        names.sort();
        let split = |name: String| {
            let place = format!("/mask/{name}");
            let listed = at(&self.path, &place, || mask.dataset(&name)?.read_strings())?;
            let named = |(episode, demo): (usize, &Demo)| listed.contains(&demo.name).then_some(episode);
            Ok(Split { episodes: self.demos.iter().enumerate().filter_map(named).collect(), name })
        };
        names.into_iter().map(split).collect()
    }
}

/// Names of all arrays of a demonstration, those in groups as `group/array`.
fn arrays_below(group: &Group, prefix: &str, names: &mut Vec<String>) -> Result<(), Error> {
    let (groups, arrays) = group.member_names()?;
    names.extend(arrays.into_iter().map(|name| format!("{prefix}{name}")));
    for name in groups.into_iter().filter(|name| name != "next_obs") {
        // A damaged file may hold a group within itself.
        if prefix.matches('/').count() < 4 {
            arrays_below(&group.group(&name)?, &format!("{prefix}{name}/"), names)?;
        }
    }
    Ok(())
}

/// The environment's name and arguments, from the attribute `env_args`; it may be missing.
fn environment(path: &Path, data: &Group) -> Result<(Option<String>, Value), DatasetError> {
    let attributes = at(path, "/data", || data.attributes())?;
    let text = attributes.iter().find(|attribute| attribute.name == "env_args");
    let text = text.and_then(|attribute| attribute.read_string().ok()).unwrap_or_default();
    let arguments: Value = serde_json::from_str(&text).unwrap_or_default();
    let name = arguments.get("env_name").and_then(Value::as_str).map(str::to_owned);
    Ok((name, arguments.get("env_kwargs").cloned().unwrap_or_default()))
}

/// robosuite's `robots`: a name, or a list of them.
fn robot(env_kwargs: &Value) -> Option<String> {
    let robots = env_kwargs.get("robots")?;
    let names = match robots {
        Value::Array(robots) => robots.iter().filter_map(Value::as_str).collect(),
        other => vec![other.as_str()?],
    };
    (!names.is_empty()).then(|| names.join(", "))
}

/// An attribute that counts something; `None` when there is none of this name.
fn whole_number(path: &Path, place: &str, group: &Group, name: &str) -> Result<Option<usize>, DatasetError> {
    let attributes = at(path, place, || group.attributes())?;
    let Some(attribute) = attributes.iter().find(|attribute| attribute.name == name) else { return Ok(None) };
    let value = at(path, place, || attribute.read_as_f64())?;
    if value < 0.0 || value.fract() != 0.0 || value > 1e15 {
        return Err(hdf5_error(
            path,
            place,
            format!("its attribute `{name}` is {value}, which counts nothing"),
        ));
    }
    Ok(Some(value as usize))
}

/// Runs the decoder on what lies at `place` in the file.
fn at<T, E: std::fmt::Display>(
    path: &Path,
    place: &str,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, DatasetError> {
    guarded(run).map_err(|problem| hdf5_error(path, place, problem))
}

fn hdf5_error(path: &Path, place: &str, problem: impl Into<String>) -> DatasetError {
    DatasetError::Hdf5 { path: path.to_owned(), place: place.to_owned(), problem: problem.into() }
}
