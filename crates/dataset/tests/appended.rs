//! Sets that grow while they are recorded: wherever the program or the power goes, what was finished is there, and the
//! next recording goes on.

mod files;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use files::files;
use nudge_dataset::{Column, Dataset, DatasetAppender, DatasetError, DatasetWriter, FeatureInfo, WriteSpec};

const INFO: &str = "meta/info.json";
const MARKER: &str = "meta/recording.lock";

fn spec() -> WriteSpec {
    let feature = |name: &str, dtype: &str, shape: &[usize]| FeatureInfo {
        name: name.into(),
        dtype: dtype.into(),
        shape: shape.to_vec(),
        names: Vec::new(),
    };
    let features = vec![
        feature("observation.state", "float32", &[3]),
        feature("keypoints", "float32", &[2, 2]),
        feature("action", "float64", &[2]),
        feature("next.done", "bool", &[1]),
    ];
    WriteSpec { fps: 10.0, robot_type: Some("arm".into()), features }
}

fn task(episode: usize) -> &'static str {
    ["lift", "lower"][usize::from(episode % 3 == 2)]
}

fn times(episode: usize) -> Vec<f32> {
    (0..3 + episode % 4).map(|frame| frame as f32 / 10.0).collect()
}

fn columns(episode: usize) -> Vec<Column> {
    let frames = times(episode).len();
    let number = |i: usize| ((i * 7919 + episode * 31) % 4001) as f32 * 0.1;
    vec![
        Column::Float32((0..3 * frames).map(number).collect()),
        Column::Float32((0..4 * frames).map(|i| if i == 2 { f32::NAN } else { number(i) }).collect()),
        Column::Float64((0..2 * frames).map(|i| f64::from(number(i)) / 3.0).collect()),
        Column::Bool((0..frames).map(|frame| frame + 1 == frames).collect()),
    ]
}

fn append(dir: &Path, episodes: Range<usize>) -> DatasetAppender {
    let mut appender = DatasetAppender::open(dir, spec()).unwrap();
    for episode in episodes {
        let count = appender.push(task(episode), &times(episode), &columns(episode)).unwrap();
        assert_eq!(count, episode + 1);
    }
    appender
}

fn write(dir: &Path, episodes: usize) {
    let mut writer = DatasetWriter::create(dir, spec()).unwrap();
    for episode in 0..episodes {
        writer.push(task(episode), &times(episode), &columns(episode)).unwrap();
    }
    writer.finish().unwrap();
}

/// A folder in memory where there is one: a busy disk takes its time over what is to be on it for sure.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn put(folder: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (path, bytes) in &one {
        assert!(other[path] == *bytes, "{} differs", path.display());
    }
}

/// That the set holds the first `episodes`, with their numbers.
#[track_caller]
fn assert_holds(dir: &Path, episodes: usize) {
    let set = Dataset::open(dir).unwrap();
    assert_eq!(set.episode_count(), episodes);
    let names = ["observation.state", "keypoints", "action", "next.done", "timestamp", "task_index"];
    let all = set.read_all(&names).unwrap();
    for (episode, tables) in all.iter().enumerate() {
        let [Column::Float32(state), Column::Float32(points), ..] = &columns(episode)[..] else { panic!() };
        assert_eq!(tables[0].values, *state);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tables[1].values), bits(points));
        assert_eq!(tables[4].values, times(episode));
        let text = &set.info().tasks[tables[5].values[0] as usize];
        assert_eq!(text, task(episode));
    }
}

#[test]
fn what_grew_episode_by_episode_is_the_set_of_one_go_to_the_byte() {
    let folder = scratch();
    let (grown, whole) = (folder.path().join("deep/grown"), folder.path().join("whole"));
    assert_eq!(append(&grown, 0..2).finish().unwrap(), 7);
    // One that is left without an end, and one that goes on.
    drop(append(&grown, 2..4));
    assert!(grown.join(MARKER).is_file() && !grown.join("SHA256SUMS").exists());
    assert_holds(&grown, 4);
    append(&grown, 4..7).finish().unwrap();
    write(&whole, 7);
    assert_same(&grown, &whole);
    // Nothing to add, nothing changed; a set written in one go grows like any other.
    append(&grown, 0..0).finish().unwrap();
    assert_same(&grown, &whole);
    append(&whole, 7..8).finish().unwrap();
    append(&grown, 7..8).finish().unwrap();
    assert_same(&grown, &whole);
    // One that is cut off and merely ended is whole, too.
    drop(append(&grown, 8..9));
    append(&grown, 0..0).finish().unwrap();
    append(&whole, 8..9).finish().unwrap();
    assert_same(&grown, &whole);
}

/// After a power cut any of the files that were taking their places may have done so, until info.json has.
#[test]
fn wherever_an_episode_is_cut_off_the_others_are_there_and_the_next_recording_goes_on() {
    let folder = scratch();
    let dir = |name: &str| folder.path().join(name);
    let mut states = 0;
    // The second task comes with episode 2.
    for before in [0, 1, 2] {
        let (live, cut, whole) = (dir("live"), dir("cut"), dir("whole"));
        let mut appender = append(&live, 0..before);
        let old = files(&live);
        appender.push(task(before), &times(before), &columns(before)).unwrap();
        let new = files(&live);
        drop(appender);
        write(&whole, before + 2);
        let info = Path::new(INFO);
        let changed: Vec<&PathBuf> = new
            .keys()
            .filter(|path| old.get(*path) != Some(&new[*path]) && *path != info && *path != Path::new(MARKER))
            .filter(|path| !path.starts_with(".partial"))
            .collect();
        assert!(changed.len() >= 3, "{changed:?}");
        for subset in 0..1usize << changed.len() {
            let mut state = old.clone();
            state.insert(MARKER.into(), new[Path::new(MARKER)].clone());
            state.insert(".partial/1".into(), b"half".to_vec());
            for (bit, path) in changed.iter().enumerate() {
                if subset >> bit & 1 == 1 {
                    state.insert((*path).clone(), new[*path].clone());
                }
            }
            put(&cut, &state);
            match before {
                0 => {
                    let error = Dataset::open(&cut).map(|_| ()).unwrap_err();
                    assert!(error.to_string().contains("before its first episode"), "{error}");
                }
                _ => assert_holds(&cut, before),
            }
            append(&cut, before..before + 2).finish().unwrap();
            assert_same(&cut, &whole);
            fs::remove_dir_all(&cut).unwrap();
            states += 1;
        }
        // With info.json, the episode is there.
        let mut state = new.clone();
        state.insert(".partial/marker".into(), b"half".to_vec());
        put(&cut, &state);
        assert_holds(&cut, before + 1);
        append(&cut, before + 1..before + 2).finish().unwrap();
        assert_same(&cut, &whole);
        for dir in [live, cut, whole] {
            fs::remove_dir_all(dir).unwrap();
        }
    }
    assert!(states >= 40, "{states}");
}

#[test]
fn killed_while_the_folder_was_made_the_next_recording_begins_and_foreign_files_are_left_alone() {
    let scratch = scratch();
    let (half, whole) = (scratch.path().join("half"), scratch.path().join("whole"));
    write(&whole, 3);
    for left in [&[][..], &[".partial"], &[".partial", "meta"], &["meta"]] {
        left.iter().for_each(|folder| fs::create_dir_all(half.join(folder)).unwrap());
        if left.contains(&".partial") {
            fs::write(half.join(".partial/marker"), "# Episodes are").unwrap();
        }
        append(&half, 0..3).finish().unwrap();
        assert_same(&half, &whole);
        fs::remove_dir_all(&half).unwrap();
    }
    for foreign in ["notes.txt", "meta/notes.txt"] {
        fs::create_dir_all(half.join("meta")).unwrap();
        fs::write(half.join(foreign), "mine").unwrap();
        assert!(matches!(DatasetAppender::open(&half, spec()), Err(DatasetError::Exists { .. })));
        assert_eq!(fs::read_to_string(half.join(foreign)).unwrap(), "mine");
        fs::remove_dir_all(&half).unwrap();
    }
}

#[test]
fn of_two_that_record_into_one_folder_the_second_is_refused() {
    let folder = scratch();
    let dir = folder.path().join("set");
    let first = DatasetAppender::open(&dir, spec()).unwrap();
    assert!(matches!(DatasetAppender::open(&dir, spec()), Err(DatasetError::Busy { .. })));
    drop(first);
    assert!(!dir.exists(), "nothing was recorded, so nothing is left");
    let first = append(&dir, 0..1);
    assert!(matches!(DatasetAppender::open(&dir, spec()), Err(DatasetError::Busy { .. })));
    first.finish().unwrap();
    append(&dir, 1..2).finish().unwrap();
    assert_holds(&dir, 2);
}

#[test]
fn when_the_disk_refuses_the_set_is_as_it_was() {
    let folder = scratch();
    let dir = folder.path().join("set");
    let mut appender = append(&dir, 0..2);
    fs::remove_dir_all(dir.join(".partial")).unwrap();
    fs::write(dir.join(".partial"), "in the way").unwrap();
    let error = appender.push(task(2), &times(2), &columns(2)).unwrap_err().to_string();
    assert!(error.contains(".partial"), "{error}");
    assert_holds(&dir, 2);
    fs::remove_file(dir.join(".partial")).unwrap();
    // Later: one file has its place already, the next finds something in its way.
    let episodes = dir.join("meta/episodes/chunk-000/file-000.parquet");
    let kept = fs::read(&episodes).unwrap();
    fs::remove_file(&episodes).unwrap();
    fs::create_dir(&episodes).unwrap();
    assert!(appender.push(task(2), &times(2), &columns(2)).is_err());
    assert!(!dir.join(".partial").exists(), "nothing that is of no use takes up room");
    fs::remove_dir(&episodes).unwrap();
    fs::write(&episodes, kept).unwrap();
    assert_holds(&dir, 2);
    appender.push(task(2), &times(2), &columns(2)).unwrap();
    assert_holds(&dir, 3);
    appender.finish().unwrap();
    let whole = folder.path().join("whole");
    write(&whole, 3);
    assert_same(&dir, &whole);
}

#[test]
fn what_does_not_belong_into_the_set_is_refused() {
    let folder = scratch();
    let dir = folder.path().join("set");
    append(&dir, 0..2).finish().unwrap();
    let before = files(&dir);
    for (other, word) in [
        (WriteSpec { fps: 20.0, ..spec() }, "20 frames a second"),
        (WriteSpec { robot_type: None, ..spec() }, "robot_type"),
        (WriteSpec { features: spec().features[..2].to_vec(), ..spec() }, "`action`"),
    ] {
        let error = DatasetAppender::open(&dir, other).err().unwrap().to_string();
        assert!(error.contains(word) && error.contains("another folder"), "{error}");
    }
    let mut appender = append(&dir, 0..0);
    assert!(appender.push("lift", &[], &columns(0)).is_err());
    assert!(appender.push("lift", &times(0), &columns(0)[1..]).is_err());
    appender.finish().unwrap();
    assert!(files(&dir) == before);
    // A folder of something else.
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter.txt"), "dear").unwrap();
    assert!(matches!(DatasetAppender::open(&other, spec()), Err(DatasetError::Exists { .. })));
    assert_eq!(files(&other).len(), 1);
}
