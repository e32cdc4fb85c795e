//! Produce requests that came together, of one batch each and for the same partition, appended
//! together: a producer with several requests on the way then costs one write, not one for each.
//!
//! Whatever is not that simple (several partitions, acks=0, records to be opened, errors before
//! the log is asked) takes the usual way, after everything gathered before it was appended. Answers
//! stay in the order of the requests; that is the connection's business. When the disk's budget is
//! spent amid a run, the run still gets to its end; the request behind it waits.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use ottla_protocol::batch::RecordBatch;
use ottla_protocol::produce_view::ProduceView;

use super::super::hosted;
use super::super::wire::is_internal;
use super::{Produce, Records, reply, topic_key};
use crate::context::RequestContext;
use crate::metadata::TopicKey;
use crate::partition::Partition;
use crate::purgatory::{ConnectionSignal, LazyWait};
use crate::reply::{Answer, Reply};

/// Requests that are begun and not appended yet, and the answers of those that are.
#[derive(Default)]
pub struct Gather {
    run: Vec<Single>,
    done: Vec<Reply<Answer>>,
}

/// A request of one batch.
struct Single {
    produce: Produce,
    partition: Arc<Partition>,
    index: i32,
    batch: RecordBatch,
    timeout_ms: i32,
    now: Instant,
}

impl Gather {
    /// Takes a request, or gives its body back because it must be handled in the usual way.
    pub fn take(&mut self, ctx: &RequestContext<'_>, body: BytesMut) -> Result<(), BytesMut> {
        let Some((view, key, partition)) = simple(ctx, &body) else {
            return Err(body);
        };
        let [asked] = view.all_partitions() else {
            return Err(body);
        };
        let mut produce = Produce::new(ctx, &view);
        produce.topics.push((key, 1));
        let (index, timeout_ms, now) = (asked.index, view.timeout_ms, ctx.now);
        match (Records { body, consumed: 0 }).take(asked, view.acks) {
            Ok(batch) => self.push(
                Single {
                    produce,
                    partition,
                    index,
                    batch,
                    timeout_ms,
                    now,
                },
                ctx.signal,
            ),
            Err(refused) => {
                self.append(ctx.signal);
                let outcome = produce.refused(&partition, index, &refused);
                produce.partitions.push(outcome);
                self.done.push(Reply::Now(produce.write()));
            }
        }
        Ok(())
    }

    fn push(&mut self, single: Single, signal: &Arc<ConnectionSignal>) {
        if self.run.last().is_some_and(|last| !last.goes_with(&single)) {
            self.append(signal);
        }
        self.run.push(single);
    }

    /// Appends what was taken.
    pub fn append(&mut self, signal: &Arc<ConnectionSignal>) {
        let run = std::mem::take(&mut self.run);
        let Some(first) = run.first() else { return };
        let (partition, version) = (Arc::clone(&first.partition), first.produce.version);
        let times = (first.now, first.produce.broker.logs().clock.wall_ms());
        let mut waits: Vec<_> = run.iter().map(|_| LazyWait::new(signal)).collect();
        let (requests, batches): (Vec<_>, Vec<_>) = run.into_iter().map(Single::split).unzip();
        let appended = partition.append_run(batches, version, times, &mut waits);
        for ((request, appended), mut wait) in requests.into_iter().zip(appended).zip(waits) {
            let (mut produce, index, timeout_ms) = request;
            let outcome = produce.appended(&partition, index, appended, &mut wait);
            produce.partitions.push(outcome);
            self.done.push(reply(produce, wait, times.0, timeout_ms));
        }
    }

    /// The answers of what was appended since the last call, in the order of the requests.
    pub fn take_done(&mut self) -> Vec<Reply<Answer>> {
        std::mem::take(&mut self.done)
    }

    pub fn is_empty(&self) -> bool {
        self.run.is_empty() && self.done.is_empty()
    }
}

/// What a request asks for, if it is about one partition that would take its batch as it is.
fn simple(
    ctx: &RequestContext<'_>,
    body: &BytesMut,
) -> Option<(ProduceView, TopicKey, Arc<Partition>)> {
    let view = ProduceView::parse(body, ctx.version).ok()?;
    let ([topic], [asked]) = (view.topics(), view.all_partitions()) else {
        return None;
    };
    if !matches!(view.acks, -1 | 1) {
        return None;
    }
    let logs = ctx.broker.logs();
    let key = topic_key(ctx, topic.topic_id, topic.name(body));
    let hosted = hosted::topic(&logs, &key)?;
    if is_internal(&hosted.name) {
        return None;
    }
    let partition = hosted::partition(&logs, &key, Some(&hosted), asked.index).ok()?;
    partition
        .record_work()
        .is_none()
        .then_some((view, key, partition))
}

impl Single {
    /// Whether both can be appended in one run.
    fn goes_with(&self, next: &Single) -> bool {
        Arc::ptr_eq(&self.partition, &next.partition)
            && self.produce.version == next.produce.version
    }

    fn split(self) -> ((Produce, i32, i32), RecordBatch) {
        ((self.produce, self.index, self.timeout_ms), self.batch)
    }
}
