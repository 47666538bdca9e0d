//! Checksums: a changed file of a set that has them is told, whatever was changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nudge_dataset::{
    Column, Dataset, DatasetAppender, DatasetError, DatasetWriter, FeatureInfo, Table, WriteSpec, write_sums,
};

const DATA: &str = "data/chunk-000/file-000.parquet";

fn spec() -> WriteSpec {
    let feature =
        FeatureInfo { name: "x".into(), dtype: "float32".into(), shape: vec![2], names: Vec::new() };
    WriteSpec { fps: 10.0, robot_type: None, features: vec![feature] }
}

fn values(episode: usize) -> Column {
    Column::Float32((0..40).map(|i| ((i + episode * 7) as f32).sin()).collect())
}

fn write(dir: &Path) {
    let mut writer = DatasetWriter::create(dir, spec()).unwrap();
    (0..3).for_each(|episode| writer.push("t", &[0.0; 20], &[values(episode)]).unwrap());
    writer.finish().unwrap();
}

fn read(dir: &Path) -> Result<(String, Vec<Vec<Table>>), DatasetError> {
    let set = Dataset::open(dir)?;
    let all = set.read_all(&["x", "timestamp", "index"])?;
    Ok((format!("{:?} {:?}", set.info(), set.stats()?), all))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Turns single bits of every file of the set; how many turns it noticed.
fn turn_bits(dir: &Path, files: &[PathBuf], each: usize) -> usize {
    let sound = read(dir).unwrap();
    let mut noticed = 0;
    for path in files {
        let whole = fs::read(path).unwrap();
        let step = (whole.len() / each).max(1);
        for place in (0..whole.len()).step_by(step) {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << (place / step % 8);
            fs::write(path, &damaged).unwrap();
            match read(dir) {
                Ok(read) => assert!(read == sound, "byte {place} of {}", path.display()),
                Err(_) => noticed += 1,
            }
        }
        fs::write(path, &whole).unwrap();
    }
    assert!(read(dir).unwrap() == sound);
    noticed
}

#[test]
fn a_turned_bit_anywhere_is_told_or_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    write(&dir);
    let files = files(&dir);
    assert_eq!(files.len(), 6);
    let noticed = turn_bits(&dir, &files, 250);
    assert!(noticed > 1200, "{noticed}");
}

#[test]
fn so_it_is_where_a_recording_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    let mut appender = DatasetAppender::open(&dir, spec()).unwrap();
    for episode in 0..3 {
        appender.push("t", &[0.0; 20], &[values(episode)]).unwrap();
    }
    drop(appender);
    let files: Vec<PathBuf> =
        files(&dir).into_iter().filter(|path| !path.starts_with(dir.join(".partial"))).collect();
    assert_eq!(files.len(), 6, "{files:?}");
    turn_bits(&dir, &files, 60);
}

#[test]
fn a_missing_or_changed_file_is_named_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    write(&dir);
    let stats = dir.join("meta/stats.json");
    let whole = fs::read_to_string(&stats).unwrap();
    fs::write(&stats, whole.clone() + "\n").unwrap();
    let error = read(&dir).unwrap_err().to_string();
    assert!(
        error.contains("stats.json") && error.contains("SHA256SUMS") && error.contains("remove"),
        "{error}"
    );
    // On purpose, and said so.
    write_sums(&dir).unwrap();
    read(&dir).unwrap();
    fs::remove_file(&stats).unwrap();
    let error = read(&dir).unwrap_err().to_string();
    assert!(error.contains("stats.json"), "{error}");
    fs::write(&stats, whole).unwrap();
    fs::remove_file(dir.join("SHA256SUMS")).unwrap();
    read(&dir).unwrap();
    fs::write(dir.join("SHA256SUMS"), "all is well\n").unwrap();
    let error = read(&dir).unwrap_err().to_string();
    assert!(error.contains("SHA256SUMS") && error.contains("line 1"), "{error}");
}

#[test]
fn an_episode_is_read_only_from_a_sound_file() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    write(&dir);
    let set = Dataset::open(&dir).unwrap();
    let path = dir.join(DATA);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for _ in 0..2 {
        assert!(matches!(set.read_episode(2, &["x"]), Err(DatasetError::Changed { .. })));
    }
    bytes[10] ^= 1;
    fs::write(&path, &bytes).unwrap();
    set.read_episode(2, &["x"]).unwrap();
}

#[test]
fn the_list_is_one_that_sha256sum_checks() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    write(&dir);
    let Ok(output) = Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(&dir).output()
    else {
        println!("SKIPPED: there is no sha256sum");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.lines().count() == 5, "{text}");
}
