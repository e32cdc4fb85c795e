//! When a log is made durable: the durability class and a pure planner of flushes.
//!
//! An acknowledgement in class `commit` waits for a flush that covers it; concurrent appends share
//! one (group commit): while a flush runs, whatever arrives waits for the next. The planner says
//! when to begin one; it owns no threads and no clock. Checkpoints (indexes, producer snapshots)
//! ride along when enough was appended or enough time has passed.

use ottla_protocol::types::Offset;

/// What an acknowledgement promises, per topic (`ottla.durability`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DurabilityClass {
    /// The records are synced on every replica that counts.
    #[default]
    Commit,
    /// The records are in the page cache; a flush follows within a bound of time and records.
    Interval,
    /// The records are in the page cache; write-back is left to the kernel and to rolls.
    Memory,
}

impl DurabilityClass {
    pub fn name(self) -> &'static str {
        match self {
            DurabilityClass::Commit => "commit",
            DurabilityClass::Interval => "interval",
            DurabilityClass::Memory => "memory",
        }
    }

    pub fn from_name(name: &str) -> Option<DurabilityClass> {
        [
            DurabilityClass::Commit,
            DurabilityClass::Interval,
            DurabilityClass::Memory,
        ]
        .into_iter()
        .find(|class| class.name() == name)
    }
}

/// The bounds that start flushes and checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushPolicy {
    pub class: DurabilityClass,
    /// `flush.messages`: flush when this many records are not synced.
    pub flush_messages: i64,
    /// `flush.ms`: flush when the oldest record that is not synced is this old.
    pub flush_ms: i64,
    /// A recovery scans about this much at most.
    pub checkpoint_bytes: u64,
    /// A log with news is checkpointed at least this often.
    pub checkpoint_ms: i64,
}

impl FlushPolicy {
    pub fn new(class: DurabilityClass) -> FlushPolicy {
        FlushPolicy {
            class,
            flush_messages: i64::MAX,
            flush_ms: match class {
                DurabilityClass::Interval => 1_000,
                DurabilityClass::Commit | DurabilityClass::Memory => i64::MAX,
            },
            checkpoint_bytes: 64 << 20,
            checkpoint_ms: 60_000,
        }
    }
}

/// What to do for a log now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushStep {
    Nothing,
    /// Sync the segments ([`crate::log::Log::begin_flush`]).
    Flush,
    /// Sync the segments and write the files that bound a recovery
    /// ([`crate::log::Log::begin_checkpoint`]).
    Checkpoint,
}

/// One log's flush state. Fed with what happened, asked what to do; at most one step runs at once.
#[derive(Clone, Copy, Debug)]
pub struct FlushPlanner {
    policy: FlushPolicy,
    running: bool,
    flushed: Offset,
    log_end: Offset,
    /// When the oldest unsynced record was appended.
    dirty_since_ms: Option<i64>,
    /// Bytes and time since the last checkpoint.
    unchecked_bytes: u64,
    unchecked_since_ms: Option<i64>,
    rolled: bool,
}

impl FlushPlanner {
    pub fn new(policy: FlushPolicy, log_end: Offset) -> FlushPlanner {
        FlushPlanner {
            policy,
            running: false,
            flushed: log_end,
            log_end,
            dirty_since_ms: None,
            unchecked_bytes: 0,
            unchecked_since_ms: None,
            rolled: false,
        }
    }

    pub fn policy(&self) -> &FlushPolicy {
        &self.policy
    }

    pub fn set_policy(&mut self, policy: FlushPolicy) {
        self.policy = policy;
    }

    /// Something was appended; `rolled` as in [`crate::log::Appended`].
    pub fn appended(&mut self, log_end: Offset, bytes: u64, rolled: bool, now_ms: i64) {
        self.log_end = log_end;
        self.dirty_since_ms.get_or_insert(now_ms);
        self.unchecked_since_ms.get_or_insert(now_ms);
        self.unchecked_bytes += bytes;
        self.rolled |= rolled;
    }

    /// What is due now. After `Flush` or `Checkpoint` the caller must call
    /// [`FlushPlanner::finished`].
    pub fn next(&mut self, now_ms: i64) -> FlushStep {
        if self.running {
            return FlushStep::Nothing;
        }
        let step = if self.checkpoint_due(now_ms) {
            FlushStep::Checkpoint
        } else if self.flush_due(now_ms) {
            FlushStep::Flush
        } else {
            return FlushStep::Nothing;
        };
        self.running = true;
        if step == FlushStep::Checkpoint {
            self.unchecked_bytes = 0;
            self.unchecked_since_ms = None;
            self.rolled = false;
        }
        // What is appended while this step runs gets a time of its own.
        self.dirty_since_ms = None;
        step
    }

    /// The step that ran has synced up to here.
    pub fn finished(&mut self, flushed: Offset, now_ms: i64) {
        self.running = false;
        self.flushed = self.flushed.max(flushed);
        if self.flushed < self.log_end {
            self.dirty_since_ms.get_or_insert(now_ms);
        }
    }

    /// The log was cut: what was beyond needs no flush.
    pub fn truncated(&mut self, log_end: Offset) {
        self.log_end = log_end;
        self.flushed = self.flushed.min(log_end);
    }

    /// When `next` may have something to say without anything being appended.
    pub fn next_due_ms(&self) -> Option<i64> {
        let after = |since: Option<i64>, bound: i64| since.map(|since| since.saturating_add(bound));
        let flush = after(self.dirty_since_ms, self.policy.flush_ms);
        let checkpoint = after(self.unchecked_since_ms, self.policy.checkpoint_ms);
        flush
            .into_iter()
            .chain(checkpoint)
            .filter(|due| *due < i64::MAX)
            .min()
    }

    fn flush_due(&self, now_ms: i64) -> bool {
        let unsynced = self.log_end - self.flushed;
        if unsynced <= 0 {
            return false;
        }
        let old = self
            .dirty_since_ms
            .is_some_and(|since| now_ms.saturating_sub(since) >= self.policy.flush_ms);
        self.policy.class == DurabilityClass::Commit
            || unsynced >= self.policy.flush_messages
            || old
    }

    fn checkpoint_due(&self, now_ms: i64) -> bool {
        let old = self
            .unchecked_since_ms
            .is_some_and(|since| now_ms.saturating_sub(since) >= self.policy.checkpoint_ms);
        old || self.rolled || self.unchecked_bytes >= self.policy.checkpoint_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planner(class: DurabilityClass) -> FlushPlanner {
        FlushPlanner::new(FlushPolicy::new(class), Offset(0))
    }

    #[test]
    fn commit_flushes_at_once_and_groups_what_arrives_meanwhile() {
        let mut planner = planner(DurabilityClass::Commit);
        assert_eq!(planner.next(0), FlushStep::Nothing);
        planner.appended(Offset(1), 100, false, 0);
        assert_eq!(planner.next(0), FlushStep::Flush);
        planner.appended(Offset(2), 100, false, 1);
        planner.appended(Offset(3), 100, false, 1);
        assert_eq!(planner.next(1), FlushStep::Nothing, "one flush at a time");
        planner.finished(Offset(1), 2);
        assert_eq!(planner.next(2), FlushStep::Flush);
        planner.finished(Offset(3), 3);
        assert_eq!(planner.next(3), FlushStep::Nothing);
    }

    #[test]
    fn interval_flushes_by_age_or_count() {
        let mut planner = planner(DurabilityClass::Interval);
        planner.appended(Offset(5), 100, false, 0);
        assert_eq!(planner.next(999), FlushStep::Nothing);
        assert_eq!(planner.next_due_ms(), Some(1_000));
        assert_eq!(planner.next(1_000), FlushStep::Flush);
        planner.finished(Offset(5), 1_001);
        planner.set_policy(FlushPolicy {
            flush_messages: 3,
            ..*planner.policy()
        });
        planner.appended(Offset(7), 100, false, 1_001);
        assert_eq!(planner.next(1_001), FlushStep::Nothing);
        planner.appended(Offset(8), 100, false, 1_001);
        assert_eq!(planner.next(1_001), FlushStep::Flush);
    }

    #[test]
    fn memory_only_checkpoints() {
        let mut planner = planner(DurabilityClass::Memory);
        planner.appended(Offset(1), 1 << 20, false, 0);
        assert_eq!(planner.next(1_000), FlushStep::Nothing);
        planner.appended(Offset(2), 64 << 20, false, 1_000);
        assert_eq!(planner.next(1_000), FlushStep::Checkpoint);
        planner.finished(Offset(2), 1_001);
        planner.appended(Offset(3), 1, true, 2_000);
        assert_eq!(
            planner.next(2_000),
            FlushStep::Checkpoint,
            "a roll asks for one"
        );
        planner.finished(Offset(3), 2_001);
        planner.appended(Offset(4), 1, false, 3_000);
        assert_eq!(planner.next(62_999), FlushStep::Nothing);
        assert_eq!(planner.next(63_000), FlushStep::Checkpoint, "so does time");
    }

    #[test]
    fn a_truncated_log_needs_no_flush_of_what_is_gone() {
        let mut planner = planner(DurabilityClass::Commit);
        planner.appended(Offset(10), 100, false, 0);
        planner.truncated(Offset(0));
        assert_eq!(planner.next(1), FlushStep::Nothing);
    }
}
