//! Sets as zarr-python and h5py write them (tests/python/make_format_fixtures.py) read as the numbers they were made of.

use std::fs;
use std::path::{Path, PathBuf};

use nudge_dataset::{Dataset, Format, Table};
use tempfile::TempDir;

const LENGTHS: [usize; 3] = [7, 4, 9];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A copy that may be damaged.
fn copy(name: &str) -> (TempDir, PathBuf) {
    fn copy_all(from: &Path, to: &Path) {
        if from.is_file() {
            fs::copy(from, to).unwrap();
            return;
        }
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy_all(&entry.path(), &to.join(entry.file_name()));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    copy_all(&fixture(name), &path);
    (folder, path)
}

/// `episode * 1000 + frame * 10 + number`; without the episode where half precision or a byte must hold it.
fn expected(episode: usize, dim: usize, small: bool) -> Table {
    let episode_part = if small { 0 } else { episode * 1000 };
    let rows = LENGTHS[episode];
    let values = (0..rows * dim).map(|at| (episode_part + at / dim * 10 + at % dim) as f32);
    Table { rows, dim, values: values.collect() }
}

#[track_caller]
fn assert_holds(set: &Dataset, feature: &str, dim: usize, small: bool) {
    let whole = set.read_all(&[feature]).unwrap();
    assert_eq!(whole.len(), 3);
    for (episode, tables) in whole.iter().enumerate() {
        assert_eq!(tables[0], expected(episode, dim, small), "{feature}, episode {episode}");
        assert_eq!(set.read_episode(episode, &[feature]).unwrap(), *tables);
    }
    assert_eq!(set.read_episodes(1..3, &[feature]).unwrap(), whole[1..]);
}

fn shape<'a>(set: &'a Dataset, feature: &str) -> (&'a str, &'a [usize]) {
    let found = set.info().features.iter().find(|known| known.name == feature).unwrap();
    (&found.dtype, &found.shape)
}

#[test]
fn zarr_stores_of_every_compressor_hold_the_same_numbers() {
    for name in ["blosc_zstd_bitshuffle", "blosc_lz4_noshuffle", "gzip", "zlib", "zstd", "none"] {
        let set = Dataset::open(&fixture(&format!("{name}.zarr"))).unwrap();
        assert_eq!(set.format(), Format::ReplayBufferZarr);
        assert_eq!((set.episode_count(), set.frame_count(), set.info().fps), (3, 20, None));
        let names: Vec<_> = set.info().features.iter().map(|feature| feature.name.as_str()).collect();
        assert_eq!(names, ["action", "keypoint", "n_contacts", "state"]);
        assert_eq!(shape(&set, "keypoint"), ("float32", &[9, 2][..]));
        assert_eq!(shape(&set, "n_contacts"), ("float32", &[1][..]));
        assert_holds(&set, "state", 5, false);
        assert_holds(&set, "keypoint", 18, false);
        assert_holds(&set, "action", 2, false);
        let contacts = set.read_all(&["n_contacts", "action"]).unwrap();
        assert_eq!(contacts[1][0].values, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(contacts[1][1], expected(1, 2, false));
        assert!(set.has("state") && !set.has("timestamp"));
        assert!(set.stats().unwrap_err().to_string().contains("nudge dataset stats"));
    }
}

#[test]
fn zarr_arrays_of_every_type_and_layout_are_read_or_named() {
    let set = Dataset::open(&fixture("odd.zarr")).unwrap();
    for name in ["float16", "float16_big", "int8", "uint8"] {
        assert_holds(&set, &format!("small_{name}"), 3, true);
    }
    let flags = set.read_episode(0, &["small_bool"]).unwrap();
    assert_eq!(flags[0].values[..4], [0.0, 1.0, 1.0, 1.0]);
    for name in ["float64", "float64_big", "float32_big", "int16", "int16_big", "int32", "int64", "int64_big"]
    {
        assert_holds(&set, &format!("wide_{name}"), 3, false);
    }
    for name in ["uint16", "uint32", "uint64"] {
        assert_holds(&set, &format!("wide_{name}"), 3, false);
    }
    assert_holds(&set, "long_chunk", 3, false);
    assert_holds(&set, "cut_across", 18, false);
    let passed: Vec<_> =
        set.info().passed_over().map(|f| (f.name.as_str(), f.dtype.as_str(), f.shape.clone())).collect();
    let names =
        [("img", "image", vec![4, 4, 3]), ("label", "string", vec![1]), ("nothing", "empty", vec![0])];
    assert_eq!(passed, names);
    let error = set.read_episode(0, &["img"]).unwrap_err().to_string();
    assert!(error.contains("`img`") && error.contains("image"), "{error}");
    let error = set.read_episode(0, &["column_major"]).unwrap_err().to_string();
    assert!(error.contains("column_major") && error.contains("order C"), "{error}");
}

#[test]
fn a_zarr_store_without_its_group_files_is_read_all_the_same() {
    let (_folder, path) = copy("none.zarr");
    for group in ["", "data", "meta"] {
        fs::remove_file(path.join(group).join(".zgroup")).unwrap();
    }
    let bare = path.with_file_name("bare");
    fs::rename(&path, &bare).unwrap();
    assert_holds(&Dataset::open(&bare).unwrap(), "state", 5, false);
}

/// As the zarr v3 specification has it, without compression.
#[test]
fn a_zarr_v3_store_is_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let array = |place: &str, data_type: &str, shape: &str, chunk: &str, chunks: &[(&str, Vec<u8>)]| {
        let path = folder.path().join(place);
        fs::create_dir_all(path.join("c")).unwrap();
        let metadata = format!(
            r#"{{"zarr_format": 3, "node_type": "array", "shape": {shape}, "data_type": "{data_type}", "fill_value": 0,
            "chunk_grid": {{"name": "regular", "configuration": {{"chunk_shape": {chunk}}}}},
            "chunk_key_encoding": {{"name": "default", "configuration": {{"separator": "/"}}}},
            "codecs": [{{"name": "bytes", "configuration": {{"endian": "little"}}}}], "attributes": {{}}}}"#
        );
        fs::write(path.join("zarr.json"), metadata).unwrap();
        for (name, bytes) in chunks {
            let path = path.join("c").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    };
    let ends = [7i64, 11, 20].iter().flat_map(|end| end.to_le_bytes()).collect();
    array("meta/episode_ends", "int64", "[3]", "[3]", &[("0", ends)]);
    let all: Vec<f32> = (0..3).flat_map(|episode| expected(episode, 2, false).values).collect();
    let mut bytes: Vec<u8> = all.iter().flat_map(|value| value.to_le_bytes()).collect();
    bytes.resize(24 * 8, 0);
    let chunks = [("0/0", bytes[..96].to_vec()), ("1/0", bytes[96..].to_vec())];
    array("data/action", "float32", "[20, 2]", "[12, 2]", &chunks);
    let set = Dataset::open(folder.path()).unwrap();
    assert_eq!(shape(&set, "action"), ("float32", &[2][..]));
    assert_holds(&set, "action", 2, false);
}

#[test]
fn robomimic_files_are_read_as_h5py_packs_them() {
    for (name, whole) in [("contiguous", true), ("gzip", false), ("lzf", false), ("latest", true)] {
        let set = Dataset::open(&fixture(&format!("{name}.hdf5"))).unwrap();
        assert_eq!(set.format(), Format::RobomimicHdf5);
        let info = set.info();
        assert_eq!((info.episodes, info.frames, info.fps), (3, 20, Some(20.0)));
        assert_eq!(
            (info.tasks.as_slice(), info.robot_type.as_deref()),
            (&["Lift".to_owned()][..], Some("Panda"))
        );
        let splits: Vec<_> =
            info.splits.iter().map(|split| (split.name.as_str(), split.episodes.clone())).collect();
        assert_eq!(splits, [("train", vec![0, 2]), ("valid", vec![1])]);
        assert_holds(&set, "actions", 2, false);
        assert_holds(&set, "obs/eef_pos", 3, false);
        let rewards = set.read_episode(1, &["rewards"]).unwrap();
        assert_eq!(rewards[0].values, [0.0, 1.0, 2.0, 3.0]);
        assert!(!set.has("next_obs/eef_pos") && !set.has("seed"));
        if whole {
            assert_holds(&set, "states", 5, false);
            assert_holds(&set, "obs/object", 18, false);
            assert_holds(&set, "obs/small", 2, true);
            assert_eq!(shape(&set, "obs/object"), ("float64", &[9, 2][..]));
            assert_eq!(shape(&set, "obs/gripper"), ("bool", &[1][..]));
            assert_eq!(set.read_episode(1, &["obs/gripper"]).unwrap()[0].values, [0.0, 1.0, 0.0, 1.0]);
            assert_eq!(set.read_episode(1, &["dones"]).unwrap()[0].values, [0.0, 0.0, 0.0, 1.0]);
            let passed: Vec<_> = info.passed_over().map(|feature| feature.name.as_str()).collect();
            assert_eq!(passed, ["obs/image"]);
        }
    }
}

#[track_caller]
fn assert_refused(path: &Path, parts: &[&str]) {
    let read = Dataset::open(path).and_then(|set| {
        let numeric = set.info().features.iter().filter(|feature| feature.is_numeric());
        let names: Vec<String> = numeric.map(|feature| feature.name.clone()).collect();
        set.read_all(&names.iter().map(String::as_str).collect::<Vec<_>>()).map(|_| ())
    });
    let error = read.unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "expected `{part}` in: {error}");
    }
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn damage_of_a_zarr_store_is_named() {
    let damaged = |damage: &dyn Fn(&Path), parts: &[&str]| {
        let (_folder, path) = copy("zstd.zarr");
        damage(&path);
        assert_refused(&path, parts);
    };
    let remove = |place: &'static str| move |path: &Path| fs::remove_file(path.join(place)).unwrap();
    damaged(&remove("data/state/1.0"), &["data/state/1.0", "missing", "fetch"]);
    damaged(&remove("data/state/.zarray"), &["data/state", "no .zarray"]);
    damaged(
        &|path| fs::remove_dir_all(path.join("meta/episode_ends")).unwrap(),
        &["meta/episode_ends", "no such"],
    );
    damaged(&|path| fs::remove_dir_all(path.join("data")).unwrap(), &["zarr store without", "`data`"]);
    damaged(
        &|path| {
            fs::copy(path.join("data/action/0.0"), path.join("data/state/0.0")).unwrap();
        },
        &["data/state/0.0", "states 64 bytes where 160 belong"],
    );
    let zarray = |name: &'static str, from: &'static str, to: &'static str| {
        move |path: &Path| edit(&path.join(name).join(".zarray"), from, to)
    };
    damaged(
        &zarray("data/state", "        20,", "        21,"),
        &["`state` holds 21 frames", "ends at 20", "--salvage"],
    );
    damaged(&zarray("data/state", "\"zstd\"", "\"zip9\""), &["data/state", "zip9"]);
    damaged(&zarray("data/state", "\"<f4\"", "\"<f8\""), &["data/state/0.0", "160 bytes where 320 belong"]);
    damaged(&zarray("meta/episode_ends", "\"<i8\"", "\"<f8\""), &["episode_ends", "whole numbers"]);
}

#[test]
fn episodes_that_end_before_they_begin_are_named() {
    let (_folder, path) = copy("none.zarr");
    let ends: Vec<u8> = [7i64, 5, 20].iter().flat_map(|end| end.to_le_bytes()).collect();
    fs::write(path.join("meta/episode_ends/0"), ends).unwrap();
    assert_refused(&path, &["episode_ends", "episode 1 ends at frame 5, but begins at 7"]);
}

#[test]
fn what_is_no_set_is_told_what_it_seems_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        fs::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name)
    };
    assert_refused(&file("a.zarr.zip", b"PK"), &["unzip"]);
    assert_refused(&file("a.txt", b"hello"), &["not HDF5"]);
    assert_refused(&file("a.hdf5", b"hello"), &["a.hdf5", "magic"]);
    fs::create_dir_all(folder.path().join("outer/inner/meta")).unwrap();
    file("outer/inner/meta/info.json", b"{}");
    assert_refused(&folder.path().join("outer"), &["outer/inner"]);
}
