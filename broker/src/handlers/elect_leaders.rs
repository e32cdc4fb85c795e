//! ElectLeaders: makes the preferred replica the leader again. With one replica per partition the
//! preferred one leads whenever its broker is there, so there is never anything to elect.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_controller::MetadataImage;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use ottla_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

use crate::broker::Topics;
use crate::context::RequestContext;
use crate::handlers::wire::{owned, text, wire_name};
use crate::reply::Reply;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub fn handle(
    topics: Topics<'_>,
    _ctx: &RequestContext<'_>,
    request: ElectLeadersRequest,
) -> Reply<ElectLeadersResponse> {
    let image = topics.metadata.image();
    let kind = request.election_type;
    let results = match request.topic_partitions {
        // All partitions: those without need of an election are left out, as in Kafka.
        None => {
            let topics = image
                .topics
                .iter()
                .map(|topic| (topic.name.clone(), Vec::new()));
            topics.collect()
        }
        Some(asked) => {
            let mut results = BTreeMap::<Arc<str>, Vec<PartitionResult>>::new();
            for topic in asked {
                let name = owned(&topic.topic.0);
                let told = topic
                    .partitions
                    .iter()
                    .map(|p| partition(&image, kind, &name, *p));
                let told: Vec<_> = told.collect();
                results.entry(name).or_default().extend(told);
            }
            results
        }
    };
    let results = results.into_iter().map(|(name, partitions)| {
        ReplicaElectionResult::default()
            .with_topic(wire_name(&name))
            .with_partition_result(partitions)
    });
    let response = ElectLeadersResponse::default();
    let known = kind == PREFERRED || kind == UNCLEAN;
    let code = if known {
        ErrorCode::NONE
    } else {
        ErrorCode::INVALID_REQUEST
    };
    Reply::Now(
        response
            .with_error_code(code.0)
            .with_replica_election_results(results.collect()),
    )
}

fn partition(image: &MetadataImage, kind: i8, topic: &str, index: i32) -> PartitionResult {
    let found = image
        .topics
        .by_name(topic)
        .and_then(|topic| topic.partition(index));
    let (code, message) = match (found, kind) {
        (_, kind) if kind != PREFERRED && kind != UNCLEAN => (
            ErrorCode::INVALID_REQUEST,
            "there is no election of this type",
        ),
        (None, _) => (
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "there is no such partition",
        ),
        (Some(found), _) if image.brokers.is_alive(found.leader) => (
            ErrorCode::ELECTION_NOT_NEEDED,
            "the partition has the leader it should have",
        ),
        (Some(_), PREFERRED) => (
            ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
            "the broker of the preferred replica is not there",
        ),
        (Some(_), _) => (
            ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
            "no broker of the partition is there",
        ),
    };
    PartitionResult::default()
        .with_partition_id(index)
        .with_error_code(code.0)
        .with_error_message(Some(text(message)))
}

#[cfg(test)]
mod tests;
