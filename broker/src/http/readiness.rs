//! How far a start has come: set by whoever starts the broker, told by `/ready` and `/health`.
//! Cheap to update from many recovery threads at once.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// The steps from start to stop, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Configuration, directories, locks.
    Starting,
    /// The metadata log is replayed and the broker registers.
    LoadingMetadata,
    /// Partition logs are opened; after a crash their tails are scanned.
    RecoveringLogs,
    /// Kafka clients are served.
    Ready,
    /// No new requests; logs are closed.
    Stopping,
}

/// Where a start stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub phase: Phase,
    pub logs_total: u64,
    pub logs_recovered: u64,
    /// Bytes of log tails that were scanned because the last stop was not clean.
    pub scanned_bytes: u64,
}

#[derive(Debug)]
pub struct Readiness {
    phase: Mutex<Phase>,
    logs_total: AtomicU64,
    logs_recovered: AtomicU64,
    scanned_bytes: AtomicU64,
}

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness {
            phase: Mutex::new(Phase::Starting),
            logs_total: AtomicU64::new(0),
            logs_recovered: AtomicU64::new(0),
            scanned_bytes: AtomicU64::new(0),
        }
    }
}

impl Readiness {
    /// Enters a phase. Phases only go forward, so a late "ready" does not undo a stop.
    pub fn enter(&self, phase: Phase) {
        let mut current = self.phase.lock();
        *current = phase.max(*current);
    }

    pub fn logs_to_recover(&self, count: u64) {
        self.logs_total.store(count, Ordering::Relaxed);
    }

    pub fn log_recovered(&self, scanned_bytes: u64) {
        self.scanned_bytes
            .fetch_add(scanned_bytes, Ordering::Relaxed);
        self.logs_recovered.fetch_add(1, Ordering::Relaxed);
    }

    pub fn is_ready(&self) -> bool {
        *self.phase.lock() == Phase::Ready
    }

    pub fn progress(&self) -> Progress {
        Progress {
            phase: *self.phase.lock(),
            logs_total: self.logs_total.load(Ordering::Relaxed),
            logs_recovered: self.logs_recovered.load(Ordering::Relaxed),
            scanned_bytes: self.scanned_bytes.load(Ordering::Relaxed),
        }
    }
}
