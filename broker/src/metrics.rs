//! Metrics: `METRICS` has one row per family (name, unit, labels, help, where its samples come
//! from), and `/metrics`, the reference page and the dashboards' check derive from it.
//!
//! Owns the counters that the data path bumps: plain relaxed atomics, no lock, no lookup by label.
//! Everything else (sizes, offsets, brokers) is looked at when somebody asks. A number that appears
//! under several names (ours, kafka_exporter's, the JMX exporter's) is read once per answer, so the
//! families always agree. Deliberately absent: clocks, sockets and HTTP; durations are arguments.

pub mod document;
mod exposition;
pub mod groups;
pub mod histogram;
mod observation;
mod table;

pub use exposition::{CONTENT_TYPE, Detail, render};
pub use observation::{
    BrokerSample, GroupBounds, GroupSample, GroupsSample, LogDirSample, LogSample, Observation,
    OffsetSample, PartitionSample, ProcessSample,
};
pub use table::{METRICS, Metric, MetricKind};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_storage::log::Reason;
use parking_lot::Mutex;

use groups::{GroupCounters, GroupCounts};
use histogram::{Histogram, HistogramSnapshot};

/// API keys are small numbers; a key beyond is counted with its connection's close reason only.
const API_KEYS_MAX: usize = 128;

/// The broker's counters. Shared by everything that serves a request; bumping one costs a few
/// nanoseconds.
#[derive(Debug)]
pub struct Metrics {
    requests: Box<[Histogram]>,
    /// By API key and error code; errors are rare, so a lock is cheap enough.
    request_errors: Mutex<BTreeMap<(i16, i16), u64>>,
    connections_opened: AtomicU64,
    connections_closed: Mutex<BTreeMap<&'static str, u64>>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    flushes: Histogram,
    flush_failures: AtomicU64,
    cold_reads: Histogram,
    cold_read_bytes: AtomicU64,
    zeros_bytes: AtomicU64,
    opened: Histogram,
    slowed: AtomicU64,
    pub groups: GroupCounters,
    /// Segments and bytes that retention gave up, by reason.
    expired: Mutex<BTreeMap<Reason, (u64, u64)>>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            requests: (0..API_KEYS_MAX).map(|_| Histogram::default()).collect(),
            request_errors: Mutex::default(),
            connections_opened: AtomicU64::new(0),
            connections_closed: Mutex::default(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            flushes: Histogram::default(),
            flush_failures: AtomicU64::new(0),
            cold_reads: Histogram::default(),
            cold_read_bytes: AtomicU64::new(0),
            zeros_bytes: AtomicU64::new(0),
            opened: Histogram::default(),
            slowed: AtomicU64::new(0),
            groups: GroupCounters::default(),
            expired: Mutex::default(),
        }
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// A request was answered, or needed no answer; `took` is from its last byte read to its answer
    /// handed to the socket.
    pub fn request(&self, api_key: i16, took: Duration) {
        let index = usize::try_from(api_key).unwrap_or(usize::MAX);
        if let Some(histogram) = self.requests.get(index) {
            histogram.record(took);
        }
    }

    /// A request, or a partition in it, was answered with an error code.
    pub fn request_error(&self, api_key: i16, error_code: i16) {
        *self
            .request_errors
            .lock()
            .entry((api_key, error_code))
            .or_default() += 1;
    }

    pub fn connection_opened(&self) {
        self.connections_opened.fetch_add(1, Ordering::Relaxed);
    }

    /// `reason` is the label of a `CloseReason`. A connection that was refused counts as opened and
    /// closed.
    pub fn connection_closed(&self, reason: &'static str) {
        *self.connections_closed.lock().entry(reason).or_default() += 1;
    }

    pub fn received_bytes(&self, bytes: usize) {
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn sent_bytes(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A log was synced, or failed to be.
    pub fn flush(&self, took: Duration, succeeded: bool) {
        self.flushes.record(took);
        if !succeeded {
            self.flush_failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request waited so long for a read by a thread that may wait for the disk; it found records
    /// of so many bytes.
    pub fn cold_read(&self, waited: Duration, found_bytes: u64) {
        self.cold_reads.record(waited);
        self.cold_read_bytes
            .fetch_add(found_bytes, Ordering::Relaxed);
    }

    /// Zeros were written ahead of small syncs.
    pub fn wrote_zeros(&self, bytes: u64) {
        self.zeros_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The records of a batch were checked or compressed anew, away from the data path.
    pub fn opened(&self, took: Duration) {
        self.opened.record(took);
    }

    /// A batch is answered later because its disk's budget is spent.
    pub fn slowed(&self) {
        self.slowed.fetch_add(1, Ordering::Relaxed);
    }

    /// Segments of one log, each with its bytes, need not be kept any more.
    pub fn expired(&self, segments: &[(Reason, u64)]) {
        let mut expired = self.expired.lock();
        for (reason, size_bytes) in segments {
            let (segments, bytes) = expired.entry(*reason).or_default();
            *segments += 1;
            *bytes += size_bytes;
        }
    }

    /// All counters at one moment; what is shown under several names is read here once.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let requests = self.requests.iter().enumerate();
        // Closed before opened: a connection in between then counts as open, never as minus one.
        let connections_closed = self.connections_closed.lock().clone();
        MetricsSnapshot {
            requests: requests
                .map(|(key, histogram)| {
                    (i16::try_from(key).unwrap_or(i16::MAX), histogram.snapshot())
                })
                .filter(|(_, histogram)| histogram.count() > 0)
                .collect(),
            request_errors: self.request_errors.lock().clone(),
            connections_closed,
            connections_opened: self.connections_opened.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            flushes: self.flushes.snapshot(),
            flush_failures: self.flush_failures.load(Ordering::Relaxed),
            cold_reads: self.cold_reads.snapshot(),
            cold_read_bytes: self.cold_read_bytes.load(Ordering::Relaxed),
            zeros_bytes: self.zeros_bytes.load(Ordering::Relaxed),
            opened: self.opened.snapshot(),
            slowed: self.slowed.load(Ordering::Relaxed),
            groups: self.groups.snapshot(),
            expired: self.expired.lock().clone(),
        }
    }
}

/// What [`Metrics`] held at one moment.
#[derive(Clone, Debug, Default)]
pub struct MetricsSnapshot {
    /// By API key; only those that were asked.
    pub requests: Vec<(i16, HistogramSnapshot)>,
    pub request_errors: BTreeMap<(i16, i16), u64>,
    pub connections_closed: BTreeMap<&'static str, u64>,
    pub connections_opened: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub flushes: HistogramSnapshot,
    pub flush_failures: u64,
    pub cold_reads: HistogramSnapshot,
    pub cold_read_bytes: u64,
    pub zeros_bytes: u64,
    pub opened: HistogramSnapshot,
    pub slowed: u64,
    pub groups: GroupCounts,
    pub expired: BTreeMap<Reason, (u64, u64)>,
}

impl MetricsSnapshot {
    pub fn connections_open(&self) -> u64 {
        self.connections_opened
            .saturating_sub(self.connections_closed.values().sum())
    }
}

/// The counters of one partition; they live in the partition and go with it.
#[derive(Debug, Default)]
pub struct PartitionCounters {
    messages_in: AtomicU64,
    bytes_in: AtomicU64,
    produce_requests: AtomicU64,
    produce_failures: AtomicU64,
    messages_out: AtomicU64,
    bytes_out: AtomicU64,
    fetch_requests: AtomicU64,
    fetch_failures: AtomicU64,
}

/// [`PartitionCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionCounts {
    pub messages_in: u64,
    pub bytes_in: u64,
    pub produce_requests: u64,
    pub produce_failures: u64,
    pub messages_out: u64,
    pub bytes_out: u64,
    pub fetch_requests: u64,
    pub fetch_failures: u64,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl PartitionCounters {
    /// A batch was appended. A duplicate that was only acknowledged again has no records and bytes.
    pub fn produced(&self, records: u64, bytes: u64) {
        add(&self.produce_requests, 1);
        add(&self.messages_in, records);
        add(&self.bytes_in, bytes);
    }

    pub fn produce_failed(&self) {
        add(&self.produce_requests, 1);
        add(&self.produce_failures, 1);
    }

    /// A read was answered, with `records` offsets from the one asked for on; 0 at the log's end.
    pub fn fetched(&self, records: u64, bytes: u64) {
        add(&self.fetch_requests, 1);
        add(&self.messages_out, records);
        add(&self.bytes_out, bytes);
    }

    pub fn fetch_failed(&self) {
        add(&self.fetch_requests, 1);
        add(&self.fetch_failures, 1);
    }

    pub fn counts(&self) -> PartitionCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PartitionCounts {
            messages_in: read(&self.messages_in),
            bytes_in: read(&self.bytes_in),
            produce_requests: read(&self.produce_requests),
            produce_failures: read(&self.produce_failures),
            messages_out: read(&self.messages_out),
            bytes_out: read(&self.bytes_out),
            fetch_requests: read(&self.fetch_requests),
            fetch_failures: read(&self.fetch_failures),
        }
    }
}

impl std::iter::Sum for PartitionCounts {
    fn sum<I: Iterator<Item = PartitionCounts>>(counts: I) -> PartitionCounts {
        counts.fold(PartitionCounts::default(), |sum, one| PartitionCounts {
            messages_in: sum.messages_in + one.messages_in,
            bytes_in: sum.bytes_in + one.bytes_in,
            produce_requests: sum.produce_requests + one.produce_requests,
            produce_failures: sum.produce_failures + one.produce_failures,
            messages_out: sum.messages_out + one.messages_out,
            bytes_out: sum.bytes_out + one.bytes_out,
            fetch_requests: sum.fetch_requests + one.fetch_requests,
            fetch_failures: sum.fetch_failures + one.fetch_failures,
        })
    }
}

#[cfg(test)]
mod tests;
