//! Whatever the text is, it is refused, or it is a robot whose numbers can be used.

use nudge_runtime::RobotFile;

pub fn law(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(robot) = RobotFile::parse(text) else { return };
    let interface = robot.interface();
    let (low, high) = interface.action_limits();
    assert_eq!((low.len(), high.len()), (interface.action_dim(), interface.action_dim()));
    assert!(low.iter().zip(&high).all(|(low, high)| low <= high && low.is_finite() && high.is_finite()));
    assert!(robot.staleness_secs().is_finite() && robot.staleness_secs() > 0.0);
    assert!(interface.control_hz.is_finite() && interface.control_hz > 0.0);
}
