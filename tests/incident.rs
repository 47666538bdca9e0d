//! What happens while a robot is driven is kept, message by message and plan by plan, and comes out the same when it is asked
//! again.
#![cfg(feature = "zenoh")]

mod running;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nudge_dataset::mcap::{McapLog, read_mcap};
use running::{Running, free_port};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NUDGE: &str = env!("CARGO_BIN_EXE_nudge");

fn nudge(arguments: &[&str]) -> Output {
    Command::new(NUDGE).args(arguments).output().unwrap()
}

fn json_of(arguments: &[&str]) -> Value {
    let output = nudge(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The same file, but for one bit of one number of the second message on topic `of` that has one.
fn flip(from: &Path, to: &Path, of: &str) {
    let mut log = McapLog::create(to).unwrap();
    let mut count = 0;
    let damage = read_mcap(from, &mut |message| {
        let topic = message.channel.topic.as_str();
        if let Some(wire) = message.on_the_wire() {
            return log.wire(&wire);
        }
        let mut said: Value = serde_json::from_slice(message.payload).unwrap();
        let place = match of {
            "nudge/plan" => "/answer/Ok/0/actions/3/1",
            _ => "/verdict/command/0",
        };
        if topic == of
            && let Some(number) = said.pointer_mut(place)
        {
            count += 1;
            if count == 2 {
                *number = (number.as_u64().unwrap() ^ 1).into();
            }
        }
        log.say(topic, message.log_time_ns, &said)
    });
    assert_eq!(damage.unwrap(), None);
    log.finish().unwrap();
}

#[test]
fn an_incident_is_planned_again_to_the_bit_and_a_flipped_bit_is_found() {
    let checkpoint = Path::new(ROOT).join("checkpoints/push_t");
    if !checkpoint.is_dir() {
        println!("skipped: {} is not here", checkpoint.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [run, flipped, set] = ["run.mcap", "flipped.mcap", "set"].map(|name| folder.path().join(name));
    let [run_file, flipped_file, set_dir] = [&run, &flipped, &set].map(|path| path.to_str().unwrap());
    let checkpoint = checkpoint.to_str().unwrap();
    let endpoint = format!("tcp/127.0.0.1:{}", free_port());
    let file = Path::new(ROOT).join("configs/robots/push_t_lockstep.toml");
    let file = file.to_str().unwrap();
    let robot = Command::new(NUDGE)
        .args(["robot", "push_t", "--robot", file, "--listen", &endpoint, "--max-steps", "40", "--json"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut robot = Running(robot);
    let serve = Command::new(NUDGE)
        .args(["serve", checkpoint, "--robot", file, "--connect", &endpoint, "--json", "--mcap", run_file])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut serve = Running(serve);
    assert!(robot.0.wait().unwrap().success());
    // As Ctrl-C does.
    assert!(Command::new("kill").args(["-INT", &serve.0.id().to_string()]).status().unwrap().success());
    assert!(serve.0.wait().unwrap().success());

    let info = json_of(&["dataset", "info", run_file, "--json"]);
    assert_eq!((&info["not_recorded"], &info["damage"]), (&Value::from(0), &Value::Null), "{info}");
    let messages = |ending: &str| -> u64 {
        let topics = info["topics"].as_array().unwrap().iter();
        let topics = topics.filter(|topic| topic["topic"].as_str().unwrap().ends_with(ending));
        topics.map(|topic| topic["messages"].as_u64().unwrap()).sum()
    };
    assert!(messages("/act/cmd") >= 40 && messages("/obs/observation.state") >= 40, "{info}");
    assert!(
        messages("/act/chunk") >= 5 && messages("nudge/plan") >= 5 && messages("nudge/config") == 1,
        "{info}"
    );

    // A call is two messages: the question and the answer.
    assert!(messages("/rpc/describe") >= 2 && messages("/rpc/reset") >= 2, "{info}");

    let replayed = json_of(&["replay", run_file, "--checkpoint", checkpoint, "--json"]);
    assert_eq!(
        (replayed["plans"].as_u64(), &replayed["differ"]),
        (Some(messages("nudge/plan")), &Value::from(0))
    );
    assert!(replayed["verdicts"].as_u64() >= Some(40) && replayed["verdicts_differ"] == 0, "{replayed}");
    flip(&run, &flipped, "nudge/guard");
    let told = nudge(&["replay", flipped_file, "--checkpoint", checkpoint]);
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(!told.status.success() && said.contains("1 come out otherwise, the first is verdict"), "{said}");
    fs::remove_file(&flipped).unwrap();
    flip(&run, &flipped, "nudge/plan");
    let replayed = nudge(&["replay", flipped_file, "--checkpoint", checkpoint]);
    let said = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(
        !replayed.status.success() && said.contains("plan 1 ") && said.contains("action 3, number 1"),
        "{said}"
    );
    let cut = folder.path().join("cut.mcap");
    let bytes = fs::read(&run).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 30]).unwrap();
    let replayed = nudge(&["replay", cut.to_str().unwrap(), "--checkpoint", checkpoint]);
    let said = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(!replayed.status.success() && said.contains("cut off"), "{said}");

    // Observations and commands are a data set, too; in lockstep they come as fast as the machines are.
    let converted = json_of(&[
        "dataset",
        "convert",
        run_file,
        "--fps",
        "500",
        "--max-gap",
        "30",
        "--out",
        set_dir,
        "--json",
    ]);
    assert!(converted["frames"].as_u64().unwrap() >= 2, "{converted}");
    let features = json_of(&["dataset", "info", set_dir, "--json"])["features"].clone();
    let names: Vec<&str> =
        features.as_array().unwrap().iter().filter_map(|feature| feature["name"].as_str()).collect();
    assert!(names.contains(&"action") && names.contains(&"observation.state"), "{names:?}");
}
