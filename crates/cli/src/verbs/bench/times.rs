//! Timing one thing many times, and what the times come to.

use std::time::{Duration, Instant};

use nudge_control::quantile;
use serde::Serialize;

/// Durations in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// How often it was timed, after so many times that were not.
    pub n: usize,
    pub warmup: usize,
    pub median_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub min_ms: f64,
    pub mean_ms: f64,
    /// Processor time of the whole process over `n`; known where there is `/proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_mean_ms: Option<f64>,
}

/// When to stop measuring: at whichever comes first, but not before a few times.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    pub count: usize,
    pub duration: Duration,
}

/// Warming up ends after so many times, or after so long.
const WARMUP: Until = Until { count: 20, duration: Duration::from_secs(1) };
/// However slow it is, it is timed so often.
const FEWEST: usize = 3;

/// Times `work` on what `prepare` makes until the end, after warming up.
///
/// # Errors
/// The first one of `work`.
pub fn measure<T>(
    until: Until,
    mut prepare: impl FnMut() -> T,
    mut work: impl FnMut(T) -> anyhow::Result<()>,
) -> anyhow::Result<Times> {
    let mut timed = || {
        let prepared = prepare();
        let started = Instant::now();
        work(prepared)?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    let warmup = repeat(WARMUP, 1, &mut timed)?.len();
    let cpu = cpu_secs();
    let times = repeat(until, FEWEST, &mut timed)?;
    let cpu = cpu.zip(cpu_secs()).map(|(before, after)| after - before);
    Ok(Times { warmup, cpu_mean_ms: cpu.map(|secs| secs * 1e3 / times.len() as f64), ..Times::of(times) })
}

/// Milliseconds of each time.
fn repeat(
    until: Until,
    fewest: usize,
    timed: &mut impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<f64>> {
    let (mut times, begun) = (Vec::with_capacity(until.count.min(1 << 20)), Instant::now());
    while times.len() < fewest || (times.len() < until.count && begun.elapsed() < until.duration) {
        times.push(timed()?);
    }
    Ok(times)
}

impl Times {
    /// Of milliseconds in any order, at least one; nothing was warmed up.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self {
            n: times.len(),
            warmup: 0,
            median_ms: quantile(&times, 0.5),
            p99_ms: quantile(&times, 0.99),
            p999_ms: quantile(&times, 0.999),
            min_ms: quantile(&times, 0.0),
            mean_ms: times.iter().sum::<f64>() / times.len() as f64,
            cpu_mean_ms: None,
        }
    }

    /// The part of the table that is the same for everything: median, p99, p99.9, least, and how many.
    pub fn cells(&self) -> [String; 5] {
        let [median, p99, p999, min] =
            [self.median_ms, self.p99_ms, self.p999_ms, self.min_ms].map(|ms| format!("{ms:.3}"));
        [median, p99, p999, min, self.n.to_string()]
    }
}

/// Header of [`Times::cells`].
pub const CELLS: [&str; 5] = ["median, ms", "p99", "p99.9", "least", "n"];

/// Processor time that this process has used, to a hundredth of a second.
pub fn cpu_secs() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets, and may hold blanks.
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    // Linux tells processes a hundred ticks a second, whatever its own clock is.
    Some(ticks / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_their_quantiles() {
        let times = Times::of((1..=1001).rev().map(f64::from).collect());
        assert_eq!((times.n, times.median_ms, times.min_ms, times.mean_ms), (1001, 501.0, 1.0, 501.0));
        assert!((times.p99_ms - 991.0).abs() < 1e-9 && (times.p999_ms - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn measuring_ends_at_the_count_or_after_the_time() {
        let (mut prepared, mut done) = (0, 0);
        let prepare = || prepared += 1;
        let work = |()| {
            done += 1;
            Ok(())
        };
        let counted = measure(Until { count: 50, duration: Duration::from_secs(60) }, prepare, work).unwrap();
        assert_eq!((counted.n, counted.warmup, prepared, done), (50, 20, 70, 70));
        let at_once = Until { count: usize::MAX, duration: Duration::ZERO };
        assert_eq!(measure(at_once, || (), |()| Ok(())).unwrap().n, FEWEST);
        let failed = measure(at_once, || (), |()| anyhow::bail!("broken"));
        assert_eq!(failed.unwrap_err().to_string(), "broken");
    }
}
