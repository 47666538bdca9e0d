use super::*;
use crate::guard::{Guard, GuardConfig, State};
use crate::robot_file::RobotFile;

/// A joint planned for at 10 Hz and commanded at 500 Hz.
const JOINT: &str = r#"
        name = "joint"
        prefix = "joint"
        pace = "clock"
        control_hz = 10.0
        command_hz = 500.0
        [session]
        robot = {}
        controller = {}
        [[observation]]
        name = "joint"
        shape = [1]
        [[action]]
        name = "joint"
        shape = [1]
        limits = { low = [-2.0], high = [2.0] }
        velocity = [3.0]
        acceleration = [30.0]
        jerk = [3000.0]
        measured_by = "joint"
    "#;

struct Bench {
    fast: FastLoop,
    link: Arc<Link>,
    now: Duration,
    sent: Vec<f64>,
}

const TICK: Duration = Duration::from_millis(2);

impl Bench {
    fn new() -> Self {
        let robot = RobotFile::parse(JOINT).unwrap();
        let config = GuardConfig::new(&robot, |_| Some(0));
        let link = Arc::new(Link::new(1, 1));
        let signals = Arc::new(Signals::new());
        let fast = FastLoop::new(Guard::with(config), link.clone(), signals, (1, 0.1));
        Self { fast, link, now: Duration::from_secs(1), sent: Vec::new() }
    }

    /// Ticks, observing before each.
    fn run(&mut self, ticks: u32) -> (State, Option<crate::guard::Rule>) {
        for _ in 0..ticks {
            self.now += TICK;
            self.link.observe(self.now, 0.0, &[self.sent.last().copied().unwrap_or(0.0)]);
            self.fast.tick(self.now);
            let mut word = [0];
            while self.link.commands.pop(&mut word) {
                self.sent.push(f64::from_bits(word[0]));
            }
        }
        let told = self.link.told().unwrap();
        (told.state, told.reason)
    }

    /// The greatest n-th difference of all sent, in units per second to the n.
    fn rate(&self, order: u32) -> f64 {
        let mut values = self.sent.clone();
        for _ in 0..order {
            values = values.windows(2).map(|pair| (pair[1] - pair[0]) / 0.002).collect();
        }
        values.iter().fold(0.0, |most, value| most.max(value.abs()))
    }
}

fn wave(step: u32) -> f64 {
    0.3 * (f64::from(step) * 0.3).sin()
}

#[test]
fn plans_at_ten_hertz_become_a_smooth_stream_through_every_action() {
    let mut bench = Bench::new();
    for step in 0..40 {
        let plan: Vec<f64> = (step..step + 6).map(wave).collect();
        bench.link.move_on(Motion::Plan(&plan));
        // The control loop's ticks jitter by one of the guard's.
        assert_eq!(bench.run(if step % 3 == 0 { 51 } else { 50 }).0, State::Run);
    }
    let nearest =
        |place: f64| bench.sent.iter().map(|value| (value - place).abs()).fold(f64::INFINITY, f64::min);
    for step in 5..39 {
        assert!(nearest(wave(step)) < 2e-3, "step {step}: {}", nearest(wave(step)));
    }
    // It begins at rest, and is on its way soon. The wave itself: 0.9 /s, 2.7 /s², 8.1 /s³; quintics between its points stay near that, and a staircase would
    // reach every limit.
    bench.sent.drain(..400);
    let rates = [bench.rate(1), bench.rate(2), bench.rate(3)];
    println!("velocity, acceleration, jerk: {rates:?}");
    assert!(rates[0] < 1.5 && rates[1] < 12.0 && rates[2] < 1500.0, "{rates:?}");
}

#[test]
fn a_control_loop_that_falls_silent_leaves_a_robot_at_rest_at_the_end_of_its_plan() {
    let mut bench = Bench::new();
    bench.link.move_on(Motion::Plan(&[0.0, 0.02, 0.04, 0.06, 0.08]));
    assert_eq!(bench.run(200).0, State::Run);
    assert_eq!(bench.run(100), (State::Hold, Some(crate::guard::Rule::PlanUsedUp)));
    let rest = *bench.sent.last().unwrap();
    assert!((rest - 0.08).abs() < 1e-6, "{rest}");
    bench.run(100);
    assert_eq!(*bench.sent.last().unwrap(), rest);
    assert!(bench.rate(2) <= 30.0 * (1.0 + 1e-6) && bench.rate(3) <= 3000.0 * (1.0 + 1e-3));
}

#[test]
fn a_stream_of_commands_is_bridged_for_two_ticks_and_then_slowed_down() {
    let mut bench = Bench::new();
    for tick in 0..400 {
        bench.link.move_on(Motion::Command(&[0.001 * f64::from(tick)]));
        // Every tenth command is late by a tick, and so comes with the next.
        bench.run(if tick % 10 == 9 { 0 } else { 1 });
    }
    assert_eq!(bench.run(3).0, State::Run);
    assert_eq!(bench.run(1), (State::Hold, Some(crate::guard::Rule::PlanUsedUp)));
    bench.run(300);
    let rest = *bench.sent.last().unwrap();
    bench.run(10);
    assert_eq!(*bench.sent.last().unwrap(), rest);
    assert!(bench.rate(2) <= 30.0 * (1.0 + 1e-6) && bench.rate(3) <= 3000.0 * (1.0 + 1e-3));
}

#[test]
fn a_stop_latches_until_a_release_with_fresh_observations_and_a_reset_begins_at_the_measured_place() {
    let mut bench = Bench::new();
    bench.link.move_on(Motion::Plan(&[0.5, 1.0]));
    bench.run(50);
    bench.link.stop.store(true, Ordering::Release);
    let sent = bench.sent.len();
    assert_eq!(bench.run(1).0, State::Stopped);
    bench.link.releases_asked.store(1, Ordering::Release);
    bench.run(1);
    assert!(bench.link.release_answer(1).unwrap().is_err());
    bench.run(3);
    assert_eq!(bench.sent.len(), sent);
    bench.link.releases_asked.store(2, Ordering::Release);
    bench.run(1);
    assert_eq!(bench.link.release_answer(2), Some(Ok(())));
    bench.link.resets.fetch_add(1, Ordering::Release);
    let place = *bench.sent.last().unwrap();
    assert_eq!(bench.run(1).0, State::Ready);
    assert_eq!(*bench.sent.last().unwrap(), place);
    // What was seen before a reset counts no longer.
    bench.link.observe(bench.now, 0.0, &[9.0]);
    bench.link.resets.fetch_add(1, Ordering::Release);
    bench.now += TICK;
    bench.fast.tick(bench.now);
    assert_eq!(bench.link.told().unwrap().state, State::Init);
}
