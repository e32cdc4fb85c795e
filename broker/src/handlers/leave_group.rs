//! LeaveGroup: one member, or from version 3 several, each with its own result.

use ottla_coordinator::command::{LeaveGroup, LeavingMember, LeftMember};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::leave_group_response::MemberResponse;
use ottla_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::groups::{optional_text, owned_text, turn};
use super::wire::text;
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::coordinators::when_committed;
use crate::reply::Reply;

/// From here several members may leave at once.
const MEMBERS_FROM: i16 = 3;

pub fn handle(
    _groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: LeaveGroupRequest,
) -> Reply<LeaveGroupResponse> {
    let version = ctx.version;
    let command = LeaveGroup {
        group: owned_text(&request.group_id.0),
        members: leaving(version, &request),
    };
    let left = turn(ctx, &request.group_id.0, |machine, turn| {
        machine.leave(turn, command)
    });
    match left {
        Ok((shard, turned)) => {
            let response = response(version, turned.result);
            when_committed(ctx, vec![(shard, turned.end)], response, |_, error| {
                failed(error)
            })
        }
        Err(error) => Reply::Now(failed(error)),
    }
}

fn leaving(version: i16, request: &LeaveGroupRequest) -> Vec<LeavingMember> {
    if version < MEMBERS_FROM {
        return vec![LeavingMember {
            member_id: owned_text(&request.member_id),
            ..LeavingMember::default()
        }];
    }
    let members = request.members.iter().map(|member| LeavingMember {
        member_id: owned_text(&member.member_id),
        instance_id: optional_text(member.group_instance_id.as_ref()),
        reason: optional_text(member.reason.as_ref()).filter(|reason| !reason.is_empty()),
    });
    members.collect()
}

fn response(version: i16, left: Result<Vec<LeftMember>, ErrorCode>) -> LeaveGroupResponse {
    let left = match left {
        Ok(left) => left,
        Err(error) => return failed(error),
    };
    if version < MEMBERS_FROM {
        let error = left.first().map_or(ErrorCode::NONE, |member| member.error);
        return failed(error);
    }
    let members = left.into_iter().map(|member| {
        MemberResponse::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_error_code(member.error.0)
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

fn failed(error: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse::default().with_error_code(error.0)
}
