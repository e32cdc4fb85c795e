//! How fast compaction, the scrub and moves between log directories may read and write: a budget
//! that fills with time and is overdrawn by one buffer at most.

use std::time::{Duration, Instant};

/// Waits; false when the wait ended because everything is to end.
pub type Pause<'a> = &'a mut dyn FnMut(Duration) -> bool;

/// The most that is saved up while nothing is read.
const SAVED_MAX: Duration = Duration::from_millis(500);

pub(crate) struct Throttle {
    bytes_per_second: f64,
    /// When everything so far was allowed to have been passed.
    allowed_until: Instant,
}

impl Throttle {
    pub(crate) fn new(bytes_per_second: f64, now: Instant) -> Throttle {
        Throttle {
            bytes_per_second: bytes_per_second.max(1.0),
            allowed_until: now,
        }
    }

    /// So many bytes are read or written now; answers how long to wait before.
    pub(crate) fn passed(&mut self, bytes: u64, now: Instant) -> Duration {
        let earliest = now.checked_sub(SAVED_MAX).unwrap_or(now);
        let from = self.allowed_until.max(earliest);
        let takes = bytes as f64 / self.bytes_per_second;
        // An unlimited rate takes no time; no step takes longer than an hour.
        let takes = Duration::from_secs_f64(takes.min(3_600.0));
        self.allowed_until = from + takes;
        self.allowed_until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_time_and_a_little_is_saved_up() {
        let start = Instant::now();
        let mut throttle = Throttle::new(1_000.0, start);
        let mut now = start;
        for _ in 0..100 {
            now += throttle.passed(500, now);
        }
        assert_eq!(now - start, Duration::from_secs(50));
        now += Duration::from_secs(60);
        assert_eq!(throttle.passed(500, now), Duration::ZERO);
        assert_eq!(throttle.passed(500, now), Duration::from_millis(500));
    }

    #[test]
    fn kafkas_default_rate_never_waits() {
        let now = Instant::now();
        let mut throttle = Throttle::new(f64::MAX, now);
        for _ in 0..10 {
            assert_eq!(throttle.passed(u64::MAX, now), Duration::ZERO);
        }
    }
}
