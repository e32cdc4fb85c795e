//! One partition's log on one disk: append, read, truncate, flush, recover.
//!
//! Owns the partition's directory in Kafka's layout: segments (`.log` with `.index`, `.timeindex`
//! and, after an abort, `.txnindex`), producer snapshots, `leader-epoch-checkpoint`,
//! `partition.metadata`. It does not know replicas, clients or time: callers pass `now`.
//!
//! Invariants:
//! - `log_start_offset <= recovery_point <= log_end_offset` but for a start raised past the
//!   recovery point; offsets of batches increase, leader epochs never decrease.
//! - Bytes below the log end are never changed; what lies behind it in a file is zeros or garbage
//!   that the next append overwrites. Sealed segments end with their data.
//! - An append does one `pwritev`, and now and then a reservation of space or the creation of a
//!   segment file. Indexes, snapshots and epochs are written by checkpoints, outside the lock.
//! - Everything below the checkpointed offset is synced, and a producer snapshot for that offset
//!   is synced with it. Whoever truncates below a snapshot removes it first, durably. Recovery
//!   therefore trusts what lies below both the directory's recovery point and the newest snapshot,
//!   and checks every byte above.
//! - A failed append leaves the log as it was; a failed sync always poisons it.
//!
//! Deliberately absent: high watermarks and policies (passed in), threads.
//! Callers hold one lock around a log; only [`FlushWork::run`] is meant to run outside it.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::batch::TimestampType;
use ottla_protocol::record::{Codec, RecordLimits};
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};

use crate::disk::Disk;
use crate::sync::Mutex;

mod ahead;
mod append;
mod checkpoint;
mod cold;
pub mod compact;
mod control;
mod copy;
mod epochs;
mod error;
mod index;
pub mod inspect;
mod lookup;
mod metadata;
mod open;
mod producers;
mod read;
mod records;
mod recover;
pub mod repair;
mod report;
mod retain;
mod scan;
mod scrub;
mod segment;
mod tail;
mod truncate;
mod unwritten;
mod validate;
mod zeros;

#[cfg(test)]
mod tests;

pub use append::{AppendAt, Appended, Origin, WriteBack};
pub use checkpoint::FlushWork;
pub use cold::{ColdRead, Resident, Stamp};
pub use copy::{is_complete_copy, remove_copy_marker};
pub use epochs::EpochHistory;
pub use error::{
    AppendError, BadRecord, BadRecords, Fault, InvalidRecord, LogError, ReadError, RecordRule,
};
pub use index::AbortedTransaction;
pub use lookup::{ByTime, TimeSearch, TimestampOffset};
pub use open::OpenLog;
pub use producers::{ProducerBatch, ProducerEntry, ProducerError, Producers};
pub use read::LogRead;
pub use records::RecordWork;
pub use report::{Damage, DamageKind, RecoveryReport};
pub use retain::{Expired, OldFiles, Reason, Retention};
pub use scrub::{DamagedPlace, ScrubWork, Scrubbed};
pub use tail::TailBudget;
pub use zeros::ZEROS_FROM_BYTES;

use ahead::Ahead;
use compact::PendingSwap;
use segment::Segment;
use tail::Tail;
use unwritten::UnwrittenFirsts;
use zeros::Zeros;

/// How much of a batch is looked at before it is appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// The header; records stay closed unless the topic is compacted.
    #[default]
    Header,
    /// Every record, as Kafka does it.
    Strict,
}

/// The part of a topic's configuration that its logs need.
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub segment_size_bytes: u32,
    pub segment_ms: i64,
    pub segment_index_bytes: u32,
    pub index_interval_bytes: u32,
    pub max_message_bytes: u32,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    /// Reserve a segment's whole space when it is created, instead of in steps.
    pub preallocate: bool,
    /// Zeros are written ahead of small syncs once a segment is this large
    /// ([`Log::write_zeros_ahead`]).
    pub zeros_from_bytes: u32,
    pub producer_id_expiration_ms: i64,
    /// How many producers are remembered; beyond, those unheard of for longest are forgotten.
    pub producer_count_max: usize,
    pub compacted: bool,
    pub validation: Validation,
    /// The codec that batches of clients are stored in; `None`: the producer's.
    pub recompression: Option<Codec>,
    /// How far a batch may expand when it is opened.
    pub record_limits: RecordLimits,
    /// Shared by the logs of a broker.
    pub tail_budget: Arc<TailBudget>,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> LogConfig {
        LogConfig {
            segment_size_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1_000,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4_096,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 60 * 60 * 1_000,
            preallocate: false,
            zeros_from_bytes: ZEROS_FROM_BYTES,
            producer_id_expiration_ms: 24 * 60 * 60 * 1_000,
            producer_count_max: 20_000,
            compacted: false,
            validation: Validation::Header,
            recompression: None,
            record_limits: RecordLimits::default(),
            tail_budget: TailBudget::new(64 << 20),
        }
    }
}

/// One partition's log. See the module's description for what always holds.
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: Arc<str>,
    topic_id: TopicId,
    config: LogConfig,
    /// By base offset; the last one is active. Empty until the first append of a new log.
    segments: Vec<Segment>,
    size_bytes: u64,
    log_start_offset: Offset,
    log_end_offset: Offset,
    /// Everything below is synced.
    recovery_point: Offset,
    /// Everything below is synced together with its indexes, epochs and producer state.
    checkpointed: Offset,
    epochs: EpochHistory,
    /// Incremented by each change of the epochs, and what of it is in the file.
    epochs_version: u64,
    epochs_written: u64,
    /// The latest epoch has no record yet: it need not be in the file, as a start brings another.
    epoch_unused: bool,
    producers: Producers,
    unwritten_firsts: UnwrittenFirsts,
    tail: Tail,
    directory: Directory,
    /// Producer snapshots in the directory.
    snapshots: BTreeSet<Offset>,
    /// Taken at rolls, written by the next checkpoint.
    pending_snapshots: Vec<(Offset, Vec<u8>)>,
    /// The active segment is handed to write-back up to here.
    written_back: u32,
    /// Held while files other than segments are written; the generation of the files, so that a
    /// checkpoint that was overtaken by a truncation or by compaction writes nothing.
    writer: Arc<Mutex<u64>>,
    generation: u64,
    truncations: u64,
    /// Below, compaction has been.
    compacted_to: Offset,
    /// Places in segments that cannot be read, as far as known; see `scrub.rs`.
    holes: Vec<DamagedPlace>,
    swap: Option<PendingSwap>,
    /// Compaction made indexes that are in no file yet.
    indexes_unwritten: bool,
    /// A walk over some segment would stop at bytes that cannot be read.
    damaged: bool,
    poisoned: bool,
    /// Bytes of a failed write may lie behind the end of the active segment.
    cut_pending: bool,
    ahead: Ahead,
    zeros: Zeros,
}

/// What a sync of the directory would make durable.
#[derive(Default)]
struct Directory {
    exists: bool,
    /// `partition.metadata` is not synced. Its handle is not kept: many new logs at once would
    /// need twice as many descriptors.
    metadata_unsynced: bool,
    /// The directory's own name is not synced in its parent.
    new: bool,
    changes: u64,
    synced: u64,
}

impl Log {
    /// A new, empty log. Nothing is written before the first append.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &str,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Log, LogError> {
        let mut log = Log::empty(disk, dir, config, Offset::ZERO);
        log.topic_id = topic_id;
        Ok(log)
    }

    fn empty(disk: Arc<dyn Disk>, dir: &str, config: LogConfig, start: Offset) -> Log {
        Log {
            disk,
            dir: Arc::from(dir),
            topic_id: TopicId::ZERO,
            tail: Tail::new(Arc::clone(&config.tail_budget)),
            config,
            segments: Vec::new(),
            size_bytes: 0,
            log_start_offset: start,
            log_end_offset: start,
            recovery_point: start,
            checkpointed: start,
            epochs: EpochHistory::default(),
            epochs_version: 0,
            epochs_written: 0,
            epoch_unused: false,
            producers: Producers::default(),
            unwritten_firsts: UnwrittenFirsts::default(),
            directory: Directory::default(),
            snapshots: BTreeSet::new(),
            pending_snapshots: Vec::new(),
            written_back: 0,
            writer: Arc::new(Mutex::new(0)),
            generation: 0,
            truncations: 0,
            compacted_to: Offset::ZERO,
            holes: Vec::new(),
            swap: None,
            indexes_unwritten: false,
            damaged: false,
            poisoned: false,
            cut_pending: false,
            ahead: Ahead::default(),
            zeros: Zeros::default(),
        }
    }

    /// The directory's name, relative to the log directory.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// From `partition.metadata`; zero when it is missing there.
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Takes effect with the next append; what is in the log stays as it is.
    pub fn set_config(&mut self, config: LogConfig) {
        if !Arc::ptr_eq(&config.tail_budget, &self.config.tail_budget) {
            self.tail = Tail::new(Arc::clone(&config.tail_budget));
        }
        self.config = config;
    }

    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset
    }

    /// The offset of the next record.
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    /// Everything below is synced.
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// What the directory's `recovery-point-offset-checkpoint` may say: recovery starts there.
    /// Behind [`Log::recovery_point`], because indexes and producer state must be synced too.
    pub fn checkpointed_offset(&self) -> Offset {
        self.checkpointed
    }

    /// Record bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The base offset of the segment that is appended to.
    pub fn active_segment_base(&self) -> Option<Offset> {
        self.segments.last().map(|segment| segment.base_offset)
    }

    /// After a failed sync nothing is appended or flushed any more; reads still work.
    pub fn poisoned(&self) -> bool {
        self.poisoned
    }

    pub fn leader_epochs(&self) -> &EpochHistory {
        &self.epochs
    }

    pub fn latest_leader_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.latest()
    }

    /// Records that `epoch` starts at the log end. An epoch that is not newer is ignored.
    pub fn assign_leader_epoch(&mut self, epoch: LeaderEpoch) {
        self.epoch_unused |= self.epochs.assign(epoch, self.log_end_offset);
    }

    /// The largest epoch in the log that is not above `epoch`, and the offset where it ends.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset_for(epoch, self.log_end_offset)
    }

    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Forgets producers that wrote nothing for their expiration time; answers how many.
    pub fn expire_producers(&mut self, now_ms: i64) -> usize {
        self.producers
            .expire(now_ms, self.config.producer_id_expiration_ms)
    }

    /// Up to where a read_committed consumer may read.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        match self.producers.first_unstable(high_watermark) {
            Some(first) => first.max(self.log_start_offset).min(high_watermark),
            None => high_watermark,
        }
    }

    /// Lets go of bookkeeping about transactions that are replicated now.
    pub fn high_watermark_advanced(&mut self, high_watermark: Offset) {
        self.producers.forget_replicated(high_watermark);
    }

    /// Lets go of what can be had again: the tail, reserved space, and the handles and indexes of
    /// all segments that are synced. For a log that nobody used for a while. True when a
    /// [`Log::begin_idle_checkpoint`] would let it release more.
    pub fn release_caches(&mut self) -> bool {
        self.tail.clear();
        if self.poisoned {
            return false;
        }
        let flushed = self.recovery_point;
        if flushed == self.log_end_offset
            && let Some(active) = self.segments.last()
            && (!self.config.preallocate || active.has_zeros())
        {
            // Space that stays reserved is only space, and zeros are cut by the close at last.
            let _ = self.release_active_reserve();
        }
        let active = self.segments.len().saturating_sub(1);
        for at in 0..self.segments.len() {
            if self.segment_end(at) <= flushed {
                self.segments[at].release(at < active || self.damaged);
            }
        }
        self.segments.shrink_to_fit();
        let loaded = |segment: &Segment| {
            let index = segment.loaded_index();
            index.is_some_and(|index| index.aborted_known)
        };
        let more = self.zeros.has_cuts() || self.segments.iter().any(loaded);
        flushed == self.log_end_offset && more
    }

    /// Heap memory of the indexes, for metrics.
    pub fn index_heap_bytes(&self) -> usize {
        self.segments.iter().map(Segment::heap_bytes).sum()
    }

    /// Where the offsets of the segment at this place end.
    fn segment_end(&self, at: usize) -> Offset {
        self.segments
            .get(at + 1)
            .map_or(self.log_end_offset, |next| next.base_offset)
    }

    /// The place of the segment whose offsets include `offset`: the last one that starts at or
    /// below it, or the first.
    fn segment_of(&self, offset: Offset) -> usize {
        let after = self
            .segments
            .partition_point(|segment| segment.base_offset <= offset);
        after.saturating_sub(1)
    }

    /// Asserts what must always hold; for debug builds, simulation and tests.
    pub fn check_invariants(&self) {
        assert!(self.log_start_offset <= self.log_end_offset);
        assert!(self.recovery_point <= self.log_end_offset);
        assert!(self.checkpointed <= self.recovery_point);
        let bases = self.segments.windows(2);
        bases.for_each(|pair| assert!(pair[0].base_offset < pair[1].base_offset));
        let size: u64 = self
            .segments
            .iter()
            .map(|segment| u64::from(segment.size_bytes))
            .sum();
        assert_eq!(size, self.size_bytes);
        if let Some(last) = self.segments.last() {
            assert!(last.base_offset <= self.log_end_offset);
            assert!(last.size_bytes > 0 || last.base_offset == self.log_end_offset);
        }
        self.producers.check_invariants();
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.dir)
            .field("log_start_offset", &self.log_start_offset)
            .field("log_end_offset", &self.log_end_offset)
            .field("recovery_point", &self.recovery_point)
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}
