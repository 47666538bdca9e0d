//! diffusion_policy's `ReplayBuffer`: a zarr store with `data/<key>` `[T, ...]` and `meta/episode_ends`.

use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::columns::Number;
use crate::error::{Damage, way_out};
use crate::source::Numbers;
use crate::zarr_array::ZarrArray;
use crate::{DatasetError, DatasetInfo, FeatureInfo, Format};

const ENDS: &str = "meta/episode_ends";

/// A store of which the metadata and the ends of the episodes have been read.
pub(crate) struct ReplayBuffer {
    /// By feature; those of numbers can be read.
    arrays: Vec<(String, ZarrArray)>,
    /// Rows of each episode in every array.
    episodes: Vec<Range<usize>>,
}

impl ReplayBuffer {
    /// Whether the folder is a zarr store, of whatever kind.
    pub(crate) fn is_at(path: &Path) -> bool {
        let marks = [".zgroup", "zarr.json", ".zmetadata", ENDS, "data/.zgroup"];
        path.extension().is_some_and(|extension| extension == "zarr")
            || marks.iter().any(|mark| path.join(mark).exists())
    }

    pub(crate) fn open(root: &Path, damage: &mut Damage) -> Result<(Self, DatasetInfo), DatasetError> {
        let mut arrays = Vec::new();
        for name in names(root)? {
            let array = damage.pass(ZarrArray::open(root, &format!("data/{name}")))?;
            arrays.extend(array.map(|array| (name, array)));
        }
        let ends = read_ends(root, damage)?;
        let frames = ends.last().copied().unwrap_or(0);
        for (name, array) in arrays.iter().filter(|(_, array)| array.shape[0] != frames) {
            let problem = format!(
                "`{name}` holds {} frames, but the last episode of {ENDS} ends at {frames}; the store was copied in part \
                 or appended to halfway: fetch it again, or {}",
                array.shape[0],
                way_out(root)
            );
            damage.pass::<()>(Err(DatasetError::metadata(&root.join("data").join(name), problem)))?;
        }
        let held = arrays.iter().map(|(_, array)| array.shape[0]).min().unwrap_or(0);
        let starts = [0].into_iter().chain(ends.iter().copied());
        let all: Vec<Range<usize>> = starts.zip(&ends).map(|(start, end)| start..*end).collect();
        let episodes: Vec<Range<usize>> = all.into_iter().filter(|episode| episode.end <= held).collect();
        let info = DatasetInfo {
            format: Format::ReplayBufferZarr,
            episodes: episodes.len(),
            frames: episodes.iter().map(Range::len).sum(),
            fps: None,
            robot_type: None,
            features: arrays
                .iter()
                .map(|(name, array)| FeatureInfo::of_array(name.clone(), &array.shape, &array.dtype))
                .collect(),
            tasks: Vec::new(),
            splits: Vec::new(),
        };
        Ok((Self { arrays, episodes }, info))
    }

    /// Keeps these episodes alone.
    pub(crate) fn keep(&mut self, episodes: &[usize]) {
        self.episodes = episodes.iter().map(|episode| self.episodes[*episode].clone()).collect();
    }

    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.episodes.iter().map(Range::len).collect()
    }

    /// Reads each run of episodes that lie one after another at once.
    pub(crate) fn read<T: Number>(
        &self,
        episodes: Range<usize>,
        features: &[&FeatureInfo],
    ) -> Result<Numbers<T>, DatasetError> {
        let mut numbers = Vec::with_capacity(episodes.len());
        for run in self.episodes[episodes].chunk_by(|one, next| one.end == next.start) {
            let rows = run[0].start..run[run.len() - 1].end;
            let mut columns = Vec::with_capacity(features.len());
            for feature in features {
                let array = self.arrays.iter().find(|(name, _)| *name == feature.name);
                columns.push(array.map_or_else(|| Ok(Vec::new()), |(_, array)| array.read(rows.clone()))?);
            }
            for episode in run {
                let cut = columns.iter().zip(features).map(|(column, feature): (&Vec<T>, _)| {
                    let dim = feature.dim();
                    column[(episode.start - rows.start) * dim..(episode.end - rows.start) * dim].to_vec()
                });
                numbers.push(cut.collect());
            }
        }
        Ok(numbers)
    }
}

/// Names of the arrays below `data/`, sorted.
fn names(root: &Path) -> Result<Vec<String>, DatasetError> {
    let data = root.join("data");
    if !data.is_dir() {
        let problem = "it is a zarr store without a group `data`, so no ReplayBuffer of diffusion_policy";
        return Err(DatasetError::NotADataset { path: root.to_owned(), problem: problem.into() });
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&data).map_err(DatasetError::io(&data))? {
        let path = entry.map_err(DatasetError::io(&data))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(DatasetError::metadata(&path, "its name is not valid Unicode; rename it"));
        };
        // Groups within `data` hold nothing that has frames.
        if path.is_dir() && !path.join(".zgroup").is_file() {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Where each episode ends: cumulative counts of frames.
fn read_ends(root: &Path, damage: &mut Damage) -> Result<Vec<usize>, DatasetError> {
    let path = root.join(ENDS);
    if !path.is_dir() {
        let problem = "there is no such array, so where episodes end is unknown; fetch the store again";
        return Err(DatasetError::metadata(&path, problem));
    }
    let array = ZarrArray::open(root, ENDS)?;
    if array.shape.len() != 1 || !array.dtype.contains("int") {
        let problem =
            format!("it holds {} {:?} where a list of whole numbers belongs", array.dtype, array.shape);
        return Err(DatasetError::metadata(&path, problem));
    }
    let ends: Vec<i64> = array.read(0..array.shape[0])?;
    let mut read = Vec::with_capacity(ends.len());
    let mut last = 0;
    for (episode, end) in ends.into_iter().enumerate() {
        if end <= last {
            let problem = format!(
                "episode {episode} ends at frame {end}, but begins at {last}; fetch the store again, or {}",
                way_out(root)
            );
            damage.pass::<()>(Err(DatasetError::metadata(&path, problem)))?;
            // Where the others lie is unknown, too.
            break;
        }
        last = end;
        read.push(end as usize);
    }
    Ok(read)
}
