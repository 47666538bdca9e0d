//! Each fault that a robot cell knows, injected again and again, over real zenoh: does everything survive it, and how long
//! after it does the robot stand still?
//!
//! By default each is injected twice; `cargo test --release -p nudge-runtime --test fault_injection -- --ignored
//! --nocapture` injects each 20 times and prints the table. `NUDGE_FAULT=ControllerKilled` injects that one alone.
#![cfg(all(feature = "zenoh", unix))]

mod children;
mod classes;
#[path = "../common/mod.rs"]
mod common;
mod proxy;
mod rig;
mod table;

use classes::Fault;
use table::Table;

/// Injects every fault `repeats` times; those that this machine does not allow are named and left out.
fn inject_all(repeats: usize) {
    let mut table = Table::default();
    let only = std::env::var("NUDGE_FAULT").ok();
    for fault in
        Fault::ALL.into_iter().filter(|fault| only.as_ref().is_none_or(|name| *name == format!("{fault:?}")))
    {
        if let Err(reason) = fault.possible() {
            println!("skipped: {fault:?}: {reason}");
            continue;
        }
        for repeat in 0..repeats {
            println!("{fault:?}, {} of {repeats}", repeat + 1);
            table.add(fault, &fault.inject(repeat as u64));
        }
    }
    println!("{table}");
    table.assert_survived();
}

#[test]
fn every_fault_is_survived() {
    inject_all(2);
}

#[test]
#[ignore = "takes minutes"]
fn every_fault_is_survived_twenty_times() {
    inject_all(20);
}

/// Not a test of its own: what is started, stopped and killed.
#[test]
fn child() {
    children::run_if_told();
}
