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
//! Each log directory has a line of its own, and threads of its own that serve it: a disk that is
//! slow or hangs holds nobody else's partitions. With several directories a last line carries what
//! belongs to none, such as taking the partitions of a failed one offline.
//!
//! Early write-back has a queue and a thread of its own in each line: it waits for the disk, so
//! that what is clean is known, and no sync may wait behind it.
//!
//! The lines have no threads: the glue runs [`FlushQueue::run_one_of`] on its flusher threads and
//! [`FlushQueue::run_write_backs_of`] on others, the simulator takes what there is when its
//! schedule says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use ottla_storage::disk::{Disk, is_out_of_descriptors};
use ottla_storage::log::OldFiles;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::log_dirs::{LogDir, LogDirs};
use crate::log_starts;
use crate::metrics::Metrics;
use crate::partition::state::FlushDue;
use crate::partition::{Flush, Partition, PartitionWriteBack};
use crate::sync::{AtomicUsize, Mutex};

/// So many partitions of one thread's round at most: the last one waits for all.
const ROUND_MAX: usize = 32;
/// How often it is told that descriptors are scarce.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Work that may wait for the disk.
pub enum Job {
    Flush(Arc<Partition>),
    /// A flush and the files that let recovery start here.
    Checkpoint(Arc<Partition>),
    /// The same for a log that nobody uses.
    IdleCheckpoint(Arc<Partition>),
    /// A directory's file of log starts, for clients that wait for it.
    LogStarts(Weak<Broker>, Arc<LogDir>),
    /// Files that have left their log.
    RemoveFiles(OldFiles),
    /// A directory that was renamed out of the way before.
    RemoveDir {
        disk: Arc<dyn Disk>,
        path: String,
    },
    /// Work that a finished flush made possible, or that a directory's trouble asks for.
    Call {
        /// The directory whose disk it may wait for; `None`: none of them.
        place: Option<Arc<LogDir>>,
        work: Box<dyn FnOnce() + Send>,
    },
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Flush timers; the number keeps equal times apart.
    timers: BTreeMap<(Instant, u64), Arc<Partition>>,
    timers_made: u64,
}

type Wake = OnceLock<Box<dyn Fn() + Send + Sync>>;

/// The jobs of one log directory.
#[derive(Default)]
struct Line {
    queue: Mutex<Queue>,
    write_backs: Mutex<VecDeque<(Arc<Partition>, PartitionWriteBack)>>,
    wake: Wake,
    wake_write_back: Wake,
}

impl Line {
    fn woken(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

/// The jobs of all log directories.
pub struct FlushQueue {
    /// In the order of the directories; of several, the last belongs to none.
    lines: Vec<Line>,
    dirs: LogDirs,
    /// Threads that share a line.
    threads: AtomicUsize,
    /// When it was last told that descriptors are scarce.
    told_scarce: Mutex<Option<Instant>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl FlushQueue {
    /// The clock is for the metrics only.
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, dirs: &LogDirs) -> FlushQueue {
        let lines = match dirs.are_several() {
            true => dirs.iter().len() + 1,
            false => 1,
        };
        FlushQueue {
            lines: (0..lines).map(|_| Line::default()).collect(),
            dirs: dirs.clone(),
            threads: AtomicUsize::new(1),
            told_scarce: Mutex::new(None),
            clock,
            metrics,
        }
    }

    /// How many lines there are: they are numbered as the log directories are, and with several
    /// directories there is one more.
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// How many threads call [`FlushQueue::run_one_of`] for each directory.
    pub fn shared_by(&self, threads: usize) {
        self.threads.store(threads.max(1), Ordering::Relaxed);
    }

    /// From now on somebody calls [`FlushQueue::run_write_backs_of`] after each `wake`; until then
    /// the work is done at once. Only the first call counts.
    pub fn on_write_back(&self, line: usize, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.lines[line].wake_write_back.set(Box::new(wake));
    }

    /// Has a stretch written back early.
    pub fn write_back(&self, partition: &Arc<Partition>, write_back: PartitionWriteBack) {
        let number = self.line_of(&partition.log_dir());
        let line = &self.lines[number];
        let queued = (Arc::clone(partition), write_back);
        line.write_backs.lock().push_back(queued);
        match line.wake_write_back.get() {
            Some(wake) => wake(),
            None => {
                self.run_write_backs_of(number);
            }
        }
    }

    /// Writes back what is queued, one stretch after another; false when there was nothing.
    pub fn run_write_backs_of(&self, line: usize) -> bool {
        let queued = std::mem::take(&mut *self.lines[line].write_backs.lock());
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

    /// `wake` is called after every push to that line, without locks held. Only the first call
    /// counts.
    pub fn on_push(&self, line: usize, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.lines[line].wake.set(Box::new(wake));
    }

    pub fn push(&self, job: Job) {
        let line = &self.lines[self.line_for(&job)];
        line.queue.lock().jobs.push_back(job);
        line.woken();
    }

    /// The same for a job that comes before all others of its line.
    pub fn push_first(&self, job: Job) {
        let line = &self.lines[self.line_for(&job)];
        line.queue.lock().jobs.push_front(job);
        line.woken();
    }

    /// The line of a directory.
    pub fn line_of(&self, dir: &LogDir) -> usize {
        let last = self.lines.len() - 1;
        match last {
            0 => 0,
            last => self.dirs.number_of(dir).unwrap_or(last),
        }
    }

    fn line_for(&self, job: &Job) -> usize {
        let last = self.lines.len() - 1;
        let of_disk = |disk| self.dirs.number_of_disk(disk).unwrap_or(last);
        match job {
            _ if last == 0 => 0,
            Job::Flush(partition) | Job::Checkpoint(partition) | Job::IdleCheckpoint(partition) => {
                self.line_of(&partition.log_dir())
            }
            Job::LogStarts(_, dir) => self.line_of(dir),
            Job::RemoveFiles(old) => of_disk(old.disk()),
            Job::RemoveDir { disk, .. } => of_disk(disk),
            Job::Call { place, .. } => place.as_ref().map_or(last, |dir| self.line_of(dir)),
        }
    }

    /// Arranges what an append or a configuration change asked for.
    pub fn arrange(&self, partition: &Arc<Partition>, due: FlushDue) {
        match due {
            FlushDue::No => {}
            FlushDue::Now => self.push(Job::Flush(Arc::clone(partition))),
            FlushDue::At(at) => {
                let line = &self.lines[self.line_of(&partition.log_dir())];
                let mut queue = line.queue.lock();
                queue.timers_made += 1;
                let key = (at, queue.timers_made);
                queue.timers.insert(key, Arc::clone(partition));
                let first = queue
                    .timers
                    .first_key_value()
                    .is_some_and(|(next, _)| *next == key);
                drop(queue);
                if first {
                    line.woken();
                }
            }
        }
    }

    /// Queues the partitions whose timers rang, of all lines.
    pub fn ring_timers(&self, now: Instant) {
        for line in 0..self.lines.len() {
            self.ring_timers_of(line, now);
        }
    }

    /// Queues the partitions of a line whose timers rang; returns when the next one rings.
    pub fn ring_timers_of(&self, line: usize, now: Instant) -> Option<Instant> {
        loop {
            let partition = {
                let mut queue = self.lines[line].queue.lock();
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

    /// The same as [`FlushQueue::run_one_of`], for whichever line has something.
    pub fn run_one(&self) -> bool {
        (0..self.lines.len()).any(|line| self.run_one_of(line))
    }

    /// Takes one job of a line and carries it out; false when there was none. Blocks as long as the
    /// disk does.
    pub fn run_one_of(&self, line: usize) -> bool {
        let mut round = self.take_round(line);
        match round.len() {
            0 => return false,
            1 => round.drain(..).for_each(|job| self.run(job)),
            _ => self.run_round(round),
        }
        true
    }

    /// This thread's share of the flushes that are due, or one other job.
    fn take_round(&self, line: usize) -> Vec<Job> {
        let mut queue = self.lines[line].queue.lock();
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
        let pop = |line: &Line| line.queue.lock().jobs.pop_front();
        self.lines.iter().find_map(pop)
    }

    pub fn is_empty(&self) -> bool {
        let is_empty = |line: &Line| line.queue.lock().jobs.is_empty();
        self.lines.iter().all(is_empty)
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
            Job::LogStarts(broker, dir) => log_starts::write_for_waiting(&broker, &dir),
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
            Job::Call { work, .. } => work(),
        }
    }

    fn failed(&self, partition: &Partition, error: &std::io::Error) {
        if !is_out_of_descriptors(error) {
            partition.log_dir().report("a sync", error);
            tracing::error!(
                partition = ?partition, %error,
                "a sync failed: the partition is offline until the broker is started again"
            );
            return;
        }
        let now = self.clock.now();
        let mut told = self.told_scarce.lock();
        if told.is_none_or(|at| now.saturating_duration_since(at) >= TELL_EVERY) {
            *told = Some(now);
            tracing::warn!(
                partition = ?partition, %error,
                "no descriptor was left for a sync: it is tried again, and producers wait; raise \
                 the limit of open files"
            );
        }
    }

    fn flush(&self, partition: Arc<Partition>, flush: Flush) {
        let began = self.clock.now();
        let result = flush.run();
        let took = self.clock.now().saturating_duration_since(began);
        self.metrics.flush(took, result.is_ok());
        if let Err(error) = &result {
            self.failed(&partition, error);
        }
        if let Some(error) = flush.checkpoint_error() {
            tracing::warn!(partition = ?partition, %error, "a checkpoint was not written");
        }
        let due = partition.finish_flush(flush, result, self.clock.now());
        self.arrange(&partition, due);
        self.write_zeros_ahead(&partition);
    }

    /// When the answers are on their way.
    fn write_zeros_ahead(&self, partition: &Partition) {
        let Some(zeros) = partition.write_zeros_ahead() else {
            return;
        };
        self.metrics.wrote_zeros(zeros.len_bytes());
        // Begun now, so that the next sync finds it done; a hint.
        if let Err(error) = zeros.start() {
            tracing::debug!(%error, "a write-back hint failed");
        }
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

    /// So many syncs of so many records of 1,000 bytes each; how many bytes of zeros that brought.
    fn zeros_after(class: &str, syncs: u32, records: u32) -> u64 {
        let test = TestBroker::with_config(&[("ottla.durability", class)]);
        test.create_topic("t", 1);
        for _ in 0..syncs {
            for _ in 0..records {
                test.append("t", 0, &[&[7; 1_000]]);
            }
            if class == "commit" {
                test.sync("t", 0);
            }
            // Of the other classes checkpoints sync as well.
            let partition = test.broker.partitions.get("t", 0).unwrap();
            test.broker.flush.push(Job::Checkpoint(partition));
            while test.broker.flush.run_one() {}
        }
        test.broker.metrics.snapshot().zeros_bytes
    }

    #[test]
    fn zeros_follow_small_syncs_that_somebody_waits_for_and_no_others() {
        let small = zeros_after("commit", 100, 1);
        assert!((50_000..200_000).contains(&small), "{small}");
        assert_eq!(zeros_after("commit", 50, 1), 0, "a small partition");
        assert_eq!(zeros_after("commit", 20, 100), 0, "large syncs");
        for class in ["interval", "memory"] {
            assert_eq!(zeros_after(class, 100, 1), 0, "{class}");
        }
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

    /// Produces one record without waiting for it, and has its flush queued.
    fn produce(test: &TestBroker, index: i32) -> Arc<Partition> {
        let partition = test.broker.partitions.get("t", index).unwrap();
        let mut batch = ottla_protocol::BatchBuilder::new();
        batch.append(1, None, Some(b"v"), &[]);
        let times = (test.broker.clock.now(), 1);
        let appended = partition.append(batch.build().unwrap(), 9, times, None);
        test.broker
            .flush
            .arrange(&partition, appended.unwrap().flush);
        partition
    }

    #[test]
    fn a_directory_that_hangs_holds_only_its_own_partitions() {
        let test = TestBroker::with_disks(2, &[("ottla.durability", "commit")]);
        test.create_topic("t", 2);
        let line = |index| {
            let partition = test.broker.partitions.get("t", index).unwrap();
            test.broker.flush.line_of(&partition.log_dir())
        };
        let (hung, healthy) = (line(0), line(1));
        assert_ne!(hung, healthy);
        test.disks[hung].set_hanging(true);
        let stuck = produce(&test, 0);
        let queue = Arc::clone(&test.broker);
        #[allow(clippy::disallowed_methods)] // somebody must hang
        let thread = std::thread::spawn(move || while queue.flush.run_one_of(hung) {});
        for offset in 1..=3 {
            let served = produce(&test, 1);
            assert!(test.broker.flush.run_one_of(healthy));
            let end = ottla_protocol::Offset(offset);
            assert!(served.is_committed(end).unwrap(), "acknowledged meanwhile");
        }
        let now = test.broker.clock.now();
        let dir = test.broker.log_dirs.iter().nth(healthy).unwrap();
        let scope = crate::housekeeper::Scope::One(Arc::clone(dir));
        let later = now + std::time::Duration::from_secs(3_600);
        crate::housekeeper::Housekeeper::of(&test.broker, scope, now).run(&test.broker, later);
        assert!(!stuck.is_committed(ottla_protocol::Offset(1)).unwrap());
        test.disks[hung].set_hanging(false);
        thread.join().unwrap();
        assert!(stuck.is_committed(ottla_protocol::Offset(1)).unwrap());
    }

    #[test]
    fn work_goes_to_the_line_of_its_directory() {
        let test = TestBroker::with_disks(2, &[]);
        let flush = &test.broker.flush;
        assert_eq!(flush.lines(), 3);
        for (number, dir) in test.broker.log_dirs.iter().enumerate() {
            let job = Job::RemoveDir {
                disk: Arc::clone(&dir.disk),
                path: "gone".to_owned(),
            };
            assert_eq!(flush.line_for(&job), number);
            let job = Job::LogStarts(Arc::downgrade(&test.broker), Arc::clone(dir));
            assert_eq!(flush.line_for(&job), number);
        }
        let (place, work) = (None, Box::new(|| {}));
        assert_eq!(flush.line_for(&Job::Call { place, work }), 2);
    }
}
