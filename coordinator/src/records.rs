//! The records of `__consumer_offsets` in Kafka's own key and value formats, so that tools which
//! read the topic see what they expect.

use bytes::Bytes;
use ottla_protocol::error::DecodeError;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};

pub use consumer::{
    ClassicValue, ConsumerMemberValue, ConsumerRecord, CurrentValue, GroupEpochValue, OwnedTopic,
    RegexValue, TargetEpochValue,
};

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
    /// Of a consumer group (KIP-848), which is many records.
    Consumer {
        group: String,
        record: ConsumerRecord,
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

/// What a record of the topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, and nearly all are records"
)]
pub enum Decoded {
    Record(GroupRecord),
    /// Written by another kind of coordinator: kept in the log, skipped here.
    Unknown {
        key_version: i16,
    },
}

/// A record that nobody could have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the bytes of the record are not what its version says: {0}")]
    Malformed(#[from] DecodeError),
    #[error("version {version} of the value is newer than this broker")]
    ValueVersion { version: i16 },
    #[error("the record has no key")]
    NoKey,
}

impl GroupRecord {
    pub fn group(&self) -> &str {
        match self {
            GroupRecord::Offset { group, .. }
            | GroupRecord::Group { group, .. }
            | GroupRecord::Consumer { group, .. } => group,
        }
    }
}

/// Kafka's choice of the partition that keeps a group: Java's `String.hashCode`, without its sign.
pub fn partition_of(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions
}

mod codec;
mod consumer;
mod consumer_codec;
#[cfg(test)]
mod consumer_tests;
#[cfg(test)]
mod tests;
