mod adversary;
mod axes;
mod checker;
mod tool;
mod witness;

use nudge_control::ActionMode;

use super::*;

const PERIOD: Duration = Duration::from_millis(50);

/// Two limited joints measured by the first two of three observed numbers, a gripper, and a delta.
fn robot(pace: &str) -> RobotFile {
    let text = r#"
        name = "arm"
        prefix = "arm"
        pace = "PACE"
        control_hz = 20.0
        [session]
        robot = {}
        controller = {}
        [[observation]]
        name = "joints"
        shape = [2]
        [[observation]]
        name = "other"
        shape = [1]
        [[action]]
        name = "joints"
        shape = [2]
        limits = { low = [-1.0, -2.0], high = [1.0, 2.0] }
        velocity = [2.0, 4.0]
        measured_by = "joints"
        [[action]]
        name = "gripper"
        shape = [1]
        limits = { low = [0.0], high = [1.0] }
        [[action]]
        name = "turn"
        shape = [1]
        mode = "delta"
        limits = { low = [-0.5], high = [0.5] }
        velocity = [6.0]
    "#;
    RobotFile::parse(&text.replace("PACE", pace)).unwrap()
}

fn guard(pace: &str) -> Guard {
    Guard::new(&robot(pace), |name| (name == "joints").then_some(0))
}

const GOOD: [f64; 3] = [0.5, 1.0, 0.0];
const STILL: [f64; 4] = [0.5, 1.0, 0.0, 0.0];

/// Ticks, observing before each; the verdict of the last.
fn run(guard: &mut Guard, now: &mut Duration, ticks: u32) -> (State, Option<Rule>) {
    let mut verdict = (State::Init, None);
    for _ in 0..ticks {
        *now += PERIOD;
        guard.observe(*now, &GOOD);
        let ticked = guard.tick(*now, Ok(&STILL));
        verdict = (ticked.state, ticked.reason);
    }
    verdict
}

fn count(guard: &Guard, rule: Rule) -> u64 {
    guard.log.count(rule)
}

#[test]
fn nothing_is_commanded_before_an_observation() {
    let mut guard = guard("clock");
    let verdict = guard.tick(PERIOD, Ok(&STILL));
    assert_eq!(verdict, Verdict { state: State::Init, reason: None, command: None });
}

#[test]
fn the_first_command_starts_from_what_is_measured() {
    let mut guard = guard("clock");
    guard.observe(PERIOD, &[-0.9, -1.9, 0.0]);
    let verdict = guard.tick(PERIOD, Ok(&[1.0, 2.0, 0.3, 0.5]));
    assert_eq!(verdict.state, State::Run);
    // One period at 2/s and 4/s from the measured place; the delta at most 6/s * 0.05 s.
    let command = verdict.command.unwrap();
    for (value, expected) in command.iter().zip([-0.8, -1.7, 0.3, 0.3]) {
        assert!((value - expected).abs() < 1e-12, "{command:?}");
    }
    assert_eq!(count(&guard, Rule::VelocityLimit), 1);
}

#[test]
fn a_stale_observation_holds_where_the_robot_was_and_only_fresh_ones_resume() {
    let (mut guard, mut now) = (guard("clock"), Duration::ZERO);
    assert_eq!(run(&mut guard, &mut now, 5), (State::Run, None));
    now += Duration::from_millis(126);
    let verdict = guard.tick(now, Ok(&[-1.0, -2.0, 1.0, 0.5]));
    assert_eq!((verdict.state, verdict.reason), (State::Hold, Some(Rule::ObservationStale)));
    assert_eq!(verdict.command.unwrap(), STILL);
    assert_eq!(run(&mut guard, &mut now, 2), (State::Hold, Some(Rule::AwaitingFresh)));
    assert_eq!(run(&mut guard, &mut now, 1), (State::Run, None));
}

#[test]
fn a_limit_of_age_is_not_exceeded_by_reaching_it() {
    let (mut guard, mut now) = (guard("clock"), Duration::ZERO);
    run(&mut guard, &mut now, 1);
    assert_eq!(guard.tick(now + Duration::from_millis(125), Ok(&STILL)).state, State::Run);
}

#[test]
fn in_lockstep_nothing_becomes_stale_and_one_observation_resumes() {
    let (mut guard, mut now) = (guard("observation"), Duration::ZERO);
    run(&mut guard, &mut now, 1);
    now += Duration::from_secs(3600);
    assert_eq!(guard.tick(now, Ok(&STILL)).state, State::Run);
    guard.observe(now, &[f64::NAN, 0.0, 0.0]);
    let verdict = guard.tick(now, Ok(&STILL));
    assert_eq!((verdict.state, verdict.reason), (State::Hold, Some(Rule::ObservationNotFinite)));
    assert_eq!(run(&mut guard, &mut now, 1), (State::Run, None));
}

#[test]
fn what_is_not_finite_is_held_at_the_last_finite_place() {
    let (mut guard, mut now) = (guard("clock"), Duration::ZERO);
    run(&mut guard, &mut now, 3);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(!guard.observe(now, &[0.0, 0.0, bad]));
        let verdict = guard.tick(now, Ok(&STILL));
        assert_eq!(verdict.reason, Some(Rule::ObservationNotFinite));
        assert_eq!(verdict.command.unwrap(), STILL);
        assert_eq!(run(&mut guard, &mut now, 3), (State::Run, None));
        let verdict = guard.tick(now, Ok(&[0.5, bad, 0.0, 0.0]));
        assert_eq!((verdict.state, verdict.reason), (State::Hold, Some(Rule::ProposalNotFinite)));
        assert_eq!(verdict.command.unwrap(), STILL);
    }
    // A first observation that is not finite says nothing about where to hold.
    guard.reset();
    guard.observe(now, &[f64::NAN; 3]);
    assert_eq!(guard.tick(now, Ok(&STILL)).command, None);
}

#[test]
fn a_used_up_plan_and_a_failed_policy_hold_and_the_first_plan_is_awaited_in_ready() {
    let (mut guard, mut now) = (guard("observation"), Duration::ZERO);
    run(&mut guard, &mut now, 1);
    let cases = [
        (Missing::FirstPlan, State::Ready, None),
        (Missing::UsedUp, State::Hold, Some(Rule::PlanUsedUp)),
        (Missing::Failed, State::Hold, Some(Rule::PlannerFailed)),
    ];
    for (missing, state, reason) in cases {
        now += PERIOD;
        let verdict = guard.tick(now, Err(missing));
        assert_eq!((verdict.state, verdict.reason), (state, reason));
        assert_eq!(verdict.command.unwrap(), STILL);
    }
}

/// What is measured is where the robot was sent two ticks ago, less a millimetre for its load: a hold that went after it
/// would go to and fro, and down, for ever.
#[test]
fn a_hold_follows_neither_the_echo_of_its_commands_nor_a_load() {
    let (mut guard, mut now) = (guard("clock"), Duration::ZERO);
    let mut sent = vec![[0.5, 1.0]; 3];
    let mut tick = |guard: &mut Guard, proposed: Result<&[f64], Missing>| {
        now += PERIOD;
        let [x, y] = sent[sent.len() - 2];
        guard.observe(now, &[x, y - 0.001, 0.0]);
        let command = guard.tick(now, proposed).command.unwrap();
        sent.push([command[0], command[1]]);
        [command[0], command[1]]
    };
    for step in 0..9 {
        tick(&mut guard, Ok(&[0.5 + 0.05 * f64::from(step), 1.0 - 0.05 * f64::from(step), 0.0, 0.0]));
    }
    let held = tick(&mut guard, Err(Missing::UsedUp));
    for _ in 0..50 {
        assert_eq!(tick(&mut guard, Err(Missing::UsedUp)), held);
    }
    // The next hold is another one.
    for _ in 0..10 {
        tick(&mut guard, Ok(&[0.2, 1.2, 0.0, 0.0]));
    }
    assert_eq!(tick(&mut guard, Err(Missing::UsedUp)), [0.2, 1.199]);
}

#[test]
fn a_robot_that_was_moved_while_nobody_saw_it_is_held_where_it_is_found() {
    let (mut guard, mut now) = (guard("clock"), Duration::ZERO);
    run(&mut guard, &mut now, 5);
    now += Duration::from_secs(1);
    assert_eq!(guard.tick(now, Ok(&STILL)).reason, Some(Rule::ObservationStale));
    for tick in 0..2 {
        now += PERIOD;
        guard.observe(now, &[0.45, 0.9, 0.0]);
        let verdict = guard.tick(now, Ok(&STILL));
        assert_eq!(verdict.reason, Some(Rule::AwaitingFresh), "{tick}");
        assert_eq!(verdict.command.unwrap()[..2], [0.45, 0.9]);
    }
}

#[test]
fn a_hold_keeps_the_last_gripper_value_and_zeroes_deltas() {
    let (mut guard, mut now) = (guard("clock"), Duration::ZERO);
    run(&mut guard, &mut now, 1);
    guard.tick(now, Ok(&[0.5, 1.0, 0.75, 0.25]));
    let verdict = guard.tick(now, Err(Missing::UsedUp));
    assert_eq!(verdict.command.unwrap(), [0.5, 1.0, 0.75, 0.0]);
}

#[test]
fn a_stop_latches_through_everything_but_a_release_with_fresh_observations() {
    let (mut guard, mut now) = (guard("clock"), Duration::ZERO);
    run(&mut guard, &mut now, 3);
    guard.stop();
    assert_eq!(guard.tick(now, Ok(&STILL)).command, None);
    assert_eq!(guard.release(now), Err(NotFresh { have: 0, need: 3 }));
    guard.reset();
    assert_eq!(run(&mut guard, &mut now, 3), (State::Stopped, Some(Rule::EmergencyStop)));
    // Repeated stops do not matter, and observations that have become stale do not release.
    guard.stop();
    let later = now + Duration::from_secs(1);
    assert_eq!(guard.release(later), Err(NotFresh { have: 0, need: 3 }));
    assert_eq!(guard.release(now), Ok(()));
    assert_eq!(run(&mut guard, &mut now, 1), (State::Run, None));
}

#[test]
fn a_lost_heartbeat_holds_unless_observations_still_come() {
    let mut slow = robot("clock");
    slow.staleness_secs = Some(2.0);
    let mut guard = Guard::new(&slow, |name| (name == "joints").then_some(0));
    let mut now = Duration::from_secs(1);
    guard.observe(now, &GOOD);
    let late = now + Duration::from_millis(300);
    assert_eq!(guard.tick(late, Ok(&STILL)).state, State::Run);
    guard.heartbeat(now);
    assert_eq!(guard.tick(late, Ok(&STILL)).reason, Some(Rule::HeartbeatLost));
    now = late;
    assert_eq!(run(&mut guard, &mut now, 3), (State::Run, None));
}

#[test]
fn the_robots_own_limits_tighten_those_of_the_file() {
    let mut config = GuardConfig::new(&robot("observation"), |name| (name == "joints").then_some(0));
    config.tighten(&[-9.0, -9.0, 0.0, -0.5], &[0.25, 9.0, 1.0, 0.5]);
    let (mut guard, mut now) = (Guard::with(config), Duration::ZERO);
    guard.observe(now, &[0.2, 1.0, 0.0]);
    now += PERIOD;
    assert_eq!(guard.tick(now, Ok(&[1.0, 1.0, 0.0, 0.0])).command.unwrap(), [0.25, 1.0, 0.0, 0.0]);
}

/// Ten million ticks of whatever an adversary can send: every command is finite, within the position limits, and no
/// further from the one before than its velocity allows.
#[test]
fn no_input_whatever_gets_a_command_out_of_its_limits() {
    let (low, high) = ([-1.0, -2.0, 0.0, -0.5], [1.0, 2.0, 1.0, 0.5]);
    let velocity = [2.0, 4.0, 0.0, 6.0];
    let mut seed = 0_u64;
    let mut random = move || {
        seed = nudge_control::split_mix_64(seed);
        seed
    };
    let nasty = |bits: u64| match bits % 16 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => f64::MAX,
        4 => f64::MIN,
        5 => f64::from_bits(bits),
        6 => -0.0,
        _ => (bits >> 11) as f64 / (1_u64 << 51) as f64 - 2.0,
    };
    for pace in ["clock", "observation"] {
        let mut guard = guard(pace);
        let mut now = Duration::ZERO;
        let mut before: Option<(Duration, [f64; 4])> = None;
        let mut sent = 0_u64;
        for _ in 0..5_000_000 {
            let event = random();
            now += Duration::from_micros(random() % if event % 97 == 0 { 400_000 } else { 60_000 });
            match event % 101 {
                0 => guard.stop(),
                1..=4 => {
                    let _latched = guard.release(now);
                }
                5 | 6 => {
                    if event % 101 == 5 {
                        guard.reset()
                    } else {
                        guard.publisher_changed()
                    }
                    before = None;
                }
                7..=9 => guard.heartbeat(now),
                10..=80 => {
                    let bits = [random(), random(), random()];
                    let tame = event % 3 > 0;
                    let value = |bits: u64| if tame { (bits % 5) as f64 - 2.0 } else { nasty(bits) };
                    guard.observe(now, &bits.map(value));
                }
                _ => {}
            }
            let action = [nasty(random()), nasty(random()), nasty(random()), nasty(random())];
            let calm = [0.9, -1.9, 0.5, 0.4];
            let proposed = match random() % 8 {
                0 => Err(Missing::UsedUp),
                1 => Err(Missing::FirstPlan),
                2 => Ok(&action[..3]),
                3..=5 => Ok(&action[..]),
                _ => Ok(&calm[..]),
            };
            let Some(command) = guard.tick(now, proposed).command else {
                before = None;
                continue;
            };
            sent += 1;
            let command: [f64; 4] = command.try_into().unwrap();
            for axis in 0..4 {
                let value = command[axis];
                assert!(value.is_finite() && (low[axis]..=high[axis]).contains(&value), "{command:?}");
                let dt = before.map_or(PERIOD, |(at, _)| (now - at).min(PERIOD)).as_secs_f64();
                let from = if axis == 3 { Some(0.0) } else { before.map(|(_, command)| command[axis]) };
                // The gripper's velocity has no limit.
                if let Some(from) = from.filter(|_| axis != 2) {
                    assert!((value - from).abs() <= velocity[axis] * dt + 1e-12, "{value} from {from}");
                }
            }
            before = Some((now, command));
        }
        assert!(sent > 1_000_000, "{pace}: the test hardly sent anything");
    }
}
