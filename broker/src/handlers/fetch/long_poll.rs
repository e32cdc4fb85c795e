//! A fetch that waits for bytes. It is registered at every partition it reads; each tells it how
//! many bytes became readable, and the sum decides when it is worth another look.

use std::sync::Arc;
use std::time::Instant;

use super::answer::Writer;
use super::pass::Pass;
use crate::clock::deadline_after_ms;
use crate::context::RequestContext;
use crate::partition::Partition;
use crate::purgatory::{FetchWait, Waiter, WatchKey};
use crate::reply::{Answer, Parked, Reply};

pub(super) fn park(
    ctx: &RequestContext<'_>,
    pass: Pass,
    writer: Writer,
    min_bytes: u64,
    max_wait_ms: i32,
) -> Reply<Answer> {
    let missing = missing(&pass, min_bytes);
    let wait = FetchWait::new(Waiter::new(ctx.signal), missing);
    let watches = pass
        .watched()
        .map(|(partition, seen)| (Arc::clone(partition), partition.watch(&wait, seen)))
        .collect();
    Reply::Parked(Box::new(LongPoll {
        pass: Some(pass),
        writer,
        wait,
        watches,
        min_bytes,
        deadline: deadline_after_ms(ctx.now, max_wait_ms),
    }))
}

fn missing(pass: &Pass, min_bytes: u64) -> i64 {
    i64::try_from(min_bytes.saturating_sub(pass.size_bytes())).unwrap_or(i64::MAX)
}

struct LongPoll {
    /// Taken by the answer.
    pass: Option<Pass>,
    writer: Writer,
    wait: Arc<FetchWait>,
    watches: Vec<(Arc<Partition>, WatchKey)>,
    min_bytes: u64,
    deadline: Instant,
}

impl Parked<Answer> for LongPoll {
    fn waiter(&self) -> &Arc<Waiter> {
        self.wait.waiter()
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.deadline)
    }

    fn resume(&mut self, now: Instant) -> Option<Answer> {
        let mut pass = self.pass.take()?;
        let broker = Arc::clone(self.writer.broker());
        let logs = broker.logs();
        self.wait.waiter().rearm();
        // What becomes readable between a reading and `expect` would be credited to the old sum:
        // only a reading that finds nothing changed since the last one may wait again.
        loop {
            let changed = pass.read_changed(&logs);
            if now >= self.deadline || pass.is_complete(self.min_bytes) {
                return Some(self.writer.write(pass));
            }
            if !changed {
                break;
            }
            self.wait.expect(missing(&pass, self.min_bytes));
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
