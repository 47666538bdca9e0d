use super::*;

const ARM: &str = r#"
        name = "arm"
        prefix = "cell/arm"
        pace = "clock"
        control_hz = 20.0

        [session]
        robot = { listen = ["tcp/127.0.0.1:0"] }
        controller = { connect = ["tcp/127.0.0.1:7447"] }

        [[observation]]
        name = "joints"
        shape = [2]
        unit = "rad"
        message = { type = "joint_state", field = "position", joints = ["shoulder", "elbow"] }

        [[action]]
        name = "joints"
        shape = [2]
        unit = "rad"
        limits = { low = [-1.0, -2.0], high = [1.0, 2.0] }
        velocity = [0.5, 1.0]
        measured_by = "joints"

        [[action]]
        name = "gripper"
        shape = [1]
        limits = { low = [0.0], high = [1.0] }
    "#;

#[test]
fn the_shipped_robots_are_read() {
    for (file, pace) in [("push_t", Pace::Clock), ("push_t_lockstep", Pace::Observation)] {
        let path = format!("{}/../../configs/robots/{file}.toml", env!("CARGO_MANIFEST_DIR"));
        let robot = RobotFile::load(Path::new(&path)).unwrap();
        assert_eq!((robot.pace, robot.prefix.as_str()), (pace, "push_t"));
        assert_eq!(robot.interface().action_limits(), (vec![0.0; 2], vec![512.0; 2]));
        assert_eq!(robot.staleness_secs(), 0.25);
        assert_eq!(robot.session.robot.listen, ["tcp/127.0.0.1:7447"]);
    }
}

#[test]
fn an_arm_is_read() {
    let robot = RobotFile::parse(ARM).unwrap();
    assert_eq!(robot.interface().action_dim(), 3);
    assert_eq!(robot.staleness_secs(), 0.125);
    assert_eq!(robot.resume_after, 3);
}

#[test]
fn every_mistake_names_its_field() {
    let mistakes = [
        ("name = \"arm\"", "name = \"an arm\"", "name"),
        ("cell/arm", "cell//arm", "`prefix`"),
        ("cell/arm", "cell/*", "`prefix`"),
        ("control_hz = 20.0", "control_hz = 0.0", "`control_hz`"),
        ("control_hz = 20.0", "control_hz = nan", "`control_hz`"),
        ("control_hz = 20.0", "control_hz = 20.0\nstaleness_secs = -1.0", "`staleness_secs`"),
        ("control_hz = 20.0", "control_hz = 20.0\nresume_after = 0", "`resume_after`"),
        ("control_hz = 20.0", "control_hz = 20.0\ncolour = 1", "colour"),
        ("pace = \"clock\"", "pace = \"slow\"", "slow"),
        ("[\"shoulder\", \"elbow\"]", "[\"shoulder\"]", "`message.joints`"),
        ("[\"shoulder\", \"elbow\"]", "[\"elbow\", \"elbow\"]", "twice"),
        ("low = [-1.0, -2.0]", "low = [-1.0]", "`limits.low`"),
        ("low = [-1.0, -2.0]", "low = [-1.0, 3.0]", "`limits`"),
        ("low = [-1.0, -2.0]", "low = [-1.0, nan]", "`limits`"),
        ("velocity = [0.5, 1.0]", "velocity = [0.5]", "`velocity`"),
        ("velocity = [0.5, 1.0]", "velocity = [0.5, -1.0]", "`velocity`"),
        ("velocity = [0.5, 1.0]", "acceleration = [0.5, 1.0]", "`acceleration` needs `velocity`"),
        ("velocity = [0.5, 1.0]", "velocity = [0.5, 1.0]\njerk = [1.0, 1.0]", "`jerk` needs"),
        ("control_hz = 20.0", "control_hz = 20.0\ncommand_hz = 10.0", "`command_hz`"),
        ("control_hz = 20.0", "control_hz = 20.0\nstamp_skew_secs = 0.0", "`stamp_skew_secs`"),
        ("control_hz = 20.0", "control_hz = 20.0\ntool = { action = \"joints\" }", "`tool.action`"),
        ("control_hz = 20.0", "control_hz = 20.0\ntool = { action = \"x\", speed = 0.0 }", "`tool.speed`"),
        ("measured_by = \"joints\"", "measured_by = \"pose\"", "`measured_by`"),
        ("measured_by = \"joints\"", "mode = \"delta\"\nmeasured_by = \"joints\"", "delta"),
        ("shape = [1]", "shape = []", "`shape`"),
        ("shape = [1]", "shape = [70000, 70000, 70000, 70000, 70000]", "`shape`"),
        ("name = \"gripper\"", "name = \"joints\"", "twice"),
    ];
    for (good, bad, place) in mistakes {
        assert!(ARM.contains(good));
        let error = RobotFile::parse(&ARM.replacen(good, bad, 1)).unwrap_err();
        assert!(error.contains(place), "{bad}: {error}");
    }
}
