//! ConsumerGroupHeartbeat: a member of a consumer group (KIP-848) joins, lives, tells what it gave
//! up, and leaves. The rules are the machine's; an answer is told when what it says is committed.

use ottla_coordinator::command::{ConsumerHeartbeat, ConsumerHeartbeatReply, TopicPartitions};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::consumer_group_heartbeat_response::{
    Assignment, TopicPartitions as AssignedPartitions,
};
use ottla_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use ottla_protocol::types::TopicId;

use super::groups::{client, optional_text, owned_text, serves_consumer_groups, turn};
use super::wire::text;
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::coordinators::when_committed;
use crate::reply::Reply;

/// From here clients make their member ids themselves.
const OWN_MEMBER_ID_FROM: i16 = 1;

pub fn handle(
    groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: ConsumerGroupHeartbeatRequest,
) -> Reply<ConsumerGroupHeartbeatResponse> {
    if !serves_consumer_groups(&groups) {
        return Reply::Now(failed(ErrorCode::UNSUPPORTED_VERSION));
    }
    let command = command(ctx, &request);
    let heard = turn(ctx, &request.group_id.0, |machine, turn| {
        machine.consumer_heartbeat(turn, command)
    });
    match heard {
        Ok((shard, turned)) => {
            let response = response(turned.result);
            let ends = vec![(shard, turned.end)];
            when_committed(ctx, ends, response, |_, error| failed(error))
        }
        Err(error) => Reply::Now(failed(error)),
    }
}

fn command(ctx: &RequestContext<'_>, request: &ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeat {
    let names = request.subscribed_topic_names.as_ref();
    let owned = request.topic_partitions.as_ref().map(|owned| {
        let owned = owned.iter().map(|topic| TopicPartitions {
            topic_id: TopicId(topic.topic_id),
            partitions: topic.partitions.clone(),
        });
        owned.collect()
    });
    ConsumerHeartbeat {
        group: owned_text(&request.group_id.0),
        member_id: owned_text(&request.member_id),
        member_epoch: request.member_epoch,
        instance_id: optional_text(request.instance_id.as_ref()),
        rack_id: optional_text(request.rack_id.as_ref()),
        client: client(ctx),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        subscribed_topic_names: names
            .map(|names| names.iter().map(|name| owned_text(&name.0)).collect()),
        subscribed_topic_regex: optional_text(request.subscribed_topic_regex.as_ref()),
        server_assignor: optional_text(request.server_assignor.as_ref()),
        owned,
        makes_own_id: ctx.version >= OWN_MEMBER_ID_FROM,
    }
}

fn response(reply: ConsumerHeartbeatReply) -> ConsumerGroupHeartbeatResponse {
    let assignment = reply.assignment.map(|assigned| {
        let topics = assigned.into_iter().map(|topic| {
            AssignedPartitions::default()
                .with_topic_id(topic.topic_id.0)
                .with_partitions(topic.partitions)
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(reply.error.0)
        .with_error_message(reply.message.map(text))
        .with_member_id(reply.member_id.map(text))
        .with_member_epoch(reply.member_epoch)
        .with_heartbeat_interval_ms(reply.heartbeat_interval_ms)
        .with_assignment(assignment)
}

fn failed(error: ErrorCode) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(error.0)
        .with_error_message(None)
        .with_member_id(None)
        .with_assignment(None)
}
