//! Merging: the set of all parts is the one that would have been written in one go, whatever its numbers are.

mod files;

use std::path::Path;

use files::files;
use nudge_dataset::{Column, DatasetWriter, FeatureInfo, WriteSpec, merge};

fn feature(name: &str, dtype: &str, dim: usize, names: &[&str]) -> FeatureInfo {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    FeatureInfo { name: name.into(), dtype: dtype.into(), shape: vec![dim], names }
}

fn spec() -> WriteSpec {
    let features = vec![
        feature("single", "float32", 2, &["left", "right"]),
        feature("double", "float64", 1, &[]),
        feature("count", "int64", 1, &[]),
        feature("flag", "bool", 1, &[]),
    ];
    WriteSpec { fps: 30.0, robot_type: Some("arm".into()), features }
}

/// Three frames of numbers that no shorter type holds.
fn columns(episode: i64) -> Vec<Column> {
    let tiny = f64::from(episode as i32) * 1e-17;
    vec![
        Column::Float32(vec![0.1, f32::NAN, -0.0, 1e-40, 2.5, episode as f32]),
        Column::Float64(vec![std::f64::consts::PI + tiny, tiny, f64::INFINITY]),
        Column::Int64(vec![(1 << 53) + 1, i64::MIN + episode, 7]),
        Column::Bool(vec![true, false, episode == 2]),
    ]
}

/// Episodes of two kinds of work, turn by turn.
fn write(dir: &Path, spec: WriteSpec, episodes: std::ops::Range<i64>) {
    let mut writer = DatasetWriter::create(dir, spec).unwrap();
    for episode in episodes {
        let task = if episode % 2 == 0 { "lift" } else { "lower" };
        writer.push(task, &[0.0, 0.5, 0.7], &columns(episode)).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn parts_become_the_set_of_one_go_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name);
    write(&dir("whole"), spec(), 0..5);
    write(&dir("first"), spec(), 0..2);
    write(&dir("second"), spec(), 2..5);
    let merged = merge(&[dir("first"), dir("second")], &dir("merged")).unwrap();
    assert_eq!((merged.sets, merged.episodes, merged.frames, merged.recorded), (2, 5, 15, None));
    let (whole, merged) = (files(&dir("whole")), files(&dir("merged")));
    assert!(whole.len() >= 5 && whole.keys().eq(merged.keys()));
    for (path, bytes) in whole {
        assert!(merged[&path] == bytes, "{} differs", path.display());
    }
}

#[test]
fn what_is_not_alike_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name);
    write(&dir("set"), spec(), 0..1);
    let slower = WriteSpec { fps: 10.0, ..spec() };
    let stranger = WriteSpec { robot_type: None, ..spec() };
    let mut labelled = spec();
    labelled.features[0].names[1] = "up".into();
    let mut renamed = spec();
    renamed.features[3].name = "done".into();
    let others = [
        (slower, "10 frames a second"),
        (stranger, "robot_type is none"),
        (labelled, "`single` are left, up"),
        (renamed, "no feature `flag`"),
    ];
    for (place, (other, word)) in others.into_iter().enumerate() {
        let name = dir(&format!("other{place}"));
        write(&name, other, 1..2);
        let error = merge(&[dir("set"), name], &dir("out")).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert!(!dir("out").exists());
    }
    let mut narrower = spec();
    narrower.features.truncate(2);
    let mut writer = DatasetWriter::create(&dir("narrower"), narrower).unwrap();
    writer.push("lift", &[0.0, 0.5, 0.7], &columns(0)[..2]).unwrap();
    writer.finish().unwrap();
    let error = merge(&[dir("narrower"), dir("set")], &dir("out")).unwrap_err().to_string();
    assert!(error.contains("a feature `count`, which the other has not"), "{error}");

    for (dirs, word) in [
        (vec![dir("set"), dir("set")], "given twice"),
        (vec![dir("nowhere")], "no such folder"),
        (vec![folder.path().to_owned()], "neither a data set"),
    ] {
        let error = merge(&dirs, &dir("out")).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
