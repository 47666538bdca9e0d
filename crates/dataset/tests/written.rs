//! What we write: the same as LeRobot's own, and back again bit for bit.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::datatypes::Schema;
use nudge_control::{
    Action, ActionFeature, ActionMode, Episode, Feature, FeatureKind, Frame, Interface, Limits, Observation,
};
use nudge_dataset::{
    Column, Dataset, DatasetError, DatasetWriter, ExamineOptions, Fault, FeatureInfo, Recording, WriteSpec,
    examine, read_recorded, recording_note, write_episodes,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

fn interface() -> Interface {
    Interface {
        observation: vec![Feature::vector("observation.state", 2, "px"), Feature::vector("angle", 1, "rad")],
        action: vec![ActionFeature {
            name: "action".into(),
            kind: FeatureKind::Vector,
            shape: vec![2],
            unit: "px".into(),
            mode: ActionMode::Absolute,
            limits: Limits { low: vec![0.0; 2], high: vec![512.0; 2] },
        }],
        control_hz: 10.0,
    }
}

/// An episode of numbers that 32 bits hold, one of them NaN: what is recorded is data.
fn episode(seed: u64, frames: usize) -> Episode {
    let number = |i: usize| f64::from(((i as f32 + seed as f32) * 0.731).sin());
    let frame = |i: usize| Frame {
        time_secs: i as f64 / 10.0,
        observation: Observation(vec![number(i), -number(i + 1), if i == 3 { f64::NAN } else { 0.5 }]),
        action: Action(vec![number(2 * i), 100.0]),
        reward: number(i).abs(),
        success: i + 1 == frames && seed.is_multiple_of(2),
        done: i + 1 == frames,
    };
    Episode {
        task: "push_t".into(),
        interface: interface(),
        seed: Some(seed),
        frames: (0..frames).map(frame).collect(),
    }
}

fn recording() -> Recording {
    Recording {
        instruction: "Push the block".into(),
        robot_type: Some("sim".into()),
        setup: serde_json::json!({"reset_rule": "dp"}),
    }
}

#[test]
fn episodes_come_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("deep/set");
    let episodes = [episode(u64::MAX - 1, 7), episode(3, 1), episode(4, 40)];
    assert_eq!(write_episodes(&dir, &episodes, &recording()).unwrap(), 48);
    let dataset = Dataset::open(&dir).unwrap();
    assert_eq!(dataset.info().tasks, ["Push the block"]);
    assert_eq!(recording_note(&dataset).unwrap().setup["reset_rule"], "dp");
    for (number, episode) in episodes.iter().enumerate() {
        // Debug text distinguishes every f64, and NaN equals NaN in it.
        assert_eq!(format!("{:?}", read_recorded(&dataset, number).unwrap()), format!("{episode:?}"));
    }
    let broken = examine(&dir, &ExamineOptions::default());
    let broken: Vec<_> = broken.findings.iter().filter(|found| found.fault == Fault::NonFinite).collect();
    assert_eq!(
        (broken.iter().map(|found| found.count).sum::<usize>(), broken[0].frame),
        (2, Some(3)),
        "{broken:?}"
    );
    assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_set_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    let empty = || fs::read_dir(folder.path()).unwrap().count() == 0;
    assert!(write_episodes(&dir, &[], &recording()).is_err());
    let mut wrong = episode(5, 4);
    wrong.frames[2].action.0.pop();
    let error = write_episodes(&dir, &[episode(4, 4), wrong], &recording()).unwrap_err().to_string();
    assert!(error.contains("episode 1") && error.contains("frame 2"), "{error}");
    let mut other = episode(5, 4);
    other.interface.control_hz = 20.0;
    assert!(write_episodes(&dir, &[episode(4, 4), other], &recording()).is_err());
    assert!(write_episodes(&dir, &[episode(4, 0)], &recording()).is_err());
    assert!(empty());
    write_episodes(&dir, &[episode(4, 4)], &recording()).unwrap();
    let again = write_episodes(&dir, &[episode(4, 4)], &recording());
    assert!(matches!(again, Err(DatasetError::Exists { .. })));
    assert_eq!(Dataset::open(&dir).unwrap().frame_count(), 4);
}

#[test]
fn features_that_cannot_be_written_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let create = |name: &str, dtype: &str, shape: &[usize]| {
        let feature =
            FeatureInfo { name: name.into(), dtype: dtype.into(), shape: shape.to_vec(), names: Vec::new() };
        let spec = WriteSpec { fps: 10.0, robot_type: None, features: vec![feature] };
        DatasetWriter::create(&folder.path().join("set"), spec).map(drop)
    };
    for (name, dtype, shape) in [
        ("timestamp", "float32", &[1][..]),
        ("a/b", "float32", &[1]),
        ("a", "video", &[1]),
        ("a", "uint64", &[1]),
        ("a", "float32", &[2, 2, 2, 2, 2, 2]),
        ("a", "float32", &[0]),
    ] {
        let error = create(name, dtype, shape).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}`")), "{error}");
    }
    create("a", "int64", &[3]).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Every type and number of sizes that LeRobot has comes back, alone and through a merge.
#[test]
fn tables_and_every_type_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name);
    let columns = [
        (Column::Float16((0..8).map(|i| i as f32 / 4.0).collect()), vec![4]),
        (Column::Int8(vec![-128, 127]), vec![1]),
        (Column::Int16(vec![i16::MIN, i16::MAX]), vec![1]),
        (Column::Int32(vec![-70_000, 1, 2, 3]), vec![2]),
        (Column::UInt8(vec![255, 0]), vec![1]),
        (Column::UInt16(vec![65_535, 0]), vec![1]),
        (Column::UInt32(vec![16_000_000, 0]), vec![1]),
        (Column::Float32((0..36u8).map(f32::from).collect()), vec![9, 2]),
        (Column::Int64((0..16).collect()), vec![2, 2, 2]),
        (Column::Bool(vec![true, false]), vec![1, 1]),
    ];
    let feature = |(number, (column, shape)): (usize, &(Column, Vec<usize>))| FeatureInfo {
        name: format!("f{number}"),
        dtype: column.dtype().into(),
        shape: shape.clone(),
        names: Vec::new(),
    };
    let features: Vec<FeatureInfo> = columns.iter().enumerate().map(feature).collect();
    let spec = WriteSpec { fps: 10.0, robot_type: None, features: features.clone() };
    let mut writer = DatasetWriter::create(&dir("set"), spec).unwrap();
    let values: Vec<Column> = columns.iter().map(|(column, _)| column.clone()).collect();
    writer.push("t", &[0.0, 0.1], &values).unwrap();
    writer.finish().unwrap();
    nudge_dataset::merge(&[dir("set")], &dir("merged")).unwrap();
    for name in ["set", "merged"] {
        let set = Dataset::open(&dir(name)).unwrap();
        assert_eq!(set.info().features[..features.len()], features);
        let names: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
        let tables = set.read_episode(0, &names).unwrap();
        assert_eq!((tables[7].dim, tables[7].row(1)[0]), (18, 18.0));
        assert_eq!(tables[3].values, [-70_000.0, 1.0, 2.0, 3.0]);
        assert_eq!(tables[0].values, (0..8).map(|i| i as f32 / 4.0).collect::<Vec<_>>());
        // As LeRobot has it: over all sizes but the last.
        let stats = &set.stats().unwrap()["f7"];
        assert_eq!((&stats.min, &stats.max, &stats.count), (&vec![0.0, 1.0], &vec![34.0, 35.0], &vec![2]));
    }
    for file in ["data/chunk-000/file-000.parquet", "meta/stats.json", "SHA256SUMS"] {
        assert!(
            fs::read(dir("set").join(file)).unwrap() == fs::read(dir("merged").join(file)).unwrap(),
            "{file}"
        );
    }
}

fn genuine() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/push_t_human/lerobot_v3.0");
    if path.is_dir() {
        return Some(path);
    }
    println!("SKIPPED: {} is not here", path.display());
    None
}

fn schema(path: &Path) -> Schema {
    let file = fs::File::open(path).unwrap();
    let schema = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().schema().clone();
    Schema::new(schema.fields().clone())
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Largest difference between the numbers of two JSON values of one structure, relative to their size.
fn difference(one: &Value, two: &Value, place: &str) -> f64 {
    match (one, two) {
        (Value::Object(a), Value::Object(b)) => {
            assert!(a.keys().eq(b.keys()), "{place}: {:?} {:?}", a.keys(), b.keys());
            a.iter()
                .map(|(key, value)| difference(value, &b[key], &format!("{place}/{key}")))
                .fold(0.0, f64::max)
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{place}");
            a.iter().zip(b).map(|(a, b)| difference(a, b, place)).fold(0.0, f64::max)
        }
        _ => {
            let (a, b) = (one.as_f64().unwrap(), two.as_f64().unwrap());
            (a - b).abs() / a.abs().max(1.0)
        }
    }
}

#[test]
fn the_human_demonstrations_written_by_us_are_the_genuine_set() {
    let Some(source) = genuine() else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    let dataset = Dataset::open(&source).unwrap();
    let info = dataset.info();
    let features: Vec<FeatureInfo> = info.features[..info.features.len() - 5].to_vec();
    let mut names: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
    names.push("timestamp");
    let episodes = dataset.read_all(&names).unwrap();
    let fps = info.fps.unwrap();
    let spec = WriteSpec { fps, robot_type: info.robot_type.clone(), features: features.clone() };
    let mut writer = DatasetWriter::create(&dir, spec).unwrap();
    for tables in &episodes {
        let column = |(table, feature): (&nudge_dataset::Table, &FeatureInfo)| match feature.dtype.as_str() {
            "bool" => Column::Bool(table.values.iter().map(|value| *value != 0.0).collect()),
            _ => Column::Float32(table.values.clone()),
        };
        let columns: Vec<Column> = tables.iter().zip(&features).map(column).collect();
        writer.push(&info.tasks[0], &tables[features.len()].values, &columns).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), 25_650);

    for file in
        ["data/chunk-000/file-000.parquet", "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"]
    {
        assert_eq!(schema(&dir.join(file)), schema(&source.join(file)), "{file}");
    }
    let (ours, theirs) = (json(&dir.join("meta/stats.json")), json(&source.join("meta/stats.json")));
    assert!(difference(&ours, &theirs, "stats.json") < 1e-9);
    let (mut ours, mut theirs) = (json(&dir.join("meta/info.json")), json(&source.join("meta/info.json")));
    for info in [&mut ours, &mut theirs] {
        for (_, feature) in info["features"].as_object_mut().unwrap() {
            feature["names"] = Value::Null;
        }
    }
    assert_eq!(serde_json::to_string(&ours).unwrap(), serde_json::to_string(&theirs).unwrap());
    let written = Dataset::open(&dir).unwrap();
    assert_eq!(written.info(), info);
    assert_eq!(written.read_all(&names).unwrap(), episodes);
    assert_eq!(written.stats().unwrap()["action"].count, [25_650]);
}
