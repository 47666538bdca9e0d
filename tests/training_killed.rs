//! A training that is killed, again and again, ends with the same weights as one that was left in peace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nudge_control::{Action, Episode, Frame, Task as _, split_mix_64};
use nudge_dataset::{Recording, write_episodes};
use nudge_sim::push_t::{PushT, PushTConfig};

/// The shipped experiment, made small.
fn small_config() -> String {
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/push_t.toml")).unwrap();
    let replace = |text: String, key: &str, line: &str| {
        let start = text.find(&format!("\n{key} = ")).expect(key) + 1;
        let end = start + text[start..].find('\n').unwrap();
        format!("{}{line}{}", &text[..start], &text[end..])
    };
    [
        ("down_dims", "down_dims = [8, 16]"),
        ("diffusion_step_embed_dim", "diffusion_step_embed_dim = 16"),
        ("steps", "steps = 120"),
        ("batch_size", "batch_size = 16"),
        ("validate_every", "validate_every = 50"),
        ("checkpoint_every", "checkpoint_every = 6"),
        ("keep", "keep = 3"),
    ]
    .into_iter()
    .fold(shipped, |text, (key, line)| replace(text, key, line))
}

/// Episodes in which the pusher goes round the block.
fn demonstrations(dir: &Path) -> PathBuf {
    let mut task = PushT::new(PushTConfig::default());
    let episode = |seed: u64, task: &mut PushT| {
        let mut observation = task.reset(seed);
        let mut frames = Vec::new();
        for step in 0..40 {
            let angle = 0.15 * f64::from(step) + seed as f64;
            let action = Action(vec![256.0 + 150.0 * angle.cos(), 256.0 + 150.0 * angle.sin()]);
            let next = task.step(&action);
            let seen = std::mem::replace(&mut observation, next.observation);
            let time_secs = f64::from(step) / 10.0;
            frames.push(Frame {
                time_secs,
                observation: seen,
                action,
                reward: next.reward,
                success: next.success,
                done: next.done,
            });
        }
        let interface = task.interface().clone();
        Episode { task: task.name().to_owned(), interface, seed: Some(seed), frames }
    };
    let episodes: Vec<Episode> = (0..5).map(|seed| episode(seed, &mut task)).collect();
    let path = dir.join("demonstrations");
    let recording = Recording { instruction: "go round the block".into(), ..Recording::default() };
    write_episodes(&path, &episodes, &recording).unwrap();
    path
}

fn train(dir: &Path, place: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nudge"));
    command.arg("train").arg(dir.join("small.toml")).arg("--data").arg(dir.join("demonstrations"));
    command.args(place).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn newest(run: &Path) -> Option<u64> {
    let entries = fs::read_dir(run).ok()?.flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step_")?.parse().ok()).max()
}

#[test]
fn a_killed_training_resumes_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    demonstrations(dir);
    fs::write(dir.join("small.toml"), small_config()).unwrap();
    assert!(train(dir, &["--out", "undisturbed"]).status().unwrap().success());

    let run = dir.join("killed");
    let mut place = ["--out", "killed"];
    let mut kills = 0;
    for round in 0..5u64 {
        let wait_for = newest(&run).unwrap_or(0) + 6 * (1 + split_mix_64(round) % 3);
        let mut child = train(dir, &place).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        while newest(&run).is_none_or(|step| step < wait_for) && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no checkpoint {wait_for} came");
            std::thread::yield_now();
        }
        // Somewhere between two checkpoints, or in the middle of writing one.
        let moment = Instant::now() + Duration::from_micros(split_mix_64(round + 99) % 40_000);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
        place = ["--resume", "killed"];
    }
    assert!(kills >= 2, "the training ended before it could be killed");
    assert!(train(dir, &place).status().unwrap().success());

    let weights = |run: &str| fs::read(dir.join(run).join("step_00000120/weights.safetensors")).unwrap();
    assert!(weights("undisturbed") == weights("killed"), "the weights differ");
}
