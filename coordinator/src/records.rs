//! The records of `__consumer_offsets` in Kafka's own key and value formats, so that tools which
//! read the topic see what they expect.

use bytes::Bytes;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};

/// One record of the topic; `None` values are tombstones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    Offset {
        group: String,
        topic: String,
        partition: i32,
        value: Option<OffsetValue>,
    },
    Group {
        group: String,
        value: Option<GroupValue>,
    },
}

/// OffsetCommitValue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: String,
    pub commit_timestamp_ms: i64,
    /// `None`: by the broker's retention.
    pub expire_timestamp_ms: Option<i64>,
    /// `TopicId::ZERO` when unknown (versions before 4 of the record).
    pub topic_id: TopicId,
}

/// GroupMetadataValue: a classic group's generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupValue {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// When the group last changed its state; -1 when unknown.
    pub current_state_timestamp_ms: i64,
    pub members: Vec<MemberValue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberValue {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Of the chosen protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}
