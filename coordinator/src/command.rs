//! What is asked of a group coordinator and what it answers, free of wire versions: handlers
//! translate. Errors are Kafka's codes, because the rules are written in them.

use bytes::Bytes;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};

mod consumer;

pub use consumer::{
    AssignedTopic, ConsumerHeartbeat, ConsumerHeartbeatReply, DescribedConsumerGroup,
    DescribedConsumerMember, FetchOffsets, Refusal, TopicPartitions,
};

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub id: String,
    /// As Kafka prints it: `/127.0.0.1`.
    pub host: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroup {
    pub group: String,
    /// Empty: a new member.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client: Client,
    pub protocol_type: String,
    /// In the order the member prefers them.
    pub protocols: Vec<(String, Bytes)>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// A new dynamic member is first told its id (79) and joins with it (JoinGroup v4 and later).
    pub requires_known_member_id: bool,
    /// The member understands `skip_assignment` (JoinGroup v9).
    pub supports_skipping_assignment: bool,
    /// Why it joins, in its own words (KIP-800).
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    pub error: ErrorCode,
    /// -1 with an error.
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    pub member_id: String,
    /// For the leader only.
    pub members: Vec<JoinedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

impl JoinReply {
    pub fn error(error: ErrorCode, member_id: impl Into<String>) -> JoinReply {
        JoinReply {
            error,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.into(),
            members: Vec::new(),
        }
    }
}

/// How a member names itself in every request after the join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRef {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    pub group: String,
    pub member: MemberRef,
    /// Checked when present.
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// By member id; from the leader.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReply {
    pub error: ErrorCode,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub assignment: Bytes,
}

impl SyncReply {
    pub fn error(error: ErrorCode) -> SyncReply {
        SyncReply {
            error,
            protocol_type: None,
            protocol_name: None,
            assignment: Bytes::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub group: String,
    pub member: MemberRef,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroup {
    pub group: String,
    pub members: Vec<LeavingMember>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeavingMember {
    /// May be empty when `instance_id` is given.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub reason: Option<String>,
}

/// The same members as asked, each with its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub error: ErrorCode,
}

/// A topic's partition with the topic's id, when the metadata knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartitionId {
    pub topic: String,
    pub topic_id: TopicId,
    pub partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffsets {
    pub group: String,
    /// Generation -1 and no ids: a consumer that assigns itself. In a consumer group the
    /// generation is the member's epoch.
    pub member: MemberRef,
    /// The request can carry a member's epoch (version 9 and later).
    pub knows_member_epochs: bool,
    /// Explicit retention of old clients (v2-4); `None`: the broker's.
    pub retention_ms: Option<i64>,
    /// Partitions that exist; the handler answers for the others.
    pub offsets: Vec<(TopicPartitionId, CommittedOffset)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    /// `LeaderEpoch::NONE` when the client gave none.
    pub leader_epoch: LeaderEpoch,
    pub metadata: String,
}

/// A committed offset as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    pub topic: String,
    pub partition: i32,
    /// `None`: nothing is committed (offset -1, epoch -1, metadata "", no error).
    pub committed: Option<CommittedOffset>,
}

/// Which groups a listing wants; empty lists want all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Kafka's names, compared without case.
    pub states: Vec<String>,
    pub types: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    pub protocol_type: String,
    pub state: &'static str,
    /// `classic` or `consumer`.
    pub group_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    pub state: &'static str,
    pub protocol_type: String,
    /// The chosen protocol; empty unless Stable.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client: Client,
    /// Of the chosen protocol; empty unless Stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}
