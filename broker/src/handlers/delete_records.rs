//! DeleteRecords: raises where logs begin. The records below are not read any more, and their
//! segments go when all of a segment is below; the answer leaves once that would survive a crash.

use std::sync::Arc;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::delete_records_request::DeleteRecordsTopic;
use ottla_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use ottla_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use ottla_protocol::types::Offset;

use super::hosted;
use super::wire::is_internal;
use crate::broker::Logs;
use crate::context::RequestContext;
use crate::errors::ToErrorCode;
use crate::log_dirs::LogDir;
use crate::log_starts::NotWritten;
use crate::metadata::TopicKey;
use crate::partition::map::HostedTopic;
use crate::reply::Reply;

/// Stands for the high watermark in a request.
const HIGH_WATERMARK: i64 = -1;
/// In an answer: nothing was deleted.
const NO_LOW_WATERMARK: i64 = -1;

pub fn handle(
    logs: Logs<'_>,
    ctx: &RequestContext<'_>,
    request: DeleteRecordsRequest,
) -> Reply<DeleteRecordsResponse> {
    let timeout_ms = request.timeout_ms;
    // Where something was deleted.
    let mut dirs: Vec<Arc<LogDir>> = Vec::new();
    let topics: Vec<_> = request
        .topics
        .into_iter()
        .map(|topic| delete_in(&logs, topic, &mut dirs))
        .collect();
    let response = DeleteRecordsResponse::default().with_topics(topics);
    if dirs.is_empty() {
        return Reply::Now(response);
    }
    logs.log_starts
        .when_written(ctx, (dirs, timeout_ms), response, not_deleted)
}

fn delete_in(
    logs: &Logs<'_>,
    topic: DeleteRecordsTopic,
    dirs: &mut Vec<Arc<LogDir>>,
) -> DeleteRecordsTopicResult {
    let key = TopicKey::Name(topic.name.0.as_str().into());
    let hosted = hosted::topic(logs, &key);
    let results = topic.partitions.iter().map(|asked| {
        let (index, before) = (asked.partition_index, asked.offset);
        let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
        match delete_before(logs, &key, hosted.as_deref(), index, before) {
            Ok((low_watermark, dir)) => {
                if !dirs.iter().any(|known| Arc::ptr_eq(known, &dir)) {
                    dirs.push(dir);
                }
                result.with_low_watermark(low_watermark.0)
            }
            Err(error) => result
                .with_low_watermark(NO_LOW_WATERMARK)
                .with_error_code(error.0),
        }
    });
    let results = results.collect();
    DeleteRecordsTopicResult::default()
        .with_name(topic.name)
        .with_partitions(results)
}

/// Where the log begins now, and the directory it is in.
fn delete_before(
    logs: &Logs<'_>,
    key: &TopicKey,
    hosted: Option<&HostedTopic>,
    index: i32,
    before: i64,
) -> Result<(Offset, Arc<LogDir>), ErrorCode> {
    if matches!(key, TopicKey::Name(name) if is_internal(name)) {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let partition = hosted::partition(logs, key, hosted, index).map_err(|(error, _)| error)?;
    if !partition.config().cleanup_policy.delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let before = (before != HIGH_WATERMARK).then_some(Offset(before));
    let deleted = partition.delete_records(before);
    let log_start = deleted.map_err(|error| error.error_code())?;
    Ok((log_start, partition.log_dir()))
}

/// What was deleted may be back after a crash: nobody is told that it is gone.
fn not_deleted(mut response: DeleteRecordsResponse, reason: NotWritten) -> DeleteRecordsResponse {
    let error = match reason {
        NotWritten::Failed => ErrorCode::KAFKA_STORAGE_ERROR,
        NotWritten::TimedOut(error) => error.error_code(),
    };
    let results = response.topics.iter_mut();
    for result in results.flat_map(|topic| &mut topic.partitions) {
        if result.error_code == 0 {
            result.error_code = error.0;
            result.low_watermark = NO_LOW_WATERMARK;
        }
    }
    response
}

#[cfg(test)]
mod tests;
