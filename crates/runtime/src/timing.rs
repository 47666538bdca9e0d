//! How long things took, gathered without allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets a factor of two; a bucket is 1/32 of its value wide.
const STEPS: usize = 32;
/// Up to 2^44 ns, almost five hours.
const OCTAVES: usize = 40;

/// A histogram of durations, exact to 3 %; the largest is exact.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

/// A histogram that one thread fills while others read it.
#[derive(Debug)]
pub struct SharedHistogram {
    buckets: Box<[AtomicU64]>,
    max_ns: AtomicU64,
}

impl Default for SharedHistogram {
    fn default() -> Self {
        let buckets = (0..STEPS * OCTAVES).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, max_ns: AtomicU64::new(0) }
    }
}

impl SharedHistogram {
    pub fn record(&self, duration: Duration) {
        self.buckets[bucket(duration)].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.max_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn quantiles(&self) -> Quantiles {
        let buckets: Vec<u64> = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let count = buckets.iter().sum();
        Histogram { buckets, count, max: Duration::from_nanos(self.max_ns.load(Ordering::Relaxed)) }
            .quantiles()
    }
}

/// What a histogram comes to, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; STEPS * OCTAVES], count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    pub fn record(&mut self, duration: Duration) {
        self.buckets[bucket(duration)] += 1;
        self.count += 1;
        self.max = self.max.max(duration);
    }

    pub fn quantiles(&self) -> Quantiles {
        Quantiles {
            count: self.count,
            p50: self.quantile_ms(0.5),
            p99: self.quantile_ms(0.99),
            p999: self.quantile_ms(0.999),
            max: self.max.as_secs_f64() * 1e3,
        }
    }

    /// The upper edge of the bucket of the smallest duration that a share `q` of all does not exceed.
    fn quantile_ms(&self, q: f64) -> f64 {
        let rank = (q * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return (upper_ns(index) / 1e6).min(self.max.as_secs_f64() * 1e3);
            }
        }
        0.0
    }
}

/// Below 64 ns a bucket is 1 ns wide; above, each factor of two has 32 buckets.
fn bucket(duration: Duration) -> usize {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let octave = ns.max(STEPS as u64).ilog2() as usize - STEPS.ilog2() as usize;
    (STEPS * octave + (ns >> octave) as usize).min(STEPS * OCTAVES - 1)
}

/// The first duration above a bucket.
fn upper_ns(index: usize) -> f64 {
    let octave = (index / STEPS).saturating_sub(1);
    (index - STEPS * octave + 1) as f64 * (octave as f64).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_durations_to_three_percent() {
        let mut seed = 5;
        let mut nanos: Vec<u64> = Vec::new();
        for _ in 0..10_000 {
            seed = nudge_control::split_mix_64(seed);
            nanos.push(((seed >> 40) + 1) << (seed % 16));
        }
        let mut histogram = Histogram::default();
        nanos.iter().for_each(|ns| histogram.record(Duration::from_nanos(*ns)));
        nanos.sort_unstable();
        let quantiles = histogram.quantiles();
        for (q, found) in [(0.5, quantiles.p50), (0.99, quantiles.p99), (0.999, quantiles.p999)] {
            let exact = nanos[(q * 10_000.0) as usize - 1] as f64 / 1e6;
            assert!((exact..=exact * 1.04).contains(&found), "{q}: {found} and not {exact}");
        }
        assert_eq!(quantiles.max, nanos[9_999] as f64 / 1e6);
        assert_eq!(quantiles.count, 10_000);
    }

    #[test]
    fn every_duration_lies_in_its_bucket() {
        for shift in 0..43 {
            for ns in [1_u64 << shift, (1 << shift) + 1, (2 << shift) - 1] {
                let index = bucket(Duration::from_nanos(ns));
                let lower = if index == 0 { 0.0 } else { upper_ns(index - 1) };
                assert!((lower..upper_ns(index)).contains(&(ns as f64)), "{ns}");
            }
        }
        assert_eq!(bucket(Duration::MAX), STEPS * OCTAVES - 1);
        assert_eq!(Histogram::default().quantiles(), Quantiles::default());
    }
}
