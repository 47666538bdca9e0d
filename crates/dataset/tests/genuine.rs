//! Sets as they are found in the field. They are not part of the repository; without them these tests say so.

mod shared;

use std::fs;
use std::path::Path;
use std::time::Instant;

use nudge_dataset::{
    Column, Dataset, DatasetAppender, ExamineOptions, FeatureInfo, Table, WriteSpec, examine, write_sums,
};
use shared::shared;

const FEATURES: [&str; 5] =
    ["observation.state", "observation.environment_state", "observation.keypoints", "action", "next.reward"];

fn bits(tables: &[Vec<Table>]) -> Vec<Vec<Vec<u32>>> {
    let bits = |table: &Table| table.values.iter().map(|value| value.to_bits()).collect();
    tables.iter().map(|episode| episode.iter().map(bits).collect()).collect()
}

#[test]
fn the_human_demonstrations_read_alike_from_both_layouts() {
    let (Some(new), Some(old)) = (shared("push_t_human/lerobot_v3.0"), shared("push_t_human/lerobot_v2.1"))
    else {
        return;
    };
    let (new, old) = (Dataset::open(&new).unwrap(), Dataset::open(&old).unwrap());
    assert_eq!((new.episode_count(), new.frame_count()), (206, 25_650));
    assert_eq!(new.info().features, old.info().features);
    assert_eq!(new.info().tasks, old.info().tasks);
    assert_eq!(new.info().features[0].names, ["agent_x", "agent_y"]);
    let (all, all_old) = (new.read_all(&FEATURES).unwrap(), old.read_all(&FEATURES).unwrap());
    assert_eq!(bits(&all), bits(&all_old));
    // The first frame of the first episode, as the original recording has it.
    assert_eq!(all[0][0].row(0), [222.0, 97.0]);
    assert_eq!(all[0][3].row(0), [233.0, 71.0]);
    for episode in [0, 1, 100, 205] {
        let alone = new.read_episode(episode, &FEATURES).unwrap();
        assert_eq!(alone, all[episode]);
        assert_eq!(new.episode_length(episode), Some(alone[0].rows));
    }
    assert!(examine(new.root(), &ExamineOptions::default()).sound());
}

#[test]
fn statistics_of_v2_1_episodes_merge_into_those_of_the_whole() {
    let (Some(new), Some(old)) = (shared("push_t_human/lerobot_v3.0"), shared("push_t_human/lerobot_v2.1"))
    else {
        return;
    };
    let (new, old) =
        (Dataset::open(&new).unwrap().stats().unwrap(), Dataset::open(&old).unwrap().stats().unwrap());
    assert_eq!(new.len(), 12);
    for (feature, whole) in &new {
        let merged = &old[feature];
        assert_eq!((&merged.min, &merged.max, &merged.count), (&whole.min, &whole.max, &whole.count));
        for (a, b) in merged.mean.iter().chain(&merged.std).zip(whole.mean.iter().chain(&whole.std)) {
            assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{feature}: {a} {b}");
        }
    }
}

#[test]
fn all_frames_read_in_less_than_a_third_of_a_second() {
    let Some(folder) = shared("push_t_human/lerobot_v3.0") else { return };
    let best = (0..3)
        .map(|_| {
            let begun = Instant::now();
            let dataset = Dataset::open(&folder).unwrap();
            assert_eq!(dataset.read_all(&FEATURES).unwrap().len(), 206);
            begun.elapsed()
        })
        .min()
        .unwrap();
    println!("25,650 frames opened and read in {best:?}");
    assert!(best.as_secs_f64() < 0.3, "{best:?}");
}

/// Checksums are checked in the time that there is; and a genuine set can be gone on with.
#[test]
fn with_checksums_it_is_read_as_fast_and_it_grows_by_episodes_of_ours() {
    let Some(source) = shared("push_t_human/lerobot_v3.0") else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    for file in [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
    ] {
        std::fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
        std::fs::write(dir.join(file), std::fs::read(source.join(file)).unwrap()).unwrap();
    }
    write_sums(&dir).unwrap();
    let read = |dir: &Path| Dataset::open(dir).unwrap().read_all(&FEATURES).unwrap();
    let fastest = |dir: &Path| {
        let timed = |_| {
            let begun = Instant::now();
            assert_eq!(read(dir).len(), 206);
            begun.elapsed()
        };
        (0..5).map(timed).min().unwrap()
    };
    let (with, without) = (fastest(&dir), fastest(&source));
    println!("25,650 frames opened and read in {with:?} with checksums, {without:?} without");
    assert!(with.as_secs_f64() < 0.3, "{with:?}");

    let info = Dataset::open(&dir).unwrap().info().clone();
    let features: Vec<FeatureInfo> = info.features[..info.features.len() - 5].to_vec();
    let spec = WriteSpec { fps: 10.0, robot_type: info.robot_type.clone(), features: features.clone() };
    let mut set = DatasetAppender::open(&dir, spec).unwrap();
    let column = |feature: &FeatureInfo| match feature.dtype.as_str() {
        "bool" => Column::Bool(vec![false; 3 * feature.dim()]),
        _ => Column::Float32(vec![0.25; 3 * feature.dim()]),
    };
    let columns: Vec<Column> = features.iter().map(column).collect();
    let begun = Instant::now();
    assert_eq!(set.push("push it back", &[0.0, 0.1, 0.2], &columns).unwrap(), 207);
    println!("an episode behind it in {:?}", begun.elapsed());
    drop(set);
    let grown = Dataset::open(&dir).unwrap();
    assert_eq!((grown.frame_count(), grown.info().tasks.len()), (25_653, 2));
    assert_eq!(bits(&grown.read_all(&FEATURES).unwrap()[..206]), bits(&read(&source)));
    let stats = [&dir, &source].map(|dir| Dataset::open(dir).unwrap().stats().unwrap());
    let [ours, theirs] = stats.map(|stats| stats["action"].clone());
    assert_eq!((ours.count, ours.min), (vec![25_653], vec![0.25; 2]));
    assert_eq!(ours.max, theirs.max);
    // Weighted by frames, as LeRobot aggregates: one part of which all numbers are 0.25.
    for (ours, theirs) in ours.mean.iter().chain(&ours.q90).zip(theirs.mean.iter().chain(&theirs.q90)) {
        assert!((ours - (theirs * 25_650.0 + 0.25 * 3.0) / 25_653.0).abs() < 1e-9, "{ours} {theirs}");
    }
}

#[test]
fn a_genuine_v2_1_set_reads_whole() {
    let Some(folder) = shared("formats/lerobot_v2.1_g1_bottle") else { return };
    let dataset = Dataset::open(&folder).unwrap();
    assert_eq!((dataset.episode_count(), dataset.frame_count()), (100, 35_965));
    assert_eq!(dataset.info().features[0].names.len(), 26);
    assert_eq!(dataset.info().tasks, ["Pick up the yellow bottle on the table."]);
    let all = dataset.read_all(&["observation.state", "action"]).unwrap();
    assert_eq!(all.iter().map(|episode| episode[1].rows).sum::<usize>(), 35_965);
    assert!(all.iter().all(|episode| episode[0].dim == 26));
    let error = dataset.read_episode(0, &["observation.images.cam_high"]).unwrap_err().to_string();
    assert!(error.contains("cam_high") && error.contains("video"), "{error}");
}

#[test]
fn a_genuine_v2_0_set_with_a_path_template_of_its_own_reads_whole() {
    let Some(folder) = shared("formats/lerobot_v2.0_gr00t/demo_data/robot_sim.PickNPlace") else { return };
    let dataset = Dataset::open(&folder).unwrap();
    assert_eq!((dataset.episode_count(), dataset.frame_count()), (5, 2_096));
    let all = dataset.read_all(&["observation.state", "timestamp", "next.done"]).unwrap();
    assert_eq!((all[0][0].rows, all[0][0].dim), (416, 44));
    // float64 in the file: 0.030831753221722887 in episode 3.
    assert_eq!(all[3][0].row(0)[0], 0.030_831_753);
    assert_eq!(dataset.stats().unwrap()["observation.state"].mean.len(), 44);
    assert!(examine(&folder, &ExamineOptions::default()).sound());
}

#[test]
fn a_genuine_set_of_which_19_files_arrived_gives_19_episodes() {
    let Some(source) = shared("push_t_human/lerobot_v2.1") else { return };
    let folder = tempfile::tempdir().unwrap();
    for part in ["meta", "data/chunk-000"] {
        fs::create_dir_all(folder.path().join(part)).unwrap();
        let mut files: Vec<_> =
            fs::read_dir(source.join(part)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.into_iter().take(19) {
            fs::write(folder.path().join(part).join(file.file_name().unwrap()), fs::read(&file).unwrap())
                .unwrap();
        }
    }
    let error = Dataset::open(folder.path()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("episode_000019.parquet") && error.contains("claims 206 episodes"), "{error}");
    assert!(error.contains("--salvage"), "{error}");
    let (set, left_out) = Dataset::salvage(folder.path()).unwrap();
    // One line for each missing file, and two for the sums of info.json.
    assert_eq!((set.episode_count(), left_out.len()), (19, 206 - 19 + 2));
    let whole = Dataset::open(&source).unwrap();
    assert_eq!(set.read_all(&FEATURES).unwrap(), whole.read_episodes(0..19, &FEATURES).unwrap());
}
