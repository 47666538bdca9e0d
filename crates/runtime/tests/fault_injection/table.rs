//! What came of the faults, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::classes::Fault;

/// What one injection came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Why it was not survived; `None` when it was.
    pub failure: Option<String>,
    /// From the fault until the robot stood still; `None` where it is not to stand still.
    pub held_after: Option<Duration>,
    /// From the fault's end until the robot moved again.
    pub moved_after: Option<Duration>,
}

#[derive(Default)]
pub struct Table {
    rows: BTreeMap<Fault, Vec<Outcome>>,
}

impl Table {
    pub fn add(&mut self, fault: Fault, outcome: &Outcome) {
        self.rows.entry(fault).or_default().push(outcome.clone());
    }

    /// # Panics
    /// When a fault was not survived, with the first failure of each.
    pub fn assert_survived(&self) {
        let failed: Vec<_> = self
            .rows
            .iter()
            .filter_map(|(fault, outcomes)| Some((fault, outcomes.iter().find_map(|o| o.failure.as_ref())?)))
            .collect();
        assert!(failed.is_empty(), "not survived: {failed:#?}");
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<28}{:>10}{:>30}{:>30}",
            "fault", "survived", "hold after, ms p50/p99/max", "moves after, ms p50/p99/max"
        )?;
        for (fault, outcomes) in &self.rows {
            let survived = outcomes.iter().filter(|outcome| outcome.failure.is_none()).count();
            let name = format!("{fault:?}");
            let share = format!("{survived}/{}", outcomes.len());
            let held = times(outcomes.iter().filter_map(|outcome| outcome.held_after));
            let moved = times(outcomes.iter().filter_map(|outcome| outcome.moved_after));
            writeln!(f, "{name:<28}{share:>10}{held:>30}{moved:>30}")?;
        }
        Ok(())
    }
}

fn times(times: impl Iterator<Item = Duration>) -> String {
    let mut ms: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms[((ms.len() as f64 * share).ceil() as usize).clamp(1, ms.len()) - 1];
    if ms.is_empty() { "-".into() } else { format!("{:.0}/{:.0}/{:.0}", at(0.5), at(0.99), at(1.0)) }
}
