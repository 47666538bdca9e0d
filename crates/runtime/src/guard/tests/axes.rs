//! Streams of numbers, followed as they are proposed.

use crate::guard::axes::{Axes, TickLimits};
use crate::guard::four::{Four, LANES, Mask};

/// A joint at 500 Hz: 2 rad/s, 10 rad/s², 200 rad/s³.
const JOINT: TickLimits = TickLimits { low: -1.0, high: 1.0, d: 0.004, dd: 40e-6, ddd: 1.6e-6 };

fn follow(axes: &mut Axes, target: [f64; LANES]) -> [[f64; LANES]; 2] {
    let (step, _) = axes.follow(Four::from(target), !Four::ZERO);
    axes.take(&step);
    [axes.motion().p.to_array(), axes.motion().d.to_array()]
}

#[test]
fn a_far_target_is_reached_with_an_overshoot_of_rounding_ticks_in_little_more_than_the_least_time() {
    for (from, targets) in [
        ([-0.9, 0.0, 0.3, 0.5], [0.9, 1.0, 0.31, -0.5]),
        ([0.1, 0.1, 0.9, -1.0], [0.1001, 0.100_001, -0.9, 1.0]),
    ] {
        for (lane, ticks) in ticks_to(from, targets).into_iter().enumerate() {
            let least = least_ticks((targets[lane] - from[lane]).abs());
            println!("{} to {}: {ticks} ticks, {least} at least", from[lane], targets[lane]);
            assert!(f64::from(ticks) < 1.15 * least + 12.0, "{} to {}", from[lane], targets[lane]);
        }
    }
}

/// How many ticks each takes to its target, and rests there.
fn ticks_to(from: [f64; LANES], targets: [f64; LANES]) -> [u32; LANES] {
    let mut axes = Axes::new([JOINT; LANES]);
    axes.start(Four::from(from));
    let mut arrived = [0; LANES];
    for tick in 1..2000 {
        let [at, speed] = follow(&mut axes, targets);
        for lane in 0..LANES {
            let beyond = (at[lane] - targets[lane]) * (targets[lane] - from[lane]).signum();
            assert!(beyond <= 4.0 * JOINT.ddd, "{} to {}: {beyond}", from[lane], targets[lane]);
            if arrived[lane] == 0 && beyond.abs() <= 2e-9 && speed[lane] == 0.0 {
                arrived[lane] = tick;
            }
        }
    }
    assert!(arrived.iter().all(|&tick| tick > 0), "never there: {arrived:?}, {:?}", axes.motion());
    arrived
}

/// The least time of a jerk-limited way from rest to rest, by its three cases.
fn least_ticks(way: f64) -> f64 {
    let TickLimits { d, dd, ddd, .. } = JOINT;
    if way < 2.0 * dd * dd * dd / (ddd * ddd) {
        4.0 * (way / (2.0 * ddd)).cbrt()
    } else {
        let peak = d.min(-dd * dd / (2.0 * ddd) + ((dd * dd / ddd).powi(2) / 4.0 + dd * way).sqrt());
        way / peak + peak / dd + dd / ddd
    }
}

#[test]
fn a_stream_within_the_limits_passes_unchanged() {
    let wave = |tick: i32| [0.1, 0.0, -0.1, 0.2].map(|middle| 0.2 * (f64::from(tick) * 0.01).sin() + middle);
    let mut axes = Axes::new([JOINT; LANES]);
    axes.start(Four::from(wave(0)));
    let (mut caught, mut errors) = ([None; LANES], 0);
    for tick in 1..3000 {
        let [at, _] = follow(&mut axes, wave(tick));
        for lane in 0..LANES {
            if at[lane] == wave(tick)[lane] {
                caught[lane].get_or_insert(tick);
            } else if caught[lane].is_some() {
                errors += 1;
            }
        }
    }
    println!("caught at {caught:?}, {errors} not passed since");
    assert!(caught.iter().all(|at| at.is_some_and(|tick| tick < 500)) && errors == 0);
}

/// What one of them is told does not change what another is sent, whatever they do.
#[test]
fn each_of_four_moves_as_it_would_alone() {
    let targets = |tick: u64| {
        std::array::from_fn(|lane| match (lane, tick / 150 % 3) {
            (0, _) => 0.3 * (tick as f64 * 0.01).sin(),
            (1, 0) => 2.0,
            (2, turn) => 0.4 - 0.3 * turn as f64,
            (_, turn) => -0.5 + 0.1 * (tick as f64 * 0.3).sin() * turn as f64,
        })
    };
    let mut together = Axes::new([JOINT; LANES]);
    let mut alone = [together; LANES];
    for tick in 0..3000 {
        let follows =
            std::array::from_fn(|lane| if (tick + 40 * lane as u64) % 700 < 650 { 1.0 } else { 0.0 });
        let follows = Four::from(follows).simd_gt(Four::ZERO);
        let go = |axes: &mut Axes, target: [f64; LANES], follows: Mask| {
            let (step, _) = axes.follow(Four::from(target), follows);
            axes.take(&step);
            axes.motion().p.to_array()
        };
        let moved = go(&mut together, targets(tick), follows);
        for (lane, axes) in alone.iter_mut().enumerate() {
            let mine = if follows.to_array()[lane] == 0.0 { Four::ZERO } else { !Four::ZERO };
            let moved_alone = go(axes, [targets(tick)[lane]; LANES], mine);
            assert_eq!(moved[lane], moved_alone[lane], "{lane} at {tick}");
        }
    }
}
