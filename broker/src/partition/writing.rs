//! The writing side of a partition: appends, the waits for their commit, flushes and checkpoints.
//! A sync runs without the lock, between `begin_*` and `finish_flush`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ottla_protocol::batch::{BatchHeader, RecordBatch};
use ottla_protocol::types::Offset;
use ottla_storage::log::{
    AppendAt, AppendError, FlushWork, Log, LogError, Origin, ReadError, RecordWork, WriteBack,
};

use super::state::{FlushDue, FlushPolicy, Position};
use super::{DiskTrouble, Effects, Inner, LogSlot, Partition, PartitionError, copy_of};
use crate::config::{Config, Durability, TopicConfig};
use crate::purgatory::{LazyWait, ProduceWait};

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
    pub write_back: Option<PartitionWriteBack>,
    /// The disk's budget is spent: the answer is to wait for [`Partition::watch_flush`].
    pub slow: bool,
    /// A segment was sealed: a checkpoint would let its memory go.
    pub rolled: bool,
}

/// A stretch of a partition on its way to the disk, and how far the partition is there then.
#[derive(Debug)]
pub struct PartitionWriteBack {
    pub work: WriteBack,
    position: u64,
}

/// A flush on its way: made under the lock, carried out without it.
pub struct Flush {
    work: FlushWork,
    to: Position,
    is_checkpoint: bool,
    /// Bytes that are on the disk afterwards, as [`DirtyShare`](crate::dirty::DirtyShare) counts.
    position: u64,
}

impl Flush {
    /// Has the disk begin, when several flushes are run one after another.
    pub fn start(&self) {
        self.work.start();
    }

    /// Syncs; blocks for as long as the disk takes.
    pub fn run(&self) -> std::io::Result<()> {
        self.work.run()
    }

    /// Why the files of a checkpoint were not written, after it ran.
    pub fn checkpoint_error(&self) -> Option<std::io::Error> {
        self.work.checkpoint_error()
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
    /// Appends one batch whose CRC the caller has checked. When `wait` is given and the batch is
    /// not committed at once, it is told when it is, or when it never will be.
    pub fn append(
        &self,
        batch: RecordBatch,
        produce_version: i16,
        (now, now_ms): (Instant, i64),
        wait: Option<&mut LazyWait<'_>>,
    ) -> Result<Appended, PartitionError> {
        self.append_from(
            Origin::Client { produce_version },
            batch,
            (now, now_ms),
            wait,
        )
    }

    /// What must be done with a batch of a client before it is appended by
    /// [`Partition::append_opened`]; `None`: [`Partition::append`] takes it as it is.
    pub fn record_work(&self) -> Option<Arc<RecordWork>> {
        if !self.opens_records.load(Ordering::Acquire) {
            return None;
        }
        self.record_work.load_full()
    }

    /// Appends a batch that [`Partition::record_work`] has made.
    pub fn append_opened(
        &self,
        batch: RecordBatch,
        produce_version: i16,
        times: (Instant, i64),
        wait: Option<&mut LazyWait<'_>>,
    ) -> Result<Appended, PartitionError> {
        self.append_from(Origin::ClientOpened { produce_version }, batch, times, wait)
    }

    /// Appends a batch of the broker's own; see [`Partition::watch_commit`].
    pub fn append_own(
        &self,
        batch: RecordBatch,
        times: (Instant, i64),
    ) -> Result<Appended, PartitionError> {
        self.append_from(Origin::Coordinator, batch, times, None)
    }

    /// Tells `wait` when everything before `end_offset` is committed, or never will be; false when
    /// there is nothing to wait for.
    pub fn watch_commit(&self, end_offset: Offset, wait: &Arc<ProduceWait>) -> bool {
        let watched = self.with_soon(|inner, _| {
            let pending = inner.log().is_ok() && inner.state.high_watermark() < end_offset;
            if pending {
                inner.await_commit(end_offset, Arc::clone(wait));
            }
            Ok(pending)
        });
        watched.unwrap_or(false)
    }

    fn append_from(
        &self,
        origin: Origin,
        batch: RecordBatch,
        times: (Instant, i64),
        wait: Option<&mut LazyWait<'_>>,
    ) -> Result<Appended, PartitionError> {
        let header = *batch.header();
        let appended = self.with_soon(|inner, effects| {
            self.note_refused(inner);
            let dir = self.place.load();
            let Some(_inside) = dir.enter() else {
                inner.refuse(&header, origin);
                return Ok(Err(PartitionError::Hangs));
            };
            Ok(self.append_locked((inner, effects), origin, batch, times, wait))
        });
        appended.unwrap_or_else(|error| {
            self.refused_without_lock([header], origin);
            Err(error)
        })
    }

    /// What follows a batch that was refused because the lock could not be had must not take its
    /// place.
    fn refused_without_lock(&self, headers: impl IntoIterator<Item = BatchHeader>, origin: Origin) {
        if is_client(origin) {
            headers
                .into_iter()
                .for_each(|header| self.refused.note(&header));
        }
    }

    fn note_refused(&self, inner: &mut Inner) {
        for header in self.refused.take().values() {
            if let Ok(log) = inner.log_mut() {
                log.refused(header);
            }
        }
    }

    /// Appends batches of one client one after another as [`Partition::append`] does, and writes
    /// them at once as far as that is possible.
    pub fn append_run(
        &self,
        mut batches: Vec<RecordBatch>,
        produce_version: i16,
        times: (Instant, i64),
        waits: &mut [LazyWait<'_>],
    ) -> Vec<Result<Appended, PartitionError>> {
        let origin = Origin::Client { produce_version };
        let headers: Vec<_> = batches.iter().map(|batch| *batch.header()).collect();
        let appended = self.with_soon(|inner, effects| {
            self.note_refused(inner);
            let dir = self.place.load();
            let Some(_inside) = dir.enter() else {
                headers
                    .iter()
                    .for_each(|header| inner.refuse(header, origin));
                let refused = headers.iter().map(|_| Err(PartitionError::Hangs));
                return Ok(refused.collect());
            };
            if batches.len() > 1 {
                inner.write_ahead(&mut batches, origin, times.1);
            }
            let appended = batches
                .into_iter()
                .zip(waits)
                .map(|(batch, wait)| {
                    self.append_locked((inner, effects), origin, batch, times, Some(wait))
                })
                .collect();
            if let Ok(log) = inner.log_mut() {
                log.end_ahead();
            }
            Ok(appended)
        });
        appended.unwrap_or_else(|_| {
            self.refused_without_lock(headers.iter().copied(), origin);
            headers.iter().map(|_| Err(PartitionError::Hangs)).collect()
        })
    }

    fn append_locked(
        &self,
        (inner, effects): (&mut Inner, &mut Effects),
        origin: Origin,
        batch: RecordBatch,
        (now, now_ms): (Instant, i64),
        wait: Option<&mut LazyWait<'_>>,
    ) -> Result<Appended, PartitionError> {
        let at = inner.append_at(origin, now_ms);
        inner.used = true;
        inner.check_not_held()?;
        if is_client(origin) {
            inner.admit(&batch)?;
        }
        let appended = inner.log_mut()?.append(batch, &at);
        let done = appended.map_err(|error| self.not_written(inner, error, effects))?;
        inner.seat.space.took(u64::from(done.size_bytes));
        let end_offset = done.last_offset.next();
        let (mut flush, mut slow) = (FlushDue::No, false);
        let records = end_offset - done.base_offset;
        let written = if done.duplicate {
            (0, 0)
        } else {
            (records as u64, u64::from(done.size_bytes))
        };
        self.counters.produced(written.0, written.1);
        if !done.duplicate {
            let size_bytes = u64::from(done.size_bytes);
            inner.dirty.appended(size_bytes);
            let (readable, due) = inner.state.appended(end_offset, size_bytes, now);
            slow = inner.is_to_be_slowed(origin);
            let hurries = slow && inner.state.hurry();
            flush = if hurries { FlushDue::Now } else { due };
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
            write_back: done.write_back.map(|work| PartitionWriteBack {
                work,
                position: inner.dirty.position(),
            }),
            slow,
            rolled: done.rolled,
        })
    }

    /// An append failed: the directory is told when its disk is to blame.
    fn not_written(
        &self,
        inner: &Inner,
        error: AppendError,
        effects: &mut Effects,
    ) -> PartitionError {
        if let AppendError::Log(LogError::Io { path, source }) = &error {
            tracing::warn!(partition = ?self, %error, "records could not be written");
            let copy = copy_of(source);
            let dir = Arc::clone(inner.seat.dir());
            effects.trouble = Some((dir, DiskTrouble::Written(path.clone(), copy)));
        }
        error.into()
    }

    /// Raises the log start to `before`, or to the high watermark, and tells where it is then. It
    /// never goes back. What is below is gone for readers at once; that it stays gone after a
    /// crash is for the caller to arrange.
    pub fn delete_records(&self, before: Option<Offset>) -> Result<Offset, PartitionError> {
        self.with_soon(|inner, effects| {
            inner.check_not_held()?;
            let marks = inner.marks()?;
            let before = before.unwrap_or(marks.high_watermark);
            if before < Offset::ZERO || before > marks.high_watermark {
                return Err(ReadError::OffsetOutOfRange {
                    offset: before,
                    log_start_offset: marks.log_start_offset,
                    log_end_offset: marks.high_watermark,
                }
                .into());
            }
            if before <= marks.log_start_offset {
                return Ok(marks.log_start_offset);
            }
            let log = inner.log_mut()?;
            log.advance_log_start_offset(before)
                .map_err(ReadError::from)?;
            self.changed();
            self.fire_fetches(effects);
            Ok(before)
        })
    }

    pub(super) fn became_readable(&self, inner: &mut Inner, bytes: u64, effects: &mut Effects) {
        if bytes == 0 {
            return;
        }
        self.changed();
        let high_watermark = inner.state.high_watermark();
        if let Ok(log) = inner.log_mut() {
            log.high_watermark_advanced(high_watermark);
        }
        self.fetches.lock().credit(bytes, &mut effects.fetches);
        while let Some((_, wait)) = inner.produces.pop_front_if(|(at, _)| *at <= high_watermark) {
            effects.produces.push(wait);
        }
    }

    /// `Ok(true)` when everything before `end_offset` is committed; an error when it never will be.
    pub fn is_committed(&self, end_offset: Offset) -> Result<bool, PartitionError> {
        self.with_soon(|inner, _| {
            inner.log()?;
            Ok(inner.state.high_watermark() >= end_offset)
        })
    }

    /// Tells `wait` when everything before `end_offset` is on the disk, or never will be; false
    /// when there is nothing to wait for.
    pub fn watch_flush(&self, end_offset: Offset, wait: &Arc<ProduceWait>) -> bool {
        let watched = self.with_soon(|inner, _| {
            let pending = inner.log().is_ok() && inner.state.flushed_to() < end_offset;
            if pending {
                insert(&mut inner.slowed, end_offset, Arc::clone(wait));
            }
            Ok(pending)
        });
        watched.unwrap_or(false)
    }

    /// Whether everything before `end_offset` is on the disk.
    pub fn is_flushed(&self, end_offset: Offset) -> Result<bool, PartitionError> {
        self.with_soon(|inner, _| {
            inner.log()?;
            Ok(inner.state.flushed_to() >= end_offset)
        })
    }

    /// The stretch is written back.
    pub fn wrote_back(&self, write_back: &PartitionWriteBack) {
        self.with(|inner, _| inner.dirty.clean_to(write_back.position));
    }

    /// Takes the partition from the flush queue. `None` when there is no log to flush any more.
    pub fn begin_flush(&self) -> Option<Flush> {
        self.with(|inner, _| {
            if inner.held {
                inner.flush_held = true;
                return None;
            }
            let work = inner.log().ok()?.begin_flush();
            inner.flushing += 1;
            let to = inner.state.flush_begins();
            Some(Flush {
                work,
                to,
                is_checkpoint: false,
                position: inner.dirty.position(),
            })
        })
    }

    /// The sync is over; returns what to arrange next. A failed sync takes the partition offline:
    /// what the disk holds is unknown, and a second sync would hide that. One that found no
    /// descriptor was not tried, and is tried again.
    pub fn finish_flush(
        &self,
        flush: Flush,
        result: std::io::Result<()>,
        now: Instant,
    ) -> FlushDue {
        self.with(|inner, effects| {
            inner.flushing = inner.flushing.saturating_sub(1);
            let failed = result.is_err();
            let (to, is_checkpoint) = (flush.to, flush.is_checkpoint);
            let position = flush.position;
            let Ok(log) = inner.log_mut() else {
                return FlushDue::No;
            };
            log.finish_flush(flush.work, result);
            if log.poisoned() {
                self.leave(inner, LogSlot::Offline, effects);
                return FlushDue::No;
            }
            if failed && is_checkpoint {
                inner.state.checkpoint_postponed();
                return FlushDue::No;
            }
            if failed {
                return inner.state.flush_postponed(now);
            }
            inner.dirty.clean_to(position);
            let (readable, due) = if is_checkpoint {
                (inner.state.synced(to), FlushDue::No)
            } else {
                inner.state.flushed(to, now)
            };
            self.became_readable(inner, readable, effects);
            inner.wake_slowed(effects);
            due
        })
    }

    /// Makes the next small syncs cheap, where answers wait for syncs
    /// ([`ottla_storage::log::Log::write_zeros_ahead`]). For after a flush and its answers.
    pub fn write_zeros_ahead(&self) -> Option<WriteBack> {
        let wanted = |inner: &Inner| !inner.held && inner.state.durability() == Durability::Commit;
        self.with(|inner, _| match wanted(inner) {
            false => None,
            true => inner.log_mut().ok()?.write_zeros_ahead(),
        })
    }

    /// The flush timer rang; true when the partition must be queued.
    pub fn flush_timer_rang(&self) -> bool {
        self.with(|inner, _| inner.log().is_ok() && inner.state.timer_rang())
    }

    /// The same with the files of a checkpoint; may run beside a flush. `None` when there is
    /// nothing to do.
    pub fn begin_checkpoint(&self) -> Option<Flush> {
        self.checkpoint_with(Log::begin_checkpoint)
    }

    /// The same for a log that nobody uses: its indexes can be released afterwards.
    pub fn begin_idle_checkpoint(&self) -> Option<Flush> {
        self.checkpoint_with(Log::begin_idle_checkpoint)
    }

    fn checkpoint_with(&self, begin: impl FnOnce(&Log) -> FlushWork) -> Option<Flush> {
        self.with(|inner, _| {
            if inner.held {
                return None;
            }
            let work = begin(inner.log().ok()?);
            let to = inner.state.checkpoint_begins();
            if work.is_empty() {
                return None;
            }
            inner.flushing += 1;
            Some(Flush {
                work,
                to,
                is_checkpoint: true,
                position: inner.dirty.position(),
            })
        })
    }

    /// What was appended since the last checkpoint began: a start after a crash would have to
    /// check it.
    pub fn unchecked_bytes(&self) -> u64 {
        self.with(|inner, _| inner.log().map_or(0, |_| inner.state.unchecked_bytes()))
    }
}

impl Inner {
    fn append_at(&self, origin: Origin, now_ms: i64) -> AppendAt {
        AppendAt {
            leader_epoch: self.state.leader_epoch(),
            now_ms,
            origin,
        }
    }

    /// Writes batches that are appended next, if nothing speaks against any of them.
    fn write_ahead(&mut self, batches: &mut [RecordBatch], origin: Origin, now_ms: i64) {
        let size_bytes: u64 = batches.iter().map(|batch| batch.size_bytes() as u64).sum();
        if self.check_not_held().is_err() || self.seat.admit(size_bytes).is_err() {
            return;
        }
        let at = self.append_at(origin, now_ms);
        if let Ok(log) = self.log_mut() {
            log.write_ahead(batches, &at);
        }
    }

    /// A batch of a client was not let in.
    fn refuse(&mut self, header: &BatchHeader, origin: Origin) {
        if let (true, Ok(log)) = (is_client(origin), self.log_mut()) {
            log.refused(header);
        }
    }

    /// Whether the directory has room for a batch of a client.
    fn admit(&mut self, batch: &RecordBatch) -> Result<(), PartitionError> {
        let refused = self.seat.admit(batch.size_bytes() as u64);
        if refused.is_err() {
            let header = *batch.header();
            self.log_mut()?.refused(&header);
        }
        Ok(refused?)
    }

    fn await_commit(&mut self, end_offset: Offset, wait: Arc<ProduceWait>) {
        insert(&mut self.produces, end_offset, wait);
    }

    /// Those who wait for what is on the disk now.
    pub(super) fn wake_slowed(&mut self, effects: &mut Effects) {
        let flushed = self.state.flushed_to();
        while let Some((_, wait)) = self.slowed.pop_front_if(|(at, _)| *at <= flushed) {
            effects.produces.push(wait);
        }
    }

    /// Clients in classes that do not wait for the disk, while its budget is spent.
    fn is_to_be_slowed(&self, origin: Origin) -> bool {
        is_client(origin) && self.state.durability() != Durability::Commit && self.dirty.is_spent()
    }
}

fn is_client(origin: Origin) -> bool {
    matches!(origin, Origin::Client { .. } | Origin::ClientOpened { .. })
}

/// A duplicate may wait for an older offset than the newest appended one.
fn insert(
    waits: &mut VecDeque<(Offset, Arc<ProduceWait>)>,
    end_offset: Offset,
    wait: Arc<ProduceWait>,
) {
    let at = waits.partition_point(|(offset, _)| *offset <= end_offset);
    waits.insert(at, (end_offset, wait));
}
