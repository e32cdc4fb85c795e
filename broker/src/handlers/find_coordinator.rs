//! FindCoordinator: which broker looks after a group or a transactional id. The topic in which
//! groups are kept is created when the first one is asked for. There are no coordinators of
//! transactions yet: those keys are answered with the retriable "not available", which is also what
//! Kafka says while its own are not ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_controller::Command;
use ottla_controller::command::{CreateTopics, NewTopic};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use ottla_protocol::types::BrokerId;

use crate::broker::{Broker, Topics};
use crate::config::ListenerName;
use crate::context::RequestContext;
use crate::coordinators::OFFSETS_TOPIC;
use crate::handlers::metadata::default_shape;
use crate::handlers::wire::{Address, address, broker_id, owned, text};
use crate::reply::Reply;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE_PARTITION: i8 = 2;
/// From here one request asks for many keys.
const BATCHED_FROM: i16 = 4;
/// From here share partitions have coordinators.
const SHARE_PARTITION_FROM: i16 = 6;
const NO_PORT: i32 = -1;

/// How long a client waits for the topic to be created.
const CREATION_TIMEOUT_MS: i32 = 5_000;

pub fn handle(
    topics: Topics<'_>,
    ctx: &RequestContext<'_>,
    request: FindCoordinatorRequest,
) -> Reply<FindCoordinatorResponse> {
    let (broker, listener) = (Arc::clone(ctx.broker), ctx.listener.clone());
    let version = ctx.version;
    let no_place = topics.log_dirs.takes_more().is_err();
    if request.key_type != GROUP || broker.coordinators.exist() || no_place {
        return Reply::Now(response(&broker, &listener, version, &request));
    }
    ctx.submit(creation(&topics), CREATION_TIMEOUT_MS, move |_| {
        // Whoever created it: what counts is whether it is there.
        response(&broker, &listener, version, &request)
    })
}

fn creation(topics: &Topics<'_>) -> Command {
    let wanted = &topics.config.offsets_topic;
    let brokers = topics.metadata.image().brokers.iter().count();
    let brokers = i16::try_from(brokers).unwrap_or(i16::MAX).max(1);
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", wanted.segment_bytes.to_string()),
    ];
    let configs = configs.map(|(key, value)| (owned(key), owned(&value)));
    Command::CreateTopics(CreateTopics {
        topics: vec![NewTopic {
            name: owned(OFFSETS_TOPIC),
            partitions: wanted.partitions,
            replication_factor: wanted.replication_factor.min(brokers),
            assignments: Vec::new(),
            configs: BTreeMap::from(configs),
        }],
        defaults: default_shape(topics),
        validate_only: false,
    })
}

fn response(
    broker: &Broker,
    listener: &ListenerName,
    version: i16,
    request: &FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let find = |key: &str| find(broker, listener, (version, request.key_type), key);
    if version < BATCHED_FROM {
        let response = FindCoordinatorResponse::default();
        return match find(&request.key) {
            Ok(address) => response
                .with_error_message(Some(text("NONE")))
                .with_node_id(address.id)
                .with_host(address.host)
                .with_port(address.port),
            Err((code, message)) => response
                .with_error_code(code.0)
                .with_error_message(Some(text(message)))
                .with_node_id(broker_id(BrokerId::NONE))
                .with_port(NO_PORT),
        };
    }
    let coordinators = request.coordinator_keys.iter().map(|key| {
        let coordinator = Coordinator::default().with_key(key.clone());
        match find(key) {
            Ok(address) => coordinator
                .with_error_message(None)
                .with_node_id(address.id)
                .with_host(address.host)
                .with_port(address.port),
            Err((code, message)) => coordinator
                .with_node_id(broker_id(BrokerId::NONE))
                .with_port(NO_PORT)
                .with_error_code(code.0)
                .with_error_message(Some(text(message))),
        }
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

fn find(
    broker: &Broker,
    listener: &ListenerName,
    (version, key_type): (i16, i8),
    key: &str,
) -> Result<Address, (ErrorCode, &'static str)> {
    let not_available = (
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        "the coordinator is not available",
    );
    match key_type {
        GROUP => {
            broker.coordinators.of(key).map_err(|_| not_available)?;
            let image = broker.metadata.image();
            let here = image.brokers.get(broker.node_id);
            here.and_then(|here| address(here, listener))
                .ok_or(not_available)
        }
        TRANSACTION => Err(not_available),
        SHARE_PARTITION if version >= SHARE_PARTITION_FROM && is_share_partition(key) => {
            Err(not_available)
        }
        SHARE_PARTITION if version >= SHARE_PARTITION_FROM => Err((
            ErrorCode::INVALID_REQUEST,
            "the key is not group:topicId:partition",
        )),
        _ => Err((
            ErrorCode::INVALID_REQUEST,
            "there is no coordinator of this type",
        )),
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
