//! Virtual time: it moves when the world says so, and every part of a simulated broker sees the
//! same.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ottla_broker::clock::Clock;

/// An arbitrary day, on which all simulated records are made: retention lets them be.
pub(crate) const WALL_BASE_MS: i64 = 1_790_000_000_000;

pub struct SimClock {
    base: Instant,
    elapsed_nanos: AtomicU64,
}

impl Default for SimClock {
    // An `Instant` can only be made from the real clock; only differences count.
    #[allow(clippy::disallowed_methods)]
    fn default() -> SimClock {
        SimClock {
            base: Instant::now(),
            elapsed_nanos: AtomicU64::new(0),
        }
    }
}

impl SimClock {
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Since the world began.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanos.load(Ordering::Relaxed))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.base + self.elapsed()
    }

    fn wall_ms(&self) -> i64 {
        WALL_BASE_MS + i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
