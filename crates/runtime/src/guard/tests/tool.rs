//! The tool's limits are kept (`adversary`), and used.

use super::*;

/// A flat arm of three joints at `command_hz`, whose tool goes 0.25 m/s at most.
fn config(command_hz: f64) -> GuardConfig {
    let axis = |index| AxisConfig {
        mode: ActionMode::Absolute,
        low: -2.5,
        high: 2.5,
        velocity: Some(2.0),
        acceleration: Some(10.0),
        jerk: Some(1000.0),
        measured_by: Some(index),
    };
    let joint = |x| JointFrame { xyz: [x, 0.0, 0.0], rpy: [0.0; 3], axis: [0.0, 0.0, 1.0] };
    let limits = ToolLimits {
        action: "joints".into(),
        speed: Some(0.25),
        low: None,
        high: None,
        joints: vec![joint(0.0), joint(0.3), joint(0.3)],
        tip: Frame { xyz: [0.2, 0.0, 0.0], rpy: [0.0; 3] },
    };
    GuardConfig {
        axes: (0..3).map(axis).collect(),
        period_secs: 1.0 / command_hz,
        staleness_secs: None,
        resume_after: 1,
        stamp_skew_secs: None,
        hold_on_alarm: false,
        tool: Some(ToolConfig { first_axis: 0, limits }),
    }
}

/// Where the tip of that arm is.
fn tip(q: &[f64]) -> [f64; 2] {
    let turned = [q[0], q[0] + q[1], q[0] + q[1] + q[2]];
    let along = |part: fn(f64) -> f64| {
        turned.iter().zip([0.3, 0.3, 0.2]).map(|(&angle, length)| length * part(angle)).sum::<f64>()
    };
    [along(f64::cos), along(f64::sin)]
}

#[test]
fn an_arm_in_a_hurry_moves_its_tool_nearly_as_fast_as_it_may() {
    for command_hz in [100.0, 500.0, 1000.0] {
        let mut guard = Guard::with(config(command_hz));
        let mut q = vec![-1.0, 0.4, 0.4];
        let mut speeds = Vec::new();
        let mut now = Duration::ZERO;
        while q[0] < 0.99 {
            now += Duration::from_secs_f64(1.0 / command_hz);
            assert!(now < Duration::from_secs(20), "{command_hz} Hz: never there, at {q:?}");
            guard.observe(now, &q);
            let command = guard.tick(now, Ok(&[1.0, 0.4, 0.4])).command.unwrap().to_vec();
            let (from, to) = (tip(&q), tip(&command));
            speeds.push((to[0] - from[0]).hypot(to[1] - from[1]) * command_hz);
            q = command;
        }
        speeds.sort_by(f64::total_cmp);
        let median = speeds[speeds.len() / 2];
        println!(
            "{command_hz} Hz: {now:?}, tool {median} m/s at the median, {} at most",
            speeds.last().unwrap()
        );
        assert!(median > 0.97 * 0.25, "{command_hz} Hz: {median} m/s");
    }
}
