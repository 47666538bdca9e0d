//! Whatever the text is, it is refused, or it is a robot whose numbers can be used and whose guard lets nothing out that is
//! not finite.

use std::time::Duration;

use nudge_runtime::{Guard, RobotFile};

pub fn law(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(robot) = RobotFile::parse(text) else { return };
    let interface = robot.interface();
    let (low, high) = interface.action_limits();
    assert_eq!((low.len(), high.len()), (interface.action_dim(), interface.action_dim()));
    assert!(low.iter().zip(&high).all(|(low, high)| low <= high && low.is_finite() && high.is_finite()));
    assert!(robot.staleness_secs().is_finite() && robot.staleness_secs() > 0.0);
    assert!(robot.command_hz().is_finite() && robot.command_hz() > 0.0);

    let mut guard = Guard::new(&robot, |name| interface.observation_range(name).map(|range| range.start));
    let observed = vec![0.0; interface.observation_dim()];
    for (tick, proposed) in [&low, &high, &low].into_iter().enumerate() {
        let now = Duration::from_millis(tick as u64);
        guard.observe(now, &observed);
        let verdict = guard.tick(now, Ok(proposed));
        assert!(verdict.command.is_none_or(|command| command.iter().all(|number| number.is_finite())));
    }
}
