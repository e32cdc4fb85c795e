//! Heartbeat: a member lives, and learns whether it has to join again.

use ottla_coordinator::command::Heartbeat;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::groups::{member, owned_text, turn};
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::reply::Reply;

pub fn handle(
    _groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: HeartbeatRequest,
) -> Reply<HeartbeatResponse> {
    let command = Heartbeat {
        group: owned_text(&request.group_id.0),
        member: member(
            &request.member_id,
            request.group_instance_id.as_ref(),
            request.generation_id,
        ),
    };
    let heard = turn(ctx, &request.group_id.0, |machine, turn| {
        machine.heartbeat(turn, command)
    });
    let error: ErrorCode = match heard {
        Ok((_, turned)) => turned.result,
        // As Kafka: nobody has to do anything but wait.
        Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => ErrorCode::NONE,
        Err(error) => error,
    };
    Reply::Now(HeartbeatResponse::default().with_error_code(error.0))
}
