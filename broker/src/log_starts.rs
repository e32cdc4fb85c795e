//! The files of log starts, one in each log directory: where the logs begin whose first records
//! were deleted by request.
//!
//! A log start that a client was told of must survive a crash, so its file is written before the
//! answer leaves: by a flusher thread of the directory, once for everybody who waits by then.
//! Whoever writes holds the lock from the look at the partitions to the end of the write, so an
//! older look never replaces a newer file. The file names topics, not their ids: a new partition
//! takes out what an earlier one of its name left there before it takes records. What an offline
//! partition had in the file stays, and so does, while a start is under way, what others had.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use ottla_protocol::types::{Offset, TopicPartition};
use ottla_storage::checkpoint::{self, CheckpointError, PartitionOffsets};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::clock::deadline_after_ms;
use crate::context::{RequestContext, TimedOut};
use crate::flusher::Job;
use crate::log_dirs::LogDir;
use crate::purgatory::Waiter;
use crate::reply::{Parked, Reply};

/// Requests that wait for the files.
#[derive(Default)]
pub struct LogStarts {
    waiting: Mutex<Vec<(Arc<LogDir>, Arc<Slot>)>>,
}

struct Slot {
    progress: Mutex<Progress>,
    waiter: Arc<Waiter>,
}

/// How far the files are that a request waits for.
struct Progress {
    /// So many are not written yet.
    left: usize,
    failed: bool,
}

impl Slot {
    /// One of the files was written, or could not be.
    fn done(&self, written: bool) {
        let mut progress = self.progress.lock();
        progress.failed |= !written;
        progress.left = progress.left.saturating_sub(1);
        let over = progress.left == 0;
        drop(progress);
        if over {
            self.waiter.fire();
        }
    }

    /// Whether all of them were written, once that is known.
    fn outcome(&self) -> Option<bool> {
        let progress = self.progress.lock();
        (progress.left == 0).then_some(!progress.failed)
    }
}

/// Why an answer cannot count on the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    #[error("the log starts could not be written to the disk")]
    Failed,
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

/// Brings a directory's file up to date.
pub fn write(broker: &Broker, dir: &Arc<LogDir>) -> Result<(), CheckpointError> {
    let mut written = dir.log_starts.lock();
    let mut now = match broker.opening.load(Ordering::Acquire) {
        true => written.clone(),
        false => PartitionOffsets::new(),
    };
    for partition in broker.partitions.all() {
        if !partition.is_in(dir) && partition.future_in(dir).is_none() {
            continue;
        }
        let name = TopicPartition::new(Arc::clone(&partition.topic), partition.index);
        let start = match partition.checkpoint_marks_in(dir) {
            Some(marks) => marks.log_start_offset,
            None => written.get(&name).copied().unwrap_or(Offset::ZERO),
        };
        match start > Offset::ZERO {
            true => now.insert(name, start),
            false => now.remove(&name),
        };
    }
    replace(dir, &mut written, now)
}

/// Brings the files of these directories up to date; answers for which that failed, and the first
/// error.
pub fn write_all(
    broker: &Broker,
    dirs: &[Arc<LogDir>],
) -> (Vec<Arc<LogDir>>, Option<CheckpointError>) {
    let (mut failed, mut first) = (Vec::new(), None);
    for dir in dirs {
        if let Err(error) = write(broker, dir) {
            failed.push(Arc::clone(dir));
            first.get_or_insert(error);
        }
    }
    (failed, first)
}

/// A partition comes from another directory and begins at `start`.
pub fn put(dir: &LogDir, name: &TopicPartition, start: Offset) -> Result<(), CheckpointError> {
    let mut written = dir.log_starts.lock();
    let there = written.get(name).copied().unwrap_or(Offset::ZERO);
    if there == start {
        return Ok(());
    }
    let mut now = written.clone();
    match start > Offset::ZERO {
        true => now.insert(name.clone(), start),
        false => now.remove(name),
    };
    replace(dir, &mut written, now)
}

/// A partition that has no log yet begins: what the file says of that name was of another.
pub fn begin(dir: &LogDir, name: &TopicPartition) -> Result<(), CheckpointError> {
    let mut written = dir.log_starts.lock();
    if !written.contains_key(name) {
        return Ok(());
    }
    let mut now = written.clone();
    now.remove(name);
    replace(dir, &mut written, now)
}

impl LogStarts {
    /// Answers `value` when the log starts as they are now are in the files of `dirs`; if they are
    /// not, or not in time, `lost` makes the answer.
    pub fn when_written<T: Send + 'static>(
        &self,
        ctx: &RequestContext<'_>,
        (dirs, timeout_ms): (Vec<Arc<LogDir>>, i32),
        value: T,
        lost: impl FnOnce(T, NotWritten) -> T + Send + 'static,
    ) -> Reply<T> {
        let slot = Arc::new(Slot {
            progress: Mutex::new(Progress {
                left: dirs.len(),
                failed: false,
            }),
            waiter: Waiter::new(ctx.signal),
        });
        for dir in dirs {
            let mut waiting = self.waiting.lock();
            let is_first = !waiting.iter().any(|(known, _)| Arc::ptr_eq(known, &dir));
            waiting.push((Arc::clone(&dir), Arc::clone(&slot)));
            drop(waiting);
            if is_first {
                let broker = Arc::downgrade(ctx.broker);
                ctx.broker.flush.push(Job::LogStarts(broker, dir));
            }
        }
        Reply::Parked(Box::new(AwaitFile {
            slot,
            deadline: deadline_after_ms(ctx.now, timeout_ms),
            value: Some((value, lost)),
        }))
    }
}

fn replace(
    dir: &LogDir,
    written: &mut PartitionOffsets,
    now: PartitionOffsets,
) -> Result<(), CheckpointError> {
    let result = checkpoint::write_offsets(&*dir.disk, checkpoint::LOG_START_OFFSETS, &now);
    if let Err(CheckpointError::Io { file, source }) = &result {
        dir.report(file, source);
    }
    result?;
    *written = now;
    Ok(())
}

/// Writes a directory's file for everybody who waits for it. Blocks on the disk.
pub fn write_for_waiting(broker: &Weak<Broker>, dir: &Arc<LogDir>) {
    let Some(broker) = broker.upgrade() else {
        return;
    };
    // Taken before the look: who comes later may have raised a log start after it.
    let mut waiting = broker.log_starts.waiting.lock();
    let (here, elsewhere) = std::mem::take(&mut *waiting)
        .into_iter()
        .partition(|(known, _)| Arc::ptr_eq(known, dir));
    *waiting = elsewhere;
    drop(waiting);
    let here: Vec<(Arc<LogDir>, Arc<Slot>)> = here;
    let result = write(&broker, dir);
    if let Err(error) = &result {
        tracing::error!(log_dir = %dir.path, %error, "the log starts could not be written");
    }
    for (_, slot) in here {
        slot.done(result.is_ok());
    }
}

struct AwaitFile<T, F> {
    slot: Arc<Slot>,
    deadline: Instant,
    value: Option<(T, F)>,
}

impl<T: Send, F> Parked<T> for AwaitFile<T, F>
where
    F: FnOnce(T, NotWritten) -> T + Send,
{
    fn waiter(&self) -> &Arc<Waiter> {
        &self.slot.waiter
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.deadline)
    }

    fn resume(&mut self, now: Instant) -> Option<T> {
        self.slot.waiter.rearm();
        let lost = match self.slot.outcome() {
            Some(true) => None,
            Some(false) => Some(NotWritten::Failed),
            None if now >= self.deadline => Some(NotWritten::TimedOut(TimedOut)),
            None => return None,
        };
        let (value, make) = self.value.take()?;
        Some(match lost {
            None => value,
            Some(reason) => make(value, reason),
        })
    }
}
