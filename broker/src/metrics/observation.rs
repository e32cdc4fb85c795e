//! What a broker looks like at one moment, for the metrics that are not counted but looked at: its
//! partitions, the cluster's brokers, sessions. Plain data; whoever answers `/metrics` fills it in.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PartitionCounts;
use crate::cleaner::CleanerSample;
use crate::scrubber::ScrubSample;

/// One partition as this broker knows it, hosted here or not.
#[derive(Clone, Debug)]
pub struct PartitionSample {
    pub topic: Arc<str>,
    pub partition: i32,
    /// -1: none.
    pub leader: i32,
    /// The broker that leads when everything is well.
    pub preferred_leader: i32,
    pub replicas: usize,
    pub in_sync_replicas: usize,
    pub min_insync_replicas: usize,
    /// `None`: not hosted here, or its log is offline.
    pub log: Option<LogSample>,
    pub counts: PartitionCounts,
}

/// A partition's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSample {
    pub log_start_offset: i64,
    pub high_watermark: i64,
    pub log_end_offset: i64,
    pub size_bytes: u64,
}

/// How many groups, and how many of their offsets, are shown one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBounds {
    pub groups: usize,
    pub offsets: usize,
}

/// The groups that this broker coordinates.
#[derive(Clone, Debug, Default)]
pub struct GroupsSample {
    /// By type and state.
    pub by_state: BTreeMap<(&'static str, &'static str), usize>,
    /// Those that are shown one by one.
    pub shown: Vec<GroupSample>,
    /// How many are only counted.
    pub left_out: usize,
    /// Offsets are shown one by one; otherwise they are summed by topic.
    pub in_detail: bool,
}

#[derive(Clone, Debug)]
pub struct GroupSample {
    pub group: String,
    pub members: usize,
    /// Partitions of topics that it subscribes to and that none of its members reads.
    pub unowned: usize,
    /// Sorted by topic and partition.
    pub offsets: Vec<OffsetSample>,
}

/// A partition that a group has committed an offset for, or that one of its members reads.
#[derive(Clone, Debug)]
pub struct OffsetSample {
    pub topic: String,
    pub partition: i32,
    /// -1: nothing is committed.
    pub committed: i64,
    /// `None`: nothing is committed, or the partition is led elsewhere.
    pub lag: Option<i64>,
    pub lag_seconds: Option<f64>,
}

/// A log directory.
#[derive(Clone, Debug)]
pub struct LogDirSample {
    pub path: Arc<str>,
    /// `online`, `low`, `full`, `read-only` or `offline`.
    pub state: &'static str,
    /// Why it is offline.
    pub failure: Option<String>,
    /// Partitions that are in it or on their way there.
    pub partitions: usize,
    /// `None`: nobody has looked yet, or it is offline.
    pub free_bytes: Option<u64>,
    pub total_bytes: Option<u64>,
}

impl LogDirSample {
    pub fn is_online(&self) -> bool {
        self.failure.is_none()
    }
}

#[derive(Clone, Debug)]
pub struct BrokerSample {
    pub id: i32,
    /// host:port of its first listener.
    pub address: String,
    pub alive: bool,
}

/// Everything looked at for one answer.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    pub node_id: i32,
    /// This broker takes requests.
    pub ready: bool,
    /// Sorted by topic and partition.
    pub partitions: Vec<PartitionSample>,
    pub log_dirs: Vec<LogDirSample>,
    pub brokers: Vec<BrokerSample>,
    /// The cluster has an active controller, and it is this node.
    pub is_active_controller: bool,
    pub fetch_sessions: usize,
    pub groups: GroupsSample,
    /// Bytes of recent batches held in memory.
    pub tail_bytes: u64,
    /// Written and waiting for the disk, of each log directory.
    pub dirty: Vec<(Arc<str>, u64)>,
    /// Committed records of groups that are not in their images.
    pub image_lag_records: u64,
    pub image_failures: u64,
    pub cleaner: CleanerSample,
    pub scrub: ScrubSample,
    /// Damaged places that the scrub knows, each in a few words.
    pub damaged: Vec<String>,
}

/// This process at one moment, as the system sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessSample {
    pub cpu_seconds: f64,
    pub resident_memory_bytes: u64,
    pub virtual_memory_bytes: u64,
    pub threads: u64,
    pub open_fds: u64,
    pub max_fds: u64,
}
