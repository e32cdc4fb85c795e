//! DeleteGroups: empty groups and their offsets go, each with its own result.

use std::collections::BTreeSet;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::delete_groups_response::DeletableGroupResult;
use ottla_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::groups::{group_id, turn};
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::coordinators::{Ends, when_committed};
use crate::reply::Reply;

pub fn handle(
    _groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: DeleteGroupsRequest,
) -> Reply<DeleteGroupsResponse> {
    let mut ends: Ends = Vec::new();
    // A group that is named twice is deleted once.
    let names: BTreeSet<&str> = request
        .groups_names
        .iter()
        .map(|id| id.0.as_str())
        .collect();
    let results = names.into_iter().map(|group| {
        let deleted = turn(ctx, group, |machine, turn| {
            machine.delete_group(turn, group)
        });
        let error = match deleted {
            Ok((shard, turned)) => {
                ends.push((shard, turned.end));
                if turned.result == ErrorCode::NONE {
                    ctx.broker.metrics.groups.deleted(group);
                }
                turned.result
            }
            Err(error) => error,
        };
        result(group, error)
    });
    let response = DeleteGroupsResponse::default().with_results(results.collect());
    when_committed(ctx, ends, response, |mut response, error| {
        for result in &mut response.results {
            if result.error_code == ErrorCode::NONE.0 {
                result.error_code = error.0;
            }
        }
        response
    })
}

fn result(group: &str, error: ErrorCode) -> DeletableGroupResult {
    DeletableGroupResult::default()
        .with_group_id(group_id(group))
        .with_error_code(error.0)
}
