//! Commits of offsets that come while their shard waits for its disk are gathered, and become one
//! batch when the disk is done.
//!
//! They could not have been acknowledged earlier: their records would have waited for the next
//! sync. So many clients share one write as they share one sync, and nobody waits longer. Whoever
//! comes to the shard with something else carries out first what was gathered, under the same
//! lock: the requests of a connection take effect in their order.

use std::sync::{Arc, Weak};
use std::time::Instant;

use ottla_coordinator::command::{CommitOffsets, CommittedOffset, TopicPartitionId};
use ottla_coordinator::{GroupCoordinator, Turn};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::Offset;

use super::parked::{Slot, await_commit};
use super::{After, Coordinators, Inner, Shard};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::flusher::Job;
use crate::partition::Partition;
use crate::purgatory::{ConnectionSignal, ProduceWait, Waiter};
use crate::reply::Reply;

/// One result per offset, or one for all.
pub type Committed = Result<Vec<ErrorCode>, ErrorCode>;

/// What is gathered for one batch; a topic that allows less gets smaller batches.
const BATCH_BYTES_MAX: usize = 128 << 10;
/// A record without its names and metadata takes less.
const RECORD_BYTES: usize = 100;

/// Commits that wait for the disk.
pub(super) struct Gathered {
    broker: Weak<Broker>,
    commits: Vec<(CommitOffsets, Arc<Slot<Committed>>)>,
    /// About what their records will take, and what they may.
    bytes: usize,
    bytes_max: usize,
}

impl Gathered {
    pub(super) fn fire(self) {
        for (_, slot) in self.commits {
            slot.waiter().fire();
        }
    }
}

/// Gathered commits that were written up to `end`: whom to tell when that is committed.
pub(super) struct Written {
    slots: Vec<Arc<Slot<Committed>>>,
    end: Offset,
}

impl Written {
    pub(super) fn watch(self, partition: &Partition) {
        let (slots, end) = (self.slots, self.end);
        let fire = move || {
            for slot in &slots {
                slot.waiter().fire();
            }
        };
        let wait = ProduceWait::new(Waiter::new(&ConnectionSignal::new(fire)));
        if !partition.watch_commit(end, &wait) {
            wait.complete_one();
        }
    }
}

impl Coordinators {
    /// Commits offsets, now or with others; answered when that is committed to the log.
    pub fn commit<T: Send + 'static>(
        &self,
        ctx: &RequestContext<'_>,
        shard: &Arc<Shard>,
        command: CommitOffsets,
        translate: impl FnOnce(Committed) -> T + Send + 'static,
    ) -> Reply<T> {
        let slot = Slot::new(ctx.signal);
        if let Some(command) = self.gather(ctx.broker, shard, command, &slot) {
            let commit =
                |machine: &mut GroupCoordinator, turn: &mut Turn<'_>| machine.commit(turn, command);
            let turned = self.turn(ctx.broker, shard, ctx.now, commit);
            if matches!(shard.partition.is_committed(turned.end), Ok(true)) {
                return Reply::Now(translate(turned.result));
            }
            slot.fill(turned.result, turned.end, &shard.partition);
        }
        await_commit(ctx, shard, slot, |answer| {
            translate(answer.and_then(|committed| committed))
        })
    }

    /// Gives the command back when the shard waits for nothing.
    fn gather(
        &self,
        broker: &Arc<Broker>,
        shard: &Arc<Shard>,
        command: CommitOffsets,
        slot: &Arc<Slot<Committed>>,
    ) -> Option<CommitOffsets> {
        let bytes = size(&command);
        let mut inner = shard.inner.lock();
        if inner.gathered.is_none() {
            let waits = matches!(shard.partition.is_committed(inner.end), Ok(false));
            if !waits
                || !shard
                    .partition
                    .watch_commit(inner.end, &bell(broker, shard))
            {
                return Some(command);
            }
            inner.gathered = Some(Gathered {
                broker: Arc::downgrade(broker),
                commits: Vec::new(),
                bytes: 0,
                bytes_max: BATCH_BYTES_MAX.min(max_message_bytes(&shard.partition) / 2),
            });
        }
        match &mut inner.gathered {
            Some(gathered) if gathered.bytes + bytes <= gathered.bytes_max => {
                gathered.bytes += bytes;
                gathered.commits.push((command, Arc::clone(slot)));
                None
            }
            // Its turn carries out the others first.
            _ => Some(command),
        }
    }

    /// The disk is done.
    fn write_gathered(&self, broker: &Broker, shard: &Shard) {
        let (mut inner, mut after) = (shard.inner.lock(), After::default());
        self.settle(broker, shard, &mut inner, broker.clock.now(), &mut after);
        drop(inner);
        self.carry_out(broker, shard, after);
    }

    /// Carries out what was gathered, before anything else happens to the shard.
    pub(super) fn settle(
        &self,
        broker: &Broker,
        shard: &Shard,
        inner: &mut Inner,
        now: Instant,
        after: &mut After,
    ) {
        let Some(gathered) = inner.gathered.take() else {
            return;
        };
        let (commands, slots): (Vec<_>, Vec<_>) = gathered.commits.into_iter().unzip();
        let results = self.in_turn(broker, shard, inner, now, after, |machine, turn| {
            machine.commit_all(turn, commands)
        });
        let end = inner.end;
        for (slot, result) in slots.iter().zip(results) {
            slot.put(result, end);
        }
        after.written = Some(Written { slots, end });
    }

    /// The same for somebody who only reads.
    pub(super) fn settle_for_reader(&self, shard: &Shard, inner: &mut Inner) -> Option<Told> {
        let broker = inner.gathered.as_ref()?.broker.upgrade()?;
        let mut after = After::default();
        self.settle(&broker, shard, inner, broker.clock.now(), &mut after);
        Some((broker, after))
    }
}

fn max_message_bytes(partition: &Partition) -> usize {
    usize::try_from(partition.config().max_message_bytes).unwrap_or(usize::MAX)
}

fn size(command: &CommitOffsets) -> usize {
    let of = |(partition, committed): &(TopicPartitionId, CommittedOffset)| {
        RECORD_BYTES + command.group.len() + partition.topic.len() + committed.metadata.len()
    };
    command.offsets.iter().map(of).sum()
}

/// What is left to do when the lock is released.
pub(super) type Told = (Arc<Broker>, After);

/// Rings when what the shard has written is committed, or never will be. The work itself is left to
/// the threads that flush: whoever rings may hold locks.
fn bell(broker: &Arc<Broker>, shard: &Arc<Shard>) -> Arc<ProduceWait> {
    let place = shard.partition.log_dir();
    let (broker, shard) = (Arc::downgrade(broker), Arc::downgrade(shard));
    let ring = move || {
        let Some(flush) = broker.upgrade() else {
            return;
        };
        let (broker, shard) = (Weak::clone(&broker), Weak::clone(&shard));
        let work = move || {
            if let (Some(broker), Some(shard)) = (broker.upgrade(), shard.upgrade()) {
                broker.coordinators.write_gathered(&broker, &shard);
            }
        };
        flush.flush.push(Job::Call {
            place: Some(Arc::clone(&place)),
            work: Box::new(work),
        });
    };
    ProduceWait::new(Waiter::new(&ConnectionSignal::new(ring)))
}

#[cfg(test)]
mod tests;
