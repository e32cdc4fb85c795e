//! DescribeQuorum: the state of the metadata log's quorum, which tools ask for under the name of
//! Kafka's metadata topic.

use ottla_controller::{MetadataImage, QuorumState};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use ottla_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use ottla_protocol::types::{BrokerId, Offset};

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::handlers::wire::{CLUSTER_METADATA_TOPIC, broker_id, text};
use crate::reply::Reply;

/// The metadata topic has one partition.
const PARTITION: i32 = 0;
/// From here the answer has texts and the addresses of the voters.
const NODES_FROM: i16 = 2;
const UNKNOWN: i64 = -1;

pub fn handle(
    cluster: Cluster<'_>,
    ctx: &RequestContext<'_>,
    request: DescribeQuorumRequest,
) -> Reply<DescribeQuorumResponse> {
    let quorum = cluster.controller.quorum();
    let now_ms = ctx.broker.clock.wall_ms();
    let mut described = false;
    let topics = request.topics.into_iter().map(|topic| {
        let is_metadata = &*topic.topic_name.0 == CLUSTER_METADATA_TOPIC;
        let partitions = topic
            .partitions
            .iter()
            .map(|asked| match asked.partition_index {
                PARTITION if is_metadata => {
                    described = true;
                    partition(&quorum, now_ms)
                }
                other => unknown(other),
            });
        let partitions = partitions.collect();
        TopicData::default()
            .with_topic_name(topic.topic_name)
            .with_partitions(partitions)
    });
    let response = DescribeQuorumResponse::default().with_topics(topics.collect());
    if !described || ctx.version < NODES_FROM {
        return Reply::Now(response);
    }
    Reply::Now(response.with_nodes(nodes(&quorum, &cluster.metadata.image())))
}

fn unknown(partition: i32) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition)
        .with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0)
        .with_error_message(Some(text("only the metadata log has a quorum")))
}

fn partition(quorum: &QuorumState, now_ms: i64) -> PartitionData {
    let data = PartitionData::default().with_partition_index(PARTITION);
    let Some(leader) = quorum.leader else {
        return data
            .with_error_code(ErrorCode::LEADER_NOT_AVAILABLE.0)
            .with_error_message(Some(text("the quorum has no leader at the moment")))
            .with_leader_id(broker_id(BrokerId::NONE));
    };
    let caught_up_ms = |id: BrokerId| if id == leader { now_ms } else { UNKNOWN };
    let voters = quorum
        .voters
        .iter()
        .map(|r| replica(r.id, r.log_end_offset, caught_up_ms(r.id)));
    let observers = quorum
        .observers
        .iter()
        .map(|r| replica(r.id, r.log_end_offset, caught_up_ms(r.id)));
    data.with_leader_id(broker_id(leader))
        .with_leader_epoch(i32::try_from(quorum.leader_epoch).unwrap_or(i32::MAX))
        .with_high_watermark(quorum.high_watermark.0)
        .with_current_voters(voters.collect())
        .with_observers(observers.collect())
}

/// The leader has by definition just caught up with itself; raft does not tell when others did.
fn replica(id: BrokerId, log_end_offset: Option<Offset>, caught_up_ms: i64) -> ReplicaState {
    ReplicaState::default()
        .with_replica_id(broker_id(id))
        .with_log_end_offset(log_end_offset.map_or(UNKNOWN, |offset| offset.0))
        .with_last_fetch_timestamp(caught_up_ms)
        .with_last_caught_up_timestamp(caught_up_ms)
}

/// Where the voters are reached; controllers share the listeners of their brokers.
fn nodes(quorum: &QuorumState, image: &MetadataImage) -> Vec<Node> {
    let nodes = quorum.voters.iter().map(|voter| {
        let broker = image.brokers.get(voter.id);
        let endpoints = broker.map_or(&[][..], |broker| &broker.endpoints);
        let listeners = endpoints.iter().map(|endpoint| {
            Listener::default()
                .with_name(text(&endpoint.listener))
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port)
        });
        Node::default()
            .with_node_id(broker_id(voter.id))
            .with_listeners(listeners.collect())
    });
    nodes.collect()
}

#[cfg(test)]
mod tests;
