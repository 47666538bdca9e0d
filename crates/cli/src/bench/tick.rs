//! `nudge bench tick`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Args;
use nudge_control::{Action, ActionChunk, Horizon, Observation, RecedingHorizon};
use nudge_runtime::{Guard, Missing, RobotFile};
use serde::Serialize;

use super::machine;
use crate::checkpoint::Device;
use crate::output::{self, say};

/// Time the control tick of a seven-joint arm: what must never be late
///
/// `guard` is the gate that every command leaves through: staleness, limits, velocity. `tick` is all that a control
/// step computes: the observation into the history, the plan's next action, and the guard. Bus and planner run beside it.
#[derive(Args)]
pub struct Tick {
    /// Ticks that are timed
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    ticks: u64,

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
    guard: Nanos,
    tick: Nanos,
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
[action.limits]
low = [-2.9, -1.8, -2.9, -3.1, -2.9, -0.1, -2.9]
high = [2.9, 1.8, 2.9, 0.0, 2.9, 3.8, 2.9]
"#;

impl Tick {
    pub fn run(self) -> Result<ExitCode> {
        let ticks = usize::try_from(self.ticks)?;
        let report = Report {
            device_name: machine::name(Device::Cpu),
            joints: JOINTS,
            clock_ns: time(ticks.min(100_000), |_| {}).median_ns,
            guard: guard_alone(ticks)?,
            tick: whole_tick(ticks)?,
        };
        if self.json {
            output::print_json(&report)?;
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Joint angles that move a little every tick, some beyond their limits.
fn angles(tick: usize) -> [f64; JOINTS] {
    std::array::from_fn(|joint| 2.0 * (tick as f64 * 0.01 + joint as f64).sin())
}

fn guard() -> Result<Guard> {
    let robot = RobotFile::parse(ARM).map_err(|problem| anyhow!("the arm's file: {problem}"))?;
    Ok(Guard::new(&robot, |name| (name == "joints").then_some(0)))
}

fn guard_alone(ticks: usize) -> Result<Nanos> {
    let mut guard = guard()?;
    let proposals: Vec<_> = (0..1024).map(angles).collect();
    let mut now = Duration::ZERO;
    Ok(time(ticks, |tick| {
        let action = &proposals[tick % proposals.len()];
        now += PERIOD;
        guard.observe(now, action);
        std::hint::black_box(guard.tick(now, Ok(action)));
    }))
}

fn whole_tick(ticks: usize) -> Result<Nanos> {
    let mut guard = guard()?;
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

/// Times each tick, after as many again up to a hundred thousand to warm up.
fn time(ticks: usize, mut tick: impl FnMut(usize)) -> Nanos {
    (0..ticks.min(100_000)).for_each(&mut tick);
    let mut nanos: Vec<u64> = Vec::with_capacity(ticks);
    for index in 0..ticks {
        let begun = Instant::now();
        tick(index);
        nanos.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    nanos.sort_unstable();
    let at = |share: f64| nanos[((ticks - 1) as f64 * share) as usize];
    Nanos { n: ticks, median_ns: at(0.5), p99_ns: at(0.99), p999_ns: at(0.999), max_ns: at(1.0) }
}

fn print(report: &Report) {
    let mut table = output::table(["7 joints", "median, ns", "p99", "p99.9", "most", "n"]);
    for (name, nanos) in [("guard", report.guard), ("tick", report.tick)] {
        let cells = [nanos.median_ns, nanos.p99_ns, nanos.p999_ns, nanos.max_ns, nanos.n as u64];
        table.add_row([vec![name.to_owned()], cells.map(|cell| cell.to_string()).to_vec()].concat());
    }
    say!("{table}");
    say!("on {}; {} ns of each are the clock's own", report.device_name, report.clock_ns);
}
