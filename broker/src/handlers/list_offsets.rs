//! ListOffsets: the offset of a point in time, or of one of Kafka's special timestamps.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use ottla_protocol::types::LeaderEpoch;

use super::hosted;
use crate::broker::Logs;
use crate::context::RequestContext;
use crate::errors::ToErrorCode;
use crate::metadata::TopicKey;
use crate::partition::{Isolation, Partition, PartitionError};
use crate::reply::Reply;

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
    let isolation = if request.isolation_level == 1 {
        Isolation::ReadCommitted
    } else {
        Isolation::ReadUncommitted
    };
    let topics = request
        .topics
        .into_iter()
        .map(|topic| answer_topic(&logs, ctx, topic, isolation))
        .collect();
    Reply::Now(ListOffsetsResponse::default().with_topics(topics))
}

fn answer_topic(
    logs: &Logs<'_>,
    ctx: &RequestContext<'_>,
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
                Ok(partition) => look_up(&partition, ctx.version, asked, isolation)
                    .unwrap_or_else(|error| failed(asked, error.code(ctx.version))),
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
                MAX_TIMESTAMP => partition.max_timestamp(isolation)?,
                timestamp => partition.offset_for_timestamp(timestamp, isolation)?,
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
