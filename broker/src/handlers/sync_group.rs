//! SyncGroup: the leader hands in the assignment, everybody waits for theirs.

use ottla_coordinator::Answer;
use ottla_coordinator::command::{SyncGroup, SyncReply};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::groups::{member, optional_text, owned_text};
use super::wire::text;
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::coordinators::{Slot, await_answer};
use crate::reply::Reply;

/// From here the member names the protocol it believes in, and must.
const PROTOCOL_FROM: i16 = 5;

pub fn handle(
    groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: SyncGroupRequest,
) -> Reply<SyncGroupResponse> {
    let unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
    if ctx.version >= PROTOCOL_FROM && unnamed {
        let reply = SyncReply::error(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        return Reply::Now(response(reply));
    }
    let shard = match groups.coordinators.of(&request.group_id.0) {
        Ok(shard) => shard,
        Err(error) => return Reply::Now(response(SyncReply::error(error))),
    };
    let slot = Slot::new(ctx.signal);
    let command = command(&request);
    groups.coordinators.turn_for(
        ctx.broker,
        &shard,
        ctx.now,
        &slot,
        |machine, turn, token| {
            machine.sync(turn, token, command);
        },
    );
    await_answer(&shard, slot, |answer| {
        response(match answer {
            Ok(Answer::Sync(reply)) => reply,
            Ok(Answer::Join(_)) => SyncReply::error(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(error) => SyncReply::error(error),
        })
    })
}

fn command(request: &SyncGroupRequest) -> SyncGroup {
    let assignments = request.assignments.iter().map(|assigned| {
        let assignment = bytes::Bytes::copy_from_slice(&assigned.assignment);
        (owned_text(&assigned.member_id), assignment)
    });
    SyncGroup {
        group: owned_text(&request.group_id.0),
        member: member(
            &request.member_id,
            request.group_instance_id.as_ref(),
            request.generation_id,
        ),
        protocol_type: optional_text(request.protocol_type.as_ref()),
        protocol_name: optional_text(request.protocol_name.as_ref()),
        assignments: assignments.collect(),
    }
}

fn response(reply: SyncReply) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_error_code(reply.error.0)
        .with_protocol_type(reply.protocol_type.map(text))
        .with_protocol_name(reply.protocol_name.map(text))
        .with_assignment(reply.assignment)
}
