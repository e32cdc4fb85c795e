//! Group commit: the queue of partitions whose data must reach the disk, and what is done with
//! them.
//!
//! A partition is in the queue at most once. While one of its syncs runs, further appends gather
//! and share the next one, so the number of syncs follows the disk's speed and not the number of
//! requests. Partitions that are queued together are flushed in one round per thread: the disk
//! begins with all of them before anybody waits for the first, and each is told as soon as it is
//! done. One partition alone waits for nobody. The same queue carries other work that may block on
//! the disk, such as the removal of deleted logs.
//!
//! Early write-back has a queue and a thread of its own: it waits for the disk, so that what is
//! clean is known, and no sync may wait behind it.
//!
//! The queues have no threads: the glue runs [`FlushQueue::run_one`] on its flusher threads and
//! [`FlushQueue::run_write_backs`] on another, the simulator calls them when its schedule says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use ottla_storage::disk::Disk;
use ottla_storage::log::OldFiles;
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::log_starts;
use crate::metrics::Metrics;
use crate::partition::state::FlushDue;
use crate::partition::{Flush, Partition, PartitionWriteBack};

/// So many partitions of one thread's round at most: the last one waits for all.
const ROUND_MAX: usize = 32;

/// Work that may wait for the disk.
pub enum Job {
    Flush(Arc<Partition>),
    /// A flush and the files that let recovery start here.
    Checkpoint(Arc<Partition>),
    /// The same for a log that nobody uses.
    IdleCheckpoint(Arc<Partition>),
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
    /// Threads that share the queue.
    threads: AtomicUsize,
    write_backs: Mutex<VecDeque<(Arc<Partition>, PartitionWriteBack)>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    wake_write_back: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl FlushQueue {
    /// The clock is for the metrics only.
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> FlushQueue {
        FlushQueue {
            queue: Mutex::default(),
            threads: AtomicUsize::new(1),
            write_backs: Mutex::default(),
            clock,
            metrics,
            wake: OnceLock::new(),
            wake_write_back: OnceLock::new(),
        }
    }

    /// How many threads call [`FlushQueue::run_one`].
    pub fn shared_by(&self, threads: usize) {
        self.threads.store(threads.max(1), Ordering::Relaxed);
    }

    /// From now on somebody calls [`FlushQueue::run_write_backs`] after each `wake`; until then
    /// the work is done at once. Only the first call counts.
    pub fn on_write_back(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake_write_back.set(Box::new(wake));
    }

    /// Has a stretch written back early.
    pub fn write_back(&self, partition: &Arc<Partition>, write_back: PartitionWriteBack) {
        self.write_backs
            .lock()
            .push_back((Arc::clone(partition), write_back));
        match self.wake_write_back.get() {
            Some(wake) => wake(),
            None => {
                self.run_write_backs();
            }
        }
    }

    /// Writes back what is queued, one stretch after another; false when there was nothing.
    pub fn run_write_backs(&self) -> bool {
        let queued = std::mem::take(&mut *self.write_backs.lock());
        for (_, write_back) in &queued {
            if let Err(error) = write_back.work.start() {
                tracing::debug!(%error, "a write-back hint failed");
            }
        }
        for (partition, write_back) in &queued {
            // What failed shows at the sync; here it only stays in the budget until then.
            match write_back.work.finish() {
                Ok(()) => partition.wrote_back(write_back),
                Err(error) => tracing::debug!(%error, "a write-back failed"),
            }
        }
        !queued.is_empty()
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
        let mut round = self.take_round();
        match round.len() {
            0 => return false,
            1 => round.drain(..).for_each(|job| self.run(job)),
            _ => self.run_round(round),
        }
        true
    }

    /// This thread's share of the flushes that are due, or one other job.
    fn take_round(&self) -> Vec<Job> {
        let mut queue = self.queue.lock();
        let is_flush = |job: &&Job| matches!(job, Job::Flush(_));
        let flushes = queue.jobs.iter().take_while(is_flush).count();
        let share = flushes.div_ceil(self.threads.load(Ordering::Relaxed));
        let taken = share.clamp(1, ROUND_MAX).min(queue.jobs.len());
        queue.jobs.drain(..taken).collect()
    }

    fn run_round(&self, round: Vec<Job>) {
        let begun: Vec<(Arc<Partition>, Flush)> = round
            .into_iter()
            .filter_map(|job| match job {
                Job::Flush(partition) => {
                    let flush = partition.begin_flush()?;
                    Some((partition, flush))
                }
                other => {
                    self.run(other);
                    None
                }
            })
            .collect();
        for (_, flush) in &begun {
            flush.start();
        }
        for (partition, flush) in begun {
            self.flush(partition, flush);
        }
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
        let due = partition.finish_flush(flush, result, self.clock.now());
        self.arrange(&partition, due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::testing::TestBroker;

    /// A broker whose flushes are queued and not done.
    fn queued(partitions: i32) -> TestBroker {
        let test = TestBroker::with_config(&[("ottla.durability", "commit")]);
        test.create_topic("t", partitions);
        for index in 0..partitions {
            let partition = test.broker.partitions.get("t", index).unwrap();
            let mut batch = ottla_protocol::BatchBuilder::new();
            batch.append(1, None, Some(b"v"), &[]);
            let times = (test.broker.clock.now(), 1);
            let appended = partition.append(batch.build().unwrap(), 9, times, None);
            let due = appended.unwrap().flush;
            assert_eq!(due, FlushDue::Now);
            test.broker.flush.arrange(&partition, due);
        }
        test
    }

    fn flushed(test: &TestBroker, partitions: i32) -> usize {
        let is_flushed = |index| {
            let partition = test.broker.partitions.get("t", index).unwrap();
            partition.is_flushed(ottla_protocol::Offset(1)).unwrap()
        };
        (0..partitions).filter(|index| is_flushed(*index)).count()
    }

    #[test]
    fn partitions_that_are_queued_together_share_a_round() {
        let test = queued(5);
        assert!(test.broker.flush.run_one());
        assert_eq!(flushed(&test, 5), 5);
        assert!(!test.broker.flush.run_one());
    }

    #[test]
    fn threads_share_what_is_queued() {
        let test = queued(5);
        test.broker.flush.shared_by(2);
        assert!(test.broker.flush.run_one());
        assert_eq!(flushed(&test, 5), 3);
        assert!(test.broker.flush.run_one());
        assert_eq!(flushed(&test, 5), 4, "half of the rest");
        assert!(test.broker.flush.run_one());
        assert_eq!(flushed(&test, 5), 5);
    }
}
