//! JoinGroup: waits until everybody has joined. The rules are the machine's.

use ottla_coordinator::Answer;
use ottla_coordinator::command::{JoinGroup, JoinReply};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::join_group_response::JoinGroupResponseMember;
use ottla_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::groups::{client, optional_text, owned_text};
use super::wire::text;
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::coordinators::{Slot, await_answer};
use crate::reply::Reply;

/// From here the session timeout and the rebalance timeout are two.
const REBALANCE_TIMEOUT_FROM: i16 = 1;
/// From here a new member is told its id before it joins.
const KNOWN_MEMBER_ID_FROM: i16 = 4;
/// From here "no protocol" is null; before it is empty.
const NULL_PROTOCOL_FROM: i16 = 7;
const SKIP_ASSIGNMENT_FROM: i16 = 9;

pub fn handle(
    groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: JoinGroupRequest,
) -> Reply<JoinGroupResponse> {
    let version = ctx.version;
    let member_id = owned_text(&request.member_id);
    let shard = match groups.coordinators.of(&request.group_id.0) {
        Ok(shard) => shard,
        Err(error) => return Reply::Now(response(version, JoinReply::error(error, member_id))),
    };
    let slot = Slot::new(ctx.signal);
    let command = command(ctx, &request);
    groups.coordinators.turn_for(
        ctx.broker,
        &shard,
        ctx.now,
        &slot,
        |machine, turn, token| {
            machine.join(turn, token, command);
        },
    );
    await_answer(&shard, slot, move |answer| {
        let reply = match answer {
            Ok(Answer::Join(reply)) => reply,
            Ok(Answer::Sync(_)) => JoinReply::error(ErrorCode::UNKNOWN_SERVER_ERROR, member_id),
            Err(error) => JoinReply::error(error, member_id),
        };
        response(version, reply)
    })
}

fn command(ctx: &RequestContext<'_>, request: &JoinGroupRequest) -> JoinGroup {
    let protocols = request.protocols.iter().map(|protocol| {
        // What is kept must not pin the request's frame.
        let metadata = bytes::Bytes::copy_from_slice(&protocol.metadata);
        (owned_text(&protocol.name), metadata)
    });
    let instance_id = optional_text(request.group_instance_id.as_ref());
    JoinGroup {
        group: owned_text(&request.group_id.0),
        member_id: owned_text(&request.member_id),
        requires_known_member_id: ctx.version >= KNOWN_MEMBER_ID_FROM && instance_id.is_none(),
        instance_id,
        client: client(ctx),
        protocol_type: owned_text(&request.protocol_type),
        protocols: protocols.collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match ctx.version {
            REBALANCE_TIMEOUT_FROM.. => request.rebalance_timeout_ms,
            _ => request.session_timeout_ms,
        },
        supports_skipping_assignment: ctx.version >= SKIP_ASSIGNMENT_FROM,
        reason: optional_text(request.reason.as_ref()).filter(|reason| !reason.is_empty()),
    }
}

fn response(version: i16, reply: JoinReply) -> JoinGroupResponse {
    let members = reply.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_metadata(member.metadata)
    });
    let protocol = match version {
        NULL_PROTOCOL_FROM.. => reply.protocol_name,
        _ => Some(reply.protocol_name.unwrap_or_default()),
    };
    JoinGroupResponse::default()
        .with_error_code(reply.error.0)
        .with_generation_id(reply.generation)
        .with_protocol_type(reply.protocol_type.map(text))
        .with_protocol_name(protocol.map(text))
        .with_leader(text(reply.leader))
        .with_skip_assignment(reply.skip_assignment)
        .with_member_id(text(reply.member_id))
        .with_members(members.collect())
}
