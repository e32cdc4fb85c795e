//! Moves replicas between the log directories of this broker (AlterReplicaLogDirs).
//!
//! One thread copies one partition at a time into a folder `…-future` of the other directory, as a
//! follower copies from a leader. When the copy has nearly caught up the log is held, the rest is
//! copied, everything is synced, and two renames make the copy the log. Every crash leaves either
//! the log, with a copy that is not needed, or no log and a copy that is marked as complete:
//! `crate::recovery` goes on from there.
//! Deliberately absent: what the partition does meanwhile (`crate::partition`).

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use ottla_protocol::types::TopicPartition;
use ottla_storage::disk::{RecordData, is_out_of_descriptors};
use ottla_storage::layout;
use ottla_storage::log::{Log, LogError, remove_copy_marker};
use parking_lot::Mutex;
use rand::Rng;
use uuid::Uuid;

use crate::broker::Broker;
use crate::cleaner::{Pause, Throttle};
use crate::flusher::Job;
use crate::log_dirs::{LogDir, NoRoom};
use crate::log_starts;
use crate::partition::{Partition, PartitionError};

/// Copied at once.
const STEP_BYTES: u32 = 1 << 20;
/// So much may be left to be copied while the log is held.
const REST_BYTES_MAX: u64 = 256 << 10;
/// A copy is synced whenever it has grown by this much.
const SYNC_EVERY_BYTES: u64 = 64 << 20;
/// The most rounds of catching up before the log is held anyway: each is shorter than the last,
/// unless producers are faster than the copy.
const ROUNDS_MAX: u32 = 1_000_000;
const QUIET_STEP: Duration = Duration::from_millis(1);
const QUIET_MAX: Duration = Duration::from_secs(10);
/// A move that has to wait is tried again then.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::from_secs(3_600);

/// One partition to move.
struct Wish {
    partition: Weak<Partition>,
    number: u64,
}

/// The moves of one broker.
#[derive(Default)]
pub struct Mover {
    wishes: Mutex<VecDeque<Wish>>,
    count: AtomicU64,
    stopping: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Why a move was given up. The partition stays where it was.
#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error("it is not wanted any more")]
    NotWanted,
    /// Not now, but soon.
    #[error("it has to wait")]
    Later,
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error(transparent)]
    Partition(#[from] PartitionError),
    #[error("the copy: {0}")]
    Copy(#[from] ottla_storage::log::AppendError),
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: io::Error,
    },
    #[error("{0}")]
    Checkpoint(#[from] ottla_storage::checkpoint::CheckpointError),
    #[error("the log ended up in no directory: {0}")]
    Stranded(String),
}

impl MoveError {
    /// Whether the move is to be tried again: it has to wait, or no descriptor was left.
    fn is_for_now(&self) -> bool {
        let mut errors =
            std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        matches!(self, MoveError::Later)
            || errors.any(|error| {
                let error = error.downcast_ref::<io::Error>();
                error.is_some_and(is_out_of_descriptors)
            })
    }
}

impl Mover {
    /// `wake` is called after every wish. Only the first call counts.
    pub fn on_wish(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Ends a move under way as soon as it reads again.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Moves a partition there, soon. One that is there already stays, and a move of it elsewhere
    /// is given up.
    pub fn ask(&self, partition: &Arc<Partition>, to: &Arc<LogDir>) -> Result<(), PartitionError> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(number) = partition.move_to(to, number)? {
            let partition = Arc::downgrade(partition);
            self.wishes.lock().push_back(Wish { partition, number });
            if let Some(wake) = self.wake.get() {
                wake();
            }
        }
        Ok(())
    }

    /// Carries out what is wished for; returns when to come again.
    pub fn run(&self, broker: &Arc<Broker>, pause: Pause<'_>) -> Instant {
        let mut again = NEVER;
        let wishes = std::mem::take(&mut *self.wishes.lock());
        for wish in wishes {
            let Some(partition) = wish.partition.upgrade() else {
                continue;
            };
            if self.is_stopping() {
                break;
            }
            let moved = Move::new(broker, &partition, wish.number, pause).run();
            match moved {
                Err(error) if error.is_for_now() => {
                    self.wishes.lock().push_back(wish);
                    again = RETRY_AFTER;
                }
                other => tell(&partition, wish.number, other),
            }
        }
        broker.clock.now() + again
    }
}

fn tell(partition: &Arc<Partition>, number: u64, moved: Result<Arc<LogDir>, MoveError>) {
    match moved {
        Ok(to) => tracing::info!(?partition, log_dir = %to.path, "moved a partition"),
        Err(MoveError::NotWanted) => {}
        Err(error) => {
            tracing::error!(?partition, %error, "a partition was not moved: it stays where it is");
        }
    }
    partition.end_move(number);
}

/// One partition on its way.
struct Move<'a, 'p> {
    broker: &'a Arc<Broker>,
    partition: &'a Arc<Partition>,
    number: u64,
    pause: Pause<'p>,
    throttle: Throttle,
    name: TopicPartition,
}

impl<'a, 'p> Move<'a, 'p> {
    fn new(
        broker: &'a Arc<Broker>,
        partition: &'a Arc<Partition>,
        number: u64,
        pause: Pause<'p>,
    ) -> Move<'a, 'p> {
        Move {
            broker,
            partition,
            number,
            pause,
            throttle: throttle(broker),
            name: TopicPartition::new(Arc::clone(&partition.topic), partition.index),
        }
    }

    fn unique(&self) -> Uuid {
        Uuid::from_u128(self.broker.rng.lock().random())
    }

    fn run(&mut self) -> Result<Arc<LogDir>, MoveError> {
        let to = self.partition.destination(self.number);
        let to = to.ok_or(MoveError::NotWanted)?;
        if self.broker.cleaner.is_at_work_on(self.partition) {
            return Err(MoveError::Later);
        }
        let folder = layout::future_dir(&self.name, self.unique());
        let moved = self.copy_and_swap(&to, &folder);
        // After a stop the folder tells the next start that the move is to go on.
        let kept = matches!(moved, Err(MoveError::Stranded(_))) || self.broker.mover.is_stopping();
        let given_up = moved.is_err() && !kept;
        if given_up && to.disk.exists(&folder).unwrap_or(false) {
            let disk = Arc::clone(&to.disk);
            let path = folder;
            self.broker.flush.push(Job::RemoveDir { disk, path });
        }
        moved.map(|()| to)
    }

    fn copy_and_swap(&mut self, to: &Arc<LogDir>, folder: &str) -> Result<(), MoveError> {
        let mut copy = self.begin(to, folder)?;
        self.catch_up(to, &mut copy)?;
        copy.sync_everything()?;
        self.catch_up(to, &mut copy)?;
        self.partition.hold()?;
        let swapped = self.finish(to, &mut copy, folder);
        match swapped {
            Ok(()) => self.take_place(copy, to),
            Err(error) => {
                if matches!(error, MoveError::Stranded(_)) {
                    self.partition.take_offline();
                }
                if self.partition.release() {
                    self.broker
                        .flush
                        .push(Job::Flush(Arc::clone(self.partition)));
                }
                Err(error)
            }
        }
    }

    /// The empty copy begins where the first batch does.
    fn begin(&self, to: &Arc<LogDir>, folder: &str) -> Result<Log, MoveError> {
        let first = self.partition.batches(None, 1)?;
        let bytes = bytes_of(&first.data).map_err(reading)?;
        let from = Log::first_batch_offset(&bytes).unwrap_or(first.log_end_offset);
        let disk = Arc::clone(&to.disk);
        Ok(self.partition.begin_copy(disk, folder, from)?)
    }

    /// Copies until little is left.
    fn catch_up(&mut self, to: &LogDir, copy: &mut Log) -> Result<(), MoveError> {
        let mut unsynced = 0;
        for _ in 0..ROUNDS_MAX {
            if self.broker.mover.is_stopping() || !self.partition.copied(self.number, copy) {
                return Err(MoveError::NotWanted);
            }
            let copied = self.step(to, copy)?;
            self.keep_the_rate(copied)?;
            unsynced += copied;
            if unsynced >= SYNC_EVERY_BYTES {
                copy.sync_everything()?;
                unsynced = 0;
            }
            if copied <= REST_BYTES_MAX {
                break;
            }
        }
        Ok(())
    }

    fn keep_the_rate(&mut self, copied: u64) -> Result<(), MoveError> {
        let wait = self.throttle.passed(copied, self.broker.clock.now());
        match wait.is_zero() || (self.pause)(wait) {
            true => Ok(()),
            false => Err(MoveError::NotWanted),
        }
    }

    /// Copies a little; answers how much it was.
    fn step(&mut self, to: &LogDir, copy: &mut Log) -> Result<u64, MoveError> {
        let batches = self
            .partition
            .batches(Some(copy.log_end_offset()), STEP_BYTES)?;
        let bytes = bytes_of(&batches.data).map_err(reading)?;
        to.admit(bytes.len() as u64)?;
        let copied = copy.append_copies(&bytes, self.broker.clock.wall_ms())?;
        to.space.took(copied);
        Ok(copied)
    }

    /// The log is held: the rest is copied, everything is made durable, and the folders change
    /// their names.
    fn finish(&mut self, to: &Arc<LogDir>, copy: &mut Log, folder: &str) -> Result<(), MoveError> {
        self.wait_until_quiet()?;
        while self.step(to, copy)? > 0 {}
        let now_ms = self.broker.clock.wall_ms();
        self.partition.hand_over(copy, now_ms)?;
        log_starts::put(to, &self.name, copy.log_start_offset())?;
        copy.complete_copy()?;
        let renamed = self.rename(to, folder);
        // A stranded copy is all there is: the next start finds it complete.
        if renamed.is_err() && !matches!(renamed, Err(MoveError::Stranded(_))) {
            // Without the marker nobody takes the copy for more than that.
            let _ = remove_copy_marker(&*to.disk, folder);
        }
        renamed?;
        copy.renamed(&layout::partition_dir(&self.name));
        Ok(())
    }

    fn wait_until_quiet(&mut self) -> Result<(), MoveError> {
        let mut waited = Duration::ZERO;
        while !self.partition.is_quiet() {
            if waited > QUIET_MAX || !(self.pause)(QUIET_STEP) {
                return Err(MoveError::Later);
            }
            waited += QUIET_STEP;
        }
        Ok(())
    }

    fn rename(&self, to: &LogDir, folder: &str) -> Result<(), MoveError> {
        let io = |what| move |source| MoveError::Io { what, source };
        let from = self.partition.log_dir();
        let dir = layout::partition_dir(&self.name);
        let old = layout::deleted_dir(&self.name, self.unique());
        let had_files = from.disk.exists(&dir).map_err(io("the old folder"))?;
        if had_files {
            let away = from.disk.rename(&dir, &old);
            away.map_err(io("the old folder"))?;
        }
        let swapped = from
            .disk
            .sync_dir("")
            .and_then(|()| to.disk.rename(folder, &dir))
            .and_then(|()| to.disk.sync_dir(""));
        if let Err(source) = swapped {
            return Err(self.undo(to, (&from, had_files), (&dir, &old, folder), source));
        }
        if had_files {
            let disk = Arc::clone(&from.disk);
            self.broker.flush.push(Job::RemoveDir { disk, path: old });
        }
        Ok(())
    }

    /// The old folder gets its name back.
    fn undo(
        &self,
        to: &LogDir,
        (from, had_files): (&LogDir, bool),
        (dir, old, folder): (&str, &str, &str),
        source: io::Error,
    ) -> MoveError {
        to.report("a rename", &source);
        // The copy may have its new name already: then it goes back first. Where nobody can tell,
        // its marker says at the next start that it is not the log.
        if to.disk.exists(dir).unwrap_or(false)
            && let Err(error) = to.disk.rename(dir, folder)
        {
            return MoveError::Stranded(error.to_string());
        }
        let back = match had_files {
            true => from.disk.rename(old, dir),
            false => Ok(()),
        };
        match back.and_then(|()| from.disk.sync_dir("")) {
            Ok(()) => MoveError::Io {
                what: "the folder of the copy",
                source,
            },
            Err(error) => MoveError::Stranded(error.to_string()),
        }
    }

    fn take_place(&self, copy: Log, to: &Arc<LogDir>) -> Result<(), MoveError> {
        let again = self.partition.take_place(copy, to)?;
        if again {
            self.broker
                .flush
                .push(Job::Flush(Arc::clone(self.partition)));
        }
        let dir = layout::partition_dir(&self.name);
        if let Err(error) = remove_copy_marker(&*to.disk, &dir) {
            tracing::debug!(dir, %error, "the marker of a copy stays");
        }
        if let Err(error) = log_starts::write(self.broker, to) {
            tracing::warn!(%error, "log starts could not be saved");
        }
        Ok(())
    }
}

fn throttle(broker: &Broker) -> Throttle {
    let rate = broker.live_config().alter_log_dirs_bytes_per_second;
    Throttle::new(rate as f64, broker.clock.now())
}

fn reading(source: io::Error) -> MoveError {
    let what = "the log could not be read";
    MoveError::Io { what, source }
}

fn bytes_of(data: &[RecordData]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in data {
        match part {
            RecordData::Bytes(part) => bytes.extend_from_slice(part),
            RecordData::File(range) => bytes.extend_from_slice(&range.read()?),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
