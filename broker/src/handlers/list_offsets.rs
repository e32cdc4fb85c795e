//! ListOffsets: the offset of a point in time, or of one of Kafka's special timestamps.
//!
//! A search by time may have to wait for the disk, so a request with one is answered by a thread
//! that may wait, without any partition's lock (`crate::cold_reads`).

use std::sync::{Arc, Weak};
use std::time::Instant;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use ottla_protocol::types::LeaderEpoch;
use ottla_storage::log::ByTime;
use parking_lot::Mutex;

use super::hosted;
use crate::broker::{Broker, Logs};
use crate::context::RequestContext;
use crate::errors::ToErrorCode;
use crate::metadata::TopicKey;
use crate::partition::{Isolation, Partition, PartitionError};
use crate::purgatory::Waiter;
use crate::reply::{Parked, Reply};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
/// The first version that tells the leader epoch.
const LEADER_EPOCH_FROM: i16 = 4;
/// The first version that may ask for each of them.
const MAX_TIMESTAMP_FROM: i16 = 7;
const EARLIEST_LOCAL_FROM: i16 = 8;
const LATEST_TIERED_FROM: i16 = 9;
const EARLIEST_PENDING_UPLOAD_FROM: i16 = 11;
/// Before, an offset that is not known yet was "no leader".
const OFFSET_NOT_AVAILABLE_FROM: i16 = 5;

pub fn handle(
    logs: Logs<'_>,
    ctx: &RequestContext<'_>,
    request: ListOffsetsRequest,
) -> Reply<ListOffsetsResponse> {
    if !logs.cold_reads.is_served() || !asks_by_time(&request) {
        return Reply::Now(answer(&logs, ctx.version, request));
    }
    let search = Arc::new(Search {
        waiter: Waiter::new(ctx.signal),
        answer: Mutex::new(None),
    });
    let wanted = Arc::downgrade(&search);
    let (broker, version) = (Arc::clone(ctx.broker), ctx.version);
    let began = broker.clock.now();
    logs.cold_reads.push(line(&logs, &request), move || {
        carry_out(&wanted, &broker, version, request);
        let waited = broker.clock.now().saturating_duration_since(began);
        broker.metrics.cold_read(waited, 0);
    });
    Reply::Parked(Box::new(Await(search)))
}

fn asks_by_time(request: &ListOffsetsRequest) -> bool {
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    let mut timestamps = partitions.map(|asked| asked.timestamp);
    timestamps.any(|timestamp| timestamp >= 0 || timestamp == MAX_TIMESTAMP)
}

/// Whose disk it may wait for: that of one directory, or of several.
fn line(logs: &Logs<'_>, request: &ListOffsetsRequest) -> usize {
    let of_topic = |topic: &ListOffsetsTopic| logs.partitions.topic(&topic.name.0);
    let dirs = request.topics.iter().flat_map(|topic| {
        let hosted = of_topic(topic);
        let asked = topic.partitions.iter();
        asked.filter_map(move |asked| {
            Some(hosted.as_ref()?.partition(asked.partition_index)?.log_dir())
        })
    });
    let mut lines = dirs.map(|dir| logs.flush.line_of(&dir));
    let several = logs.flush.lines() - 1;
    let first = lines.next().unwrap_or(several);
    match lines.all(|line| line == first) {
        true => first,
        false => several,
    }
}

/// An answer that is being made by a thread that may wait for the disk.
struct Search {
    waiter: Arc<Waiter>,
    answer: Mutex<Option<ListOffsetsResponse>>,
}

fn carry_out(
    wanted: &Weak<Search>,
    broker: &Arc<Broker>,
    version: i16,
    request: ListOffsetsRequest,
) {
    let Some(search) = wanted.upgrade() else {
        return; // the connection went away
    };
    let mut tell = Tell {
        answer: Some(lost(&request)),
        search,
    };
    tell.answer = Some(answer(&broker.logs(), version, request));
}

/// What is answered if the search ends by a defect.
fn lost(request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let code = ErrorCode::UNKNOWN_SERVER_ERROR;
        let partitions = topic.partitions.iter().map(|asked| failed(asked, code));
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Tells the request when it is dropped: also when the work ended by a defect.
struct Tell {
    search: Arc<Search>,
    answer: Option<ListOffsetsResponse>,
}

impl Drop for Tell {
    fn drop(&mut self) {
        *self.search.answer.lock() = self.answer.take();
        self.search.waiter.fire();
    }
}

struct Await(Arc<Search>);

impl Parked<ListOffsetsResponse> for Await {
    fn waiter(&self) -> &Arc<Waiter> {
        &self.0.waiter
    }

    /// As long as a read takes.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn resume(&mut self, _now: Instant) -> Option<ListOffsetsResponse> {
        self.0.waiter.rearm();
        self.0.answer.lock().take()
    }
}

fn answer(logs: &Logs<'_>, version: i16, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = if request.isolation_level == 1 {
        Isolation::ReadCommitted
    } else {
        Isolation::ReadUncommitted
    };
    let topics = request
        .topics
        .into_iter()
        .map(|topic| answer_topic(logs, version, topic, isolation))
        .collect();
    ListOffsetsResponse::default().with_topics(topics)
}

fn answer_topic(
    logs: &Logs<'_>,
    version: i16,
    topic: ListOffsetsTopic,
    isolation: Isolation,
) -> ListOffsetsTopicResponse {
    let key = TopicKey::Name(topic.name.0.as_str().into());
    let hosted = hosted::topic(logs, &key);
    let mut named = Vec::with_capacity(topic.partitions.len());
    named.extend(topic.partitions.iter().map(|asked| asked.partition_index));
    named.sort_unstable();
    let twice = |index: i32| {
        let at = named.partition_point(|&other| other < index);
        named.get(at + 1) == Some(&index)
    };
    let answers = topic
        .partitions
        .iter()
        .map(|asked| {
            if twice(asked.partition_index) {
                return failed(asked, ErrorCode::INVALID_REQUEST);
            }
            let index = asked.partition_index;
            match hosted::partition(logs, &key, hosted.as_deref(), index) {
                Ok(partition) => look_up(&partition, version, asked, isolation)
                    .unwrap_or_else(|error| failed(asked, error.code(version))),
                Err((error, _)) => failed(asked, error),
            }
        })
        .collect();
    ListOffsetsTopicResponse::default()
        .with_name(topic.name)
        .with_partitions(answers)
}

#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Partition(#[from] PartitionError),
    #[error("this leadership has not committed its first offset yet")]
    NotAvailableYet,
    #[error("no such special timestamp in this version")]
    Timestamp,
}

impl Unknown {
    fn code(&self, version: i16) -> ErrorCode {
        match self {
            Unknown::Partition(error) => error.error_code(),
            Unknown::NotAvailableYet if version >= OFFSET_NOT_AVAILABLE_FROM => {
                ErrorCode::OFFSET_NOT_AVAILABLE
            }
            Unknown::NotAvailableYet => ErrorCode::LEADER_NOT_AVAILABLE,
            Unknown::Timestamp => ErrorCode::UNSUPPORTED_VERSION,
        }
    }
}

fn look_up(
    partition: &Partition,
    version: i16,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<ListOffsetsPartitionResponse, Unknown> {
    let marks = partition.marks_at(LeaderEpoch(asked.current_leader_epoch))?;
    let end_is_known = marks.high_watermark >= marks.epoch_start_offset;
    let (timestamp, offset, epoch) = match asked.timestamp {
        LATEST if !end_is_known => return Err(Unknown::NotAvailableYet),
        LATEST => (-1, marks.upper(isolation).0, marks.leader_epoch),
        EARLIEST => earliest(partition, marks.log_start_offset)?,
        EARLIEST_LOCAL if version >= EARLIEST_LOCAL_FROM => {
            earliest(partition, marks.log_start_offset)?
        }
        // Nothing is tiered here, so nothing waits for its upload either.
        LATEST_TIERED if version >= LATEST_TIERED_FROM => NOTHING,
        EARLIEST_PENDING_UPLOAD if version >= EARLIEST_PENDING_UPLOAD_FROM => NOTHING,
        timestamp if timestamp >= 0 || timestamp == MAX_TIMESTAMP => {
            let found = match timestamp {
                MAX_TIMESTAMP if version < MAX_TIMESTAMP_FROM => return Err(Unknown::Timestamp),
                MAX_TIMESTAMP => partition.find_by_time(ByTime::Youngest, isolation)?,
                timestamp => partition.find_by_time(ByTime::AtLeast(timestamp), isolation)?,
            };
            match found {
                Some(found) => (found.timestamp, found.offset.0, found.leader_epoch),
                None if !end_is_known => return Err(Unknown::NotAvailableYet),
                None => NOTHING,
            }
        }
        _ => return Err(Unknown::Timestamp),
    };
    let epoch = if version >= LEADER_EPOCH_FROM {
        epoch
    } else {
        LeaderEpoch::NONE
    };
    Ok(ListOffsetsPartitionResponse::default()
        .with_partition_index(asked.partition_index)
        .with_timestamp(timestamp)
        .with_offset(offset)
        .with_leader_epoch(epoch.0))
}

/// "There is none", which is not an error.
const NOTHING: (i64, i64, LeaderEpoch) = (-1, -1, LeaderEpoch::NONE);

fn earliest(
    partition: &Partition,
    log_start_offset: ottla_protocol::types::Offset,
) -> Result<(i64, i64, LeaderEpoch), Unknown> {
    Ok((
        -1,
        log_start_offset.0,
        partition.epoch_at(log_start_offset)?,
    ))
}

fn failed(asked: &ListOffsetsPartition, error: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_partition_index(asked.partition_index)
        .with_error_code(error.code())
        .with_timestamp(-1)
        .with_offset(-1)
        .with_leader_epoch(-1)
}
