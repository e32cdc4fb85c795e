//! DescribeGroups: members, their subscriptions and assignments, by group.

use ottla_coordinator::command::{DescribedGroup as Described, Refusal};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use ottla_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::groups::{ALL_GROUP_OPERATIONS, group_id};
use super::wire::{OPERATIONS_NOT_ASKED, text};
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::coordinators::{Ends, when_committed};
use crate::reply::Reply;

/// From here an unknown group is an error; before it is one in state Dead.
const NOT_FOUND_FROM: i16 = 6;

pub fn handle(
    groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: DescribeGroupsRequest,
) -> Reply<DescribeGroupsResponse> {
    let operations = match request.include_authorized_operations {
        true => ALL_GROUP_OPERATIONS,
        false => OPERATIONS_NOT_ASKED,
    };
    let mut ends: Ends = Vec::new();
    let described = request.groups.iter().map(|id| {
        let shard = match groups.coordinators.of(&id.0) {
            Ok(shard) => shard,
            Err(error) => return failed(&id.0, error),
        };
        let read = groups
            .coordinators
            .read(&shard, |machine| machine.describe(&id.0));
        ends.push((shard, read.end));
        match read.result {
            Ok(described) => group(&id.0, described).with_authorized_operations(operations),
            Err(refusal) => {
                unknown(ctx.version, &id.0, refusal).with_authorized_operations(operations)
            }
        }
    });
    let response = DescribeGroupsResponse::default().with_groups(described.collect());
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
}

fn unknown(version: i16, id: &str, refusal: Refusal) -> DescribedGroup {
    let dead = DescribedGroup::default()
        .with_group_id(group_id(id))
        .with_group_state(text("Dead"));
    if version < NOT_FOUND_FROM {
        return dead;
    }
    dead.with_error_code(refusal.error.0)
        .with_error_message(Some(text(refusal.message)))
}

fn group(id: &str, described: Described) -> DescribedGroup {
    let members = described.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_client_id(text(member.client.id))
            .with_client_host(text(member.client.host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    DescribedGroup::default()
        .with_group_id(group_id(id))
        .with_group_state(text(described.state))
        .with_protocol_type(text(described.protocol_type))
        .with_protocol_data(text(described.protocol))
        .with_members(members.collect())
}
