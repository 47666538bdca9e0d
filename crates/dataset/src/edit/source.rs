//! Episodes as their set has them, read exactly.

use std::ops::Range;

use super::draft::{Draft, nominal};
use super::mapping::Mapped;
use super::plan::Plan;
use crate::{Column, Dataset, DatasetError};

/// Frames read at once, unless one episode is longer.
pub(super) const BLOCK_FRAMES: usize = 16_384;
/// Whole numbers up to here are exact in 64-bit floats.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// An episode as the source has it.
pub(super) struct Source {
    pub(super) episode: usize,
    pub(super) task: String,
    pub(super) draft: Draft,
    pub(super) rounded_times: bool,
}

/// Reads episodes that follow one another, exactly.
///
/// # Errors
/// As [`Dataset::read_episode`], and when a number is not of the type that the metadata state.
pub(super) fn read(set: &Dataset, plan: &Plan, episodes: Range<usize>) -> Result<Vec<Source>, DatasetError> {
    const TIME: &str = "timestamp";
    const TASK: &str = "task_index";
    let timed = set.has(TIME);
    let by_index = plan.task.is_none() && set.has(TASK);
    // 64-bit floats hold all but 64-bit whole numbers, which are read as both.
    let mut names: Vec<&str> = plan.mapped.iter().map(|mapped| mapped.source.as_str()).collect();
    names.extend(timed.then_some(TIME));
    let whole = |mapped: &&Mapped| mapped.source_dtype == "int64";
    let mut whole_names: Vec<&str> = plan.mapped.iter().filter(whole).map(|m| m.source.as_str()).collect();
    whole_names.extend(by_index.then_some(TASK));
    let floats = set.read_numbers::<f64>(episodes.clone(), &names)?;
    let wholes = match whole_names.is_empty() {
        true => vec![Vec::new(); episodes.len()],
        false => set.read_numbers::<i64>(episodes.clone(), &whole_names)?,
    };
    let mut sources = Vec::with_capacity(episodes.len());
    for ((episode, floats), wholes) in episodes.zip(floats).zip(wholes) {
        let (mut floats, mut wholes) = (floats.into_iter(), wholes.into_iter());
        let mut columns = Vec::with_capacity(plan.mapped.len());
        for mapped in &plan.mapped {
            let wholes = whole(&mapped).then(|| wholes.next().unwrap_or_default());
            let column = exact(mapped, floats.next().unwrap_or_default(), wholes);
            columns.push(column.map_err(|(place, problem)| DatasetError::Values {
                path: set.root().to_owned(),
                episode,
                column: mapped.source.clone(),
                problem: format!("frame {} holds {problem}", place / mapped.source_dim().max(1)),
            })?);
        }
        let stamps = timed.then(|| floats.next().unwrap_or_default());
        let task = match plan.task {
            Some(task) => task.to_owned(),
            None => task_of(set, episode, by_index.then(|| wholes.next().unwrap_or_default()))?,
        };
        let in_32_bits = |stamp: &f64| stamp.is_nan() || f64::from(*stamp as f32) == *stamp;
        let rounded_times = stamps.as_ref().is_some_and(|stamps| !stamps.iter().all(in_32_bits));
        let layout = plan.mapped.iter().map(|mapped| (mapped.name.clone(), mapped.source_dim())).collect();
        let times = times(stamps, set.episode_length(episode).unwrap_or(0), plan);
        sources.push(Source { episode, task, draft: Draft { times, columns, layout }, rounded_times });
    }
    Ok(sources)
}

/// A feature's numbers in the type that they are written in, or the place of one that is not of this type, and what is
/// wrong with it.
fn exact(mapped: &Mapped, floats: Vec<f64>, wholes: Option<Vec<i64>>) -> Result<Column, (usize, String)> {
    let first = |bad: &dyn Fn(usize, f64) -> bool| {
        floats.iter().enumerate().position(|(place, value)| bad(place, *value))
    };
    let (column, place) = match wholes {
        Some(wholes) => {
            let place = first(&|place, value| wholes[place] as f64 != value);
            (Column::Int64(wholes), place)
        }
        // uint64
        None if mapped.dtype == "int64" => {
            let place = first(&|_, value| value >= EXACT);
            (Column::Int64(floats.iter().map(|value| *value as i64).collect()), place)
        }
        None => match Column::of(&mapped.dtype, floats) {
            Ok(column) => return Ok(column),
            Err(place) => return Err((place, format!("a number that is no {}", mapped.dtype))),
        },
    };
    match place {
        None => Ok(column),
        Some(place) => {
            Err((place, format!("{}, which is read as a {} only roughly", floats[place], mapped.dtype)))
        }
    }
}

/// Times in 32 bits. Those that are nothing but `frame / fps` follow a change of the frame rate.
fn times(stamps: Option<Vec<f64>>, rows: usize, plan: &Plan) -> Vec<f32> {
    let Some(stamps) = stamps else { return nominal(rows, plan.fps) };
    let times: Vec<f32> = stamps.into_iter().map(|stamp| stamp as f32).collect();
    match plan.source_fps {
        Some(stated) if stated != plan.fps && times == nominal(rows, stated) => nominal(rows, plan.fps),
        _ => times,
    }
}

/// What was to be done in an episode, of which `indices` are the frames' task numbers.
fn task_of(set: &Dataset, episode: usize, indices: Option<Vec<i64>>) -> Result<String, DatasetError> {
    let tasks = &set.info().tasks;
    let bad = |problem: String| DatasetError::Episode { path: set.root().to_owned(), episode, problem };
    let Some(indices) = indices else {
        return match tasks.as_slice() {
            [] => Ok(String::new()),
            [one] => Ok(one.clone()),
            several => Err(bad(format!(
                "the set names {} tasks and its frames do not say which is theirs; --task TEXT gives one to all",
                several.len()
            ))),
        };
    };
    let Some(first) = indices.first() else { return Err(bad("it has no frames".into())) };
    if indices.iter().any(|index| index != first) {
        return Err(bad(
            "its frames have several tasks, and an episode is written with one: --task TEXT gives it".into(),
        ));
    }
    let text = usize::try_from(*first).ok().and_then(|index| tasks.get(index));
    text.cloned().ok_or_else(|| {
        bad(format!(
            "its task_index is {first}, which the set's tasks do not name; --task TEXT gives a text to all"
        ))
    })
}
