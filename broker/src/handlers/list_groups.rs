//! ListGroups: the groups of all coordinators of this broker, with their states and types.

use ottla_coordinator::command::ListFilter;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::list_groups_response::ListedGroup;
use ottla_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use super::groups::{group_id, owned_text};
use super::wire::text;
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::reply::Reply;

pub fn handle(
    groups: Groups<'_>,
    _ctx: &RequestContext<'_>,
    request: ListGroupsRequest,
) -> Reply<ListGroupsResponse> {
    let filter = ListFilter {
        states: request.states_filter.iter().map(owned_text).collect(),
        types: request.types_filter.iter().map(owned_text).collect(),
    };
    let mut listed = Vec::new();
    let mut error = match groups.coordinators.are_loading() {
        true => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        false => ErrorCode::NONE,
    };
    for shard in groups.coordinators.all() {
        if !shard.answers() {
            // As Kafka, when it cannot tell all groups: what it can, and an error.
            error = ErrorCode::COORDINATOR_NOT_AVAILABLE;
            continue;
        }
        let read = groups
            .coordinators
            .read(&shard, |machine| machine.list(&filter));
        listed.extend(read.result);
    }
    listed.sort_by(|a, b| a.group.cmp(&b.group));
    let listed = listed.into_iter().map(|group| {
        ListedGroup::default()
            .with_group_id(group_id(&group.group))
            .with_protocol_type(text(group.protocol_type))
            .with_group_state(text(group.state))
            .with_group_type(text(group.group_type))
    });
    Reply::Now(
        ListGroupsResponse::default()
            .with_error_code(error.code())
            .with_groups(listed.collect()),
    )
}
