//! What does not depend on the machine's mood: instructions and allocations of a plan and of a control tick, with bounds.
//!
//! A bound lies a tenth above what was counted when it was written; the figure stands beside it. Whoever makes something
//! faster lowers its bound.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::Command;
use std::time::Duration;

use nudge_control::{
    Action, ActionChunk, Horizon, Observation, ObservationWindow, PlanRequest, Policy, RecedingHorizon,
};
use nudge_policy::{DiffusionPolicy, NetworkConfig, PlanOptions, Precision, SamplerConfig, TrainConfig};
use nudge_runtime::{Guard, Missing, RobotFile};

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more, and nobody who asks.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// The network of 5.4 million parameters on Push-T, DDIM with 2 steps: valgrind takes its time over every fused multiplication.
fn policy(precision: Precision) -> DiffusionPolicy {
    let mut config = TrainConfig::from_toml(include_str!("../configs/push_t.toml")).unwrap();
    let NetworkConfig::ConditionalUnet1d(network) = &mut config.policy.network;
    network.down_dims = vec![64, 128, 256];
    network.diffusion_step_embed_dim = 256;
    config.policy.sampler = SamplerConfig::ddim(2);
    DiffusionPolicy::untrained(&config, PlanOptions { precision: Some(precision), ..PlanOptions::default() })
        .unwrap()
}

fn request(seed: u64) -> PlanRequest {
    let number = |index: u64| ((seed * 37 + index * 11) % 100) as f64 / 50.0 - 1.0;
    let observation = |step: u64| Observation((0..18).map(|d| number(step * 18 + d)).collect());
    PlanRequest {
        step: seed,
        window: ObservationWindow((0..2).map(observation).collect()),
        committed: Vec::new(),
        hurried: false,
        noise_seed: seed,
    }
}

/// Seven joints at 100 Hz, in the middle of a plan.
struct Arm {
    guard: Guard,
    horizon: RecedingHorizon,
    ticks: u32,
}

const JOINTS: [f64; 7] = [0.1, -0.2, 0.3, -1.5, 0.0, 1.0, 0.5];

const ROBOT: &str = r#"
name = "arm"
prefix = "arm"
pace = "clock"
control_hz = 100.0
session = { robot = {}, controller = {} }
observation = [{ name = "joints", shape = [7] }]
[[action]]
name = "joints"
shape = [7]
limits = { low = [-2, -2, -2, -2, -2, -2, -2], high = [2, 2, 2, 2, 2, 2, 2] }
velocity = [2, 2, 2, 2, 2, 2, 2]
measured_by = "joints"
"#;

/// With every limit that the guard knows.
const EVERY_LIMIT: &str = r#"
acceleration = [10, 10, 10, 10, 10, 10, 10]
jerk = [1000, 1000, 1000, 1000, 1000, 1000, 1000]
[tool]
action = "joints"
speed = 0.5
low = [-0.7, -0.7, -0.1]
high = [0.7, 0.7, 1.2]
tip = { xyz = [0.0, 0.0, 0.1] }
joints = [
    { xyz = [0.0, 0.0, 0.3] },
    { axis = [0.0, 1.0, 0.0] },
    { xyz = [0.0, 0.0, 0.3] },
    { axis = [0.0, 1.0, 0.0] },
    { xyz = [0.0, 0.0, 0.3] },
    { axis = [0.0, 1.0, 0.0] },
    { xyz = [0.0, 0.0, 0.1] },
]
"#;

fn guard(robot: &str) -> Guard {
    Guard::new(&RobotFile::parse(robot).unwrap(), |name| (name == "joints").then_some(0))
}

impl Arm {
    fn new() -> Self {
        let guard = guard(ROBOT);
        let shape = Horizon { observed: 2, predicted: 512, executed: 500 };
        let mut horizon = RecedingHorizon::new(shape, 0, 0).unwrap();
        horizon.observe(Observation(JOINTS.to_vec()));
        let asked = horizon.request().unwrap();
        let actions = vec![Action(JOINTS.to_vec()); 500];
        horizon.accept(ActionChunk { first_step: asked.step, actions }).unwrap();
        Self { guard, horizon, ticks: 0 }
    }

    /// A tick, but for the observation's own memory, which comes with the message.
    fn tick(&mut self, seen: Observation) {
        self.ticks += 1;
        let now = Duration::from_millis(10) * self.ticks;
        self.guard.observe(now, &seen.0);
        self.horizon.observe(seen);
        let action = self.horizon.next_action();
        let proposed = action.as_ref().map_or(Err(Missing::UsedUp), |action| Ok(action.0.as_slice()));
        assert!(std::hint::black_box(self.guard.tick(now, proposed)).command.is_some());
    }
}

/// Does some work once to warm up, then as that which is counted: by callgrind when it runs this program, and its
/// allocations in any case.
fn counted<T>(state: &mut T, mut work: impl FnMut(&mut T)) -> u64 {
    work(state);
    allocations(|| {
        callgrind(START_INSTRUMENTATION);
        work(state);
        callgrind(STOP_INSTRUMENTATION);
    })
}

/// From `callgrind.h`.
const START_INSTRUMENTATION: u64 = 0x4354_0004;
const STOP_INSTRUMENTATION: u64 = 0x4354_0005;

/// Tells callgrind something; does nothing where it does not run this program.
fn callgrind(request: u64) {
    #[cfg(target_arch = "x86_64")]
    {
        let arguments = [request, 0, 0, 0, 0, 0];
        // SAFETY: valgrind knows this sequence (`valgrind.h`) and reads the six numbers; for a processor it turns a register
        // twice around itself.
        unsafe {
            std::arch::asm!(
                "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
                in("rax") arguments.as_ptr(), inout("rdx") 0_u64 => _, out("rdi") _,
            );
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = request;
}

fn count_one_plan(precision: Precision) -> u64 {
    let mut policy = policy(precision);
    let request = [request(1)];
    counted(&mut policy, |policy| {
        let plan = policy.predict(&request).unwrap();
        assert!(plan[0].actions.iter().flat_map(|action| &action.0).all(|number| number.is_finite()));
    })
}

#[test]
fn a_plan_in_f32_allocates_no_more_than_its_input_and_output() {
    assert_at_most("allocations of a plan", count_one_plan(Precision::F32), PLAN_ALLOCATIONS);
}

#[test]
fn a_plan_in_bf16_allocates_no_more_than_its_input_and_output() {
    assert_at_most("allocations of a plan", count_one_plan(Precision::Bf16), PLAN_ALLOCATIONS);
}

#[test]
fn a_tick_allocates_nothing() {
    let mut seen = vec![Observation(JOINTS.to_vec()); 2];
    assert_eq!(counted(&mut Arm::new(), |arm| arm.tick(seen.pop().unwrap())), 0);
}

/// The whole guard while an arm is sent to and fro faster than its limits allow, a thousand ticks of it.
#[test]
fn the_whole_guard_allocates_nothing() {
    let mut driven = (guard(&format!("{ROBOT}{EVERY_LIMIT}")), 0_u32);
    let allocated = counted(&mut driven, |(guard, tick)| {
        for _ in 0..1000 {
            *tick += 1;
            let wave = |joint: usize| 2.0 * (f64::from(*tick) * 0.01 + joint as f64).sin();
            let proposed: [f64; 7] = std::array::from_fn(wave);
            let now = Duration::from_millis(10) * *tick;
            guard.observe(now, &proposed);
            assert!(std::hint::black_box(guard.tick(now, Ok(&proposed))).command.is_some());
        }
    });
    assert_eq!(allocated, 0);
}

/// Counted: 21, of which 15 are the chunk's actions. The engine itself allocates nothing; the others are conditions, noise,
/// samples and lists.
const PLAN_ALLOCATIONS: u64 = 22;
/// Counted: 8,606,587.
const PLAN_F32_INSTRUCTIONS: u64 = 9_470_000;
/// Counted: 9,742,971; without AVX-512 each weight has to be widened.
const PLAN_BF16_INSTRUCTIONS: u64 = 10_720_000;
/// Counted: 1,200.
const TICK_INSTRUCTIONS: u64 = 1_250;
/// Counted: 17,723, on average over a thousand ticks.
const GUARD_INSTRUCTIONS: u64 = 19_500;

#[test]
fn a_plan_in_f32_takes_so_many_instructions() {
    let counted = instructions("a_plan_in_f32_allocates");
    check_instructions("a plan in f32", counted, PLAN_F32_INSTRUCTIONS);
}

#[test]
fn a_plan_in_bf16_takes_so_many_instructions() {
    let counted = instructions("a_plan_in_bf16_allocates");
    check_instructions("a plan in bf16", counted, PLAN_BF16_INSTRUCTIONS);
}

#[test]
fn a_tick_takes_so_many_instructions() {
    check_instructions("a tick", instructions("a_tick_allocates"), TICK_INSTRUCTIONS);
}

#[test]
fn a_tick_of_the_whole_guard_takes_so_many_instructions() {
    let counted = instructions("the_whole_guard_allocates").map(|thousand| thousand / 1000);
    check_instructions("a tick of the whole guard", counted, GUARD_INSTRUCTIONS);
}

fn check_instructions(what: &str, counted: Option<u64>, most: u64) {
    match counted {
        Some(counted) => assert_at_most(&format!("instructions of {what}"), counted, most),
        None => eprintln!(
            "skipped: the instructions of {what} are counted by valgrind, in release, on x86-64 with AVX2 and FMA"
        ),
    }
}

fn assert_at_most(what: &str, counted: u64, most: u64) {
    eprintln!("{what}: {counted}, and at most {most} are allowed");
    assert!(counted <= most, "{what}: {counted}, and at most {most} are allowed");
}

/// Runs a test of this program under callgrind; the instructions of what it counts.
/// `None` where there is no valgrind, and where other instructions are taken than those for which the bounds were set: on a
/// processor without AVX2 (valgrind itself has no AVX-512), or without optimisation.
fn instructions(test: &str) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    let same_ways =
        !cfg!(debug_assertions) && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let same_ways = false;
    let installed =
        || Command::new("valgrind").arg("--version").output().is_ok_and(|said| said.status.success());
    if !same_ways || !installed() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--instr-atstart=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args([test, "--test-threads", "1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&out).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.expect("callgrind writes a total").trim().parse().unwrap();
    assert!(total > 0, "{test} counts nothing");
    Some(total)
}
