//! What is counted about groups as it happens: rebalances and removals by cause, commits, expired
//! offsets, how long coordinators take to load; and when and why each group last rebalanced.
//!
//! Causes are a small fixed set, so these series are bounded; reasons name members, so they are
//! kept for people only, for the groups that rebalanced last. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_coordinator::turn::{GroupEvent, RebalanceCause, RemovalCause};
use parking_lot::Mutex;

use super::histogram::{Histogram, HistogramSnapshot};

/// Groups whose last rebalance is remembered.
const REMEMBERED_MAX: usize = 10_000;
/// Reasons come from clients.
const REASON_BYTES_MAX: usize = 1_024;

/// When and why a group last rebalanced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRebalance {
    /// When it began, by the wall clock.
    pub at_ms: i64,
    pub cause: RebalanceCause,
    pub reason: String,
}

#[derive(Debug, Default)]
pub struct GroupCounters {
    rebalances: [AtomicU64; RebalanceCause::ALL.len()],
    removals: [AtomicU64; RemovalCause::ALL.len()],
    commits: AtomicU64,
    expired: AtomicU64,
    loads: Histogram,
    remembered: Mutex<Remembered>,
    /// How many partitions nobody reads, as it was last told, by group.
    unowned: Mutex<BTreeMap<String, usize>>,
}

#[derive(Debug, Default)]
struct Remembered {
    by_group: BTreeMap<Arc<str>, LastRebalance>,
    by_time: BTreeSet<(i64, Arc<str>)>,
}

impl Remembered {
    fn put(&mut self, group: &str, last: LastRebalance) {
        self.forget(group);
        let group: Arc<str> = Arc::from(group);
        self.by_time.insert((last.at_ms, Arc::clone(&group)));
        self.by_group.insert(group, last);
        if self.by_group.len() > REMEMBERED_MAX
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.by_group.remove(&oldest);
        }
    }

    fn forget(&mut self, group: &str) {
        if let Some((group, last)) = self.by_group.remove_entry(group) {
            self.by_time.remove(&(last.at_ms, group));
        }
    }
}

impl GroupCounters {
    /// Something happened in a group.
    pub fn note(&self, event: &GroupEvent, now_ms: i64) {
        match event {
            GroupEvent::RebalanceStarted {
                group,
                cause,
                reason,
            } => {
                self.rebalances[*cause as usize].fetch_add(1, Ordering::Relaxed);
                let last = LastRebalance {
                    at_ms: now_ms,
                    cause: *cause,
                    reason: shortened(reason),
                };
                self.remembered.lock().put(group, last);
            }
            GroupEvent::MemberExpired { cause, .. } => {
                self.removals[*cause as usize].fetch_add(1, Ordering::Relaxed);
            }
            GroupEvent::OffsetsExpired { count, .. } => {
                self.expired.fetch_add(*count as u64, Ordering::Relaxed);
            }
            GroupEvent::GenerationCompleted { .. } | GroupEvent::Converted { .. } => {}
        }
    }

    /// So many offsets were committed.
    pub fn committed(&self, offsets: usize) {
        self.commits.fetch_add(offsets as u64, Ordering::Relaxed);
    }

    /// A coordinator was loaded.
    pub fn loaded(&self, took: Duration) {
        self.loads.record(took);
    }

    /// A group was deleted: a new one of the name has not rebalanced.
    pub fn deleted(&self, group: &str) {
        self.remembered.lock().forget(group);
    }

    /// So many partitions of what the group subscribes to have no reader in it; true when that is
    /// news that somebody should read.
    pub fn note_unowned(&self, group: &str, partitions: usize) -> bool {
        let mut told = self.unowned.lock();
        if partitions == 0 {
            told.remove(group);
            return false;
        }
        if told.get(group) == Some(&partitions) || told.len() >= REMEMBERED_MAX {
            return false;
        }
        told.insert(group.to_owned(), partitions);
        true
    }

    pub fn last_rebalance(&self, group: &str) -> Option<LastRebalance> {
        self.remembered.lock().by_group.get(group).cloned()
    }

    pub fn snapshot(&self) -> GroupCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GroupCounts {
            rebalances: RebalanceCause::ALL.map(|cause| read(&self.rebalances[cause as usize])),
            removals: RemovalCause::ALL.map(|cause| read(&self.removals[cause as usize])),
            commits: read(&self.commits),
            expired: read(&self.expired),
            loads: self.loads.snapshot(),
        }
    }
}

/// [`GroupCounters`] at one moment; causes in the order of their `ALL`.
#[derive(Clone, Debug, Default)]
pub struct GroupCounts {
    pub rebalances: [u64; RebalanceCause::ALL.len()],
    pub removals: [u64; RemovalCause::ALL.len()],
    pub commits: u64,
    pub expired: u64,
    pub loads: HistogramSnapshot,
}

fn shortened(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(group: &str, reason: &str) -> GroupEvent {
        GroupEvent::RebalanceStarted {
            group: group.to_owned(),
            cause: RebalanceCause::MemberLeft,
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn the_last_rebalance_of_a_group_is_remembered_until_the_group_is_deleted() {
        let counters = GroupCounters::default();
        counters.note(&started("g", "a leaves"), 1);
        counters.note(&started("g", &"\u{fc}".repeat(1_000)), 2);
        let last = counters.last_rebalance("g").unwrap();
        assert_eq!((last.at_ms, last.reason.len()), (2, 1_024));
        assert_eq!(counters.snapshot().rebalances.iter().sum::<u64>(), 2);
        counters.deleted("g");
        assert_eq!(counters.last_rebalance("g"), None);
        assert!(counters.remembered.lock().by_time.is_empty());
    }

    #[test]
    fn the_oldest_rebalance_is_forgotten_first_and_memory_is_bounded() {
        let counters = GroupCounters::default();
        for at in 0..=REMEMBERED_MAX {
            counters.note(&started(&format!("g{at}"), "r"), at as i64);
        }
        assert_eq!(counters.last_rebalance("g0"), None);
        assert!(counters.last_rebalance("g1").is_some());
        let remembered = counters.remembered.lock();
        assert_eq!(remembered.by_group.len(), REMEMBERED_MAX);
        assert_eq!(remembered.by_time.len(), REMEMBERED_MAX);
    }

    #[test]
    fn partitions_without_a_reader_are_news_once() {
        let counters = GroupCounters::default();
        let news = [2, 2, 3, 0, 0, 3].map(|count| counters.note_unowned("g", count));
        assert_eq!(news, [true, false, true, false, false, true]);
    }

    #[test]
    fn every_cause_is_counted_at_its_place() {
        for (index, cause) in RebalanceCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
        for (index, cause) in RemovalCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }
}
