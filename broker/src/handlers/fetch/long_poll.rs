//! A fetch that waits for bytes. It is registered at every partition it reads; each tells it how
//! many bytes became readable, and the sum decides when it is worth another look. While one of its
//! reads waits for the disk it waits for that, however long: as a read on its own thread would.

use std::sync::Arc;
use std::time::Instant;

use super::answer::Writer;
use super::pass::Pass;
use super::warming::{ColdTarget, Warming};
use crate::clock::deadline_after_ms;
use crate::context::RequestContext;
use crate::partition::Partition;
use crate::purgatory::{FetchWait, Waiter, WatchKey};
use crate::reply::{Answer, Parked, Reply};

pub(super) fn park(
    ctx: &RequestContext<'_>,
    (pass, cold): (Pass, Option<ColdTarget>),
    writer: Writer,
    min_bytes: u64,
    max_wait_ms: i32,
) -> Reply<Answer> {
    let missing = missing(&pass, min_bytes);
    let wait = FetchWait::new(Waiter::new(ctx.signal), missing);
    let mut poll = LongPoll {
        pass: None,
        writer,
        wait,
        watches: Vec::new(),
        cold: None,
        min_bytes,
        deadline: deadline_after_ms(ctx.now, max_wait_ms),
    };
    match cold {
        Some(cold) => poll.warm(cold),
        None => poll.watch(&pass),
    }
    poll.pass = Some(pass);
    Reply::Parked(Box::new(poll))
}

fn missing(pass: &Pass, min_bytes: u64) -> i64 {
    i64::try_from(min_bytes.saturating_sub(pass.size_bytes())).unwrap_or(i64::MAX)
}

struct LongPoll {
    /// Taken by the answer.
    pass: Option<Pass>,
    writer: Writer,
    wait: Arc<FetchWait>,
    /// Empty until everything was read once.
    watches: Vec<(Arc<Partition>, WatchKey)>,
    /// The read that waits for the disk.
    cold: Option<Arc<Warming>>,
    min_bytes: u64,
    deadline: Instant,
}

impl LongPoll {
    fn warm(&mut self, cold: ColdTarget) {
        let broker = self.writer.broker();
        self.cold = Some(Warming::begin(broker, self.wait.waiter(), cold));
    }

    fn watch(&mut self, pass: &Pass) {
        if self.watches.is_empty() {
            let watch = |(partition, seen): (&Arc<Partition>, u64)| {
                (Arc::clone(partition), partition.watch(&self.wait, seen))
            };
            self.watches = pass.watched().map(watch).collect();
        }
    }
}

impl Parked<Answer> for LongPoll {
    fn waiter(&self) -> &Arc<Waiter> {
        self.wait.waiter()
    }

    fn deadline(&self) -> Option<Instant> {
        self.cold.is_none().then_some(self.deadline)
    }

    fn resume(&mut self, now: Instant) -> Option<Answer> {
        self.wait.waiter().rearm();
        let offer = match &self.cold {
            Some(cold) => Some(cold.take()?),
            None => None,
        };
        self.cold = None;
        let mut pass = self.pass.take()?;
        let broker = Arc::clone(self.writer.broker());
        let logs = broker.logs();
        let warmed = offer.is_some();
        let mut changed = match offer {
            Some(offer) => {
                pass.offer(offer);
                true
            }
            None => pass.take_back_changed(),
        };
        // What becomes readable between a reading and `expect` would be credited to the old sum:
        // only a reading that finds nothing changed since the last one may wait again.
        loop {
            if let Some(cold) = pass.read_unread(&logs) {
                self.warm(cold);
                break;
            }
            if warmed && pass.refresh_marks() {
                continue;
            }
            if now >= self.deadline || pass.is_complete(self.min_bytes) {
                return Some(self.writer.write(pass));
            }
            if !changed {
                break;
            }
            self.wait.expect(missing(&pass, self.min_bytes));
            self.watch(&pass);
            changed = pass.take_back_changed();
        }
        self.pass = Some(pass);
        None
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        for (partition, key) in self.watches.drain(..) {
            partition.unwatch(key);
        }
    }
}
