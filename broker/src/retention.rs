//! Retention: segments that no policy keeps leave their logs.
//!
//! One [`Keeper`] lives in each housekeeper's thread. A round wants new log starts, saves all of
//! them with one write of their file, moves the logs there, takes the segments below out (also
//! those that DeleteRecords has left behind) and removes their files after `file.delete.delay.ms`.
//! A crash anywhere leaves a log that begins at its old or its new start.
//! Deliberately absent: what a log must keep (`ottla_storage`), the file (`crate::log_starts`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ottla_storage::log::{Expired, OldFiles};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::flusher::Job;
use crate::housekeeper::Scope;
use crate::log_dirs::{LogDir, Room};
use crate::log_starts;
use crate::partition::{Partition, PartitionError};

/// Kafka waits as long before it looks for the first time.
const FIRST_CHECK_AFTER: Duration = Duration::from_secs(30);
/// After a failed write, or when a checkpoint must come first.
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// What waits for its time.
#[derive(Default)]
pub struct Retention {
    trash: Mutex<Trash>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Files that have left their logs, by when they are to be removed; the number keeps equal times
/// apart.
#[derive(Default)]
struct Trash {
    files: BTreeMap<(Instant, u64), OldFiles>,
    count: u64,
}

impl Retention {
    /// `wake` is called when there is something new to wait for. Only the first call counts.
    pub fn on_discard(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// The files are to be removed at that time; `None` is never, as far as this process lasts:
    /// the next start removes them.
    pub fn discard(&self, old: OldFiles, at: Option<Instant>) {
        let Some(at) = at.filter(|_| !old.is_empty()) else {
            return;
        };
        let mut trash = self.trash.lock();
        trash.count += 1;
        let key = (at, trash.count);
        trash.files.insert(key, old);
        drop(trash);
        // So that the keeper knows when to come again.
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Everything, whenever it is due.
    fn all(&self) -> Vec<OldFiles> {
        let files = std::mem::take(&mut self.trash.lock().files);
        files.into_values().collect()
    }

    /// What is due, and when the rest is.
    fn due(&self, now: Instant) -> (Vec<OldFiles>, Option<Instant>) {
        let mut trash = self.trash.lock();
        let mut due = Vec::new();
        while let Some(first) = trash.files.first_entry() {
            let at = first.key().0;
            if at > now {
                return (due, Some(at));
            }
            due.push(first.remove());
        }
        (due, None)
    }
}

/// A log and the segments that it need not keep.
type Found = (Arc<Partition>, Expired);

/// Does the work of retention; see the module's description.
pub struct Keeper {
    scope: Scope,
    next_check: Instant,
    check_every: Duration,
    /// Log starts that could not be saved.
    unsaved: Vec<Found>,
    /// Logs with segments below their start, which a checkpoint keeps for now.
    held_up: Vec<Arc<Partition>>,
    next_retry: Option<Instant>,
}

impl Keeper {
    pub fn new(broker: &Broker, scope: Scope, now: Instant) -> Keeper {
        let check_every = Duration::from_millis(broker.config.log_retention_check_interval_ms);
        Keeper {
            scope,
            next_check: now + check_every.min(FIRST_CHECK_AFTER),
            check_every,
            unsaved: Vec::new(),
            held_up: Vec::new(),
            next_retry: None,
        }
    }

    /// There is little room: looks now.
    pub fn hurry(&mut self, now: Instant) {
        self.next_check = self.next_check.min(now);
    }

    /// Does what is due; returns when it wants to be called again.
    pub fn run(&mut self, broker: &Arc<Broker>, now: Instant) -> Instant {
        let check = now >= self.next_check;
        let mut found = Vec::new();
        if check {
            self.next_check = now + self.check_every;
            self.unsaved.clear();
            found = look_for_expired(broker, &self.scope);
        }
        if check || self.next_retry.is_some_and(|at| now >= at) {
            self.next_retry = None;
            found.append(&mut self.unsaved);
            let mut moved = self.move_log_starts(broker, found);
            moved.append(&mut self.held_up);
            self.delete(broker, moved, now);
            if !self.unsaved.is_empty() || !self.held_up.is_empty() {
                self.next_retry = Some(now + RETRY_EVERY);
            }
        }
        let short = |dir: &Arc<LogDir>| dir.space.room() != Room::Ample;
        let (due, next_due) = match self.scope.online(broker).iter().any(short) {
            // Readers keep the files they have open: nobody needs the delay.
            true => (broker.retention.all(), None),
            false => broker.retention.due(now),
        };
        for old in due {
            broker.flush.push(Job::RemoveFiles(old));
        }
        let others = [self.next_retry, next_due].into_iter().flatten();
        others.fold(self.next_check, Instant::min)
    }

    /// Saves the new log starts, then moves the logs there.
    fn move_log_starts(&mut self, broker: &Broker, found: Vec<Found>) -> Vec<Arc<Partition>> {
        if found.is_empty() {
            return Vec::new();
        }
        let (failed, error) = log_starts::write_all(broker, &self.scope.online(broker));
        if let Some(error) = error {
            tracing::warn!(%error, "log starts could not be saved: nothing is deleted there");
        }
        let mut moved = Vec::new();
        for (partition, expired) in found {
            if failed.iter().any(|dir| partition.is_in(dir)) {
                self.unsaved.push((partition, expired));
                continue;
            }
            partition.log_start_saved(expired.log_start_offset);
            broker.metrics.expired(&expired.segments);
            moved.push(partition);
        }
        moved
    }

    fn delete(&mut self, broker: &Broker, partitions: Vec<Arc<Partition>>, now: Instant) {
        let mut seen = BTreeSet::new();
        for partition in partitions {
            if !seen.insert(Arc::as_ptr(&partition)) {
                continue;
            }
            match partition.delete_old_segments() {
                Ok((old, more)) => {
                    throw_away(broker, &partition, old, now);
                    if more {
                        broker.flush.push(Job::Checkpoint(Arc::clone(&partition)));
                        self.held_up.push(partition);
                    }
                }
                Err(PartitionError::NotHosted | PartitionError::Offline) => {}
                Err(error) => {
                    tracing::warn!(?partition, %error, "old segments could not be taken away");
                }
            }
        }
    }
}

fn throw_away(broker: &Broker, partition: &Partition, old: OldFiles, now: Instant) {
    if old.is_empty() {
        return;
    }
    tracing::info!(
        ?partition,
        segments = old.segments,
        size_bytes = old.size_bytes,
        "deleted old segments"
    );
    let delay_ms = partition.config().file_delete_delay_ms.unsigned_abs();
    let at = now.checked_add(Duration::from_millis(delay_ms));
    broker.retention.discard(old, at);
}

/// Every log is looked at; those with segments to lose want to begin behind these.
fn look_for_expired(broker: &Broker, scope: &Scope) -> Vec<Found> {
    let now_ms = broker.clock.wall_ms();
    let mut found = Vec::new();
    for partition in scope.partitions(broker) {
        match partition.expire(now_ms) {
            Ok(Some(expired)) => found.push((partition, expired)),
            Ok(None) | Err(PartitionError::NotHosted | PartitionError::Offline) => {}
            Err(error) => tracing::warn!(?partition, %error, "retention could not look at a log"),
        }
    }
    found
}

#[cfg(test)]
mod tests;
