//! The clock seam. The core never asks the operating system for the time: it is handed an
//! `Instant` or a `&dyn Clock`. This file holds the trait and the one implementation that reads
//! the real clocks; the simulator has its own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic and wall time. Both are cheap enough to be asked once per request.
pub trait Clock: Send + Sync {
    /// Monotonic time: deadlines, timeouts, latencies.
    fn now(&self) -> Instant;
    /// Milliseconds since the Unix epoch: record timestamps and nothing else.
    fn wall_ms(&self) -> i64;
}

/// The clocks of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealClock;

#[allow(clippy::disallowed_methods)] // the one door to the real clocks
impl Clock for RealClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_ms(&self) -> i64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}

/// `now + ms`, for timeouts that come from a client: negative means "now", huge means "a day".
pub fn deadline_after_ms(now: Instant, ms: i32) -> Instant {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let ms = u64::try_from(ms).unwrap_or(0).min(DAY_MS);
    now + Duration::from_millis(ms)
}
