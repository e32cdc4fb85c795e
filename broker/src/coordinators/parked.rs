//! Requests of groups that wait: for the machine's answer (a join, a sync), and for the commit of
//! what the answer tells.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_coordinator::Answer;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::Offset;
use parking_lot::Mutex;

use super::Shard;
use crate::context::RequestContext;
use crate::partition::Partition;
use crate::purgatory::{ConnectionSignal, ProduceWait, Waiter};
use crate::reply::{Parked, Reply};

/// Where the answer of a waiting request is put.
pub struct Slot<A = Answer> {
    answer: Mutex<Option<(A, Offset)>>,
    waiter: Arc<Waiter>,
}

impl<A> Slot<A> {
    pub fn new(signal: &Arc<ConnectionSignal>) -> Arc<Slot<A>> {
        Arc::new(Slot {
            answer: Mutex::new(None),
            waiter: Waiter::new(signal),
        })
    }

    pub(super) fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }

    /// The answer is there; it counts when the partition is committed up to `end`.
    pub(super) fn fill(&self, answer: A, end: Offset, partition: &Partition) {
        self.put(answer, end);
        let wait = ProduceWait::new(Arc::clone(&self.waiter));
        if !partition.watch_commit(end, &wait) {
            self.waiter.fire();
        }
    }

    /// The same; whoever calls it sees to it that the waiter is fired.
    pub(super) fn put(&self, answer: A, end: Offset) {
        *self.answer.lock() = Some((answer, end));
    }
}

/// Answers when `slot` was filled and what it says is committed. `lost` is the answer if the
/// coordinator goes away.
pub fn await_answer<A: Send + 'static, T: Send + 'static>(
    shard: &Arc<Shard>,
    slot: Arc<Slot<A>>,
    translate: impl FnOnce(Result<A, ErrorCode>) -> T + Send + 'static,
) -> Reply<T> {
    await_until(None, shard, slot, translate)
}

/// The same for what is to be written soon: after a while the client is told to try again.
pub(super) fn await_commit<A: Send + 'static, T: Send + 'static>(
    ctx: &RequestContext<'_>,
    shard: &Arc<Shard>,
    slot: Arc<Slot<A>>,
    translate: impl FnOnce(Result<A, ErrorCode>) -> T + Send + 'static,
) -> Reply<T> {
    let timeout = Duration::from_millis(ctx.broker.config.offsets_commit_timeout_ms);
    await_until(Some(ctx.now + timeout), shard, slot, translate)
}

fn await_until<A: Send + 'static, T: Send + 'static>(
    deadline: Option<Instant>,
    shard: &Arc<Shard>,
    slot: Arc<Slot<A>>,
    translate: impl FnOnce(Result<A, ErrorCode>) -> T + Send + 'static,
) -> Reply<T> {
    Reply::Parked(Box::new(AwaitAnswer {
        deadline,
        shard: Arc::clone(shard),
        slot,
        translate: Some(translate),
    }))
}

struct AwaitAnswer<A, F> {
    deadline: Option<Instant>,
    shard: Arc<Shard>,
    slot: Arc<Slot<A>>,
    translate: Option<F>,
}

impl<A: Send, T, F> Parked<T> for AwaitAnswer<A, F>
where
    F: FnOnce(Result<A, ErrorCode>) -> T + Send,
{
    fn waiter(&self) -> &Arc<Waiter> {
        &self.slot.waiter
    }

    /// Joins and syncs have none: the machine answers them by timers of its own.
    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn resume(&mut self, now: Instant) -> Option<T> {
        let over = self.deadline.is_some_and(|at| at <= now);
        self.slot.waiter.rearm();
        let mut answer = self.slot.answer.lock();
        let outcome = match answer.as_ref().map(|(_, end)| *end) {
            Some(end) => match self.shard.partition.is_committed(end) {
                Ok(true) => answer
                    .take()
                    .map(|(answer, _)| answer)
                    .ok_or(ErrorCode::NOT_COORDINATOR),
                Ok(false) if over => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
                Ok(false) => return None,
                Err(_) => Err(ErrorCode::NOT_COORDINATOR),
            },
            None if over => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            None if self.shard.is_open() => return None,
            None => Err(ErrorCode::NOT_COORDINATOR),
        };
        drop(answer);
        let translate = self.translate.take()?;
        Some(translate(outcome))
    }
}

/// The partitions that must be committed before an answer counts, and up to where.
pub type Ends = Vec<(Arc<Shard>, Offset)>;

/// Answers `value` when all `ends` are committed. If one never will be, or does not in time, `lost`
/// makes the answer.
pub fn when_committed<T: Send + 'static>(
    ctx: &RequestContext<'_>,
    ends: Ends,
    value: T,
    lost: impl FnOnce(T, ErrorCode) -> T + Send + 'static,
) -> Reply<T> {
    let wait = ProduceWait::new(Waiter::new(ctx.signal));
    let mut pending = false;
    for (shard, end) in &ends {
        wait.add_one();
        if shard.partition.watch_commit(*end, &wait) {
            pending = true;
        } else {
            wait.complete_one();
        }
    }
    let timeout = Duration::from_millis(ctx.broker.config.offsets_commit_timeout_ms);
    let mut parked = AwaitCommit {
        ends,
        wait,
        deadline: ctx.now + timeout,
        value: Some((value, lost)),
    };
    if !pending && let Some(value) = parked.resume(ctx.now) {
        return Reply::Now(value);
    }
    parked.wait.complete_one();
    Reply::Parked(Box::new(parked))
}

struct AwaitCommit<T, F> {
    ends: Ends,
    wait: Arc<ProduceWait>,
    deadline: Instant,
    value: Option<(T, F)>,
}

impl<T: Send, F> Parked<T> for AwaitCommit<T, F>
where
    F: FnOnce(T, ErrorCode) -> T + Send,
{
    fn waiter(&self) -> &Arc<Waiter> {
        self.wait.waiter()
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.deadline)
    }

    fn resume(&mut self, now: Instant) -> Option<T> {
        self.wait.waiter().rearm();
        let mut error = None;
        for (shard, end) in &self.ends {
            match shard.partition.is_committed(*end) {
                Ok(true) => {}
                Ok(false) if now < self.deadline => return None,
                Ok(false) => error = Some(ErrorCode::COORDINATOR_NOT_AVAILABLE),
                Err(_) => error = Some(ErrorCode::NOT_COORDINATOR),
            }
        }
        let (value, lost) = self.value.take()?;
        Some(match error {
            None => value,
            Some(error) => lost(value, error),
        })
    }
}
