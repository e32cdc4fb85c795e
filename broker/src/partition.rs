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

mod compacting;
mod errors;
pub mod map;
mod moving;
mod reading;
mod refused;
mod retaining;
pub mod state;
mod writing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::log::{AppendError, Log, LogConfig, LogError, ReadError, RecordWork};

use crate::config::TopicConfig;
use crate::dirty::DirtyShare;
use crate::log_dirs::{LogDir, NoRoom, Seat};
use crate::metrics::PartitionCounters;
use crate::purgatory::{ProduceWait, Waiter, Watches};
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Mutex, MutexGuard};
use moving::Moving;
use refused::Refused;
use state::{FlushDue, FlushPolicy, PartitionState};

pub use moving::{Copied, FutureSample};
pub use reading::{ColdPart, Isolation, Marks, PartitionRead, ReadFrom, Reading, Warmed};
pub use writing::{Appended, Flush, PartitionWriteBack, flush_policy};

/// Why a partition did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    #[error("the partition's log is offline after a disk error")]
    Offline,
    #[error("this broker no longer hosts the partition")]
    NotHosted,
    #[error("the partition is changing its log directory; try again")]
    Moving,
    /// It may come back: see `crate::log_dirs`.
    #[error("the disk of the partition's log directory does not answer; try again")]
    Hangs,
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
    NoRoom(#[from] NoRoom),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What a directory's checkpoint files say about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckpointMarks {
    pub recovery_point: Offset,
    pub log_start_offset: Offset,
    pub high_watermark: Offset,
    pub compacted_to: Offset,
}

/// What a topic's configuration says to one of its partitions.
pub struct Configured {
    pub topic: Arc<TopicConfig>,
    pub log: LogConfig,
    pub policy: FlushPolicy,
}

/// One partition of a topic, hosted and led by this broker.
pub struct Partition {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub index: i32,
    pub counters: PartitionCounters,
    changes: AtomicU64,
    /// Batches need work before they are appended: known without the lock.
    opens_records: AtomicBool,
    record_work: ArcSwapOption<RecordWork>,
    /// Not deleted or closed; known without the lock.
    hosted: AtomicBool,
    config: ArcSwap<TopicConfig>,
    /// Taken after `inner`, and never held while anybody waits for a disk.
    fetches: Mutex<Watches>,
    refused: Refused,
    suspicion: AtomicU8,
    /// The directory of `inner.seat`, known without the lock: who holds it may wait for that disk.
    place: ArcSwap<LogDir>,
    /// The same of `inner.moving`.
    bound_for: ArcSwapOption<LogDir>,
    inner: Mutex<Inner>,
}

/// Whether a read met damaged bytes that the scrub has not measured yet.
struct Suspicion;

impl Suspicion {
    const NONE: u8 = 0;
    const MET: u8 = 1;
    const LOOKED_AT: u8 = 2;
}

enum LogSlot {
    Open(Box<Log>),
    Offline,
    /// Deleted, or closed at shutdown; then with what the checkpoint files must say.
    Closed(Option<CheckpointMarks>),
}

struct Inner {
    slot: LogSlot,
    seat: Seat,
    state: PartitionState,
    /// Produces that wait for the high watermark, by the offset they wait for (ascending, because
    /// appends ascend).
    produces: VecDeque<(Offset, Arc<ProduceWait>)>,
    /// Produces that wait for the disk because its budget is spent, in the same way.
    slowed: VecDeque<(Offset, Arc<ProduceWait>)>,
    dirty: DirtyShare,
    config: Arc<TopicConfig>,
    /// Where the log is to begin, once the checkpoint file says so.
    log_start_wanted: Offset,
    /// Read or written since the last look for idle partitions.
    used: bool,
    /// On its way to another directory.
    moving: Option<Moving>,
    /// The last step of a move is under way: nothing is written or flushed.
    held: bool,
    /// A flush was asked for meanwhile.
    flush_held: bool,
    /// Flushes and checkpoints that run now.
    flushing: u32,
    /// Somebody is inside; true for the next one only after a panic.
    busy: bool,
}

/// Wake-ups collected under the lock and carried out after it.
#[derive(Default)]
struct Effects {
    fetches: Vec<Arc<Waiter>>,
    produces: Vec<Arc<ProduceWait>>,
    trouble: Option<(Arc<LogDir>, DiskTrouble)>,
}

/// An error of the disk, on its way to the directory.
enum DiskTrouble {
    Written(String, std::io::Error),
    Read(std::io::Error),
}

impl Effects {
    fn carry_out(self) {
        match self.trouble {
            Some((dir, DiskTrouble::Written(path, error))) => dir.report(&path, &error),
            Some((dir, DiskTrouble::Read(error))) => dir.suspect(&error),
            None => {}
        }
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

impl Partition {
    /// `log` is flushed to its end, and `epoch` is recorded there as the start of a new leadership.
    pub fn lead(
        (topic, topic_id, index): (Arc<str>, TopicId, i32),
        (mut log, seat): (Log, Seat),
        epoch: LeaderEpoch,
        config: Arc<TopicConfig>,
        policy: FlushPolicy,
    ) -> Partition {
        log.assign_leader_epoch(epoch);
        let state = PartitionState::new(policy, epoch, log.log_end_offset());
        Partition::new(
            (topic, topic_id, index),
            (LogSlot::Open(Box::new(log)), seat),
            state,
            config,
        )
    }

    /// A partition whose log cannot be used; clients are told to retry elsewhere or later.
    pub fn offline(
        name: (Arc<str>, TopicId, i32),
        seat: Seat,
        epoch: LeaderEpoch,
        config: Arc<TopicConfig>,
        policy: FlushPolicy,
    ) -> Partition {
        let state = PartitionState::new(policy, epoch, Offset::ZERO);
        Partition::new(name, (LogSlot::Offline, seat), state, config)
    }

    fn new(
        (topic, topic_id, index): (Arc<str>, TopicId, i32),
        (slot, seat): (LogSlot, Seat),
        state: PartitionState,
        config: Arc<TopicConfig>,
    ) -> Partition {
        let work = match &slot {
            LogSlot::Open(log) => log.config().record_work(),
            LogSlot::Offline | LogSlot::Closed(_) => None,
        };
        let dirty = DirtyShare::new(&seat.dirty);
        let place = ArcSwap::new(Arc::clone(seat.dir()));
        let inner = Inner {
            slot,
            seat,
            state,
            produces: VecDeque::new(),
            slowed: VecDeque::new(),
            dirty,
            config: Arc::clone(&config),
            log_start_wanted: Offset::ZERO,
            used: false,
            moving: None,
            held: false,
            flush_held: false,
            flushing: 0,
            busy: false,
        };
        Partition {
            topic,
            topic_id,
            index,
            counters: PartitionCounters::default(),
            changes: AtomicU64::new(0),
            opens_records: AtomicBool::new(work.is_some()),
            record_work: ArcSwapOption::new(work.map(Arc::new)),
            hosted: AtomicBool::new(true),
            config: ArcSwap::new(config),
            fetches: Mutex::default(),
            refused: Refused::default(),
            suspicion: AtomicU8::new(Suspicion::NONE),
            place,
            bound_for: ArcSwapOption::empty(),
            inner: Mutex::new(inner),
        }
    }

    /// Locks, runs `f`, unlocks, carries out the effects. `f` is synchronous: nothing can await
    /// in it. A panic in it is a defect that may have left the log half changed: whoever comes next
    /// finds the partition offline.
    fn with<T>(&self, f: impl FnOnce(&mut Inner, &mut Effects) -> T) -> T {
        self.locked(self.inner.lock(), f)
    }

    /// The same for the threads of the network: refused when whoever holds the lock waits for a
    /// disk that hangs.
    fn with_soon<T>(
        &self,
        f: impl FnOnce(&mut Inner, &mut Effects) -> Result<T, PartitionError>,
    ) -> Result<T, PartitionError> {
        let inner = match self.inner.try_lock() {
            Some(inner) => inner,
            None => self.lock_soon().ok_or(PartitionError::Hangs)?,
        };
        self.locked(inner, f)
    }

    #[cold]
    fn lock_soon(&self) -> Option<MutexGuard<'_, Inner>> {
        self.place.load_full().lock(&self.inner)
    }

    fn locked<T>(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        f: impl FnOnce(&mut Inner, &mut Effects) -> T,
    ) -> T {
        let mut effects = Effects::default();
        if std::mem::replace(&mut inner.busy, true) {
            tracing::error!(partition = ?self, "offline after a defect of the broker");
            self.leave(&mut inner, LogSlot::Offline, &mut effects);
        }
        let result = f(&mut inner, &mut effects);
        inner.busy = false;
        drop(inner);
        effects.carry_out();
        result
    }

    /// Grows with everything a parked fetch could care about.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Everybody who waits looks again. Comes after [`Partition::changed`], so that whoever is
    /// registered meanwhile sees it.
    fn fire_fetches(&self, effects: &mut Effects) {
        self.fetches.lock().fire_all(&mut effects.fetches);
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets producers that are silent for long; gives memory and descriptors back when nobody
    /// read or wrote since the last call. True when an idle checkpoint would free more.
    pub fn release_if_idle(&self, now_ms: i64) -> bool {
        self.with(|inner, _| {
            let used = std::mem::take(&mut inner.used);
            let Ok(log) = inner.log_mut() else {
                return false;
            };
            log.expire_producers(now_ms);
            !used && log.release_caches()
        })
    }

    /// A new leadership of this broker begins at the log end.
    pub fn new_leader_epoch(&self, epoch: LeaderEpoch) {
        self.with(|inner, effects| self.lead_from(inner, epoch, effects));
    }

    /// The same, refused while a disk hangs.
    pub fn new_leader_epoch_soon(&self, epoch: LeaderEpoch) -> Result<(), PartitionError> {
        self.with_soon(|inner, effects| {
            self.lead_from(inner, epoch, effects);
            Ok(())
        })
    }

    fn lead_from(&self, inner: &mut Inner, epoch: LeaderEpoch, effects: &mut Effects) {
        if !inner.state.lead(epoch) {
            return;
        }
        if let Ok(log) = inner.log_mut() {
            log.assign_leader_epoch(epoch);
        }
        self.changed();
        self.fire_fetches(effects);
    }

    /// The directory it is in. Takes no lock, like [`Partition::is_in`].
    pub fn log_dir(&self) -> Arc<LogDir> {
        self.place.load_full()
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    /// A changed configuration takes effect with the next append. Returns what to arrange.
    pub fn set_config(&self, configured: Configured, now: Instant) -> FlushDue {
        self.with(|inner, effects| self.configure(inner, configured, now, effects))
    }

    /// The same, refused while a disk hangs.
    pub fn set_config_soon(
        &self,
        configured: Configured,
        now: Instant,
    ) -> Result<FlushDue, PartitionError> {
        self.with_soon(|inner, effects| Ok(self.configure(inner, configured, now, effects)))
    }

    fn configure(
        &self,
        inner: &mut Inner,
        Configured { topic, log, policy }: Configured,
        now: Instant,
        effects: &mut Effects,
    ) -> FlushDue {
        self.config.store(Arc::clone(&topic));
        inner.config = topic;
        let Ok(open) = inner.log_mut() else {
            return FlushDue::No;
        };
        let work = log.record_work().map(Arc::new);
        let opens_records = work.is_some();
        self.record_work.store(work);
        self.opens_records.store(opens_records, Ordering::Release);
        open.set_config(log);
        let (readable, due) = inner.state.set_policy(policy, now);
        self.became_readable(inner, readable, effects);
        due
    }

    pub fn is_in(&self, dir: &Arc<LogDir>) -> bool {
        Arc::ptr_eq(&self.place.load(), dir)
    }

    /// The marks, if it is in that directory.
    pub fn checkpoint_marks_in(&self, dir: &Arc<LogDir>) -> Option<CheckpointMarks> {
        if !self.is_in(dir) {
            return None;
        }
        self.with(|inner, _| {
            let here = Arc::ptr_eq(inner.seat.dir(), dir);
            here.then(|| inner.checkpoint_marks()).flatten()
        })
    }

    /// `None` while offline or deleted: the directory's checkpoint files keep what they said.
    pub fn checkpoint_marks(&self) -> Option<CheckpointMarks> {
        self.with(|inner, _| inner.checkpoint_marks())
    }

    /// Bytes of all segments; 0 while offline, and while nobody can say.
    pub fn size_bytes(&self) -> u64 {
        self.with_soon(|inner, _| Ok(inner.log()?.size_bytes()))
            .unwrap_or(0)
    }

    /// Runs `f` with the lock, as whoever waits for the disk with it.
    #[cfg(test)]
    pub(crate) fn with_lock<T>(&self, f: impl FnOnce() -> T) -> T {
        self.with(|_, _| f())
    }

    /// True while a parked fetch waits here.
    #[cfg(test)]
    pub(crate) fn is_watched(&self) -> bool {
        !self.fetches.lock().is_empty()
    }

    /// False after the topic was deleted or the broker closed its logs.
    pub fn is_hosted(&self) -> bool {
        self.hosted.load(Ordering::Acquire)
    }

    pub fn is_offline(&self) -> bool {
        self.with(|inner, _| matches!(inner.slot, LogSlot::Offline))
    }

    /// Flushes and closes the log for a clean shutdown. Later requests get `NotHosted`. A log that
    /// is offline cannot be closed: the next start must not trust what the kernel remembers of it.
    pub fn close(&self) -> Result<(), LogError> {
        self.close_log(false)
    }

    /// The same, but a log that finds no descriptor stays open, to be closed later.
    pub fn close_if_possible(&self) -> Result<(), LogError> {
        self.close_log(true)
    }

    fn close_log(&self, later: bool) -> Result<(), LogError> {
        self.with(|inner, effects| {
            let mut log = match self.leave(inner, LogSlot::Closed(None), effects) {
                LogSlot::Open(log) => log,
                LogSlot::Offline => {
                    inner.seat.set_unclean();
                    return Err(LogError::Poisoned);
                }
                LogSlot::Closed(_) => return Ok(()),
            };
            let closed = log.close();
            if let Err(error) = &closed {
                if later && error.is_out_of_descriptors() {
                    inner.slot = LogSlot::Open(log);
                    return closed;
                }
                inner.seat.set_unclean();
            }
            let mut marks = checkpoint_marks(&log, &inner.state);
            marks.high_watermark = log.recovery_point().max(marks.high_watermark);
            inner.slot = LogSlot::Closed(Some(marks));
            closed
        })
    }

    /// Its directory has failed.
    pub fn take_offline(&self) {
        self.with(|inner, effects| {
            if !matches!(inner.slot, LogSlot::Closed(_)) {
                self.leave(inner, LogSlot::Offline, effects);
            }
        });
    }

    /// The topic is being deleted: from now on nobody finds it hosted. Waits for nothing.
    pub fn retire(&self) {
        self.hosted.store(false, Ordering::Release);
        self.changed();
        let mut effects = Effects::default();
        self.fire_fetches(&mut effects);
        effects.carry_out();
    }

    /// The topic is deleted: everybody who waits is told, the files are the caller's.
    pub fn forget(&self) {
        self.with(|inner, effects| {
            self.leave(inner, LogSlot::Closed(None), effects);
        });
    }

    /// Stops serving: every waiting request looks again and finds the reason.
    fn leave(&self, inner: &mut Inner, to: LogSlot, effects: &mut Effects) -> LogSlot {
        if matches!(to, LogSlot::Closed(_)) {
            self.hosted.store(false, Ordering::Release);
        }
        self.changed();
        self.fire_fetches(effects);
        effects
            .produces
            .extend(inner.produces.drain(..).map(|(_, wait)| wait));
        effects
            .produces
            .extend(inner.slowed.drain(..).map(|(_, wait)| wait));
        inner.dirty = DirtyShare::new(&inner.seat.dirty);
        std::mem::replace(&mut inner.slot, to)
    }
}

impl Inner {
    fn checkpoint_marks(&self) -> Option<CheckpointMarks> {
        match &self.slot {
            LogSlot::Open(log) => {
                let mut marks = checkpoint_marks(log, &self.state);
                marks.log_start_offset = marks.log_start_offset.max(self.log_start_wanted);
                Some(marks)
            }
            LogSlot::Closed(marks) => *marks,
            LogSlot::Offline => None,
        }
    }

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
}

/// An error of the system cannot be cloned, but its number can.
fn copy_of(error: &std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => std::io::Error::new(error.kind(), error.to_string()),
    }
}

fn checkpoint_marks(log: &Log, state: &PartitionState) -> CheckpointMarks {
    CheckpointMarks {
        recovery_point: log.checkpointed_offset(),
        log_start_offset: log.log_start_offset(),
        high_watermark: state.high_watermark(),
        compacted_to: log.compacted_to(),
    }
}

#[cfg(test)]
mod tests;
