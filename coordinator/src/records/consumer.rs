//! What the records of a consumer group say: the group's epoch, each member three times (what it
//! told, what it shall have, what it has), and what its regular expressions match.

use bytes::Bytes;
use ottla_protocol::types::TopicId;

use crate::command::TopicPartitions;

/// One record; a value of `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerRecord {
    /// ConsumerGroupMetadata.
    GroupEpoch(Option<GroupEpochValue>),
    /// ConsumerGroupPartitionMetadata, which Kafka wrote before 4.1: only ever deleted here. Its
    /// value is kept as it is.
    PartitionMetadata(Option<Bytes>),
    /// ConsumerGroupMemberMetadata.
    Member {
        member_id: String,
        value: Option<ConsumerMemberValue>,
    },
    /// ConsumerGroupTargetAssignmentMetadata.
    TargetEpoch(Option<TargetEpochValue>),
    /// ConsumerGroupTargetAssignmentMember.
    Target {
        member_id: String,
        value: Option<Vec<TopicPartitions>>,
    },
    /// ConsumerGroupCurrentMemberAssignment.
    Current {
        member_id: String,
        value: Option<CurrentValue>,
    },
    /// ConsumerGroupRegularExpression.
    Regex {
        regex: String,
        value: Option<RegexValue>,
    },
}

impl ConsumerRecord {
    pub fn is_tombstone(&self) -> bool {
        match self {
            ConsumerRecord::GroupEpoch(value) => value.is_none(),
            ConsumerRecord::PartitionMetadata(value) => value.is_none(),
            ConsumerRecord::Member { value, .. } => value.is_none(),
            ConsumerRecord::TargetEpoch(value) => value.is_none(),
            ConsumerRecord::Target { value, .. } => value.is_none(),
            ConsumerRecord::Current { value, .. } => value.is_none(),
            ConsumerRecord::Regex { value, .. } => value.is_none(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupEpochValue {
    pub epoch: i32,
    /// Of the topics that the group reads; 0: none.
    pub metadata_hash: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetEpochValue {
    pub epoch: i32,
    /// When it was computed; 0: unknown.
    pub timestamp_ms: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerMemberValue {
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub subscribed_topic_names: Vec<String>,
    pub subscribed_topic_regex: Option<String>,
    pub rebalance_timeout_ms: i32,
    pub server_assignor: Option<String>,
    /// Of a member that speaks the classic protocol.
    pub classic: Option<ClassicValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicValue {
    pub session_timeout_ms: i32,
    /// In the order the member prefers them.
    pub protocols: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentValue {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: i8,
    pub assigned: Vec<OwnedTopic>,
    /// It still has to give these back.
    pub pending_revocation: Vec<OwnedTopic>,
}

/// Partitions of a topic, and the epochs at which the member got them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedTopic {
    pub topic_id: TopicId,
    pub partitions: Vec<i32>,
    /// As many as partitions; none in records of Kafka before 4.2.
    pub epochs: Vec<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegexValue {
    /// In order.
    pub topics: Vec<String>,
    /// Of the metadata against which it was resolved.
    pub version: i64,
    pub timestamp_ms: i64,
}
