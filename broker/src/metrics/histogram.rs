//! A latency histogram of atomics: fixed buckets in steps of 1, 2 and 5 from 10 microseconds to 20
//! seconds. Recording is two relaxed additions and a search over twenty limits.
//!
//! Invariant: the count is the sum of the buckets, so count and buckets of one snapshot always
//! agree.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper limits of the buckets; whatever is longer falls into one more.
pub const LIMITS_MICROS: [u64; 20] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
    500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000,
];

const BUCKETS: usize = LIMITS_MICROS.len() + 1;

#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let index = LIMITS_MICROS.partition_point(|limit| *limit < micros);
        self.buckets[index].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut counts = [0; BUCKETS];
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        HistogramSnapshot {
            counts,
            sum_micros: self.sum_micros.load(Ordering::Relaxed),
        }
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    counts: [u64; BUCKETS],
    sum_micros: u64,
}

impl HistogramSnapshot {
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }

    /// Upper limit in seconds and number of values of every bucket, not cumulated; the last is
    /// infinite.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let limits = LIMITS_MICROS
            .iter()
            .map(|micros| *micros as f64 / 1e6)
            .chain([f64::INFINITY]);
        limits.zip(self.counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_limit_belongs_below_it() {
        let histogram = Histogram::default();
        for micros in [0, 10, 11, 20, 20_000_000, 20_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.counts[0], 2);
        assert_eq!(snapshot.counts[1], 2);
        assert_eq!(snapshot.counts[BUCKETS - 2], 1);
        assert_eq!(snapshot.counts[BUCKETS - 1], 1);
        assert_eq!(snapshot.count(), 6);
        assert!((snapshot.sum_seconds() - 40.000_042).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_lost_when_several_threads_record() {
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for micros in 0..10_000 {
                        histogram.record(Duration::from_micros(micros));
                    }
                });
            }
        });
        assert_eq!(histogram.snapshot().count(), 40_000);
    }
}
