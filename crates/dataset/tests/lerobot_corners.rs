//! LeRobot sets as the field writes them: other types, lists of other kinds, columns missing, several files.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Float64Array, Int16Array, Int64Array,
    LargeStringArray, ListArray, RecordBatch, StringArray, UInt8Array, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ArrowPrimitiveType, Field, Float16Type};
use nudge_dataset::{Dataset, Format};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

fn put(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn put_text(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn fixed(values: ArrayRef, size: i32) -> ArrayRef {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    Arc::new(FixedSizeListArray::new(field, size, values, None))
}

fn list(values: ArrayRef, size: usize) -> ArrayRef {
    let field = Arc::new(Field::new("element", values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(vec![size; values.len() / size]);
    Arc::new(ListArray::new(field, offsets, values, None))
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn info(version: &str, features: Value, more: Value) -> String {
    let mut info = json!({
        "codebase_version": version, "robot_type": null, "total_episodes": 3, "total_frames": 9, "fps": 10,
        "features": features,
    });
    info.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    info.to_string()
}

/// The numbers `from .. from + count` of the kind of column that `name` says.
fn numbers(name: &str, from: i64, count: i64) -> ArrayRef {
    let values = from..from + count;
    type F16 = <Float16Type as ArrowPrimitiveType>::Native;
    match name {
        "float16" => Arc::new(Float16Array::from_iter_values(values.map(|v| F16::from_f32(v as f32)))),
        "float32" => Arc::new(Float32Array::from_iter_values(values.map(|v| v as f32))),
        "float64" => Arc::new(Float64Array::from_iter_values(values.map(|v| v as f64))),
        "int16" => Arc::new(Int16Array::from_iter_values(values.map(|v| v as i16))),
        "uint8" => Arc::new(UInt8Array::from_iter_values(values.map(|v| v as u8))),
        "uint32" => Arc::new(UInt32Array::from_iter_values(values.map(|v| v as u32))),
        other => panic!("{other}"),
    }
}

const KINDS: [&str; 6] = ["float16", "float32", "float64", "int16", "uint8", "uint32"];

/// v2.0 with a path of its own and no frame_index, task_index, index or timestamp; every type as a list, a list of one size, a list
/// in a list, and bare.
#[test]
fn every_type_in_every_kind_of_list_reads_alike() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut features = serde_json::Map::new();
    for kind in KINDS {
        features.insert(
            format!("{kind}.fixed"),
            json!({ "dtype": kind, "shape": [4], "names": ["a", "b", "c", "d"] }),
        );
        features.insert(
            format!("{kind}.list"),
            json!({ "dtype": kind, "shape": [4], "names": { "motors": ["a"] } }),
        );
        features.insert(format!("{kind}.nested"), json!({ "dtype": kind, "shape": [2, 2] }));
        features.insert(format!("{kind}.bare"), json!({ "dtype": kind, "shape": [1], "names": null }));
    }
    features
        .insert("camera".into(), json!({ "dtype": "video", "shape": [4, 4, 3], "info": { "codec": "av1" } }));
    let paths = json!({ "data_path": "data/{episode_chunk:03d}/{episode_index}.parquet", "chunks_size": 2 });
    put_text(&dir.join("meta/info.json"), &info("v2.0", features.into(), paths));
    let lines =
        (0..3).rev().map(|e| format!("{{\"episode_index\": {e}, \"length\": 3, \"tasks\": [\"t\"]}}\n\n"));
    put_text(&dir.join("meta/episodes.jsonl"), &lines.collect::<String>());
    for episode in 0..3i64 {
        let mut columns = Vec::new();
        let names: Vec<[String; 4]> = KINDS
            .map(|kind| ["fixed", "list", "nested", "bare"].map(|form| format!("{kind}.{form}")))
            .to_vec();
        for (kind, [as_fixed, as_list, nested, bare]) in KINDS.iter().zip(&names) {
            let values = || numbers(kind, episode * 12, 12);
            columns.push((as_fixed.as_str(), fixed(values(), 4)));
            columns.push((as_list.as_str(), list(values(), 4)));
            columns.push((nested.as_str(), list(fixed(values(), 2), 2)));
            columns.push((bare.as_str(), numbers(kind, episode * 12, 3)));
        }
        put(&dir.join(format!("data/{:03}/{episode}.parquet", episode / 2)), columns);
    }
    let set = Dataset::open(dir).unwrap();
    assert_eq!((set.format(), set.episode_count(), set.frame_count()), (Format::LeRobotV20, 3, 9));
    assert!(!set.has("timestamp") && set.info().tasks.is_empty());
    assert_eq!(set.info().passed_over().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["camera"]);
    for kind in KINDS {
        for form in ["fixed", "list", "nested", "bare"] {
            let (name, dim) = (format!("{kind}.{form}"), if form == "bare" { 1 } else { 4 });
            for (episode, tables) in set.read_all(&[&name]).unwrap().iter().enumerate() {
                let expected: Vec<f32> = (0..3 * dim).map(|value| (episode * 12 + value) as f32).collect();
                assert_eq!((tables[0].dim, &tables[0].values), (dim, &expected), "{name}");
            }
        }
    }
}

/// Three episodes of 2, 3 and 4 frames in two data files and two lists of episodes, which lack what `without` names.
fn v3(dir: &Path, without: &str) {
    let features = json!({ "action": { "dtype": "float32", "shape": [2], "names": [["x", "y"]] } });
    put_text(&dir.join("meta/info.json"), &info("v3.0", features, json!({})));
    let lists = [(0, &[0i64][..], &[2i64][..], &[0i64][..]), (1, &[1, 2][..], &[3, 4][..], &[2, 5][..])];
    for (file, episodes, lengths, starts) in lists {
        let ends: Vec<i64> = starts.iter().zip(lengths).map(|(start, length)| start + length).collect();
        let stat = |of: &dyn Fn(usize) -> f64| -> ArrayRef {
            list(Arc::new(Float64Array::from_iter_values((0..episodes.len() * 2).map(of))), 2)
        };
        let bounds = |at: usize| (starts[at / 2] * 2 + at as i64 % 2, ends[at / 2] * 2 - 2 + at as i64 % 2);
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("dataset_to_index", ints(&ends)),
            ("length", ints(lengths)),
            ("data/file_index", Arc::new(UInt32Array::from(vec![file as u32; episodes.len()]))),
            ("data/chunk_index", ints(&vec![0; episodes.len()])),
            ("dataset_from_index", ints(starts)),
            ("episode_index", ints(episodes)),
            ("stats/action/min", stat(&|at| bounds(at).0 as f64)),
            ("stats/action/max", stat(&|at| bounds(at).1 as f64)),
            ("stats/action/mean", stat(&|at| (bounds(at).0 + bounds(at).1) as f64 / 2.0)),
            ("stats/action/std", stat(&|at| (((lengths[at / 2].pow(2) - 1) * 4) as f64 / 12.0).sqrt())),
            ("stats/action/count", list(ints(lengths), 1)),
        ];
        columns.retain(|(name, _)| *name != without);
        put(&dir.join(format!("meta/episodes/chunk-000/file-{file:03}.parquet")), columns);
        let (first, frames) = (starts[0], lengths.iter().sum::<i64>());
        let action = fixed(numbers("float32", first * 2, frames * 2), 2);
        let of_episode: Vec<i64> =
            episodes.iter().zip(lengths).flat_map(|(e, length)| vec![*e; *length as usize]).collect();
        let columns = vec![("episode_index", ints(&of_episode)), ("action", action)];
        put(&dir.join(format!("data/chunk-000/file-{file:03}.parquet")), columns);
    }
}

#[test]
fn lengths_are_told_by_either_column_and_shards_follow_each_other() {
    for without in ["", "length", "dataset_to_index"] {
        let folder = tempfile::tempdir().unwrap();
        v3(folder.path(), without);
        let set = Dataset::open(folder.path()).unwrap();
        assert_eq!(set.info().features[0].names, ["x", "y"]);
        let all = set.read_all(&["action"]).unwrap();
        let joined: Vec<f32> = all.iter().flat_map(|tables| tables[0].values.clone()).collect();
        assert_eq!(joined, (0..18u8).map(f32::from).collect::<Vec<_>>());
        assert_eq!(all.iter().map(|tables| tables[0].rows).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(set.read_episodes(1..2, &["action"]).unwrap(), all[1..2]);
    }
    let folder = tempfile::tempdir().unwrap();
    v3(folder.path(), "dataset_from_index");
    let error = Dataset::open(folder.path()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("file-000.parquet") && error.contains("`dataset_from_index`"), "{error}");
}

#[test]
fn statistics_of_episodes_stand_in_for_those_of_the_set() {
    let folder = tempfile::tempdir().unwrap();
    v3(folder.path(), "");
    let stats = Dataset::open(folder.path()).unwrap().stats().unwrap();
    let action = &stats["action"];
    assert_eq!(
        (&action.min[..], &action.max[..], &action.count[..]),
        (&[0.0, 1.0][..], &[16.0, 17.0][..], &[9][..])
    );
    assert_eq!(action.mean, [8.0, 9.0]);
    // Nine numbers two apart: (9^2 - 1) / 12 * 2^2.
    assert!(action.std.iter().all(|std| (std - (80.0f64 / 3.0).sqrt()).abs() < 1e-12), "{:?}", action.std);
    assert!(action.q50.is_empty());
}

#[test]
fn tasks_are_found_in_whatever_column_holds_text() {
    let texts = || ["push", "pull"].to_vec();
    let forms: [(&str, ArrayRef); 3] = [
        ("__index_level_0__", Arc::new(StringArray::from(texts()))),
        ("task", Arc::new(StringArray::from(texts()))),
        ("task", Arc::new(LargeStringArray::from(texts()))),
    ];
    for (name, column) in forms {
        let folder = tempfile::tempdir().unwrap();
        v3(folder.path(), "");
        put(&folder.path().join("meta/tasks.parquet"), vec![("task_index", ints(&[1, 0])), (name, column)]);
        assert_eq!(Dataset::open(folder.path()).unwrap().info().tasks, ["pull", "push"]);
    }
}
