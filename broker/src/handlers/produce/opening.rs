//! A produce that waits: first until the records of its batches are opened, where a topic wants
//! that and it takes long, then until what was appended is committed, and until it is on the disk
//! when that disk's budget is spent.
//!
//! The records are opened on other threads ([`crate::openers`]). Until all of a request's batches
//! are appended, its connection begins no other request: a producer counts on the order of its
//! batches, and this request's are not in their logs yet. Neither does one that is slowed for its
//! disk ([`crate::dirty`]), or it would only queue more.

use std::sync::Arc;
use std::time::Instant;

use ottla_protocol::batch::RecordBatch;
use ottla_protocol::error::ErrorCode;
use ottla_storage::log::{AppendError, RecordWork};
use parking_lot::Mutex;

use super::{Outcome, Produce};
use crate::clock::deadline_after_ms;
use crate::errors::ToErrorCode;
use crate::partition::{Partition, PartitionError};
use crate::purgatory::{LazyWait, ProduceWait, Waiter};
use crate::reply::{Answer, CloseReason, Parked};

/// One batch whose records are being opened.
pub(super) struct Opening {
    partition: Arc<Partition>,
    opened: Mutex<Option<Result<RecordBatch, AppendError>>>,
}

/// Tells the request when it is dropped: also when the work ended by a defect.
struct Tell(Arc<ProduceWait>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.complete_one();
    }
}

impl Opening {
    pub(super) fn begin(
        produce: &Produce,
        partition: &Arc<Partition>,
        (work, batch): (Arc<RecordWork>, RecordBatch),
        now_ms: i64,
        wait: Arc<ProduceWait>,
    ) -> Arc<Opening> {
        let opening = Arc::new(Opening {
            partition: Arc::clone(partition),
            opened: Mutex::new(None),
        });
        let (result, version) = (Arc::clone(&opening), produce.version);
        let plain_bytes_max = work.plain_bytes_max(&batch);
        produce.broker.openers.push(plain_bytes_max, move || {
            let _tell = Tell(wait);
            let opened = work.run(batch, version, now_ms);
            *result.opened.lock() = Some(opened);
        });
        opening
    }
}

/// A produce that cannot be answered yet.
pub(super) struct ParkedProduce {
    produce: Produce,
    waiter: Arc<Waiter>,
    timeout_ms: i32,
    /// The records of these batches are being opened; `None`: everything is appended.
    opens: Option<Arc<ProduceWait>>,
    /// When the wait for the commit is over; set once everything is appended.
    deadline: Option<Instant>,
    /// Some partition's answer waits for the disk.
    slowed: bool,
}

impl ParkedProduce {
    pub(super) fn opening(
        produce: Produce,
        opens: Arc<ProduceWait>,
        timeout_ms: i32,
    ) -> ParkedProduce {
        ParkedProduce {
            produce,
            waiter: Arc::clone(opens.waiter()),
            timeout_ms,
            opens: Some(opens),
            deadline: None,
            slowed: false,
        }
    }

    pub(super) fn committing(
        produce: Produce,
        commits: Arc<ProduceWait>,
        now: Instant,
        timeout_ms: i32,
    ) -> ParkedProduce {
        let slowed = produce.partitions.iter().any(|o| o.slowed.is_some());
        ParkedProduce {
            produce,
            slowed,
            waiter: Arc::clone(commits.waiter()),
            timeout_ms,
            opens: None,
            deadline: Some(deadline_after_ms(now, timeout_ms)),
        }
    }

    /// Appends what was opened, in the order of the request.
    fn append(&mut self, now: Instant) {
        let now_ms = self.produce.broker.clock.wall_ms();
        let waiter = Arc::clone(&self.waiter);
        let mut commits = LazyWait::on(&waiter);
        for at in 0..self.produce.partitions.len() {
            let outcome = &mut self.produce.partitions[at];
            // Those that were appended at once: from now on this bell tells about them, too.
            if let Some((partition, end_offset)) = &outcome.awaits {
                let wait = commits.add_one();
                if !partition.watch_commit(*end_offset, &wait) {
                    wait.complete_one();
                }
            }
            if let Some((partition, end_offset)) = &outcome.slowed {
                let wait = commits.add_one();
                if !partition.watch_flush(*end_offset, &wait) {
                    wait.complete_one();
                }
            }
            let Some(opening) = outcome.opening.take() else {
                continue;
            };
            let index = outcome.index;
            let opened = opening.opened.lock().take();
            let (times, partition) = ((now, now_ms), &opening.partition);
            self.produce.partitions[at] = match opened {
                Some(opened) => {
                    let wait = &mut commits;
                    self.produce
                        .append_opened(partition, index, opened, times, wait)
                }
                None => Outcome::failed(index, ErrorCode::UNKNOWN_SERVER_ERROR),
            };
        }
        let _ = commits.finish();
        self.deadline = Some(deadline_after_ms(now, self.timeout_ms));
    }

    /// Looks again at what is waited for; true when something still is.
    fn is_pending(&mut self, now: Instant) -> bool {
        let mut pending = false;
        self.slowed = false;
        let in_time = self.deadline.is_none_or(|deadline| now < deadline);
        for outcome in &mut self.produce.partitions {
            if let Some((partition, end_offset)) = &outcome.slowed {
                match partition.is_flushed(*end_offset) {
                    Ok(false) | Err(PartitionError::Hangs) if in_time => self.slowed = true,
                    // Slowed long enough: what its class promises is there.
                    Ok(_) => outcome.slowed = None,
                    Err(error) => outcome.not_committed(error.error_code()),
                }
            }
            let Some((partition, end_offset)) = &outcome.awaits else {
                continue;
            };
            match partition.is_committed(*end_offset) {
                Ok(true) => outcome.awaits = None,
                Ok(false) | Err(PartitionError::Hangs) if in_time => pending = true,
                Ok(false) => outcome.not_committed(ErrorCode::REQUEST_TIMED_OUT),
                Err(error) => outcome.not_committed(error.error_code()),
            }
        }
        pending || self.slowed
    }
}

impl Parked<Answer> for ParkedProduce {
    fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn resume(&mut self, now: Instant) -> Option<Answer> {
        self.waiter.rearm();
        if let Some(opens) = &self.opens {
            if !opens.is_complete() {
                return None;
            }
            self.opens = None;
            self.append(now);
        }
        if self.is_pending(now) {
            return None;
        }
        if self.produce.acks != 0 {
            return Some(self.produce.write());
        }
        Some(match self.produce.failed() {
            true => Answer::Close(CloseReason::ProduceFailedWithoutAcks),
            false => Answer::Pieces(Vec::new()),
        })
    }

    fn holds_back(&self) -> bool {
        self.opens.is_some() || self.slowed
    }
}
