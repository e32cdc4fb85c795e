//! What a partition's leader decides, without a log, a lock or a clock: how far readers may see,
//! and when a flush is due.
//!
//! With one replica the high watermark is the flushed end for durability class `commit` and the
//! log end for the others; it never goes back. Beside each offset the machine keeps the number of
//! bytes appended up to it since the start, so that an advance can be told to waiting fetches in
//! bytes. A change of the class takes effect with the next append; whoever waits for a flush goes
//! on waiting for it. Deliberately absent: followers and the ISR; they will be further inputs of
//! `target`.

use std::time::{Duration, Instant};

use ottla_protocol::types::{LeaderEpoch, Offset};

use crate::config::Durability;

/// How long a flush waits that found no descriptor.
const POSTPONED: Duration = Duration::from_millis(200);

/// When appended data must reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushPolicy {
    pub durability: Durability,
    /// Flush when this many records are unflushed.
    pub records_max: Option<u64>,
    /// Flush when the oldest unflushed record is this old.
    pub age_max: Option<Duration>,
}

/// A position in the log: an offset and the bytes appended before it since the partition was
/// opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub offset: Offset,
    pub bytes: u64,
}

/// What the caller has to arrange after an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushDue {
    /// Nothing new to arrange.
    No,
    /// Put the partition into the flush queue.
    Now,
    /// Put it there at this time.
    At(Instant),
}

/// Where the partition is with the flusher; it is in the queue at most once and flushed by at most
/// one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlushPhase {
    Idle,
    Queued,
    Running,
    /// More was appended while a flush ran.
    RunningAgain,
}

/// The replica state of a partition this broker leads.
#[derive(Debug)]
pub struct PartitionState {
    policy: FlushPolicy,
    leader_epoch: LeaderEpoch,
    epoch_start_offset: Offset,
    log_end: Position,
    flushed: Position,
    high_watermark: Position,
    /// Nobody sees what is below before its flush: it was appended in class `commit`, also when
    /// the class has changed since, or when `flush.messages` was reached.
    promised: Offset,
    phase: FlushPhase,
    timer_set: bool,
    /// Bytes appended before the last checkpoint began.
    checkpointed_bytes: u64,
}

impl PartitionState {
    /// `end` is flushed: whoever opens a log flushes what recovery found before serving it.
    pub fn new(policy: FlushPolicy, leader_epoch: LeaderEpoch, end: Offset) -> PartitionState {
        let end = Position {
            offset: end,
            bytes: 0,
        };
        PartitionState {
            policy,
            leader_epoch,
            epoch_start_offset: end.offset,
            log_end: end,
            flushed: end,
            high_watermark: end,
            promised: end.offset,
            phase: FlushPhase::Idle,
            timer_set: false,
            checkpointed_bytes: 0,
        }
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Where the current leadership began.
    pub fn epoch_start_offset(&self) -> Offset {
        self.epoch_start_offset
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark.offset
    }

    /// False when the epoch is not newer.
    pub fn lead(&mut self, epoch: LeaderEpoch) -> bool {
        if epoch <= self.leader_epoch {
            return false;
        }
        self.leader_epoch = epoch;
        self.epoch_start_offset = self.log_end.offset;
        true
    }

    /// Data was written up to `log_end`. Returns the bytes that became readable and what to arrange
    /// about flushing.
    pub fn appended(&mut self, log_end: Offset, bytes: u64, now: Instant) -> (u64, FlushDue) {
        assert!(log_end > self.log_end.offset, "an append moves the log end");
        self.log_end = Position {
            offset: log_end,
            bytes: self.log_end.bytes + bytes,
        };
        // Kafka flushes such records before it answers for them, whatever it does with others.
        if self.is_due_by_count() {
            self.promised = log_end;
        }
        (self.advance(), self.flush_due(now))
    }

    fn is_due_by_count(&self) -> bool {
        let unflushed = self.log_end.offset - self.flushed.offset;
        self.policy
            .records_max
            .is_some_and(|max| unflushed as u64 >= max)
    }

    /// The position a flush that starts now will reach.
    pub fn log_end(&self) -> Position {
        self.log_end
    }

    pub fn set_policy(&mut self, policy: FlushPolicy, now: Instant) -> (u64, FlushDue) {
        let commit = |policy: &FlushPolicy| policy.durability == Durability::Commit;
        if commit(&self.policy) && !commit(&policy) {
            self.promised = self.log_end.offset;
        }
        // A timer of the old policy may ring as well: it finds nothing to do, or flushes early.
        self.timer_set &= self.policy.age_max == policy.age_max;
        self.policy = policy;
        let due = if self.flushed == self.log_end {
            FlushDue::No
        } else {
            self.flush_due(now)
        };
        (self.advance(), due)
    }

    fn flush_due(&mut self, now: Instant) -> FlushDue {
        if self.policy.durability == Durability::Commit || self.is_due_by_count() {
            return if self.want_flush() {
                FlushDue::Now
            } else {
                FlushDue::No
            };
        }
        match self.policy.age_max {
            Some(age) if !self.timer_set && self.phase == FlushPhase::Idle => {
                self.timer_set = true;
                FlushDue::At(now + age)
            }
            _ => FlushDue::No,
        }
    }

    /// Somebody wants to know that everything is on the disk; true when the partition must be
    /// queued.
    pub fn hurry(&mut self) -> bool {
        self.flushed != self.log_end && self.want_flush()
    }

    pub fn flushed_to(&self) -> Offset {
        self.flushed.offset
    }

    pub fn durability(&self) -> Durability {
        self.policy.durability
    }

    /// True when the caller must put the partition into the flush queue.
    fn want_flush(&mut self) -> bool {
        let (phase, push) = match self.phase {
            FlushPhase::Idle => (FlushPhase::Queued, true),
            FlushPhase::Queued => (FlushPhase::Queued, false),
            FlushPhase::Running | FlushPhase::RunningAgain => (FlushPhase::RunningAgain, false),
        };
        self.phase = phase;
        push
    }

    /// The timer of [`FlushDue::At`] rang; true when the partition must be queued.
    pub fn timer_rang(&mut self) -> bool {
        self.timer_set = false;
        self.flushed != self.log_end && self.want_flush()
    }

    /// The flusher took the partition from the queue.
    pub fn flush_begins(&mut self) -> Position {
        assert!(
            self.phase == FlushPhase::Queued,
            "only a queued partition is flushed"
        );
        self.phase = FlushPhase::Running;
        self.log_end
    }

    /// A flush up to `to` succeeded. Returns the bytes that became readable and what to arrange
    /// for what was appended meanwhile.
    pub fn flushed(&mut self, to: Position, now: Instant) -> (u64, FlushDue) {
        let readable = self.synced(to);
        let behind = self.flushed != self.log_end;
        let again = self.phase == FlushPhase::RunningAgain && behind;
        self.phase = FlushPhase::Idle;
        let due = match (again, behind) {
            (true, _) => {
                self.phase = FlushPhase::Queued;
                FlushDue::Now
            }
            (false, true) => self.flush_due(now),
            (false, false) => FlushDue::No,
        };
        (readable, due)
    }

    /// A flush could not be tried. Returns what to arrange: the next append may want it sooner.
    pub fn flush_postponed(&mut self, now: Instant) -> FlushDue {
        self.phase = FlushPhase::Idle;
        self.timer_set = true;
        FlushDue::At(now + POSTPONED)
    }

    /// A checkpoint could not be tried: it is due again.
    pub fn checkpoint_postponed(&mut self) {
        self.checkpointed_bytes = 0;
    }

    /// Everything up to `to` is on the disk. Returns the bytes that became readable.
    pub fn synced(&mut self, to: Position) -> u64 {
        if to.offset > self.flushed.offset {
            self.flushed = to;
        }
        self.advance()
    }

    /// A checkpoint is taken; it covers the position returned.
    pub fn checkpoint_begins(&mut self) -> Position {
        self.checkpointed_bytes = self.log_end.bytes;
        self.log_end
    }

    /// Bytes appended since the last checkpoint.
    pub fn unchecked_bytes(&self) -> u64 {
        self.log_end.bytes - self.checkpointed_bytes
    }

    /// The log was cut back to `log_end`; a leader does that only before it serves.
    pub fn truncated(&mut self, log_end: Offset) {
        let end = Position {
            offset: log_end,
            bytes: self.log_end.bytes,
        };
        self.log_end = end;
        self.flushed = Position {
            offset: self.flushed.offset.min(log_end),
            bytes: end.bytes,
        };
        self.promised = self.promised.min(log_end);
        self.high_watermark = Position {
            offset: self.high_watermark.offset.min(log_end),
            bytes: end.bytes,
        };
    }

    /// Moves the high watermark to where the rules allow it; returns the bytes it passed.
    fn advance(&mut self) -> u64 {
        let target = match self.policy.durability {
            Durability::Commit => self.flushed,
            _ if self.flushed.offset < self.promised => self.flushed,
            Durability::Interval | Durability::Memory => self.log_end,
        };
        if target.offset <= self.high_watermark.offset {
            return 0;
        }
        let bytes = target.bytes - self.high_watermark.bytes;
        self.high_watermark = target;
        assert!(self.high_watermark.offset <= self.log_end.offset);
        bytes
    }
}

#[cfg(test)]
mod tests;
