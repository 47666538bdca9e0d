//! A program that records is killed with -9 at any moment, again and again: the set always opens, holds every episode
//! that the program had said to be finished, and the next program goes on with it.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nudge_control::split_mix_64;
use nudge_dataset::{Column, Dataset, DatasetAppender, DatasetWriter, FeatureInfo, WriteSpec};

/// Tells this very program, started again, to be the one that records.
const RECORDER: &str = "NUDGE_TEST_RECORDS_INTO";
const KILLS: u64 = 50;
/// A killed program gets so far at most; a quarter of it is what the first episode takes on a slow disk.
const LONGEST: Duration = Duration::from_millis(400);

fn spec() -> WriteSpec {
    let feature = |name: &str, dtype: &str, dim: usize| FeatureInfo {
        name: name.into(),
        dtype: dtype.into(),
        shape: vec![dim],
        names: Vec::new(),
    };
    let features = vec![feature("observation.state", "float32", 6), feature("action", "float32", 6)];
    WriteSpec { fps: 10.0, robot_type: Some("arm".into()), features }
}

fn task(episode: usize) -> String {
    format!("go to place {}", episode / 7)
}

fn frames(episode: usize) -> usize {
    20 + episode * 13 % 50
}

fn values(episode: usize, feature: usize) -> Vec<f32> {
    let number = |i: usize| split_mix_64((episode * 1_000_003 + feature * 7919 + i) as u64) as u32 as f32;
    (0..6 * frames(episode)).map(number).collect()
}

fn times(episode: usize) -> Vec<f32> {
    (0..frames(episode)).map(|frame| frame as f32 / 10.0).collect()
}

fn columns(episode: usize) -> [Column; 2] {
    [0, 1].map(|feature| Column::Float32(values(episode, feature)))
}

/// Not a test of its own: what is started and killed. Says each episode's number once it is finished.
#[test]
fn recorder() {
    let Some(dir) = std::env::var_os(RECORDER) else { return };
    let mut set = DatasetAppender::open(Path::new(&dir), spec()).unwrap();
    loop {
        let episode = set.episode_count();
        let count = set.push(&task(episode), &times(episode), &columns(episode)).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "finished {count}").unwrap();
        out.flush().unwrap();
    }
}

/// Lets a recorder run for a while and kills it; how many episodes it said the set has.
fn record_and_kill(dir: &Path, after: Duration) -> usize {
    let mut recorder = Command::new(std::env::current_exe().unwrap())
        .args(["recorder", "--exact", "--nocapture", "--test-threads=1"])
        .env(RECORDER, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(recorder.stdout.take().unwrap());
    let moment = Instant::now() + after;
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
    recorder.kill().unwrap();
    let status = recorder.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "the recorder ended by itself: {status}");
    let lines = said.lines().map_while(Result::ok);
    // The harness begins the first line.
    let counts = lines.filter_map(|line| line.split_once("finished ")?.1.trim().parse().ok());
    counts.last().unwrap_or(0)
}

#[track_caller]
fn assert_sound(dir: &Path, at_least: usize) -> usize {
    let set = Dataset::open(dir).unwrap();
    let held = set.episode_count();
    assert!(held >= at_least, "{held} of {at_least} finished episodes");
    let all = set.read_all(&["observation.state", "action", "timestamp", "task_index"]).unwrap();
    for (episode, tables) in all.iter().enumerate() {
        assert_eq!(tables[0].values, values(episode, 0), "episode {episode}");
        assert_eq!(tables[1].values, values(episode, 1), "episode {episode}");
        assert_eq!(tables[2].values, times(episode), "episode {episode}");
        assert_eq!(set.info().tasks[tables[3].values[0] as usize], task(episode));
    }
    held
}

#[test]
fn killed_at_fifty_moments_it_always_opens_with_all_that_was_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut set = 0;
    let (mut kills_in_work, mut episodes) = (0, 0);
    let mut dir = folder.path().join("set0");
    let mut held = 0;
    for kill in 0..KILLS {
        let micros = split_mix_64(kill) % LONGEST.as_micros() as u64;
        let said = record_and_kill(&dir, Duration::from_micros(micros));
        assert!(said == 0 || said > held, "it goes on where it was");
        if dir.join("meta/info.json").is_file() {
            let now = assert_sound(&dir, said.max(held));
            assert!(now <= said.max(held) + 1, "at most one episode is finished and not said");
            kills_in_work += usize::from(now > held);
            held = now;
        } else {
            // Killed before the first episode.
            assert_eq!((said, held), (0, 0));
        }
        // Sets of any age: now and then one is ended, compared with the set of one go, and another begun.
        if (held > 60 || kill + 1 == KILLS) && held > 0 {
            assert_eq!(
                DatasetAppender::open(&dir, spec()).unwrap().finish().unwrap(),
                (0..held).map(frames).sum::<usize>()
            );
            assert_sound(&dir, held);
            let whole = folder.path().join(format!("whole{set}"));
            let mut writer = DatasetWriter::create(&whole, spec()).unwrap();
            (0..held)
                .for_each(|episode| writer.push(&task(episode), &times(episode), &columns(episode)).unwrap());
            writer.finish().unwrap();
            for name in ["SHA256SUMS", "meta/stats.json", "meta/info.json"] {
                assert!(
                    std::fs::read(dir.join(name)).unwrap() == std::fs::read(whole.join(name)).unwrap(),
                    "{name}"
                );
            }
            set += 1;
            episodes += held;
            held = 0;
            dir = folder.path().join(format!("set{set}"));
        }
    }
    println!(
        "{KILLS} kills, {kills_in_work} of them after further episodes; {episodes} episodes in {set} sets"
    );
    assert!(kills_in_work >= 10, "only {kills_in_work} programs got to an episode before they were killed");
}
