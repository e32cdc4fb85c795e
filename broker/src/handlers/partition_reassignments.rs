//! AlterPartitionReassignments and ListPartitionReassignments. Partitions do not move between
//! brokers yet: the replicas they have may be "assigned" again, nothing is ever under way, and any
//! other assignment is refused.

use std::collections::BTreeSet;

use ottla_controller::MetadataImage;
use ottla_controller::command::AssignmentError;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use ottla_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use ottla_protocol::types::BrokerId;

use crate::broker::Topics;
use crate::context::RequestContext;
use crate::errors::Failure;
use crate::handlers::wire::our_broker_ids;
use crate::reply::Reply;

pub fn list(
    _topics: Topics<'_>,
    _ctx: &RequestContext<'_>,
    _request: ListPartitionReassignmentsRequest,
) -> Reply<ListPartitionReassignmentsResponse> {
    Reply::Now(ListPartitionReassignmentsResponse::default().with_error_message(None))
}

pub fn alter(
    topics: Topics<'_>,
    _ctx: &RequestContext<'_>,
    request: AlterPartitionReassignmentsRequest,
) -> Reply<AlterPartitionReassignmentsResponse> {
    let image = topics.metadata.image();
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let response = ReassignablePartitionResponse::default()
                .with_partition_index(partition.partition_index);
            match decide(&image, &topic.name.0, partition) {
                Ok(()) => response.with_error_message(None),
                Err(failure) => response
                    .with_error_code(failure.code.0)
                    .with_error_message(Some(failure.message)),
            }
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    Reply::Now(
        AlterPartitionReassignmentsResponse::default()
            .with_allow_replication_factor_change(request.allow_replication_factor_change)
            .with_error_message(None)
            .with_responses(responses.collect()),
    )
}

fn decide(
    image: &MetadataImage,
    topic: &str,
    partition: &ReassignablePartition,
) -> Result<(), Failure> {
    let index = partition.partition_index;
    let found = image
        .topics
        .by_name(topic)
        .and_then(|topic| topic.partition(index));
    let Some(found) = found else {
        let message = format!("there is no partition {topic}-{index}");
        return Err(Failure::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message));
    };
    let Some(replicas) = &partition.replicas else {
        let message = "no reassignment of the partition is under way";
        return Err(Failure::new(
            ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
            message,
        ));
    };
    let replicas = our_broker_ids(replicas);
    check(image, index, &replicas)?;
    if replicas == found.replicas {
        return Ok(());
    }
    let message = "this version does not move partitions between brokers";
    Err(Failure::new(ErrorCode::UNSUPPORTED_VERSION, message))
}

fn check(
    image: &MetadataImage,
    partition: i32,
    replicas: &[BrokerId],
) -> Result<(), AssignmentError> {
    if replicas.is_empty() {
        return Err(AssignmentError::NoReplica { partition });
    }
    let mut seen = BTreeSet::new();
    for broker in replicas.iter().copied() {
        if image.brokers.get(broker).is_none() {
            return Err(AssignmentError::UnknownBroker { partition, broker });
        }
        if !seen.insert(broker) {
            return Err(AssignmentError::DuplicateReplica { partition, broker });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
