//! The borders between the rooms: which crate may depend on which, and which rooms alone know a heavy library.

use std::process::Command;

use serde_json::Value;

/// One line of a manifest: `package` depends on `dependency`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arrow {
    package: String,
    dependency: String,
    /// For the package's own tests and benchmarks only.
    dev: bool,
}

/// The rooms that each room may know.
const ROOMS: [(&str, &[&str]); 7] = [
    ("nudge-control", &[]),
    ("nudge-wire", &[]),
    ("nudge-dataset", &["nudge-control", "nudge-wire"]),
    ("nudge-policy", &["nudge-control", "nudge-dataset"]),
    ("nudge-sim", &["nudge-control"]),
    ("nudge-runtime", &["nudge-control", "nudge-wire"]),
    ("nudge", &["nudge-control", "nudge-dataset", "nudge-policy", "nudge-sim", "nudge-runtime"]),
];

/// Families of libraries, by the beginning of their names, and the only room that knows each.
const ONLY_ROOM: [(&str, &str); 12] = [
    ("burn", "nudge-policy"),
    ("cubecl", "nudge-policy"),
    ("cudarc", "nudge-policy"),
    ("rapier", "nudge-sim"),
    ("parry", "nudge-sim"),
    ("zenoh", "nudge-runtime"),
    ("rerun", "nudge-runtime"),
    ("re_", "nudge-runtime"),
    ("tokio", "nudge-runtime"),
    ("arrow", "nudge-dataset"),
    ("parquet", "nudge-dataset"),
    ("mcap", "nudge-dataset"),
];

/// All libraries that the rooms at the bottom may know.
const KNOWS_ONLY: [(&str, &[&str]); 2] =
    [("nudge-control", &["nalgebra", "serde", "thiserror"]), ("nudge-wire", &["thiserror"])];

/// What is wrong with `arrows`, one line each; empty when every border is kept.
///
/// A room's tests may use other libraries, but no other room and none of the libraries that one room alone knows.
fn violations(arrows: &[Arrow]) -> Vec<String> {
    let mut found = Vec::new();
    for Arrow { package, dependency, dev } in arrows {
        let Some((_, known)) = ROOMS.iter().find(|(room, _)| room == package) else {
            found.push(format!("`{package}` is not a room of the house; add it to the tables of this test"));
            continue;
        };
        let is_room = ROOMS.iter().any(|(room, _)| room == dependency);
        if is_room && !known.contains(&dependency.as_str()) {
            found.push(format!("`{package}` must not know the room `{dependency}`"));
        }
        let owner = ONLY_ROOM.iter().find(|(family, _)| dependency.starts_with(family));
        if let Some((_, owner)) = owner
            && owner != package
        {
            found.push(format!("`{package}` must not know `{dependency}`: only `{owner}` may"));
        }
        let allowed = KNOWS_ONLY.iter().find(|(room, _)| room == package).map(|(_, libraries)| libraries);
        if allowed.is_some_and(|libraries| !libraries.contains(&dependency.as_str()))
            && owner.is_none()
            && !is_room
            && !*dev
        {
            found.push(format!("`{package}` must not know `{dependency}`"));
        }
    }
    found
}

/// Every dependency that the workspace's manifests state, optional and build dependencies included.
fn arrows() -> Vec<Arrow> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs, since it runs this test");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON");
    let text = |value: &Value| value.as_str().expect("a name").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let mut arrows = Vec::new();
    for package in list(&metadata["packages"]) {
        for dependency in list(&package["dependencies"]) {
            arrows.push(Arrow {
                package: text(&package["name"]),
                dependency: text(&dependency["name"]),
                dev: dependency["kind"] == "dev",
            });
        }
    }
    arrows
}

fn arrow(package: &str, dependency: &str) -> Arrow {
    Arrow { package: package.into(), dependency: dependency.into(), dev: false }
}

#[test]
fn every_border_is_kept() {
    let arrows = arrows();
    for (room, known) in ROOMS {
        assert!(arrows.iter().any(|arrow| arrow.package == room), "`{room}` is not in the workspace");
        for other in known {
            let stated = arrows.contains(&self::arrow(room, other));
            assert!(stated || room != "nudge", "the program does not wire `{other}`");
        }
    }
    let found = violations(&arrows);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A robot's own computer builds `nudge guard` without the heavy rooms.
#[test]
fn the_program_that_only_guards_knows_no_network_and_no_physics() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "-p", "nudge", "--no-default-features", "--features", "zenoh"])
        .args(["--edges", "normal", "--prefix", "none", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs, since it runs this test");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout);
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"nudge-runtime") && names.contains(&"zenoh"), "{tree}");
    let heavy =
        ["burn", "cubecl", "rapier", "parry", "rerun", "re_", "arrow", "parquet", "gemm", "nudge-policy"];
    let found: Vec<_> =
        names.iter().filter(|name| heavy.iter().any(|family| name.starts_with(family))).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn arrows_that_break_a_border_are_found() {
    let kept = [
        arrow("nudge", "nudge-policy"),
        arrow("nudge", "clap"),
        arrow("nudge-policy", "nudge-dataset"),
        arrow("nudge-policy", "burn"),
        arrow("nudge-sim", "rapier3d"),
        arrow("nudge-runtime", "zenoh"),
        arrow("nudge-dataset", "arrow"),
        arrow("nudge-control", "serde"),
        arrow("nudge-runtime", "nudge-wire"),
        arrow("nudge-wire", "thiserror"),
        Arrow { dev: true, ..arrow("nudge-control", "serde_json") },
    ];
    assert_eq!(violations(&kept), Vec::<String>::new());

    let broken = [
        arrow("nudge-control", "nudge-dataset"),
        arrow("nudge-control", "serde_json"),
        arrow("nudge-control", "rand"),
        arrow("nudge-wire", "serde"),
        arrow("nudge-wire", "nudge-control"),
        arrow("nudge-control", "nudge-wire"),
        arrow("nudge-sim", "nudge-policy"),
        arrow("nudge-runtime", "nudge-sim"),
        arrow("nudge-policy", "nudge-runtime"),
        arrow("nudge-dataset", "burn-store"),
        arrow("nudge", "burn"),
        arrow("nudge", "rapier3d"),
        arrow("nudge", "zenoh"),
        arrow("nudge", "rerun"),
        arrow("nudge", "arrow"),
        arrow("nudge-policy", "tokio"),
        Arrow { dev: true, ..arrow("nudge-runtime", "nudge-policy") },
        arrow("nudge-attic", "serde"),
    ];
    for arrow in broken {
        assert_eq!(violations(std::slice::from_ref(&arrow)).len(), 1, "{arrow:?}");
    }
}
