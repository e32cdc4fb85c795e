//! From the names and ids of a request to partitions on this broker, and what to answer when there
//! is none: shared by every request that touches records.

use std::sync::Arc;

use ottla_controller::MetadataImage;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::leader_hint::{CurrentLeader, NodeEndpoint};

use crate::broker::Logs;
use crate::config::ListenerName;
use crate::metadata::{TopicKey, leader_hint};
use crate::partition::Partition;
use crate::partition::map::HostedTopic;

/// The hosted topic, if any of its partitions live here.
pub(super) fn topic(logs: &Logs<'_>, key: &TopicKey) -> Option<Arc<HostedTopic>> {
    match key {
        TopicKey::Name(name) => logs.partitions.topic(name),
        TopicKey::Id(id) => logs.partitions.topic_by_id(*id),
    }
}

/// The partition, or the error and who leads it instead.
pub(super) fn partition(
    logs: &Logs<'_>,
    key: &TopicKey,
    hosted: Option<&HostedTopic>,
    index: i32,
) -> Result<Arc<Partition>, (ErrorCode, Option<CurrentLeader>)> {
    if let Some(partition) = hosted.and_then(|topic| topic.partition(index)) {
        return Ok(Arc::clone(partition));
    }
    Err(missing(&logs.metadata.image(), key, index))
}

fn missing(
    image: &MetadataImage,
    key: &TopicKey,
    index: i32,
) -> (ErrorCode, Option<CurrentLeader>) {
    let topic = match key {
        TopicKey::Name(name) => image.topics.by_name(name),
        TopicKey::Id(id) => image.topics.by_id(*id),
    };
    match (topic, key) {
        (None, TopicKey::Id(_)) => (ErrorCode::UNKNOWN_TOPIC_ID, None),
        (Some(topic), _) if topic.partition(index).is_some() => (
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            leader_hint(image, key, index),
        ),
        _ => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None),
    }
}

/// Where the leaders named in an answer are reached, for the listener the client came in on.
pub(super) fn endpoints<'a>(
    image: &'a MetadataImage,
    listener: &ListenerName,
    leaders: impl Iterator<Item = CurrentLeader>,
) -> Vec<NodeEndpoint<'a>> {
    let mut endpoints: Vec<NodeEndpoint<'a>> = Vec::new();
    for leader in leaders {
        if endpoints
            .iter()
            .any(|known| known.node_id == leader.leader_id)
        {
            continue;
        }
        let Some(broker) = image.brokers.get(leader.leader_id) else {
            continue;
        };
        let Some(endpoint) = broker.endpoint(listener.as_str()) else {
            continue;
        };
        endpoints.push(NodeEndpoint {
            node_id: leader.leader_id,
            host: &endpoint.host,
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref(),
        });
    }
    endpoints
}
