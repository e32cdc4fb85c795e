//! OffsetForLeaderEpoch: where a leadership ended, so that a reader can tell whether its position
//! still belongs to the same history.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use ottla_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use ottla_protocol::types::LeaderEpoch;

use super::hosted;
use crate::broker::Logs;
use crate::context::RequestContext;
use crate::errors::ToErrorCode;
use crate::metadata::TopicKey;
use crate::reply::Reply;

pub fn handle(
    logs: Logs<'_>,
    _ctx: &RequestContext<'_>,
    request: OffsetForLeaderEpochRequest,
) -> Reply<OffsetForLeaderEpochResponse> {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| answer_topic(&logs, topic))
        .collect();
    Reply::Now(OffsetForLeaderEpochResponse::default().with_topics(topics))
}

fn answer_topic(logs: &Logs<'_>, topic: OffsetForLeaderTopic) -> OffsetForLeaderTopicResult {
    let key = TopicKey::Name(topic.topic.0.as_str().into());
    let hosted = hosted::topic(logs, &key);
    let partitions = topic
        .partitions
        .iter()
        .map(|asked| {
            let answer = EpochEndOffset::default().with_partition(asked.partition);
            let found = hosted::partition(logs, &key, hosted.as_deref(), asked.partition)
                .map_err(|(error, _)| error)
                .and_then(|partition| {
                    let current = LeaderEpoch(asked.current_leader_epoch);
                    let epoch = LeaderEpoch(asked.leader_epoch);
                    partition
                        .end_offset_for_epoch(current, epoch)
                        .map_err(|error| error.error_code())
                });
            match found {
                Ok(Some((epoch, end_offset))) => answer
                    .with_leader_epoch(epoch.0)
                    .with_end_offset(end_offset.0),
                Ok(None) => unknown(answer, ErrorCode::NONE),
                Err(error) => unknown(answer, error),
            }
        })
        .collect();
    OffsetForLeaderTopicResult::default()
        .with_topic(topic.topic)
        .with_partitions(partitions)
}

fn unknown(answer: EpochEndOffset, error: ErrorCode) -> EpochEndOffset {
    answer
        .with_error_code(error.code())
        .with_leader_epoch(-1)
        .with_end_offset(-1)
}
