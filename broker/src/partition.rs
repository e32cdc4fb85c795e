//! The one door to a partition: its log and its replica state behind one short lock.
//!
//! Every operation locks, works on `&mut` data, unlocks and only then carries out its effects
//! (waking requests); nothing in here awaits or takes a second lock. A fsync runs without the
//! lock between `begin_flush` and `finish_flush`. Readers that only want to know whether
//! something changed look at `changes`, a counter bumped by everything a parked fetch could care
//! about.
//!
//! A partition whose log failed (could not be opened, or a sync failed) is offline: it answers
//! `Offline` until the broker is restarted. Offsets, epochs and batches are the log's business,
//! the high watermark is `partition/state.rs`.

mod errors;
pub mod map;
pub mod state;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ottla_protocol::batch::RecordBatch;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::disk::RecordData;
use ottla_storage::log::{
    AppendAt, AppendError, FlushWork, Log, LogConfig, LogError, Origin, ReadError, TimestampOffset,
    WriteBack,
};
use parking_lot::Mutex;

use crate::config::{Config, Durability, TopicConfig};
use crate::metrics::PartitionCounters;
use crate::purgatory::{FetchWait, LazyWait, ProduceWait, Waiter, WatchKey, Watches};
use state::{FlushDue, FlushPolicy, PartitionState, Position};

/// Why a partition did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    #[error("the partition's log is offline after a disk error")]
    Offline,
    #[error("this broker no longer hosts the partition")]
    NotHosted,
    #[error("the leader epoch {asked} is older than the current one, {current}")]
    FencedLeaderEpoch {
        asked: LeaderEpoch,
        current: LeaderEpoch,
    },
    #[error("the leader epoch {asked} is newer than the current one, {current}")]
    UnknownLeaderEpoch {
        asked: LeaderEpoch,
        current: LeaderEpoch,
    },
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Who reads, and so how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// What to read; a default has no limits that matter and checks no epochs.
#[derive(Debug, Clone, Copy)]
pub struct ReadFrom {
    pub offset: Offset,
    pub max_bytes: u32,
    /// The first batch comes whole however large it is.
    pub at_least_one: bool,
    pub isolation: Isolation,
    /// `NONE` skips the check.
    pub current_leader_epoch: LeaderEpoch,
    /// `NONE` skips the check for a diverged tail.
    pub last_fetched_epoch: LeaderEpoch,
}

/// Where readers of a partition stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    pub log_start_offset: Offset,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_end_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    /// Where this leadership began. Until the high watermark is here, the end is not known for
    /// sure.
    pub epoch_start_offset: Offset,
}

/// What a read found.
#[derive(Debug)]
pub struct PartitionRead {
    pub marks: Marks,
    pub data: Vec<RecordData>,
    pub size_bytes: u64,
    /// Where the reader goes on; its own offset when there was nothing.
    pub next_offset: Offset,
    /// The reader's tail is not ours: it has to truncate to this epoch and offset.
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

impl PartitionRead {
    fn nothing(
        marks: Marks,
        offset: Offset,
        diverging: Option<(LeaderEpoch, Offset)>,
    ) -> PartitionRead {
        PartitionRead {
            marks,
            data: Vec::new(),
            size_bytes: 0,
            next_offset: offset,
            diverging,
        }
    }
}

/// What an append did.
#[derive(Debug)]
pub struct Appended {
    pub base_offset: Offset,
    /// The offset after the batch: committed once the high watermark is here.
    pub end_offset: Offset,
    /// -1 on topics whose timestamps come from the producer.
    pub log_append_time_ms: i64,
    pub log_start_offset: Offset,
    pub committed: bool,
    pub flush: FlushDue,
    pub write_back: Option<WriteBack>,
}

/// What a directory's checkpoint files say about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointMarks {
    pub recovery_point: Offset,
    pub log_start_offset: Offset,
    pub high_watermark: Offset,
}

/// A flush on its way: made under the lock, carried out without it.
pub struct Flush {
    work: FlushWork,
    to: Position,
    is_checkpoint: bool,
}

impl Flush {
    /// Syncs; blocks for as long as the disk takes.
    pub fn run(&self) -> std::io::Result<()> {
        self.work.run()
    }

    /// Why the files of a checkpoint were not written, after it ran.
    pub fn checkpoint_error(&self) -> Option<std::io::Error> {
        self.work.checkpoint_error()
    }
}

/// One partition of a topic, hosted and led by this broker.
pub struct Partition {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub index: i32,
    pub counters: PartitionCounters,
    changes: AtomicU64,
    inner: Mutex<Inner>,
}

enum LogSlot {
    Open(Box<Log>),
    Offline,
    /// Deleted, or closed at shutdown; then with what the checkpoint files must say.
    Closed(Option<CheckpointMarks>),
}

struct Inner {
    slot: LogSlot,
    state: PartitionState,
    fetches: Watches,
    /// Produces that wait for the high watermark, by the offset they wait for (ascending, because
    /// appends ascend).
    produces: VecDeque<(Offset, Arc<ProduceWait>)>,
    config: Arc<TopicConfig>,
    /// Read or written since the last look for idle partitions.
    used: bool,
}

/// Wake-ups collected under the lock and carried out after it.
#[derive(Default)]
struct Effects {
    fetches: Vec<Arc<Waiter>>,
    produces: Vec<Arc<ProduceWait>>,
}

impl Effects {
    fn carry_out(self) {
        for waiter in self.fetches {
            waiter.fire();
        }
        for wait in self.produces {
            wait.complete_one();
        }
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partition({}-{})", self.topic, self.index)
    }
}

/// How the topic's durability class and Kafka's flush keys translate into a policy.
pub fn flush_policy(topic: &TopicConfig, config: &Config) -> FlushPolicy {
    let interval = (topic.durability == Durability::Interval)
        .then_some(Duration::from_millis(config.durability_interval_ms));
    let flush_ms = topic.flush_ms.map(Duration::from_millis);
    FlushPolicy {
        durability: topic.durability,
        records_max: topic.flush_messages,
        age_max: interval.into_iter().chain(flush_ms).min(),
    }
}

impl Partition {
    /// `log` is flushed to its end, and `epoch` is recorded there as the start of a new leadership.
    pub fn lead(
        (topic, topic_id, index): (Arc<str>, TopicId, i32),
        mut log: Log,
        epoch: LeaderEpoch,
        config: Arc<TopicConfig>,
        policy: FlushPolicy,
    ) -> Partition {
        log.assign_leader_epoch(epoch);
        let state = PartitionState::new(policy, epoch, log.log_end_offset());
        Partition::new(
            (topic, topic_id, index),
            LogSlot::Open(Box::new(log)),
            state,
            config,
        )
    }

    /// A partition whose log cannot be used; clients are told to retry elsewhere or later.
    pub fn offline(
        name: (Arc<str>, TopicId, i32),
        epoch: LeaderEpoch,
        config: Arc<TopicConfig>,
        policy: FlushPolicy,
    ) -> Partition {
        let state = PartitionState::new(policy, epoch, Offset::ZERO);
        Partition::new(name, LogSlot::Offline, state, config)
    }

    fn new(
        (topic, topic_id, index): (Arc<str>, TopicId, i32),
        slot: LogSlot,
        state: PartitionState,
        config: Arc<TopicConfig>,
    ) -> Partition {
        let inner = Inner {
            slot,
            state,
            fetches: Watches::default(),
            produces: VecDeque::new(),
            config,
            used: false,
        };
        Partition {
            topic,
            topic_id,
            index,
            counters: PartitionCounters::default(),
            changes: AtomicU64::new(0),
            inner: Mutex::new(inner),
        }
    }

    /// Locks, runs `f`, unlocks, carries out the effects. `f` is synchronous: nothing can await
    /// in it.
    fn with<T>(&self, f: impl FnOnce(&mut Inner, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let result = f(&mut self.inner.lock(), &mut effects);
        effects.carry_out();
        result
    }

    /// Grows with everything a parked fetch could care about.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Appends one batch whose CRC the caller has checked. When `wait` is given and the batch is
    /// not committed at once, it is told when it is, or when it never will be.
    pub fn append(
        &self,
        batch: RecordBatch,
        produce_version: i16,
        (now, now_ms): (Instant, i64),
        wait: Option<&mut LazyWait<'_>>,
    ) -> Result<Appended, PartitionError> {
        self.with(|inner, effects| {
            let at = AppendAt {
                leader_epoch: inner.state.leader_epoch(),
                now_ms,
                origin: Origin::Client { produce_version },
            };
            inner.used = true;
            let done = inner.log_mut()?.append(batch, &at)?;
            let end_offset = done.last_offset.next();
            let mut flush = FlushDue::No;
            let records = end_offset - done.base_offset;
            let written = if done.duplicate {
                (0, 0)
            } else {
                (records as u64, u64::from(done.size_bytes))
            };
            self.counters.produced(written.0, written.1);
            if !done.duplicate {
                let size_bytes = u64::from(done.size_bytes);
                let (readable, due) = inner.state.appended(end_offset, size_bytes, now);
                flush = due;
                self.became_readable(inner, readable, effects);
            }
            let committed = inner.state.high_watermark() >= end_offset;
            if let (false, Some(wait)) = (committed, wait) {
                inner.await_commit(end_offset, wait.add_one());
            }
            Ok(Appended {
                base_offset: done.base_offset,
                end_offset,
                log_append_time_ms: done.log_append_time_ms,
                log_start_offset: inner.log()?.log_start_offset(),
                committed,
                flush,
                write_back: done.write_back,
            })
        })
    }

    fn became_readable(&self, inner: &mut Inner, bytes: u64, effects: &mut Effects) {
        if bytes == 0 {
            return;
        }
        self.changed();
        inner.fetches.credit(bytes, &mut effects.fetches);
        let high_watermark = inner.state.high_watermark();
        while let Some((_, wait)) = inner.produces.pop_front_if(|(at, _)| *at <= high_watermark) {
            effects.produces.push(wait);
        }
    }

    /// `Ok(true)` when everything before `end_offset` is committed; an error when it never will be.
    pub fn is_committed(&self, end_offset: Offset) -> Result<bool, PartitionError> {
        self.with(|inner, _| {
            inner.log()?;
            Ok(inner.state.high_watermark() >= end_offset)
        })
    }

    pub fn read(&self, from: &ReadFrom) -> Result<PartitionRead, PartitionError> {
        self.with(|inner, _| {
            inner.check_epoch(from.current_leader_epoch)?;
            let marks = inner.marks()?;
            let log = inner.log()?;
            if let Some(diverging) = diverging(log, from) {
                let diverging = Some(diverging);
                return Ok(PartitionRead::nothing(marks, from.offset, diverging));
            }
            if from.offset < marks.log_start_offset || from.offset > marks.log_end_offset {
                return Err(ReadError::OffsetOutOfRange {
                    offset: from.offset,
                    log_start_offset: marks.log_start_offset,
                    log_end_offset: marks.log_end_offset,
                }
                .into());
            }
            let upper = marks.upper(from.isolation);
            if from.offset >= upper {
                return Ok(PartitionRead::nothing(marks, from.offset, None));
            }
            inner.used = true;
            let log = inner.log()?;
            let read = log.read(from.offset, from.max_bytes, upper, from.at_least_one)?;
            let size_bytes = u64::from(read.size_bytes);
            Ok(PartitionRead {
                marks,
                data: read.data,
                size_bytes,
                next_offset: read.next_offset,
                diverging: None,
            })
        })
    }

    pub fn marks(&self) -> Result<Marks, PartitionError> {
        self.with(|inner, _| inner.marks())
    }

    /// As [`Partition::marks`], refused when the caller's idea of the leadership is not ours.
    pub fn marks_at(&self, epoch: LeaderEpoch) -> Result<Marks, PartitionError> {
        self.with(|inner, _| {
            inner.check_epoch(epoch)?;
            inner.marks()
        })
    }

    /// The first record at or after `timestamp` that readers of that isolation may see.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        isolation: Isolation,
    ) -> Result<Option<TimestampOffset>, PartitionError> {
        self.with(|inner, _| {
            let upper = inner.marks()?.upper(isolation);
            Ok(inner.log()?.offset_for_timestamp(timestamp, upper)?)
        })
    }

    /// The record with the largest timestamp.
    pub fn max_timestamp(
        &self,
        isolation: Isolation,
    ) -> Result<Option<TimestampOffset>, PartitionError> {
        self.with(|inner, _| {
            let upper = inner.marks()?.upper(isolation);
            let found = inner.log()?.max_timestamp()?;
            Ok(found.filter(|found| found.offset < upper))
        })
    }

    /// The leader epoch of the record at `offset`, or of the next leadership when it is the log
    /// end.
    pub fn epoch_at(&self, offset: Offset) -> Result<LeaderEpoch, PartitionError> {
        self.with(|inner, _| {
            let current = inner.state.leader_epoch();
            Ok(inner
                .log()?
                .leader_epochs()
                .epoch_of(offset)
                .unwrap_or(current))
        })
    }

    /// Where the leadership `epoch`, or the last one before it, ended.
    pub fn end_offset_for_epoch(
        &self,
        current_leader_epoch: LeaderEpoch,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, PartitionError> {
        self.with(|inner, _| {
            inner.check_epoch(current_leader_epoch)?;
            if epoch == inner.state.leader_epoch() {
                return Ok(Some((epoch, inner.log()?.log_end_offset())));
            }
            Ok(inner.log()?.end_offset_for_epoch(epoch))
        })
    }

    /// Registers a parked fetch. `seen` is [`Partition::changes`] from before the read: whatever
    /// happened since fires the fetch at once.
    pub fn watch(&self, wait: &Arc<FetchWait>, seen: u64) -> WatchKey {
        self.with(|inner, effects| {
            if self.changes() != seen {
                effects.fetches.push(Arc::clone(wait.waiter()));
            }
            inner.fetches.register(Arc::clone(wait))
        })
    }

    pub fn unwatch(&self, key: WatchKey) {
        self.with(|inner, _| inner.fetches.remove(key));
    }

    /// Takes the partition from the flush queue. `None` when there is no log to flush any more.
    pub fn begin_flush(&self) -> Option<Flush> {
        self.with(|inner, _| {
            let work = inner.log().ok()?.begin_flush();
            let to = inner.state.flush_begins();
            Some(Flush {
                work,
                to,
                is_checkpoint: false,
            })
        })
    }

    /// The same with the files of a checkpoint; may run beside a flush. `None` when there is
    /// nothing to do.
    pub fn begin_checkpoint(&self) -> Option<Flush> {
        self.with(|inner, _| {
            let work = inner.log().ok()?.begin_checkpoint();
            let to = inner.state.checkpoint_begins();
            (!work.is_empty()).then_some(Flush {
                work,
                to,
                is_checkpoint: true,
            })
        })
    }

    /// True when this much was appended since the last checkpoint began.
    pub fn checkpoint_due(&self, step_bytes: u64) -> bool {
        self.with(|inner, _| inner.log().is_ok() && inner.state.unchecked_bytes() >= step_bytes)
    }

    /// Gives memory back when nobody read or wrote since the last call.
    pub fn release_if_idle(&self) {
        self.with(|inner, _| {
            if std::mem::take(&mut inner.used) {
                return;
            }
            if let Ok(log) = inner.log_mut() {
                log.release_caches();
            }
        });
    }

    /// The sync is over. True when the partition must be queued again. A failed sync takes the
    /// partition offline: what the disk holds is unknown, and a second sync would hide that.
    pub fn finish_flush(&self, flush: Flush, result: std::io::Result<()>) -> bool {
        self.with(|inner, effects| {
            let failed = result.is_err();
            let (to, is_checkpoint) = (flush.to, flush.is_checkpoint);
            let Ok(log) = inner.log_mut() else {
                return false;
            };
            log.finish_flush(flush.work, result);
            if failed || log.poisoned() {
                self.leave(inner, LogSlot::Offline, effects);
                return false;
            }
            let (readable, again) = if is_checkpoint {
                (inner.state.synced(to), false)
            } else {
                inner.state.flushed(to)
            };
            self.became_readable(inner, readable, effects);
            again
        })
    }

    /// The flush timer rang; true when the partition must be queued.
    pub fn flush_timer_rang(&self) -> bool {
        self.with(|inner, _| inner.log().is_ok() && inner.state.timer_rang())
    }

    /// A new leadership of this broker begins at the log end.
    pub fn new_leader_epoch(&self, epoch: LeaderEpoch) {
        self.with(|inner, effects| {
            if !inner.state.lead(epoch) {
                return;
            }
            if let Ok(log) = inner.log_mut() {
                log.assign_leader_epoch(epoch);
            }
            self.changed();
            inner.fetches.fire_all(&mut effects.fetches);
        });
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        self.with(|inner, _| Arc::clone(&inner.config))
    }

    /// A changed configuration takes effect with the next append. Returns what to arrange.
    pub fn set_config(
        &self,
        config: Arc<TopicConfig>,
        log_config: LogConfig,
        policy: FlushPolicy,
        now: Instant,
    ) -> FlushDue {
        self.with(|inner, effects| {
            inner.config = config;
            let Ok(log) = inner.log_mut() else {
                return FlushDue::No;
            };
            log.set_config(log_config);
            let (readable, due) = inner.state.set_policy(policy, now);
            self.became_readable(inner, readable, effects);
            due
        })
    }

    /// `None` while offline or deleted: the directory's checkpoint files keep what they said.
    pub fn checkpoint_marks(&self) -> Option<CheckpointMarks> {
        self.with(|inner, _| match &inner.slot {
            LogSlot::Open(log) => Some(checkpoint_marks(log, &inner.state)),
            LogSlot::Closed(marks) => *marks,
            LogSlot::Offline => None,
        })
    }

    /// Bytes of all segments; 0 while offline.
    pub fn size_bytes(&self) -> u64 {
        self.with(|inner, _| inner.log().map_or(0, Log::size_bytes))
    }

    /// True while a parked fetch waits here.
    #[cfg(test)]
    pub(crate) fn is_watched(&self) -> bool {
        self.with(|inner, _| !inner.fetches.is_empty())
    }

    /// False after the topic was deleted or the broker closed its logs.
    pub fn is_hosted(&self) -> bool {
        self.with(|inner, _| !matches!(inner.slot, LogSlot::Closed(_)))
    }

    pub fn is_offline(&self) -> bool {
        self.with(|inner, _| matches!(inner.slot, LogSlot::Offline))
    }

    /// Flushes and closes the log for a clean shutdown. Later requests get `NotHosted`.
    pub fn close(&self) -> Result<(), LogError> {
        self.with(|inner, effects| {
            let LogSlot::Open(mut log) = self.leave(inner, LogSlot::Closed(None), effects) else {
                return Ok(());
            };
            let closed = log.close();
            let mut marks = checkpoint_marks(&log, &inner.state);
            marks.high_watermark = log.recovery_point().max(marks.high_watermark);
            inner.slot = LogSlot::Closed(Some(marks));
            closed
        })
    }

    /// The topic is deleted: everybody who waits is told, the files are the caller's.
    pub fn forget(&self) {
        self.with(|inner, effects| {
            self.leave(inner, LogSlot::Closed(None), effects);
        });
    }

    /// Stops serving: every waiting request looks again and finds the reason.
    fn leave(&self, inner: &mut Inner, to: LogSlot, effects: &mut Effects) -> LogSlot {
        self.changed();
        inner.fetches.fire_all(&mut effects.fetches);
        effects
            .produces
            .extend(inner.produces.drain(..).map(|(_, wait)| wait));
        std::mem::replace(&mut inner.slot, to)
    }
}

impl Inner {
    fn log(&self) -> Result<&Log, PartitionError> {
        match &self.slot {
            LogSlot::Open(log) => Ok(log),
            LogSlot::Offline => Err(PartitionError::Offline),
            LogSlot::Closed(_) => Err(PartitionError::NotHosted),
        }
    }

    fn log_mut(&mut self) -> Result<&mut Log, PartitionError> {
        match &mut self.slot {
            LogSlot::Open(log) => Ok(log),
            LogSlot::Offline => Err(PartitionError::Offline),
            LogSlot::Closed(_) => Err(PartitionError::NotHosted),
        }
    }

    fn await_commit(&mut self, end_offset: Offset, wait: Arc<ProduceWait>) {
        // A duplicate may wait for an older offset than the newest appended one.
        let at = self
            .produces
            .partition_point(|(offset, _)| *offset <= end_offset);
        self.produces.insert(at, (end_offset, wait));
    }

    fn marks(&self) -> Result<Marks, PartitionError> {
        let log = self.log()?;
        let high_watermark = self.state.high_watermark();
        Ok(Marks {
            log_start_offset: log.log_start_offset(),
            high_watermark,
            last_stable_offset: log.last_stable_offset(high_watermark),
            log_end_offset: log.log_end_offset(),
            leader_epoch: self.state.leader_epoch(),
            epoch_start_offset: self.state.epoch_start_offset(),
        })
    }

    fn check_epoch(&self, asked: LeaderEpoch) -> Result<(), PartitionError> {
        let current = self.state.leader_epoch();
        if asked == LeaderEpoch::NONE || asked == current {
            Ok(())
        } else if asked < current {
            Err(PartitionError::FencedLeaderEpoch { asked, current })
        } else {
            Err(PartitionError::UnknownLeaderEpoch { asked, current })
        }
    }
}

impl Marks {
    /// The first offset that readers of that isolation may not see.
    pub fn upper(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable_offset,
        }
    }
}

fn checkpoint_marks(log: &Log, state: &PartitionState) -> CheckpointMarks {
    CheckpointMarks {
        recovery_point: log.checkpointed_offset(),
        log_start_offset: log.log_start_offset(),
        high_watermark: state.high_watermark(),
    }
}

/// The reader says which epoch its last record had; when our history of that epoch ends before the
/// reader's offset, its tail was never ours.
fn diverging(log: &Log, from: &ReadFrom) -> Option<(LeaderEpoch, Offset)> {
    if from.last_fetched_epoch == LeaderEpoch::NONE {
        return None;
    }
    let (epoch, end) = log
        .end_offset_for_epoch(from.last_fetched_epoch)
        .unwrap_or((LeaderEpoch::NONE, log.log_start_offset()));
    (epoch < from.last_fetched_epoch || end < from.offset).then_some((epoch, end))
}

#[cfg(test)]
mod tests;
