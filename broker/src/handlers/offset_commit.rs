//! OffsetCommit: answered when the offsets are committed to the coordinator's log. Partitions that
//! do not exist are refused one by one. From version 10 topics are named by their ids.

use ottla_controller::MetadataImage;
use ottla_controller::image::TopicImage;
use ottla_coordinator::command::{CommitOffsets, CommittedOffset, TopicPartitionId};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};

use super::groups::{member, owned_text};
use super::wire::wire_name;
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::reply::Reply;

/// From here the generation may be the epoch of a consumer group's member.
const MEMBER_EPOCH_FROM: i16 = 9;
/// From here topics have ids and no names.
const TOPIC_IDS_FROM: i16 = 10;

pub fn handle(
    groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: OffsetCommitRequest,
) -> Reply<OffsetCommitResponse> {
    let image = groups.metadata.image();
    let mut results = Vec::new();
    let mut offsets = Vec::new();
    for topic in &request.topics {
        let known = named(&image, topic, ctx.version);
        for asked in &topic.partitions {
            let index = asked.partition_index;
            let topic = match known {
                Ok(topic) if topic.partition(index).is_some() => topic,
                Ok(_) => {
                    results.push(Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
                    continue;
                }
                Err(error) => {
                    results.push(Some(error));
                    continue;
                }
            };
            results.push(None);
            let partition = TopicPartitionId {
                topic: topic.name.to_string(),
                topic_id: topic.id,
                partition: index,
            };
            let metadata = asked.committed_metadata.as_ref();
            let committed = CommittedOffset {
                offset: Offset(asked.committed_offset),
                leader_epoch: LeaderEpoch(asked.committed_leader_epoch),
                metadata: metadata.map(owned_text).unwrap_or_default(),
            };
            offsets.push((partition, committed));
        }
    }
    let command = CommitOffsets {
        group: owned_text(&request.group_id.0),
        member: member(
            &request.member_id,
            request.group_instance_id.as_ref(),
            request.generation_id_or_member_epoch,
        ),
        knows_member_epochs: ctx.version >= MEMBER_EPOCH_FROM,
        retention_ms: (request.retention_time_ms >= 0).then_some(request.retention_time_ms),
        offsets,
    };
    match groups.coordinators.of(&request.group_id.0) {
        Ok(shard) => groups
            .coordinators
            .commit(ctx, &shard, command, move |committed| {
                response(&request, results, committed)
            }),
        Err(error) => Reply::Now(response(&request, results, Err(error))),
    }
}

/// The topic that the request means.
fn named<'a>(
    image: &'a MetadataImage,
    topic: &OffsetCommitRequestTopic,
    version: i16,
) -> Result<&'a TopicImage, ErrorCode> {
    let (found, otherwise) = match version {
        TOPIC_IDS_FROM.. => (
            image.topics.by_id(TopicId(topic.topic_id)),
            ErrorCode::UNKNOWN_TOPIC_ID,
        ),
        _ => (
            image.topics.by_name(&topic.name.0),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
    };
    found.map(|topic| &**topic).ok_or(otherwise)
}

/// The id of a topic that has this partition.
pub(super) fn existing(image: &MetadataImage, topic: &str, partition: i32) -> Option<TopicId> {
    let topic = image.topics.by_name(topic)?;
    let partition = usize::try_from(partition).ok()?;
    (partition < topic.partitions.len()).then_some(topic.id)
}

fn response(
    request: &OffsetCommitRequest,
    refused: Vec<Option<ErrorCode>>,
    committed: Result<Vec<ErrorCode>, ErrorCode>,
) -> OffsetCommitResponse {
    let mut committed = committed.map(Vec::into_iter);
    let mut refused = refused.into_iter();
    let mut result = || match refused.next().flatten() {
        Some(error) => error,
        None => match &mut committed {
            Ok(each) => each.next().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(all) => *all,
        },
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(result().0)
        });
        let partitions = partitions.collect();
        topics.push(
            OffsetCommitResponseTopic::default()
                .with_name(wire_name(&topic.name.0))
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions),
        );
    }
    OffsetCommitResponse::default().with_topics(topics)
}
