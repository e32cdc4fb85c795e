//! What the controller can be asked, and what it answers: plain domain values, no wire structs.
//!
//! A command covers one request; where Kafka answers per topic or per resource, so does the reply,
//! in the order asked. Every refusal is a variant named after what was wrong; Kafka's codes are the
//! broker's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::topic_name::TopicNameError;
use ottla_protocol::types::{BrokerId, ProducerId, TopicId};
use uuid::Uuid;

use crate::record::{BrokerEndpoint, BrokerEpoch, ConfigResource, FeatureRange};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    RegisterBroker(RegisterBroker),
    UnregisterBroker {
        broker_id: BrokerId,
    },
    CreateTopics(CreateTopics),
    DeleteTopics {
        topics: Vec<TopicRef>,
    },
    CreatePartitions {
        topics: Vec<MorePartitions>,
        validate_only: bool,
    },
    AlterConfigs {
        resources: Vec<ConfigAlteration>,
        validate_only: bool,
    },
    /// A block of producer ids that nobody else ever gets.
    AllocateProducerIds {
        broker_id: BrokerId,
        broker_epoch: BrokerEpoch,
    },
    UpdateFeatures {
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    },
}

/// Sent by every broker process when it starts, and again with the same `incarnation_id` when it is
/// unsure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterBroker {
    pub broker_id: BrokerId,
    /// Refused if the cluster is called otherwise; `None` joins whatever cluster this is.
    pub cluster_id: Option<Arc<str>>,
    pub incarnation_id: Uuid,
    pub endpoints: Vec<BrokerEndpoint>,
    pub features: Vec<FeatureRange>,
    pub rack: Option<Arc<str>>,
    pub log_dirs: Vec<Uuid>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateTopics {
    pub topics: Vec<NewTopic>,
    /// What -1 in `NewTopic` means.
    pub defaults: TopicDefaults,
    pub validate_only: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicDefaults {
    pub partitions: i32,
    pub replication_factor: i16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    pub name: Arc<str>,
    /// -1: the default, or as many as `assignments` has.
    pub partitions: i32,
    /// -1: the default, or as `assignments` says.
    pub replication_factor: i16,
    /// Replicas per partition, placed by the client; empty leaves it to us.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    /// Already checked by the caller, who knows the keys.
    pub configs: BTreeMap<Arc<str>, Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TopicRef {
    Name(Arc<str>),
    Id(TopicId),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MorePartitions {
    pub name: Arc<str>,
    /// The total afterwards, not how many to add.
    pub count: i32,
    /// Replicas of each added partition, in order; `None` leaves it to us.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigAlteration {
    pub resource: ConfigResource,
    pub change: ConfigChange,
}

/// Values are checked by the caller, who knows the keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigChange {
    /// The whole set; what is not named goes back to its default. A key twice is refused.
    Replace(Vec<(Arc<str>, Arc<str>)>),
    /// A key twice is refused.
    Incremental(Vec<(Arc<str>, ConfigOp)>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigOp {
    Set(Arc<str>),
    Delete,
    /// Adds the elements that are missing; `default` is what the list is while nothing is set.
    Append {
        elements: Vec<Arc<str>>,
        default: Arc<str>,
    },
    /// Takes the elements out; `default` as above.
    Subtract {
        elements: Vec<Arc<str>>,
        default: Arc<str>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeatureUpdate {
    pub name: Arc<str>,
    /// 0 takes the finalised level back.
    pub level: i16,
    pub mode: FeatureUpdateMode,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeatureUpdateMode {
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
}

/// The answer to a command, given once what it promises is committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandReply {
    BrokerRegistered(Result<BrokerEpoch, RegisterBrokerError>),
    BrokerUnregistered(Result<(), BrokerNotRegistered>),
    TopicsCreated(Vec<(Arc<str>, Result<CreatedTopic, CreateTopicError>)>),
    TopicsDeleted(Vec<(TopicRef, Result<DeletedTopic, DeleteTopicError>)>),
    PartitionsCreated(Vec<(Arc<str>, Result<(), CreatePartitionsError>)>),
    ConfigsAltered(Vec<(ConfigResource, Result<(), AlterConfigsError>)>),
    ProducerIdsAllocated(Result<ProducerIdBlock, AllocateProducerIdsError>),
    FeaturesUpdated(Result<(), UpdateFeaturesError>),
    /// The command as a whole was not carried out here.
    Refused(Refusal),
}

/// With `validate_only` the topic does not exist and `topic_id` is `TopicId::ZERO`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedTopic {
    pub topic_id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
    pub configs: BTreeMap<Arc<str>, Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeletedTopic {
    pub topic_id: TopicId,
    pub name: Arc<str>,
}

/// `count` ids from `first`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerIdBlock {
    pub first: ProducerId,
    pub count: i32,
}

/// Why this controller did not carry out a command at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing happened; ask the leader.
    #[error("this node does not lead the metadata quorum")]
    NotLeader { leader: Option<BrokerId> },
    /// The command was under way when leadership was lost: it may still take effect.
    #[error("leadership of the metadata quorum was lost before the command was committed")]
    LeadershipLost { leader: Option<BrokerId> },
    #[error("too many commands are waiting for the metadata log")]
    Overloaded,
    #[error("the change needs {size_bytes} bytes, the metadata log takes {size_bytes_max} at once")]
    TooLarge {
        size_bytes: usize,
        size_bytes_max: usize,
    },
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegisterBrokerError {
    #[error("this cluster is called {actual}")]
    InconsistentClusterId { actual: Arc<str> },
    #[error("broker ids are not negative")]
    InvalidBrokerId,
    #[error("a broker registers at least one listener, and each only once")]
    InvalidEndpoints,
    #[error("feature {name} is finalised at level {level}, which this broker does not run")]
    UnsupportedFeature { name: Arc<str>, level: i16 },
    #[error("the registration names more than {max} things")]
    TooLarge { max: usize },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("broker {0} is not registered")]
pub struct BrokerNotRegistered(pub BrokerId);

/// What is wrong with replicas placed by the client.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AssignmentError {
    #[error("partition ids must be 0, 1, 2 … without gaps or repetition")]
    NotConsecutive,
    #[error("partition {partition} has no replica")]
    NoReplica { partition: i32 },
    #[error("partition {partition} names broker {broker} twice")]
    DuplicateReplica { partition: i32, broker: BrokerId },
    #[error("partition {partition} is placed on broker {broker}, which is not registered")]
    UnknownBroker { partition: i32, broker: BrokerId },
    #[error("partition {partition} has {replicas} replicas, the others have {expected}")]
    UnevenReplicas {
        partition: i32,
        replicas: usize,
        expected: usize,
    },
    #[error("{assigned} assignments for {added} added partitions")]
    WrongCount { assigned: usize, added: i32 },
}

/// A limit of the cluster that protects everybody's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LimitExceeded {
    #[error("one request may create at most {max} partitions")]
    PartitionsPerRequest { max: usize },
    #[error("the cluster holds at most {max} partitions")]
    PartitionsTotal { max: usize },
    #[error("a configuration value has at most {max} bytes")]
    ConfigValueSize { max: usize },
    #[error("one resource has at most {max} configuration keys")]
    ConfigKeys { max: usize },
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CreateTopicError {
    #[error(transparent)]
    InvalidName(#[from] TopicNameError),
    #[error("topic '{name}' differs from '{existing}' only in '.' and '_', which collide")]
    NameCollision { name: Arc<str>, existing: Arc<str> },
    #[error("topic '{name}' already exists")]
    AlreadyExists { name: Arc<str> },
    #[error("topic '{name}' is named twice in the request")]
    DuplicateInRequest { name: Arc<str> },
    #[error("{requested} is not a number of partitions")]
    InvalidPartitions { requested: i32 },
    #[error("{requested} is not a replication factor")]
    InvalidReplicationFactor { requested: i16 },
    #[error("replication factor {requested} needs more than the {alive} brokers that are there")]
    NotEnoughBrokers { requested: i16, alive: usize },
    #[error("with replicas assigned by hand, partitions and replication factor must be -1")]
    CountsWithAssignment,
    #[error(transparent)]
    InvalidAssignment(#[from] AssignmentError),
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeleteTopicError {
    #[error("topic '{name}' does not exist")]
    UnknownName { name: Arc<str> },
    #[error("no topic has the id {id}")]
    UnknownId { id: TopicId },
    #[error("the topic is named twice in the request")]
    DuplicateInRequest,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CreatePartitionsError {
    #[error("topic '{name}' does not exist")]
    UnknownTopic { name: Arc<str> },
    #[error("topic '{name}' is named twice in the request")]
    DuplicateInRequest { name: Arc<str> },
    #[error("topic '{name}' has {current} partitions; {requested} would not be an increase")]
    NotAnIncrease {
        name: Arc<str>,
        current: i32,
        requested: i32,
    },
    #[error("replication factor {needed} needs more than the {alive} brokers that are there")]
    NotEnoughBrokers { needed: usize, alive: usize },
    #[error(transparent)]
    InvalidAssignment(#[from] AssignmentError),
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AlterConfigsError {
    #[error("topic '{name}' does not exist")]
    UnknownTopic { name: Arc<str> },
    #[error(transparent)]
    UnknownBroker(#[from] BrokerNotRegistered),
    #[error("a group's name is not empty")]
    EmptyGroupName,
    #[error("each resource must appear at most once")]
    DuplicateResource,
    #[error("key '{name}' appears twice")]
    DuplicateKey { name: Arc<str> },
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AllocateProducerIdsError {
    #[error(transparent)]
    UnknownBroker(#[from] BrokerNotRegistered),
    #[error("the broker has registered anew since")]
    StaleBrokerEpoch,
    #[error("all producer ids are used up")]
    Exhausted,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UpdateFeaturesError {
    #[error("feature {name} is not known")]
    UnknownFeature { name: Arc<str> },
    #[error("feature {name} is named twice")]
    DuplicateInRequest { name: Arc<str> },
    #[error("feature {name} has levels {min} to {max} here, not {level}")]
    UnsupportedLevel {
        name: Arc<str>,
        level: i16,
        min: i16,
        max: i16,
    },
    #[error("broker {broker} does not run feature {name} at level {level}")]
    UnsupportedByBroker {
        name: Arc<str>,
        level: i16,
        broker: BrokerId,
    },
    #[error("feature {name} is at level {current}; going down must be asked for")]
    DowngradeNotAllowed { name: Arc<str>, current: i16 },
    #[error("feature {name} is at level {current}, {requested} is not lower")]
    NotADowngrade {
        name: Arc<str>,
        current: i16,
        requested: i16,
    },
}
