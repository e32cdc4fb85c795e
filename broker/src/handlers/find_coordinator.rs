//! FindCoordinator: which broker looks after a group or a transactional id. This broker has no
//! coordinators yet, so every well-formed key is answered with the retriable "not available", which
//! is also what Kafka says while its own are not ready.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use ottla_protocol::types::BrokerId;

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::handlers::wire::{broker_id, text};
use crate::reply::Reply;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE_PARTITION: i8 = 2;
/// From here one request asks for many keys.
const BATCHED_FROM: i16 = 4;
/// From here share partitions have coordinators.
const SHARE_PARTITION_FROM: i16 = 6;
const NO_PORT: i32 = -1;

pub fn handle(
    _cluster: Cluster<'_>,
    ctx: &RequestContext<'_>,
    request: FindCoordinatorRequest,
) -> Reply<FindCoordinatorResponse> {
    let answer = |key: &str| answer(ctx.version, request.key_type, key);
    if ctx.version < BATCHED_FROM {
        let (code, message) = answer(&request.key);
        return Reply::Now(
            FindCoordinatorResponse::default()
                .with_error_code(code.0)
                .with_error_message(Some(text(message)))
                .with_node_id(broker_id(BrokerId::NONE))
                .with_port(NO_PORT),
        );
    }
    let coordinators = request.coordinator_keys.iter().map(|key| {
        let (code, message) = answer(key);
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(broker_id(BrokerId::NONE))
            .with_port(NO_PORT)
            .with_error_code(code.0)
            .with_error_message(Some(text(message)))
    });
    Reply::Now(FindCoordinatorResponse::default().with_coordinators(coordinators.collect()))
}

fn answer(version: i16, key_type: i8, key: &str) -> (ErrorCode, &'static str) {
    match key_type {
        GROUP | TRANSACTION => (
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            "the coordinator is not available",
        ),
        SHARE_PARTITION if version >= SHARE_PARTITION_FROM && is_share_partition(key) => (
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            "the coordinator is not available",
        ),
        SHARE_PARTITION if version >= SHARE_PARTITION_FROM => (
            ErrorCode::INVALID_REQUEST,
            "the key is not group:topicId:partition",
        ),
        _ => (
            ErrorCode::INVALID_REQUEST,
            "there is no coordinator of this type",
        ),
    }
}

/// `group:topicId:partition`; the group may have colons of its own.
fn is_share_partition(key: &str) -> bool {
    let mut parts = key.rsplitn(3, ':');
    let partition = parts.next().is_some_and(|text| text.parse::<u32>().is_ok());
    let topic_id = parts.next().is_some_and(|text| !text.is_empty());
    let group = parts.next().is_some_and(|text| !text.is_empty());
    partition && topic_id && group
}

#[cfg(test)]
mod tests;
