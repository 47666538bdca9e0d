#[path = "../tests/files/mod.rs"]
mod files;

use std::env;

use files::files;
use nudge_control::split_mix_64;

use super::*;
use crate::{Column, Dataset, DatasetWriter, FeatureInfo, WriteSpec};

/// Bytes of a data file of the finished set, and of one that grows.
const FINISHED: usize = 12_000;
const GROWING: usize = 3_000;

fn spec() -> WriteSpec {
    let feature = FeatureInfo { name: "x".into(), dtype: "float32".into(), shape: vec![4], names: vec![] };
    WriteSpec { fps: 10.0, robot_type: None, features: vec![feature] }
}

fn frames(episode: usize) -> usize {
    20 + episode * 7919 % 90
}

fn values(episode: usize) -> Vec<f32> {
    (0..4 * frames(episode)).map(|i| split_mix_64((episode << 20 | i) as u64) as u32 as f32).collect()
}

fn times(episode: usize) -> Vec<f32> {
    (0..frames(episode)).map(|frame| frame as f32 / 10.0).collect()
}

fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(if memory.is_dir() { memory.to_owned() } else { env::temp_dir() }).unwrap()
}

fn open(dir: &Path) -> DatasetAppender {
    DatasetAppender::open(dir, spec()).unwrap().with_limits(GROWING, 6_000, FINISHED)
}

fn add(set: &mut DatasetAppender, episodes: Range<usize>) {
    for episode in episodes {
        set.add("t", &times(episode), &[Column::Float32(values(episode))]).unwrap();
        // A few at a time, as it happens.
        if split_mix_64(episode as u64).is_multiple_of(3) {
            set.sync().unwrap();
        }
    }
    set.sync().unwrap();
}

fn write(dir: &Path, episodes: usize) {
    let mut writer = DatasetWriter::create(dir, spec()).unwrap().with_data_file_bytes(FINISHED);
    for episode in 0..episodes {
        writer.push("t", &times(episode), &[Column::Float32(values(episode))]).unwrap();
    }
    writer.finish().unwrap();
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    let differ: Vec<_> =
        one.iter().filter(|(path, bytes)| other[*path] != **bytes).map(|(path, _)| path).collect();
    assert!(differ.is_empty(), "{differ:?}");
}

#[track_caller]
fn assert_holds(dir: &Path, episodes: usize) {
    let set = Dataset::open(dir).unwrap();
    assert_eq!(set.episode_count(), episodes);
    for (episode, tables) in set.read_all(&["x"]).unwrap().iter().enumerate() {
        assert!(tables[0].values == values(episode), "episode {episode}");
    }
}

#[test]
fn many_small_files_become_those_of_a_set_written_in_one_go() {
    let folder = scratch();
    let (grown, whole) = (folder.path().join("grown"), folder.path().join("whole"));
    let mut begun = 0;
    // Sessions of many lengths, some cut off; each ended set is one that the next goes on with.
    for (session, episodes) in [1, 7, 30, 31, 60, 64].into_iter().enumerate() {
        let mut set = open(&grown);
        add(&mut set, begun..episodes);
        if session % 3 == 1 {
            drop(set);
            assert!(files(&grown).len() > 9, "several files of each kind: {:?}", files(&grown).keys());
        } else {
            set.finish().unwrap();
            write(&whole, episodes);
            assert_same(&grown, &whole);
            fs::remove_dir_all(&whole).unwrap();
        }
        assert_holds(&grown, episodes);
        begun = episodes;
    }
    assert!(files(&grown).keys().filter(|path| path.starts_with("data")).count() >= 4);
}

#[test]
fn wherever_the_joining_is_cut_off_the_set_is_whole_and_the_next_one_ends_it() {
    let folder = scratch();
    let (grown, cut, whole) =
        (folder.path().join("grown"), folder.path().join("cut"), folder.path().join("whole"));
    const EPISODES: usize = 26;
    write(&whole, EPISODES);
    // The last file of a first session is nearly full: what it becomes part of needs its place.
    let mut set = open(&grown);
    add(&mut set, 0..9);
    set.finish().unwrap();
    let mut set = open(&grown);
    add(&mut set, 9..EPISODES);
    drop(set);
    let before = files(&grown);
    let mut states = BTreeSet::new();
    for steps in 0.. {
        for (path, bytes) in &before {
            fs::create_dir_all(cut.join(path).parent().unwrap()).unwrap();
            fs::write(cut.join(path), bytes).unwrap();
        }
        let mut set = open(&cut);
        set.journal.steps_left = steps;
        let ended = set.finish().is_ok();
        assert_holds(&cut, EPISODES);
        states.insert(files(&cut).into_iter().map(|(path, bytes)| (path, bytes.len())).collect::<Vec<_>>());
        if steps % 2 == 0 && !ended {
            // Recording may go on instead, and be cut off in turn.
            let mut set = open(&cut);
            add(&mut set, EPISODES..EPISODES + 1);
            drop(set);
            assert_holds(&cut, EPISODES + 1);
        } else {
            open(&cut).finish().unwrap();
            assert_same(&cut, &whole);
        }
        fs::remove_dir_all(&cut).unwrap();
        if ended {
            break;
        }
    }
    assert!(states.len() > 20, "{}", states.len());
}
