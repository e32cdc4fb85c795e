//! ConsumerGroupDescribe: consumer groups (KIP-848) with their members, what these have and what
//! they will have.

use ottla_coordinator::command::{
    AssignedTopic, DescribedConsumerGroup, DescribedConsumerMember, Refusal,
};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use ottla_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use super::groups::{ALL_GROUP_OPERATIONS, group_id, serves_consumer_groups};
use super::wire::{OPERATIONS_NOT_ASKED, text, wire_name};
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::coordinators::{Ends, when_committed};
use crate::reply::Reply;

/// Which protocol a member speaks.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

pub fn handle(
    groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: ConsumerGroupDescribeRequest,
) -> Reply<ConsumerGroupDescribeResponse> {
    let answer = |groups| ConsumerGroupDescribeResponse::default().with_groups(groups);
    if !serves_consumer_groups(&groups) {
        let refused = |id| failed(id, ErrorCode::UNSUPPORTED_VERSION);
        let ids = request.group_ids.iter();
        return Reply::Now(answer(ids.map(|id| refused(&id.0)).collect()));
    }
    let operations = match request.include_authorized_operations {
        true => ALL_GROUP_OPERATIONS,
        false => OPERATIONS_NOT_ASKED,
    };
    let mut ends: Ends = Vec::new();
    let described = request.group_ids.iter().map(|id| {
        let shard = match groups.coordinators.of(&id.0) {
            _ if id.0.is_empty() => return failed(&id.0, ErrorCode::INVALID_GROUP_ID),
            Ok(shard) => shard,
            Err(error) => return failed(&id.0, error),
        };
        let read = groups
            .coordinators
            .describe_consumer(ctx.broker, &shard, &id.0);
        ends.push((shard, read.end));
        match read.result {
            Ok(described) => group(&id.0, described).with_authorized_operations(operations),
            Err(refusal) => refused(&id.0, refusal),
        }
    });
    let response = answer(described.collect());
    when_committed(ctx, ends, response, |mut response, error| {
        for group in &mut response.groups {
            *group = failed(&group.group_id.0.clone(), error);
        }
        response
    })
}

fn failed(id: &str, error: ErrorCode) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(group_id(id))
        .with_error_code(error.0)
        .with_error_message(None)
}

fn refused(id: &str, refusal: Refusal) -> DescribedGroup {
    failed(id, refusal.error).with_error_message(Some(text(refusal.message)))
}

fn group(id: &str, described: DescribedConsumerGroup) -> DescribedGroup {
    DescribedGroup::default()
        .with_error_message(None)
        .with_group_id(group_id(id))
        .with_group_state(text(described.state))
        .with_group_epoch(described.group_epoch)
        .with_assignment_epoch(described.assignment_epoch)
        .with_assignor_name(text(described.assignor))
        .with_members(described.members.into_iter().map(member).collect())
}

fn member(member: DescribedConsumerMember) -> Member {
    let names = member.subscribed_topic_names.iter();
    Member::default()
        .with_member_id(text(member.member_id))
        .with_instance_id(member.instance_id.map(text))
        .with_rack_id(member.rack_id.map(text))
        .with_member_epoch(member.member_epoch)
        .with_client_id(text(member.client.id))
        .with_client_host(text(member.client.host))
        .with_subscribed_topic_names(names.map(|name| wire_name(name)).collect())
        // Kafka tells an empty one when there is none.
        .with_subscribed_topic_regex(Some(text(
            member.subscribed_topic_regex.unwrap_or_default(),
        )))
        .with_assignment(assignment(member.assignment))
        .with_target_assignment(assignment(member.target))
        .with_member_type(if member.is_classic { CLASSIC } else { CONSUMER })
}

fn assignment(topics: Vec<AssignedTopic>) -> Assignment {
    let topics = topics.into_iter().map(|topic| {
        TopicPartitions::default()
            .with_topic_id(topic.topic_id.0)
            .with_topic_name(wire_name(&topic.topic))
            .with_partitions(topic.partitions)
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
