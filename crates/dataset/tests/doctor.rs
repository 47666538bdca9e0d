//! The doctor against faults that are planted: each is named, with its place; a sound set is called sound.

mod planted;
mod shared;

use std::path::Path;

use nudge_dataset::{
    Column, DatasetWriter, Diagnosis, ExamineOptions, Fault, FeatureInfo, Severity, WriteSpec, examine,
};
use planted::faults::{Expected, PLANTS};
use planted::files::FILE_PLANTS;
use planted::{Demos, Dice};
use shared::shared;

fn diagnose(demos: &Demos) -> Diagnosis {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    demos.write(&dir);
    examine(&dir, &ExamineOptions::default())
}

/// How the doctor did on one plant: named the fault at its place, and what was named of it.
struct Outcome {
    name: &'static str,
    expected: Expected,
    named: bool,
    /// Episode and frame of the finding that is nearest.
    place: String,
    /// Errors other than the fault in other episodes.
    elsewhere: usize,
}

/// A finding of the fault that the sound set does not have, in the episode, at the frame.
fn judge(name: &'static str, expected: Expected, diagnosis: &Diagnosis, sound: &Diagnosis) -> Outcome {
    let old = |fault: Fault| sound.findings.iter().filter(|f| f.fault == fault).count();
    let of: Vec<_> = diagnosis.findings.iter().filter(|f| f.fault == expected.fault).collect();
    let right = of.iter().find(|finding| {
        let episode = expected.episode.is_none_or(|episode| finding.episode == Some(episode));
        let frame =
            expected.frame.is_none_or(|(frame, off)| finding.frame.is_some_and(|f| f.abs_diff(frame) <= off));
        episode && frame
    });
    let shown = right.or(of.first());
    let show = |place: Option<usize>| place.map_or("-".into(), |place| place.to_string());
    let elsewhere = diagnosis.of(Severity::Error).filter(|f| {
        f.fault != expected.fault
            && f.episode.is_some()
            && expected.episode.is_some()
            && f.episode != expected.episode
    });
    Outcome {
        name,
        expected,
        named: right.is_some() && of.len() > old(expected.fault),
        place: shown.map_or("not named".into(), |f| format!("{} / {}", show(f.episode), show(f.frame))),
        elsewhere: elsewhere.count(),
    }
}

fn plant_all(sound: &Demos, seed: u64) -> Vec<Outcome> {
    let healthy = diagnose(sound);
    let mut outcomes = Vec::new();
    for (nth, (name, plant)) in PLANTS.iter().enumerate() {
        let mut demos = sound.clone();
        let expected = plant(&mut demos, &mut Dice(seed + nth as u64));
        outcomes.push(judge(name, expected, &diagnose(&demos), &healthy));
    }
    let folder = tempfile::tempdir().unwrap();
    for (nth, (name, plant)) in FILE_PLANTS.iter().enumerate() {
        let dir = folder.path().join(nth.to_string());
        sound.write(&dir);
        let expected = plant(&dir, sound, &mut Dice(seed + 1000 + nth as u64));
        outcomes.push(judge(name, expected, &examine(&dir, &ExamineOptions::default()), &healthy));
    }
    outcomes
}

fn table(title: &str, outcomes: &[Outcome]) {
    println!("{title}");
    println!("{:36} {:20} {:5} {:>14} {:>14}", "planted", "fault", "found", "planted at", "named at");
    for Outcome { name, expected, named, place, .. } in outcomes {
        let show = |place: Option<usize>| place.map_or("-".into(), |place| place.to_string());
        let planted =
            format!("{} / {}", show(expected.episode), show(expected.frame.map(|(frame, _)| frame)));
        println!("{name:36} {:20} {:5} {planted:>14} {place:>14}", expected.fault.name(), named);
    }
}

fn assert_named(outcomes: &[Outcome]) {
    let missed: Vec<&str> = outcomes.iter().filter(|o| !o.named).map(|o| o.name).collect();
    assert!(missed.is_empty(), "not named at its place: {missed:?}");
    let wrong: Vec<&str> = outcomes.iter().filter(|o| o.elsewhere > 0).map(|o| o.name).collect();
    assert!(wrong.is_empty(), "errors in episodes that are sound: {wrong:?}");
}

#[track_caller]
fn assert_sound(diagnosis: &Diagnosis) {
    let errors: Vec<_> = diagnosis.of(Severity::Error).collect();
    assert!(errors.is_empty() && diagnosis.sound(), "{errors:#?}");
}

#[test]
fn every_fault_planted_in_a_made_up_set_is_named_with_its_place() {
    let sound = Demos::made(1);
    let healthy = diagnose(&sound);
    let said: Vec<_> = healthy.findings.iter().filter(|f| f.severity != Severity::Note).collect();
    assert!(said.is_empty(), "{said:#?}");
    let outcomes = plant_all(&sound, 100);
    table("made up: 24 episodes", &outcomes);
    assert_named(&outcomes);
}

#[test]
fn every_fault_planted_in_the_human_set_is_named_with_its_place() {
    let Some(dir) = shared("push_t_human/lerobot_v3.0") else { return };
    assert_sound(&examine(&dir, &ExamineOptions::default()));
    let sound = Demos::human(&dir);
    assert_sound(&diagnose(&sound));
    let outcomes = plant_all(&sound, 200);
    table("human Push-T: 206 episodes", &outcomes);
    assert_named(&outcomes);
}

#[test]
fn tables_share_their_statistics_over_all_sizes_but_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("set");
    let feature = |name: &str, shape: &[usize]| FeatureInfo {
        name: name.into(),
        dtype: "float32".into(),
        shape: shape.to_vec(),
        names: Vec::new(),
    };
    let features = vec![feature("observation.points", &[3, 2]), feature("action", &[2])];
    let mut writer =
        DatasetWriter::create(&dir, WriteSpec { fps: 10.0, robot_type: None, features }).unwrap();
    for episode in 0..3 {
        let wave = |dim: usize| {
            let value = |i: usize| ((i / dim + 7 * episode) as f32 * 0.1 + (i % dim) as f32).sin();
            Column::Float32((0..40 * dim).map(value).collect())
        };
        let times: Vec<f32> = (0..40).map(|frame| frame as f32 / 10.0).collect();
        writer.push("wave", &times, &[wave(6), wave(2)]).unwrap();
    }
    writer.finish().unwrap();
    let contradictions = |dir: &Path| {
        let found = examine(dir, &ExamineOptions::default()).findings;
        found.iter().filter(|found| found.fault == Fault::StatsContradict).count()
    };
    assert_eq!(contradictions(&dir), 0);
    let path = dir.join("meta/stats.json");
    let mut stats: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    stats["observation.points"]["mean"][1] = 0.9.into();
    std::fs::write(&path, stats.to_string()).unwrap();
    std::fs::remove_file(dir.join("SHA256SUMS")).unwrap();
    assert_eq!(contradictions(&dir), 1);
}

#[test]
fn genuine_sets_have_no_errors() {
    let own = ["push_t", "pick_place"];
    let own = own.map(|set| Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets").join(set)));
    let genuine = [
        "push_t_human/lerobot_v2.1",
        "formats/lerobot_v2.1_g1_bottle",
        "formats/lerobot_v2.0_gr00t/demo_data/robot_sim.PickNPlace",
        "formats/so101_sim_pick_place/replay.zarr",
        "formats/so101_sim_pick_place/robomimic_layout.hdf5",
        "formats/fixture_5ep_zstd_bitshuffle.zarr",
    ];
    for set in own.into_iter().chain(genuine.map(shared)).flatten() {
        let diagnosis = examine(&set, &ExamineOptions::default());
        let warnings = diagnosis.of(Severity::Warning).count();
        println!("{}: {} episodes, {warnings} warnings", set.display(), diagnosis.episodes);
        assert!(diagnosis.episodes > 0);
        assert_sound(&diagnosis);
    }
}

/// How often each fault is named, over 20 places and sizes of each; takes a minute.
#[test]
#[ignore = "a measurement, not a check: run it with --ignored --nocapture"]
fn detection_rates() {
    const PLACES: u64 = 20;
    let mut sets = vec![("made up", Demos::made(7))];
    if let Some(dir) = shared("push_t_human/lerobot_v3.0") {
        let mut human = Demos::human(&dir);
        human.takes.truncate(60);
        sets.push(("60 human episodes", human));
    }
    for (title, sound) in sets {
        let mut named = vec![("", 0, 0); PLANTS.len() + FILE_PLANTS.len()];
        for place in 0..PLACES {
            for (count, outcome) in named.iter_mut().zip(plant_all(&sound, 5_000 + 777 * place)) {
                *count = (outcome.name, count.1 + usize::from(outcome.named), count.2 + outcome.elsewhere);
            }
        }
        println!("{title}: named, of {PLACES}; errors in sound episodes");
        named.iter().for_each(|(name, count, elsewhere)| println!("{name:36} {count:3} {elsewhere:3}"));
    }
}
