use std::path::{Path, PathBuf};

use super::*;
use crate::{Column, Dataset, DatasetWriter, FeatureInfo, WriteSpec};

const FPS: f64 = 10.0;

fn feature(name: &str, dtype: &str, dim: usize) -> FeatureInfo {
    let names = if dim > 1 { (0..dim).map(|i| format!("n{i}")).collect() } else { Vec::new() };
    FeatureInfo { name: name.into(), dtype: dtype.into(), shape: vec![dim], names }
}

/// Writes episodes of these lengths, with numbers of every type; number `i` of frame `t` follows from both and the episode.
fn write(dir: &Path, lengths: &[usize]) -> Dataset {
    let features = vec![
        feature("observation.state", "float64", 3),
        feature("observation.force", "float32", 1),
        feature("observation.gripper", "int64", 2),
        feature("action", "float32", 2),
        feature("next.success", "bool", 1),
        FeatureInfo { shape: vec![3, 2], ..feature("observation.points", "int16", 1) },
        feature("observation.half", "float16", 1),
    ];
    let spec = WriteSpec { fps: FPS, robot_type: Some("arm".into()), features };
    let mut writer = DatasetWriter::create(dir, spec).unwrap();
    for (episode, rows) in lengths.iter().enumerate() {
        let number = |row: usize, i: usize| (episode * 1000 + row * 10 + i) as f64 / 7.0;
        let table = |dim: usize| (0..rows * dim).map(move |at| number(at / dim, at % dim));
        let columns = [
            Column::Float64(table(3).collect()),
            Column::Float32(table(1).map(|value| -value as f32).collect()),
            Column::Int64(table(2).map(|value| i64::MAX - value as i64).collect()),
            Column::Float32(table(2).map(|value| value as f32).collect()),
            Column::Bool((0..*rows).map(|row| episode % 2 == 0 && row + 1 == *rows).collect()),
            Column::Int16(table(6).map(|value| -value as i16).collect()),
            Column::Float16(table(1).map(|value| value.floor() as f32 / 8.0).collect()),
        ];
        // Neither exactly nominal nor from 0.
        let times: Vec<f32> = (0..*rows).map(|row| 0.05 + row as f32 / 9.9).collect();
        writer.push(if episode == 1 { "lift" } else { "push" }, &times, &columns).unwrap();
    }
    writer.finish().unwrap();
    Dataset::open(dir).unwrap()
}

fn converted(set: &Dataset, out: &Path, conversion: Conversion) -> (Converted, Dataset) {
    let report = convert(set, out, &conversion, &mut |_| ()).unwrap();
    (report, Dataset::open(out).unwrap())
}

fn refused(set: &Dataset, conversion: Conversion) -> String {
    let out = set.root().with_file_name("refused");
    let error = convert(set, &out, &conversion, &mut |_| ()).unwrap_err().to_string();
    assert!(!out.exists(), "{error}");
    error
}

/// The bits of every number of a feature, as 64-bit floats and as whole numbers.
fn bits(set: &Dataset, feature: &str) -> (Vec<u64>, Vec<i64>) {
    let all = 0..set.episode_count();
    let floats = set.read_numbers::<f64>(all.clone(), &[feature]).unwrap();
    let wholes = set.read_numbers::<i64>(all, &[feature]).unwrap();
    (
        floats.into_iter().flatten().flatten().map(f64::to_bits).collect(),
        wholes.into_iter().flatten().flatten().collect(),
    )
}

#[test]
fn without_edits_every_number_name_and_task_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(&folder.path().join("set"), &[5, 1, 7]);
    let mut passed = Vec::new();
    let out = folder.path().join("out");
    let report = convert(&set, &out, &Conversion::default(), &mut |frames| passed.push(frames)).unwrap();
    let same = Dataset::open(&out).unwrap();
    assert_eq!((report.episodes, report.frames, report.removed_frames), (3, 13, 0));
    assert_eq!(passed.last(), Some(&13));
    assert!(report.left_out.is_empty() && report.remarks.is_empty(), "{report:?}");
    assert_eq!(same.info(), set.info());
    for feature in &set.info().features {
        assert_eq!(bits(&same, &feature.name), bits(&set, &feature.name), "{}", feature.name);
    }
}

#[test]
fn edits_do_to_the_numbers_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(&folder.path().join("set"), &[5, 4]);
    let state = |places: Option<Vec<usize>>| Numbers { feature: "observation.state".into(), places };
    let edits = vec![
        Edit::Scale(state(Some(vec![1])), 0.001),
        Edit::Degrees(Numbers { feature: "turn".into(), places: None }),
        Edit::ShiftAction(1),
        Edit::Retime,
        Edit::DropNumbers(state(Some(vec![0]))),
        Edit::DropNumbers(Numbers { feature: "observation.points".into(), places: Some(vec![3]) }),
    ];
    let conversion = Conversion {
        rename: vec![("observation.force".into(), "turn".into())],
        drop_features: vec!["observation.gripper".into()],
        task: Some("turn".into()),
        edits,
        ..Conversion::default()
    };
    let (report, new) = converted(&set, &folder.path().join("out"), conversion);
    assert_eq!((report.frames, report.removed_frames), (7, 2));
    assert_eq!(new.info().tasks, ["turn"]);
    let names: Vec<_> = new.info().features[..4].iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["observation.state", "turn", "action", "next.success"]);
    assert_eq!(new.info().features[0].names, ["n1", "n2"]);
    let points = new.info().features.iter().find(|feature| feature.name == "observation.points").unwrap();
    assert_eq!((points.shape.as_slice(), &*points.names[3]), (&[5][..], "2.0"), "without its number 1.1");
    let (was, now) = (
        set.read_numbers::<f64>(0..2, &["observation.state", "observation.force", "action"]).unwrap(),
        new.read_numbers::<f64>(0..2, &["observation.state", "turn", "action"]).unwrap(),
    );
    for (was, now) in was.iter().zip(&now) {
        let rows = now[1].len();
        for row in 0..rows {
            assert_eq!(now[0][2 * row..][..2], [was[0][3 * row + 1] * 0.001, was[0][3 * row + 2]]);
            assert_eq!(now[1][row], f64::from(was[1][row].to_radians() as f32));
            assert_eq!(now[2][2 * row..][..2], was[2][2 * row + 2..][..2]);
        }
    }
    let times = new.read_numbers::<f64>(0..1, &["timestamp"]).unwrap();
    assert_eq!(times[0][0], [0.0, f64::from(0.1_f32), f64::from(0.2_f32), f64::from(0.3_f32)]);
}

#[test]
fn episodes_are_chosen_by_number_length_outcome_and_content() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(&folder.path().join("set"), &[5, 1, 7, 4, 9]);
    let first_numbers = |set: &Dataset| -> Vec<usize> {
        let all = 0..set.episode_count();
        let read = set.read_numbers::<f64>(all, &["observation.state"]).unwrap();
        read.iter().map(|episode| (episode[0][0] * 7.0).round() as usize / 1000).collect()
    };
    let mut place = 0;
    let mut chosen = |selection: Selection| {
        place += 1;
        let out = folder.path().join(format!("out{place}"));
        let (report, new) = converted(&set, &out, Conversion { selection, ..Conversion::default() });
        assert_eq!(report.episodes + report.left_out.len(), 5);
        first_numbers(&new)
    };
    let all = Selection::default();
    assert_eq!(chosen(Selection { successful: true, ..all.clone() }), [0, 2, 4]);
    assert_eq!(chosen(Selection { min_frames: Some(4), max_frames: Some(7), ..all.clone() }), [0, 2, 3]);
    let by_number = Selection { keep: Some(vec![4, 1, 3]), drop: vec![3], ..all.clone() };
    let (_, new) = converted(
        &set,
        &folder.path().join("numbers"),
        Conversion { selection: by_number, ..Conversion::default() },
    );
    assert_eq!(first_numbers(&new), [1, 4]);

    // A set in which episodes come again, and one is broken.
    let twice = folder.path().join("twice");
    crate::merge(&[set.root().to_owned(), new.root().to_owned()], &twice).unwrap();
    let twice = Dataset::open(&twice).unwrap();
    let selection = Selection { distinct: true, finite: true, ..all };
    let conversion = Conversion { selection, ..Conversion::default() };
    let (report, once) = converted(&twice, &folder.path().join("once"), conversion);
    assert_eq!(first_numbers(&once), [0, 1, 2, 3, 4]);
    assert_eq!(report.left_out[1], LeftOut { episode: 6, why: "it is episode 4 once more".into() });
}

#[test]
fn what_cannot_be_done_is_refused_with_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(&folder.path().join("set"), &[5, 4]);
    let numbers =
        |feature: &str, places: &[usize]| Numbers { feature: feature.into(), places: Some(places.to_vec()) };
    let edit = |edit: Edit| Conversion { edits: vec![edit], ..Conversion::default() };
    let select = |selection: Selection| Conversion { selection, ..Conversion::default() };
    let rename =
        |old: &str, new: &str| Conversion { rename: vec![(old.into(), new.into())], ..Conversion::default() };
    for (conversion, words) in [
        (
            edit(Edit::Unwrap(numbers("observation.stat", &[0]))),
            &["`observation.stat`", "`observation.state`?", "next.success"][..],
        ),
        (edit(Edit::Unwrap(numbers("action", &[2]))), &["`action`", "no number 2", "it holds 2"]),
        (edit(Edit::Degrees(numbers("observation.gripper", &[0]))), &["int64", "radians"]),
        (edit(Edit::Scale(numbers("action", &[0]), f64::NAN)), &["NaN"]),
        (edit(Edit::DropNumbers(numbers("action", &[0, 1]))), &["--drop-feature action"]),
        (edit(Edit::ShiftAction(5)), &["no episode is left", "no frame"]),
        (rename("nope", "x"), &["`nope`", "observation.state"]),
        (rename("action", "observation.state"), &["both", "--rename action="]),
        (rename("action", "a/b"), &["`a/b`"]),
        (rename("action", "timestamp"), &["`timestamp`"]),
        (select(Selection { keep: Some(vec![2]), ..Selection::default() }), &["no episode 2", "holds 2"]),
        (select(Selection { drop: vec![0, 1], ..Selection::default() }), &["no episode is left"]),
        (select(Selection { min_frames: Some(6), ..Selection::default() }), &["5 frames, and 6"]),
        (Conversion { fps: Some(0.0), ..Conversion::default() }, &["above 0"]),
    ] {
        let error = refused(&set, conversion);
        words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
    }
    let taken = convert(&set, set.root(), &Conversion::default(), &mut |_| ()).unwrap_err();
    assert!(taken.to_string().contains("exists already"));
    // Without an action there is none to shift.
    let conversion = Conversion { drop_features: vec!["action".into()], ..edit(Edit::ShiftAction(1)) };
    assert!(refused(&set, conversion).contains("--rename OLD=action"));
}

#[test]
fn times_follow_the_frame_rate_when_they_were_made_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(&folder.path().join("set"), &[4]);
    let times = |set: &Dataset| set.read_numbers::<f64>(0..1, &["timestamp"]).unwrap().remove(0).remove(0);
    let faster = || Conversion { fps: Some(20.0), ..Conversion::default() };
    let (_, measured) = converted(&set, &folder.path().join("measured"), faster());
    assert_eq!((times(&measured), measured.info().fps), (times(&set), Some(20.0)));
    let retimed = Conversion { edits: vec![Edit::Retime], ..Conversion::default() };
    let (_, nominal) = converted(&set, &folder.path().join("nominal"), retimed);
    let (_, faster) = converted(&nominal, &folder.path().join("faster"), faster());
    let expected: Vec<f64> = [0.0_f32, 0.05, 0.1, 0.15].map(f64::from).to_vec();
    assert_eq!(times(&faster), expected);
}

#[test]
fn a_split_has_every_episode_once_and_both_parts_or_neither() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(&folder.path().join("set"), &[3, 4, 5, 6, 7, 8, 9]);
    let lengths = |dir: PathBuf| -> Vec<usize> {
        let part = Dataset::open(&dir).unwrap();
        (0..part.episode_count()).filter_map(|episode| part.episode_length(episode)).collect()
    };
    for (place, division) in
        [Division::Share { share: 0.3, seed: 5 }, Division::Share { share: 0.3, seed: 5 }, Division::At(5)]
            .into_iter()
            .enumerate()
    {
        let out = folder.path().join(format!("parts{place}"));
        split(&set, &out, division, &Conversion::default(), &mut |_| ()).unwrap();
        let (train, validation) = (lengths(out.join("train")), lengths(out.join("validation")));
        assert_eq!((train.len(), validation.len()), (5, 2));
        let mut all = [train, validation].concat();
        all.sort_unstable();
        assert_eq!(all, [3, 4, 5, 6, 7, 8, 9]);
    }
    assert_eq!(
        lengths(folder.path().join("parts0/validation")),
        lengths(folder.path().join("parts1/validation"))
    );
    assert_eq!(lengths(folder.path().join("parts2/validation")), [8, 9]);
    let out = folder.path().join("none");
    let conversion = Conversion { fps: Some(-1.0), ..Conversion::default() };
    assert!(split(&set, &out, Division::At(1), &conversion, &mut |_| ()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "nothing is left of what failed");
}

/// A folder of the shared data, or `None` (said aloud) when it is not there.
fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    let there = path.exists();
    if !there {
        println!("SKIPPED: {} is not here", path.display());
    }
    there.then_some(path)
}

#[test]
fn genuine_sets_of_every_format_keep_every_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (place, path) in [
        "push_t_human/lerobot_v3.0",
        "push_t_human/lerobot_v2.1",
        "formats/lerobot_v2.1_g1_bottle",
        "formats/lerobot_v2.0_gr00t/demo_data/robot_sim.PickNPlace",
        "formats/fixture_5ep_lz4_noshuffle.zarr",
        "formats/fixture_5ep_zstd_bitshuffle.zarr",
        "formats/fixture_5ep_none.zarr",
        "formats/so101_sim_pick_place/replay.zarr",
        "formats/so101_sim_pick_place/robomimic_layout.hdf5",
    ]
    .into_iter()
    .enumerate()
    {
        let Some(path) = shared(path) else { continue };
        let set = Dataset::open(&path).unwrap();
        let conversion = Conversion { fps: set.info().fps.or(Some(30.0)), ..Conversion::default() };
        let (report, new) = converted(&set, &folder.path().join(place.to_string()), conversion);
        assert_eq!((new.episode_count(), new.frame_count()), (set.episode_count(), set.frame_count()));
        for mapped in &report.features {
            assert_eq!(bits(&new, &mapped.name), bits(&set, &mapped.source), "{} {mapped:?}", path.display());
        }
        let numbers: usize = report.features.iter().map(|mapped| mapped.source_dim()).sum();
        println!(
            "{}: {} features, {} numbers alike",
            path.display(),
            report.features.len(),
            numbers * new.frame_count()
        );
    }
}
