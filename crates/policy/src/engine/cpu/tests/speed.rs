//! How long plans take. Asserts nothing: run by name, with `--ignored --nocapture`.

use super::*;

/// Seconds that this thread has had a core.
fn thread_secs() -> f64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    times.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e-9
}

/// The least of five means over some plans, in milliseconds a plan.
fn plan_takes(engine: &mut dyn PlanEngine, host: &HostNetwork, batch: usize) -> f64 {
    engine.set_steps(&steps(SamplerConfig::ddim(10))).unwrap();
    let (conditions, noise) = (conditions(host, batch), noise(&vec![7; batch], 1, 32));
    let mut samples = vec![0.0; batch * 32];
    let mut mean = |plans: usize| {
        let before = thread_secs();
        (0..plans).for_each(|_| engine.plan(Asked::new(&conditions, &noise), &mut samples).unwrap());
        (thread_secs() - before) * 1e3 / plans as f64
    };
    // The clock of a thread moves in steps of milliseconds.
    let plans = (200.0 / mean(2).max(2.0)).ceil() as usize;
    (0..5).map(|_| mean(plans)).fold(f64::MAX, f64::min)
}

fn small() -> HostNetwork {
    push_t(&[64, 128, 256])
}

fn paper() -> HostNetwork {
    push_t(&[256, 512, 1024])
}

/// `cargo test --release -p nudge -p nudge-policy --lib -- --ignored --nocapture plans_take`
#[test]
#[ignore = "measures; asserts nothing"]
fn plans_take_this_long() {
    for (name, host) in [("small", small()), ("paper", paper())] {
        println!("{name}: {} parameters", host.list.count());
        for batch in [1, 64] {
            let mut graph = GraphEngine::new(host.clone(), DeviceChoice::Cpu).unwrap();
            println!("{name} graph batch {batch}: {:.2} ms", plan_takes(&mut graph, &host, batch));
            for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
                let mut engine = CpuEngine::new(&host, precision);
                println!(
                    "{name} {precision:?} batch {batch}: {:.2} ms",
                    plan_takes(&mut engine, &host, batch)
                );
            }
        }
    }
}

#[test]
#[ignore = "measures; asserts nothing"]
fn small_plans_take_this_long_on_other_instructions() {
    let host = small();
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        for machine in Machine::all(precision) {
            let mut engine = CpuEngine::on(&host, precision, machine);
            let [one, many] = [1, 16].map(|batch| plan_takes(&mut engine, &host, batch));
            println!("{precision:?} {machine:?}: batch 1 {one:.2} ms, batch 16 {many:.2} ms");
        }
    }
}

/// `cargo test --release -p nudge -p nudge-policy --lib -- --ignored --nocapture again_and_again_small`
#[test]
#[ignore = "to be profiled"]
fn again_and_again_small() {
    again_and_again(&small());
}

#[test]
#[ignore = "to be profiled"]
fn again_and_again_paper() {
    again_and_again(&paper());
}

fn again_and_again(host: &HostNetwork) {
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let start = std::time::Instant::now();
        let mut engine = CpuEngine::new(host, precision);
        println!("{precision:?}: packed in {:?}", start.elapsed());
        println!("{precision:?}: {:.2} ms", plan_takes(&mut engine, host, 1));
        for threads in [1, 2] {
            engine.use_threads(threads);
            let (conditions, noise) = (conditions(host, 1), noise(&[7], 1, 32));
            let mut samples = vec![0.0; 32];
            let once = |_| {
                let start = std::time::Instant::now();
                engine.plan(Asked::new(&conditions, &noise), &mut samples).unwrap();
                start.elapsed().as_secs_f64() * 1e3
            };
            let mut times: Vec<f64> = (0..60).map(once).collect();
            times.sort_by(f64::total_cmp);
            println!(
                "  {threads} threads, by the clock: least {:.2} ms, median {:.2} ms",
                times[0], times[30]
            );
        }
    }
}
