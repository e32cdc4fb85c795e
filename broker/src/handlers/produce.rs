//! Produce, the hot path: the frame is walked in place, each batch is checked (framing and CRC)
//! before any lock, appended under its partition's lock, and the answer waits as long as the acks
//! and the topic's durability class say.
//!
//! Batches are cut out of the frame without a copy (what is kept of small ones for readers is
//! copied where it is kept). Where a topic wants the records opened and that may take long, it is
//! done elsewhere (`produce/opening.rs`) before the batch is appended. Errors are per partition;
//! with acks=0 there is nobody to tell, so any error ends the connection.

pub mod gather;
mod opening;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use ottla_protocol::batch::{BatchError, RecordBatch};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::leader_hint::CurrentLeader;
use ottla_protocol::produce_view::{PRODUCE_KEY, ProducePartition, ProduceView};
use ottla_protocol::produce_writer::{ProducePartitionResponse, ProduceWriter};
use ottla_protocol::types::{Offset, TopicId};
use ottla_storage::log::AppendError;

use super::hosted;
use super::wire::is_internal;
use crate::broker::Broker;
use crate::config::ListenerName;
use crate::context::RequestContext;
use crate::errors::ToErrorCode;
use crate::flusher::Job;
use crate::metadata::TopicKey;
use crate::partition::map::HostedTopic;
use crate::partition::{Appended, Partition, PartitionError};
use crate::purgatory::LazyWait;
use crate::reply::{Answer, CloseReason, Reply};
use opening::{Opening, ParkedProduce};

/// The first version in which topics are given by id.
const TOPIC_ID_FROM: i16 = 13;

/// The one client id that may write to internal topics, as in Kafka.
const ADMIN_CLIENT: &str = "__admin_client";

pub fn handle(ctx: &RequestContext<'_>, body: BytesMut) -> Reply<Answer> {
    let view = match ProduceView::parse(&body, ctx.version) {
        Ok(view) => view,
        Err(error) => {
            tracing::debug!(version = ctx.version, peer = %ctx.peer, %error, "bad produce request");
            return Reply::Close(CloseReason::BadRequest);
        }
    };
    let mut waits = Waits {
        commits: LazyWait::new(ctx.signal),
        opens: LazyWait::new(ctx.signal),
    };
    let produce = append_all(ctx, &view, body, &mut waits);
    if let Some(opened) = waits.opens.finish() {
        let _ = waits.commits.finish();
        let parked = ParkedProduce::opening(produce, opened, view.timeout_ms);
        return Reply::Parked(Box::new(parked));
    }
    reply(produce, waits.commits, ctx.now, view.timeout_ms)
}

/// The answer to a request whose batches are all appended or refused.
fn reply(produce: Produce, commits: LazyWait<'_>, now: Instant, timeout_ms: i32) -> Reply<Answer> {
    match commits.finish() {
        None if produce.acks != 0 => Reply::Now(produce.write()),
        None if produce.failed() => Reply::Close(CloseReason::ProduceFailedWithoutAcks),
        None => Reply::NoReply,
        Some(wait) => {
            let parked = ParkedProduce::committing(produce, wait, now, timeout_ms);
            Reply::Parked(Box::new(parked))
        }
    }
}

/// What a request may come to wait for.
struct Waits<'a> {
    commits: LazyWait<'a>,
    /// Batches that are opened elsewhere.
    opens: LazyWait<'a>,
}

/// One request on its way: what its topics are and what happened to each partition so far.
struct Produce {
    broker: Arc<Broker>,
    listener: ListenerName,
    peer: SocketAddr,
    acks: i16,
    version: i16,
    correlation_id: i32,
    topics: Vec<(TopicKey, usize)>,
    partitions: Vec<Outcome>,
}

struct Outcome {
    index: i32,
    error: ErrorCode,
    base_offset: Offset,
    log_append_time_ms: i64,
    log_start_offset: Offset,
    message: Option<String>,
    record_errors: Vec<(i32, Option<String>)>,
    current_leader: Option<CurrentLeader>,
    /// Not committed yet: the partition and the high watermark that commits the batch.
    awaits: Option<(Arc<Partition>, Offset)>,
    /// Appended while the disk's budget is spent: the offset that is to be on the disk first.
    slowed: Option<(Arc<Partition>, Offset)>,
    /// Not appended yet: its records are being opened.
    opening: Option<Arc<Opening>>,
}

/// Why a partition's records were refused before its log saw them.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("acks must be -1, 0 or 1")]
    RequiredAcks,
    #[error("a partition of the request has no records")]
    NoRecords,
    #[error("the batch is not one whole batch of magic 2: {0}")]
    Batch(#[from] BatchError),
    #[error("the checksum of the batch does not match its bytes")]
    Checksum,
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

impl ToErrorCode for Refused {
    fn error_code(&self) -> ErrorCode {
        match self {
            Refused::RequiredAcks => ErrorCode::INVALID_REQUIRED_ACKS,
            Refused::NoRecords => ErrorCode::INVALID_RECORD,
            Refused::Batch(error) => error.error_code(),
            Refused::Checksum => ErrorCode::CORRUPT_MESSAGE,
            Refused::Partition(error) => error.error_code(),
        }
    }
}

fn append_all(
    ctx: &RequestContext<'_>,
    view: &ProduceView,
    body: BytesMut,
    waits: &mut Waits<'_>,
) -> Produce {
    let logs = ctx.broker.logs();
    let mut produce = Produce::new(ctx, view);
    // Names are read before the body is taken apart.
    let topics: Vec<(TopicKey, Option<Arc<HostedTopic>>)> = view
        .topics()
        .iter()
        .map(|topic| {
            let key = topic_key(ctx, topic.topic_id, topic.name(&body));
            let hosted = hosted::topic(&logs, &key);
            (key, hosted)
        })
        .collect();
    let mut records = Records { body, consumed: 0 };
    let now_ms = logs.clock.wall_ms();
    for (topic, (key, hosted)) in view.topics().iter().zip(topics) {
        let name = hosted.as_ref().map_or("", |hosted| &hosted.name);
        let refused = is_internal(name) && ctx.client_id != Some(ADMIN_CLIENT);
        for asked in view.partitions(topic) {
            if refused {
                let error = ErrorCode::INVALID_TOPIC_EXCEPTION;
                produce.partitions.push(Outcome::failed(asked.index, error));
                continue;
            }
            let outcome = match hosted::partition(&logs, &key, hosted.as_deref(), asked.index) {
                Ok(partition) => {
                    let batch = records.take(asked, view.acks);
                    produce.take(&partition, asked.index, batch, (ctx.now, now_ms), waits)
                }
                Err((error, leader)) => Outcome {
                    current_leader: leader,
                    ..Outcome::failed(asked.index, error)
                },
            };
            produce.partitions.push(outcome);
        }
        produce.topics.push((key, topic.partition_count()));
    }
    produce
}

fn topic_key(ctx: &RequestContext<'_>, id: TopicId, name: &str) -> TopicKey {
    if ctx.version >= TOPIC_ID_FROM {
        return TopicKey::Id(id);
    }
    // The interned name of a topic we host; a copy of anything else.
    match ctx.broker.partitions.topic(name) {
        Some(hosted) => TopicKey::Name(Arc::clone(&hosted.name)),
        None => TopicKey::Name(Arc::from(name)),
    }
}

/// Cuts the batches out of the body, front to back.
struct Records {
    body: BytesMut,
    consumed: usize,
}

impl Records {
    fn take(&mut self, asked: &ProducePartition, acks: i16) -> Result<RecordBatch, Refused> {
        if !matches!(acks, -1..=1) {
            return Err(Refused::RequiredAcks);
        }
        let range = asked
            .records()
            .filter(|range| !range.is_empty())
            .ok_or(Refused::NoRecords)?;
        self.body.advance(range.start - self.consumed);
        let bytes = self.body.split_to(range.len());
        self.consumed = range.end;
        let batch = RecordBatch::from_bytes(bytes)?;
        if !batch.view().crc_is_valid() {
            return Err(Refused::Checksum);
        }
        Ok(batch)
    }
}

impl Produce {
    fn new(ctx: &RequestContext<'_>, view: &ProduceView) -> Produce {
        Produce {
            broker: Arc::clone(ctx.broker),
            listener: ctx.listener.clone(),
            peer: ctx.peer,
            acks: view.acks,
            version: ctx.version,
            correlation_id: ctx.correlation_id,
            topics: Vec::with_capacity(view.topics().len()),
            partitions: Vec::with_capacity(view.all_partitions().len()),
        }
    }

    /// Appends one partition's batch, or has its records opened first.
    fn take(
        &self,
        partition: &Arc<Partition>,
        index: i32,
        batch: Result<RecordBatch, Refused>,
        times: (Instant, i64),
        waits: &mut Waits<'_>,
    ) -> Outcome {
        let batch = match batch {
            Ok(batch) => batch,
            Err(refused) => return self.refused(partition, index, &refused),
        };
        let Some(work) = partition.record_work() else {
            let wait = (self.acks != 0).then_some(&mut waits.commits);
            let appended = partition.append(batch, self.version, times, wait);
            return self.appended(partition, index, appended, &mut waits.commits);
        };
        if work.is_long(&batch) {
            let wait = waits.opens.add_one();
            let opening = Opening::begin(self, partition, (work, batch), times.1, wait);
            return Outcome {
                opening: Some(opening),
                ..Outcome::failed(index, ErrorCode::NONE)
            };
        }
        let opened = work.run(batch, self.version, times.1);
        self.append_opened(partition, index, opened, times, &mut waits.commits)
    }

    /// The second half: the records are opened.
    fn append_opened(
        &self,
        partition: &Arc<Partition>,
        index: i32,
        opened: Result<RecordBatch, AppendError>,
        times: (Instant, i64),
        wait: &mut LazyWait<'_>,
    ) -> Outcome {
        let commit = (self.acks != 0).then_some(&mut *wait);
        let appended = opened
            .map_err(PartitionError::from)
            .and_then(|batch| partition.append_opened(batch, self.version, times, commit));
        self.appended(partition, index, appended, wait)
    }

    fn appended(
        &self,
        partition: &Arc<Partition>,
        index: i32,
        appended: Result<Appended, PartitionError>,
        wait: &mut LazyWait<'_>,
    ) -> Outcome {
        match appended {
            Ok(appended) => self.accepted(partition, index, appended, wait),
            Err(error) => self.refused(partition, index, &error.into()),
        }
    }

    fn refused(&self, partition: &Arc<Partition>, index: i32, refused: &Refused) -> Outcome {
        tracing::debug!(?partition, peer = %self.peer, error = %refused, "refused a batch");
        partition.counters.produce_failed();
        self.broker
            .metrics
            .request_error(PRODUCE_KEY, refused.error_code().code());
        Outcome {
            record_errors: record_errors(refused),
            message: Some(refused.to_string()),
            ..Outcome::failed(index, refused.error_code())
        }
    }

    fn accepted(
        &self,
        partition: &Arc<Partition>,
        index: i32,
        appended: Appended,
        wait: &mut LazyWait<'_>,
    ) -> Outcome {
        let flush = &self.broker.flush;
        flush.arrange(partition, appended.flush);
        if let Some(write_back) = appended.write_back {
            flush.write_back(partition, write_back);
        }
        if appended.rolled {
            flush.push(Job::Checkpoint(Arc::clone(partition)));
        }
        let awaits = (self.acks != 0 && !appended.committed)
            .then(|| (Arc::clone(partition), appended.end_offset));
        let slowed = appended.slow && {
            self.broker.metrics.slowed();
            let wait = wait.add_one();
            let pending = partition.watch_flush(appended.end_offset, &wait);
            if !pending {
                wait.complete_one();
            }
            pending
        };
        Outcome {
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time_ms,
            log_start_offset: appended.log_start_offset,
            awaits,
            slowed: slowed.then(|| (Arc::clone(partition), appended.end_offset)),
            ..Outcome::failed(index, ErrorCode::NONE)
        }
    }

    fn failed(&self) -> bool {
        self.partitions.iter().any(|outcome| !outcome.error.is_ok())
    }
}

/// The records at fault, each with what is wrong with it (KIP-467).
fn record_errors(refused: &Refused) -> Vec<(i32, Option<String>)> {
    let Refused::Partition(PartitionError::Append(error)) = refused else {
        return Vec::new();
    };
    let row = |index: u32, message: String| Some((i32::try_from(index).ok()?, Some(message)));
    match error {
        AppendError::BadRecords(bad) => bad
            .listed
            .iter()
            .filter_map(|bad| row(bad.index, bad.rule.to_string()))
            .collect(),
        AppendError::InvalidRecord(invalid) => invalid
            .record_index()
            .and_then(|index| row(index, invalid.to_string()))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

impl Outcome {
    fn failed(index: i32, error: ErrorCode) -> Outcome {
        Outcome {
            index,
            error,
            base_offset: Offset(-1),
            log_append_time_ms: -1,
            log_start_offset: Offset(-1),
            message: None,
            record_errors: Vec::new(),
            current_leader: None,
            awaits: None,
            slowed: None,
            opening: None,
        }
    }

    /// The batch was appended but its commit did not come: the client must not count on it.
    fn not_committed(&mut self, error: ErrorCode) {
        *self = Outcome::failed(self.index, error);
    }
}

impl Produce {
    fn write(&self) -> Answer {
        let mut writer = ProduceWriter::new(self.correlation_id, self.version, self.topics.len());
        let mut partitions = self.partitions.iter();
        for (key, count) in &self.topics {
            writer.topic(key.name(), key.id(), *count);
            for outcome in partitions.by_ref().take(*count) {
                outcome.write(&mut writer);
            }
        }
        let mut leaders = self
            .partitions
            .iter()
            .filter_map(|outcome| outcome.current_leader)
            .peekable();
        if leaders.peek().is_none() {
            return Answer::Bytes(writer.finish(0, &[]));
        }
        let image = self.broker.metadata.image();
        let endpoints = hosted::endpoints(&image, &self.listener, leaders);
        Answer::Bytes(writer.finish(0, &endpoints))
    }
}

impl Outcome {
    fn write(&self, writer: &mut ProduceWriter) {
        let record_errors: Vec<(i32, Option<&str>)> = self
            .record_errors
            .iter()
            .map(|(index, message)| (*index, message.as_deref()))
            .collect();
        writer.partition(&ProducePartitionResponse {
            index: self.index,
            error: self.error,
            base_offset: self.base_offset,
            log_append_time_ms: self.log_append_time_ms,
            log_start_offset: self.log_start_offset,
            record_errors: &record_errors,
            error_message: self.message.as_deref(),
            current_leader: self.current_leader,
        });
    }
}
