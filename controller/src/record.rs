//! Metadata records: the schema of the cluster's metadata log. Every change of the cluster's state
//! is a list of these; an image is nothing but the records before it.
//!
//! Owns the record types, their meaning and their bytes (`record/codec.rs`). Records carry absolute
//! values (epochs, leaders, next ids), so that applying one needs no decision and cannot fail. What
//! is deliberately absent: Kafka's own record schemas, which never leave Kafka's controllers and
//! need not be imitated, and serde.

mod codec;

use std::fmt;
use std::sync::Arc;

use ottla_protocol::types::{BrokerId, LeaderEpoch, ProducerId, TopicId};
use uuid::Uuid;

pub(crate) use codec::{Reader, put_varint};
pub use codec::{RecordError, decode_batch, encode_batch};

/// Counts changes of one partition's state; leaders compare-and-set on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PartitionEpoch(pub i32);

/// Names one registration of a broker; grows with every new one, so that an old process can be told
/// from a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BrokerEpoch(pub i64);

/// What a configuration belongs to. Broker loggers are absent: they are not replicated.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConfigResource {
    Topic(Arc<str>),
    Broker(BrokerId),
    /// The cluster-wide default of all brokers; Kafka's broker resource with the empty name.
    BrokerDefault,
    Group(Arc<str>),
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigResource::Topic(name) => write!(f, "topic {name}"),
            ConfigResource::Broker(id) => write!(f, "broker {}", id.0),
            ConfigResource::BrokerDefault => f.write_str("the default of all brokers"),
            ConfigResource::Group(name) => write!(f, "group {name}"),
        }
    }
}

/// Where clients or brokers reach a broker: one row per listener.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BrokerEndpoint {
    pub listener: Arc<str>,
    pub host: Arc<str>,
    pub port: u16,
    /// Kafka's id of the security protocol: PLAINTEXT 0, SSL 1, SASL_PLAINTEXT 2, SASL_SSL 3.
    pub security_protocol: i16,
}

/// The levels of one feature that a broker can run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FeatureRange {
    pub name: Arc<str>,
    pub min: i16,
    pub max: i16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerRegistrationRecord {
    pub broker_id: BrokerId,
    pub broker_epoch: BrokerEpoch,
    /// Drawn anew by every process, so that a repeated registration can be told from a restart.
    pub incarnation_id: Uuid,
    pub endpoints: Vec<BrokerEndpoint>,
    pub features: Vec<FeatureRange>,
    pub rack: Option<Arc<str>>,
    /// The `directory.id` of each log directory.
    pub log_dirs: Vec<Uuid>,
    /// A fenced broker leads nothing and is not told to clients.
    pub fenced: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionRecord {
    pub topic_id: TopicId,
    pub partition: i32,
    /// In order of preference: the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    /// `BrokerId::NONE` while nobody may lead.
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
}

/// New leader, ISR and epochs of an existing partition; the assignment stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionChangeRecord {
    pub topic_id: TopicId,
    pub partition: i32,
    pub isr: Vec<BrokerId>,
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
}

/// One change of the cluster's metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataRecord {
    /// The cluster exists and is called this; the first record of every metadata log.
    Cluster {
        cluster_id: Arc<str>,
    },
    /// `level` is finalised; 0 takes the feature back. `epoch` counts finalisations of any feature.
    Feature {
        name: Arc<str>,
        level: i16,
        epoch: i64,
    },
    BrokerRegistration(BrokerRegistrationRecord),
    BrokerUnregistered {
        broker_id: BrokerId,
    },
    /// The broker started anew: every partition it leads gets the next leader epoch and partition
    /// epoch.
    LeaderEpochsBumped {
        broker_id: BrokerId,
    },
    Topic {
        topic_id: TopicId,
        name: Arc<str>,
    },
    /// The topic, its partitions and its configuration are gone.
    RemoveTopic {
        topic_id: TopicId,
    },
    /// Creates partition `partition`, which must be the next one, or replaces it.
    Partition(PartitionRecord),
    PartitionChange(PartitionChangeRecord),
    /// `None` removes the key.
    Config {
        resource: ConfigResource,
        name: Arc<str>,
        value: Option<Arc<str>>,
    },
    /// Ids below this one are handed out.
    ProducerIds {
        next_producer_id: ProducerId,
    },
}

#[cfg(test)]
pub(crate) mod tests;
