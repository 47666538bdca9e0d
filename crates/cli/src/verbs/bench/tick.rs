//! `nudge bench tick`

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Args;
use nudge_control::{Action, ActionChunk, Horizon, Observation, RecedingHorizon};
use nudge_runtime::{Guard, Missing, RobotFile, TickTimes, time_guard_thread};
use serde::Serialize;

use super::machine;
use crate::output::{self, say};
use crate::verbs::checkpoint::Device;

/// Time the control tick of a seven-joint arm: what must never be late
///
/// `guard` is the gate that every command leaves through, with limits on position and velocity; `guard_jerk` that with
/// limits on acceleration and jerk too, `guard_tool` also with those of the tool. Two guards tick in turn on the same inputs
/// and compute the same: `undisturbed` is the lesser time of the two, without what the machine interrupted one for. `tick`
/// is all that a control step computes: the observation into the history, the plan's next action, and the guard. Bus and
/// planner run beside it. With --hz the guard's own thread runs for --secs, and how late its ticks begin is told.
#[derive(Args)]
pub struct Tick {
    /// Ticks that are timed
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    ticks: u64,

    /// Run the guard's thread at so many commands a second
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u64).range(10..=1000))]
    hz: Option<u64>,

    /// For so many seconds
    #[arg(long, default_value_t = 20, value_name = "SECS", requires = "hz", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    secs: u64,

    /// While every core is kept busy
    #[arg(long, requires = "hz")]
    load: bool,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    device_name: String,
    joints: usize,
    /// What reading the clock twice takes, which is in every figure.
    clock_ns: u64,
    guard: GuardNanos,
    guard_jerk: GuardNanos,
    guard_tool: GuardNanos,
    tick: Nanos,
}

/// What a guard's tick took, and the lesser time of two guards that compute the same.
#[derive(Clone, Copy, Debug, Serialize)]
struct GuardNanos {
    #[serde(flatten)]
    all: Nanos,
    undisturbed: Nanos,
}

/// How the guard's thread kept its time.
#[derive(Serialize)]
struct Kept {
    device_name: String,
    joints: usize,
    command_hz: u64,
    secs: u64,
    loaded: bool,
    times: TickTimes,
}

/// Durations in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Nanos {
    n: usize,
    median_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
}

const JOINTS: usize = 7;
const HORIZON: Horizon = Horizon { observed: 2, predicted: 16, executed: 8 };
const PERIOD: Duration = Duration::from_millis(10);

/// An arm at 100 Hz; `JOINTS` of them.
const ARM: &str = r#"
name = "arm"
prefix = "arm"
pace = "clock"
control_hz = 100.0
[session]
robot = {}
controller = {}
[[observation]]
name = "joints"
shape = [7]
unit = "rad"
[[action]]
name = "joints"
shape = [7]
unit = "rad"
measured_by = "joints"
velocity = [2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0]
limits = { low = [-2.9, -1.8, -2.9, -3.1, -2.9, -0.1, -2.9], high = [2.9, 1.8, 2.9, 0.0, 2.9, 3.8, 2.9] }
"#;

const JERK: &str = r#"
acceleration = [10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0]
jerk = [1000.0, 1000.0, 1000.0, 1000.0, 1000.0, 1000.0, 1000.0]
"#;

/// The chain of a Franka arm and its hand.
const TOOL: &str = r#"
[tool]
action = "joints"
speed = 0.5
low = [-0.7, -0.7, -0.1]
high = [0.7, 0.7, 1.2]
tip = { xyz = [0.0, 0.0, 0.2104] }
joints = [
    { xyz = [0.0, 0.0, 0.333] },
    { rpy = [-1.5707963, 0.0, 0.0] },
    { xyz = [0.0, -0.316, 0.0], rpy = [1.5707963, 0.0, 0.0] },
    { xyz = [0.0825, 0.0, 0.0], rpy = [1.5707963, 0.0, 0.0] },
    { xyz = [-0.0825, 0.384, 0.0], rpy = [-1.5707963, 0.0, 0.0] },
    { rpy = [1.5707963, 0.0, 0.0] },
    { xyz = [0.088, 0.0, 0.0], rpy = [1.5707963, 0.0, 0.0] },
]
"#;

impl Tick {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(command_hz) = self.hz {
            return self.keep_time(command_hz);
        }
        let ticks = usize::try_from(self.ticks)?;
        let report = Report {
            device_name: machine::name(Device::Cpu),
            joints: JOINTS,
            clock_ns: time(ticks.min(100_000), |_| {}).median_ns,
            guard: guard_alone("", ticks)?,
            guard_jerk: guard_alone(JERK, ticks)?,
            guard_tool: guard_alone(&format!("{JERK}{TOOL}"), ticks)?,
            tick: whole_tick(ticks)?,
        };
        if self.json {
            output::print_json(&report)?;
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn keep_time(&self, command_hz: u64) -> Result<ExitCode> {
        let mut robot = robot(&format!("{JERK}{TOOL}"))?;
        (robot.control_hz, robot.command_hz) = (10.0_f64.min(command_hz as f64), Some(command_hz as f64));
        let over = AtomicBool::new(false);
        let times = std::thread::scope(|scope| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 0..if self.load { cores } else { 0 } {
                scope.spawn(|| keep_busy(&over));
            }
            let times = time_guard_thread(&robot, Duration::from_secs(self.secs));
            over.store(true, Ordering::Relaxed);
            times
        })?;
        let (device_name, loaded) = (machine::name(Device::Cpu), self.load);
        let kept = Kept { device_name, joints: JOINTS, command_hz, secs: self.secs, loaded, times };
        if self.json {
            output::print_json(&kept)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = output::table(["7 joints", "p50, us", "p99", "p99.9", "most", "n"]);
        for (name, times) in [("late by", kept.times.jitter_ms), ("guard", kept.times.guard_ms)] {
            let us = |ms: f64| format!("{:.1}", 1e3 * ms);
            let count = times.count.to_string();
            table.add_row([name, &us(times.p50), &us(times.p99), &us(times.p999), &us(times.max), &count]);
        }
        say!("{table}");
        let busy = if loaded { "every core busy" } else { "beside it nothing" };
        let ahead = if kept.times.runs_ahead { "" } else { "; the system refuses it a real-time priority" };
        say!("on {}; {command_hz} Hz for {} s, {busy}{ahead}", kept.device_name, self.secs);
        Ok(ExitCode::SUCCESS)
    }
}

/// Computes and touches memory, as a training beside it would.
fn keep_busy(over: &AtomicBool) {
    let mut numbers = vec![1.0_f64; 1 << 20];
    while !over.load(Ordering::Relaxed) {
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = (*number * 1.000_001 + index as f64).sqrt();
        }
        std::hint::black_box(&numbers);
    }
}

/// Joint angles that move a little every tick, some beyond their limits.
fn angles(tick: usize) -> [f64; JOINTS] {
    std::array::from_fn(|joint| 2.0 * (tick as f64 * 0.01 + joint as f64).sin())
}

/// The arm with what `more` says of its action and behind it.
fn robot(more: &str) -> Result<RobotFile> {
    RobotFile::parse(&format!("{ARM}{more}")).map_err(|problem| anyhow!("the arm's file: {problem}"))
}

fn guard(more: &str) -> Result<Guard> {
    Ok(Guard::new(&robot(more)?, |name| (name == "joints").then_some(0)))
}

fn guard_alone(more: &str, ticks: usize) -> Result<GuardNanos> {
    let mut guards = [guard(more)?, guard(more)?];
    let proposals: Vec<_> = (0..1024).map(angles).collect();
    let mut now = Duration::ZERO;
    let mut tick = |tick: usize| {
        let action = &proposals[tick % proposals.len()];
        now += PERIOD;
        guards.each_mut().map(|guard| {
            let begun = Instant::now();
            guard.observe(now, action);
            std::hint::black_box(guard.tick(now, Ok(action)));
            nanos(begun)
        })
    };
    (0..ticks.min(WARM_UP)).for_each(|index| _ = tick(index));
    let (all, least) = (0..ticks).map(&mut tick).map(|[one, other]| (one, one.min(other))).unzip();
    Ok(GuardNanos { all: Nanos::of(all), undisturbed: Nanos::of(least) })
}

fn whole_tick(ticks: usize) -> Result<Nanos> {
    let mut guard = guard("")?;
    let mut horizon = RecedingHorizon::new(HORIZON, 0, 0).map_err(|problem| anyhow!(problem))?;
    let actions: Vec<Action> = (0..HORIZON.executed).map(|step| Action(angles(step).to_vec())).collect();
    let mut now = Duration::ZERO;
    let mut plan: Vec<ActionChunk> = Vec::new();
    Ok(time(ticks, |tick| {
        let seen = angles(tick);
        now += PERIOD;
        guard.observe(now, &seen);
        horizon.observe(Observation(seen.to_vec()));
        if horizon.wants_plan()
            && let Some(request) = horizon.request()
        {
            plan.push(ActionChunk { first_step: request.step, actions: actions.clone() });
        }
        if let Some(chunk) = plan.pop() {
            // A plan for the step it was asked for is always taken.
            let _ = horizon.accept(chunk);
        }
        let action = horizon.next_action();
        let proposed = action.as_ref().map_or(Err(Missing::UsedUp), |action| Ok(action.0.as_slice()));
        std::hint::black_box(guard.tick(now, proposed));
    }))
}

const WARM_UP: usize = 100_000;

/// Times each tick, after as many again up to [`WARM_UP`].
fn time(ticks: usize, mut tick: impl FnMut(usize)) -> Nanos {
    (0..ticks.min(WARM_UP)).for_each(&mut tick);
    let mut timed = |index| {
        let begun = Instant::now();
        tick(index);
        nanos(begun)
    };
    Nanos::of((0..ticks).map(&mut timed).collect())
}

fn nanos(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Nanos {
    fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let n = times.len();
        let at = |share: f64| times[((n - 1) as f64 * share) as usize];
        Self { n, median_ns: at(0.5), p99_ns: at(0.99), p999_ns: at(0.999), max_ns: at(1.0) }
    }
}

fn print(report: &Report) {
    let mut table = output::table(["7 joints", "median, ns", "p99", "p99.9", "most", "n"]);
    let rows = [
        ("guard", report.guard.all),
        ("  undisturbed", report.guard.undisturbed),
        ("guard, jerk", report.guard_jerk.all),
        ("  undisturbed", report.guard_jerk.undisturbed),
        ("guard, tool", report.guard_tool.all),
        ("  undisturbed", report.guard_tool.undisturbed),
        ("tick", report.tick),
    ];
    for (name, nanos) in rows {
        let cells = [nanos.median_ns, nanos.p99_ns, nanos.p999_ns, nanos.max_ns, nanos.n as u64];
        table.add_row([vec![name.to_owned()], cells.map(|cell| cell.to_string()).to_vec()].concat());
    }
    say!("{table}");
    say!("on {}; {} ns of each are the clock's own", report.device_name, report.clock_ns);
}
