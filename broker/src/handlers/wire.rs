//! The few words that several handlers translate between our types and the wire's.
//!
//! Strings are copied into the answer, never out of a request into long-lived state: a string of a
//! decoded request pins its whole frame.

use std::sync::Arc;

use ottla_controller::image::BrokerImage;
use ottla_controller::{CommandReply, MetadataImage};
use ottla_protocol::messages::{BrokerId as WireBrokerId, StrBytes, TopicName};
use ottla_protocol::types::BrokerId;

use crate::config::ListenerName;
use crate::errors::Failure;

/// Operations on a topic as a bit field: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE,
/// DESCRIBE_CONFIGS, ALTER_CONFIGS. Without an authorizer everybody may do everything.
pub(super) const ALL_TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE.
pub(super) const ALL_CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
/// What the wire says when nobody asked.
pub(super) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Topics that brokers keep for themselves; clients hide them by default and never create them by
/// accident.
const INTERNAL_TOPICS: &[&str] = &[
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
];

/// The name under which tools ask for the metadata log; no topic can be called so.
pub(super) const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

pub(super) fn is_internal(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}

pub(super) fn text(text: impl ToString) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

pub(super) fn wire_name(name: &str) -> TopicName {
    TopicName(text(name))
}

pub(super) fn broker_id(id: BrokerId) -> WireBrokerId {
    WireBrokerId(id.0)
}

pub(super) fn broker_ids(ids: &[BrokerId]) -> Vec<WireBrokerId> {
    ids.iter().copied().map(broker_id).collect()
}

pub(super) fn our_broker_ids(ids: &[WireBrokerId]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(id.0)).collect()
}

/// Where clients of one listener reach a broker.
pub(super) struct Address {
    pub(super) id: WireBrokerId,
    pub(super) host: StrBytes,
    pub(super) port: i32,
    pub(super) rack: Option<StrBytes>,
}

/// `None` when the broker has no such listener: its clients cannot reach it.
pub(super) fn address(broker: &BrokerImage, listener: &ListenerName) -> Option<Address> {
    let endpoint = broker.endpoint(&listener.0)?;
    Some(Address {
        id: broker_id(broker.id),
        host: text(&endpoint.host),
        port: i32::from(endpoint.port),
        rack: broker.rack.as_ref().map(text),
    })
}

/// True when clients of `listener` can reach broker `id` now.
pub(super) fn is_reachable(image: &MetadataImage, id: BrokerId, listener: &ListenerName) -> bool {
    image.brokers.is_alive(id)
        && image
            .brokers
            .get(id)
            .is_some_and(|broker| broker.endpoint(&listener.0).is_some())
}

/// A name of a request as our own, independent of the request's frame.
pub(super) fn owned(name: &str) -> Arc<str> {
    Arc::from(name)
}

/// A reply that does not belong to the command: a defect of ours, told as one.
pub(super) fn unexpected(reply: &CommandReply) -> Failure {
    debug_assert!(false, "a reply of another command: {reply:?}");
    tracing::error!(?reply, "the controller answered another command");
    Failure::unanswered()
}
