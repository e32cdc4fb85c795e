//! Fetch: translates the request, plans it with the client's session, and answers at once or parks
//! until enough bytes are readable (`fetch/long_poll.rs`) and what is only on the disk has been
//! found (`fetch/warming.rs`). Record data is never copied: an answer
//! is a list of pieces, slices of the shared tail and ranges of files.

mod answer;
mod long_poll;
mod pass;
mod warming;

use std::sync::Arc;

use bytes::BytesMut;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::fetch_view::{FetchRequest, FetchTopic};
use rand::Rng;

use crate::context::RequestContext;
use crate::fetch_session::Target;
use crate::metadata::TopicKey;
use crate::partition::Isolation;
use crate::reply::{Answer, CloseReason, Reply};
use answer::Writer;
use pass::Pass;

/// The first version in which topics are given by id.
const TOPIC_ID_FROM: i16 = 13;
/// The first version that may carry zstd.
const ZSTD_FROM: i16 = 10;
/// A client that asks to wait longer is answered after this long.
const MAX_WAIT_MS_MAX: i32 = 10 * 60 * 1000;

pub fn handle(ctx: &RequestContext<'_>, body: BytesMut) -> Reply<Answer> {
    let request = match FetchRequest::parse(&body, ctx.version) {
        Ok(request) => request,
        Err(error) => {
            tracing::debug!(version = ctx.version, peer = %ctx.peer, %error, "bad fetch request");
            return Reply::Close(CloseReason::BadRequest);
        }
    };
    let writer = Writer::new(ctx, request.isolation_level);
    if request.replica_id.0 >= 0 {
        // Only brokers read as replicas, and no listener of ours is for brokers.
        return Reply::Now(writer.refuse(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    }
    let (asked, forgotten) = translate(ctx, &request, &body);
    let logs = ctx.broker.logs();
    let random = || logs.rng.lock().random();
    let plan = logs
        .sessions
        .plan(&request, ctx.version, asked, &forgotten, ctx.now, random);
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return Reply::Now(writer.refuse(error)),
    };
    let max_bytes = limit(request.max_bytes).min(logs.config.fetch_max_bytes);
    let isolation = isolation(request.isolation_level);
    let refuse_zstd = ctx.version < ZSTD_FROM;
    let mut pass = Pass::new(plan, max_bytes, isolation, refuse_zstd);
    let cold = pass.read_unread(&logs);
    let min_bytes = u64::from(limit(request.min_bytes).min(max_bytes));
    let max_wait_ms = request.max_wait_ms.min(MAX_WAIT_MS_MAX);
    if cold.is_none() && (max_wait_ms <= 0 || pass.is_complete(min_bytes)) {
        return Reply::Now(writer.write(pass));
    }
    long_poll::park(ctx, (pass, cold), writer, min_bytes, max_wait_ms)
}

fn translate(
    ctx: &RequestContext<'_>,
    request: &FetchRequest,
    body: &[u8],
) -> (Vec<Target>, Vec<(TopicKey, i32)>) {
    let mut asked = Vec::new();
    for topic in request.topics() {
        let key = topic_key(ctx, topic, body);
        for partition in request.partitions(topic) {
            let max_bytes = limit(partition.partition_max_bytes);
            let mut target = Target::new(
                key.clone(),
                partition.partition,
                partition.fetch_offset,
                max_bytes,
            );
            target.current_leader_epoch = partition.current_leader_epoch;
            target.last_fetched_epoch = partition.last_fetched_epoch;
            asked.push(target);
        }
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten() {
        let key = topic_key(ctx, topic, body);
        let partitions = request.forgotten_partitions(topic);
        forgotten.extend(partitions.iter().map(|&partition| (key.clone(), partition)));
    }
    (asked, forgotten)
}

fn topic_key(ctx: &RequestContext<'_>, topic: &FetchTopic, body: &[u8]) -> TopicKey {
    if ctx.version >= TOPIC_ID_FROM {
        return TopicKey::Id(topic.topic_id);
    }
    let name = topic.name(body);
    match ctx.broker.partitions.topic(name) {
        Some(hosted) => TopicKey::Name(Arc::clone(&hosted.name)),
        None => TopicKey::Name(Arc::from(name)),
    }
}

/// Negative limits are none at all.
fn limit(bytes: i32) -> u32 {
    u32::try_from(bytes).unwrap_or(0)
}

fn isolation(level: i8) -> Isolation {
    if level == 1 {
        Isolation::ReadCommitted
    } else {
        Isolation::ReadUncommitted
    }
}
