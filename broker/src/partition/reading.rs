//! The reading side of a partition: records up to what a reader may see, offsets by time and by
//! epoch, and the registration of fetches that wait for more. Nothing here changes the log.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_protocol::types::{LeaderEpoch, Offset};
use ottla_storage::disk::RecordData;
use ottla_storage::log::{
    AbortedTransaction, ByTime, ColdRead, Log, LogRead, ReadError, Resident, Stamp, TimeSearch,
    TimestampOffset,
};

use super::{DiskTrouble, Effects, Inner, Partition, PartitionError, Suspicion, copy_of};
use crate::purgatory::{FetchWait, WatchKey};

/// A log may change under a search without its lock; after so many attempts it takes the lock.
const SEARCHES_MAX: usize = 8;

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

impl Marks {
    /// The first offset that readers of that isolation may not see.
    pub fn upper(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable_offset,
        }
    }
}

/// What a read found.
#[derive(Debug)]
pub struct PartitionRead {
    pub marks: Marks,
    pub data: Vec<RecordData>,
    pub size_bytes: u64,
    /// Where the reader goes on; its own offset when there was nothing.
    pub next_offset: Offset,
    /// What a read-committed reader must drop of it, by first offset.
    pub aborted: Vec<AbortedTransaction>,
    /// The reader's tail is not ours: it has to truncate to this epoch and offset.
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

/// A read that must not wait for the disk.
#[derive(Debug)]
pub enum Reading {
    Found(PartitionRead),
    Cold(ColdPart),
}

/// What of a read has to wait; see [`Partition::warm`].
#[derive(Debug)]
pub struct ColdPart {
    work: Box<ColdRead>,
    /// Its records, if these are known.
    found: Option<LogRead>,
}

/// What was found by waiting; for the next attempt of the same read, if the log is still the same
/// then.
#[derive(Debug)]
pub struct Warmed {
    read: Result<Option<LogRead>, ReadError>,
    stamp: Stamp,
}

impl Warmed {
    /// Of the records that were found.
    pub fn size_bytes(&self) -> u64 {
        let read = self.read.as_ref().ok().and_then(Option::as_ref);
        read.map_or(0, |read| u64::from(read.size_bytes))
    }
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
            aborted: Vec::new(),
            diverging,
        }
    }
}

impl Partition {
    pub fn read(&self, from: &ReadFrom) -> Result<PartitionRead, PartitionError> {
        self.with_soon(|inner, effects| {
            let read = Partition::read_from(inner, from, |log, upper| {
                found_by_waiting(log, from, upper).map(Ok::<_, Infallible>)
            });
            self.note_failure(&read, inner, effects);
            read.map(|Ok(read)| read)
        })
    }

    /// As [`Partition::read`], but without waiting for the disk. What an earlier attempt had to
    /// wait for is in `warmed`.
    pub fn read_resident(
        &self,
        from: &ReadFrom,
        warmed: Option<Warmed>,
    ) -> Result<Reading, PartitionError> {
        self.with_soon(|inner, effects| {
            let read = Partition::read_from(inner, from, |log, upper| {
                found_in_memory(log, from, upper, warmed)
            });
            self.note_failure(&read, inner, effects);
            Ok(match read? {
                Ok(read) => Reading::Found(read),
                Err(cold) => Reading::Cold(cold),
            })
        })
    }

    /// Waits for the disk, without the partition's lock, for what a read found cold. The threads
    /// that do this serve all directories.
    pub fn warm(&self, ColdPart { work, found }: ColdPart) -> Warmed {
        let (read, stamp) = (work.run(), work.stamp().clone());
        // Whether the log has changed meanwhile the next attempt sees. Who holds the lock may wait
        // for a disk that hangs: then nothing is kept.
        let _ = self.with_soon(|inner, _| Ok(inner.log_mut()?.adopt(*work)));
        let read = read.map(|read| read.or(found));
        Warmed { read, stamp }
    }

    fn note_failure<T>(
        &self,
        read: &Result<T, PartitionError>,
        inner: &Inner,
        effects: &mut Effects,
    ) {
        if let Err(PartitionError::Read(error)) = read {
            self.suspect(error);
        }
        if let Err(PartitionError::Read(ReadError::Io { source, .. })) = read {
            tracing::warn!(partition = ?self, error = %source, "records could not be read");
            let dir = Arc::clone(inner.seat.dir());
            effects.trouble = Some((dir, DiskTrouble::Read(copy_of(source))));
        }
    }

    fn read_from<C>(
        inner: &mut Inner,
        from: &ReadFrom,
        find: impl FnOnce(&Log, Offset) -> Result<Result<Records, C>, ReadError>,
    ) -> Result<Result<PartitionRead, C>, PartitionError> {
        inner.check_epoch(from.current_leader_epoch)?;
        let marks = inner.marks()?;
        let log = inner.log()?;
        if let Some(diverging) = diverging(log, from) {
            let diverging = Some(diverging);
            let nothing = PartitionRead::nothing(marks, from.offset, diverging);
            return Ok(Ok(nothing));
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
            let nothing = PartitionRead::nothing(marks, from.offset, None);
            return Ok(Ok(nothing));
        }
        inner.used = true;
        let log = inner.log()?;
        let found = find(log, upper)?;
        Ok(found.map(|(read, aborted)| PartitionRead {
            marks,
            size_bytes: u64::from(read.size_bytes),
            data: read.data,
            next_offset: read.next_offset,
            aborted,
            diverging: None,
        }))
    }

    /// Tells once that a read met damage; the scrub will look how far it goes.
    fn suspect(&self, error: &ReadError) {
        let none = (Suspicion::NONE, Suspicion::MET);
        let first = || {
            let order = (Ordering::AcqRel, Ordering::Acquire);
            let swapped = self
                .suspicion
                .compare_exchange(none.0, none.1, order.0, order.1);
            swapped.is_ok()
        };
        if matches!(error, ReadError::Corrupt { .. }) && first() {
            tracing::error!(partition = ?self, %error, "a client's read met damaged bytes");
        }
    }

    /// True once after a read met damage.
    pub fn take_suspicion(&self) -> bool {
        let (met, looked) = (Suspicion::MET, Suspicion::LOOKED_AT);
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let swapped = self
            .suspicion
            .compare_exchange(met, looked, order.0, order.1);
        swapped.is_ok()
    }

    pub fn marks(&self) -> Result<Marks, PartitionError> {
        self.with_soon(|inner, _| inner.marks())
    }

    /// As [`Partition::marks`], refused when the caller's idea of the leadership is not ours.
    pub fn marks_at(&self, epoch: LeaderEpoch) -> Result<Marks, PartitionError> {
        self.with_soon(|inner, _| {
            inner.check_epoch(epoch)?;
            inner.marks()
        })
    }

    /// The record that is looked for among those that readers of that isolation may see. Waits for
    /// the disk, but not with the partition's lock.
    pub fn find_by_time(
        &self,
        by: ByTime,
        isolation: Isolation,
    ) -> Result<Option<TimestampOffset>, PartitionError> {
        for _ in 0..SEARCHES_MAX {
            let (search, upper) = self.with_soon(|inner, _| inner.search(by, isolation))?;
            let found = search.run();
            let counts = self.with_soon(|inner, _| Ok(inner.log()?.adopt_search(search)))?;
            if counts {
                return self.found_by_time(found, upper);
            }
        }
        // The log changes all the time: once more, and it has to wait.
        let (found, upper) = self.with_soon(|inner, _| {
            let (search, upper) = inner.search(by, isolation)?;
            let _inside = inner.seat.enter().ok_or(PartitionError::Hangs)?;
            Ok((search.run(), upper))
        })?;
        self.found_by_time(found, upper)
    }

    fn found_by_time(
        &self,
        found: Result<Option<TimestampOffset>, ReadError>,
        upper: Offset,
    ) -> Result<Option<TimestampOffset>, PartitionError> {
        Ok(found?.filter(|found| found.offset < upper))
    }

    /// The leader epoch of the record at `offset`, or of the next leadership when it is the log
    /// end.
    pub fn epoch_at(&self, offset: Offset) -> Result<LeaderEpoch, PartitionError> {
        self.with_soon(|inner, _| {
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
        self.with_soon(|inner, _| {
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
        let mut fetches = self.fetches.lock();
        let key = fetches.register(Arc::clone(wait));
        drop(fetches);
        // Whoever changes something counts it first and then looks for those who wait.
        if self.changes() != seen {
            wait.waiter().fire();
        }
        key
    }

    pub fn unwatch(&self, key: WatchKey) {
        self.fetches.lock().remove(key);
    }
}

/// Records and what of them was aborted.
type Records = (LogRead, Vec<AbortedTransaction>);

fn found_by_waiting(log: &Log, from: &ReadFrom, upper: Offset) -> Result<Records, ReadError> {
    let read = log.read(from.offset, from.max_bytes, upper, from.at_least_one)?;
    let aborted = match from.isolation {
        Isolation::ReadCommitted => log.aborted_transactions(from.offset, read.next_offset)?,
        Isolation::ReadUncommitted => Vec::new(),
    };
    Ok((read, aborted))
}

fn found_in_memory(
    log: &Log,
    from: &ReadFrom,
    upper: Offset,
    warmed: Option<Warmed>,
) -> Result<Result<Records, ColdPart>, ReadError> {
    let (offset, max_bytes) = (from.offset, from.max_bytes);
    // What was read of a log that has changed says nothing, nor does its error.
    let warmed = warmed.filter(|warmed| log.is_at(&warmed.stamp));
    let warmed = warmed.map_or(Ok(None), |warmed| warmed.read)?;
    let fits = |read: &LogRead| {
        read.next_offset <= upper && (read.size_bytes <= max_bytes || from.at_least_one)
    };
    let read = match warmed.filter(fits) {
        Some(read) => read,
        None => match log.read_resident(offset, max_bytes, upper, from.at_least_one)? {
            Resident::Found(read) => read,
            Resident::Cold(work) => return Ok(Err(ColdPart { work, found: None })),
        },
    };
    if from.isolation == Isolation::ReadUncommitted {
        return Ok(Ok((read, Vec::new())));
    }
    match log.aborted_transactions_resident(offset, read.next_offset)? {
        Resident::Found(aborted) => Ok(Ok((read, aborted))),
        Resident::Cold(work) => {
            let found = Some(read);
            Ok(Err(ColdPart { work, found }))
        }
    }
}

impl Inner {
    /// A search by time, and what readers may not see of its result. The youngest record is looked
    /// for in the whole log: when it is not visible yet, there is none.
    fn search(
        &mut self,
        by: ByTime,
        isolation: Isolation,
    ) -> Result<(TimeSearch, Offset), PartitionError> {
        let marks = self.marks()?;
        let upper = marks.upper(isolation);
        let below = match by {
            ByTime::AtLeast(_) => upper,
            ByTime::Youngest => marks.log_end_offset,
        };
        Ok((self.log()?.search_by_time(by, below), upper))
    }

    pub(super) fn marks(&self) -> Result<Marks, PartitionError> {
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

/// The reader says which epoch its last record had; when our history of that epoch ends before the
/// reader's offset, its tail was never ours.
fn diverging(log: &Log, from: &ReadFrom) -> Option<(LeaderEpoch, Offset)> {
    if from.last_fetched_epoch == LeaderEpoch::NONE {
        return None;
    }
    let (epoch, end) = log
        .end_offset_for_epoch(from.last_fetched_epoch)
        .unwrap_or_else(|| (LeaderEpoch::NONE, log.log_start_offset()));
    (epoch < from.last_fetched_epoch || end < from.offset).then_some((epoch, end))
}
