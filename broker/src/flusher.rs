//! Group commit: the queue of partitions whose data must reach the disk, and what is done with
//! them.
//!
//! A partition is in the queue at most once. While one of its syncs runs, further appends gather
//! and share the next one, so the number of syncs follows the disk's speed and not the number of
//! requests. The same queue carries other work that may block on the disk: write-back hints and
//! the removal of deleted logs.
//!
//! The queue has no threads: the glue runs [`FlushQueue::run_one`] on its flusher threads, the
//! simulator calls it when its schedule says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use ottla_storage::disk::Disk;
use ottla_storage::log::{OldFiles, WriteBack};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::log_starts;
use crate::metrics::Metrics;
use crate::partition::state::FlushDue;
use crate::partition::{Flush, Partition};

/// Work that may wait for the disk.
pub enum Job {
    Flush(Arc<Partition>),
    /// A flush and the files that let recovery start here.
    Checkpoint(Arc<Partition>),
    /// The same for a log that nobody uses.
    IdleCheckpoint(Arc<Partition>),
    WriteBack(WriteBack),
    /// The file of log starts, for clients that wait for it.
    LogStarts(Weak<Broker>),
    /// Files that have left their log.
    RemoveFiles(OldFiles),
    /// A directory that was renamed out of the way before.
    RemoveDir {
        disk: Arc<dyn Disk>,
        path: String,
    },
    /// Work that a finished flush made possible.
    Call(Box<dyn FnOnce() + Send>),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Flush timers; the number keeps equal times apart.
    timers: BTreeMap<(Instant, u64), Arc<Partition>>,
    timers_made: u64,
}

/// The jobs of all log directories.
pub struct FlushQueue {
    queue: Mutex<Queue>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl FlushQueue {
    /// The clock is for the metrics only.
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> FlushQueue {
        FlushQueue {
            queue: Mutex::default(),
            clock,
            metrics,
            wake: OnceLock::new(),
        }
    }

    /// `wake` is called after every push, without locks held. Only the first call counts.
    pub fn on_push(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    pub fn push(&self, job: Job) {
        self.queue.lock().jobs.push_back(job);
        self.woken();
    }

    /// Arranges what an append or a configuration change asked for.
    pub fn arrange(&self, partition: &Arc<Partition>, due: FlushDue) {
        match due {
            FlushDue::No => {}
            FlushDue::Now => self.push(Job::Flush(Arc::clone(partition))),
            FlushDue::At(at) => {
                let mut queue = self.queue.lock();
                queue.timers_made += 1;
                let key = (at, queue.timers_made);
                queue.timers.insert(key, Arc::clone(partition));
                let first = queue
                    .timers
                    .first_key_value()
                    .is_some_and(|(next, _)| *next == key);
                drop(queue);
                if first {
                    self.woken();
                }
            }
        }
    }

    fn woken(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Queues the partitions whose timers rang; returns when the next one rings.
    pub fn ring_timers(&self, now: Instant) -> Option<Instant> {
        loop {
            let partition = {
                let mut queue = self.queue.lock();
                let entry = queue.timers.first_entry()?;
                let at = entry.key().0;
                if at > now {
                    return Some(at);
                }
                entry.remove()
            };
            if partition.flush_timer_rang() {
                self.push(Job::Flush(partition));
            }
        }
    }

    /// Takes one job and carries it out; false when there was none. Blocks as long as the disk
    /// does.
    pub fn run_one(&self) -> bool {
        let Some(job) = self.take() else { return false };
        self.run(job);
        true
    }

    /// Takes one job out, for a scheduler that carries it out itself.
    pub fn take(&self) -> Option<Job> {
        self.queue.lock().jobs.pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.lock().jobs.is_empty()
    }

    pub fn run(&self, job: Job) {
        match job {
            Job::Flush(partition) => {
                if let Some(flush) = partition.begin_flush() {
                    self.flush(partition, flush);
                }
            }
            Job::Checkpoint(partition) => {
                if let Some(flush) = partition.begin_checkpoint() {
                    self.flush(partition, flush);
                }
            }
            Job::IdleCheckpoint(partition) => {
                if let Some(flush) = partition.begin_idle_checkpoint() {
                    self.flush(partition, flush);
                }
            }
            Job::WriteBack(write_back) => {
                if let Err(error) = write_back.run() {
                    tracing::debug!(%error, "a write-back hint failed");
                }
            }
            Job::LogStarts(broker) => log_starts::write_for_waiting(&broker),
            Job::RemoveFiles(old) => {
                if let Err(error) = old.remove() {
                    tracing::warn!(?old, %error, "files of old segments could not be removed");
                }
            }
            Job::RemoveDir { disk, path } => {
                if let Err(error) = disk.remove_dir_all(&path) {
                    tracing::warn!(path, %error, "a deleted log could not be removed");
                }
            }
            Job::Call(work) => work(),
        }
    }

    fn flush(&self, partition: Arc<Partition>, flush: Flush) {
        let began = self.clock.now();
        let result = flush.run();
        let took = self.clock.now().saturating_duration_since(began);
        self.metrics.flush(took, result.is_ok());
        if let Err(error) = &result {
            partition.log_dir().report("a sync", error);
            tracing::error!(
                partition = ?partition, %error,
                "a sync failed: the partition is offline until the broker is started again"
            );
        }
        if let Some(error) = flush.checkpoint_error() {
            tracing::warn!(partition = ?partition, %error, "a checkpoint was not written");
        }
        if partition.finish_flush(flush, result) {
            self.push(Job::Flush(partition));
        }
    }
}
