//! Metadata: which brokers there are, which topics, who leads their partitions, seen from one
//! listener. Asking for a topic may create it.
//!
//! An answer is made from one image. A topic that is created on the way is awaited for a moment, so
//! that the client usually gets it in the first answer; if that takes too long it is told to ask
//! again, which clients do by themselves. Authorization has no place here yet: everybody may
//! describe everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_controller::command::{CreateTopicError, CreateTopics, NewTopic, TopicDefaults};
use ottla_controller::image::{PartitionImage, TopicImage};
use ottla_controller::{Command, CommandReply, MetadataImage};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::{BrokerId as WireBrokerId, MetadataResponse};
use ottla_protocol::metadata_view::{AskedTopic, MetadataView};
use ottla_protocol::topic_name;
use ottla_protocol::types::{BrokerId, TopicId};

use crate::broker::Topics;
use crate::config::ListenerName;
use crate::context::{RequestContext, TimedOut};
use crate::errors::ToErrorCode;
use crate::handlers::wire::{
    ALL_CLUSTER_OPERATIONS, ALL_TOPIC_OPERATIONS, OPERATIONS_NOT_ASKED, address, broker_id,
    broker_ids, is_internal, is_reachable, text, wire_name,
};
use crate::reply::Reply;

/// How long an answer waits for the topics it creates.
const CREATION_WAIT_MS: i32 = 1_000;
/// Below it, whether a topic may be created is not the client's choice.
const AUTO_CREATION_CHOICE_FROM: i16 = 4;
/// From here an empty list of topics means none; before, it means all.
const EMPTY_MEANS_NONE_FROM: i16 = 1;
/// Topic ids are on the wire from version 10, and work from 12.
const TOPIC_IDS_ON_WIRE_FROM: i16 = 10;
const TOPIC_IDS_FROM: i16 = 12;
/// From here clients know LISTENER_NOT_FOUND.
const LISTENER_NOT_FOUND_FROM: i16 = 6;
/// The cluster's operations are told in versions 8 to 10.
const CLUSTER_OPERATIONS: std::ops::RangeInclusive<i16> = 8..=10;
const TOPIC_OPERATIONS_FROM: i16 = 8;

/// What is asked for, in the order asked, each once.
enum Asked {
    All,
    These(Vec<Wanted>),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Name(Arc<str>),
    Id(TopicId),
}

/// How the image is told to this client.
struct Telling {
    version: i16,
    listener: ListenerName,
    topic_operations: i32,
    cluster_operations: i32,
    node_id: BrokerId,
}

pub fn handle(
    topics: Topics<'_>,
    ctx: &RequestContext<'_>,
    request: &MetadataView<'_>,
) -> Reply<MetadataResponse> {
    if let Some(refusal) = refuse_early_topic_ids(ctx.version, request) {
        return Reply::Now(refusal);
    }
    let telling = Telling::new(&topics, ctx, request);
    let may_create = topics.config.auto_create_topics
        && (request.allow_auto_topic_creation || ctx.version < AUTO_CREATION_CHOICE_FROM);
    let asked = asked(request, ctx.version);
    let image = topics.metadata.image();
    let missing = if may_create {
        creatable(&topics, &asked, &image)
    } else {
        Vec::new()
    };
    if missing.is_empty() {
        return Reply::Now(telling.response(&image, &asked, &BTreeMap::new()));
    }
    let broker = Arc::clone(ctx.broker);
    ctx.submit(
        creation(&topics, missing),
        CREATION_WAIT_MS,
        move |outcome| {
            let why_missing = reasons(outcome, &asked);
            telling.response(&broker.metadata.image(), &asked, &why_missing)
        },
    )
}

/// Versions 10 and 11 have the fields but no broker understands them there.
fn refuse_early_topic_ids(version: i16, request: &MetadataView<'_>) -> Option<MetadataResponse> {
    let by_id = |topic: AskedTopic<'_>| topic.topic_id != TopicId::ZERO || topic.name.is_none();
    if !(TOPIC_IDS_ON_WIRE_FROM..TOPIC_IDS_FROM).contains(&version) || !request.topics().any(by_id)
    {
        return None;
    }
    let refused = request.topics().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(ErrorCode::INVALID_REQUEST.0)
            .with_name(Some(wire_name(topic.name.unwrap_or_default())))
            .with_topic_id(topic.topic_id.0)
    });
    Some(MetadataResponse::default().with_topics(refused.collect()))
}

fn asked(request: &MetadataView<'_>, version: i16) -> Asked {
    match request.topic_count() {
        None => return Asked::All,
        Some(0) if version < EMPTY_MEANS_NONE_FROM => return Asked::All,
        Some(_) => {}
    }
    let mut seen = BTreeSet::new();
    // Grows with what is different, not with what is repeated.
    let mut wanted = Vec::new();
    for topic in request.topics() {
        let next = match topic.name {
            _ if topic.topic_id != TopicId::ZERO => Wanted::Id(topic.topic_id),
            Some(name) => Wanted::Name(Arc::from(name)),
            None => Wanted::Id(TopicId::ZERO),
        };
        if seen.insert(next.clone()) {
            wanted.push(next);
        }
    }
    Asked::These(wanted)
}

/// Names that may become topics. Internal topics are made by whoever owns them, with their own
/// settings.
fn creatable(topics: &Topics<'_>, asked: &Asked, image: &MetadataImage) -> Vec<Arc<str>> {
    // As long as no directory has room the topic is unknown, and the client asks again.
    let dirs = topics.log_dirs;
    if dirs.room_for_more().is_err() || dirs.takes_more().is_err() {
        return Vec::new();
    }
    let Asked::These(wanted) = asked else {
        return Vec::new();
    };
    let missing = wanted.iter().filter_map(|wanted| match wanted {
        Wanted::Name(name) if image.topics.by_name(name).is_none() => Some(name),
        _ => None,
    });
    missing
        .filter(|name| topic_name::validate(name).is_ok() && !is_internal(name))
        .cloned()
        .collect()
}

fn creation(topics: &Topics<'_>, names: Vec<Arc<str>>) -> Command {
    let new_topic = |name| NewTopic {
        name,
        partitions: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
    };
    Command::CreateTopics(CreateTopics {
        topics: names.into_iter().map(new_topic).collect(),
        defaults: default_shape(topics),
        validate_only: false,
    })
}

/// What -1 means in a request that creates topics.
pub(super) fn default_shape(topics: &Topics<'_>) -> TopicDefaults {
    let factor = topics.config.default_replication_factor;
    TopicDefaults {
        partitions: topics.config.num_partitions,
        replication_factor: i16::try_from(factor).unwrap_or(i16::MAX),
    }
}

/// Why a topic may still be absent after its creation was asked for.
fn reasons(
    outcome: Result<CommandReply, TimedOut>,
    asked: &Asked,
) -> BTreeMap<Arc<str>, ErrorCode> {
    match outcome {
        Ok(CommandReply::TopicsCreated(results)) => results
            .into_iter()
            .map(|(name, result)| match result {
                // Somebody was faster; this broker will know the topic in a moment.
                Ok(_) | Err(CreateTopicError::AlreadyExists { .. }) => {
                    (name, ErrorCode::LEADER_NOT_AVAILABLE)
                }
                Err(error) => (name, error.error_code()),
            })
            .collect(),
        Ok(_) | Err(TimedOut) => {
            let Asked::These(wanted) = asked else {
                return BTreeMap::new();
            };
            let names = wanted.iter().filter_map(|wanted| match wanted {
                Wanted::Name(name) if topic_name::validate(name).is_ok() && !is_internal(name) => {
                    Some(name)
                }
                _ => None,
            });
            names
                .map(|name| (Arc::clone(name), ErrorCode::LEADER_NOT_AVAILABLE))
                .collect()
        }
    }
}

impl Telling {
    fn new(topics: &Topics<'_>, ctx: &RequestContext<'_>, request: &MetadataView<'_>) -> Telling {
        let asked = |flag: bool, all: i32| if flag { all } else { OPERATIONS_NOT_ASKED };
        Telling {
            version: ctx.version,
            listener: ctx.listener.clone(),
            topic_operations: asked(
                ctx.version >= TOPIC_OPERATIONS_FROM && request.include_topic_authorized_operations,
                ALL_TOPIC_OPERATIONS,
            ),
            cluster_operations: asked(
                CLUSTER_OPERATIONS.contains(&ctx.version)
                    && request.include_cluster_authorized_operations,
                ALL_CLUSTER_OPERATIONS,
            ),
            node_id: topics.node_id,
        }
    }

    fn response(
        &self,
        image: &MetadataImage,
        asked: &Asked,
        why_missing: &BTreeMap<Arc<str>, ErrorCode>,
    ) -> MetadataResponse {
        let topics = match asked {
            Asked::All => image
                .topics
                .iter()
                .map(|topic| self.topic(image, topic))
                .collect(),
            Asked::These(wanted) => wanted
                .iter()
                .map(|wanted| self.wanted(image, wanted, why_missing))
                .collect(),
        };
        let brokers = image.brokers.alive().filter_map(|broker| {
            let address = address(broker, &self.listener)?;
            let broker = MetadataResponseBroker::default()
                .with_node_id(address.id)
                .with_host(address.host)
                .with_port(address.port)
                .with_rack(address.rack);
            Some(broker)
        });
        MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(text(&image.cluster_id)))
            // Every broker takes what a controller is asked and passes it on, so each may name
            // itself.
            .with_controller_id(broker_id(self.node_id))
            .with_topics(topics)
            .with_cluster_authorized_operations(self.cluster_operations)
    }

    fn wanted(
        &self,
        image: &MetadataImage,
        wanted: &Wanted,
        why_missing: &BTreeMap<Arc<str>, ErrorCode>,
    ) -> MetadataResponseTopic {
        match wanted {
            Wanted::Name(name) => match image.topics.by_name(name) {
                Some(topic) => self.topic(image, topic),
                None => self.missing_name(name, why_missing.get(name).copied()),
            },
            Wanted::Id(TopicId::ZERO) => MetadataResponseTopic::default()
                .with_error_code(ErrorCode::INVALID_REQUEST.0)
                .with_name(None),
            Wanted::Id(id) => match image.topics.by_id(*id) {
                Some(topic) => self.topic(image, topic),
                None => MetadataResponseTopic::default()
                    .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0)
                    .with_name(None)
                    .with_topic_id(id.0),
            },
        }
    }

    fn missing_name(&self, name: &str, reason: Option<ErrorCode>) -> MetadataResponseTopic {
        let missing = MetadataResponseTopic::default()
            .with_name(Some(wire_name(name)))
            .with_is_internal(is_internal(name));
        if let Err(error) = topic_name::validate(name) {
            return missing.with_error_code(error.error_code().0);
        }
        missing
            .with_error_code(reason.unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).0)
            .with_topic_authorized_operations(self.topic_operations)
    }

    fn topic(&self, image: &MetadataImage, topic: &TopicImage) -> MetadataResponseTopic {
        let partitions = (0i32..)
            .zip(&topic.partitions)
            .map(|(index, partition)| self.partition(image, index, partition));
        MetadataResponseTopic::default()
            .with_name(Some(wire_name(&topic.name)))
            .with_topic_id(topic.id.0)
            .with_is_internal(is_internal(&topic.name))
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(self.topic_operations)
    }

    fn partition(
        &self,
        image: &MetadataImage,
        index: i32,
        partition: &PartitionImage,
    ) -> MetadataResponsePartition {
        let leader = Leader::of(image, partition, &self.listener);
        let offline = partition
            .replicas
            .iter()
            .filter(|id| !image.brokers.is_alive(**id));
        MetadataResponsePartition::default()
            .with_error_code(leader.error_code(self.version).0)
            .with_partition_index(index)
            .with_leader_id(leader.wire_id())
            .with_leader_epoch(partition.leader_epoch.0)
            .with_replica_nodes(broker_ids(&partition.replicas))
            .with_isr_nodes(broker_ids(&partition.isr))
            .with_offline_replicas(offline.copied().map(broker_id).collect())
    }
}

/// A partition's leader as clients of one listener see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leader {
    Reachable(BrokerId),
    /// Nobody leads, or whoever should is not there.
    Absent,
    /// There is one, but without an address on this listener.
    WithoutListener,
}

impl Leader {
    pub(super) fn of(
        image: &MetadataImage,
        partition: &PartitionImage,
        listener: &ListenerName,
    ) -> Leader {
        match partition.leader {
            id if !image.brokers.is_alive(id) => Leader::Absent,
            id if is_reachable(image, id, listener) => Leader::Reachable(id),
            _ => Leader::WithoutListener,
        }
    }

    pub(super) fn wire_id(self) -> WireBrokerId {
        match self {
            Leader::Reachable(id) => broker_id(id),
            Leader::Absent | Leader::WithoutListener => broker_id(BrokerId::NONE),
        }
    }

    /// `version`: of a Metadata request.
    pub(super) fn error_code(self, version: i16) -> ErrorCode {
        match self {
            Leader::Reachable(_) => ErrorCode::NONE,
            Leader::WithoutListener if version >= LISTENER_NOT_FOUND_FROM => {
                ErrorCode::LISTENER_NOT_FOUND
            }
            Leader::Absent | Leader::WithoutListener => ErrorCode::LEADER_NOT_AVAILABLE,
        }
    }
}

#[cfg(test)]
mod tests;
