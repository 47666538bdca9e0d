//! Sets that are refused for what is missing or damaged give up the episodes that are whole.

use std::fs;
use std::path::{Path, PathBuf};

use nudge_dataset::{Column, Dataset, DatasetWriter, FeatureInfo, WriteSpec};
use tempfile::TempDir;

/// Episodes of 10, 11, 12, ... frames, in which `x` is `episode * 100 + frame`; without checksums, as others write them.
fn write(dir: &Path, episodes: std::ops::Range<usize>) {
    let feature =
        FeatureInfo { name: "x".into(), dtype: "float32".into(), shape: vec![1], names: Vec::new() };
    let spec = WriteSpec { fps: 10.0, robot_type: None, features: vec![feature] };
    let mut writer = DatasetWriter::create(dir, spec).unwrap();
    for episode in episodes {
        let frames = 10 + episode;
        let times: Vec<f32> = (0..frames).map(|frame| frame as f32 / 10.0).collect();
        let values = (0..frames).map(|frame| (episode * 100 + frame) as f32).collect();
        writer.push("t", &times, &[Column::Float32(values)]).unwrap();
    }
    writer.finish().unwrap();
    fs::remove_file(dir.join("SHA256SUMS")).unwrap();
}

fn lerobot_v3(episodes: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    write(&dir, 0..episodes);
    (folder, dir)
}

/// The set as v2.1: one file an episode, here each a whole v3.0 data file of one episode.
fn lerobot_v2(episodes: usize) -> (TempDir, PathBuf) {
    let (folder, dir) = lerobot_v3(episodes);
    edit(&dir, "\"v3.0\"", "\"v2.1\"");
    edit(
        &dir,
        "chunk-{chunk_index:03d}/file-{file_index:03d}",
        "chunk-{episode_chunk:03d}/episode_{episode_index:06d}",
    );
    let lines =
        (0..episodes).map(|e| format!("{{\"episode_index\": {e}, \"tasks\": [], \"length\": {}}}\n", 10 + e));
    fs::write(dir.join("meta/episodes.jsonl"), lines.collect::<String>()).unwrap();
    for episode in 0..episodes {
        let single = folder.path().join(format!("single-{episode}"));
        write(&single, episode..episode + 1);
        let file = dir.join(format!("data/chunk-000/episode_{episode:06}.parquet"));
        fs::copy(single.join("data/chunk-000/file-000.parquet"), file).unwrap();
    }
    (folder, dir)
}

fn edit(dir: &Path, from: &str, to: &str) {
    let path = dir.join("meta/info.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Refused as it is, naming the way out; then salvaged: the first numbers of its episodes, and what was left out.
#[track_caller]
fn salvaged(path: &Path, feature: &str) -> (Vec<f32>, Vec<String>) {
    let refused = Dataset::open(path).and_then(|set| set.read_all(&[feature]).map(|_| ()));
    assert!(refused.is_err());
    let (set, left_out) = Dataset::salvage(path).unwrap();
    assert_eq!(set.info().episodes, set.episode_count());
    assert_eq!(set.info().frames, set.frame_count());
    let whole = set.read_all(&[feature]).unwrap();
    for (episode, tables) in whole.iter().enumerate() {
        assert_eq!(Some(tables[0].rows), set.episode_length(episode));
        assert_eq!(set.read_episode(episode, &[feature]).unwrap(), *tables);
    }
    (whole.iter().map(|tables| tables[0].values[0]).collect(), left_out)
}

#[test]
fn a_sound_set_is_salvaged_whole_and_nothing_is_said() {
    let (_folder, dir) = lerobot_v3(4);
    let (set, left_out) = Dataset::salvage(&dir).unwrap();
    assert_eq!((set.episode_count(), set.frame_count(), left_out), (4, 46, Vec::<String>::new()));
}

#[test]
fn a_set_that_claims_105_episodes_and_holds_19_gives_19() {
    let (_folder, dir) = lerobot_v3(19);
    edit(&dir, "\"total_episodes\": 19", "\"total_episodes\": 105");
    let error = Dataset::open(&dir).map(|_| ()).unwrap_err().to_string();
    let way_out = format!("nudge dataset convert {} --out DIR --salvage", dir.display());
    assert!(error.contains("claims 105 episodes") && error.contains("holds 19"), "{error}");
    assert!(error.contains(&way_out), "{error}");
    let (firsts, left_out) = salvaged(&dir, "x");
    assert_eq!(firsts, (0..19).map(|episode| (episode * 100) as f32).collect::<Vec<_>>());
    assert!(left_out.len() == 1 && left_out[0].contains("105"), "{left_out:?}");
}

#[test]
fn files_of_v2_that_are_missing_cut_short_or_of_another_episode_are_left_out() {
    let (_folder, dir) = lerobot_v2(6);
    let file = |episode: usize| dir.join(format!("data/chunk-000/episode_{episode:06}.parquet"));
    // The v3.0 files that these were made from know themselves as episode 0; only the first may say so.
    let (firsts, left_out) = salvaged(&dir, "x");
    assert_eq!((firsts, left_out.len()), (vec![0.0], 5));
    assert!(
        left_out[0].contains("episode_000001.parquet") && left_out[0].contains("`episode_index`"),
        "{left_out:?}"
    );
    fs::remove_file(file(0)).unwrap();
    let error = Dataset::salvage(&dir).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("no episode of it is whole") && error.contains("no such file"), "{error}");
}

#[test]
fn episodes_beyond_the_end_of_a_v3_file_are_left_out() {
    let (folder, dir) = lerobot_v3(5);
    let shorter = folder.path().join("shorter");
    write(&shorter, 0..3);
    let data = "data/chunk-000/file-000.parquet";
    fs::copy(shorter.join(data), dir.join(data)).unwrap();
    let (firsts, left_out) = salvaged(&dir, "x");
    assert_eq!(firsts, [0.0, 100.0, 200.0]);
    // Episodes 3 and 4, and that info.json claims more than is left, in episodes and in frames.
    assert_eq!(left_out.len(), 4, "{left_out:?}");
    assert!(left_out[0].contains("episode 3") && left_out[0].contains("holds 33 frames"), "{left_out:?}");
}

fn fixture(name: &str) -> (TempDir, PathBuf) {
    fn copy_all(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
            if entry.is_dir() {
                copy_all(&entry, &to)
            } else {
                drop(fs::write(&to, fs::read(&entry).unwrap()))
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    copy_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name), &path);
    (folder, path)
}

#[test]
fn zarr_episodes_in_missing_chunks_are_left_out() {
    // Chunks of 8 frames; the episodes lie at 0..7, 7..11 and 11..20.
    let (_folder, path) = fixture("gzip.zarr");
    fs::remove_file(path.join("data/state/0.0")).unwrap();
    let (firsts, left_out) = salvaged(&path, "state");
    assert_eq!(firsts, [2000.0]);
    assert!(left_out.len() == 2 && left_out[0].contains("data/state/0.0"), "{left_out:?}");
    let (_folder, path) = fixture("gzip.zarr");
    fs::write(path.join("data/action/2.0"), b"nonsense").unwrap();
    assert_eq!(salvaged(&path, "action").0, [0.0, 1000.0]);
}

#[test]
fn zarr_arrays_that_stopped_halfway_give_the_episodes_they_all_hold() {
    let (_folder, path) = fixture("none.zarr");
    let zarray = path.join("data/action/.zarray");
    let text = fs::read_to_string(&zarray).unwrap();
    fs::write(&zarray, text.replacen("        20,", "        12,", 1)).unwrap();
    let (firsts, left_out) = salvaged(&path, "state");
    assert_eq!(firsts, [0.0, 1000.0]);
    assert!(left_out[0].contains("`action` holds 12 frames"), "{left_out:?}");
}

#[test]
fn a_demonstration_that_says_another_length_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.hdf5");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/contiguous.hdf5");
    let mut bytes = fs::read(source).unwrap();
    // The attribute's value lies 40 bytes after the begin of its name; only `demo_9` has 4 frames.
    let name = b"num_samples";
    let of_demo_9 = |at: &usize| bytes[*at..].starts_with(name) && bytes[at + 40] == 4;
    let at = (0..bytes.len() - 40).find(of_demo_9).unwrap();
    bytes[at + 40] = 5;
    fs::write(&path, bytes).unwrap();
    let (firsts, left_out) = salvaged(&path, "actions");
    assert_eq!(firsts, [0.0, 2000.0]);
    assert!(left_out[0].contains("demo_9") && left_out[0].contains("says 5"), "{left_out:?}");
    let set = Dataset::salvage(&path).unwrap().0;
    let splits: Vec<_> = set.info().splits.iter().map(|split| split.episodes.clone()).collect();
    assert_eq!(splits, [vec![0, 1], vec![]]);
}
