//! Faults in the files of a written set: counters, counts, statistics.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use nudge_dataset::Fault;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::faults::Expected;
use super::{Demos, Dice};

pub type FilePlant = fn(&Path, &Demos, &mut Dice) -> Expected;

/// Everything that can be planted in any written set, by name.
pub const FILE_PLANTS: &[(&str, FilePlant)] = &[
    ("info.json claims more episodes", more_episodes),
    ("frames numbered with a gap", gap),
    ("frames numbered backwards", backwards),
    ("wrong numbers in the set", wrong_index),
    ("a task that is not listed", unlisted_task),
    ("another set's statistics", other_stats),
];

/// Edits a column of whole numbers of all frames.
fn edit(dir: &Path, column: &str, edit: impl FnOnce(&mut Vec<i64>)) {
    let path = dir.join("data/chunk-000/file-000.parquet");
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let all = concat_batches(&schema, &batches).unwrap();
    let place = schema.index_of(column).unwrap();
    let mut columns = all.columns().to_vec();
    let mut values = columns[place].as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
    edit(&mut values);
    columns[place] = Arc::new(Int64Array::from(values)) as ArrayRef;
    let edited = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), schema, None).unwrap();
    writer.write(&edited).unwrap();
    writer.close().unwrap();
}

fn first_of(demos: &Demos, episode: usize) -> usize {
    (0..episode).map(|earlier| demos.frames(earlier)).sum()
}

fn place(demos: &Demos, dice: &mut Dice) -> (usize, usize, usize) {
    let episode = dice.below(demos.takes.len());
    let frame = 1 + dice.below(demos.frames(episode) - 1);
    (episode, frame, first_of(demos, episode) + frame)
}

fn at(fault: Fault, episode: usize, frame: usize) -> Expected {
    Expected { fault, episode: Some(episode), frame: Some((frame, 0)) }
}

fn more_episodes(dir: &Path, demos: &Demos, dice: &mut Dice) -> Expected {
    let path = dir.join("meta/info.json");
    let text = fs::read_to_string(&path).unwrap();
    let (is, claimed) = (demos.takes.len(), demos.takes.len() + 1 + dice.below(100));
    let edited =
        text.replacen(&format!("\"total_episodes\": {is}"), &format!("\"total_episodes\": {claimed}"), 1);
    assert_ne!(text, edited);
    fs::write(path, edited).unwrap();
    Expected { fault: Fault::CountMismatch, episode: None, frame: None }
}

fn gap(dir: &Path, demos: &Demos, dice: &mut Dice) -> Expected {
    let (episode, frame, row) = place(demos, dice);
    let rest = demos.frames(episode) - frame;
    edit(dir, "frame_index", |numbers| numbers[row..row + rest].iter_mut().for_each(|number| *number += 7));
    at(Fault::FrameIndex, episode, frame)
}

fn backwards(dir: &Path, demos: &Demos, dice: &mut Dice) -> Expected {
    let (episode, frame, row) = place(demos, dice);
    edit(dir, "frame_index", |numbers| numbers[row] = frame as i64 - 1);
    at(Fault::FrameIndex, episode, frame)
}

fn wrong_index(dir: &Path, demos: &Demos, dice: &mut Dice) -> Expected {
    let (episode, frame, row) = place(demos, dice);
    edit(dir, "index", |numbers| numbers[row] += 1);
    at(Fault::GlobalIndex, episode, frame)
}

fn unlisted_task(dir: &Path, demos: &Demos, dice: &mut Dice) -> Expected {
    let (episode, frame, row) = place(demos, dice);
    edit(dir, "task_index", |numbers| numbers[row] = 3);
    at(Fault::TaskMissing, episode, frame)
}

fn other_stats(dir: &Path, demos: &Demos, dice: &mut Dice) -> Expected {
    let path = dir.join("meta/stats.json");
    let mut stats: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let name = &demos.features[demos.action].name;
    let figure = ["mean", "std", "max", "min"][dice.below(4)];
    let value = &mut stats[name][figure][0];
    *value = (value.as_f64().unwrap() + 0.2 * f64::from(demos.range(demos.action, 0))).into();
    fs::write(path, stats.to_string()).unwrap();
    Expected { fault: Fault::StatsContradict, episode: None, frame: None }
}
