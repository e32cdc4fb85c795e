//! Compaction of logs: which one is next, and what becomes of those that cannot be compacted.
//!
//! One thread of low priority for each log directory runs [`Cleaner::run`], so that a disk that
//! hangs holds nobody else's logs. It looks at all logs of compacted topics there and works on
//! those that are due, the dirtiest first, and on those that an administrator asked for
//! before these. A log whose bytes contradict themselves is marked and left alone until somebody
//! asks for it again; errors of the disk are tried again with the next look. Reading and writing
//! is held to `log.cleaner.io.max.bytes.per.second`; of that and of the memory for keys each
//! thread has an equal share.
//! Deliberately absent: how a log is compacted (`ottla_storage`), threads and sleep (the caller's).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ottla_protocol::types::TopicId;
use ottla_storage::log::compact::{
    Cleanable, CompactionError, CompactionLimits, CompactionStats, compact,
};
use parking_lot::Mutex;
use rand::Rng;

use crate::broker::Broker;
use crate::flusher::Job;
use crate::housekeeper::Scope;
use crate::partition::{Partition, PartitionError};

mod pace;

pub use pace::Pause;
pub(crate) use pace::Throttle;

type Id = (TopicId, i32);

/// Why an administrator's wish was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompactRefused {
    #[error("there is no such topic on this broker")]
    UnknownTopic,
    #[error("its cleanup.policy does not contain compact")]
    NotCompacted,
    #[error("log.cleaner.enable is false")]
    Disabled,
}

/// What compaction has done so far, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanerSample {
    pub rounds: u64,
    pub failures: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub records_read: u64,
    pub records_kept: u64,
    /// Batches that were copied because their records cannot be read.
    pub unreadable: u64,
    pub last_round_ms: u64,
    pub uncleanable: u64,
    /// Of the dirtiest log at the last look.
    pub max_dirty_percent: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sample: Mutex<CleanerSample>,
    /// By log directory, or for all of them.
    max_dirty_percent: Mutex<BTreeMap<Option<Arc<str>>, u64>>,
}

/// The state of compaction in one broker.
#[derive(Default)]
pub struct Cleaner {
    asked: Mutex<BTreeSet<Id>>,
    /// Rounds are under way there.
    at_work_on: Mutex<BTreeSet<Id>>,
    /// Logs that no round gets through, and why.
    uncleanable: Mutex<BTreeMap<Id, String>>,
    counters: Counters,
    stopping: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A log that is due.
struct Candidate {
    partition: Arc<Partition>,
    ratio: f64,
}

impl Cleaner {
    /// `wake` is called after every request. Only the first call counts.
    pub fn on_request(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Ends a round under way as soon as it reads or writes again.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Compacts a topic as soon as possible, however clean it is, everything that is committed
    /// now; answers how many partitions that concerns here.
    pub fn compact_topic(&self, broker: &Broker, topic: &str) -> Result<usize, CompactRefused> {
        if !broker.live_config().log_cleaner_enable {
            return Err(CompactRefused::Disabled);
        }
        let hosted = broker.partitions.topic(topic);
        let hosted = hosted.ok_or(CompactRefused::UnknownTopic)?;
        let partitions: Vec<_> = hosted.partitions.iter().flatten().collect();
        let compacted = |partition: &&&Arc<Partition>| partition.config().cleanup_policy.compact;
        if partitions.iter().find(compacted).is_none() {
            return Err(CompactRefused::NotCompacted);
        }
        let mut asked = self.asked.lock();
        asked.extend(partitions.iter().map(|partition| id(partition)));
        drop(asked);
        if let Some(wake) = self.wake.get() {
            wake();
        }
        Ok(partitions.len())
    }

    /// Looks at every log there and compacts what is due; returns when to look again.
    pub fn run(&self, broker: &Arc<Broker>, scope: &Scope, pause: Pause<'_>) -> Instant {
        let config = broker.live_config();
        if config.log_cleaner_enable && config.log_cleaner_threads > 0 {
            self.compact_asked(broker, scope, pause);
            for candidate in self.candidates(broker, scope) {
                if self.is_stopping() {
                    break;
                }
                self.compact_fully(broker, &candidate.partition, pause);
            }
        }
        broker.clock.now() + Duration::from_millis(config.log_cleaner_backoff_ms)
    }

    fn compact_asked(&self, broker: &Arc<Broker>, scope: &Scope, pause: Pause<'_>) {
        for partition in self.take_asked(broker, scope) {
            self.uncleanable.lock().remove(&id(&partition));
            if let Err(error) = seal(broker, &partition) {
                tracing::warn!(?partition, %error, "a log to be compacted could not be sealed");
            }
            self.compact_fully(broker, &partition, pause);
        }
    }

    /// What was asked for here; what is gone is forgotten.
    fn take_asked(&self, broker: &Broker, scope: &Scope) -> Vec<Arc<Partition>> {
        let mut taken = Vec::new();
        self.asked.lock().retain(|(topic, index)| {
            let topic = broker.partitions.topic_by_id(*topic);
            let partition = topic.and_then(|topic| topic.partition(*index).cloned());
            let stays = partition.as_ref().is_some_and(|one| !scope.includes(one));
            taken.extend(partition.filter(|_| !stays));
            stays
        });
        taken
    }

    /// Logs that are due, the dirtiest first.
    fn candidates(&self, broker: &Broker, scope: &Scope) -> Vec<Candidate> {
        let now_ms = broker.clock.wall_ms();
        let (mut due, mut dirtiest) = (Vec::new(), 0.0f64);
        let mut hosted = BTreeSet::new();
        for partition in broker.partitions.all() {
            hosted.insert(id(&partition));
            if !scope.includes(&partition) {
                continue;
            }
            let Some(cleanable) = self.look(&partition, now_ms) else {
                continue;
            };
            let ratio = cleanable.dirty_ratio();
            dirtiest = dirtiest.max(ratio);
            if cleanable.is_due(partition.config().min_cleanable_dirty_ratio) {
                due.push(Candidate { partition, ratio });
            }
        }
        self.uncleanable.lock().retain(|id, _| hosted.contains(id));
        let percent = (dirtiest * 100.0) as u64;
        let mut all = self.counters.max_dirty_percent.lock();
        all.insert(scope.path(), percent);
        drop(all);
        due.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        due
    }

    /// `None`: not compacted, or nothing that could be done about it.
    fn look(&self, partition: &Arc<Partition>, now_ms: i64) -> Option<Cleanable> {
        // What is compacted while it is copied may come back to life in the copy.
        if self.uncleanable.lock().contains_key(&id(partition)) || partition.is_moving() {
            return None;
        }
        match partition.cleanable(now_ms) {
            Ok(cleanable) => cleanable,
            Err(PartitionError::NotHosted | PartitionError::Offline) => None,
            Err(error) => {
                tracing::warn!(?partition, %error, "compaction could not look at a log");
                None
            }
        }
    }

    /// Rounds until nothing is dirty: more than one when the table of keys is too small.
    fn compact_fully(&self, broker: &Arc<Broker>, partition: &Arc<Partition>, pause: Pause<'_>) {
        // Before the look whether it is being moved: the mover looks the other way round.
        self.at_work_on.lock().insert(id(partition));
        self.compact_rounds(broker, partition, pause);
        self.at_work_on.lock().remove(&id(partition));
    }

    /// Whether a round is under way there. A move that began before sees none begin.
    pub fn is_at_work_on(&self, partition: &Partition) -> bool {
        self.at_work_on.lock().contains(&id(partition))
    }

    fn compact_rounds(&self, broker: &Arc<Broker>, partition: &Arc<Partition>, pause: Pause<'_>) {
        loop {
            let now_ms = broker.clock.wall_ms();
            let Some(cleanable) = self.look(partition, now_ms) else {
                return;
            };
            if cleanable.dirty_bytes == 0 {
                return;
            }
            match self.round(broker, partition, &cleanable, pause) {
                Ok(stats) if stats.map_full => {}
                Ok(_) => return,
                Err(error) => return self.failed(partition, &error),
            }
        }
    }

    fn round(
        &self,
        broker: &Arc<Broker>,
        partition: &Arc<Partition>,
        cleanable: &Cleanable,
        pause: Pause<'_>,
    ) -> Result<CompactionStats, CompactionError> {
        let config = broker.live_config();
        let topic = partition.config();
        let limits = CompactionLimits {
            map_memory_bytes: config.log_cleaner_dedupe_buffer_size / threads(broker),
            map_load_factor: config.log_cleaner_io_buffer_load_factor,
            // One for reading and one for writing.
            io_buffer_bytes: config.log_cleaner_io_buffer_size / 2,
            delete_retention_ms: topic.delete_retention_ms,
            now_ms: broker.clock.wall_ms(),
            hash_key: broker.rng.lock().random(),
        };
        let began = broker.clock.now();
        let share = config.log_cleaner_io_max_bytes_per_second / threads(broker) as f64;
        let mut throttle = Throttle::new(share, began);
        let mut pace = |bytes| {
            let wait = throttle.passed(bytes, broker.clock.now());
            (wait.is_zero() || pause(wait)) && !self.is_stopping()
        };
        let delay = Duration::from_millis(topic.file_delete_delay_ms.unsigned_abs());
        let mut old_files = |old| {
            let at = broker.clock.now().checked_add(delay);
            broker.retention.discard(old, at);
        };
        let stats = compact(&**partition, cleanable, limits, &mut pace, &mut old_files)?;
        // It writes the new indexes.
        broker.flush.push(Job::Checkpoint(Arc::clone(partition)));
        let took = broker.clock.now().saturating_duration_since(began);
        self.succeeded(partition, &stats, took);
        Ok(stats)
    }

    fn succeeded(&self, partition: &Partition, stats: &CompactionStats, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            ?partition,
            read_bytes = stats.read_bytes,
            written_bytes = stats.written_bytes,
            records_read = stats.records_read,
            records_kept = stats.records_kept,
            keys = stats.keys,
            took_ms,
            "compacted a log"
        );
        if stats.unreadable > 0 {
            tracing::error!(
                ?partition,
                batches = stats.unreadable,
                "batches were kept as they are because their records cannot be read"
            );
        }
        let mut sample = self.counters.sample.lock();
        sample.rounds += 1;
        sample.read_bytes += stats.read_bytes;
        sample.written_bytes += stats.written_bytes;
        sample.records_read += stats.records_read;
        sample.records_kept += stats.records_kept;
        sample.unreadable += stats.unreadable;
        sample.last_round_ms = took_ms;
    }

    fn failed(&self, partition: &Arc<Partition>, error: &CompactionError) {
        match error {
            CompactionError::Stopped | CompactionError::Overtaken => return,
            lasting if lasting.is_lasting() => {
                tracing::error!(
                    ?partition, %error,
                    "a log cannot be compacted; it is left alone until compaction is asked for"
                );
                let mut uncleanable = self.uncleanable.lock();
                uncleanable.insert(id(partition), error.to_string());
            }
            _ => tracing::warn!(?partition, %error, "a log was not compacted; it is tried again"),
        }
        self.counters.sample.lock().failures += 1;
    }

    /// The logs that are left alone, and why.
    pub fn uncleanable(&self) -> BTreeMap<Id, String> {
        self.uncleanable.lock().clone()
    }

    fn max_dirty_percent(&self) -> u64 {
        let all = self.counters.max_dirty_percent.lock();
        all.values().copied().max().unwrap_or(0)
    }

    pub fn sample(&self) -> CleanerSample {
        CleanerSample {
            uncleanable: self.uncleanable.lock().len() as u64,
            max_dirty_percent: self.max_dirty_percent(),
            ..*self.counters.sample.lock()
        }
    }
}

/// Those that share what the configuration allows.
fn threads(broker: &Broker) -> usize {
    broker.log_dirs.iter().len().max(1)
}

fn id(partition: &Partition) -> Id {
    (partition.topic_id, partition.index)
}

/// Seals the active segment and checkpoints the log, so that a round may touch all of it.
fn seal(broker: &Arc<Broker>, partition: &Arc<Partition>) -> Result<(), PartitionError> {
    partition.seal_active_segment(broker.clock.wall_ms())?;
    broker.flush.run(Job::Checkpoint(Arc::clone(partition)));
    Ok(())
}

#[cfg(test)]
mod tests;
