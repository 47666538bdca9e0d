//! For each rule something that goes wrong without it: every witness is content with the whole guard, and not with the
//! guard that lacks its rule.

use super::adversary::{Dice, Story};
use super::*;

const TICK: Duration = Duration::from_millis(2);

/// A joint at 500 Hz with every limit, and a tool that its two numbers beside it move along y and z.
fn config() -> GuardConfig {
    let axis = |low, high, index| AxisConfig {
        mode: ActionMode::Absolute,
        low,
        high,
        velocity: Some(1.0),
        acceleration: Some(10.0),
        jerk: Some(500.0),
        measured_by: Some(index),
    };
    let limits = ToolLimits {
        action: "place".into(),
        speed: Some(0.8),
        low: Some([-0.5; 3]),
        high: Some([0.5; 3]),
        joints: Vec::new(),
        tip: Frame::default(),
    };
    GuardConfig {
        axes: vec![axis(-0.3, 0.3, 0), axis(-2.0, 2.0, 1), axis(-2.0, 2.0, 2)],
        period_secs: 0.002,
        staleness_secs: Some(0.5),
        resume_after: 3,
        stamp_skew_secs: Some(1.0),
        hold_on_alarm: true,
        tool: Some(ToolConfig { first_axis: 0, limits }),
    }
}

/// A guard and the robot that it drives, which goes where it is told.
struct Bench {
    guard: Guard,
    now: Duration,
    place: Vec<f64>,
    /// Every command, and the state it was given in.
    sent: Vec<(State, Vec<f64>)>,
}

impl Bench {
    fn new(off: Option<Rule>, config: GuardConfig) -> Self {
        let place = vec![0.0; config.axes.len()];
        let mut guard = Guard::with(config);
        if let Some(rule) = off {
            guard.take_out(rule);
        }
        Self { guard, now: Duration::ZERO, place, sent: Vec::new() }
    }

    fn observe(&mut self) {
        self.guard.observe(self.now, &self.place.clone());
    }

    fn tick(&mut self, proposed: Result<&[f64], Missing>) -> State {
        self.now += TICK;
        let verdict = self.guard.tick(self.now, proposed);
        let state = verdict.state;
        if let Some(command) = verdict.command {
            self.sent.push((state, command.to_vec()));
            self.place = command.to_vec();
        }
        state
    }

    /// Observes and goes towards `target` for `ticks`; the last state.
    fn go(&mut self, target: &[f64], ticks: u32) -> State {
        let mut state = State::Init;
        for _ in 0..ticks {
            self.observe();
            state = self.tick(Ok(target));
        }
        state
    }

    /// The greatest n-th difference of all that was sent, in units per second to the n.
    fn rate(&self, order: u32) -> f64 {
        let mut values: Vec<Vec<f64>> = self.sent.iter().map(|(_, command)| command.clone()).collect();
        for _ in 0..order {
            values = values
                .windows(2)
                .map(|pair| pair[1].iter().zip(&pair[0]).map(|(b, a)| (b - a) / 0.002).collect())
                .collect();
        }
        values.iter().flatten().fold(0.0, |most, value| most.max(value.abs()))
    }

    fn farthest(&self, number: usize) -> f64 {
        self.sent.iter().fold(0.0, |most, (_, command)| most.max(command[number].abs()))
    }

    fn is_finite(&self) -> bool {
        self.sent.iter().all(|(_, command)| command.iter().all(|value| value.is_finite()))
    }
}

fn without_tool() -> GuardConfig {
    GuardConfig { tool: None, ..config() }
}

/// Whether a guard without `off` does what the rule is there for.
fn is_content(rule: Rule, off: Option<Rule>) -> bool {
    let mut bench = Bench::new(
        off,
        if matches!(rule, Rule::ToolSpeed | Rule::ToolWorkspace) { config() } else { without_tool() },
    );
    let there = [0.2, 0.4, 0.4];
    match rule {
        Rule::ObservationStale => {
            bench.go(&there, 10);
            (0..300).map(|_| bench.tick(Ok(&there))).last() == Some(State::Hold)
        }
        Rule::ObservationNotFinite => {
            bench.go(&there, 10);
            bench.guard.observe(bench.now, &[f64::NAN; 3]);
            let held = bench.tick(Ok(&there)) == State::Hold;
            bench.guard.publisher_changed();
            bench.tick(Ok(&there));
            held && bench.is_finite()
        }
        Rule::ProposalNotFinite => {
            bench.go(&there, 10);
            bench.go(&[f64::NAN; 3], 10) == State::Hold && bench.is_finite()
        }
        Rule::PositionLimit => {
            bench.go(&[9.0, 0.0, 0.0], 2000);
            bench.farthest(0) <= 0.3
        }
        Rule::VelocityLimit => {
            bench.go(&[0.0, 1.9, 0.0], 2000);
            bench.rate(1) <= 1.0 + 1e-9
        }
        Rule::AccelerationLimit => {
            bench.go(&[0.0, 1.9, 0.0], 2000);
            bench.rate(2) <= 10.0 + 1e-6
        }
        Rule::JerkLimit => {
            bench.go(&[0.0, 1.9, 0.0], 2000);
            bench.rate(3) <= 500.0 + 1e-3
        }
        Rule::ToolSpeed => {
            bench.go(&[0.3, 0.4, 0.4], 1000);
            let speed = |pair: &[(State, Vec<f64>)]| {
                pair[0].1.iter().zip(&pair[1].1).map(|(a, b)| (b - a).powi(2)).sum::<f64>().sqrt() / 0.002
            };
            bench.sent.windows(2).map(speed).fold(0.0, f64::max) <= 0.8 + 1e-9
        }
        Rule::ToolWorkspace => {
            bench.go(&[0.0, 1.9, 0.0], 2000);
            bench.farthest(1) <= 0.5
        }
        Rule::CommandRate => {
            bench.go(&[0.0, 1.9, 0.0], 100);
            let before = bench.place[1];
            let begun = bench.now;
            for _ in 0..40 {
                bench.now = begun;
                bench.tick(Ok(&[0.0, 1.9, 0.0]));
            }
            // All in one period: a step or two at the greatest speed.
            bench.place[1] - before <= 2.0 * 0.002
        }
        Rule::PlanUsedUp | Rule::PlannerFailed => {
            let missing = if rule == Rule::PlanUsedUp { Missing::UsedUp } else { Missing::Failed };
            bench.go(&there, 50);
            for _ in 0..200 {
                bench.observe();
                bench.tick(Err(missing));
            }
            let stood = bench.place.clone();
            bench.tick(Err(missing)) == State::Hold && bench.place == stood
        }
        Rule::PolicyAlarm => {
            bench.go(&there, 50);
            bench.guard.alarm(true);
            bench.go(&there, 1) == State::Hold
        }
        Rule::EmergencyStop => {
            bench.go(&there, 50);
            bench.guard.stop();
            let sent = bench.sent.len();
            bench.go(&there, 50) == State::Stopped && bench.sent.len() == sent
        }
        Rule::HeartbeatLost => {
            bench.go(&there, 10);
            bench.guard.heartbeat(bench.now);
            (0..150).map(|_| bench.tick(Ok(&there))).last() == Some(State::Hold)
        }
        Rule::StampSkew => {
            bench.go(&there, 10);
            let refused = [3600.0, -3600.0, f64::NAN]
                .map(|skew_secs| bench.guard.observe_stamped(bench.now, skew_secs, &[0.0; 3]));
            refused == [Err(Rule::StampSkew); 3]
        }
        Rule::AwaitingFresh => {
            bench.go(&there, 10);
            bench.guard.publisher_changed();
            [1, 1, 1].map(|ticks| bench.go(&there, ticks)) == [State::Hold, State::Hold, State::Run]
        }
    }
}

#[test]
fn every_rule_has_a_witness_that_fails_without_it() {
    for rule in Rule::ALL {
        assert!(is_content(rule, None), "{rule:?}");
        assert!(!is_content(rule, Some(rule)), "without {rule:?} nothing is missing");
    }
}

/// Stories of adversity in which the observer finds something when a limit is taken out, for each limit that it knows.
#[test]
fn the_observer_finds_every_limit_that_is_taken_out() {
    let limits = [
        Rule::PositionLimit,
        Rule::VelocityLimit,
        Rule::AccelerationLimit,
        Rule::JerkLimit,
        Rule::ToolSpeed,
        Rule::ToolWorkspace,
        Rule::CommandRate,
    ];
    for rule in limits {
        let found = (1..200).any(|seed| {
            let mut story = Story::new(seed);
            story.guard.take_out(rule);
            (0..2000).any(|_| story.tick().is_err())
        });
        assert!(found, "{rule:?}");
    }
}

#[test]
fn the_same_inputs_give_the_same_commands_bit_for_bit_also_when_they_were_written_down() {
    let mut dice = Dice(7);
    let text = serde_json::to_string(&config()).unwrap();
    let mut guards = [Guard::with(config()), Guard::with(serde_json::from_str(&text).unwrap())];
    let mut now = Duration::ZERO;
    for _ in 0..20_000 {
        now += TICK;
        let values: Vec<f64> = (0..3).map(|_| dice.between(-0.4, 0.4)).collect();
        let input = match dice.below(400) {
            0 => GuardInput::Stop,
            1..=9 => GuardInput::Release { now },
            10 => GuardInput::Reset,
            11 => GuardInput::PublisherChanged,
            12 => GuardInput::Alarm { raised: dice.one_in(2) },
            13 => GuardInput::Heartbeat { now },
            14 => GuardInput::Observe { now, skew_secs: f64::NAN, values: vec![f64::NAN; 3].into() },
            15..=99 => GuardInput::Observe { now, skew_secs: 0.0, values: values.into() },
            100..=110 => GuardInput::Tick { now, proposed: Proposal::None(Missing::UsedUp) },
            _ => GuardInput::Tick { now, proposed: Proposal::Action(values.into()) },
        };
        let read: GuardInput = serde_json::from_str(&serde_json::to_string(&input).unwrap()).unwrap();
        let [live, replayed] = &mut guards;
        let told = |verdict: Option<Verdict<'_>>| {
            verdict.map(|verdict| {
                let bits = |command: &[f64]| command.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                (verdict.state, verdict.reason, verdict.command.map(bits))
            })
        };
        assert_eq!(told(live.apply(&input)), told(replayed.apply(&read)));
    }
    assert!(guards[0].log().eq(guards[1].log()) && guards[0].log().count() == LOG_LINES);
}
