//! OffsetDelete: offsets of topics that the group no longer reads.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use ottla_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::groups::{owned_text, turn};
use super::offset_commit::existing;
use super::wire::wire_name;
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::coordinators::when_committed;
use crate::reply::Reply;

pub fn handle(
    groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: OffsetDeleteRequest,
) -> Reply<OffsetDeleteResponse> {
    let image = groups.metadata.image();
    let mut known = Vec::new();
    let mut refused = Vec::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            let exists = existing(&image, &topic.name.0, asked.partition_index).is_some();
            refused.push((!exists).then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
            if exists {
                known.push((owned_text(&topic.name.0), asked.partition_index));
            }
        }
    }
    let group = request.group_id.0.as_str();
    let deleted = turn(ctx, group, |machine, turn| {
        machine.delete_offsets(turn, group, &known)
    });
    match deleted {
        Ok((shard, turned)) => match turned.result {
            Ok(results) => {
                let response = response(&request, refused, results);
                when_committed(ctx, vec![(shard, turned.end)], response, |_, error| {
                    failed(error)
                })
            }
            Err(error) => Reply::Now(failed(error)),
        },
        Err(error) => Reply::Now(failed(error)),
    }
}

fn failed(error: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse::default().with_error_code(error.0)
}

fn response(
    request: &OffsetDeleteRequest,
    refused: Vec<Option<ErrorCode>>,
    results: Vec<ErrorCode>,
) -> OffsetDeleteResponse {
    let (mut refused, mut results) = (refused.into_iter(), results.into_iter());
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let result = refused.next().flatten().or_else(|| results.next());
            let error = result.unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR);
            partitions.push(
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(error.0),
            );
        }
        topics.push(
            OffsetDeleteResponseTopic::default()
                .with_name(wire_name(&topic.name.0))
                .with_partitions(partitions),
        );
    }
    OffsetDeleteResponse::default().with_topics(topics)
}
