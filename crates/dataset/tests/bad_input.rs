//! Broken sets: a clear error that says where, or the right data; never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use nudge_dataset::{Column, Dataset, DatasetError, DatasetWriter, FeatureInfo, Table, WriteSpec};
use tempfile::TempDir;

const DATA: &str = "data/chunk-000/file-000.parquet";
const EPISODES: &str = "meta/episodes/chunk-000/file-000.parquet";

fn feature(name: &str, dim: usize) -> FeatureInfo {
    FeatureInfo { name: name.into(), dtype: "float32".into(), shape: vec![dim], names: Vec::new() }
}

/// A sound set of three episodes of 20 frames, with `action` of `dim` numbers, and without checksums: what others write.
fn write(dir: &Path, episodes: usize, dim: usize) {
    let spec = WriteSpec {
        fps: 10.0,
        robot_type: None,
        features: vec![feature("observation.state", 3), feature("action", dim)],
    };
    let mut writer = DatasetWriter::create(dir, spec).unwrap();
    for episode in 0..episodes {
        let values =
            |dim: usize| Column::Float32((0..20 * dim).map(|i| ((i + episode) as f32).sin()).collect());
        let times: Vec<f32> = (0..20u8).map(|i| f32::from(i) / 10.0).collect();
        writer.push("t", &times, &[values(3), values(dim)]).unwrap();
    }
    writer.finish().unwrap();
    fs::remove_file(dir.join("SHA256SUMS")).unwrap();
}

fn sound() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    write(&dir, 3, 2);
    (folder, dir)
}

fn edit_info(dir: &Path, from: &str, to: &str) {
    let path = dir.join("meta/info.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn read(dir: &Path) -> Result<Vec<Vec<Table>>, DatasetError> {
    let dataset = Dataset::open(dir)?;
    let whole = dataset.read_all(&["observation.state", "action"])?;
    for (episode, tables) in whole.iter().enumerate() {
        assert_eq!(dataset.read_episode(episode, &["observation.state", "action"])?, *tables);
    }
    Ok(whole)
}

#[track_caller]
fn assert_says(dir: &Path, parts: &[&str]) {
    let error = read(dir).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "expected `{part}` in: {error}");
    }
}

#[test]
fn what_is_no_data_set_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    assert_says(&folder.path().join("nowhere"), &["nowhere", "no such folder"]);
    assert_says(folder.path(), &["no meta/info.json"]);
}

#[test]
fn lies_of_info_json_are_named() {
    for (from, to, parts) in [
        ("\"v3.0\"", "\"v1.6\"", &["info.json", "`v1.6`", "v2.1"][..]),
        ("\"total_episodes\": 3", "\"total_episodes\": 105", &["claims 105 episodes", "holds 3"]),
        ("\"total_frames\": 60", "\"total_frames\": 61", &["claims 61 frames", "holds 60"]),
        ("\"total_frames\": 60", "\"total_frames\": -1", &["info.json", "-1"]),
        ("\"fps\": 10", "\"fps\": 0", &["`fps`"]),
        ("{chunk_index:03d}", "{chunk:03d}", &["data_path", "`chunk`"]),
        ("data/chunk", "elsewhere/chunk", &["elsewhere", "episode 0", "no such file"]),
        ("\"action\"", "\"gripper\"", &["no feature `action`", "gripper"]),
        ("\"dtype\": \"float32\"", "\"dtype\": \"video\"", &["observation.state", "video"]),
        ("                2\n", "                4\n", &[DATA, "episode 0", "`action`", "holds 2", "says 4"]),
        ("                2\n", "                99999999999999999999\n", &["info.json", "`action`"]),
        ("                2\n", "                0\n", &["info.json", "`action`"]),
        ("{", "[", &["info.json", "JSON"]),
    ] {
        let (_folder, dir) = sound();
        edit_info(&dir, from, to);
        assert_says(&dir, parts);
    }
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let (folder, dir) = sound();
    let other = folder.path().join("other");
    // The data file of a smaller set, of a set of another shape, and of none.
    write(&other, 2, 2);
    fs::copy(other.join(DATA), dir.join(DATA)).unwrap();
    assert_says(&dir, &[DATA, "episode 2", "holds 40 frames"]);
    fs::remove_dir_all(&other).unwrap();
    write(&other, 3, 3);
    fs::copy(other.join(DATA), dir.join(DATA)).unwrap();
    assert_says(&dir, &[DATA, "episode 0", "`action`", "holds 3 numbers", "says 2"]);
    fs::copy(dir.join("meta/tasks.parquet"), dir.join(DATA)).unwrap();
    assert_says(&dir, &[DATA, "holds 1 frames"]);
    fs::remove_file(dir.join(DATA)).unwrap();
    assert_says(&dir, &[DATA, "no such file"]);
}

#[test]
fn a_missing_column_is_named_with_those_that_are_there() {
    let (_folder, dir) = sound();
    let path = dir.join("meta/info.json");
    let mut info: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    info["features"]["gripper"] = info["features"]["action"].clone();
    fs::write(&path, info.to_string()).unwrap();
    let error = Dataset::open(&dir).unwrap().read_episode(1, &["gripper"]).unwrap_err().to_string();
    assert!(error.contains(DATA) && error.contains("`gripper`") && error.contains("action"), "{error}");
}

#[test]
fn episodes_that_do_not_exist_are_refused() {
    let (_folder, dir) = sound();
    let error = Dataset::open(&dir).unwrap().read_episode(3, &["action"]).unwrap_err().to_string();
    assert!(error.contains("no episode 3") && error.contains("holds 3"), "{error}");
}

/// v2.1 with a file an episode, made from the parts of v3.0 sets of one episode each.
#[test]
fn v2_1_is_checked_file_by_file() {
    let (folder, dir) = sound();
    let single = folder.path().join("single");
    write(&single, 1, 2);
    edit_info(&dir, "\"v3.0\"", "\"v2.1\"");
    edit_info(
        &dir,
        "chunk-{chunk_index:03d}/file-{file_index:03d}",
        "chunk-{episode_chunk:03d}/episode_{episode_index:06d}",
    );
    assert_says(&dir, &["meta/episodes.jsonl"]);
    let lines =
        (0..3).map(|episode| format!("{{\"episode_index\": {episode}, \"tasks\": [], \"length\": 20}}\n"));
    fs::write(dir.join("meta/episodes.jsonl"), lines.collect::<String>()).unwrap();
    let file = |episode: usize| dir.join(format!("data/chunk-000/episode_{episode:06}.parquet"));
    fs::copy(single.join(DATA), file(0)).unwrap();
    assert_says(&dir, &["episode_000001.parquet", "no such file", "claims 3"]);
    fs::copy(single.join(DATA), file(1)).unwrap();
    fs::copy(dir.join(DATA), file(2)).unwrap();
    assert_says(&dir, &["episode_000001.parquet", "episode 1", "`episode_index`", "says 0"]);
    fs::copy(dir.join(DATA), file(1)).unwrap();
    assert_says(&dir, &["episode_000001.parquet", "holds 60 frames", "says 20"]);
    fs::write(dir.join("meta/episodes.jsonl"), "{\"episode_index\": 1, \"length\": 20}\n").unwrap();
    assert_says(&dir, &["episodes.jsonl", "episode 0 is missing"]);
    fs::write(dir.join("meta/episodes.jsonl"), "{\"episode_index\": 0}\n").unwrap();
    assert_says(&dir, &["episodes.jsonl", "line 1", "length"]);
}

#[test]
fn parquet_cut_short_is_an_error_at_every_length() {
    let (_folder, dir) = sound();
    for file in [DATA, EPISODES, "meta/tasks.parquet"] {
        let path = dir.join(file);
        let whole = fs::read(&path).unwrap();
        let step = (whole.len() / 300).max(1);
        for length in (0..whole.len()).step_by(step).chain(whole.len().saturating_sub(20)..whole.len()) {
            fs::write(&path, &whole[..length]).unwrap();
            assert_says(&dir, &[file, "cut short"]);
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(read(&dir).is_ok());
}

#[test]
fn damaged_bytes_are_an_error_or_numbers_and_never_a_panic() {
    let (_folder, dir) = sound();
    for file in [DATA, EPISODES, "meta/tasks.parquet"] {
        let path = dir.join(file);
        let whole = fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by((whole.len() / 500).max(1)) {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << (place % 8);
            fs::write(&path, &damaged).unwrap();
            if let Ok(tables) = read(&dir) {
                assert!(tables.iter().all(|t| (t[0].rows, t[0].dim, t[1].dim) == (20, 3, 2)), "byte {place}");
            }
        }
        fs::write(&path, &whole).unwrap();
    }
}
