//! What the README says of certificates, word for word but for the host: a robot that lets in who has one.
#![cfg(all(feature = "zenoh", unix))]

mod running;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use running::{Running, free_port};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NUDGE: &str = env!("CARGO_BIN_EXE_nudge");

#[test]
fn a_controller_with_a_certificate_drives_the_shipped_robot() {
    let checkpoint = Path::new(ROOT).join("checkpoints/push_t");
    let openssl = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
    if !checkpoint.is_dir() || !openssl.is_ok_and(|status| status.success()) {
        println!("skipped: {} or openssl is not here", checkpoint.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("plant");
    let made = Command::new(Path::new(ROOT).join("configs/zenoh/make_credentials.sh"))
        .args(["plant", credentials.to_str().unwrap(), "localhost"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let endpoint = format!("tls/localhost:{}", free_port());
    let start = |arguments: &[&str], user: &str| {
        let file = Path::new(ROOT).join("configs/robots/push_t_lockstep.toml");
        let started = Command::new(NUDGE)
            .args(arguments)
            .args(["--json", "--robot", file.to_str().unwrap()])
            .arg("--zenoh")
            .arg(credentials.join(format!("{user}.json5")))
            .stdout(Stdio::null())
            .spawn();
        Running(started.unwrap())
    };
    let mut robot = start(&["robot", "push_t", "--listen", &endpoint, "--max-steps", "40"], "robot");
    let mut serve = start(&["serve", checkpoint.to_str().unwrap(), "--connect", &endpoint], "controller");
    // One that gives up leaves the robot waiting.
    let begun = Instant::now();
    while robot.0.try_wait().unwrap().is_none() {
        assert!(serve.0.try_wait().unwrap().is_none(), "the controller has ended");
        assert!(begun.elapsed() < Duration::from_secs(60), "the robot was not driven");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(robot.0.wait().unwrap().success());
}
