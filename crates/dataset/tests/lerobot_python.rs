//! LeRobot's own package reads every set that we write, whichever way it came about, frame by frame as we do.
//!
//! Runs where a Python has the package `lerobot`: the one of tests/python/.venv, of the variable LEROBOT_PYTHON, or
//! `python3`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nudge_dataset::{
    Column, Dataset, DatasetAppender, DatasetWriter, FeatureInfo, FeatureStats, WriteSpec, merge,
};
use serde_json::Value;

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python");

fn python() -> Option<PathBuf> {
    let named = std::env::var_os("LEROBOT_PYTHON").map(PathBuf::from);
    let candidates = [Path::new(TESTS).join(".venv/bin/python"), PathBuf::from("python3")];
    let find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('lerobot') is None)";
    let found = named.into_iter().chain(candidates).find(|python| {
        Command::new(python).args(["-c", find]).output().is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        println!("SKIPPED: no Python with the package lerobot; LEROBOT_PYTHON names one");
    }
    found
}

fn lerobot(python: &Path, verb: &str, sets: &[&Path]) -> Vec<Value> {
    let script = Path::new(TESTS).join("lerobot_set.py");
    let output = Command::new(python).arg(script).arg(verb).args(sets).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn feature(name: &str, dtype: &str, shape: &[usize]) -> FeatureInfo {
    FeatureInfo { name: name.into(), dtype: dtype.into(), shape: shape.to_vec(), names: Vec::new() }
}

/// What `lerobot_set.py create` writes.
fn small() -> WriteSpec {
    let features = vec![
        feature("observation.state", "float32", &[3]),
        feature("keypoints", "float32", &[2, 2]),
        feature("action", "float32", &[2]),
    ];
    WriteSpec { fps: 10.0, robot_type: Some("arm".into()), features }
}

/// Every type, alone, as a vector and as a table.
fn large() -> WriteSpec {
    let mut spec = small();
    for dtype in ["float16", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool"] {
        for (kind, shape) in [("one", &[1][..]), ("vector", &[3]), ("table", &[3, 2]), ("cube", &[2, 1, 2])] {
            spec.features.push(feature(&format!("{kind}.{dtype}"), dtype, shape));
        }
    }
    spec
}

const FRAMES: usize = 5;

fn columns(spec: &WriteSpec, episode: usize) -> Vec<Column> {
    let column = |feature: &FeatureInfo| {
        let numbers = (0..FRAMES * feature.dim()).map(|i| (i * 37 + episode * 11) % 120);
        match feature.dtype.as_str() {
            "float16" => Column::Float16(numbers.map(|n| n as f32 / 4.0).collect()),
            "float64" => Column::Float64(numbers.map(|n| n as f64 / 4.0).collect()),
            "int8" => Column::Int8(numbers.map(|n| n as i8 - 60).collect()),
            "int16" => Column::Int16(numbers.map(|n| n as i16 * -200).collect()),
            "int32" => Column::Int32(numbers.map(|n| n as i32 * 70_000).collect()),
            "int64" => Column::Int64(numbers.map(|n| n as i64 - 60).collect()),
            "uint8" => Column::UInt8(numbers.map(|n| n as u8 * 2).collect()),
            "uint16" => Column::UInt16(numbers.map(|n| n as u16 * 500).collect()),
            "bool" => Column::Bool(numbers.map(|n| n % 2 == 0).collect()),
            _ => Column::Float32(numbers.map(|n| if n == 7 { f32::NAN } else { n as f32 * 0.1 }).collect()),
        }
    };
    spec.features.iter().map(column).collect()
}

fn times() -> Vec<f32> {
    (0..FRAMES).map(|frame| frame as f32 / 10.0).collect()
}

fn task(episode: usize) -> String {
    format!("task {}", episode / 2)
}

fn write(dir: &Path, spec: WriteSpec, episodes: usize) {
    let mut writer = DatasetWriter::create(dir, spec.clone()).unwrap();
    for episode in 0..episodes {
        writer.push(&task(episode), &times(), &columns(&spec, episode)).unwrap();
    }
    writer.finish().unwrap();
}

fn append(dir: &Path, spec: &WriteSpec, episodes: std::ops::Range<usize>) -> DatasetAppender {
    let mut set = DatasetAppender::open(dir, spec.clone()).unwrap();
    for episode in episodes {
        set.push(&task(episode), &times(), &columns(spec, episode)).unwrap();
    }
    set
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path() {
            folder if folder.is_dir() => copy(&folder, &to),
            file => fs::write(to, fs::read(file).unwrap()).unwrap(),
        }
    }
}

/// That LeRobot reads what we read.
fn assert_alike(dir: &Path, read: &Value) {
    let set = Dataset::open(dir).unwrap();
    let info = set.info();
    let names: Vec<&str> = info.features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(read["episodes"], set.episode_count(), "{}", dir.display());
    assert_eq!(read["fps"].as_f64(), info.fps);
    assert_eq!(read["robot_type"].as_str(), info.robot_type.as_deref());
    let frames = read["frames"].as_array().unwrap();
    assert_eq!(frames.len(), set.frame_count());
    let (mut from, mut compared) = (0, 0);
    for (episode, tables) in set.read_all(&names).unwrap().iter().enumerate() {
        let to = from + tables[0].rows;
        assert_eq!(read["bounds"][episode], serde_json::json!([from, to]));
        let index = names.iter().position(|name| *name == "task_index").unwrap();
        let text = &info.tasks[tables[index].values[0] as usize];
        assert_eq!(read["tasks"][episode], serde_json::json!([text]));
        for row in 0..tables[0].rows {
            let frame = &frames[from + row];
            assert_eq!(frame["task"], **text);
            for (table, feature) in tables.iter().zip(&info.features) {
                let theirs = frame["values"][&feature.name].as_array().unwrap();
                let theirs: Vec<u32> =
                    theirs.iter().map(|n| n.as_f64().map_or(f32::NAN, |n| n as f32).to_bits()).collect();
                let ours: Vec<u32> = table.row(row).iter().map(|n| n.to_bits()).collect();
                assert_eq!(theirs, ours, "{}: `{}` of frame {row} of {episode}", dir.display(), feature.name);
                compared += ours.len();
                let shape = if feature.shape == [1] { vec![] } else { feature.shape.clone() };
                assert_eq!(frame["shapes"][&feature.name], serde_json::json!(shape), "{}", feature.name);
            }
        }
        from = to;
    }
    for feature in &info.features {
        let keys: Vec<&String> = read["stats"][&feature.name].as_object().unwrap().keys().collect();
        let ours = serde_json::to_value(FeatureStats::default()).unwrap();
        assert_eq!(keys, ours.as_object().unwrap().keys().collect::<Vec<_>>(), "{}", feature.name);
    }
    assert!(read["ahead"].as_array().unwrap().iter().all(|length| *length == 3));
    let name = dir.file_name().unwrap().to_string_lossy();
    println!("{name}: {} frames, {compared} numbers alike", frames.len());
}

#[test]
fn lerobot_reads_what_we_write() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name);
    write(&dir("in_one_go"), large(), 3);
    write(&dir("other"), large(), 2);
    merge(&[dir("in_one_go"), dir("other")], &dir("merged")).unwrap();
    append(&dir("grown"), &large(), 0..2).finish().unwrap();
    append(&dir("grown"), &large(), 2..5).finish().unwrap();
    // Left as by a kill: after an episode, and in the middle of one, when all but info.json have taken their places.
    drop(append(&dir("cut_off"), &large(), 0..3));
    let mut set = append(&dir("torn"), &large(), 0..2);
    copy(&dir("torn").join("meta"), &dir("before"));
    set.push("another task", &times(), &columns(&large(), 9)).unwrap();
    drop(set);
    fs::copy(dir("before").join("info.json"), dir("torn/meta/info.json")).unwrap();
    let mut sets = vec!["in_one_go", "merged", "grown", "cut_off", "torn"];

    // A set of LeRobot's own that we went on with; and one that LeRobot would not know to be cut off.
    lerobot(&python, "create", &[&dir("theirs")]);
    copy(&dir("theirs"), &dir("continued"));
    append(&dir("continued"), &small(), 2..5).finish().unwrap();
    sets.extend(["theirs", "continued"]);
    let paths: Vec<PathBuf> = sets.iter().map(|name| dir(name)).collect();
    let read = lerobot(&python, "read", &paths.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    assert_eq!(read.len(), sets.len());
    for (path, read) in paths.iter().zip(&read) {
        assert_alike(path, read);
    }
    assert_eq!(read[4]["episodes"], 2);
    assert_eq!(read[6]["episodes"], 5);
}
