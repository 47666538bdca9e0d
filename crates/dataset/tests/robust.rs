//! Every kind of file cut short at 200 random places, and with each of 1,000 random bytes changed: a clear error or the
//! right data. Never a panic, a hang, or memory that the file does not account for.
//!
//! Where a format has a checksum, changed numbers are noticed; where it has none, they cannot be, and are counted here:
//! `cargo test --release -p nudge-dataset --test robust -- --nocapture` prints the table.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nudge_dataset::{Column, Dataset, DatasetWriter, FeatureInfo, WriteSpec};

const CUTS: usize = 200;
const CHANGES: usize = 1_000;

/// Knows the largest piece of memory that was asked for.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        unsafe { System.realloc(place, layout, size) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// What a set is, as far as one looks: its counts, tasks, statistics and all numbers, as bits.
#[derive(PartialEq)]
struct Seen {
    said: String,
    numbers: Vec<Vec<Vec<u32>>>,
}

fn see(path: &Path) -> Result<Seen, String> {
    let set = Dataset::open(path).map_err(|error| error.to_string())?;
    let info = set.info();
    let stats =
        if set.format().is_lerobot() { Some(set.stats().map_err(|error| error.to_string())?) } else { None };
    let said = format!("{:?} {:?} {:?} {stats:?}", info.fps, info.tasks, info.splits);
    let numeric = info.features.iter().filter(|feature| feature.is_numeric());
    let names: Vec<String> = numeric.map(|feature| feature.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = set.read_all(&names).map_err(|error| error.to_string())?;
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    let numbers = all.iter().map(|tables| tables.iter().map(|table| bits(&table.values)).collect()).collect();
    Ok(Seen { said, numbers })
}

#[derive(Default)]
struct Tally {
    refused: usize,
    same: usize,
    /// Other numbers, in episodes of the same lengths.
    other_numbers: usize,
    /// The same numbers, but for example another name of the task.
    other_words: usize,
    /// Features or frames more or fewer.
    other_shape: usize,
    slowest: Duration,
    largest: usize,
}

impl Tally {
    fn add(&mut self, whole: &Seen, path: &Path) -> Result<(), String> {
        LARGEST.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        let seen = std::panic::catch_unwind(|| see(path)).map_err(|_| "a panic".to_owned())?;
        self.slowest = self.slowest.max(begun.elapsed());
        self.largest = self.largest.max(LARGEST.load(Ordering::Relaxed));
        let lengths = |seen: &Seen| -> Vec<Vec<usize>> {
            seen.numbers.iter().map(|tables| tables.iter().map(Vec::len).collect()).collect()
        };
        match seen {
            Err(message) if message.len() < 20 => {
                return Err(format!("an error that says nothing: {message}"));
            }
            Err(_) => self.refused += 1,
            Ok(seen) if seen == *whole => self.same += 1,
            Ok(seen) if lengths(&seen) != lengths(whole) => self.other_shape += 1,
            Ok(seen) if seen.numbers == whole.numbers => self.other_words += 1,
            Ok(_) => self.other_numbers += 1,
        }
        Ok(())
    }
}

/// splitmix64
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// Damages `file` of the set at `root` in all these ways. Whether the numbers are protected is asserted.
#[track_caller]
fn torture(root: &Path, file: &str, seed: u64, protected: bool) -> (Tally, Tally) {
    let whole = see(root).unwrap();
    let path = root.join(file);
    let path = if file.is_empty() { root } else { &path };
    let bytes = fs::read(path).unwrap();
    let mut random = Random(seed);
    let (mut cut, mut changed) = (Tally::default(), Tally::default());
    // Changed in place: some file systems wait for the disk when a file is emptied and written anew.
    let damaged = fs::OpenOptions::new().write(true).open(path).unwrap();
    let put = |place: usize, bytes: &[u8]| damaged.write_all_at(bytes, place as u64).unwrap();
    for _ in 0..CUTS {
        let length = random.below(bytes.len());
        damaged.set_len(length as u64).unwrap();
        cut.add(&whole, root).unwrap_or_else(|problem| panic!("{file} cut to {length}: {problem}"));
        put(length, &bytes[length..]);
    }
    for _ in 0..CHANGES {
        let (place, with) = (random.below(bytes.len()), 1 + random.below(255) as u8);
        put(place, &[bytes[place] ^ with]);
        changed
            .add(&whole, root)
            .unwrap_or_else(|problem| panic!("{file}, byte {place} changed by {with}: {problem}"));
        put(place, &bytes[place..=place]);
    }
    assert!(see(root).unwrap() == whole);
    for (how, tally) in [("cut", &cut), ("changed", &changed)] {
        println!(
            "{:44} {how:8} {:5} refused {:5} same {:4} other numbers {:4} other words {:4} other shape; slowest {:.1} ms, \
             largest {:.1} MB",
            format!("{} {file}", root.file_name().unwrap().to_string_lossy()),
            tally.refused,
            tally.same,
            tally.other_numbers,
            tally.other_words,
            tally.other_shape,
            tally.slowest.as_secs_f64() * 1e3,
            tally.largest as f64 / 1e6
        );
        assert!(tally.slowest < Duration::from_secs(10), "{file} took {:?}", tally.slowest);
        assert!(!protected || tally.other_numbers == 0, "{file}: {} with other numbers", tally.other_numbers);
    }
    (cut, changed)
}

fn copy_all(from: &Path, to: &Path) {
    if from.is_file() {
        fs::write(to, fs::read(from).unwrap()).unwrap();
        return;
    }
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy_all(&entry.path(), &to.join(entry.file_name()));
    }
}

fn fixture(folder: &Path, name: &str) -> PathBuf {
    let to = folder.join(name);
    copy_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name), &to);
    to
}

const DATA: &str = "data/chunk-000/file-000.parquet";

fn write(dir: &Path, episodes: u8) {
    let feature = |name: &str, dim| FeatureInfo {
        name: name.into(),
        dtype: "float32".into(),
        shape: vec![dim],
        names: Vec::new(),
    };
    let features = vec![feature("observation.state", 3), feature("action", 2)];
    let mut writer = DatasetWriter::create(dir, WriteSpec { fps: 10.0, robot_type: None, features }).unwrap();
    for episode in 0..episodes {
        let values = |dim: u8| Column::Float32((0..20 * dim).map(|i| f32::from(i + episode).sin()).collect());
        let times: Vec<f32> = (0..20u8).map(|i| f32::from(i) / 10.0).collect();
        writer.push("reach the block", &times, &[values(3), values(2)]).unwrap();
    }
    writer.finish().unwrap();
    // As others write it: what is read is to be sound without checksums, too.
    fs::remove_file(dir.join("SHA256SUMS")).unwrap();
}

/// One episode, as v2.1 lists it.
fn write_v2(dir: &Path) {
    let stats = r#"{"min": [0, 0], "max": [1, 1], "mean": [0.5, 0.5], "std": [0.1, 0.2], "count": [20]}"#;
    let files = [
        (
            "meta/episodes.jsonl",
            r#"{"episode_index": 0, "tasks": ["reach the block"], "length": 20}"#.to_owned(),
        ),
        ("meta/tasks.jsonl", r#"{"task_index": 0, "task": "reach the block"}"#.to_owned()),
        ("meta/episodes_stats.jsonl", format!(r#"{{"episode_index": 0, "stats": {{"action": {stats}}}}}"#)),
    ];
    write(dir, 1);
    for (name, line) in files {
        fs::write(dir.join(name), line + "\n").unwrap();
    }
    for gone in ["meta/stats.json", "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"] {
        fs::remove_file(dir.join(gone)).unwrap();
    }
    let info = fs::read_to_string(dir.join("meta/info.json")).unwrap().replace("v3.0", "v2.1");
    let info = info.replace(
        "chunk-{chunk_index:03d}/file-{file_index:03d}",
        "chunk-{episode_chunk:03d}/episode_{episode_index:06d}",
    );
    fs::write(dir.join("meta/info.json"), info).unwrap();
    fs::rename(dir.join(DATA), dir.join("data/chunk-000/episode_000000.parquet")).unwrap();
}

#[test]
fn every_kind_of_file_damaged_at_random_is_refused_or_right() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    // Decoders of others may panic on damage; what is made of that is an error, and it is counted.
    static CAUGHT: AtomicUsize = AtomicUsize::new(0);
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match panic.location() {
        Some(place) if place.file().starts_with('/') => {
            println!("a decoder panicked at {place}");
            CAUGHT.fetch_add(1, Ordering::Relaxed);
        }
        _ => told(panic),
    }));
    let v3 = folder.path().join("v3.0");
    write(&v3, 3);
    for (seed, file) in [
        DATA,
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/tasks.parquet",
        "meta/info.json",
        "meta/stats.json",
    ]
    .into_iter()
    .enumerate()
    {
        torture(&v3, file, seed as u64, false);
    }
    let v2 = folder.path().join("v2.1");
    write_v2(&v2);
    for (seed, file) in [
        "data/chunk-000/episode_000000.parquet",
        "meta/episodes.jsonl",
        "meta/tasks.jsonl",
        "meta/episodes_stats.jsonl",
        "meta/info.json",
    ]
    .into_iter()
    .enumerate()
    {
        torture(&v2, file, 5 + seed as u64, false);
    }
    for (seed, name) in ["blosc_zstd_bitshuffle", "blosc_lz4_noshuffle", "gzip", "zlib", "zstd", "none"]
        .into_iter()
        .enumerate()
    {
        let root = fixture(folder.path(), &format!("{name}.zarr"));
        let separator = if name == "none" { "/" } else { "." };
        torture(
            &root,
            &format!("data/state/1{separator}0"),
            10 + seed as u64,
            ["gzip", "zlib"].contains(&name),
        );
        torture(&root, "meta/episode_ends/0", 20 + seed as u64, ["gzip", "zlib"].contains(&name));
        if name == "zstd" {
            torture(&root, "data/state/.zarray", 30, false);
            torture(&root, "data/.zgroup", 31, true);
        }
    }
    for (seed, name) in ["contiguous", "gzip", "lzf", "latest"].into_iter().enumerate() {
        torture(&fixture(folder.path(), &format!("{name}.hdf5")), "", 40 + seed as u64, false);
    }
    let caught = CAUGHT.load(Ordering::Relaxed);
    println!("{caught} panics of decoders caught; {:.1} s", begun.elapsed().as_secs_f64());
}
